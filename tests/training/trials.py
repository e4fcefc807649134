"""What test_tune.py has trials do, in this process or in others."""

import os
from pathlib import Path
from typing import Any

from etalage.errors import TooLittleData
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace
from etalage.training.tune import Report

SPACE: SearchSpace = {
    "shape": Choice(("round", "square", (3, 4))),
    "width": FloatRange(0.01, 100.0, log=True),
    "corners": IntRange(1, 9, when={"shape": ("square",)}),
}
GIVEN: dict[str, Any] = {"shape": "round", "width": 50.0, "corners": 4, "colour": "red"}


def measured(settings: dict[str, Any], report: Report) -> float:
    """Best for a square of width 1 with seven corners; better the nearer to that."""
    off = abs(settings["width"] - 1.0) / 100
    if settings["shape"] == "square":
        return 2.0 - off - abs(settings["corners"] - 7) / 100
    assert "corners" not in settings
    return 1.0 - off


def fragile(settings: dict[str, Any], report: Report) -> float:
    """Fails for round things, one way or the other."""
    if settings["shape"] == "round":
        raise TooLittleData("nothing is round here") if settings["width"] < 10 else KeyError("round")
    return float("nan") if settings["shape"] == (3, 4) else measured(settings, report)


def hopeless(settings: dict[str, Any], report: Report) -> float:
    raise TooLittleData("there is nothing to learn from")


def by_epochs(settings: dict[str, Any], report: Report) -> float:
    """Grows for five epochs, the faster the better it is."""
    value = 0.0
    for epoch in range(1, 6):
        value = measured(settings, report) * epoch / 5
        report(epoch, value)
    return value


def dying(folder: Path, settings: dict[str, Any], report: Report) -> float:
    """The third trial ends its process, once."""
    count = len(list(folder.glob("began-*")))
    (folder / f"began-{count}").touch()
    if count == 2:
        os._exit(9)
    return measured(settings, report)
