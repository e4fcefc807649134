"""A photo embedder beside the simple ones, on photos that it did not learn from.

The verdict is reached on validation photos; the report's figures are of test photos, where there
are any. Both search in the photos that were not held out from them.

    N photos   D embedding dimension
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etalage.config import EvaluateConfig, suggestion
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation import sections
from etalage.evaluation.calibrate import CONFIDENCE, promise
from etalage.evaluation.decision_words import spelled
from etalage.evaluation.evaluation import Evaluator, Progress
from etalage.evaluation.examples import RULE, choose
from etalage.evaluation.gate import Verdict, judge
from etalage.evaluation.names import cut_of
from etalage.evaluation.photo_sections import (
    ComparedNeighbours,
    EmbeddingMap,
    MatchThreshold,
    Neighbours,
    Strip,
    VotedConfusion,
    held_out_classes,
)
from etalage.evaluation.protocols import Scores, confusion, evaluate_photos, raw_pixels
from etalage.evaluation.sections import Metrics, Section, metrics_at
from etalage.features.photo_set import PhotoSet
from etalage.metrics import Interval
from etalage.models.recipe import Recipe

RAW = "raw pixels"
RAW_SIDE = 32
"""Raw pixels are compared at no more than so many a side: beyond it they only cost memory."""
STRIPS, STRIP_LENGTH = 12, 8


@dataclass(frozen=True)
class SearchedPhotos:
    """All systems on the queries of one part. queries, index: rows of the PhotoSet."""

    scores: dict[str, Scores]
    queries: np.ndarray
    index: np.ndarray


class PhotoEvaluator(Evaluator[SearchedPhotos]):
    """An embedder beside raw pixels and whatever else is given: who is nearest bears the query's category."""

    resampled = "queries"
    looks_at_photos = True

    def __init__(
        self,
        photos: PhotoSet,
        systems: Mapping[str, np.ndarray],
        config: EvaluateConfig,
        *,
        export: Path | None = None,
        model_hash: str = "",
        versions: Mapping[str, int] | None = None,
        request: Callable[[int], object] | None = None,
        compared: Mapping[str, Any] | None = None,
    ) -> None:
        """systems: name → (N, D) embeddings of all photos, the model first. request: embeds one photo.
        compared: what its training compared with categories held out, as export.json has it."""
        self.request, self.compared = request, compared
        self.export, self.model_hash, self.versions = export, model_hash, versions or {}
        if (k := cut_of(config.metric)[1]) and k not in config.ks:
            config = config.model_copy(update={"ks": tuple(sorted({*config.ks, k}))})
        self.photos, self.config, self.model = photos, config, next(iter(systems))
        self.systems = {**systems, RAW: raw_pixels(_shrunk(photos.pixels_NHWC))}

    def has_test(self) -> bool:
        return len(self.photos.rows("test")) > 0

    def measure(self, part: str, progress: Progress | None = None) -> SearchedPhotos:
        queries, index = _rows(self.photos, part, self.config)
        pairs = {name: (found[queries], found[index]) for name, found in self.systems.items()}
        labels = self.photos.labels_N
        ks = [k for k in self.config.ks if k <= len(index)] or [1]
        scores = evaluate_photos(pairs, labels[queries], labels[index], ks, self.config.bootstrap)
        return SearchedPhotos(scores, queries, index)

    def judge(self, gate: SearchedPhotos) -> Verdict:
        metric = self.config.metric
        if metric not in gate.scores[self.model].per_query:
            said = suggestion(metric, gate.scores[self.model].per_query)
            raise ConfigError(f"[evaluate] metric = {metric!r}: no such metric; {said}")
        per_query = {name: found.per_query[metric] for name, found in gate.scores.items()}
        ours = per_query.pop(self.model)
        return judge(self.model, "embedder", metric, ours, per_query, self.config.bootstrap)

    def scores(self, shown: SearchedPhotos) -> dict[str, dict[str, Interval]]:
        return {name: one.intervals for name, one in shown.scores.items()}

    def headline(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["hit_at_1", self.config.metric, f"map_at_{max(self.config.ks)}"]))

    def describe(self, measured: SearchedPhotos) -> str:
        return f"{len(measured.queries):,} photos searched in {len(measured.index):,}"

    def sections(
        self, gate: SearchedPhotos, shown: SearchedPhotos, scores: sections.Scores, part: str
    ) -> list[Section]:
        ours, photos = shown.scores[self.model], self.photos
        labels = np.array(photos.categories)[photos.labels_N]
        votes = min(5, ours.neighbours.shape[1])
        counts, names = confusion(ours, labels[shown.queries], labels[shown.index], votes)
        return [
            photo_metrics(scores, self.config.metric, len(shown.queries)),
            Neighbours(_strips(photos, ours, shown.queries, shown.index)),
            self._compared(gate, shown, part),
            VotedConfusion(counts, names),
            EmbeddingMap(self.systems[self.model][shown.queries], labels[shown.queries]),
            self._match(gate),
            *self._held_out(),
        ]

    def _held_out(self) -> list[Section]:
        """What the training compared with categories held out, where it did."""
        return [held_out_classes(self.compared)] if self.compared else []

    def _compared(self, gate: SearchedPhotos, shown: SearchedPhotos, part: str) -> ComparedNeighbours:
        """The model's neighbours beside those of the best simple system, of queries chosen by a rule."""
        metric, model = self.config.metric, self.model
        rows = self.judge(gate).rows
        over = next(str(row["system"]) for row in rows if row.get("best"))
        ours, theirs = (shown.scores[name].per_query[metric] for name in (model, over))
        chosen = choose(ours - theirs, (ours > 0) | (theirs > 0))
        rule = RULE.format(
            queries=len(ours), asked="photos", part=part, chosen=model, over=over, metric=spelled(metric)
        )
        strips = [
            (
                why,
                {
                    name: _strip_of(self.photos, shown.scores[name], shown.queries, shown.index, query)
                    for name in (model, over)
                },
            )
            for why, query in chosen
        ]
        return ComparedNeighbours(f"{rule}.", strips)

    def _match(self, gate: SearchedPhotos) -> MatchThreshold:
        """Calibrated on validation photos, none of which is in the index and, where there are enough, none of
        which the training chose anything by."""
        labels, ours = self.photos.labels_N, gate.scores[self.model]
        asked = np.isin(gate.queries, self.photos.matching())
        same = (labels[gate.index[ours.neighbours[:, 0]]] == labels[gate.queries])[asked]
        precision = self.config.match_precision
        try:
            found = promise(ours.similarities[asked, 0], same, precision)
        except (ConfigError, TooLittleData) as error:
            return MatchThreshold(None, f"no threshold has a precision of {precision:g}: {error}")
        words = (
            f"from {found.score:.4f} on, the nearest is right in {found.precision:.1%} of cases, and in "
            f"{found.promise:.1%} or more of other photos of this kind ({CONFIDENCE:.0%} sure); "
            f"{found.recall:.1%} of the right ones reach it"
        )
        if found.promise < precision:
            words += f"; {asked.sum():,} photos are too few to promise {precision:g}"
        if not self.photos.kept_apart:
            words += "; the training chose by the same photos, as there are too few to keep some apart"
        return MatchThreshold(found.to_json(), words)


def photo_metrics(scores: sections.Scores, metric: str | None, queries: int) -> Metrics:
    """The table and the bars of systems that search photos."""
    note = f"Means over {queries} queries with 95% bootstrap intervals; the best of each row in bold."
    note += " The marked row decides." if metric else ""
    names = next(iter(scores.values()), {})
    return Metrics(scores, note, metric, bars=metrics_at(names, metric), top=1)


def untrained(
    recipe: Recipe[Any], config: Any, photos: PhotoSet, progress: Callable[[int], None] | None = None
) -> np.ndarray:
    """(N, D) float32 embeddings of the model's network with its first weights, seed 0.

    Its batch normalisation has seen a few batches, so that it is judged for its weights alone.
    """
    import torch

    torch.manual_seed(0)
    network = recipe.bind(config, photos).network()
    pixels = torch.from_numpy(photos.pixels_NHWC)
    found = []
    with torch.inference_mode():
        network.train()
        for start in range(0, min(len(pixels), 2048), 256):
            network(pixels[start : start + 256])
        network.eval()
        for part in torch.split(pixels, 256):
            found.append(network(part).float().numpy())
            if progress is not None:
                progress(len(part))
    return np.concatenate(found)


def _rows(photos: PhotoSet, part: str, config: EvaluateConfig) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the queries, and of the photos that they search in."""
    queries = photos.rows(part)
    if len(queries) > config.max_queries:
        queries = np.sort(np.random.default_rng(0).choice(queries, config.max_queries, replace=False))
    index = photos.rows("train") if part == "validation" else photos.rows("train", "validation")
    if len(queries) == 0 or len(index) == 0:
        raise TooLittleData(
            f"{len(queries)} {part} photos with a category, {len(index)} to search in; "
            "see [split] in shop.toml"
        )
    return queries, index


def _shrunk(pixels_NHWC: np.ndarray) -> np.ndarray:
    side = pixels_NHWC.shape[1]
    block = side // RAW_SIDE
    if block < 2:
        return pixels_NHWC
    keep = side // block * block
    count, channels = len(pixels_NHWC), pixels_NHWC.shape[3]
    cut = pixels_NHWC[:, :keep, :keep].reshape(count, keep // block, block, keep // block, block, channels)
    return cut.mean(axis=(2, 4), dtype=np.float32).astype(np.uint8)


def _strips(photos: PhotoSet, scores: Scores, queries: np.ndarray, index: np.ndarray) -> list[Strip]:
    """Some queries, each of another category, with their neighbours."""
    order = np.random.default_rng(0).permutation(len(queries))
    _, first = np.unique(photos.labels_N[queries][order], return_index=True)
    chosen = order[np.sort(first)][:STRIPS]
    return [_strip_of(photos, scores, queries, index, int(query)) for query in chosen]


def _strip_of(photos: PhotoSet, scores: Scores, queries: np.ndarray, index: np.ndarray, query: int) -> Strip:
    """One query with its neighbours."""
    own = photos.labels_N[queries[query]]
    found: list[tuple[bytes, str, bool, float]] = []
    for place, score in zip(scores.neighbours[query], scores.similarities[query], strict=True):
        if place < 0 or len(found) == STRIP_LENGTH:
            break
        row = index[place]
        name = photos.categories[photos.labels_N[row]]
        found.append((photos.photos[row], name, bool(photos.labels_N[row] == own), float(score)))
    return photos.photos[queries[query]], photos.categories[own], found
