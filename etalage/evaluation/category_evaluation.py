"""`etalage evaluate item_category`: the model beside the simple ones, on items that it did not learn from.

The verdict is reached on validation items; the report's figures are of the golden set, the part `test`, where
there is one.

    N items   n items of a part   P photos   F features   L leaves
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etalage.config import EvaluateConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.categories import CategoryMeasures, measure_categories
from etalage.evaluation.category_answers import Answers
from etalage.evaluation.category_sections import category_sections
from etalage.evaluation.evaluation import Evaluator, Progress
from etalage.evaluation.gate import Verdict
from etalage.evaluation.sections import Scores, Section
from etalage.evaluation.simple_categories import majority, raw_pixel_knn, title_naive_bayes
from etalage.features.category_set import CategorySet
from etalage.lake.photo_facts import pixels_as_png
from etalage.metrics import Interval
from etalage.runtime.classifier import ItemClassifier
from etalage.runtime.export_files import read_facts
from etalage.runtime.leaf_decision import LeafDecision

MAJORITY, PIXELS, TITLES = "majority", "raw pixels", "words of titles"
SHOWN = ("accuracy", "top_3", "macro_f1", "value_true", "severity", "calibration_error")


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


class CategoryEvaluator(Evaluator[CategoryMeasures]):
    """A classifier beside the commonest category, raw pixels and the words of titles."""

    resampled = "groups"

    def __init__(
        self, looked: JudgedItems, classifier: ItemClassifier, config: EvaluateConfig, export: Path
    ) -> None:
        """Raises ConfigError: the shop's categories are others than it learned."""
        data = looked.data
        if data.taxonomy.version != classifier.taxonomy.version:
            raise ConfigError(
                f"{export.name} learned {len(classifier.taxonomy)} categories, the shop's items have "
                f"{len(data.taxonomy)} or others now: `etalage train {classifier.name}` again"
            )
        self.model, self.looked, self.classifier = classifier.name, looked, classifier
        self.config, self.export, self._about = config, export, read_facts(export)
        self.model_hash, self.versions = classifier.model_hash, looked.versions
        self.looks_at_photos, self.request = classifier.uses_photos, self._classify_one

    def _classify_one(self, number: int) -> object:
        """One item of those that are measured: its main photo, where it has one, and its title."""
        data = self.looked.data
        rows = data.rows("validation", leaf=True)
        row = int(rows[number % len(rows)])
        photo = _png(data, row)
        return self.classifier.classify([[photo] if photo else []], [data.titles[row]])

    def has_test(self) -> bool:
        return len(self.looked.data.rows("test", leaf=True)) > 0

    def measure(self, part: str, progress: Progress | None = None) -> CategoryMeasures:
        return _measured(self.looked, self.classifier, part, self.config)

    def judge(self, gate: CategoryMeasures) -> Verdict:
        if gate.verdict is None:
            raise TooLittleData("there is nothing to compare the model with")
        return gate.verdict

    def scores(self, shown: CategoryMeasures) -> dict[str, dict[str, Interval]]:
        return {name: one.intervals for name, one in shown.scores.items()}

    def headline(self) -> tuple[str, ...]:
        return SHOWN

    def describe(self, measured: CategoryMeasures) -> str:
        return f"{len(measured.truth_N):,} items in {measured.groups:,} groups"

    def facts(self) -> dict[str, str]:
        about, taxonomy = self._about, self.classifier.taxonomy
        numbers = about.get("numbers", {"served": about.get("config", {}).get("served")})
        return {
            "served in": describe_numbers(numbers),
            "taxonomy": f"{taxonomy.version}: {len(taxonomy.leaves_L):,} leaves",
            "golden set": self.looked.golden or "none: the part `test` is empty",
        }

    def sections(
        self, gate: CategoryMeasures, shown: CategoryMeasures, scores: Scores, part: str
    ) -> list[Section]:
        data = self.looked.data
        rows = data.rows(part, leaf=True)
        return category_sections(
            shown,
            self.classifier.taxonomy,
            part=part,
            photos=lambda row: _png(data, int(rows[row])),
            titles=[data.titles[row] for row in rows],
        )


def describe_numbers(numbers: Mapping[str, Any]) -> str:
    """What the export says of its photo network: int8 or float32, and why."""
    served = str(numbers.get("served") or "float32")
    if "accuracy" not in numbers:
        return served
    one, other = (f"{numbers['accuracy'][name]:.3f}" for name in ("float32", "int8"))
    return (
        f"{served}: of {numbers['items']:,} validation items float32 gets {one} right, int8 {other}; "
        f"{numbers['alike']:.1%} of their answers are alike"
    )


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
