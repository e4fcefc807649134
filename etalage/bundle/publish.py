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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from etalage.bundle.admission import PlacedModel, admitted
from etalage.bundle.classifying import classified_facts, judged_classifier, stage_classifier
from etalage.bundle.contents import Progress
from etalage.bundle.durable import Written, seal_file, write_file
from etalage.bundle.files import (
    EMBEDDINGS,
    FUNNEL,
    INDEX,
    ITEMS,
    MODELS,
    PHOTOS,
    SELF_CHECK,
    write_arrow,
    write_npy,
)
from etalage.bundle.indexed import check_norms, indexed_rows, photo_rows
from etalage.bundle.manifest import (
    FORMAT,
    MANIFEST,
    ClassifierFacts,
    Manifest,
    PlacedFacts,
    RefusedFacts,
    seal,
    to_bytes,
)
from etalage.bundle.measured import measured, saved
from etalage.bundle.models import Staging, stage
from etalage.bundle.parts import open_parts, rules_bytes, write_users
from etalage.bundle.pointer import STAGING, Bundles
from etalage.bundle.refusals import Draft, refusals
from etalage.bundle.selfcheck import check_made_by, histories, record, spread
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import GateRefused, IndexMismatch, NothingToPublish, PublishBusy, PublishError
from etalage.index import Index, RecallRow, build, open_index
from etalage.index.contract import Header
from etalage.lake.durable_files import sync_folder
from etalage.runtime.photos import FILES, PhotoEmbedder

__all__ = ["Draft", "PlacedModel", "publish"]

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
    RecallTooLow; `force` overrides all but the first, and the manifest says which. A model of behaviour, or
    a classifier, that the gate refuses is left out, and the manifest says why; where none is left,
    GateRefused. Also
    raises PublishBusy (another publisher), IndexMismatch (embeddings that are not the export's),
    ExportDamaged, and PublishError (the disk): the bundle that was current still is. `progress` is
    called with 1 for each of the steps.
    """
    step = progress or (lambda count: None)
    with bundles.publishing():
        before = _reference(bundles)
        embedder = _check_draft(draft)
        models, refused = admitted(draft.placed, force)
        classifier, kept_out = judged_classifier(draft.classifier, force)
        refused += [*kept_out, *draft.left_out]
        if embedder is None and not models and classifier is None:
            raise GateRefused(f"{refused[0].reason}; nothing else is there to publish, or use --force")
        forced = refusals(draft, before, config, force, None if embedder is None else embedder.model_hash)
        judged_ones = [model for model, _ in models] + ([classifier.model] if classifier else [])
        if any(model.forced for model in judged_ones) and "gate" not in forced:
            forced.insert(0, "gate")
        with _unharmed(bundles):
            with bundles.moving():
                bundles.collect()
            staging = bundles.folder / f"{STAGING}{secrets.token_hex(4)}"
            try:
                written = _stage_payload(draft, staging)
                photos = _stage_photos(bundles, draft, staging, embedder, config, index_config, force, forced)
                written |= photos.written
                step(1)
                # From here on nobody is erased until the bundle is current: of who was erased before it knows
                # nothing, and who is erased after it is told that it knows them (F66).
                with draft.erasures.turn():
                    known = draft.erasures.known()
                    where = None if draft.synced_from is None else bundles.path(draft.synced_from)
                    sources = draft.sources(embedder)
                    laid = Staging(staging, draft.items, sources, index_config, config, where, known)
                    placed, theirs = stage(models, laid, force, forced)
                    written |= theirs
                    facts = None
                    if classifier is not None:
                        facts, theirs = stage_classifier(classifier, staging)
                        written |= theirs
                    content = _content(draft, embedder, photos, placed, facts, refused, forced)
                    crowd = draft.crowd and draft.crowd.without_erased(known)
                    content |= _stage_answers(replace(draft, crowd=crowd), staging, content, written)
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


def _check_draft(draft: Draft) -> PhotoEmbedder | None:
    """Raises NothingToPublish, ExportDamaged, IndexMismatch: a draft that cannot become a bundle."""
    if draft.export is None and not draft.placed and draft.classifier is None:
        raise NothingToPublish("no model: `etalage train` first")
    missing = [name for name in FILES if draft.export is not None and not (draft.export / name).is_file()]
    if missing:
        raise NothingToPublish(f"{draft.export}: no model (no {missing[0]}): `etalage train` first")
    if draft.items.num_rows == 0:
        raise NothingToPublish("the items table is empty: `etalage ingest` first")
    if draft.export is None or draft.embeddings is None:
        return None
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


def _stage_payload(draft: Draft, staging: Path) -> dict[str, Written]:
    """Items, photos and the funnel's settings, written into the new folder `staging`. Raises OSError."""
    staging.mkdir(parents=True)
    return {
        ITEMS: write_file(staging / ITEMS, write_arrow(draft.items)),
        PHOTOS: write_file(staging / PHOTOS, write_arrow(draft.photos)),
        FUNNEL: write_file(staging / FUNNEL, rules_bytes(draft.rules)),
    }


@dataclass(frozen=True)
class _StagedPhotos:
    written: dict[str, Written]
    kind: str
    per_category: int | None
    recall: list[RecallRow]
    indexed: int


def _stage_photos(
    bundles: Bundles,
    draft: Draft,
    staging: Path,
    embedder: PhotoEmbedder | None,
    config: PublishConfig,
    index_config: IndexConfig,
    force: bool,
    forced: list[str],
) -> _StagedPhotos:
    """The model of photos with its embeddings and its index. Raises RecallTooLow, OSError, PublishError."""
    if embedder is None or draft.embeddings is None or draft.export is None:
        return _StagedPhotos({}, "none", None, [], 0)
    index = _built(bundles, draft, embedder, index_config)
    rows = measured(index, draft.embeddings[index.rows], config, index_config, force, forced)
    written = {EMBEDDINGS: write_file(staging / EMBEDDINGS, write_npy(draft.embeddings))}
    model = f"{MODELS}/{embedder.name}"
    (staging / model).mkdir(parents=True)
    for name in FILES:
        content = (draft.export / name).read_bytes()
        written[f"{model}/{name}"] = write_file(staging / model / name, content)
    saved(index, staging / INDEX)
    for file in sorted((staging / INDEX).iterdir()):
        written[f"{INDEX}/{file.name}"] = seal_file(file)
    for folder in (model, MODELS, INDEX):
        sync_folder(staging / folder)
    kind = Header.read(staging / INDEX).kind
    return _StagedPhotos(written, kind, index_config.per_category, rows, len(index))


def _built(bundles: Bundles, draft: Draft, embedder: PhotoEmbedder, config: IndexConfig) -> Index:
    """The index of the rows with a photo; a sync keeps the trained centroids of its bundle."""
    assert draft.embeddings is not None
    rows = indexed_rows(draft.items, config.per_category)
    like: Index | None = None
    if draft.synced_from is not None:
        like = open_index(bundles.path(draft.synced_from) / INDEX)
    return build(rows, draft.embeddings[rows], config, like, model_hash=embedder.model_hash)


def _stage_answers(
    draft: Draft, staging: Path, content: dict[str, Any], written: dict[str, Written]
) -> dict[str, Any]:
    """The shoppers, and the answers of everything as the disk has it; → what is left of the content."""
    unsigned = Manifest.model_validate({**content, **_UNSIGNED})
    parts = open_parts(staging, unsigned, verify=False)
    users = 0
    if draft.crowd is not None:
        users = len(draft.crowd)
        written |= write_users(staging, draft.crowd, draft.rules, next(iter(parts.funnel.embedders), None))
    answers = record(parts, histories(draft.crowd, parts.catalogue))
    written[SELF_CHECK] = write_file(staging / SELF_CHECK, answers)
    files = {name: {"sha256": one.sha256, "bytes": one.bytes} for name, one in sorted(written.items())}
    return {"users": users, "files": files}


_UNSIGNED: dict[str, Any] = {"id": "", "sequence": 1, "created_at": "", "files": {}}


def _content(
    draft: Draft,
    embedder: PhotoEmbedder | None,
    photos: _StagedPhotos,
    placed: list[PlacedFacts],
    classifier: ClassifierFacts | None,
    refused: list[RefusedFacts],
    forced: list[str],
) -> dict[str, Any]:
    """The manifest as far as it is known before the answers are recorded."""
    model = None
    if embedder is not None:
        model = {"name": embedder.name, "hash": embedder.model_hash, "dimension": embedder.dimension}
    classified = classified_facts(dict(draft.classified_by), classifier)
    return {
        "format": FORMAT,
        "tables": draft.tables,
        "moments": {name: asdict(moment) for name, moment in draft.moments.items()},
        "model": model,
        "index": {
            "kind": photos.kind,
            "per_category": photos.per_category,
            "recall": [asdict(row) for row in photos.recall],
        },
        "models": [one.model_dump(mode="json") for one in placed],
        "classifier": None if classifier is None else classifier.model_dump(mode="json"),
        "classified": None if classified is None else classified.model_dump(mode="json"),
        "refused": [one.model_dump(mode="json") for one in refused],
        "items": draft.items.num_rows,
        "indexed": photos.indexed,
        "currency": draft.currency,
        "verdict": draft.verdict,
        "forced": forced,
        "synced_from": draft.synced_from,
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
