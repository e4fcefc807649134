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
from etalage.evaluation.calibrate import calibrate
from etalage.evaluation.gate import Verdict, judge
from etalage.evaluation.names import cut_of
from etalage.evaluation.protocols import Scores, confusion, evaluate_photos, raw_pixels
from etalage.evaluation.report import Strip, write_report
from etalage.features.photo_set import PhotoSet
from etalage.models.recipe import Recipe
from etalage.runtime.export_files import write_verdict

RAW = "raw pixels"
RAW_SIDE = 32
"""Raw pixels are compared at no more than so many a side: beyond it they only cost memory."""
STRIPS, STRIP_LENGTH = 12, 8


@dataclass(frozen=True)
class Evaluation:
    """What `etalage evaluate` found."""

    scores: dict[str, Scores]
    """By system, on the part `part`; the model first."""
    part: str
    verdict: Verdict
    report: Path
    files: list[Path]
    shown: tuple[str, ...]
    match: str
    """The calibrated threshold of a match, in words."""

    def figures(self, system: str) -> dict[str, float]:
        """Metric → value of one system, as MLflow takes them."""
        return {f"{self.part}_{name}": i.value for name, i in self.scores[system].intervals.items()}

    def summary(self) -> str:
        lines = []
        for system, scores in self.scores.items():
            found = (f"{name} {_with_interval(scores, name)}" for name in self.shown)
            lines.append(f"{system} ({self.part}): {', '.join(found)}")
        return "\n".join([*lines, f"match: {self.match}", f"gate, on validation: {self.verdict.sentence}"])


def evaluate(
    photos: PhotoSet,
    systems: Mapping[str, np.ndarray],
    *,
    config: EvaluateConfig,
    export: Path,
    model_hash: str,
    versions: Mapping[str, int],
    reports: Path,
) -> Evaluation:
    """Measure `systems`, name → (N, D) embeddings of all photos, the model first, beside raw pixels.

    Writes the report, and the verdict beside the export.
    Raises TooLittleData: no photo was held out; ConfigError: no such metric.
    """
    model = next(iter(systems))
    if (k := cut_of(config.metric)[1]) and k not in config.ks:
        config = config.model_copy(update={"ks": tuple(sorted({*config.ks, k}))})
    every = {**systems, RAW: raw_pixels(_shrunk(photos.pixels_NHWC))}
    gate, rows = _measure(photos, every, "validation", config)
    if config.metric not in gate[model].per_query:
        said = suggestion(config.metric, gate[model].per_query)
        raise ConfigError(f"[evaluate] metric = {config.metric!r}: no such metric; {said}")
    part, scores = "validation", gate
    if len(photos.rows("test")):
        part = "test"
        scores, rows = _measure(photos, every, part, config)
    per_query = {name: found.per_query[config.metric] for name, found in gate.items()}
    ours = per_query.pop(model)
    verdict = judge(model, "embedder", config.metric, ours, per_query, config.bootstrap)
    threshold, match = _match(photos, gate[model], config)
    kept = {"model_hash": model_hash, **verdict.to_json(), "match": threshold}
    write_verdict(export, kept)
    facts = {
        "model": f"{export.name} ({model_hash[:12]})",
        "figures on": f"{part}: {len(rows[0]):,} photos searched in {len(rows[1]):,}",
        "verdict on": f"validation: {len(ours):,} photos",
        "tables": ", ".join(f"{name} version {version}" for name, version in versions.items()),
        "match": match,
        "interval": f"95%, {config.bootstrap} bootstrap resamples of the queries",
    }
    reports.mkdir(parents=True, exist_ok=True)
    labels = np.array(photos.categories)[photos.labels_N]
    votes = min(5, scores[model].neighbours.shape[1])
    report = write_report(
        reports / f"{model}-{export.name}.html",
        title=f"{model} {export.name}",
        scores=scores,
        verdict=verdict,
        strips=_strips(photos, scores[model], *rows),
        confusion=confusion(scores[model], labels[rows[0]], labels[rows[1]], votes),
        facts=facts,
        embeddings=(systems[model][rows[0]], labels[rows[0]]),
        pictures=reports / f"{model}-{export.name}",
    )
    named = ["hit_at_1", config.metric, f"map_at_{max(config.ks)}"]
    shown = tuple(name for name in dict.fromkeys(named) if name in scores[model].intervals)
    files = [report, *sorted(report.with_suffix("").glob("*.png"))]
    return Evaluation(scores, part, verdict, report, files, shown, match)


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


def _measure(
    photos: PhotoSet, systems: Mapping[str, np.ndarray], part: str, config: EvaluateConfig
) -> tuple[dict[str, Scores], tuple[np.ndarray, np.ndarray]]:
    queries, index = _rows(photos, part, config)
    pairs = {name: (found[queries], found[index]) for name, found in systems.items()}
    labels = photos.labels_N
    ks = [k for k in config.ks if k <= len(index)] or [1]
    return evaluate_photos(pairs, labels[queries], labels[index], ks, config.bootstrap), (queries, index)


def _match(photos: PhotoSet, scores: Scores, config: EvaluateConfig) -> tuple[dict[str, float] | None, str]:
    """The threshold of a match, calibrated on validation photos, none of which is in the index."""
    queries, index = _rows(photos, "validation", config)
    same = photos.labels_N[index[scores.neighbours[:, 0]]] == photos.labels_N[queries]
    asked = config.match_precision
    try:
        found = calibrate(scores.similarities[:, 0], same, "precision", asked)
    except (ConfigError, TooLittleData) as error:
        return None, f"no threshold has a precision of {asked:g}: {error}"
    words = f"from {found.score:.4f} on, the nearest is right in {found.precision:.1%} of cases"
    return found.to_json(), f"{words}; {found.recall:.1%} of the right ones reach it"


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
    strips: list[Strip] = []
    for query in chosen:
        own = photos.labels_N[queries[query]]
        found: list[tuple[bytes, str, bool, float]] = []
        for place, score in zip(scores.neighbours[query], scores.similarities[query], strict=True):
            if place < 0 or len(found) == STRIP_LENGTH:
                break
            row = index[place]
            name = photos.categories[photos.labels_N[row]]
            found.append((photos.photos[row], name, bool(photos.labels_N[row] == own), float(score)))
        strips.append((photos.photos[queries[query]], photos.categories[own], found))
    return strips


def _with_interval(scores: Scores, name: str) -> str:
    found = scores.intervals[name]
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
