"""What goes into a bundle: the payload gathered from the lake, and its embeddings.

    N items   P distinct photos   D embedding dimension

`items` has one row an item, sorted by item_id: the n-th, counted from 1, is the item row n that indexes
speak of. It has the lake's columns, `photo_sha256` (null: no photo that can be used), `popularity`, and what
the classifier says of it: `classified_id`, `classified_path`, `classified_confidence`, null where nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig
from etalage.errors import TableDamaged
from etalage.features.history import BehaviourRule
from etalage.features.interaction_tables import standing
from etalage.features.photo_blocks import BLOCK_PHOTOS, PhotoLoop
from etalage.funnel.shoppers import UserHistories
from etalage.lake.classifications import JOINED, Joined, joined
from etalage.lake.item_photos import photos_of
from etalage.lake.ledger import Moment
from etalage.lake.schema import TABLES

if TYPE_CHECKING:
    from etalage.lake.delta import Lake
    from etalage.runtime.photos import PhotoEmbedder

MOST_SHOPPERS = 1_000_000
"""Whose embeddings a bundle keeps: those who acted last. The others are embedded when they come."""
PHOTO_FACTS = ("item_id", "url", "status", "sha256")
Progress = Callable[[int], None]
Keep = Callable[[Mapping[str, np.ndarray]], None]
"""Is handed {sha256: (D,) embedding}."""


@dataclass(frozen=True)
class Payload:
    """`items` (N rows), `photos` (P rows: sha256, bytes; sorted, unique), the versions they are of."""

    items: pa.Table
    photos: pa.Table
    versions: dict[str, int]
    classified_by: dict[str, int] = field(default_factory=dict)
    """Hash of a model → how many of the items it classified."""
    moments: dict[str, Moment] = field(default_factory=dict)
    """What those versions can be known again by."""


@dataclass(frozen=True)
class Embedded:
    """`payload` without the photos that the encoder refused, `embeddings` (N + 1, D) float32 (zeros
    without a photo, and in row 0), how many photos were `embedded` now, and `refused` {sha256: reason}."""

    payload: Payload
    embeddings: np.ndarray
    embedded: int
    refused: dict[str, str] = field(default_factory=dict)


# -- lake → payload ----------------------------------------------------------------------------


def gather(
    lake: "Lake",
    versions: Mapping[str, int] | None = None,
    rules: BehaviourRule | None = None,
    files: bool = True,
) -> Payload:
    """Read the whole payload at `versions` (default: the newest). files: False leaves the photos' bytes in
    the table. Raises TableMissing, TableDamaged."""
    at = dict(versions) if versions is not None else served_versions(lake)
    # Asked for even where it is missing: the lake knows best how to say so.
    items = lake.table("items").read(at.get("items"))
    items = in_order(items)
    facts = photo_facts(lake, at)
    shas = main_photos(items, facts)
    wanted = pc.unique(shas.drop_null())
    photos = find_photos(photo_batches(lake, at), wanted) if files else PHOTOS_SCHEMA.empty_table()
    popularity = count_popularity(interaction_batches(lake, at), items["item_id"], rules)
    said = classifications(lake, at, items["item_id"])
    derived = with_derived(items, shas, popularity, said)
    return Payload(derived, photos, at, said.by, moments_of(lake, at))


def served_versions(lake: "Lake") -> dict[str, int]:
    """The versions of those tables that a bundle is made from."""
    return {name: v for name, v in lake.versions().items() if name in _SERVED}


def moments_of(lake: "Lake", versions: Mapping[str, int]) -> dict[str, Moment]:
    """What these versions can be known again by, where their tables were made anew or put back meanwhile."""
    return {name: lake.table(name).moment(version) for name, version in versions.items()}


_SERVED = ("items", "photos", "interactions", "classifications")
CLASSIFIED = {
    "classified_id": pa.string(),
    "classified_path": pa.string(),
    "classified_confidence": pa.float64(),
}
"""The columns of the payload that the classifier fills; bundles of formats 1 and 2 have none."""


def in_order(items: pa.Table) -> pa.Table:
    """Items sorted by item_id in one chunk, with the lake's columns only and no metadata."""
    items = items.select(list(TABLES["items"].names)).replace_schema_metadata(None)
    order = pc.sort_indices(items["item_id"])
    taken = items.take(order).combine_chunks()
    plain = pa.schema([pa.field(f.name, f.type) for f in taken.schema])
    return taken.cast(plain)


def with_derived(items: pa.Table, photo_sha256: pa.Array, popularity: np.ndarray, said: Joined) -> pa.Table:
    """Items with the columns that the table of items does not hold."""
    items = items.append_column("photo_sha256", photo_sha256.cast(pa.string()))
    items = items.append_column("popularity", pa.array(popularity, pa.float64()))
    return with_classified(items, said)


def with_classified(items: pa.Table, said: Joined) -> pa.Table:
    """Items with the columns CLASSIFIED."""
    columns = (said.category_id, said.path, said.confidence)
    for (name, kind), column in zip(CLASSIFIED.items(), columns, strict=True):
        items = items.append_column(name, column.cast(kind))
    return items


def classifications(lake: "Lake", at: Mapping[str, int], item_ids: pa.ChunkedArray | pa.Array) -> Joined:
    """What the classifier says of these items; nothing where nobody was asked."""
    table = lake.table("classifications")
    if "classifications" not in at:
        return joined(item_ids, table.spec.schema.empty_table())
    return joined(item_ids, table.read(at["classifications"], columns=list(JOINED)))


def photo_facts(lake: "Lake", at: Mapping[str, int]) -> pa.Table:
    """The photos table without its bytes."""
    if "photos" not in at:
        return pa.table({name: pa.array([], pa.string()) for name in PHOTO_FACTS})
    return lake.table("photos").read(at["photos"], columns=list(PHOTO_FACTS))


def photo_batches(lake: "Lake", at: Mapping[str, int]) -> Iterable[pa.RecordBatch]:
    """(sha256, bytes) of the photos table, streamed."""
    if "photos" not in at:
        return ()
    return lake.table("photos").batches(at["photos"], columns=["sha256", "bytes"], rows=1024)


def interaction_batches(lake: "Lake", at: Mapping[str, int]) -> Iterable[pa.RecordBatch]:
    """What popularity is counted from, of the interactions table, streamed."""
    if "interactions" not in at:
        return ()
    return lake.table("interactions").batches(at["interactions"], columns=list(_ACTS), rows=1 << 16)


def gather_user_histories(
    lake: "Lake", at: Mapping[str, int], rules: BehaviourRule, most: int = MOST_SHOPPERS
) -> UserHistories:
    """The shoppers who acted last, with the newest acts of each, at the versions `at`."""
    tables = {
        name: lake.table(name).read(version, columns=list(columns))
        for name, columns in (("users", ("user_id", "attributes")), ("interactions", _ACTS))
        if (version := at.get(name)) is not None
    }
    return UserHistories.of(tables.get("users"), tables.get("interactions"), rules, most)


_ACTS = ("interaction_id", "user_id", "item_id", "kind", "value", "time")


def main_photos(items: pa.Table, facts: pa.Table) -> pa.Array:
    """(N,) sha256 of each item's main photo, null without one: the one whose url is `items.photo_url`, else
    the first by url, among those whose status is ok."""
    return photos_of(items, facts, most=1).main()


def find_photos(batches: Iterable[pa.RecordBatch], wanted: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The `wanted` sha256s (unique) with their bytes, sorted by sha256.

    Raises TableDamaged when one is nowhere in `batches`.
    """
    wanted = _flat(wanted).cast(pa.string())
    missing = np.ones(len(wanted), dtype=bool)
    found: list[pa.Table] = []
    for batch in batches if len(wanted) else ():
        which = pc.index_in(batch["sha256"].cast(pa.string()), value_set=wanted)
        usable = np.asarray(pc.and_(pc.is_valid(which), pc.is_valid(batch["bytes"])), dtype=bool)
        at = np.flatnonzero(usable)
        index = pc.fill_null(which, -1).to_numpy()[at]
        index, first = np.unique(index, return_index=True)
        new = missing[index]
        missing[index] = False
        part = pa.Table.from_batches([batch]).select(["sha256", "bytes"]).take(pa.array(at[first[new]]))
        found.append(part.cast(PHOTOS_SCHEMA))
        if not missing.any():
            break
    if missing.any():
        name = wanted[int(np.argmax(missing))].as_py()
        raise TableDamaged(f"table photos: no bytes for the photo with SHA-256 {name}; ingest it again")
    photos = pa.concat_tables([PHOTOS_SCHEMA.empty_table(), *found])
    return photos.take(pc.sort_indices(photos["sha256"])).combine_chunks()


PHOTOS_SCHEMA = pa.schema([pa.field("sha256", pa.string()), pa.field("bytes", pa.large_binary())])


def count_popularity(
    batches: Iterable[pa.RecordBatch],
    item_ids: pa.Array | pa.ChunkedArray,
    rules: BehaviourRule | None = None,
) -> np.ndarray:
    """(N,) float64: Σ over shoppers of the largest weight of what they did with the item, so that no crawler
    makes it popular. What was taken back, unknown items, explicit negatives and users above [behaviour]
    max_user count nowhere."""
    rules = rules or BehaviourRule(BehaviourConfig())
    item_ids = _flat(item_ids)
    pairs: list[pa.Table] = []
    changing: list[pa.Table] = []
    for batch in batches:
        row = pc.fill_null(pc.index_in(batch["item_id"].cast(item_ids.type), value_set=item_ids), -1)
        known = pa.Table.from_batches([batch]).append_column("row", row).filter(pc.greater_equal(row, 0))
        apart = pa.array(rules.changing(known["kind"], known["value"]))
        changing.append(known.filter(apart))
        pairs.append(_largest(known.filter(pc.invert(apart)), rules))
    if not pairs:
        return np.zeros(len(item_ids), np.float64)
    acts = pa.concat_tables(changing)
    pairs.append(_largest(acts.filter(pa.array(standing(acts, rules), pa.bool_())), rules))
    whole = _one_a_pair(pa.concat_tables(pairs))
    if (most := rules.behaviour.max_user) and whole.num_rows > most:
        users = whole.group_by("user_id", use_threads=False).aggregate([("row", "count")])
        heavy = users.filter(pc.greater(users["row_count"], most))["user_id"]
        whole = whole.filter(pc.invert(pc.is_in(whole["user_id"], value_set=_flat(heavy))))
    # Summed by weight, least first: floats that are added in the order of a table differ in their last bits,
    # and items as popular as each other would change places as its files are merged.
    rows, weights = whole["row"].to_numpy(), whole["weight"].to_numpy()
    total = np.zeros(len(item_ids), np.float64)
    for weight in sorted(pc.unique(whole["weight"]).to_pylist()):
        total += weight * np.bincount(rows[weights == weight], minlength=len(item_ids))
    return total


def _largest(acts: pa.Table, rules: BehaviourRule) -> pa.Table:
    """`user_id`, `row` and the largest `weight` of each pair among the positives of `acts`."""
    weight = pa.array(rules.weighed(acts["kind"], acts["value"]), pa.float64())
    found = acts.select(["user_id", "row"]).append_column("weight", weight)
    return _one_a_pair(found.filter(pc.greater(weight, 0)))


def _one_a_pair(pairs: pa.Table) -> pa.Table:
    found = pairs.group_by(["user_id", "row"], use_threads=False).aggregate([("weight", "max")])
    return found.rename_columns(["user_id", "row", "weight"])


# -- payload → embeddings ----------------------------------------------------------------------


def embed(
    payload: Payload,
    embedder: "PhotoEmbedder",
    carried: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
    loop: PhotoLoop | None = None,
    keep: Keep | None = None,
) -> Embedded:
    """Embed every photo of the payload whose sha256 is not in `carried` {sha256: (D,)}.

    A photo that the encoder refuses is dropped, with its reason: its items stay, without a photo.
    loop: where it runs; None: in this process. keep: is handed the new embeddings block by block.
    """
    carried = carried or {}
    shas = payload.photos["sha256"].to_pylist()
    table = np.zeros((len(shas), embedder.dimension), dtype=np.float32)
    fresh = []
    for at, sha in enumerate(shas):
        known = carried.get(sha)
        if known is None:
            fresh.append(at)
        else:
            table[at] = known
    embedded = 0
    refused: dict[str, str] = {}
    blocks = _blocks(payload.photos["bytes"], fresh)
    for part, looked in (loop or PhotoLoop()).run(embedder.shared(), blocks, len(fresh), embedder.look):
        good = [part[n] for n in looked.good]
        table[good] = looked.values
        embedded += len(good)
        refused |= {shas[part[n]]: reason for n, reason in looked.refused.items()}
        if keep is not None:
            keep({shas[at]: table[at] for at in good})
        if progress is not None:
            progress(len(part))
    payload = _without(payload, refused)
    row = pc.index_in(payload.items["photo_sha256"], value_set=pa.array(shas, pa.string()), skip_nulls=True)
    place = pc.fill_null(row, -1).to_numpy()
    embeddings = np.zeros((payload.items.num_rows + 1, embedder.dimension), dtype=np.float32)
    embeddings[1:][place >= 0] = table[place[place >= 0]]
    return Embedded(payload, embeddings, embedded, refused)


def _blocks(photos: pa.ChunkedArray, places: Sequence[int]) -> Iterator[tuple[Sequence[int], list[bytes]]]:
    for start in range(0, len(places), BLOCK_PHOTOS):
        part = places[start : start + BLOCK_PHOTOS]
        yield part, photos.take(pa.array(part)).to_pylist()


def _without(payload: Payload, refused: Mapping[str, str]) -> Payload:
    if not refused:
        return payload
    names = pa.array(list(refused), pa.string())
    photos = payload.photos.filter(pc.invert(pc.is_in(payload.photos["sha256"], value_set=names)))
    column = payload.items["photo_sha256"]
    kept = pc.if_else(pc.is_in(column, value_set=names), pa.scalar(None, pa.string()), column)
    at = payload.items.column_names.index("photo_sha256")
    items = payload.items.set_column(at, "photo_sha256", kept)
    return replace(payload, items=items.combine_chunks(), photos=photos.combine_chunks())


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
