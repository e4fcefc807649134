"""What a bundle is made of, and the reasons not to publish it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.bundle.manifest import Manifest
from etalage.bundle.selfcheck import photo_rows
from etalage.config import PublishConfig
from etalage.errors import CatalogueShrank, GateRefused


@dataclass(frozen=True)
class Draft:
    """What a bundle is made of.

    `items` (N rows) and `photos` as in contents.Payload; `embeddings` (N, D) float32, zeros where an
    item has no photo; `export` the model's folder; `tables` the versions; `verdict` the gate's;
    `synced_from` the bundle that a sync carried on from.
    """

    items: pa.Table
    photos: pa.Table
    embeddings: np.ndarray
    export: Path
    tables: dict[str, int]
    verdict: dict[str, Any] | None
    synced_from: str | None = None


def refusals(
    draft: Draft, before: Manifest | None, config: PublishConfig, force: bool, model_hash: str
) -> list[str]:
    """The refusals that were overridden. Raises GateRefused, CatalogueShrank."""
    forced: list[str] = []
    trouble = _gate_trouble(draft.verdict, model_hash)
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
        return "the model was not evaluated: `etalage evaluate` first"
    if verdict.get("model_hash", model_hash) != model_hash:
        return "the verdict is about another model: `etalage evaluate` this one first"
    if verdict.get("passed") is not True:
        name, metric = verdict.get("model", "the model"), verdict.get("metric", "its metric")
        return f"{name} does not beat the simple ones at {metric}"
    return None


def _shrink_trouble(draft: Draft, before: Manifest | None, max_shrink: float) -> str | None:
    if before is None:
        return None
    now = {"items": draft.items.num_rows, "items with a photo": len(photo_rows(draft.items))}
    was = {"items": before.items}
    if before.index.per_category is None:  # else the manifest does not say how many have a photo
        was["items with a photo"] = before.indexed
    for what, count in was.items():
        lost = count - now[what]
        if lost > 0 and lost >= max_shrink * count:
            return (
                f"the catalogue has {now[what]} {what}; bundle {before.id} has {count}: {lost / count:.0%} "
                f"are gone, {max_shrink:.0%} is refused (max_shrink)"
            )
    return None
