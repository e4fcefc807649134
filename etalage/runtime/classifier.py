"""Opens an exported classifier of items: ONNX Runtime and numpy, no torch.

It brings how often it took which category for which, as its evaluation counted.

Evaluation, `etalage classify`, the server and the MLflow endpoint all classify through this class.

    N items   F features   L leaves   H W height and width in pixels
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from etalage.api import Leaf, Step
from etalage.config import ClassifyConfig, Settings, validated
from etalage.errors import BundleDamaged, ConfigError, ExportDamaged, PhotoRefused
from etalage.features.category_set import mean_by_owner
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_blocks import Given, Looked
from etalage.features.words import WordEncoder
from etalage.lake.taxonomy import Taxonomy
from etalage.runtime.export_files import LookBy, check_format, check_hash, hash_export
from etalage.runtime.leaf_decision import LeafDecision
from etalage.runtime.sessions import Session
from etalage.runtime.steps import Steps, finish

CONFUSION = "confusion.json"


class ConfusionCategory(Settings):
    """One row and column of the matrix. `value`: what the category is worth to the shop."""

    id: str
    path: str
    value: float


class Confusion(Settings):
    """How often which category was taken for which, the most valuable first.

    `counts[p][t]`: items of the true category t for which p was predicted.
    """

    categories: tuple[ConfusionCategory, ...]
    counts: tuple[tuple[int, ...], ...]
    elsewhere: tuple[int, ...] = ()
    """Items of each category that were taken for one that is not shown; (): none were."""


def read_confusion(file: Path) -> Confusion | None:
    """None: none was kept. Raises BundleDamaged."""
    if not file.exists():
        return None
    try:
        found = validated(Confusion, json.loads(file.read_bytes()), str(file))
    except (OSError, ValueError, TypeError, RecursionError, ConfigError) as error:
        raise BundleDamaged(f"{file} cannot be read: {error}; evaluate and publish again") from error
    side = len(found.categories)
    if [len(row) for row in found.counts] != [side] * side or len(found.elsewhere) not in (0, side):
        raise BundleDamaged(f"{file}: {side} categories, but not as many rows and columns; evaluate again")
    return found


CLASSIFIER_FILES = (
    "trunk.onnx",
    "heads.onnx",
    "encoder.json",
    "words.json",
    "taxonomy.json",
    "deciding.json",
)
"""What decides an answer, and is hashed; export.json stands beside them."""
OF_PHOTOS = ("trunk.onnx", "encoder.json")
"""Those of them that a model has which looks at photos, and no other."""
BATCH = 64
PHOTOS_AT_ONCE = 4
"""Decoded and looked at in one step of `classifying`."""


def classifier_files(reads: Sequence[str]) -> tuple[str, ...]:
    """Those of CLASSIFIER_FILES that a model has which looks at this of an item: `photo`, `title`."""
    return tuple(name for name in CLASSIFIER_FILES if "photo" in reads or name not in OF_PHOTOS)


@dataclass(frozen=True)
class Classified:
    """What an item is. `category_id` and `path` are None below the threshold, or with nothing to look at
    (`confidence` None too); `steps` lead to the decided leaf all the same."""

    category_id: str | None
    path: str | None
    confidence: float | None
    steps: tuple[Step, ...] = ()
    others: tuple[Leaf, ...] = ()
    """The next most probable leaves."""


@dataclass(frozen=True)
class ClassifierModel:
    """A classifier of a bundle, ready to answer."""

    classifier: "ItemClassifier"
    settings: ClassifyConfig
    """How it is asked, where a request does not say."""
    confusion: Confusion | None = None
    """None: its evaluation kept none."""

    @property
    def name(self) -> str:
        return self.classifier.name


def _hash_of_format_1(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in CLASSIFIER_FILES:
        content = (folder / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _reads(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a model looks at of an item; exports of before say it by `text`, and all look at photos."""
    if "reads" not in facts:
        return ("photo",) if str(facts["text"]) == "none" else ("photo", "title")
    reads = tuple(map(str, facts["reads"]))
    if not reads or not set(reads) <= {"photo", "title"}:
        raise ValueError(f"reads = {list(reads)}")
    return reads


def _require_file(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise ExportDamaged(f"{folder}: {name} is missing; export the model again")


class ItemClassifier:
    """A classifier role's export: image files, titles → categories. What it does not look at may be given to
    it all the same."""

    def __init__(
        self,
        name: str,
        model_hash: str,
        taxonomy: Taxonomy,
        encoder: PhotoEncoder | None,
        words: WordEncoder | None,
        deciding: LeafDecision,
        trunk: Session | None,
        heads: Session,
        dimension: int,
        folder: Path,
    ) -> None:
        self.name, self.model_hash, self.folder = name, model_hash, folder
        self.taxonomy, self.encoder, self.words, self.deciding = taxonomy, encoder, words, deciding
        self.dimension = dimension
        self._trunk, self._heads = trunk, heads
        self._ids = [taxonomy.ids[row] for row in taxonomy.leaves_L]

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> "ItemClassifier":
        """Raises ExportDamaged: a file is missing, unreadable, or not the one that was exported."""
        facts = cls._facts(folder)
        try:
            name, dimension = str(facts["name"]), int(facts["dimension"])
            kept, version, reads = str(facts["model_hash"]), int(facts["format"]), _reads(facts)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ExportDamaged(f"{folder / 'export.json'}: {error!r}; export the model again") from error
        files = classifier_files(reads)
        for file in files:
            _require_file(folder, file)
        check_format(folder, version)
        found = _hash_of_format_1(folder) if version == 1 else hash_export(folder, files)
        check_hash(folder, found, kept)
        photos = "photo" in reads

        def read(file: str) -> tuple[str, str]:
            return (folder / file).read_text(encoding="utf-8"), str(folder / file)

        return cls(
            name,
            kept,
            Taxonomy.from_json(*read("taxonomy.json")),
            PhotoEncoder.from_json(*read("encoder.json")) if photos else None,
            WordEncoder.from_json(*read("words.json")) if "title" in reads else None,
            LeafDecision.from_json(*read("deciding.json")),
            Session.open(folder / "trunk.onnx", threads) if photos else None,
            Session.open(folder / "heads.onnx", threads),
            dimension,
            folder,
        )

    @staticmethod
    def _facts(folder: Path) -> dict[str, Any]:
        _require_file(folder, "export.json")
        try:
            facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ExportDamaged(f"{folder / 'export.json'}: {error!r}; export the model again") from error
        if not isinstance(facts, dict):
            raise ExportDamaged(f"{folder / 'export.json'}: no table of facts; export the model again")
        return facts

    @property
    def uses_text(self) -> bool:
        return self.words is not None

    @property
    def uses_photos(self) -> bool:
        return self.encoder is not None

    @property
    def files(self) -> tuple[str, ...]:
        """What its export is, beside export.json."""
        return classifier_files(("photo",) if self.uses_photos else ())

    def features(self, pixels_NHWC: np.ndarray, progress: Callable[[int], None] | None = None) -> np.ndarray:
        """(N, H, W, 3) uint8 → (N, F) float32 of the photo network alone; works in batches of BATCH. Of a
        model that looks at no photos (N, 0)."""
        if self._trunk is None:
            return np.zeros((len(pixels_NHWC), 0), np.float32)
        return self._trunk.rows(pixels_NHWC, self.dimension, BATCH, f"model {self.name}: features", progress)

    def look(self, photos: Given) -> Looked:
        """The features of some photos, files or pixels; BATCH at a time, so that few are held as pixels."""
        if isinstance(photos, np.ndarray):
            return Looked(self.features(photos), np.arange(len(photos)), {})
        assert self.encoder is not None  # a model that looks at no photos is given none
        features_PF = np.empty((len(photos), self.dimension), np.float32)
        good: list[int] = []
        refused: dict[int, str] = {}
        for start in range(0, len(photos), BATCH):
            pixels, places, reasons = self.encoder.decode_some(photos[start : start + BATCH])
            features_PF[len(good) : len(good) + len(places)] = self.features(pixels)
            good += (places + start).tolist()
            refused |= {place + start: why for place, why in reasons.items()}
        return Looked(features_PF[: len(good)], np.array(good, np.int64), refused)

    def shared(self) -> "LookBy":
        """`look`, as a worker does it."""
        return LookBy(ItemClassifier.open, self.folder.resolve(), self.model_hash)

    def leaf_probabilities(
        self, features_NF: np.ndarray, has_photo_N: np.ndarray, titles: Sequence[str | None]
    ) -> np.ndarray:
        """(N, L) float32 over taxonomy.leaves_L, calibrated; rows sum to 1.

        An item without a photo has zeros for features; without a title, None. Of one that has neither
        nothing is known: all leaves alike.
        """
        return self._judged(features_NF, has_photo_N, titles)[0]

    def _judged(
        self, features_NF: np.ndarray, has_photo_N: np.ndarray, titles: Sequence[str | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`leaf_probabilities`, and (N,) bool: is there anything of the item that this model looks at?"""
        has_photo_N = np.asarray(has_photo_N, dtype=bool) & self.uses_photos
        words_NT = np.zeros((len(titles), 1), np.int64) if self.words is None else self.words.encode(titles)
        feed = {"features": features_NF.astype(np.float32), "has_photo": has_photo_N, "words": words_NT}
        scores = self._heads.run({name: feed[name] for name in self._heads.inputs})
        has_title_N = np.asarray((words_NT > 0).any(axis=1))
        return self.deciding.probabilities(scores, has_photo_N, has_title_N), has_photo_N | has_title_N

    def classify(
        self,
        photos: Sequence[Sequence[bytes]],
        titles: Sequence[str | None],
        threshold: float = 0.0,
        top: int = 3,
    ) -> list[Classified]:
        """Items, each with any number of image files (their features are averaged) and a title or none.

        Raises PhotoRefused that names the rows of images that cannot be decoded, of the first five.
        """
        return finish(self.classifying(photos, titles, threshold, top))

    def classifying(
        self,
        photos: Sequence[Sequence[bytes]],
        titles: Sequence[str | None],
        threshold: float = 0.0,
        top: int = 3,
    ) -> Steps[list[Classified]]:
        """The same, step by step."""
        photos = photos if self.encoder is not None else [()] * len(photos)
        flat = [photo for some in photos for photo in some]
        owners_P = np.repeat(np.arange(len(photos)), [len(some) for some in photos])
        refused: dict[int, str] = {}
        parts = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(flat), PHOTOS_AT_ONCE):
            assert self.encoder is not None
            pixels, _, reasons = self.encoder.decode_some(flat[start : start + PHOTOS_AT_ONCE])
            refused |= {start + at: why for at, why in reasons.items()}
            if not refused:
                parts.append(self.features(pixels))
            yield
        if refused:
            raise PhotoRefused(
                "; ".join(f"row {owners_P[at]}: {why}" for at, why in list(refused.items())[:5])
            )
        features_NF = mean_by_owner(np.concatenate(parts), owners_P, len(photos))
        return self.answers(
            features_NF, np.array([bool(some) for some in photos], bool), titles, threshold, top
        )

    def answers(
        self,
        features_NF: np.ndarray,
        has_photo_N: np.ndarray,
        titles: Sequence[str | None],
        threshold: float = 0.0,
        top: int = 3,
    ) -> list[Classified]:
        """The same from features that are there already; zeros for an item without a photo."""
        probabilities_NL, seen_N = self._judged(features_NF, has_photo_N, titles)
        decided_N = self.deciding.decide(probabilities_NL, self.taxonomy)
        return [
            self._classified(probabilities_NL[row], int(decided_N[row]), threshold, top)
            if seen_N[row]
            else Classified(None, None, None)
            for row in range(len(titles))
        ]

    def _classified(
        self, probabilities_L: np.ndarray, decided: int, threshold: float, top: int
    ) -> Classified:
        taxonomy = self.taxonomy
        row, confidence = int(taxonomy.leaves_L[decided]), float(probabilities_L[decided])
        steps = tuple(
            Step(taxonomy.ids[at], taxonomy.names[at], min(float(self._sum(probabilities_L, at)), 1.0))
            for at in taxonomy.steps(row)
        )
        best = [
            int(leaf) for leaf in np.argsort(-probabilities_L, kind="stable")[: top + 1] if leaf != decided
        ]
        others = tuple(
            Leaf(self._ids[leaf], taxonomy.path(int(taxonomy.leaves_L[leaf])), float(probabilities_L[leaf]))
            for leaf in best[:top]
        )
        if confidence < threshold:
            return Classified(None, None, confidence, steps, others)
        return Classified(taxonomy.ids[row], taxonomy.path(row), confidence, steps, others)

    def _sum(self, probabilities_L: np.ndarray, row: int) -> float:
        return float(probabilities_L[self._beneath[int(self.taxonomy.depths_N[row])] == row].sum())

    @cached_property
    def _beneath(self) -> dict[int, np.ndarray]:
        """Depth → (L,) the row above each leaf at that depth."""
        found = {}
        for level in range(1, self.taxonomy.depth + 1):
            rows_K, places_L = self.taxonomy.at_level(level)
            found[level] = rows_K[places_L]
        return found
