"""What changed since the bundle, and only that: `etalage sync`.

The manifest says which versions of the tables the bundle is of; the tables' change feed says which
rows are different since. Items and photos are brought up to date in the bundle's own payload; an
embedding is carried over wherever the photo's SHA-256 is one the bundle has embedded; only the rest
is decoded and embedded, by the model that is in the bundle. Then everything that `publish` checks is
checked again, with the index's trained centroids kept.

Where the feed was vacuumed away (or a table went back in time) the payload is read whole, and the
result says so; even then nothing is embedded whose SHA-256 the bundle knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.bundle.contents import (
    CLASSIFIED,
    Payload,
    Progress,
    classifications,
    count_popularity,
    embed,
    find_photos,
    gather,
    in_order,
    interaction_batches,
    main_photos,
    moments_of,
    photo_batches,
    photo_facts,
    served_versions,
    with_derived,
)
from etalage.bundle.draft import DraftedModel, Reading, assemble
from etalage.bundle.files import ITEMS, PHOTOS, read_arrow, read_embeddings
from etalage.bundle.formats import opened_embeddings
from etalage.bundle.manifest import Manifest, ModelEntry, verify
from etalage.bundle.opening import read_rules
from etalage.bundle.photo_entries import of_rows, photo_rows
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.config import ClassifyConfig, IndexConfig, PublishConfig
from etalage.errors import ChangesGone, IndexMismatch, NothingToPublish, TableMissing
from etalage.features.array_blocks import ArrayLoop
from etalage.features.photo_blocks import PhotoLoop
from etalage.index.milvus import Spread
from etalage.lake.ledger import Moment
from etalage.lake.schema import TABLES
from etalage.runtime.export_files import read_facts
from etalage.runtime.photos import PhotoEmbedder

if TYPE_CHECKING:
    from etalage.lake.delta import Changes, Lake


@dataclass(frozen=True)
class Synced:
    """What a sync did. Without a change `manifest` is None: the bundle that was current still is.

    `upserted`, `deleted` count items that are different from the bundle's; `embedded` counts photos
    that went through the model, `carried` those whose embedding was kept. `whole` is why the tables
    were read whole, if they were. `refused` {sha256: reason} could not be decoded.
    """

    manifest: Manifest | None
    embedded: int
    carried: int
    upserted: int
    deleted: int
    reason: str
    whole: str | None = None
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Opened:
    """The bundle that is carried on from."""

    manifest: Manifest
    items: pa.Table
    photos: pa.Table
    folder: Path

    @classmethod
    def current(cls, bundles: Bundles) -> "_Opened":
        folder = bundles.path(bundles.current_id())
        manifest = verify(folder)
        items, photos = _today(read_arrow(folder / ITEMS)), read_arrow(folder / PHOTOS)
        return cls(manifest, items, photos, folder)

    def embedders(self) -> list[PhotoEmbedder]:
        """Raises ExportDamaged, IndexMismatch: one that did not make the bundle's embeddings."""
        opened = []
        for entry in self.manifest.photo_models:
            embedder = PhotoEmbedder.open(self.folder / entry.dir)
            if (embedder.model_hash, embedder.dimension) != (entry.hash, entry.dimension):
                raise IndexMismatch(
                    f"{self.folder}: {entry.name} is not the model that made the embeddings: publish again"
                )
            opened.append(embedder)
        return opened

    def carried(self, name: str) -> dict[str, np.ndarray]:
        """{sha256: (D,) embedding} of every photo that the bundle's embedder called `name` has embedded."""
        (entry,) = [one for one in self.manifest.photo_models if one.name == name]
        file, index = entry.embeddings, entry.index
        assert file is not None and index is not None
        embeddings = opened_embeddings(read_embeddings(self.folder, file), index.first_row)
        rows = photo_rows(self.items)
        names = of_rows(self.items, rows)["photo_sha256"].to_pylist()
        return {sha: embeddings[row] for sha, row in zip(names, rows, strict=True)}


def _today(items: pa.Table) -> pa.Table:
    """Items of a bundle of any format with the columns of today's."""
    columns = {name: TABLES["items"].schema.field(name).type for name in TABLES["items"].names} | CLASSIFIED
    for name, kind in columns.items():
        if name not in items.column_names:
            items = items.append_column(name, pa.nulls(items.num_rows, kind))
    return items


def sync(
    lake: "Lake",
    bundles: Bundles,
    *,
    config: PublishConfig,
    index_config: IndexConfig,
    force: bool = False,
    progress: Progress | None = None,
    exports: Path | None = None,
    loop: PhotoLoop | None = None,
    blocks: ArrayLoop | None = None,
    spread: Spread = map,
    texts: Reading | None = None,
) -> Synced:
    """Bring the current bundle up to date with the lake, embedding only photos it does not know.

    Publishes with the bundle's models and their verdicts. The models of behaviour are laid anew onto the
    items, from their exports in `exports` (default: the folder of that name beside the bundles'); what an
    embedder knows by content alone it embeds. Raises what `publish` raises, and NoBundle, PointerDamaged,
    BundleDamaged (nothing to carry on from), NothingToPublish (the export of one of its models is gone),
    TableMissing, TableDamaged. `progress` is called with the number of photos embedded.
    loop: where they are embedded, blocks: where blocks of an index are built; None: in this process.
    spread: as for `publish`. texts: how the items' texts are embedded; None: models that learned from them
    know nothing of the texts of new items.
    """
    with bundles.publishing():
        before = _Opened.current(bundles)
        now = served_versions(lake)
        if "items" not in now:
            raise TableMissing(f"the items table is gone: bundle {before.manifest.id} stays; ingest first")
        anew = _made_anew(lake, before.manifest, now)
        if anew is None and now == before.manifest.tables:
            return _nothing(before, f"no table has a newer version than bundle {before.manifest.id}")
        payload, whole = _updated(lake, before, now, anew)
        upserted, deleted = _difference(before.items, payload.items)
        if not upserted and not deleted:
            return _nothing(before, f"nothing that bundle {before.manifest.id} holds has changed", whole)
        models = _models(before, exports or bundles.folder.parent / "exports")
        assembled = assemble(
            lake,
            payload,
            models,
            before.embedders(),
            lambda some, embedder: embed(some, embedder, before.carried(embedder.name), progress, loop),
            read_rules(before.folder),
            behaviour=bool(before.manifest.funnel),
            classify=_classify(before.manifest),
            currency=before.manifest.currency,
            left_out=before.manifest.refused,
            synced_from=before.manifest.id,
            texts=texts,
        )
        draft = assembled.draft
        manifest = publish(
            bundles,
            draft,
            config=config,
            index_config=index_config,
            force=force,
            blocks=blocks,
            spread=spread,
        )
    looked_at = draft.photos.num_rows * len(before.manifest.photo_models)
    return Synced(
        manifest,
        assembled.embedded,
        looked_at - assembled.embedded if before.manifest.photo_models else draft.photos.num_rows,
        upserted,
        deleted,
        f"{before.manifest.id} → {manifest.id}",
        whole,
        assembled.refused,
    )


def _nothing(before: _Opened, reason: str, whole: str | None = None) -> Synced:
    return Synced(None, 0, before.photos.num_rows, 0, 0, reason, whole)


def _models(before: _Opened, exports: Path) -> tuple[DraftedModel, ...]:
    """The bundle's models with their verdicts. Raises NothingToPublish: the export of one is gone.

    An aligned model cannot be aligned to other items: of those that its bundle did not have it holds nothing.
    What looks at photos and what classifies needs nothing of the items: it is carried over as it is.
    """
    found = []
    for entry in before.manifest.models:
        own = before.folder / entry.dir if entry.kind in ("photos", "classifier") else None
        export = own or _export_of(exports / entry.name, entry)
        if export is None:
            raise NothingToPublish(
                f"{exports / entry.name}: the export {entry.hash[:8]} of model {entry.name} in bundle "
                f"{before.manifest.id} is gone: `etalage train {entry.name}` and `etalage publish`"
            )
        found.append(DraftedModel(export, entry.verdict, entry.slice, entry.forced))
    return tuple(found)


def _classify(manifest: Manifest) -> ClassifyConfig:
    """How the bundle's classifiers are asked."""
    asked = [one.classifier.settings for one in manifest.classifiers if one.classifier is not None]
    return asked[0] if asked else ClassifyConfig()


def _exports_of(folder: Path) -> list[Path]:
    """Those that were trained, and those that were fitted on everything to be published."""
    return sorted([*folder.glob("[0-9]*-*"), *folder.glob("everything/[0-9]*-*")], reverse=True)


def _export_of(folder: Path, entry: ModelEntry) -> Path | None:
    """The newest export of the bundle's model. What is fitted on everything may be the same numbers twice:
    the one that the bundle's verdict is about comes first."""
    found = [
        (one, facts) for one in _exports_of(folder) if (facts := _facts(one)).get("model_hash") == entry.hash
    ]
    judged = (entry.verdict or {}).get("model_hash")
    about = (one for one, facts in found if judged in (None, facts.get("judged", entry.hash)))
    return next(about, found[0][0] if found else None)


def _facts(export: Path) -> dict[str, Any]:
    try:
        return read_facts(export)
    except (OSError, ValueError):
        return {}


def _updated(
    lake: "Lake", before: _Opened, now: dict[str, int], whole: str | None
) -> tuple[Payload, str | None]:
    """The payload at versions `now`, and why the tables were read whole (None: they were not).

    `whole`: why they must be.
    """
    if whole is None:
        try:
            return _applied(lake, before, now), None
        except ChangesGone as error:
            whole = str(error)
    return gather(lake, now, read_rules(before.folder)), whole


def _made_anew(lake: "Lake", manifest: Manifest, now: Mapping[str, int]) -> str | None:
    """Why no table's changes can be asked for: one of them is not the one that the bundle was made from, or
    was put back from a copy. Its version need not be lower: it may have grown past it since."""
    for name, version in manifest.tables.items():
        if now.get(name, -1) < version:
            found = f"is at version {now[name]}" if name in now else "is gone"
            return f"table {name} {found}, the bundle is of version {version}: it was made anew"
        moment = manifest.moments.get(name)
        if moment is not None and not lake.table(name).has_been(Moment(**moment.model_dump())):
            return (
                f"table {name} was made anew, or put back from a copy: its version {version} is not the one "
                "that the bundle is of"
            )
    return None


def _applied(lake: "Lake", before: _Opened, now: dict[str, int]) -> Payload:
    """The bundle's payload with the changes of each table since its versions. Raises ChangesGone."""
    since = before.manifest.tables
    of_items, of_photos = (_changes(lake, name, since, now) for name in ("items", "photos"))
    old = before.items
    items = old.select(list(TABLES["items"].names))
    if of_items is not None:
        gone = pa.concat_arrays([*_ids(of_items.deleted), *_ids(of_items.upserted)])
        kept = items.filter(pc.invert(pc.is_in(items["item_id"], value_set=gone)))
        fresh = of_items.upserted.select(items.column_names).replace_schema_metadata(None)
        items = in_order(pa.concat_tables([kept, fresh.cast(items.schema)]))
    shas = _photos_of(lake, before, items, of_items, of_photos, now)
    photos = _bytes_of(lake, before, shas, of_photos, now)
    popularity = _popularity(lake, before, items, now)
    # Whole, but of four narrow columns: an item that is new may have been classified long ago.
    said = classifications(lake, now, items["item_id"])
    derived = with_derived(items, shas, popularity, said)
    return Payload(derived, photos, now, said.by, moments_of(lake, now))


def _changes(lake: "Lake", name: str, since: Mapping[str, int], now: Mapping[str, int]) -> "Changes | None":
    """None when nothing changed. Raises ChangesGone: also for a table that the bundle did not know."""
    if name not in now or since.get(name) == now[name]:
        return None
    if name not in since:
        raise ChangesGone(f"table {name} is new since the bundle: it is read whole")
    return lake.table(name).changes(since[name], now[name])


def _ids(rows: pa.Table) -> list[pa.Array]:
    return [chunk.cast(pa.string()) for chunk in rows["item_id"].chunks] or [pa.array([], pa.string())]


def _photos_of(
    lake: "Lake",
    before: _Opened,
    items: pa.Table,
    of_items: "Changes | None",
    of_photos: "Changes | None",
    now: Mapping[str, int],
) -> pa.Array:
    """(N,) main photo of each item: the bundle's, but asked anew for items that something touched."""
    changed = [c for c in (of_items, of_photos) if c is not None]
    parts = [array for c in changed for rows in (c.upserted, c.deleted) for array in _ids(rows)]
    touched = pc.unique(pa.concat_arrays([pa.array([], pa.string()), *parts]))
    place = pc.index_in(items["item_id"], value_set=_one(before.items["item_id"]))
    kept = _one(before.items["photo_sha256"]).take(_one(place))
    again = _one(pc.is_in(items["item_id"], value_set=touched))
    if not pc.any(again).as_py():
        return kept
    some = items.filter(again)
    facts = photo_facts(lake, now)
    facts = facts.filter(pc.is_in(facts["item_id"], value_set=_one(some["item_id"])))
    return pc.replace_with_mask(kept, again, main_photos(some, facts))


def _bytes_of(
    lake: "Lake", before: _Opened, shas: pa.Array, of_photos: "Changes | None", now: Mapping[str, int]
) -> pa.Table:
    """The photos `shas`, from the bundle, else the change feed, else the whole table."""
    wanted = pc.unique(shas.drop_null())
    known = before.photos.filter(pc.is_in(before.photos["sha256"], value_set=wanted))
    missing = wanted.filter(pc.invert(pc.is_in(wanted, value_set=_one(known["sha256"]))))
    if of_photos is not None and len(missing):
        feed = of_photos.upserted.select(["sha256", "bytes"])
        there = pc.is_in(missing, value_set=_one(feed["sha256"]))
        fed = find_photos(feed.to_batches(), missing.filter(there))
        known, missing = pa.concat_tables([known, fed]), missing.filter(pc.invert(there))
    if len(missing):
        known = pa.concat_tables([known, find_photos(photo_batches(lake, now), missing)])
    return known.take(pc.sort_indices(known["sha256"])).combine_chunks()


def _popularity(lake: "Lake", before: _Opened, items: pa.Table, now: Mapping[str, int]) -> np.ndarray:
    """(N,) float64. Counted anew (two columns, streamed) unless neither acts nor items are new."""
    place = pc.index_in(items["item_id"], value_set=_one(before.items["item_id"]))
    same_acts = before.manifest.tables.get("interactions") == now.get("interactions")
    if same_acts and place.null_count == 0:
        return np.asarray(before.items["popularity"].take(place).to_numpy())
    return count_popularity(interaction_batches(lake, now), items["item_id"], read_rules(before.folder))


def _difference(old: pa.Table, new: pa.Table) -> tuple[int, int]:
    """How many items are new or different, and how many are gone."""
    place = pc.index_in(new["item_id"], value_set=_one(old["item_id"]))
    there = place.is_valid().to_numpy()
    match, candidate = old.take(place.drop_null()), new.filter(place.is_valid())
    same = np.ones(candidate.num_rows, dtype=bool)
    for name in new.column_names:
        ours, theirs = _one(candidate[name]), _one(match[name])
        equal = pc.fill_null(pc.equal(ours, theirs), False)
        both_null = pc.and_(pc.is_null(ours, nan_is_null=True), pc.is_null(theirs, nan_is_null=True))
        same &= np.asarray(pc.or_(equal, both_null), dtype=bool)
    fresh = int((~there).sum())
    return fresh + int((~same).sum()), old.num_rows - int(there.sum())


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
