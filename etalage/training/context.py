"""Who a worker of a training is, on which device, in which precision; and what workers tell each other.

`compute_init` says it from torchrun's environment, or from what an engine launched; `Context.of` for a
training by one worker. Synchronous data parallelism (P. Goyal et al., Accurate, Large Minibatch SGD, 2017,
§4): a loss is the whole batch's, each rank computes its part of it (models/ranks.py), and gradients are added
up over the ranks before the optimiser's step, so that all hold the same weights. Rank 0 alone validates,
averages weights, writes checkpoints and decides when to stop. Batch normalisation learns from its rank's
rows.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from etalage.engine.worker_spec import WorkerSpec
from etalage.errors import ConfigError, WorkerLost
from etalage.models.embedding_tables import OwnGradients
from etalage.models.ranks import counts_of
from etalage.models.recipe import TrainingConfig

PATIENCE = timedelta(days=2)
"""That a rank waits for another: rank 0 validates while the others wait."""
BUCKET = 1 << 22
"""Numbers of gradients that are sent together: more would take as much memory again."""
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@dataclass(frozen=True)
class Context:
    """One worker's view of a training. `Context()` is a training by one, on the processor, in float32."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Literal["float32", "bfloat16"] = "float32"

    @classmethod
    def of(cls, config: TrainingConfig) -> "Context":
        """A training by one worker, as its config says. Raises ConfigError: no such device."""
        device = device_of(config.device)
        return cls(0, 1, device, precision_of(config.precision, device))

    @property
    def first(self) -> bool:
        """Is this rank 0, which validates and writes?"""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 autocast, or nothing."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def on_device(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch's tensors, on this worker's device."""
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

    def seed_rank(self, seed: int, step: int) -> None:
        """Dropout and the like draw otherwise in each rank; rank 0's draws go on from where they were, as if
        it were alone. The same seed and step draw the same, after a resume too."""
        if not self.first:
            entropy = np.random.SeedSequence([seed, step, self.rank])
            torch.manual_seed(int(entropy.generate_state(1)[0]))

    def count(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """`count.<name>` of a whole batch, from those of this rank's parts of it, and `rows`, how many it
        has: scalars of float32. Raises WorkerLost."""
        rows = [torch.tensor(float(len(part["rows"]))) for part in parts]
        given = [{**counts_of(part), "rows": own} for part, own in zip(parts, rows, strict=True)]
        names = sorted(given[0])
        totals = torch.stack([torch.stack([one[name] for name in names]) for one in given]).sum(0)
        totals = totals.to(self.device)
        if self.world_size > 1:
            with _lost():
                dist.all_reduce(totals)
        return dict(zip(names, totals, strict=True))

    def sum_gradients(self, network: nn.Module, loss: float) -> float:
        """Gradients become their sums over all ranks, those of embedding tables included, and what was looked
        up several times has one. → the sum of the ranks' `loss`. Raises WorkerLost."""
        for module in network.modules():
            if isinstance(module, OwnGradients):
                module.sum_gradients(self.gather_rows)
        if self.world_size == 1:
            return loss
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        there = [float(parameter.grad is not None) for parameter in learning]
        head = torch.tensor([loss, *there], device=self.device)
        with _lost():
            dist.all_reduce(head)
            anywhere = [one for one, found in zip(learning, head[1:].tolist(), strict=True) if found]
            for bucket in _buckets(anywhere):
                self._sum_bucket(bucket)
        return float(head[0])

    def _sum_bucket(self, parameters: Sequence[nn.Parameter]) -> None:
        """One message for several gradients: each costs a round trip."""
        whole = torch.cat([_or_zeros(parameter.grad, parameter).reshape(-1) for parameter in parameters])
        dist.all_reduce(whole)
        totals = torch.split(whole, [parameter.numel() for parameter in parameters])
        for parameter, total in zip(parameters, totals, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(total.view(parameter.shape))

    def gather(self, rows_TD: Tensor) -> Tensor:
        """(T, …) of this rank, T another one in each → those of all ranks, in the order of ranks; a gradient
        goes back to where each row came from (models/ranks.py). Raises WorkerLost."""
        if self.world_size == 1:
            return rows_TD
        gathered: Tensor = _Gather.apply(rows_TD, self)  # type: ignore[no-untyped-call]
        return gathered

    def gather_rows(self, rows_T: Tensor) -> Tensor:
        """As `gather`, without a gradient, for tensors of any type. Raises WorkerLost."""
        return rows_T if self.world_size == 1 else torch.cat(self.rows_by_rank(rows_T))

    def rows_by_rank(self, rows_T: Tensor) -> list[Tensor]:
        """(T, …) of this rank, T another one in each → those of each rank. Raises WorkerLost."""
        lengths = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world_size)]
        with _lost():
            dist.all_gather(lengths, torch.tensor([len(rows_T)], device=self.device))
            counts = [int(length) for length in lengths]
            padded = rows_T.new_zeros((max(counts), *rows_T.shape[1:]))
            padded[: len(rows_T)] = rows_T
            found = [torch.empty_like(padded) for _ in counts]
            dist.all_gather(found, padded)
        return [rows[:count] for rows, count in zip(found, counts, strict=True)]

    def broadcast_weights(self, network: nn.Module) -> None:
        """Rank 0's weights and buffers, for all. Raises WorkerLost."""
        if self.world_size > 1:
            with torch.no_grad(), _lost():
                for tensor in network.state_dict().values():
                    given = tensor.contiguous()
                    dist.broadcast(given, src=0)
                    tensor.copy_(given)

    def broadcast_flag(self, flag: bool) -> bool:
        """What rank 0 says. Raises WorkerLost."""
        if self.world_size == 1:
            return flag
        given = torch.tensor([float(flag)], device=self.device)
        with _lost():
            dist.broadcast(given, src=0)
        return bool(given[0])

    def broadcast_number(self, number: int) -> int:
        """What rank 0 says. Raises WorkerLost."""
        given = torch.tensor([number], dtype=torch.int64, device=self.device)
        with _lost():
            dist.broadcast(given, src=0)
        return int(given[0])

    def sum(self, value: float) -> float:
        """The sum over the ranks. Raises WorkerLost."""
        if self.world_size == 1:
            return value
        one = torch.tensor([value], dtype=torch.float64, device=self.device)
        with _lost():
            dist.all_reduce(one)
        return float(one[0])


class _Gather(torch.autograd.Function):
    """The rows of all ranks. Each rank computes its own part of one loss from them: the gradient of a row is
    the sum of what the ranks' parts say of it."""

    @staticmethod
    def forward(given: Any, rows_TD: Tensor, context: Context) -> Tensor:
        by_rank = context.rows_by_rank(rows_TD)
        given.context, given.count = context, len(rows_TD)
        given.start = sum(len(rows) for rows in by_rank[: context.rank])
        return torch.cat(by_rank)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(given: Any, gradient: Tensor) -> tuple[Tensor, None]:
        summed = gradient.float().contiguous().clone()
        with _lost():
            dist.all_reduce(summed)
        return summed[given.start : given.start + given.count].to(gradient.dtype), None


@contextmanager
def compute_init(config: TrainingConfig, spec: WorkerSpec | None = None) -> Iterator[Context]:
    """The context of this worker, when all have come.

    spec: who it is, as an engine's `launch` says; None: as torchrun's environment says, else alone.
    Workers that an engine launched share this machine's threads out among them.
    Raises ConfigError: no such device. WorkerLost: another one ended before it came.
    """
    launched = spec is not None
    spec = spec or WorkerSpec.from_environment(os.environ)
    if spec is None or spec.world_size == 1:
        yield Context.of(config)
        return
    device = device_of(config.device, spec.local_rank)
    context = Context(spec.rank, spec.world_size, device, precision_of(config.precision, device))
    threads = torch.get_num_threads()
    if launched:
        torch.set_num_threads(max(1, threads // spec.world_size))
    try:
        with _lost():
            _join(spec, device)
        try:
            yield context
        except BaseException:
            if spec.rank and launched:  # it says what went wrong, and ends: engine/worker.py
                raise
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()
    finally:
        torch.set_num_threads(threads)


def device_of(wanted: str, local_rank: int = 0) -> torch.device:
    """`auto`: the machine's accelerator, `local_rank` of several; the processor where there is none.

    Raises ConfigError: what is wanted is not here.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if wanted == "cpu" or (wanted == "auto" and accelerator is None):
        return torch.device("cpu")
    if accelerator is None or (wanted != "auto" and torch.device(wanted).type != accelerator.type):
        there = "none" if accelerator is None else accelerator.type
        raise ConfigError(f"device = {wanted!r}: torch sees no such device here (accelerator: {there})")
    number = torch.device(wanted).index if wanted != "auto" else None
    return torch.device(accelerator.type, local_rank if number is None else number)


def precision_of(wanted: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """`auto`: bfloat16 where the device multiplies it (AVX-512 BF16 or AMX of a processor)."""
    if wanted != "auto":
        return "bfloat16" if wanted == "bfloat16" else "float32"
    module = torch.get_device_module(device)
    if device.type == "cpu":
        fast = module._is_avx512_bf16_supported() or module._is_amx_tile_supported()
    else:
        fast = getattr(module, "is_bf16_supported", lambda: False)()
    return "bfloat16" if fast else "float32"


def _join(spec: WorkerSpec, device: torch.device) -> None:
    backend = dist.get_default_backend_for_device(device)
    if spec.init_method.startswith("file:"):  # one machine: nobody else need hear of it
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)
    store, _, _ = next(rendezvous(spec.init_method, spec.rank, spec.world_size))
    _wait_for_all(store, spec)
    dist.init_process_group(
        backend, store=store, rank=spec.rank, world_size=spec.world_size, timeout=PATIENCE
    )


def _wait_for_all(store: Any, spec: WorkerSpec) -> None:
    """Until all have said that they are here: one that never comes would be waited for."""
    store.set(f"here {spec.rank}", "")
    names = [f"here {rank}" for rank in range(spec.world_size)]
    while not store.check(names):
        if lost := spec.lost():
            raise WorkerLost(f"{lost}, before it could take part; its error is on stderr")
        time.sleep(0.05)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """In order, as many at a time as have BUCKET numbers together; a larger one by itself."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(one.numel() for one in bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def _or_zeros(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if gradient is None else gradient


@contextmanager
def _lost() -> Iterator[None]:
    """The backend's errors as ours."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise WorkerLost(
            f"another worker of this training is gone ({reason}); how it ended is logged. The same command "
            "goes on from the last checkpoint"
        ) from error
