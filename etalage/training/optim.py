"""The optimiser of a training and how its learning rate goes: one place for all models.

Papers: I. Loshchilov and F. Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017 (the
cosine), and Decoupled Weight Decay Regularization, ICLR 2019 (AdamW).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from etalage.models.embedding_tables import OwnGradients, RowwiseAdagrad, RowwiseTables
from etalage.models.recipe import Task, TrainingConfig
from etalage.models.sharded_tables import sharded_of

FIRST_RATE = 0.01
"""The share of the learning rate with which a warm-up begins."""


def build(task: Task, network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """As `config` says, over what learns: parameters in groups of one learning rate and one decay, row-wise
    tables apart."""
    tables = [module for module in network.modules() if isinstance(module, RowwiseTables)]
    apart = {id(table.weight) for table in tables}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and id(parameter) not in apart:
            decays = config.decayed == "all" or parameter.ndim > 1
            key = (task.learning_rate_of(name), config.weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    dense = _dense(
        config, [{"params": some, "lr": lr, "weight_decay": w} for (lr, w), some in groups.items()]
    )
    sharded = list(sharded_of(network).values())
    if not tables and not sharded:
        return dense
    return RowwiseAdagrad(
        tables,
        dense,
        sharded,
        lr=config.learning_rate if config.table_rate is None else config.table_rate,
        decay=config.table_decay,
        start=config.table_start,
        adaptive=config.table_optimiser == "rowwise_adagrad",
    )


def _dense(config: TrainingConfig, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    if config.optimiser == "adagrad":
        return torch.optim.Adagrad(groups, lr=config.learning_rate)
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas)


def clip_norm(network: nn.Module, limit: float | None) -> Tensor:
    """The norm of the gradients of all weights of all workers, tables that keep their own included; where it
    is over `limit`, they are scaled down to it."""
    apart = [module for module in network.modules() if isinstance(module, OwnGradients)]
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    squares = [
        torch.nn.utils.get_total_norm(gradients).square(),
        *(module.squared_norm() for module in apart),
    ]
    norm = torch.stack([one.to(squares[0].device) for one in squares]).sum().sqrt()
    if limit is not None:
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for gradient in gradients:
            gradient *= factor
        for module in apart:
            module.scale_gradients(factor)
    return norm


def rate(config: TrainingConfig, done: float, phases: Sequence[float] = ()) -> float:
    """Factor on the learning rate when the share `done` in [0, 1] of all steps is behind.

    phases: shares of the steps after which the schedule begins anew; the warm-up is in the last phase.
    """
    begin = max((end for end in phases if end <= done), default=0.0)
    later = [end for end in phases if end > done]
    share = (done - begin) / (min(later, default=1.0) - begin) if begin < 1 else 1.0
    if not later and config.warm_up:
        if share < config.warm_up:
            return max(share / config.warm_up, FIRST_RATE)
        share = (share - config.warm_up) / (1 - config.warm_up)
    if config.schedule == "constant":
        return 1.0
    left = 1 - share if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))
    return config.final_rate + (1 - config.final_rate) * left
