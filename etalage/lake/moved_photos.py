"""Photos that an ingest brings from another place than where they were before.

A photo is a row by its item and its path. The same file of the same item under another path is the same
photo: the row gets the new path, instead of a second row beside it. Links are left alone: each is a source of
its own, whatever it answers. Items stay apart, whatever photos they share.

Where a folder's items are called by their paths, another root gives every item another id. There an item is
the stored one if its photo is the same file, and one of the two paths ends in the other: `Shoes/red` and
`photos/Shoes/red`.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.checked import Loaded
from etalage.lake.delta import Lake
from etalage.lake.notes import Notes

_LINK = ("http://", "https://")
_COLUMNS = ["item_id", "url", "sha256"]


class MovedPhotos:
    """What one ingest finds. `ids`: of all files of a folder whose items are called by their paths; None: ids
    say nothing of paths."""

    def __init__(self, lake: Lake, notes: Notes, ids: Collection[str] | None = None) -> None:
        self.renamed = 0
        """Rows of which only the path is new."""
        self._lake, self._notes, self._ids = lake, notes, ids
        self._seen: set[int] = set()
        self._old: list[tuple[str, str, str]] = []
        self._adopted: dict[str, str] = {}

    # -- items that are called by their paths --------------------------------------------------

    def adopted(self, part: Loaded) -> Loaded:
        """The part with the stored ids of items that came from another root before."""
        photos = part.tables.get("photos")
        if self._ids is None or photos is None or not photos.num_rows:
            return part
        names = self._known_as(photos, self._ids)
        if not names:
            return part
        given, stored = next(iter(names.items()))
        self._notes.add(
            "items whose photo came from another folder before: they keep their ids", len(names),
            f"{given} is {stored}",
        )  # fmt: skip
        return replace(part, tables={name: _with_ids(rows, names) for name, rows in part.tables.items()})

    def _known_as(self, photos: pa.Table, ids: Collection[str]) -> dict[str, str]:
        """Id as this folder gives it → the stored one."""
        stored = self._stored(photos["sha256"]).to_pylist()
        known = self._items_among(photos["item_id"])
        by_hash: dict[str, list[str]] = {}
        others: dict[str, str] = {}
        for one in stored:
            if _is_path_id(one["item_id"], one["url"]):
                by_hash.setdefault(one["sha256"], []).append(one["item_id"])
            else:
                others[one["sha256"]] = one["item_id"]
        found: dict[str, str] = {}
        shared: list[tuple[str, str]] = []
        for item, sha in zip(photos["item_id"].to_pylist(), photos["sha256"].to_pylist(), strict=True):
            like = [one for one in by_hash.get(sha, ()) if _same_end(one, item) and one not in ids]
            like = [one for one in like if self._adopted.get(one, item) == item]
            if item in known:
                continue
            if len(like) == 1:
                found[item] = like[0]
                self._adopted[like[0]] = item
            elif sha in others:
                shared.append((item, others[sha]))
        if shared:
            self._notes.add(
                "photos of new items that other items have too: items are never merged; if they are the same "
                "ones, ingest them by the ids that they had, and delete the others", len(shared),
                " and ".join(shared[0]),
            )  # fmt: skip
        return found

    def _items_among(self, ids: pa.ChunkedArray) -> set[str]:
        """Those of `ids` that are items already, whatever photos they have."""
        items = self._lake.table("items")
        if not items.exists():
            return set()
        wanted = pc.unique(ids)
        found = (batch["item_id"] for batch in items.batches(columns=["item_id"], rows=65_536))
        return {one for some in found for one in some.filter(pc.is_in(some, value_set=wanted)).to_pylist()}

    # -- photos --------------------------------------------------------------------------------

    def look(self, rows: pa.Table) -> int:
        """Remember which stored rows the photos `rows`, which are about to be merged, replace; → how many of
        `rows` only have another path than before."""
        local = rows.filter(pc.and_(pc.is_valid(rows["sha256"]), pc.invert(_is_link(rows["url"]))))
        if not local.num_rows:
            return 0
        given: dict[tuple[str, str], str] = {}
        for item, url, sha in zip(*(local[name].to_pylist() for name in _COLUMNS), strict=True):
            given[item, sha] = url
            self._seen.add(hash((item, url)))
        stored = self._stored(local["sha256"])
        stored = stored.filter(pc.invert(_is_link(stored["url"])))
        there = set[tuple[str, str]]()
        old: dict[tuple[str, str], list[str]] = {}
        for item, url, sha in zip(*(stored[name].to_pylist() for name in _COLUMNS), strict=True):
            there.add((item, url))
            if (item, sha) in given and url != given[item, sha] and hash((item, url)) not in self._seen:
                old.setdefault((item, sha), []).append(url)
        self._old += [(item, url, given[item, sha]) for (item, sha), urls in old.items() for url in urls]
        fresh = sum((item, given[item, sha]) not in there for item, sha in old)
        self.renamed += fresh
        return fresh

    def finish(self) -> None:
        """Behind the last row: what was seen nowhere in this ingest under its old path goes."""
        old = [one for one in self._old if hash(one[:2]) not in self._seen]
        if not old:
            return
        item, before, after = old[0]
        self._notes.add(
            "photos that were stored under another path: they have the new one, and none is there twice",
            len(old), f"item {item}: {before} → {after}",
        )  # fmt: skip
        self._point_items(old)
        keys = {"item_id": [one[0] for one in old], "url": [one[1] for one in old]}
        self._lake.table("photos").delete(pa.table(keys, schema=pa.schema([(n, pa.string()) for n in keys])))

    def _point_items(self, old: list[tuple[str, str, str]]) -> None:
        """Items whose main photo is called by its old path call it by the new one."""
        items = self._lake.table("items")
        if not items.exists():
            return
        renamed = {(item, before): after for item, before, after in old}
        rows = items.read(columns=["item_id", "photo_url"])
        pairs = zip(rows["item_id"].to_pylist(), rows["photo_url"].to_pylist(), strict=True)
        changed = [(item, renamed[item, url]) for item, url in pairs if (item, url) in renamed]
        if changed:
            ids, urls = zip(*changed, strict=True)
            items.merge(
                pa.table({"item_id": pa.array(ids, pa.string()), "photo_url": pa.array(urls, pa.string())})
            )

    def _stored(self, hashes: pa.ChunkedArray) -> pa.Table:
        """(item_id, url, sha256) of the stored photos with one of these hashes."""
        table = self._lake.table("photos")
        schema = pa.schema([(name, pa.string()) for name in _COLUMNS])
        if not table.exists():
            return schema.empty_table()
        wanted = pc.unique(hashes).drop_null()
        found = (
            batch.filter(pc.is_in(batch["sha256"], value_set=wanted))
            for batch in table.batches(columns=_COLUMNS, rows=65_536)
        )
        return pa.Table.from_batches([one.cast(schema) for one in found], schema=schema)


def _is_link(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    lower = pc.utf8_lower(urls)
    return pc.or_(pc.starts_with(lower, _LINK[0]), pc.starts_with(lower, _LINK[1]))


def _is_path_id(item_id: str, url: str) -> bool:
    """Whether an item was called by the path of its photo, beneath one root or another."""
    path = PurePosixPath(url).with_suffix("").as_posix()
    return item_id == path or ("/" in item_id and _same_end(item_id, path))


def _same_end(one: str, other: str) -> bool:
    return one != other and (one.endswith(f"/{other}") or other.endswith(f"/{one}"))


def _with_ids(rows: pa.Table, names: Mapping[str, str]) -> pa.Table:
    at = rows.column_names.index("item_id")
    ids = pa.array([names.get(one, one) for one in rows["item_id"].to_pylist()], pa.string())
    return rows.set_column(at, rows.schema.field("item_id"), ids)
