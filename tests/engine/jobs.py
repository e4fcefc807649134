"""What test_local.py has other processes do."""

import os
import time
from pathlib import Path

from etalage.engine.places import Place


def tell(folder: Path, place: Place) -> None:
    time.sleep(0.3 * place.number)
    (folder / str(place.number)).write_text(f"{os.getpid()} {place.workers} {place.meeting}")


def fail(place: Place) -> None:
    raise RuntimeError(f"worker {place.number} has had enough")


def wait(folder: Path, place: Place) -> None:
    draft = folder / "draft"
    draft.write_text(str(os.getpid()))
    draft.rename(folder / str(place.number))
    time.sleep(600)
