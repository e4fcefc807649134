"""The tables → every link of a shop, and those that are due.

P pairs (item, link)   L distinct links
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import PhotosConfig
from etalage.errors import ConfigError
from etalage.lake.delta import Lake
from etalage.lake.difference import key_of
from etalage.lake.photos.addresses import Hosts, literal
from etalage.lake.photos.links import ASKED, keeping_of
from etalage.lake.photos.urls import host_of
from etalage.lake.schema import TABLES

_WEB = r"^\s*(?i:https?)://"
_PAIR = pa.schema([("item_id", pa.string()), ("url", pa.string())])
_OF_LINKS = ("url", "host", "status", "final_url", "etag", "last_modified", "source_sha256", "stored_as",
             "attempts", "retry_at", "checked_at")  # fmt: skip


@dataclass(frozen=True)
class FetchPlan:
    """`pairs` (P rows): item_id, url, `held` (the item has this photo's bytes), `status` of the photo's row
    (null: it has none). `links` (L rows): those columns of table `links` that matter here, null where a
    link was never asked for; and `owners`, `held` (by any of them), `lacking` (not by all of them)."""

    pairs: pa.Table
    links: pa.Table

    @cached_property
    def hosts(self) -> list[str]:
        """Every host that a link names."""
        return sorted(pc.unique(self.links["host"].drop_null()).to_pylist())

    def due(self, config: PhotosConfig, now: datetime, refresh: float | None, again: bool) -> pa.Table:
        """The links to ask for, as ASKED rows sorted by host.

        Those whose photo nobody has: never asked for, or due by retry_at (`again`: whatever that says). With
        `refresh`, those too whose photo is held, last asked for as many days ago or more.
        """
        links = self.links
        asked = _bools(pc.is_valid(links["status"]))
        held = _bools(links["held"])
        waiting = _bools(pc.greater(links["retry_at"], pa.scalar(now, links["retry_at"].type)))
        due = ~held & (~waiting | again)
        if refresh is not None:
            since = pa.scalar(now - timedelta(days=refresh), links["checked_at"].type)
            due |= held & asked & (~waiting | again) & _bools(pc.less_equal(links["checked_at"], since))
        rows = links.filter(pa.array(due))
        same = pc.equal(rows["stored_as"], keeping_of(config).name)
        same = pc.and_(pc.fill_null(same, False), rows["held"])
        columns = {name: rows[name] for name in ASKED.names}
        for name in ("etag", "last_modified", "final_url", "source_sha256"):
            columns[name] = pc.if_else(same, rows[name], pa.scalar(None, pa.string()))
        columns["attempts"] = pc.fill_null(rows["attempts"], 0)
        return pa.table(columns, schema=ASKED).sort_by("host")

    def waiting(self, now: datetime) -> int:
        """How many links without a photo are not due yet."""
        late = _bools(pc.greater(self.links["retry_at"], pa.scalar(now, self.links["retry_at"].type)))
        return int((late & ~_bools(self.links["held"])).sum())


def plan_of(lake: Lake) -> FetchPlan:
    """Every link of the tables: items.photo_url, and photos whose url is one. Raises TableDamaged."""
    pairs = _pairs(lake)
    grouped = pairs.group_by("url", use_threads=False).aggregate(
        [("item_id", "list"), ("held", "any"), ("held", "all")]
    )
    stored = _stored(lake)
    at = pc.index_in(grouped["url"], value_set=stored["url"].combine_chunks())
    known = stored.drop_columns(["url"]).take(at.combine_chunks())
    host = [
        known_host or host_of(url)
        for url, known_host in zip(grouped["url"].to_pylist(), known["host"].to_pylist(), strict=True)
    ]
    links = known.drop_columns(["host"])
    added = {
        "url": grouped["url"],
        "host": pa.array(host, pa.string()),
        "owners": grouped["item_id_list"],
        "held": grouped["held_any"],
        "lacking": pc.invert(grouped["held_all"]),
    }
    for name, column in added.items():
        links = links.append_column(name, column)
    return FetchPlan(pairs, links.combine_chunks())


def _pairs(lake: Lake) -> pa.Table:
    items = _read(lake, "items", ("item_id", "photo_url")).rename_columns(["item_id", "url"])
    photos = _read(lake, "photos", ("item_id", "url", "status", "sha256"))
    items = items.filter(pc.and_(pc.is_valid(items["url"]), pc.not_equal(items["url"], "")))
    pairs = pa.concat_tables([items.cast(_PAIR), photos.select(_PAIR.names).cast(_PAIR)]).combine_chunks()
    keys = key_of(pairs, _PAIR.names)
    first = np.unique(pc.index_in(keys, value_set=pc.unique(keys)).to_numpy(), return_index=True)[1]
    pairs, keys = pairs.take(pa.array(np.sort(first))), keys.take(pa.array(np.sort(first)))
    at = pc.index_in(keys, value_set=key_of(photos, _PAIR.names))
    held = pc.is_valid(photos["sha256"].take(at))
    pairs = pairs.append_column("held", pc.fill_null(held, False))
    pairs = pairs.append_column("status", photos["status"].take(at))
    # The name of a photo that was ingested as a file is no link; one that names nothing is a bad link.
    link = pc.or_(pc.match_substring_regex(pairs["url"], _WEB), pc.invert(pairs["held"]))
    return pairs.filter(link).combine_chunks()


def _stored(lake: Lake) -> pa.Table:
    return _read(lake, "links", _OF_LINKS)


def _read(lake: Lake, name: str, columns: tuple[str, ...]) -> pa.Table:
    table = lake.table(name)
    if not table.exists():
        schema = TABLES[name].schema
        return pa.schema([schema.field(column) for column in columns]).empty_table()
    return table.read(columns=columns)


def _bools(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) bool; null is False."""
    return np.asarray(pc.fill_null(column, False).to_numpy(), dtype=bool)


def require_contact(config: PhotosConfig, hosts: list[str]) -> None:
    """Raises ConfigError: other machines are to be asked, and nobody is named who answers for it."""
    mapped = Hosts(config.hosts)
    away = next((host for host in hosts if not _is_local(host, mapped)), None)
    if config.contact is None and away is not None:
        raise ConfigError(
            f"[photos] contact is not set, and {away} is another machine: whoever runs it must be able to "
            'find you. Write in shop.toml: contact = "a mail address, or a page that says who asks and why"'
        )


def _is_local(host: str, mapped: Hosts) -> bool:
    found, address = mapped.find(host, 80), literal(host)
    if found is not None:
        return found[0].is_loopback
    if address is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")
