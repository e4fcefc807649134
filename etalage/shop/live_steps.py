"""The online store beside the tables: seeded from them, collected into them; how a shopper is forgotten."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from etalage.features.behaviour import NEVER

if TYPE_CHECKING:
    from etalage.bundle.shoppers import Crowd
    from etalage.lake.live import LiveStore
    from etalage.shop.shop import Shop

COLLECT_AT_ONCE = 50_000
MARK = "collected"


def uri(shop: "Shop") -> str | Path:
    """[serve] live, or a file in the shop."""
    return shop.config.serve.live or shop.folder / "live" / "events.sqlite"


def opened(shop: "Shop") -> "LiveStore":
    """Raises ConfigError, DataError."""
    from etalage.lake.live import open_live

    where = uri(shop)
    if isinstance(where, Path):
        where.parent.mkdir(parents=True, exist_ok=True)
    return open_live(where)


def found(shop: "Shop") -> "LiveStore | None":
    """The store to ask; None where it would be a file that nothing has made yet: asking makes none.

    Raises ConfigError, DataError.
    """
    where = uri(shop)
    return None if isinstance(where, Path) and not where.exists() else opened(shop)


def seed(shop: "Shop", crowd: "Crowd") -> int:
    """The histories that a bundle knows, for requests to go on from; how many acts."""
    from etalage.lake.live import Act

    times = pc.fill_null(crowd.acts["time"].cast(pa.int64()), NEVER).to_pylist()
    columns = (crowd.acts[name].to_pylist() for name in ("user_id", "item_id", "kind", "value"))
    acts = (
        (user, Act(item, kind or "", value, None if time == NEVER else time))
        for (user, item, kind, value), time in zip(zip(*columns, strict=True), times, strict=True)
    )
    with shop.bar("seed the online store", None), shop.disk(), shop.live_store() as store:
        return store.seed(acts)


def collect(shop: "Shop") -> int:
    """Events of the online store → the table interactions, each once; how many are new there."""
    from etalage.lake.schema import TABLES

    mark = shop.folder / "live" / MARK
    after = int(mark.read_text(encoding="utf-8")) if mark.exists() else 0
    added = 0
    with shop.live_store() as store:
        while found := store.events(after, COLLECT_AT_ONCE):
            columns: dict[str, list[Any]] = {
                "interaction_id": [f"event:{event.event_id}" for _, event in found],
                "user_id": [event.user_id for _, event in found],
                "item_id": [event.act.item_id for _, event in found],
                "kind": [event.act.kind for _, event in found],
                "value": [event.act.value for _, event in found],
                "time": [event.act.time for _, event in found],
            }
            with shop.disk():
                merged = shop.lake.table("interactions").merge(
                    pa.table(columns, schema=TABLES["interactions"].schema)
                )
                added += merged.inserted
                after = found[-1][0]
                # Behind the merge: after a kill the same events are merged again, which changes nothing.
                mark.parent.mkdir(parents=True, exist_ok=True)
                draft = mark.with_name(f".{MARK}")
                draft.write_text(str(after), encoding="utf-8")
                draft.replace(mark)
    return added


@dataclass(frozen=True)
class Erased:
    """What `erase` did, and what it could not do."""

    user_id: str
    rows: dict[str, int]
    """Table → rows deleted; `online store` → acts."""
    left: tuple[str, ...]
    """Where traces of the shopper still are, and how they go."""


def erase(shop: "Shop", user_id: str) -> Erased:
    """Forget a shopper (F57): their rows in the tables, their acts in the online store.

    Bundles made from now on know nothing of them; what was written before is named in `left`.
    """
    rows: dict[str, int] = {}
    with shop.disk():
        for name in ("users", "interactions", "embeddings"):
            table = shop.lake.table(name)
            if table.exists():
                rows[name] = table.delete(_keys(table, name, user_id))
        with shop.live_store() as store:
            rows["online store"] = store.erase(user_id)
    return Erased(user_id, rows, _left(shop, user_id))


def _keys(table: Any, name: str, user_id: str) -> pa.Table:
    from etalage.lake.schema import TABLES

    spec = TABLES[name]
    extra = ("user_id",) if name == "interactions" else ()
    found = table.read(columns=[*spec.key, *extra])
    if name == "embeddings":
        mine = pc.and_(pc.equal(found["owner"], "user"), pc.equal(found["id"], user_id))
    else:
        mine = pc.equal(found["user_id"], user_id)
    return found.filter(mine).select(list(spec.key))


def _left(shop: "Shop", user_id: str) -> tuple[str, ...]:
    left = []
    for one in shop.bundles.survey():
        if one.manifest is not None and _knows(shop.bundles.path(one.id), user_id):
            current = "; it is the current one: `etalage publish`" if one.current else ""
            left.append(
                f"bundle {one.id} knows the shopper, until {shop.config.publish.keep} are newer{current}"
            )
    exports = shop.folder / "exports"
    for export in sorted([*exports.glob("*/[0-9]*-*"), *exports.glob("*/everything/[0-9]*-*")]):
        if (export / "users.arrow").exists() and _in_vocabulary(export / "users.arrow", user_id):
            left.append(
                f"export {export.parent.name}/{export.name} knows the id: train again, remove the folder"
            )
    if any(shop.lake.table(name).exists() for name in ("users", "interactions")):
        left.append("older versions of the tables users and interactions, until they are vacuumed")
    return tuple(left)


def _knows(bundle: Path, user_id: str) -> bool:
    return any(_in_vocabulary(file, user_id) for file in bundle.rglob("users.arrow"))


def _in_vocabulary(file: Path, user_id: str) -> bool:
    with pa.memory_map(str(file)) as source:
        column = pa.ipc.open_file(source).read_all().column(0)
    return bool(pc.any(pc.equal(column.cast(pa.string()), user_id)).as_py())
