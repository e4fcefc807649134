"""Every classifier that the shop has exported, on its golden set, in one grid (S1.18)."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from etalage.errors import ConfigError, NothingToPublish
from etalage.shop import category_steps, photo_steps
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.evaluation.category_grid import Grid, Measured
    from etalage.features.photo import PhotoEncoder
    from etalage.runtime.classifier import ItemClassifier

log = logging.getLogger(__name__)
TIMED = 5
"""Runs of each batch; their median counts."""


@dataclass(frozen=True)
class Compared:
    """The grid, as drawn and as a table; `part`: what its figures are of."""

    grid: "Grid"
    part: str
    picture: Path
    table: Path


ALL = "classifiers"
"""What the grid of more than one classifier is called."""


def compare(workspace: Workspace, name: str | None) -> Compared:
    """Measure all exports of the classifier `name`, or of every one; writes reports/<name>-grid.png and .md.

    Exports of another taxonomy, or of other items, are passed over with a warning. Raises NothingToPublish,
    TooLittleData, ConfigError: none is of the taxonomy as it is now; LeakageFound, GoldenChanged.
    """
    from etalage.evaluation.categories import measure_categories
    from etalage.evaluation.category_evaluation import JudgedItems, model_answers, simple_answers
    from etalage.evaluation.category_grid import grid

    called = _exports(workspace, name)
    known: dict[PhotoEncoder | None, category_steps.Labelled] = {}
    systems, models, part, looked = {}, [], "test", None
    values: np.ndarray | None = None
    for export in called:
        classifier = _opened(export)
        if classifier.encoder not in known:
            known[classifier.encoder] = category_steps.labelled(workspace, classifier.encoder)
            category_steps.ensure_golden_set(workspace, known[classifier.encoder])
        whole = known[classifier.encoder]
        if whole.data.taxonomy.version != classifier.taxonomy.version:
            log.warning("%s learned other categories than the shop has now: it is left out", called[export])
            continue
        part = "test" if len(whole.data.rows("test", leaf=True)) else "validation"
        rows = whole.data.rows(part, leaf=True)
        features = category_steps.photo_features(workspace, whole, classifier, export, (part,))
        if values is None:  # every export that comes so far is of the same leaves
            values = category_steps.leaf_values(workspace, whole.data.taxonomy)
        asked = JudgedItems(whole.data, features, whole.groups_N, values, whole.versions, None)
        answers = next(iter(model_answers(asked, classifier, rows).values()))
        systems[called[export]] = answers
        models.append(_timed(export, called[export], classifier, whole.data.pixels_PHWC))
        if looked is None or looked.data.pixels_PHWC is None:
            looked = asked
    if looked is None:
        names = name or ", ".join(dict.fromkeys(export.parent.name for export in called))
        raise ConfigError(f"no export of {names} is of the shop's taxonomy and items now: train it again")
    rows = looked.data.rows(part, leaf=True)
    simple = simple_answers(looked.data, rows, titles=True)
    measures = measure_categories(
        looked.data.leaf_N[rows],
        {**systems, **simple},
        looked.data.taxonomy,
        looked.values_L,
        ks=(1, 3),
        bootstrap=workspace.config.evaluate.bootstrap,
        groups_N=looked.groups_N[rows],
        simple=list(simple),
    )
    whose = {export.parent.name for export in called}
    drawn = grid(measures, [*models, *_counted(simple)])
    return _drawn(workspace, min(whose) if len(whose) == 1 else ALL, drawn, part)


def _exports(workspace: Workspace, name: str | None) -> dict[Path, str]:
    """The exports of one classifier, or of all → what each is called in the grid."""
    if name is not None:
        workspace.models.known(name, where="compare")
        if workspace.models.listed()[name].data != "categories":
            raise ConfigError(f"compare: {name} is no classifier; `etalage compare` compares all that are")
    names = [name] if name is not None else list(photo_steps.newest_exports(workspace, "categories"))
    found = {
        one: sorted(path.parent for path in workspace.exports(one).glob("[0-9]*-*/export.json"))
        for one in names
    }
    if not any(found.values()):
        missing = name or "item_category"
        raise NothingToPublish(
            f"{workspace.exports(missing)}: no trained model; run `etalage train {missing}` first"
        )
    return {
        one: one.name if len(names) == 1 else f"{model}/{one.name}"
        for model, some in found.items()
        for one in some
    }


def _opened(export: Path) -> "ItemClassifier":
    from etalage.runtime.classifier import ItemClassifier

    return ItemClassifier.open(export)


def _timed(
    export: Path, called: str, classifier: "ItemClassifier", pixels_PHWC: np.ndarray | None
) -> "Measured":
    from etalage.evaluation.category_grid import Measured
    from etalage.models.backbones import SMALL
    from etalage.runtime.export_files import read_facts

    facts = read_facts(export)
    config = facts["config"]
    # A network of timm without weights learned nothing before; ours is small enough to begin with nothing.
    random = config.get("weights") is None and config.get("backbone", SMALL) != SMALL
    one, many = None, None  # of a photo, where it looks at any
    if pixels_PHWC is not None:
        shape = pixels_PHWC.shape[1:]
        one, many = (_milliseconds(classifier, np.resize(pixels_PHWC, (n, *shape))) for n in (1, 64))
    return Measured(called, facts["seconds"] / 60, one, many, facts["megabytes"], random=random)


def _milliseconds(classifier: "ItemClassifier", pixels: np.ndarray) -> float:
    """Of processor time a photo, decoding left out."""
    seconds = []
    for _ in range(TIMED + 1):
        started = time.process_time()
        classifier.features(pixels)
        seconds.append(time.process_time() - started)
    return 1000 * float(np.median(seconds[1:])) / len(pixels)


def _counted(simple: Iterable[str]) -> "list[Measured]":
    from etalage.evaluation.category_grid import Measured

    return [Measured(name, None, None, None, None) for name in simple]


def _drawn(workspace: Workspace, name: str, made: "Grid", part: str) -> Compared:
    with workspace.disk():
        picture = made.draw(workspace.folder / "reports" / f"{name}-grid.png")
        table = picture.with_suffix(".md")
        table.write_text(made.to_markdown(), encoding="utf-8")
    return Compared(made, part, picture, table)
