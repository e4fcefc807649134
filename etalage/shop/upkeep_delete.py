"""Deleting items and photos, resetting a table, and going back to an older version of one.

Each is planned before it is done: how many rows of which tables go, what stays and speaks of them, and what
is to be done next. Every table changes in one commit, or not at all; after a kill the same command does the
rest. Delta keeps the version before, until a vacuum removes it.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import ConfigError
from etalage.lake.schema import CATEGORY_SEPARATOR, TABLES
from etalage.nearest import nearest
from etalage.shop.upkeep_files import UNDONE
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.lake.delta import PastVersion

SHOWN = 3


@dataclass(frozen=True)
class Deletion:
    """What goes, or went."""

    what: str
    """The table that was asked for."""
    done: bool
    rows: dict[str, int]
    """Table → rows that go, in the order in which they go."""
    of: int
    """Rows of `what` before."""
    examples: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    """Ids, paths or hashes that are not there."""
    near: Mapping[str, str] = field(default_factory=dict)
    """An unknown one → a known one that it may be."""
    stays: tuple[str, ...] = ()
    """What stays and speaks of what goes."""
    next: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    """Commands that bring it back."""


# -- items ---------------------------------------------------------------------------------------


def delete_items(
    workspace: Workspace,
    words: Sequence[str],
    where: Sequence[str] = (),
    force: bool = False,
    dry: bool = True,
) -> Deletion:
    """Delete items: those with these ids, or in these files, and those that fit all conditions of `where`.

    Raises CatalogueShrank: too many, without `force`; ConfigError: a condition that says nothing;
    InputUnreadable: a file; TableMissing: there are no items.
    """
    from etalage.lake.removal import check_shrink, ids_of, item_ids, links_of, remove_items, unknown_near

    lake = workspace.lake
    items = lake.table("items")
    items.version()
    there = item_ids(lake)
    wanted = list(dict.fromkeys(ids_of(words, workspace.config.ingest.items, set(there))))
    if where:
        wanted = list(dict.fromkeys([*wanted, *fitting(workspace, where)]))
    if not words and not where:
        raise ConfigError("name the items to delete: ids, files of ids, or --where FIELD=VALUE")
    known = set(there)
    gone = [one for one in wanted if one in known]
    check_shrink(len(gone), len(there), workspace.config.publish.max_shrink, force)
    unknown = [one for one in wanted if one not in known]
    keys = pa.array(gone, pa.string())
    rows = {"photos": links_of(lake, keys).num_rows, "items": len(gone)}
    rows = {name: count for name, count in rows.items() if count}
    plan = Deletion(
        "items",
        not dry and bool(gone),
        rows,
        len(there),
        tuple(gone[:SHOWN]),
        tuple(unknown),
        unknown_near(unknown, there),
        _speaking_of(workspace, keys),
        ("`etalage sync` takes them out of the bundle; nothing need be trained for that",),
        _undo(workspace, rows),
    )
    if not dry:
        remove_items(lake, gone, 1.0, force=True)
    return plan


def fitting(workspace: Workspace, where: Sequence[str]) -> list[str]:
    """The ids of the items that fit every condition, FIELD=VALUE: a column of the table items, or an
    attribute. A category is fitted by all beneath it, too. Raises ConfigError."""
    conditions = [_condition(one) for one in where]
    spec = TABLES["items"]
    columns = ["item_id", *(name for name, _ in conditions if name in spec.names and name != "item_id")]
    if any(name not in spec.names for name, _ in conditions):
        columns.append("attributes")
    rows = workspace.lake.table("items").read(columns=list(dict.fromkeys(columns)))
    fits = pa.chunked_array([pa.repeat(pa.scalar(True), rows.num_rows)])
    for name, value in conditions:
        fits = pc.and_(fits, pc.fill_null(_fits(rows, name, value), False))
    found: list[str] = rows.filter(fits)["item_id"].to_pylist()
    return found


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = {"category": "category_id", "id": "item_id"}.get(name.strip(), name.strip())
    spec = TABLES["items"]
    if not equals or not name or not value:
        raise ConfigError(
            f"--where {text!r}: write FIELD=VALUE, such as category=Shoes, brand=Acme or color=red"
        )
    if name in spec.names and spec.column(name).type not in (pa.string(), pa.bool_()):
        raise ConfigError(f"--where {text!r}: {name} is no text; a condition is about a text, or in_stock")
    if name == "in_stock" and value not in ("true", "false"):
        raise ConfigError(f"--where {text!r}: in_stock is true or false")
    return name, value


def _fits(rows: pa.Table, name: str, value: str) -> pa.ChunkedArray:
    if name == "category_id":
        beneath = pc.starts_with(rows[name], value + CATEGORY_SEPARATOR)
        return pc.or_(pc.equal(rows[name], value), beneath)
    if name == "in_stock":
        return pc.equal(rows[name], value == "true")
    if name in TABLES["items"].names:
        return pc.equal(rows[name], value)
    said = (json.loads(one or "{}").get(name) == value for one in rows["attributes"].to_pylist())
    return pa.chunked_array([pa.array(said, pa.bool_())])


def _speaking_of(workspace: Workspace, item_ids: pa.Array) -> tuple[str, ...]:
    """What stays and names these items."""
    if not len(item_ids):
        return ()
    why = {
        "interactions": "they count again when the items come back; training leaves them out",
        "photos": "an item that comes back has them; `etalage delete photos --of ID`",
        "classifications": "the next `etalage classify` removes them",
        "held": "they wait for the items",
    }
    lines = []
    for name, said in why.items():
        table = workspace.lake.table(name)
        if not table.exists():
            continue
        columns = ["item_id", "sha256"] if name == "photos" else ["item_id"]
        rows = table.read(columns=columns)
        theirs = pc.is_in(rows["item_id"], value_set=item_ids)
        if name == "photos":
            theirs = pc.and_(theirs, pc.is_valid(rows["sha256"]))
        if count := int(pc.sum(theirs).as_py() or 0):
            lines.append(f"rows of {name} about these items ({count:,}): {said}")
    golden = workspace.folder / "golden.json"
    if golden.exists():
        from etalage.features.golden import read_golden

        if count := len(read_golden(golden).item_ids & set(item_ids.to_pylist())):
            lines.append(f"the golden set, which has {count:,} of them")
    return tuple(lines)


# -- photos --------------------------------------------------------------------------------------


def delete_photos(
    workspace: Workspace,
    words: Sequence[str] = (),
    of: Sequence[str] = (),
    every: bool = False,
    dry: bool = True,
) -> Deletion:
    """Delete photos: by path or link, by SHA-256 (8 digits or more), those of items, or `every` one.

    Raises TableMissing, ConfigError: nothing was named.
    """
    if not words and not of and not every:
        raise ConfigError("name the photos to delete: paths, links or hashes, --of ITEM, or --all")
    table = workspace.lake.table("photos")
    rows = table.read(columns=["item_id", "url", "sha256"])
    doomed, unknown = _doomed(rows, words, of, every)
    found = rows.filter(doomed)
    counts = {"photos": found.num_rows} if found.num_rows else {}
    gone = _files_of_nobody(found, rows.filter(pc.invert(doomed)))
    if made := _made_of(workspace, gone):
        counts["embeddings"] = made
    near = {one: like for one in unknown[:SHOWN] if (like := _like(one, rows)) is not None}
    links = int(pc.sum(_is_link(found["url"])).as_py() or 0)
    items = len(pc.unique(found["item_id"]))
    stays = [f"the {items:,} items stay, without these photos"] if items else []
    if links:
        stays.append(f"{links:,} were links: the next ingest of a row that has such a link asks for it again")
    plan = Deletion(
        "photos",
        not dry and bool(counts),
        counts,
        rows.num_rows,
        tuple(
            f"{item}: {url}"
            for item, url in zip(*(found[n].to_pylist()[:SHOWN] for n in ("item_id", "url")), strict=True)
        ),
        tuple(unknown),
        near,
        tuple(stays),
        ("`etalage sync` takes them out of the bundle and its index; nothing need be trained",),
        _undo(workspace, counts),
    )
    if not dry and counts:
        _forget(workspace, gone)
        table.delete(found.select(["item_id", "url"]))
    return plan


def _files_of_nobody(gone: pa.Table, stays: pa.Table) -> pa.Array:
    """The SHA-256 of the files among the photos that go which no other photo is."""
    shas = pc.unique(gone["sha256"].drop_null())
    return shas.filter(pc.invert(pc.is_in(shas, value_set=stays["sha256"].combine_chunks())))


def _of_photos(rows: pa.Table, shas: pa.Array) -> pa.ChunkedArray:
    return pc.and_(pc.equal(rows["owner"], "photo"), pc.is_in(rows["id"], value_set=shas))


def _made_of(workspace: Workspace, shas: pa.Array) -> int:
    """How many embeddings, and features, models made of these photos."""
    table = workspace.lake.table("embeddings")
    if not len(shas) or not table.exists():
        return 0
    return int(pc.sum(_of_photos(table.read(columns=["owner", "id"]), shas)).as_py() or 0)


def _forget(workspace: Workspace, shas: pa.Array) -> None:
    """What was made of a photo goes before it, as what the photo showed can be told from that: after a kill
    the same command does the rest."""
    table = workspace.lake.table("embeddings")
    if len(shas) and table.exists():
        table.delete_matching(("owner", "id"), lambda rows: _of_photos(rows, shas))


def _doomed(
    rows: pa.Table, words: Sequence[str], of: Sequence[str], every: bool
) -> tuple[pa.ChunkedArray, list[str]]:
    """What of the rows is named, and the names that none has."""
    if every:
        return pa.chunked_array([pa.repeat(pa.scalar(True), rows.num_rows)]), []
    items = pa.array(list(of), pa.string())
    doomed = pc.is_in(rows["item_id"], value_set=items)
    unknown = [one for one in dict.fromkeys(of) if not pc.any(pc.equal(rows["item_id"], one)).as_py()]
    for word in dict.fromkeys(words):
        named = pc.equal(rows["url"], word)
        if len(word) >= 8 and set(word.lower()) <= set("0123456789abcdef"):
            named = pc.or_(named, pc.fill_null(pc.starts_with(rows["sha256"], word.lower()), False))
        if not pc.any(named).as_py():
            unknown.append(word)
        doomed = pc.or_(doomed, named)
    return doomed, unknown


def _like(word: str, rows: pa.Table) -> str | None:
    known = [*pc.unique(rows["url"]).to_pylist(), *pc.unique(rows["item_id"]).to_pylist()]
    return nearest(word, known)


def _is_link(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.match_substring_regex(urls, "^https?://", ignore_case=True)


# -- whole tables --------------------------------------------------------------------------------


def reset(workspace: Workspace, name: str, dry: bool = True) -> Deletion:
    """Delete all rows of a table. Raises TableMissing."""
    table = workspace.lake.table(name)
    count = table.count()
    rows = {name: count} if count else {}
    shas = pa.array([], pa.string())
    if name == "photos":
        shas = pc.unique(table.read(columns=["sha256"])["sha256"].drop_null())
        rows |= {"embeddings": made} if (made := _made_of(workspace, shas)) else {}
    stays, after = _beside(workspace, name), _AFTER.get(name, ())
    undo = _undo(workspace, rows)
    plan = Deletion(name, not dry and bool(count), rows, count, (), stays=stays, next=after, undo=undo)
    if not dry:
        _forget(workspace, shas)
        table.clear()
    return plan


_AFTER: Mapping[str, tuple[str, ...]] = {
    "items": (
        "`etalage ingest FILE items`, then `etalage sync`; while the table is empty both sync and publish "
        "refuse, and the bundle stays as it is",
    ),
    "photos": (
        "`etalage ingest` or `etalage photos fetch` brings photos, `etalage sync` takes them into the bundle",
    ),
    "users": (
        "`etalage train` and `etalage publish` make models that do not know what was said of shoppers",
    ),
    "interactions": (
        "`etalage ingest FILE interactions`, then `etalage train` and `etalage publish`: until then models "
        "know what was deleted",
    ),
    "classifications": ("`etalage classify` asks about all items again",),
    "recommendations": ("`etalage users best` writes them again",),
    "links": ("`etalage photos fetch` asks for every link as if for the first time",),
    "embeddings": ("`etalage publish` embeds photos and texts again; `etalage vectors` writes the others",),
}


def _beside(workspace: Workspace, name: str) -> tuple[str, ...]:
    lines = {
        "items": [
            ("interactions", "they count again when their items come back"),
            ("photos", "items that come back have them; `etalage reset photos`"),
        ],
        "users": [("interactions", "`etalage erase` forgets a shopper")],
        "interactions": [("held", "they come into the table when their item and kind are known")],
    }.get(name, [])
    found = []
    for other, why in lines:
        table = workspace.lake.table(other)
        if table.exists() and (count := table.count()):
            found.append(f"rows of {other} ({count:,}): {why}")
    if name == "interactions" and (workspace.folder / "live").is_dir():
        found.append(
            "the online store; what was collected out of it is not collected again, what shoppers do from "
            "now on is"
        )
    return tuple(found)


@dataclass(frozen=True)
class Undone:
    """A table as it was: `version` is what its rows are those of again. Planned, or `done`."""

    table: str
    done: bool
    version: int
    now: int
    """The version that was the newest."""
    rows_now: int
    rows_then: int
    erased: int
    """Rows of shoppers who were erased since, which were left out."""
    undo: tuple[str, ...]


def history(workspace: Workspace, name: str, last: int = 20) -> "list[PastVersion]":
    """The newest versions of a table, newest first. Raises TableMissing."""
    return workspace.lake.table(name).history(last)


def undo(workspace: Workspace, name: str, to: int, dry: bool = True) -> Undone:
    """Make the rows of a table those of an older version again, by a new version. Rows of shoppers who were
    erased since stay out. Raises TableMissing: no such version; DataError: it was vacuumed."""
    if name not in UNDONE:
        raise ConfigError(
            f"{name}: is not undone, since it is made again; tables that are: {', '.join(UNDONE)}"
        )
    table = workspace.lake.table(name)
    now = table.version()
    if to == now:
        raise ConfigError(
            f"--to {to}: is the version that table {name} has; `etalage undo {name}` lists others"
        )
    table.require_files(to)
    plan = Undone(name, not dry, to, now, table.count(), table.count(to), 0, _undo(workspace, {name: 1}))
    return plan if dry else Undone(**{**plan.__dict__, "erased": table.restore(to)})


def _undo(workspace: Workspace, rows: Mapping[str, int]) -> tuple[str, ...]:
    shop = shlex.quote(str(workspace.folder))
    return tuple(
        f"etalage undo {name} --to {workspace.lake.table(name).version()} --shop {shop}"
        for name in rows if name in UNDONE
    )  # fmt: skip
