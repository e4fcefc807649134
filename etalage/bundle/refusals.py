"""What a bundle is made of, and the reasons not to publish it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.bundle.admission import PlacedModel
from etalage.bundle.classifying import DraftedClassifier
from etalage.bundle.indexed import photo_rows
from etalage.bundle.manifest import Manifest, RefusedFacts
from etalage.bundle.shoppers import Crowd
from etalage.config import BehaviourConfig, PublishConfig
from etalage.errors import CatalogueShrank, GateRefused
from etalage.features.history import BehaviourRule
from etalage.features.sources import PHOTO, FeatureSource
from etalage.lake.erasures import Erasures
from etalage.lake.ledger import Moment
from etalage.runtime.photos import PhotoEmbedder


@dataclass(frozen=True)
class Draft:
    """What a bundle is made of.

    `items` (N rows) and `photos` as in contents.Payload; `embeddings` (N, D) float32, zeros where an
    item has no photo, and `export` the folder of the model of photos (both None: a shop without one);
    `tables` the versions; `verdict` the gate's on that model; `synced_from` the bundle that a sync
    carried on from. `placed`: the models of behaviour in the order of the funnel, `rules` how they are
    asked, `crowd` the shoppers that the bundle is to know. `classifier`: what classifies new items there;
    `classified_by`: as in contents.Payload.
    """

    items: pa.Table
    photos: pa.Table
    embeddings: np.ndarray | None
    export: Path | None
    tables: dict[str, int]
    verdict: dict[str, Any] | None
    synced_from: str | None = None
    placed: tuple[PlacedModel, ...] = ()
    rules: BehaviourRule = field(default_factory=lambda: BehaviourRule(BehaviourConfig()))
    crowd: Crowd | None = None
    classifier: DraftedClassifier | None = None
    classified_by: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[RefusedFacts, ...] = ()
    """Models that a gate kept out before: of a sync, those of the bundle that it carries on from."""
    currency: str | None = None
    """Of items that name none."""
    erasures: Erasures = field(default_factory=lambda: Erasures(None))
    """Who was erased since the crowd was read is asked when the bundle is finished."""
    moments: Mapping[str, Moment] = field(default_factory=dict)
    """What `tables` can be known again by."""

    def sources(self, embedder: PhotoEmbedder | None) -> dict[str, FeatureSource]:
        """The embeddings of the photos, which `embedder` made, for models that learned from them."""
        if self.embeddings is None or embedder is None:
            return {}
        rows = photo_rows(self.items)
        ids = self.items["item_id"].combine_chunks().take(pa.array(rows))
        return {PHOTO: FeatureSource(ids, self.embeddings[rows], embedder.model_hash)}


def refusals(
    draft: Draft, before: Manifest | None, config: PublishConfig, force: bool, model_hash: str | None
) -> list[str]:
    """The refusals that were overridden; `model_hash`: of the model of photos. Raises GateRefused,
    CatalogueShrank."""
    forced: list[str] = []
    trouble = None if model_hash is None else _gate_trouble(draft.verdict, model_hash)
    # A person's decision about a model stands for its syncs: the model is the same.
    decided = before is not None and draft.synced_from == before.id and "gate" in before.forced
    if trouble and not force and not decided:
        raise GateRefused(f"{trouble}; improve it, or publish it all the same with --force")
    if trouble:
        forced.append("gate")
    trouble = _shrink_trouble(draft, before, config.max_shrink)
    if trouble and not force:
        raise CatalogueShrank(f"{trouble}; if that is meant, publish with --force")
    if trouble:
        forced.append("shrink")
    return forced


def _gate_trouble(verdict: dict[str, Any] | None, model_hash: str) -> str | None:
    if verdict is None:
        return "the model was not evaluated: `etalage evaluate image_similarity` first"
    if verdict.get("model_hash", model_hash) != model_hash:
        return "the verdict is about another model: `etalage evaluate image_similarity` first"
    if verdict.get("passed") is not True:
        name, metric = verdict.get("model", "the model"), verdict.get("metric", "its metric")
        return f"{name} does not beat the simple ones at {metric}"
    return None


def _shrink_trouble(draft: Draft, before: Manifest | None, max_shrink: float) -> str | None:
    if before is None:
        return None
    now = {"items": draft.items.num_rows, "items with a photo": len(photo_rows(draft.items))}
    was = {"items": before.items}
    if (
        before.model is not None and before.index.per_category is None
    ):  # else the manifest does not say how many have a photo
        was["items with a photo"] = before.indexed
    for what, count in was.items():
        lost = count - now[what]
        if lost > 0 and lost >= max_shrink * count:
            return (
                f"the catalogue has {now[what]} {what}; bundle {before.id} has {count}: {lost / count:.0%} "
                f"are gone, {max_shrink:.0%} is refused (max_shrink)"
            )
    return None
