"""The photo embedders of a bundle: laid beside its items and indexed at publish, opened and checked at load.

models/<name>/                the export, as it is, and embeddings.npy: of the items' photos, row 0 zeros
indexes/<name>/               those embeddings in an index

N items   D embedding dimension
"""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.bundle.draft import DraftedModel
from etalage.bundle.files import EMBEDDINGS, INDEXES, MODELS, read_embeddings, write_npy
from etalage.bundle.formats import opened_embeddings, opened_index
from etalage.bundle.manifest import ModelEntry
from etalage.bundle.staging import Staging
from etalage.errors import IndexMismatch, NothingToPublish
from etalage.lake.durable_files import write_file
from etalage.runtime.photos import FILES, PhotoEmbedder, PhotoModel

CHECKED_PHOTOS = 8
TOLERANCE = 1e-3
"""How far a number of a unit embedding, or an inner product of two, may be from the recorded one: threads,
batch sizes and processors move the last bits, another model or index moves it by a thousand times more."""


def photo_rows(items: pa.Table) -> np.ndarray:
    """The item rows that have a photo, ascending, int64: those that an index holds."""
    valid = items["photo_sha256"].is_valid().to_numpy()
    return np.flatnonzero(np.asarray(valid, dtype=bool)).astype(np.int64) + 1


def of_rows(items: pa.Table, rows: np.ndarray) -> pa.Table:
    """The items in these rows (K,), none of which is row 0."""
    return items.take(pa.array(rows - 1))


def indexed_rows(items: pa.Table, per_category: int | None) -> np.ndarray:
    """The item rows that the index holds, ascending int64: those with a photo, `per_category` of each.

    Which ones is decided by a hash of the item_id: it does not change as the catalogue grows, but for
    newcomers with a lower hash. Items without a category count as a category of their own.
    """
    rows = photo_rows(items)
    if per_category is None or len(rows) == 0:
        return rows
    some = of_rows(items, rows)
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


# -- publish -----------------------------------------------------------------------------------


def opened_once(model: DraftedModel, model_hash: str, handed: PhotoEmbedder | None) -> PhotoEmbedder:
    """The photo embedder of an export: the one that is open already, where it is of this export.

    Raises NothingToPublish, ExportDamaged.
    """
    missing = [name for name in FILES if not (model.export / name).is_file()]
    if missing:
        raise NothingToPublish(f"{model.export}: no model (no {missing[0]}): `etalage train` first")
    if handed is not None and handed.model_hash == model_hash:
        return handed
    return PhotoEmbedder.open(model.export)


def check_drafted(
    model: DraftedModel,
    embedder: PhotoEmbedder,
    items: pa.Table,
    photos: pa.Table,
    embeddings: np.ndarray | None,
) -> None:
    """Raises NothingToPublish, IndexMismatch: a photo embedder and embeddings (N + 1, D) that cannot become
    part of a bundle of these items."""
    rows = photo_rows(items)
    if len(rows) == 0:
        raise NothingToPublish(f"none of the {items.num_rows} items has a photo that can be used")
    expected = (items.num_rows + 1, embedder.dimension)
    if embeddings is None or embeddings.shape != expected:
        found = "none" if embeddings is None else f"{embeddings.shape}"
        raise IndexMismatch(f"{embedder.name}: embeddings {found}; items and model ask for {expected}")
    check_norms(Path(EMBEDDINGS), embeddings, rows)
    sample = spread(rows, CHECKED_PHOTOS)
    names = of_rows(items, sample)["photo_sha256"].to_pylist()
    place = [photos["sha256"].index(name).as_py() for name in names]
    if min(place) < 0:
        raise IndexMismatch(f"photo {names[place.index(-1)]} of an item is not among the draft's photos")
    some = photos["bytes"].take(pa.array(place)).to_pylist()
    check_made_by(embedder, some, embeddings[sample], str(model.export))


def stage(
    model: DraftedModel, embedder: PhotoEmbedder, embeddings: np.ndarray, staging: Staging
) -> ModelEntry:
    """Write the export with its (N + 1, D) embeddings and their index.

    Raises RecallTooLow, IndexUnavailable, OSError, PublishError.
    """
    name, folder = embedder.name, staging.model_folder(embedder.name)
    staging.copy_export(model.export, FILES, folder)
    write_file(folder / EMBEDDINGS, write_npy(embeddings))
    staging.seal(folder)
    rows = indexed_rows(staging.items, staging.index_config.per_category)
    like = staging.index_before(f"{INDEXES}/{name}", embedder.dimension)
    if like is None:
        like = staging.index_before("index", embedder.dimension)  # as older bundles had it
    return ModelEntry(
        name=name,
        kind="photos",
        role="embedder",
        hash=embedder.model_hash,
        aligned=embedder.model_hash,
        dir=f"{MODELS}/{name}",
        dimension=embedder.dimension,
        verdict=model.verdict,
        forced=model.forced,
        embeddings=f"{MODELS}/{name}/{EMBEDDINGS}",
        index=staging.add_index(name, embeddings, rows, staging.index_config, embedder.model_hash, like=like),
    )


# -- load --------------------------------------------------------------------------------------


def open_photos(folder: Path, entry: ModelEntry, items: pa.Table, threads: int = 1) -> PhotoModel:
    """The photo embedder `entry` of the bundle in `folder`.

    Raises IndexMismatch, ExportDamaged, BundleDamaged.
    """
    export = folder / entry.dir
    embedder = PhotoEmbedder.open(export, threads)
    if embedder.model_hash != entry.hash or embedder.dimension != entry.dimension:
        raise IndexMismatch(
            f"{export}: model {embedder.model_hash[:12]} of dimension {embedder.dimension}; the manifest "
            f"says {entry.hash[:12]} of dimension {entry.dimension}; publish again"
        )
    if entry.embeddings is None or entry.index is None:
        raise IndexMismatch(f"{export}: the manifest names no embeddings, or no index of them; publish again")
    embeddings = opened_embeddings(read_embeddings(folder, entry.embeddings), entry.index.first_row)
    if embeddings.shape != (items.num_rows + 1, entry.dimension):
        raise IndexMismatch(
            f"{folder / entry.embeddings}: shape {embeddings.shape} for {items.num_rows} items and a model "
            f"of dimension {entry.dimension}; publish again"
        )
    check_norms(folder / entry.embeddings, embeddings, photo_rows(items))
    where = folder / entry.index.dir
    index = opened_index(
        where,
        entry.index.first_row,
        threads,
        model_hash=entry.hash,
        dimension=entry.dimension,
        embeddings=embeddings,
    )
    expected = indexed_rows(items, entry.index.per_category)
    if not np.array_equal(index.rows, expected) or len(expected) != entry.index.indexed:
        raise IndexMismatch(
            f"{where}: {len(index)} items; {len(expected)} are to be in it, the manifest says "
            f"{entry.index.indexed}; publish again"
        )
    return PhotoModel(embedder, embeddings, index, entry.index.per_category, calibrated(entry))


def calibrated(entry: ModelEntry) -> float | None:
    """The similarity from which on two photos match, by the entry's verdict; None: it has none."""
    kept = (entry.verdict or {}).get("match")
    score = kept.get("score") if isinstance(kept, dict) else None
    return float(score) if isinstance(score, int | float) else None


# -- the same model, the same embeddings -------------------------------------------------------


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, evenly spaced: the same ones every time."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def check_made_by(embedder: PhotoEmbedder, photos: list[bytes], embeddings: np.ndarray, where: str) -> None:
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
