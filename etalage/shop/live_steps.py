"""The online store beside the tables: seeded from them, collected into them; how a shopper is forgotten."""

import html
import json
import logging
import shlex
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import StoreUnavailable, TableDamaged
from etalage.features.behaviour import NEVER
from etalage.nearest import nearest
from etalage.shop import stream_steps
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.draft import DraftedModel
    from etalage.funnel.shoppers import UserHistories
    from etalage.lake.delta import Lake
    from etalage.lake.ledger import Moment
    from etalage.online import Event, LiveStore
    from etalage.online.marks import Mark
    from etalage.shop.held_steps import Collected, HeldBack
    from etalage.shop.progress import Meter

log = logging.getLogger(__name__)
COLLECT_AT_ONCE = 50_000
ERASED_FROM = ("users", "interactions", "held", "embeddings", "recommendations", "refused")
"""The tables that may hold rows of a shopper."""


def uri(workspace: Workspace) -> str | Path:
    """[serve] live, or a file in the shop."""
    return workspace.config.serve.live or workspace.folder / "live" / "events.sqlite"


def opened(workspace: Workspace) -> "LiveStore":
    """The store, which knows who was erased. Raises ConfigError, DataError."""
    return _with_erasures(workspace, _at(uri(workspace)))


def _at(where: str | Path) -> "LiveStore":
    from etalage.online import open_live

    if isinstance(where, Path):
        where.parent.mkdir(parents=True, exist_ok=True)
    return open_live(where)


def _with_erasures(workspace: Workspace, store: "LiveStore") -> "LiveStore":
    """The same, told who was erased (F66): one that was made anew, put back from a copy or away meanwhile
    does not know it by itself."""
    try:
        store.forget(workspace.lake.erasures.times())
    except Exception:
        store.close()
        raise
    return store


def found(workspace: Workspace) -> "LiveStore | None":
    """The store to ask; None where it would be a file that nothing has made yet: asking makes none.

    Raises ConfigError, DataError.
    """
    where = uri(workspace)
    return None if isinstance(where, Path) and not where.exists() else opened(workspace)


def seed(workspace: Workspace, user_histories: "UserHistories") -> int:
    """The histories that a bundle knows, for requests to go on from; how many acts."""
    from etalage.online import Act
    from etalage.online.marks import read_marks, write_marks

    times = pc.fill_null(user_histories.acts["time"].cast(pa.int64()), NEVER).to_pylist()
    columns = (user_histories.acts[name].to_pylist() for name in ("user_id", "item_id", "kind", "value"))
    acts = (
        (user, Act(item, kind or "", value, None if time == NEVER else time))
        for (user, item, kind, value), time in zip(zip(*columns, strict=True), times, strict=True)
    )
    with workspace.bar("seed the online store", None), workspace.disk(), closing(opened(workspace)) as store:
        seeded = store.seed(acts)
        folder = workspace.folder / "live"
        write_marks(folder, replace(read_marks(folder), seeded=store.about().store_id))
    return seeded


def collect(workspace: Workspace) -> "Collected":
    """Events of the online store → the table interactions, each once, less those that are held back
    (shop/held_steps.py); and those that were held back and are known by now.

    What was collected is remembered for each store (F63): of another one than last time every event is read.
    So is a file that stood here before [serve] live named another place.
    """
    from etalage.shop.held_steps import Collected, HeldBack, KnownActs

    sorting = HeldBack(workspace.lake, KnownActs(workspace))
    with workspace.bar("collect events", None) as meter:
        with workspace.disk():
            released = sorting.release()
        added = released + _collected_everywhere(workspace, sorting, meter)
    waiting = sorting.table.count() if sorting.table.exists() else 0
    return Collected(added, sorting.held, released, waiting, sorting.notes())


def _collected_everywhere(workspace: Workspace, sorting: "HeldBack", meter: "Meter") -> int:
    """Out of the store, and out of the file that was the store before; how many rows are new."""
    with closing(opened(workspace)) as store:
        added = _collected(workspace, store, sorting, meter)
        ours = store.about().store_id
    before = _file_before(workspace)
    if before is not None:
        try:
            left = _with_erasures(workspace, _at(before))
        except StoreUnavailable as error:
            log.warning(
                "%s was the online store before, and its events cannot be collected: %s", before, error
            )
            return added
        with closing(left):
            if left.about().store_id != ours:
                added += _collected(workspace, left, sorting, meter)
    return added


def _file_before(workspace: Workspace) -> Path | None:
    """The file that was the online store before [serve] live named another place, if it is still there."""
    file = workspace.folder / "live" / "events.sqlite"
    return file if workspace.config.serve.live is not None and file.exists() else None


def _collected(workspace: Workspace, store: "LiveStore", sorting: "HeldBack", meter: "Meter") -> int:
    """The same for one store; the meter counts events."""
    from etalage.online.marks import Mark, read_marks, write_marks

    folder = workspace.folder / "live"
    about = store.about()
    marks = read_marks(folder)
    mark = marks.collected.get(about.store_id)
    if mark is None and marks.collected:
        log.warning("the online store is another one than was collected before: read from its start")
    after = mark.after if mark is not None and _stands(store, workspace.lake, mark) else 0
    added = 0
    while found := store.events(after, COLLECT_AT_ONCE):
        if store.about().store_id != about.store_id:  # replaced or emptied meanwhile
            return added + _collected(workspace, store, sorting, meter)
        with workspace.disk():
            added += sorting.merge(_as_interactions(found))
            number, newest = found[-1]
            # Behind the merge: after a kill the same events are merged again, which changes nothing.
            mark = Mark(number, newest.event_id, _moments(workspace.lake))
            write_marks(folder, read_marks(folder).moved(about.store_id, mark))
        after = number
        meter(len(found))
    return added


def _moments(lake: "Lake") -> "dict[str, Moment]":
    """Of the tables that events go into; those that there are."""
    tables = {name: lake.table(name) for name in ("interactions", "held")}
    return {name: table.moment() for name, table in tables.items() if table.exists()}


def _stands(store: "LiveStore", lake: "Lake", mark: "Mark") -> bool:
    """Whether the mark still means what it did: the event is the store's, and no table has lost it.

    A store may have been put back from a copy of an earlier day, or the event's shopper erased; a table may
    have been made anew, or put back too. Then all is read again, which costs time and changes nothing.
    """
    found = store.events(mark.after - 1, 1)
    if not found or (found[0][0], found[0][1].event_id) != (mark.after, mark.event_id):
        return False
    return all(lake.table(name).has_been(moment) for name, moment in mark.tables.items())


def _as_interactions(found: "Sequence[tuple[int, Event]]") -> pa.Table:
    from etalage.lake.schema import TABLES

    columns: dict[str, list[Any]] = {
        "interaction_id": [f"event:{event.event_id}" for _, event in found],
        "user_id": [event.user_id for _, event in found],
        "item_id": [event.act.item_id for _, event in found],
        "kind": [event.act.kind for _, event in found],
        "value": [event.act.value for _, event in found],
        "time": [event.act.time for _, event in found],
        "part": [None] * len(found),
    }
    return pa.table(columns, schema=TABLES["interactions"].schema)


@dataclass(frozen=True)
class Erased:
    """What `erase` did, and what it could not do."""

    user_id: str
    rows: dict[str, int]
    """Table → rows deleted; `online store` → acts."""
    left: tuple[str, ...]
    """Where traces of the shopper still are, and how they go."""
    near: str | None = None
    """Where no row is theirs: the user_id that may be meant."""


def erase(workspace: Workspace, user_id: str) -> Erased:
    """Forget a shopper (F57): their rows in the tables, their acts in the online store.

    It is remembered first, by a digest, so that no writer that is at work, no file and no event that is sent
    again brings them back (F66). Bundles made from now on know nothing of them; what was written before is
    named in `left`. Raises StoreUnavailable: the tables are done, the online store is not.
    """
    rows: dict[str, int] = {}
    remains: tuple[str, ...] = ()
    erasures = workspace.lake.erasures
    with workspace.disk(), erasures.turn():
        erasures.remember(user_id)
        rows |= delete_rows(workspace, user_id)
        stream_steps.forget(workspace)
        try:
            rows["online store"] = 0
            before = _file_before(workspace)
            for where in (uri(workspace), *(() if before is None else (before,))):
                with closing(_at(where)) as store:
                    rows["online store"] += store.erase(user_id)
                    remains += store.remains()
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"the tables are done, the online store is not: {error}. Run `etalage erase` again"
            ) from error
        near = None if any(rows.values()) else nearest(user_id, shoppers(workspace))
        return Erased(user_id, rows, (*remains, *_left(workspace, user_id)), near)


def delete_rows(workspace: Workspace, user_id: str) -> dict[str, int]:
    """Delete a shopper's rows from the tables; how many of each."""
    rows: dict[str, int] = {}
    for name, columns, theirs in _theirs(user_id):
        table = workspace.lake.table(name)
        if table.exists():
            rows[name] = table.delete_matching(columns, theirs)
    return rows


def shoppers(workspace: Workspace) -> list[str]:
    """The ids of all shoppers in the tables, sorted."""
    tables = [workspace.lake.table(name) for name in ("users", "interactions", "held", "recommendations")]
    found = [
        pc.unique(one.read(columns=["user_id"])["user_id"]).to_pylist() for one in tables if one.exists()
    ]
    return sorted({one for ids in found for one in ids if one is not None})


def _theirs(user_id: str) -> "list[tuple[str, tuple[str, ...], Callable[[pa.Table], pa.Array]]]":
    """(table, columns, what of a row with these is true where it is theirs)."""

    def of_user(rows: pa.Table) -> pa.Array:
        return pc.equal(rows["user_id"], user_id)

    def of_embedding(rows: pa.Table) -> pa.Array:
        return pc.and_(pc.equal(rows["owner"], "user"), pc.equal(rows["id"], user_id))

    def of_refused(rows: pa.Table) -> pa.Array:
        of_shoppers = pc.is_in(rows["what"], value_set=pa.array(["users", "interactions"]))
        inside = json.dumps(user_id, ensure_ascii=False)[1:-1]
        may = pc.and_(of_shoppers, pc.fill_null(pc.match_substring(rows["row"], inside), False))
        named = [bool(one) and _has_value(row, user_id) for one, row in zip(
            may.to_pylist(), rows["row"].to_pylist(), strict=True)]  # fmt: skip
        keyed = pc.and_(of_shoppers, pc.fill_null(pc.equal(rows["key"], user_id), False))
        return pc.or_(keyed, pa.array(named, pa.bool_()))

    return [
        ("users", ("user_id",), of_user),
        ("interactions", ("user_id",), of_user),
        ("held", ("user_id",), of_user),
        ("embeddings", ("owner", "id"), of_embedding),
        ("recommendations", ("user_id",), of_user),
        ("refused", ("what", "row", "key"), of_refused),
    ]


def _has_value(row: str, value: str) -> bool:
    """Whether a raw row, kept as JSON, has this value; one that was cut off has whatever it may have."""
    try:
        found = json.loads(row)
    except ValueError:
        return True
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [found]
    return any(str(one) == value for one in values)


def erased_but_known(workspace: Workspace, models: "Sequence[DraftedModel]") -> list[str]:
    """One line for each model whose export was made before a shopper was erased, and has their id."""
    from etalage.lake.erasures import digest

    gone = {name for name, one in workspace.lake.erasures.known().items() if not one.back}
    lines = []
    for model in models if gone else ():
        file = model.export / "users.arrow"
        ids = _vocabulary(file).to_pylist() if file.exists() else []
        known = sum(digest(one) in gone for one in ids if one is not None)
        if known:
            name = model.export.parent.name
            name = model.export.parent.parent.name if name == "everything" else name
            lines.append(
                f"the export of {name} was made before {known:,} of its shoppers were erased: the bundle has "
                f"not their ids, the export has: `etalage train {name}`, and remove the older ones"
            )
    return lines


def warn_of_erased(workspace: Workspace, bundle: str) -> None:
    """Tell of shoppers that a bundle knows, who were erased since it was made and have not come back."""
    try:
        gone = {name for name, one in workspace.lake.erasures.known().items() if not one.back}
    except TableDamaged as error:
        log.warning("whether bundle %s knows shoppers who were erased is not known: %s", bundle, error)
        return
    if known := erased_in(workspace.bundles.path(bundle), gone) if gone else 0:
        log.warning(
            "bundle %s knows %s of the shoppers who were erased since it was made: `etalage publish` makes "
            "one that does not", bundle, f"{known:,}",
        )  # fmt: skip


def erased_in(folder: Path, gone: set[str]) -> int:
    """How many shoppers with one of these digests a bundle, an export or a copy of one knows."""
    from etalage.lake.erasures import digest

    names = {name for file in folder.rglob("users.arrow") for name in _vocabulary(file).to_pylist()}
    return sum(digest(name) in gone for name in names if name is not None)


def _left(workspace: Workspace, user_id: str) -> tuple[str, ...]:
    from etalage.online.marks import FILE

    left = []
    for one in workspace.bundles.survey():
        if one.manifest is not None and _knows(workspace.bundles.path(one.id), user_id):
            current = "; it is the current one: `etalage publish`" if one.current else ""
            left.append(
                f"bundle {one.id} knows the shopper, until {workspace.config.publish.keep} are newer{current}"
            )
    exports = workspace.folder / "exports"
    for export in sorted([*exports.glob("*/[0-9]*-*"), *exports.glob("*/everything/[0-9]*-*")]):
        if (export / "users.arrow").exists() and _in_vocabulary(export / "users.arrow", user_id):
            left.append(
                f"export {export.relative_to(exports)} knows the id: {_anew(export)}, then remove the folder"
            )
    shown = (html.escape(user_id), json.dumps(user_id, ensure_ascii=False)[1:-1])
    for report in sorted([*(workspace.folder / "reports").rglob("*.html"), *workspace.runs.rglob("*.html")]):
        text = report.read_text(encoding="utf-8", errors="replace")
        if any(one in text for one in shown):
            left.append(f"report {report.relative_to(workspace.folder)} may show the id: remove it")
    known = {"events.sqlite", "events.sqlite-wal", "events.sqlite-shm", FILE}
    for file in sorted((workspace.folder / "live").glob("*")):
        if file.name not in known and file.is_file() and not file.name.startswith("."):
            left.append(f"live/{file.name} may hold what the shopper did: remove it when it is not needed")
    if versioned := [name for name in ERASED_FROM if workspace.lake.table(name).exists()]:
        shop = shlex.quote(str(workspace.folder))
        left.append(
            f"older versions of the tables {', '.join(versioned)}, and MLflow's copies of exports: "
            f"`etalage vacuum --yes --shop {shop}` removes them"
        )
    return tuple(left)


def _anew(export: Path) -> str:
    """What makes an export anew: one that was fitted on everything is made by publishing."""
    if export.parent.name == "everything":
        return "`etalage publish`"
    return f"`etalage train {export.parent.name}`"


def _knows(bundle: Path, user_id: str) -> bool:
    return any(_in_vocabulary(file, user_id) for file in bundle.rglob("users.arrow"))


def _in_vocabulary(file: Path, user_id: str) -> bool:
    return bool(pc.any(pc.equal(_vocabulary(file), user_id)).as_py())


def _vocabulary(file: Path) -> pa.ChunkedArray:
    """The ids of a users.arrow."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all().column(0).cast(pa.string())
