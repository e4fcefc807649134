"""Every classifier that the shop has exported, on its golden set, in one grid (S1.18)."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from etalage.errors import ConfigError, NothingToPublish
from etalage.shop import category_steps
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


def compare(workspace: Workspace, name: str) -> Compared:
    """Measure all exports of the classifier `name`; writes reports/<name>-grid.png and .md.

    Exports of another taxonomy, or of other items, are passed over with a warning. Raises NothingToPublish,
    TooLittleData, ConfigError: none is of the taxonomy as it is now; LeakageFound, GoldenChanged.
    """
    from etalage.evaluation.categories import measure_categories
    from etalage.evaluation.category_evaluation import JudgedItems, model_answers, simple_answers
    from etalage.evaluation.category_grid import grid

    exports = sorted(path.parent for path in workspace.exports(name).glob("[0-9]*-*/export.json"))
    if not exports:
        raise NothingToPublish(
            f"{workspace.exports(name)}: no trained model; run `etalage train {name}` first"
        )
    known: dict[PhotoEncoder, category_steps.Labelled] = {}
    systems, models, part, looked = {}, [], "test", None
    values: np.ndarray | None = None
    for export in exports:
        classifier = _opened(export)
        if classifier.encoder not in known:
            known[classifier.encoder] = category_steps.labelled(workspace, classifier.encoder)
            category_steps.ensure_golden_set(workspace, known[classifier.encoder])
        whole = known[classifier.encoder]
        if whole.data.taxonomy.version != classifier.taxonomy.version:
            log.warning("%s learned other categories than the shop has now: it is left out", export.name)
            continue
        assert whole.data.pixels_PHWC is not None
        part = "test" if len(whole.data.rows("test", leaf=True)) else "validation"
        rows = whole.data.rows(part, leaf=True)
        features = category_steps.looked_at(workspace, whole, classifier, export, (part,))
        if values is None:  # every export that comes so far is of the same leaves
            values = category_steps.leaf_values(workspace, whole.data.taxonomy)
        looked = JudgedItems(whole.data, features, whole.groups_N, values, whole.versions, None)
        answers = next(iter(model_answers(looked, classifier, rows).values()))
        systems[export.name] = answers
        models.append(_timed(export, classifier, whole.data.pixels_PHWC))
    if looked is None:
        raise ConfigError(f"no export of {name} is of the shop's taxonomy and items now: train it again")
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
    return _drawn(workspace, name, grid(measures, [*models, *_counted(simple)]), part)


def _opened(export: Path) -> "ItemClassifier":
    from etalage.runtime.classifier import ItemClassifier

    return ItemClassifier.open(export)


def _timed(export: Path, classifier: "ItemClassifier", pixels_PHWC: np.ndarray) -> "Measured":
    from etalage.evaluation.category_grid import Measured
    from etalage.models.backbones import SMALL
    from etalage.runtime.export_files import read_facts

    facts = read_facts(export)
    config = facts["config"]
    # A network of timm without weights learned nothing before; ours is small enough to begin with nothing.
    random = config["weights"] is None and config["backbone"] != SMALL
    one, many = (
        _milliseconds(classifier, np.resize(pixels_PHWC, (n, *pixels_PHWC.shape[1:]))) for n in (1, 64)
    )
    return Measured(export.name, facts["seconds"] / 60, one, many, facts["megabytes"], random=random)


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
