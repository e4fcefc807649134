"""What each model with gradients learns from in the contract of several workers, and what a rank does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from etalage.engine.worker_spec import WorkerSpec
from etalage.models.embedding_tables import RowwiseTables
from etalage.models.recipe import Recipe, Trained
from etalage.training.context import Context, compute_init
from etalage.training.loop import fit
from tests import behaviours, category_sets
from tests.contracts import (
    test_behaviour_embedder_contract,
    test_classifier_contract,
    test_embedder_contract,
    test_ranker_contract,
)
from tests.contracts.folder import FOLDER

SMALL: dict[str, dict[str, Any]] = {
    "image_similarity": {"epochs": 2},
    "item_category": {"epochs": 2, "batch_size": 32},
    "two_tower": {"epochs": 2, "embeddings": "row_wise"},
    "dlrm": {"epochs": 2, "unknown": 0.1},
}
"""Beside the settings of the model's own contract; any other model runs two epochs of those."""


def case(name: str, **changes: Any) -> tuple[Recipe[Any], Any, Any]:
    """The recipe, a small config, and data for it."""
    recipe = FOLDER.find(name)
    settings: dict[str, Any]
    data: Any
    if recipe.role == "ranker":
        settings = test_ranker_contract.QUICK.get(name, {})
        examples = recipe.data == "examples"
        data = (test_ranker_contract.clicks() if examples else test_ranker_contract.tastes()).data
    elif recipe.role == "classifier":
        settings, data = test_classifier_contract.QUICK.get(name, {}), category_sets.category_set()
    elif recipe.data == "photos":
        settings, data = test_embedder_contract.QUICK.get(name, {}), test_embedder_contract.photo_set()
    else:
        settings, data = test_behaviour_embedder_contract.QUICK.get(name, {}), behaviours.behaviour()
    return recipe, recipe.config(**{**settings, **SMALL.get(name, {"epochs": 2}), **changes}), data


class Case(NamedTuple):
    """A model, what is set of it beside its small settings, and how many train it."""

    name: str
    changes: dict[str, Any]
    workers: int = 2
    certain: bool = False
    """Whether what a row says hangs on no draw of the network and on no other row's statistics."""


def train_all(cases: Mapping[str, Case], folder: Path, spec: WorkerSpec) -> dict[str, Trained[Any]]:
    """One rank of a training of each that it takes part in, one after the other, each with a group of its
    own; the weights go into a folder of the case's name."""
    found = {}
    for title, (name, changes, workers, is_certain) in cases.items():
        if spec.rank >= workers:
            continue
        (folder / title).mkdir(exist_ok=True)
        met = replace(spec, world_size=workers, init_method=f"file://{folder / title / 'met'}")
        with certain() if is_certain else nullcontext():
            found[title] = train(name, changes, folder / title, met)
    return found


@contextmanager
def certain() -> Iterator[None]:
    """Dropout lets everything pass, and batch normalisation is as it was before training: what is left hangs
    on the rows of a batch alone."""

    def as_before(norm: Any, planes: torch.Tensor) -> torch.Tensor:
        mean, spread = norm.running_mean, norm.running_var
        return torch.nn.functional.batch_norm(planes, mean, spread, norm.weight, norm.bias, eps=norm.eps)

    with (
        patch.object(torch.nn.Dropout, "forward", lambda _, given: given),
        patch.object(torch.nn.modules.batchnorm._BatchNorm, "forward", as_before),
    ):
        yield


class Step(NamedTuple):
    """What is known before the optimiser's step."""

    loss: float
    gradients: dict[str, torch.Tensor]
    """By parameter, those of row-wise tables included, as large as the table."""


@contextmanager
def steps_noted() -> Iterator[list[Step]]:
    """The steps of the trainings in this process, as the gradients of all ranks were added up."""
    found: list[Step] = []
    add = Context.sum_gradients

    def noted(context: Context, network: torch.nn.Module, loss: float) -> float:
        whole = add(context, network, loss)
        grads = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
        for name, module in network.named_modules():
            if isinstance(module, RowwiseTables):
                grads[f"{name}.weight"] = torch.zeros_like(module.weight)
                for rows_T, copies_TD in module.touched:
                    if copies_TD.grad is not None:
                        grads[f"{name}.weight"].index_add_(0, rows_T, copies_TD.grad)
        found.append(Step(whole, {name: one.detach().clone() for name, one in grads.items()}))
        return whole

    with patch.object(Context, "sum_gradients", noted):
        yield found


def train(name: str, changes: dict[str, Any], folder: Path, spec: WorkerSpec) -> Trained[Any]:
    """One rank of the training; into `folder` go its weights at the end, and those that it had made by itself
    when rank 0 was about to send its own: at the second epoch's beginning, where there is one."""
    torch.set_num_threads(1)
    recipe, config, data = case(name, **changes)
    own: list[dict[str, torch.Tensor]] = []

    def noted(context: Context, network: torch.nn.Module) -> None:
        own.append({key: value.clone() for key, value in network.state_dict().items()})
        send(context, network)

    send = Context.broadcast_weights
    with (
        steps_noted() as steps,
        patch.object(Context, "broadcast_weights", noted),
        compute_init(config, spec) as context,
    ):
        trained = fit(recipe, recipe.bind(config, data), config, folder / "run", context=context)
    assert trained.network is not None
    torch.save(trained.network.state_dict(), folder / f"rank-{spec.rank}.pt")
    torch.save([step._asdict() for step in steps], folder / f"steps-{spec.rank}.pt")
    torch.save(own[1], folder / f"own-{spec.rank}.pt")
    return trained
