"""The workers that train one model together: each learns from its part of a batch, all take the same step.

Synchronous data parallelism (P. Goyal et al., Accurate, Large Minibatch SGD, 2017, §4): gradients are
averaged over the workers before the optimiser's step, so that all hold the same weights. The first worker
alone validates, averages weights, writes checkpoints and decides when to stop. Batch normalisation learns
from its worker's part.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from etalage.engine.places import Place
from etalage.errors import WorkerLost

PATIENCE = timedelta(days=2)
"""That a worker waits for another: the first one validates while the others wait."""
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


class Group:
    """A worker's view of all. `Group()` is a training by one alone."""

    def __init__(self, number: int = 0, workers: int = 1) -> None:
        self.number, self.workers = number, workers

    @property
    def first(self) -> bool:
        return self.number == 0

    @classmethod
    @contextmanager
    def joined(cls, place: Place) -> "Iterator[Group]":
        """One of `place.workers`, when all have come; each has its share of this machine's threads."""
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // place.workers))
        try:
            if place.meeting.startswith("file:"):  # one machine: nobody else need hear of it
                os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)
            with _lost():
                store = _met(place)
                dist.init_process_group(
                    "gloo", store=store, rank=place.number, world_size=place.workers, timeout=PATIENCE
                )
            try:
                yield cls(place.number, place.workers)
            except BaseException:
                if place.number:  # it says what went wrong, and ends: engine/worker.py
                    raise
                dist.destroy_process_group()
                raise
            dist.destroy_process_group()
        finally:
            torch.set_num_threads(threads)

    def draw_apart(self, seed: int, step: int) -> None:
        """Dropout and the like draw otherwise in each worker; the first one's draws go on from where they
        were, as if it were alone. The same seed and step draw the same, after a resume too."""
        if not self.first:
            entropy = np.random.SeedSequence([seed, step, self.number])
            torch.manual_seed(int(entropy.generate_state(1)[0]))

    def average(self, network: nn.Module, value: float) -> float:
        """Gradients become their mean over the workers. → the mean of `value`, the loss of each part."""
        if self.workers == 1:
            return value
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        there = torch.tensor([value, *(parameter.grad is not None for parameter in learning)])
        parts = [_or_zeros(parameter.grad, parameter).reshape(-1) for parameter in learning]
        whole = torch.cat([there.float(), *parts])
        with _lost():
            dist.all_reduce(whole)
        whole /= self.workers
        start = len(there)
        for parameter, any_has_one in zip(learning, whole[1:start].tolist(), strict=True):
            end = start + parameter.numel()
            if any_has_one:
                mean = whole[start:end].view(parameter.shape)
                parameter.grad = torch.empty_like(parameter).copy_(mean)
            start = end
        return float(whole[0])

    def same_weights(self, network: nn.Module) -> None:
        """The first worker's weights and buffers, for all."""
        if self.workers > 1:
            with torch.no_grad(), _lost():
                for tensor in network.state_dict().values():
                    given = tensor.contiguous()
                    dist.broadcast(given, src=0)
                    tensor.copy_(given)

    def agreed(self, said: bool) -> bool:
        """What the first worker says."""
        if self.workers == 1:
            return said
        given = torch.tensor([float(said)])
        with _lost():
            dist.broadcast(given, src=0)
        return bool(given[0])

    def total(self, value: float) -> float:
        """The sum over the workers."""
        if self.workers == 1:
            return value
        one = torch.tensor([value], dtype=torch.float64)
        with _lost():
            dist.all_reduce(one)
        return float(one[0])


def _met(place: Place) -> Any:
    """Where all have said that they are here: one that never comes would be waited for."""
    store, _, _ = next(rendezvous(place.meeting, place.number, place.workers))
    store.set(f"here {place.number}", "")
    names = [f"here {number}" for number in range(place.workers)]
    while not store.check(names):
        if gone := place.gone():
            raise WorkerLost(f"{gone}, before it could take part; its error is on stderr")
        time.sleep(0.05)
    return store


def _or_zeros(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if gradient is None else gradient


@contextmanager
def _lost() -> Iterator[None]:
    """Gloo's errors as ours."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise WorkerLost(
            f"another worker of this training is gone ({reason}); how it ended is logged. The same command "
            "goes on from the last checkpoint"
        ) from error
