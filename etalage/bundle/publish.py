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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from etalage.bundle import behaviour_entries, classifier_entries, photo_entries, text_entries
from etalage.bundle.admission import FLOOR, admitted
from etalage.bundle.collections import Collections
from etalage.bundle.contents import Progress
from etalage.bundle.draft import Draft, DraftedModel, speaking, without_erased
from etalage.bundle.files import FUNNEL, ITEMS, PHOTOS, SELF_CHECK, write_arrow
from etalage.bundle.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    ModelEntry,
    RefusedFacts,
    seal,
    to_bytes,
)
from etalage.bundle.opening import open_bundle, rules_bytes, write_users
from etalage.bundle.photo_entries import photo_rows
from etalage.bundle.pointer import STAGING, Bundles
from etalage.bundle.selfcheck import histories, record
from etalage.bundle.staging import Staging
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import (
    CatalogueShrank,
    GateRefused,
    IndexUnavailable,
    NothingToPublish,
    ObjectStoreError,
    PublishBusy,
    PublishError,
)
from etalage.features.array_blocks import ArrayLoop
from etalage.index.milvus import Spread
from etalage.lake.durable_files import sync_folder, write_file
from etalage.runtime.export_files import export_kind
from etalage.runtime.photos import PhotoEmbedder

__all__ = ["Draft", "DraftedModel", "publish"]


def publish(
    bundles: Bundles,
    draft: Draft,
    *,
    config: PublishConfig,
    index_config: IndexConfig,
    force: bool = False,
    progress: Progress | None = None,
    blocks: ArrayLoop | None = None,
    spread: Spread = map,
) -> Manifest:
    """Write `draft` as a new bundle and make it current.

    Refused before the pointer moves, in this order: NothingToPublish, GateRefused, CatalogueShrank,
    RecallTooLow; `force` overrides all but the first, and the manifest says which. A model that the gate
    refuses, of whatever kind, is left out, and the manifest says why; where none is left, GateRefused. Also
    raises PublishBusy (another publisher), IndexMismatch (embeddings that are not the export's),
    ExportDamaged, IndexUnavailable (the vector database), and PublishError (the disk): the bundle that was
    current still is. `progress` is called with 1 for each of the steps. spread: who writes into a vector
    database, such as an engine's `map`. blocks: where blocks of an index are built; None: in this process.
    """
    step = progress or (lambda count: None)
    with bundles.publishing():
        before = _reference(bundles)
        if not draft.models:
            raise NothingToPublish("no model: `etalage train` first")
        if draft.items.num_rows == 0:
            raise NothingToPublish("the items table is empty: `etalage ingest` first")
        models, refused = admitted(draft.models, force)
        embedders = _embedders(draft, models)
        if not models:
            raise GateRefused(_nothing_left(refused))
        forced = require_whole(draft, before, config, force)
        if any(model.forced for model, _ in models):
            forced.insert(0, "gate")
        refused += draft.left_out
        collections = Collections(bundles.folder)
        with _unharmed(bundles):
            with bundles.moving():
                bundles.collect()
                collections.sweep()
            folder = bundles.folder / f"{STAGING}{secrets.token_hex(4)}"
            where = None if draft.synced_from is None else bundles.path(draft.synced_from)
            photo_hashes = {name: embedder.model_hash for name, embedder in embedders.items()}
            staging = Staging(
                folder, draft.items, draft.sources(photo_hashes), index_config, config, draft.classify, force,
                where, forced=forced, blocks=blocks, spread=spread,
            )  # fmt: skip
            try:
                _stage_payload(draft, staging)
                entries = _stage_content(draft, models, embedders, staging)
                texts = _stage_texts(draft, staging)
                bundles.prepare(folder, staging.written)
                step(1)
                # From here on nobody is erased until the bundle is current: of who was erased before it knows
                # nothing, and who is erased after it is told that it knows them (F66).
                with draft.erasures.turn():
                    staging.erased = draft.erasures.known()
                    entries = _stage_behaviour(models, staging) + entries
                    staging.sync_folders()
                    content = _content(draft, entries, refused, forced)
                    content["texts"] = texts
                    content |= _stage_answers(without_erased(draft), content, staging)
                    bundles.prepare(folder, staging.written)
                    step(1)
                    manifest = _release(bundles, folder, content, draft.synced_from)
                step(1)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                collections.sweep()
                raise
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        _retire(bundles, config.keep, manifest)
    return manifest


def _nothing_left(refused: Sequence[RefusedFacts]) -> str:
    """Why nothing is published: of every model, popularity's reason first."""
    reasons = [one.reason for one in sorted(refused, key=lambda one: one.name != FLOOR)]
    told = "no model is left to publish" if len(reasons) == 1 else "none of the models is left to publish"
    return f"{'; '.join(reasons)}. So {told}; `etalage publish --force` publishes all the same"


def _reference(bundles: Bundles) -> Manifest | None:
    """The bundle to compare with: the current one, else (pointer or bundle damaged) the newest whole."""
    listed = bundles.survey()
    whole = [one for one in listed if one.manifest is not None]
    current = [one for one in whole if one.current]
    chosen = current or whole
    return chosen[-1].manifest if chosen else None


Admitted = Sequence[tuple[DraftedModel, Mapping[str, Any]]]
"""Models with what their exports say of them."""


def _embedders(draft: Draft, models: Admitted) -> dict[str, PhotoEmbedder]:
    """The photo embedders among the models, by name, each of which made the draft's embeddings.

    Raises NothingToPublish, ExportDamaged, IndexMismatch.
    """
    found = {}
    for model, facts in models:
        if export_kind(facts) != "photos":
            continue
        name = str(facts["name"])
        handed = draft.embedders.get(name)
        found[name] = photo_entries.opened_once(model, str(facts["model_hash"]), handed)
        made = draft.embeddings.get(name)
        photo_entries.check_drafted(model, found[name], draft.items, draft.photos, made)
    return found


def _stage_payload(draft: Draft, staging: Staging) -> None:
    """Items, photos and the funnel's settings, written into the new folder. Raises OSError."""
    folder = staging.folder
    folder.mkdir(parents=True)
    staging.written |= {
        ITEMS: write_file(folder / ITEMS, write_arrow(draft.items)),
        PHOTOS: write_file(folder / PHOTOS, write_arrow(draft.photos)),
        FUNNEL: write_file(folder / FUNNEL, rules_bytes(draft.rules)),
    }


def _stage_content(
    draft: Draft, models: Admitted, embedders: Mapping[str, PhotoEmbedder], staging: Staging
) -> list[ModelEntry]:
    """What looks at photos and what classifies: no shopper is in them."""
    entries = []
    for model, facts in models:
        kind = export_kind(facts)
        if kind == "photos":
            name = str(facts["name"])
            entries.append(photo_entries.stage(model, embedders[name], draft.embeddings[name], staging))
        elif kind == "classifier":
            entries.append(classifier_entries.stage(model, staging))
    return entries


def _stage_texts(draft: Draft, staging: Staging) -> dict[str, Any] | None:
    return None if draft.texts is None else text_entries.stage(draft.texts, staging).model_dump(mode="json")


def _stage_behaviour(models: Admitted, staging: Staging) -> list[ModelEntry]:
    return [
        behaviour_entries.stage(model, dict(facts), staging)
        for model, facts in models
        if export_kind(facts) not in ("photos", "classifier")
    ]


def _stage_answers(draft: Draft, content: dict[str, Any], staging: Staging) -> dict[str, Any]:
    """The shoppers, and the answers of everything as the disk has it; → what is left of the content."""
    unsigned = Manifest.model_validate({**content, **_UNSIGNED})
    parts = open_bundle(staging.folder, unsigned, verify=False)
    users, written = 0, staging.written
    if draft.user_histories is not None:
        users = len(draft.user_histories)
        written |= write_users(staging.folder, draft.user_histories, parts.funnel)
    answers = record(parts, histories(draft.user_histories, parts.catalogue))
    if parts.problems:
        raise IndexUnavailable(f"nothing was published: {parts.problems[0]}")
    written[SELF_CHECK] = write_file(staging.folder / SELF_CHECK, answers)
    files = {name: {"sha256": one.sha256, "bytes": one.bytes} for name, one in sorted(written.items())}
    return {"users": users, "files": files}


_UNSIGNED: dict[str, Any] = {"id": "", "sequence": 1, "created_at": "", "files": {}}


def _content(
    draft: Draft, entries: Sequence[ModelEntry], refused: Sequence[RefusedFacts], forced: Sequence[str]
) -> dict[str, Any]:
    """The manifest as far as it is known before the answers are recorded."""
    classifiers = {one.name: one for one in entries if one.kind == "classifier"}
    asked = speaking(list(classifiers), draft.rules.funnel.classifier)
    classified = classifier_entries.classified_facts(
        dict(draft.classified_by), None if asked is None else classifiers[asked]
    )
    return {
        "format": FORMAT,
        "tables": draft.tables,
        "moments": {name: asdict(moment) for name, moment in draft.moments.items()},
        "models": [one.model_dump(mode="json") for one in entries],
        "classified": None if classified is None else classified.model_dump(mode="json"),
        "refused": [one.model_dump(mode="json") for one in refused],
        "items": draft.items.num_rows,
        "currency": draft.currency,
        "forced": list(forced),
        "synced_from": draft.synced_from,
    }


def _release(bundles: Bundles, staging: Path, content: dict[str, Any], synced_from: str | None) -> Manifest:
    """Manifest, rename, aliases, pointer: under the lock that rollbacks take too. Raises OSError,
    IndexUnavailable: not moved."""
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
        bundles.release(staging, manifest, "publish" if synced_from is None else "sync")
    return manifest


@contextmanager
def _unharmed(bundles: Bundles) -> Iterator[None]:
    """An OSError, or an ObjectStoreError, inside becomes a PublishError that says what is still current."""
    try:
        yield
    except ObjectStoreError as error:
        try:
            current = bundles.pointed()
            still = f"bundle {current} is current" if current else "no bundle is current"
        except ObjectStoreError:
            still = "`etalage bundles` tells what is current when the store is back"
        raise PublishError(f"publish failed: {error}; {still}; publish again") from error
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
    with suppress(OSError, ObjectStoreError, PublishBusy, PublishError), bundles.moving():
        bundles.retain(keep, manifest.id, manifest.previous)
        Collections(bundles.folder).sweep()


def require_whole(draft: Draft, before: Manifest | None, config: PublishConfig, force: bool) -> list[str]:
    """The refusals that were overridden. Raises CatalogueShrank."""
    trouble = _shrink_trouble(draft, before, config.max_shrink)
    if trouble and not force:
        raise CatalogueShrank(f"{trouble}; if that is meant, publish with --force")
    return ["shrink"] if trouble else []


def _shrink_trouble(draft: Draft, before: Manifest | None, max_shrink: float) -> str | None:
    if before is None:
        return None
    now = {"items": draft.items.num_rows, "items with a photo": len(photo_rows(draft.items))}
    was = {"items": before.items}
    whole = [one.index for one in before.photo_models if one.index and one.index.per_category is None]
    if whole:  # else the manifest does not say how many have a photo
        was["items with a photo"] = whole[0].indexed
    for what, count in was.items():
        lost = count - now[what]
        if lost > 0 and lost >= max_shrink * count:
            return (
                f"the catalogue has {now[what]} {what}; bundle {before.id} has {count}: {lost / count:.0%} "
                f"are gone, {max_shrink:.0%} is refused (max_shrink)"
            )
    return None
