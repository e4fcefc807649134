"""Small whole shops for tests: a filled lake and a first published bundle, with no training."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from etalage.bundle.contents import embed, gather, gather_crowd
from etalage.bundle.draft import Draft, DraftedModel
from etalage.bundle.manifest import Manifest
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.config import BehaviourConfig, FunnelConfig, IndexConfig, PublishConfig
from etalage.features.history import BehaviourRule
from etalage.lake.delta import Lake
from etalage.lake.schema import TABLES
from etalage.runtime.export_files import read_facts
from etalage.runtime.photos import PhotoEmbedder
from tests.behaviour_exports import embedding_export, item_item_export, prior_export
from tests.exports import tiny_export

CATEGORIES = ("Clothing > Dresses", "Clothing > Shirts > Short sleeves", "Shoes > Boots", "Bags")
BRANDS = ("Ardent", "Bellamy", "Corvo")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSED: dict[str, Any] = {
    "model": "image_similarity",
    "role": "embedder",
    "metric": "precision_at_5",
    "passed": True,
    "rows": [],
}


def drawn_photo(number: int, size: int = 28) -> bytes:
    """A PNG that looks like no other number's: asymmetric in both axes and in its grey levels."""
    generator = np.random.default_rng(number)
    image = Image.new("L", (size, size), int(generator.integers(0, 90)))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = (int(v) for v in generator.integers(0, size - 8, 2))
        wide, high = (int(v) for v in generator.integers(4, size // 2, 2))
        draw.rectangle((x, y, x + wide, y + high), fill=int(generator.integers(60, 256)))
    draw.line((0, size - 3, size // 3, size - 1), fill=255 - number % 200)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def item_row(number: int, **changed: Any) -> dict[str, Any]:
    """The row of item `number`: every fifth out of stock, prices all different."""
    row: dict[str, Any] = {
        "item_id": f"item-{number:05d}",
        "title": f"Piece {number}",
        "description": f"The piece with number {number}",
        "brand": BRANDS[number % len(BRANDS)],
        "price": 5.0 + number * 1.25,
        "currency": "EUR",
        "category_id": CATEGORIES[number % len(CATEGORIES)],
        "photo_url": f"drawn://{number}",
        "in_stock": number % 5 != 0,
        "attributes": '{"split": "train"}',
        "updated_at": NOON,
    }
    return {**row, **changed}


def photo_row(number: int, content: bytes | None = None, **changed: Any) -> dict[str, Any]:
    """The row of item `number`'s photo: `content`, or its drawing."""
    photo = drawn_photo(number) if content is None else content
    row: dict[str, Any] = {
        "item_id": f"item-{number:05d}",
        "url": f"drawn://{number}",
        "status": "ok",
        "bytes": photo,
        "width": 28,
        "height": 28,
        "sha256": hashlib.sha256(photo).hexdigest(),
        "phash": None,
        "fetched_at": NOON,
    }
    return {**row, **changed}


def rows_of(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as the table's Arrow schema has them."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=TABLES[table].schema)


def fill(lake: Lake, numbers: Sequence[int], photos: Sequence[int] | None = None) -> None:
    """Merge the items `numbers`, with photos of all or of those in `photos`."""
    lake.table("items").merge(rows_of("items", [item_row(n) for n in numbers]))
    drawn = list(numbers if photos is None else photos)
    if drawn:
        lake.table("photos").merge(rows_of("photos", [photo_row(n) for n in drawn]))


def interact(lake: Lake, acts: Sequence[tuple[int, str]]) -> None:
    """Merge interactions (item number, kind), one user each."""
    rows = [
        {
            "interaction_id": f"act-{at}-{number}-{kind}",
            "user_id": f"user-{at}",
            "item_id": f"item-{number:05d}",
            "kind": kind,
            "value": 1.0,
            "time": NOON,
        }
        for at, (number, kind) in enumerate(acts)
    ]
    lake.table("interactions").merge(rows_of("interactions", rows))


def drafted(lake: Lake, export: Path, verdict: dict[str, Any] | None = PASSED) -> Draft:
    """Gather and embed the lake as it is now."""
    embedded = embed(gather(lake), PhotoEmbedder.open(export))
    payload = embedded.payload
    return Draft(
        payload.items,
        payload.photos,
        payload.versions,
        (DraftedModel(export, verdict),),
        {read_facts(export)["name"]: embedded.embeddings},
        moments=payload.moments,
    )


PHOTO_MODEL = "models/image_similarity"
PHOTO_EMBEDDINGS, PHOTO_INDEX = f"{PHOTO_MODEL}/embeddings.npy", "indexes/image_similarity"


def changed(draft: Draft, embeddings: np.ndarray | None = None, **model: Any) -> Draft:
    """The draft with other facts (export, verdict …) of its one photo embedder, or other embeddings."""
    (one,), ((name, own),) = draft.models, draft.embeddings.items()
    made = {name: own if embeddings is None else embeddings}
    return replace(draft, models=(replace(one, **model),), embeddings=made)


def embeddings_of(draft: Draft) -> np.ndarray:
    """(N, D) of the draft's one photo embedder."""
    (found,) = draft.embeddings.values()
    return found


def published(
    lake: Lake,
    bundles: Bundles,
    export: Path,
    *,
    config: PublishConfig | None = None,
    index_config: IndexConfig | None = None,
    force: bool = False,
) -> Manifest:
    """Publish the lake as it is now, whole."""
    draft = drafted(lake, export)
    return publish(
        bundles,
        draft,
        config=config or PublishConfig(),
        index_config=index_config or IndexConfig(),
        force=force,
    )


def small_shop(
    folder: Path,
    items: int = 40,
    *,
    without_photo: Sequence[int] = (),
    size: int = 28,
    channels: int = 1,
    dimension: int = 16,
    seed: int = 0,
    index_config: IndexConfig | None = None,
) -> tuple[Lake, Bundles, Manifest]:
    """A shop folder with `items` items (ids item-00000 …), some interactions, one bundle.

    `folder` gets tables/, exports/image_similarity/0001-tiny/ and bundles/.
    """
    lake = Lake(folder / "tables")
    fill(lake, range(items), [n for n in range(items) if n not in set(without_photo)])
    interact(lake, [(1, "view"), (1, "buy"), (3, "cart"), (items - 1, "view"), (3, "wish")])
    export = tiny_export(
        folder / "exports" / "image_similarity" / "0001-tiny", size, channels, dimension, seed
    )
    bundles = Bundles(folder / "bundles")
    return lake, bundles, published(lake, bundles, export, index_config=index_config)


# -- behaviour ---------------------------------------------------------------------------------


def act_rows(acts: Sequence[tuple[str, int, str]]) -> list[dict[str, Any]]:
    """Interactions (user_id, item number, kind), a minute apart."""
    return [
        {
            "interaction_id": f"{at:06d}",
            "user_id": user_id,
            "item_id": f"item-{number:05d}",
            "kind": kind,
            "value": None,
            "time": NOON + timedelta(minutes=at),
        }
        for at, (user_id, number, kind) in enumerate(acts)
    ]


def neighbours(items: int) -> np.ndarray:
    """(N, N): item n speaks for n + 1 (0.9), n + 2 (0.5) and n + 7 (0.3), round the end."""
    matrix = np.zeros((items, items), np.float32)
    every = np.arange(items)
    for step, weight in ((1, 0.9), (2, 0.5), (7, 0.3)):
        matrix[every, (every + step) % items] = weight
    return matrix


def circle(items: int, dimension: int = 8) -> np.ndarray:
    """(N, D) embeddings of lengths 1 … 2 that turn slowly with the item's number."""
    angle = 2 * np.pi * np.arange(items)[:, None] / items * np.arange(1, dimension // 2 + 1)
    turned = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) / np.sqrt(dimension / 2)
    return (turned * (1 + np.arange(items)[:, None] / items)).astype(np.float32)


def behaviour_exports(folder: Path, items: int) -> dict[str, Path]:
    """Exports of popularity (the highest number first), item_knn (`neighbours`) and two_tower (`circle`),
    where a shop has them."""
    ids = [f"item-{n:05d}" for n in range(items)]
    return {
        "popularity": prior_export(folder / "popularity" / "0001-tiny", ids, [1.0 + n for n in range(items)]),
        "item_knn": item_item_export(folder / "item_knn" / "0001-tiny", ids, neighbours(items)),
        "two_tower": embedding_export(folder / "two_tower" / "0001-tiny", ids, circle(items)),
    }


def behaviour_shop(
    folder: Path,
    items: int = 40,
    *,
    photos: bool = False,
    models: Sequence[str] = ("two_tower", "item_knn", "popularity"),
    funnel: FunnelConfig | None = None,
    behaviour: BehaviourConfig | None = None,
    extra: Sequence[DraftedModel] = (),
    passed: bool = True,
    force: bool = False,
    index_config: IndexConfig | None = None,
    classifier: DraftedModel | None = None,
) -> tuple[Lake, Bundles, Manifest]:
    """A shop whose shoppers `user-0` … `user-5` each bought some items in a row, and one bundle."""
    lake = Lake(folder / "tables")
    fill(lake, range(items), range(items) if photos else [])
    acts = [
        (f"user-{user}", (5 * user + step) % items, "buy") for user in range(6) for step in range(3 + user)
    ]
    lake.table("interactions").merge(rows_of("interactions", act_rows(acts)))
    exports = behaviour_exports(folder / "exports", items)
    rules = BehaviourRule(behaviour or BehaviourConfig(), funnel or FunnelConfig())
    payload, embeddings, content = gather(lake), {}, []
    if photos:
        export = tiny_export(folder / "exports" / "image_similarity" / "0001-tiny")
        embedder = PhotoEmbedder.open(export)
        done = embed(payload, embedder)
        payload, embeddings = done.payload, {embedder.name: done.embeddings}
        content = [DraftedModel(export, PASSED)]
    content += [classifier] if classifier is not None else []
    verdict = {"passed": passed, "metric": "recall_at_10"}
    drafted_models = [
        DraftedModel(exports[name], verdict if name == "two_tower" else None) for name in models
    ]
    draft = Draft(
        payload.items,
        payload.photos,
        payload.versions,
        (*drafted_models, *extra, *content),
        embeddings,
        rules=rules,
        crowd=gather_crowd(lake, lake.versions(), rules),
        classified_by=payload.classified_by,
        moments=payload.moments,
    )
    bundles = Bundles(folder / "bundles")
    config = PublishConfig()
    return (
        lake,
        bundles,
        publish(bundles, draft, config=config, index_config=index_config or IndexConfig(), force=force),
    )
