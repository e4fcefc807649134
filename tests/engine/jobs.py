"""What test_local.py has other processes do."""

import os
import time
from pathlib import Path

from etalage.engine.worker_spec import WorkerSpec


def tell(folder: Path, worker: WorkerSpec) -> None:
    time.sleep(0.3 * worker.rank)
    (folder / str(worker.rank)).write_text(f"{os.getpid()} {worker.world_size} {worker.init_method}")


def fail(worker: WorkerSpec) -> None:
    raise RuntimeError(f"worker {worker.rank} has had enough")


def wait(folder: Path, worker: WorkerSpec) -> None:
    draft = folder / "draft"
    draft.write_text(str(os.getpid()))
    draft.rename(folder / str(worker.rank))
    time.sleep(600)


def squared(shard: int) -> int:
    return shard * shard


def variable(name: str) -> str | None:
    return os.environ.get(name)


def note(folder: Path, shard: int) -> None:
    """The first at once; the others wait to be ended."""
    time.sleep(600 if shard else 0)
    (folder / str(shard)).touch()
