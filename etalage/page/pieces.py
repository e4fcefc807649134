"""The clickable parts of the page: one component, whose script builds them as text, never as HTML."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from etalage.api import Categorised, Confusion, Item, PastAct, ReasonedSlot, Slot
from etalage.page import wording
from etalage.page.thumbnails import inline

HERE = Path(__file__).parent
Chosen = Callable[[Any], None]


@cache
def _component() -> Any:
    css, js = (HERE / "pieces.css").read_text("utf-8"), (HERE / "pieces.js").read_text("utf-8")
    return st.components.v2.component("etalage", html='<div class="piece"></div>', css=css, js=js)


def style() -> None:
    """The page's style sheet."""
    st.html(HERE / "storefront.css")


def _mount(key: str, data: Mapping[str, Any], **chosen: Chosen) -> None:
    """One piece; `chosen` by the name of what a click sends. Each click is heard once."""

    def heard(name: str) -> Callable[[], None]:
        def tell() -> None:
            sent = getattr(st.session_state[key], name)
            if sent is None or sent["click"] == st.session_state.get(f"{key}-{name}-heard"):
                return
            st.session_state[f"{key}-{name}-heard"] = sent["click"]
            chosen[name](sent["value"])

        return tell

    _component()(key=key, data=dict(data), **{f"on_{name}_change": heard(name) for name in chosen})


def brand(name: str, home: Callable[[], None]) -> None:
    """The shop's name; a click leads to the grid, unfiltered."""
    data = {"kind": "brand", "name": name, "line": "find what is like it"}
    _mount("brand", data, home=lambda _: home())


def tree(branches: Sequence[wording.Branch], selected: str | None, choose: Chosen, key: str = "tree") -> None:
    """The category tree; `choose` gets a path, or "" for everything."""
    shown = [
        {
            "path": branch.path,
            "label": branch.label,
            "depth": branch.depth,
            "count": f"{branch.count:,}",
            "is_open": branch.is_open,
        }
        for branch in branches
    ]
    data = {"kind": "tree", "branches": shown, "selected": selected, "total": ""}
    _mount(key, data, category=lambda path: choose(path))


def cards(
    key: str,
    shown: Sequence[Item],
    photos: Mapping[str, bytes],
    *,
    columns: int,
    scored: bool,
    top: str,
    pick: Chosen,
) -> None:
    """A grid of items. `pick` gets the item_id of the one that is clicked.

    `scored` shows how similar each slot is; a changed `top` brings the page back to its top.
    """
    items = [
        {
            "item_id": item.item_id,
            "title": item.title or item.item_id,
            "brand": item.brand,
            "price": wording.price(item.price, item.currency),
            "in_stock": item.in_stock,
            "photo": inline(photos.get(item.item_id)),
            "score": f"{item.score:.2f}" if scored and isinstance(item, Slot) else None,
        }
        for item in shown
    ]
    _mount(key, {"kind": "cards", "items": items, "columns": columns, "top": top}, pick=pick)


def acts(key: str, acts: Sequence[PastAct], photos: Mapping[str, bytes], pick: Chosen) -> None:
    """What a shopper did, as small cards, in the order given. `pick` gets the item_id of the one clicked."""
    items = [
        {
            "item_id": past.item_id,
            "title": (past.item.title if past.item else None) or past.item_id,
            "in_stock": None,
            "photo": inline(photos.get(past.item_id)),
            "did": wording.done(past.kind, past.value),
        }
        for past in acts
    ]
    _mount(key, {"kind": "acts", "items": items}, pick=pick)


def slate(
    key: str,
    slots: Sequence[ReasonedSlot],
    photos: Mapping[str, bytes],
    *,
    columns: int,
    marks: Mapping[str, str] | None = None,
    act: Chosen | None = None,
    pick: Chosen | None = None,
) -> None:
    """A slate with its reasons. `act` gets [item_id, kind] of the button clicked; without it there are none.

    `marks`: item_id → a few words on its card.
    """
    items = [
        {
            "item_id": slot.item_id,
            "rank": slot.rank,
            "title": slot.title or slot.item_id,
            "brand": slot.brand,
            "price": wording.price(slot.price, slot.currency),
            "in_stock": slot.in_stock,
            "photo": inline(photos.get(slot.item_id)),
            "why": slot.why,
            "mark": (marks or {}).get(slot.item_id),
        }
        for slot in slots
    ]
    data = {"kind": "slate", "items": items, "columns": columns, "can_act": act is not None}
    data["can_pick"] = pick is not None
    chosen = {name: call for name, call in (("act", act), ("pick", pick)) if call is not None}
    _mount(key, data, **chosen)


def people(ids: Sequence[str], chosen: str | None, choose: Chosen) -> None:
    """A list of shoppers; `choose` gets the id that is clicked."""
    _mount("people", {"kind": "people", "ids": list(ids), "chosen": chosen}, shopper=choose)


def table(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A small table of any texts; `name` is its class."""
    cells = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join(
        "<tr>" + "".join(f'<td dir="auto">{escape(text)}</td>' for text in row) + "</tr>" for row in rows
    )
    st.html(
        f'<table class="table {escape(name)}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'
    )


def item(item: Mapping[str, Any], photo: bytes | None, choose: Chosen, choose_classified: Chosen) -> None:
    """One item, large. `choose` gets the category path that is clicked in its breadcrumbs, and
    `choose_classified` the one that is clicked in what the classifier told."""
    data = {
        "kind": "item",
        "item_id": item["item_id"],
        "title": item.get("title") or item["item_id"],
        "brand": item.get("brand"),
        "price": wording.price(item.get("price"), item.get("currency")),
        "in_stock": item.get("in_stock"),
        "description": item.get("description"),
        "crumbs": wording.crumbs(item.get("category_id")),
        "classified": _classified(item),
        "facts": [*wording.facts(item), ("Item number", item["item_id"])],
        "photo": inline(photo),
        "top": f"item {item['item_id']}",
    }
    _mount("item", data, category=choose, classified=choose_classified)


def _classified(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the classifier told of an item; None where it told nothing."""
    path, confidence = item.get("classified_path"), item.get("classified_confidence")
    if not path or confidence is None:
        return None
    return {"crumbs": wording.crumbs(path), "share": confidence, "percent": wording.percent(confidence)}


def show_category(found: Categorised) -> None:
    """What a photo shows: each step of the path with its confidence, and what else it may be."""
    path = wording.SEPARATOR.join(step.name for step in found.steps)
    data = {
        "kind": "told",
        "sure": found.category_id is not None,
        "crumbs": wording.crumbs(path),
        "share": found.confidence or 0.0,
        "percent": wording.percent(found.confidence or 0.0),
        "steps": [[step.name, step.confidence, wording.percent(step.confidence)] for step in found.steps],
        "others": [
            [leaf.path, wording.percent(leaf.confidence)] for leaf in found.others if leaf.confidence >= 0.01
        ],
    }
    _mount("told", data)


def confusion(matrix: Confusion, choose: Chosen) -> None:
    """The matrix: predicted down, true across, the most valuable top-left. `choose` gets a path."""
    data = {
        "kind": "confusion",
        "categories": [
            {"path": one.path, "label": one.path.split(wording.SEPARATOR)[-1], "value": f"{one.value:,.0f}"}
            for one in matrix.categories
        ],
        "counts": matrix.counts,
        "totals": matrix.totals,
    }
    _mount("confusion", data, category=choose)


def heading(title: str, note: str = "") -> None:
    """A title of the page's own, with a note beside it. Both may hold any text."""
    st.html(f'<div class="heading"><h2 dir="auto">{escape(title)}</h2><span>{escape(note)}</span></div>')


def note(text: str) -> None:
    """A line that explains what is shown."""
    st.html(f'<p class="note" dir="auto">{escape(text)}</p>')


def notice(title: str, text: str, detail: str = "") -> None:
    """Something went wrong: what, what to do, and the server's own words."""
    words = f'<p class="detail" dir="auto">{escape(detail)}</p>' if detail else ""
    st.html(f'<div class="notice" role="alert"><h2>{escape(title)}</h2><p>{escape(text)}</p>{words}</div>')


def uploaded(photo: bytes) -> None:
    """The shopper's own photo, small."""
    source = inline(photo)
    image = f'<img src="{source}" alt="Your photo">' if source else ""
    st.html(f'<div class="uploaded">{image}</div>')


def foot(bundle: str, seconds: float) -> None:
    """Which bundle answered, and how fast."""
    st.html(
        f'<footer class="foot"><span>Answered by bundle <b class="bundle">{escape(bundle)}</b></span>'
        f'<span class="took">in {escape(wording.took(seconds))}</span></footer>'
    )
