"""What a notebook shows of a shop: slates with photos, and where the shop stands."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

from etalage.api import Item
from etalage.errors import EtalageError
from etalage.tabular import framed, rows_html

if TYPE_CHECKING:
    from etalage.shop.status_steps import ShopStatus

SIDE = 96
"""Pixels of a thumbnail's longer side: a slate of ten is about 30 KB in the notebook's file."""
Photos = Callable[[str], bytes | None]
"""item_id → its image file; None: it has none."""


def thumbnail_uri(photo: bytes) -> str | None:
    """A small JPEG of the photo as a data URI; None: it cannot be read. Nothing of the file itself is passed
    on, whatever it holds."""
    from etalage.lake.photo_opening import open_photo

    try:
        image = open_photo(photo)
    except EtalageError:
        return None
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def slate_html(head: str, slots: Sequence[Item], photos: Photos, beside: Sequence[str]) -> str:
    """The items of a slate beside each other: photo, title, price, and a line of each of `beside`."""
    shown = "".join(_slot(slot, photos, said) for slot, said in zip(slots, beside, strict=True))
    return framed(head, f"<div>{shown}</div>")


def _slot(slot: Item, photos: Photos, said: str) -> str:
    photo = photos(slot.item_id)
    uri = None if photo is None else thumbnail_uri(photo)
    image = "" if uri is None else f'<img src="{uri}" alt="">'
    title = escape(slot.title or slot.item_id)
    price = ""
    if slot.price is not None:
        price = f"<br>{escape(' '.join((f'{slot.price:,.2f}', slot.currency or '')).strip())}"
    return f'<div class="slot">{image}<b>{title}</b>{price}<br><span class="low">{escape(said)}</span></div>'


def status_html(status: "ShopStatus") -> str:
    """Tables, models with their verdicts, the bundle and the next command."""
    parts = []
    if status.tables:
        rows = [[escape(one.name), f"{one.rows:,}", str(one.version)] for one in status.tables]
        parts.append(rows_html(["table", "rows", "version"], rows))
    if status.models:
        models = [
            [
                escape(one.name),
                escape(one.export),
                escape(f"{one.verdict}: {one.reason}" if one.reason else one.verdict),
                escape(", ".join(one.behind)),
                escape(f"{one.published}: {one.learned}" if one.learned else one.published),
            ]
            for one in status.models
        ]
        parts.append(rows_html(["model", "export", "verdict", "changed since", "published"], models))
    if status.bundle is not None:
        parts.append(f"<p>bundle {escape(status.bundle.id)}, {status.bundle.items:,} items</p>")
    if status.problem is not None:
        parts.append(f"<p>{escape(status.problem)}</p>")
    parts.append(f"<p>next: <code>{escape(status.next.command)}</code>: {escape(status.next.why)}</p>")
    return framed(status.name, "".join(parts))
