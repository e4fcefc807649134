"""Google Analytics 4 as BigQuery exports it (JSON lines, Parquet, CSV): an act for each item of an event.

Or flattened, a row for each item already. https://support.google.com/analytics/answer/7029846. Events without
items are passed over, and so are lists of items that were on the screen. `user_id` is who logged in, else
`user_pseudo_id`, the browser.
"""

from collections.abc import Iterator
from typing import Any

from etalage.config import Joined, MappingConfig, Source
from etalage.lake.feeds.contract import Feed, Head
from etalage.lake.raw import RawChunk
from etalage.lake.readers import open_table

_SHOWN = ("view_item_list", "view_search_results", "view_promotion", "select_promotion")
"""Items that were shown, or stood behind a banner: nobody did anything with each of them."""
_FLAT = ("item_id", "items_item_id", "items.item_id", "item.item_id")
"""What the item of an event is called where a row is made for each already."""
_NONE = ("(not set)", "(not provided)", "")
"""Of an item: a list without it. Of a shopper: who did not consent to be known."""


def _why(head: Head) -> str | None:
    there = set(head.names)
    if head.container == "csv" and not there & {"items", *_FLAT}:
        return None
    if {"event_name", "event_timestamp"} <= there and there & {"user_pseudo_id", "event_params", "items"}:
        return "its lines have event_name, event_timestamp, " + ", ".join(
            sorted(there & {"user_pseudo_id", "event_params", "items"})
        )
    return None


def _read(head: Head, rows: int, own: MappingConfig) -> Iterator[RawChunk]:
    flat = _flat(head) is not None
    for chunk in open_table(head.file, head.container, rows, head.style).chunks():
        if chunk.lines and not flat:
            # A day without any sale has no `items` at all, and is a day all the same.
            for name in ("items", "event_name", "user_pseudo_id"):
                chunk.columns.setdefault(name, [None] * len(chunk.lines))
        yield chunk


def _flat(head: Head) -> str | None:
    """The column of the item, in an export that is flattened; None: in `items`."""
    return None if "items" in head.names else next((name for name in _FLAT if name in head.names), None)


def _preset(head: Head, own: MappingConfig) -> MappingConfig:
    columns: dict[str, Source] = {
        "user_id": ("user_id", "user_pseudo_id"),
        "item_id": "items[].item_id",
        "kind": "event_name",
        "value": "items[].quantity",
        "time": "event_timestamp",
    }
    if (flat := _flat(head)) is not None:
        columns |= {"item_id": flat, "value": flat.removesuffix("item_id") + "quantity"}
    return MappingConfig(columns=columns, skip={"kind": _SHOWN, "item_id": _NONE, "user_id": _NONE})


def _own(own: MappingConfig) -> MappingConfig:
    """The shop's mapping: `items` alone can only mean each one of them."""

    def each(ours: str, text: str) -> str:
        if text == "items":
            return f"items[].{'item_id' if ours == 'item_id' else 'quantity'}"
        return f"items[].{text.removeprefix('items.')}" if text.startswith("items.") else text

    columns: dict[str, Any] = {}
    for ours, source in own.columns.items():
        if isinstance(source, str):
            columns[ours] = each(ours, source)
        elif isinstance(source, Joined):
            columns[ours] = source.model_copy(update={"join": tuple(each(ours, t) for t in source.join)})
        else:
            columns[ours] = tuple(each(ours, text) for text in source)
    return own.model_copy(update={"columns": columns})


FEED = Feed(
    name="ga4",
    title="an export of Google Analytics 4 (BigQuery)",
    table="interactions",
    containers=("jsonl", "parquet", "csv"),
    why=_why,
    read=_read,
    preset=_preset,
    own=_own,
    notes=(
        "a row for each element of items; events without any are passed over, and so are items that were "
        "only shown (view_item_list, …)",
        "user_id is who logged in, else user_pseudo_id, the browser; events of neither, of people who did "
        "not consent, are passed over",
        "value is the quantity of the item",
    ),
)
