"""`etalage evaluate item_category`: the model beside the simple ones, on items that it did not learn from.

The verdict is reached on validation items; the report's figures are of the golden set, the part `test`, where
there is one.

    N items   n items of a part   P photos   F features   L leaves
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etalage.config import EvaluateConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.categories import CategoryMeasures, measure_categories
from etalage.evaluation.category_answers import Answers
from etalage.evaluation.category_report import write_category_report
from etalage.evaluation.simple_categories import majority, raw_pixel_knn, title_naive_bayes
from etalage.features.category_set import CategorySet
from etalage.lake.photo_facts import pixels_as_png
from etalage.runtime.classifier import ItemClassifier
from etalage.runtime.export_files import read_facts, write_verdict
from etalage.runtime.leaf_decision import LeafDecision

MAJORITY, PIXELS, TITLES = "majority", "raw pixels", "words of titles"
SHOWN = ("accuracy", "top_3", "macro_f1", "value_true", "severity", "calibration_error")


@dataclass(frozen=True)
class CategoryEvaluation:
    """What `etalage evaluate` found."""

    measures: CategoryMeasures
    """On the part `part`; the model first."""
    part: str
    verdict: str
    report: Path
    files: list[Path]

    def figures(self, system: str) -> dict[str, float]:
        """Metric → value of one system, as MLflow takes them."""
        intervals = self.measures.scores[system].intervals
        return {f"{self.part}_{name}": one.value for name, one in intervals.items()}

    def summary(self) -> str:
        lines = []
        for system, scores in self.measures.scores.items():
            known = [(name, scores.intervals[name]) for name in SHOWN if name in scores.intervals]
            found = (f"{name} {one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for name, one in known)
            lines.append(f"{system} ({self.part}): {', '.join(found)}")
        return "\n".join([*lines, f"gate, on validation: {self.verdict}"])


@dataclass(frozen=True)
class JudgedItems:
    """What of the items is known to judge by. values_L: what each leaf is worth to the shop."""

    data: CategorySet
    features_PF: np.ndarray
    """(P, F) float32 of the classifier's own trunk."""
    groups_N: np.ndarray
    values_L: np.ndarray
    versions: Mapping[str, int]
    golden: str | None
    """Hash of the golden set."""


def evaluate_categories(
    looked: JudgedItems, classifier: ItemClassifier, *, config: EvaluateConfig, export: Path, reports: Path
) -> CategoryEvaluation:
    """Measure, judge, draw the report; writes the verdict and the confusion matrix beside the export.

    Raises TooLittleData: no item of validation has a leaf; ConfigError: the categories are others now.
    """
    data = looked.data
    if data.taxonomy.version != classifier.taxonomy.version:
        raise ConfigError(
            f"{export.name} learned {len(classifier.taxonomy)} categories, the shop's items have "
            f"{len(data.taxonomy)} or others now: `etalage train {classifier.name}` again"
        )
    gate = _measured(looked, classifier, "validation", config)
    verdict = gate.verdict
    if verdict is None:
        raise TooLittleData("there is nothing to compare the model with")
    part, shown = "validation", gate
    if len(data.rows("test", leaf=True)):
        part, shown = "test", _measured(looked, classifier, "test", config)
    about = read_facts(export)
    told = {
        "model": f"{export.name} ({classifier.model_hash[:12]})",
        "served in": _numbers(about.get("numbers", {"served": about.get("config", {}).get("served")})),
        "taxonomy": f"{classifier.taxonomy.version}: {len(classifier.taxonomy.leaves_L):,} leaves",
        "figures on": f"{part}: {len(shown.truth_N):,} items in {shown.groups:,} groups",
        "golden set": looked.golden or "none: the part `test` is empty",
        "verdict on": f"validation: {len(gate.truth_N):,} items in {gate.groups:,} groups",
        "tables": ", ".join(f"{name} version {version}" for name, version in looked.versions.items()),
        "interval": f"95%, {config.bootstrap} bootstrap resamples of the groups",
    }
    rows = data.rows(part, leaf=True)
    files = write_category_report(
        reports / f"{classifier.name}-{export.name}.html",
        shown,
        classifier.taxonomy,
        title=f"What is it? {export.name}",
        facts=told,
        gate=verdict,
        history=about.get("history", ()),
        photos=lambda row: _png(data, int(rows[row])),
        titles=[data.titles[row] for row in rows],
    )
    _keep(export, files[-1])
    measures = {"measures": shown.to_json(), "part": part}
    write_verdict(export, {"model_hash": classifier.model_hash, **verdict.to_json(), **measures})
    return CategoryEvaluation(shown, part, verdict.sentence, files[0], files)


def _numbers(told: Mapping[str, Any]) -> str:
    """What the export says of its photo network: int8 or float32, and why."""
    served = str(told.get("served") or "float32")
    if "accuracy" not in told:
        return served
    one, other = (f"{told['accuracy'][name]:.3f}" for name in ("float32", "int8"))
    return (
        f"{served}: of {told['items']:,} validation items float32 gets {one} right, int8 {other}; "
        f"{told['alike']:.1%} of their answers are alike"
    )


def _keep(export: Path, confusion: Path) -> None:
    """The report's confusion matrix beside the export, for the bundle and its page."""
    found = json.loads(confusion.read_text(encoding="utf-8"))
    kept = {name: found[name] for name in ("categories", "counts", "elsewhere")}
    draft = export / ".confusion.json"
    draft.write_text(json.dumps(kept), encoding="utf-8")
    draft.replace(export / "confusion.json")


def _png(data: CategorySet, row: int) -> bytes | None:
    """An item's main photo, as the model sees it."""
    if data.pixels_PHWC is None or not data.has_photo_N[row]:
        return None
    return pixels_as_png(data.pixels_PHWC[int(np.searchsorted(data.owners_P, row))])


def _measured(
    looked: JudgedItems, classifier: ItemClassifier, part: str, config: EvaluateConfig
) -> CategoryMeasures:
    rows = looked.data.rows(part, leaf=True)
    if not len(rows):
        raise TooLittleData(f"no item of the part {part} has a category at a leaf; see [split] in shop.toml")
    systems = {
        **model_answers(looked, classifier, rows),
        **simple_answers(looked.data, rows, classifier.uses_text),
    }
    return measure_categories(
        looked.data.leaf_N[rows],
        systems,
        looked.data.taxonomy,
        looked.values_L,
        ks=config.ks,
        bootstrap=config.bootstrap,
        groups_N=looked.groups_N[rows],
        simple=[name for name in systems if name in (MAJORITY, PIXELS, TITLES)],
    )


def model_answers(looked: JudgedItems, classifier: ItemClassifier, rows: np.ndarray) -> dict[str, Answers]:
    """The model as it decides, and by the other decision."""
    data = looked.data
    features = data.means(looked.features_PF[data.photos_of(rows)], rows)
    titles = [data.titles[row] for row in rows]
    given = classifier.leaf_probabilities(features, data.has_photo_N[rows], titles)
    other = LeafDecision({}, "risk" if classifier.deciding.decision == "probable" else "probable")
    name = {"risk": "least risk", "probable": "most probable"}[other.decision]
    return {
        classifier.name: Answers(given, classifier.deciding.decide(given, classifier.taxonomy)),
        f"{classifier.name}, {name}": Answers(given, other.decide(given, classifier.taxonomy)),
    }


def simple_answers(data: CategorySet, rows: np.ndarray, titles: bool) -> dict[str, Answers]:
    """What the model has to beat: the commonest category, and of what it looks at itself, the nearest raw
    pixels (where `data` has pixels) and the words of titles."""
    train, leaves = data.rows("train", leaf=True), len(data.taxonomy.leaves_L)
    labels = data.leaf_N[train]
    common = majority(labels, len(rows), leaves)
    found = {MAJORITY: common}
    if data.pixels_PHWC is not None and len(data.photos_of(train)):
        seen = train[data.has_photo_N[train]]
        asked = np.flatnonzero(data.has_photo_N[rows])
        given = common.probabilities_NL.copy()
        pixels = [data.pixels_PHWC[_first(data, some)] for some in (seen, rows[asked])]
        near = raw_pixel_knn(_small(pixels[0]), data.leaf_N[seen], _small(pixels[1]), leaves)
        given[asked] = near.probabilities_NL
        found[PIXELS] = Answers(given)
    if titles:
        known, asked_titles = ([data.titles[row] for row in some] for some in (train, rows))
        found[TITLES] = title_naive_bayes(known, labels, asked_titles, leaves)
    return found


def _first(data: CategorySet, rows: np.ndarray) -> np.ndarray:
    """(n,) int64 the main photo of each of these items, which all have one."""
    return np.searchsorted(data.owners_P, rows)


def _small(pixels_NHWC: np.ndarray, side: int = 32) -> np.ndarray:
    """Every so-manyth row and column: beyond 32 a side raw pixels only cost memory."""
    step = max(1, pixels_NHWC.shape[1] // side)
    return pixels_NHWC[:, ::step, ::step]
