"""Runs steps of a shop's upkeep, each in a process of its own, and kills them at a change of the disk.

Started by tests/upkeep.py. A line in: {"folder", "number", "step", "given"}; a line out: the wait status. It
imports everything once, opens no table itself, and forks for every step, so that a point costs no imports.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import deltalake  # noqa: F401

from etalage.bundle import pointer, stored  # noqa: F401
from etalage.lake import vacuum as _vacuum  # noqa: F401
from etalage.shop import Shop

EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.chmod", "os.truncate", "open")
"""Of Python's audit: by these a step changes the disk."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def vacuum(shop: str) -> None:
    Shop(shop).vacuum(days=0, bundles=2, dry=False)


def delete_items(shop: str, *ids: str) -> None:
    Shop(shop).delete_items(ids, force=True)


def backup(shop: str, target: str) -> None:
    Shop(shop).backup(target)


def restore(source: str, folder: str) -> None:
    Shop.restore(source, folder)


def ingest(shop: str, folder: str) -> None:
    Shop(shop).ingest(folder, "photos")


STEPS: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (vacuum, delete_items, backup, restore, ingest)
}


def run(folder: str, number: int, step: str, given: list[str]) -> int:
    child = os.fork()
    if child == 0:
        try:
            kill_at(folder, number)
            STEPS[step](*given)
            os._exit(0)
        except BaseException as error:
            print(f"the step failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(9)
    return os.waitpid(child, 0)[1]


def kill_at(folder: str, number: int) -> None:
    """This process is killed before its `number`-th change beneath `folder`, from 0."""
    left = number

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in EVENTS or not any(_is_beneath(one, folder) for one in given):
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & WRITING):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    sys.addaudithook(hook)


def _is_beneath(one: Any, folder: str) -> bool:
    """Also a name alone: shutil.rmtree removes what is in an open folder."""
    return isinstance(one, str | os.PathLike) and (
        str(one).startswith(folder) or not str(one).startswith("/")
    )


if __name__ == "__main__":
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)
