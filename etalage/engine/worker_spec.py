"""Who a worker is among those that run one function together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from etalage.errors import ConfigError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process that it starts, in its environment."""


def _nobody() -> str | None:
    return None


@dataclass(frozen=True)
class WorkerSpec:
    """Worker `rank`, from 0 on, of `world_size`; they find each other at `init_method`, an address that
    torch's `init_process_group` takes: file://PATH on one machine, tcp://HOST:PORT or env:// on several."""

    rank: int
    world_size: int
    init_method: str
    local_rank: int = 0
    """Its number among those of its machine, which says which accelerator is its own."""
    lost: Callable[[], str | None] = _nobody
    """Which of the others has ended, and how, as far as this one can know."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "WorkerSpec | None":
        """As torchrun says; None: it did not start this process. Raises ConfigError: half of it is said."""
        there = [name for name in TORCHRUN if environment.get(name)]
        if "RANK" not in there or "WORLD_SIZE" not in there:
            return None
        missing = [name for name in TORCHRUN if name not in there]
        if missing:
            raise ConfigError(
                f"RANK and WORLD_SIZE are set, but {', '.join(missing)} is not: start the training with "
                "torchrun, which sets all of them, or unset RANK"
            )
        numbers = []
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            if not environment[name].isdecimal():
                raise ConfigError(f"{name} = {environment[name]!r} in the environment is not a number")
            numbers.append(int(environment[name]))
        rank, world_size, local_rank = numbers
        if rank >= world_size:
            raise ConfigError(f"RANK = {rank} of WORLD_SIZE = {world_size}: ranks are counted from 0")
        return cls(rank, world_size, "env://", local_rank)
