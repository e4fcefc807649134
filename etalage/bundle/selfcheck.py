"""Does the bundle still answer as it did when it was published?

`selfcheck.json` records, for a few dozen items, what a real search of the written index found, and
for a few photos that the model made the stored embedding of them. At load both are done again: an
index, embeddings or a model of another bundle cannot pass, whatever its files' hashes say.

    Q queries   D embedding dimension   k answers a query
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etalage.bundle.files import (
    EMBEDDINGS,
    INDEX,
    ITEMS,
    MODELS,
    PHOTOS,
    SELF_CHECK,
    read_arrow,
    read_embeddings,
)
from etalage.bundle.manifest import Manifest
from etalage.errors import BundleDamaged, IndexMismatch
from etalage.index import Index, open_index

if TYPE_CHECKING:
    from etalage.bundle.runtime import PhotoEmbedder

QUERIES, ANSWERS, PHOTO_QUERIES = 32, 10, 4
TOLERANCE = 1e-3
"""How far a score (an inner product of unit embeddings) may be from the recorded one: threads, batch
sizes and processors move the last bits, another model or index moves it by a thousand times more."""


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, evenly spaced: the same ones every time."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def record(items: pa.Table, embeddings: np.ndarray, index: Index) -> bytes:
    """The content of selfcheck.json: answers of `index` to some of its items."""
    rows = index.rows
    queries = spread(rows, QUERIES)
    ids = items["item_id"]
    k = max(1, min(ANSWERS, len(rows)))
    answers = []
    if len(queries):
        found = index.search(np.ascontiguousarray(embeddings[queries]), k)
        for query, scores, best in zip(queries, found.scores, found.rows, strict=True):
            slate = [
                [ids[int(row)].as_py(), round(float(score), 6)]
                for row, score in zip(best, scores, strict=True)
                if row >= 0
            ]
            answers.append({"item_id": ids[int(query)].as_py(), "answers": slate})
    photos = [ids[int(row)].as_py() for row in spread(rows, PHOTO_QUERIES)]
    return (json.dumps({"k": k, "queries": answers, "photos": photos}, indent=1) + "\n").encode()


def self_check(
    folder: Path, manifest: Manifest, index: Index, embedder: "PhotoEmbedder | None" = None
) -> None:
    """Search and embed again what selfcheck.json recorded, and compare.

    Raises BundleDamaged (a different answer, an unreadable record) or IndexMismatch (the model does
    not make the stored embeddings). Without `embedder` the photos are left out.
    """
    try:
        recorded = json.loads((folder / SELF_CHECK).read_bytes())
        ids = read_arrow(folder / ITEMS)["item_id"].to_pylist()
        row_of = {item_id: row for row, item_id in enumerate(ids)}
        embeddings = read_embeddings(folder)
        _check_answers(recorded, row_of, ids, embeddings, index)
        if embedder is not None:
            _check_photos(folder, [row_of[item_id] for item_id in recorded["photos"]], embeddings, embedder)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise BundleDamaged(
            f"{folder / SELF_CHECK} of {manifest.id} cannot be used: {error!r}; publish again"
        ) from error


def _check_answers(
    recorded: dict[str, Any], row_of: dict[str, int], ids: list[str], embeddings: np.ndarray, index: Index
) -> None:
    queries = recorded["queries"]
    if not queries:
        return
    rows = np.array([row_of[query["item_id"]] for query in queries])
    found = index.search(np.ascontiguousarray(embeddings[rows]), int(recorded["k"]))
    for query, scores, best in zip(queries, found.scores, found.rows, strict=True):
        expected = np.array([score for _, score in query["answers"]])
        scores = scores[best >= 0]
        if len(scores) != len(expected) or np.abs(scores - expected).max(initial=0) > TOLERANCE:
            raise BundleDamaged(
                f"self-check: the answer to item {query['item_id']!r} is not the recorded one: scores "
                f"{np.round(scores[:3], 4).tolist()}, recorded {expected[:3].tolist()}; publish again"
            )
        # Below the last score stands a tie that may be cut elsewhere; above it every item must be there.
        must = {item_id for item_id, score in query["answers"] if score > expected[-1] + TOLERANCE}
        gone = must - {ids[int(row)] for row in best if row >= 0}
        if gone:
            raise BundleDamaged(
                f"self-check: the answer to item {query['item_id']!r} lacks {sorted(gone)[:3]}; publish again"
            )


def _check_photos(folder: Path, rows: list[int], embeddings: np.ndarray, embedder: "PhotoEmbedder") -> None:
    if not rows:
        return
    names = read_arrow(folder / ITEMS)["photo_sha256"].take(pa.array(rows)).to_pylist()
    stored = read_arrow(folder / PHOTOS)
    place = [stored["sha256"].index(name).as_py() for name in names]
    check_made_by(embedder, stored["bytes"].take(pa.array(place)).to_pylist(), embeddings[rows], str(folder))


def check_made_by(embedder: "PhotoEmbedder", photos: list[bytes], embeddings: np.ndarray, where: str) -> None:
    """Raises IndexMismatch unless `embedder` makes `embeddings` (B, D) of the B `photos`."""
    made = embedder.embed(photos)
    if made.shape != embeddings.shape:
        raise IndexMismatch(
            f"{where}: the embeddings have {embeddings.shape[-1]} numbers, the model {embedder.name} makes "
            f"{made.shape[-1]}; publish again"
        )
    worst = float(np.abs(made - embeddings).max(initial=0))
    if not worst <= TOLERANCE:
        raise IndexMismatch(
            f"{where}: model {embedder.name} does not make the stored embeddings (off by {worst:.2g}); "
            "they are another model's: publish again"
        )


def check_consistency(folder: Path, manifest: Manifest) -> None:
    """Do the parts of the bundle belong together? Sizes, types, norms and the model's hash.

    Reads only; call it after `verify`. Raises IndexMismatch or BundleDamaged with the file's name.
    """
    from etalage.bundle.runtime import PhotoEmbedder

    model = manifest.model
    export = folder / MODELS / model.name
    embedder = PhotoEmbedder.open(export)
    if embedder.model_hash != model.hash or embedder.dimension != model.dimension:
        raise IndexMismatch(
            f"{export}: model {embedder.model_hash[:12]} of dimension {embedder.dimension}; the manifest "
            f"says {model.hash[:12]} of dimension {model.dimension}; publish again"
        )
    embeddings, items = read_embeddings(folder), read_arrow(folder / ITEMS)
    if items.num_rows != manifest.items or embeddings.shape != (manifest.items, model.dimension):
        raise IndexMismatch(
            f"{folder / EMBEDDINGS}: shape {embeddings.shape} for {items.num_rows} items and a model of "
            f"dimension {model.dimension}; the manifest says {manifest.items} items; publish again"
        )
    rows = photo_rows(items)
    check_norms(folder / EMBEDDINGS, embeddings, rows)
    index = open_index(folder / INDEX, model_hash=model.hash, dimension=model.dimension)
    expected = indexed_rows(items, manifest.index.per_category)
    if not np.array_equal(index.rows, expected) or len(expected) != manifest.indexed:
        raise IndexMismatch(
            f"{folder / INDEX}: {len(index)} items; {len(expected)} are to be in it, the manifest says "
            f"{manifest.indexed}; publish again"
        )
    self_check(folder, manifest, index, embedder)


def photo_rows(items: pa.Table) -> np.ndarray:
    """The item_rows that have a photo, ascending, int64: those that an index holds."""
    valid = items["photo_sha256"].is_valid().to_numpy()
    return np.flatnonzero(np.asarray(valid, dtype=bool)).astype(np.int64)


def indexed_rows(items: pa.Table, per_category: int | None) -> np.ndarray:
    """The item_rows that the index holds, ascending int64: those with a photo, `per_category` of each.

    Which ones is decided by a hash of the item_id: it does not change as the catalogue grows, but for
    newcomers with a lower hash. Items without a category count as a category of their own.
    """
    rows = photo_rows(items)
    if per_category is None or len(rows) == 0:
        return rows
    some = items.take(pa.array(rows))
    draws = [hashlib.blake2b(i.encode(), digest_size=8).digest() for i in some["item_id"].to_pylist()]
    order = np.argsort(np.array([int.from_bytes(draw, "big") for draw in draws], np.uint64), kind="stable")
    categories = np.array([name or "" for name in some["category_id"].to_pylist()])[order]
    by_category = np.argsort(categories, kind="stable")
    starts = np.flatnonzero(np.append(True, categories[by_category][1:] != categories[by_category][:-1]))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return np.sort(rows[order[by_category[place < per_category]]])


def check_norms(where: Path, embeddings: np.ndarray, rows: np.ndarray) -> None:
    """Raises IndexMismatch unless rows `rows` have length 1 within TOLERANCE, and all are finite."""
    for start in range(0, len(rows), 65536):
        block = embeddings[rows[start : start + 65536]]
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = ~(np.abs(np.linalg.norm(block, axis=1) - 1) <= TOLERANCE)
        if wrong.any():
            row = int(rows[start + int(np.argmax(wrong))])
            raise IndexMismatch(f"{where}: row {row} is not of length 1; embed and publish again")
