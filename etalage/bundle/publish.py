"""Draft → bundle: an immutable folder, manifest last, everything fsynced, one atomic pointer.

The order is what makes a kill at any moment harmless:

1. everything is written into `.staging-<random>`: files fsynced and read-only, then the folders;
2. the manifest, last, fsynced: before it the folder is no bundle;
3. the folder is renamed to the bundle's id, and `bundles/` fsynced;
4. the log says what comes, then the pointer is replaced by one rename;
5. bundles beyond `keep` are renamed away and removed.

A kill in 1 and 2 leaves a staging folder that the next publish collects. A kill between 3 and 4
leaves a whole bundle that is not current: it stays (`etalage rollback ID` can pick it), counts for
the numbering, and goes with the old ones. A kill in 5 leaves a folder named `.removing-…`, collected.
"""

import errno
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from etalage.bundle.contents import Progress
from etalage.bundle.durable import Written, seal_file, sync_folder, write_file
from etalage.bundle.files import EMBEDDINGS, INDEX, ITEMS, MODELS, PHOTOS, SELF_CHECK, write_arrow, write_npy
from etalage.bundle.manifest import FORMAT, MANIFEST, Manifest, seal, to_bytes
from etalage.bundle.pointer import STAGING, Bundles
from etalage.bundle.refusals import Draft, refusals
from etalage.bundle.runtime import FILES, PhotoEmbedder
from etalage.bundle.selfcheck import check_made_by, check_norms, indexed_rows, photo_rows, record, spread
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import (
    IndexMismatch,
    NothingToPublish,
    PublishBusy,
    PublishError,
    RecallTooLow,
)
from etalage.index import Index, RecallRow, build, open_index, probing_queries, recall
from etalage.index.contract import Header

__all__ = ["Draft", "publish"]

RECALL_QUERIES = 500
CHECKED_PHOTOS = 8


def publish(
    bundles: Bundles,
    draft: Draft,
    *,
    config: PublishConfig,
    index_config: IndexConfig,
    force: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write `draft` as a new bundle and make it current.

    Refused before the pointer moves, in this order: NothingToPublish, GateRefused, CatalogueShrank,
    RecallTooLow; `force` overrides all but the first, and the manifest says which. Also raises
    PublishBusy (another publisher), IndexMismatch (embeddings that are not the export's), and
    PublishError (the disk): the bundle that was current still is. `progress` is called with 1 for
    each of the steps.
    """
    step = progress or (lambda count: None)
    with bundles.publishing():
        before = _reference(bundles)
        embedder = _check_draft(draft)
        forced = refusals(draft, before, config, force, embedder.model_hash)
        with _unharmed(bundles):
            with bundles.moving():
                bundles.collect()
            staging = bundles.folder / f"{STAGING}{secrets.token_hex(4)}"
            try:
                index = _built(bundles, draft, embedder, index_config)
                measured = _measured(index, draft, config, index_config, force, forced)
                step(1)
                written = _stage(draft, staging, embedder, index)
                facts: dict[str, Any] = {"kind": Header.read(staging / INDEX).kind}
                facts |= {
                    "per_category": index_config.per_category,
                    "recall": [asdict(row) for row in measured],
                }
                content = _content(draft, embedder, facts, len(index), forced, written)
                step(1)
                manifest = _release(bundles, staging, content, draft.synced_from)
                step(1)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        _retire(bundles, config.keep, manifest)
    return manifest


def _reference(bundles: Bundles) -> Manifest | None:
    """The bundle to compare with: the current one, else (pointer or bundle damaged) the newest whole."""
    listed = bundles.survey()
    whole = [one for one in listed if one.manifest is not None]
    current = [one for one in whole if one.current]
    chosen = current or whole
    return chosen[-1].manifest if chosen else None


def _check_draft(draft: Draft) -> PhotoEmbedder:
    """Raises NothingToPublish, ExportDamaged, IndexMismatch: a draft that cannot become a bundle."""
    missing = [name for name in FILES if not (draft.export / name).is_file()]
    if missing:
        raise NothingToPublish(f"{draft.export}: no model (no {missing[0]}): `etalage train` first")
    if draft.items.num_rows == 0:
        raise NothingToPublish("the items table is empty: `etalage ingest` first")
    rows = photo_rows(draft.items)
    if len(rows) == 0:
        raise NothingToPublish(f"none of the {draft.items.num_rows} items has a photo that can be used")
    embedder = PhotoEmbedder.open(draft.export)
    expected = (draft.items.num_rows, embedder.dimension)
    if draft.embeddings.shape != expected:
        raise IndexMismatch(f"embeddings {draft.embeddings.shape}; items and model ask for {expected}")
    check_norms(Path(EMBEDDINGS), draft.embeddings, rows)
    sample = spread(rows, CHECKED_PHOTOS)
    names = draft.items["photo_sha256"].take(pa.array(sample)).to_pylist()
    place = [draft.photos["sha256"].index(name).as_py() for name in names]
    if min(place) < 0:
        raise IndexMismatch(f"photo {names[place.index(-1)]} of an item is not among the draft's photos")
    photos = draft.photos["bytes"].take(pa.array(place)).to_pylist()
    check_made_by(embedder, photos, draft.embeddings[sample], str(draft.export))
    return embedder


def _built(bundles: Bundles, draft: Draft, embedder: PhotoEmbedder, config: IndexConfig) -> Index:
    """The index of the rows with a photo; a sync keeps the trained centroids of its bundle."""
    rows = indexed_rows(draft.items, config.per_category)
    like: Index | None = None
    if draft.synced_from is not None:
        like = open_index(bundles.path(draft.synced_from) / INDEX)
    return build(rows, draft.embeddings[rows], config, like, model_hash=embedder.model_hash)


def _measured(
    index: Index,
    draft: Draft,
    config: PublishConfig,
    index_config: IndexConfig,
    force: bool,
    forced: list[str],
) -> list[RecallRow]:
    """Recall against the exact index, filters included; an exact one needs no measuring.

    Raises RecallTooLow; with `force`, adds to `forced` instead.
    """
    if index.is_exact:
        return [RecallRow(None, config.recall_k, 1.0, 0)]
    rows = index.rows
    exact = build(rows, draft.embeddings[rows], index_config.model_copy(update={"kind": "exact"}))
    queries = probing_queries(draft.embeddings[rows], RECALL_QUERIES)
    measured = recall(index, exact, queries, config.recall_k)
    worst = min(measured, key=lambda row: row.recall)
    if worst.recall < config.min_recall:
        if not force:
            share = "" if worst.share is None else f" with {worst.share:.0%} of the items allowed"
            raise RecallTooLow(
                f"the index finds {worst.recall:.3f} of what the exact one finds{share}; min_recall asks for "
                f"{config.min_recall:.3f}: raise index.probes, set index.kind = 'exact', or --force"
            )
        forced.append("recall")
    return measured


def _stage(draft: Draft, staging: Path, embedder: PhotoEmbedder, index: Index) -> dict[str, Written]:
    """Write everything but the manifest into `staging`, durably. Raises OSError, PublishError."""
    model = f"{MODELS}/{embedder.name}"
    (staging / model).mkdir(parents=True)
    written = {
        ITEMS: write_file(staging / ITEMS, write_arrow(draft.items)),
        PHOTOS: write_file(staging / PHOTOS, write_arrow(draft.photos)),
        EMBEDDINGS: write_file(staging / EMBEDDINGS, write_npy(draft.embeddings)),
    }
    for name in FILES:
        content = (draft.export / name).read_bytes()
        written[f"{model}/{name}"] = write_file(staging / model / name, content)
    reopened = _saved(index, staging / INDEX)
    for file in sorted((staging / INDEX).iterdir()):
        written[f"{INDEX}/{file.name}"] = seal_file(file)
    answers = record(draft.items, draft.embeddings, reopened)
    written[SELF_CHECK] = write_file(staging / SELF_CHECK, answers)
    for folder in (model, MODELS, INDEX):
        sync_folder(staging / folder)
    return written


def _saved(index: Index, folder: Path) -> Index:
    """The index as the disk has it. faiss tells of some failed writes only by a short file."""
    try:
        index.save(folder)
        return open_index(folder, model_hash=index.model_hash, dimension=index.dimension)
    except (RuntimeError, IndexMismatch) as error:
        raise PublishError(
            f"the index could not be written: {error}; is the disk full? Free some space and publish again"
        ) from error


def _content(
    draft: Draft,
    embedder: PhotoEmbedder,
    index: dict[str, Any],
    indexed: int,
    forced: list[str],
    written: dict[str, Written],
) -> dict[str, Any]:
    """The manifest as far as it is known before the pointer is locked."""
    return {
        "format": FORMAT,
        "tables": draft.tables,
        "model": {"name": embedder.name, "hash": embedder.model_hash, "dimension": embedder.dimension},
        "index": index,
        "items": draft.items.num_rows,
        "indexed": indexed,
        "verdict": draft.verdict,
        "forced": forced,
        "synced_from": draft.synced_from,
        "files": {name: {"sha256": one.sha256, "bytes": one.bytes} for name, one in sorted(written.items())},
    }


def _release(bundles: Bundles, staging: Path, content: dict[str, Any], synced_from: str | None) -> Manifest:
    """Manifest, rename, pointer: under the lock that rollbacks take too. Raises OSError: not moved."""
    with bundles.moving():
        before = bundles.pointed()
        if synced_from is not None and before != synced_from:
            raise PublishBusy(
                f"while this sync of {synced_from} was at work, {before} was made current; nothing was "
                "published: run `etalage sync` again"
            )
        facts = {"sequence": bundles.next_sequence(), "created_at": bundles.now(), "previous": before}
        manifest = seal({**content, **facts})
        write_file(staging / MANIFEST, to_bytes(manifest))
        sync_folder(staging)
        final = bundles.folder / manifest.id
        staging.rename(final)
        try:
            sync_folder(bundles.folder)
            bundles.point(manifest.id, "publish" if synced_from is None else "sync")
        except OSError:
            if bundles.pointed() != manifest.id:
                final.rename(staging)  # collected with the rest of the failed publish
            raise
    return manifest


@contextmanager
def _unharmed(bundles: Bundles) -> Iterator[None]:
    """An OSError inside becomes a PublishError that says what is still current."""
    try:
        yield
    except OSError as error:
        current = bundles.pointed()
        still = f"bundle {current} is still current" if current else "no bundle is current, as before"
        space = "free some space and " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
        where = f" ({error.filename})" if error.filename else ""
        raise PublishError(
            f"publish failed: {error.strerror or error}{where}; {still}; {space}publish again"
        ) from error


def _retire(bundles: Bundles, keep: int, manifest: Manifest) -> None:
    # The new bundle is current already: what cannot be removed now is removed by the next publish.
    with suppress(OSError, PublishBusy, PublishError), bundles.moving():
        bundles.retain(keep, manifest.id, manifest.previous)
