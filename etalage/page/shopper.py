"""The page of one shopper: what they did, what they would be shown now and why; acts that change it."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from etalage.api import PastAct, ReasonedSlot, Recommended
from etalage.errors import EtalageError
from etalage.page import pieces, wording
from etalage.page.navigation import entered, go, set_widget, shopper_named
from etalage.page.place import Place
from etalage.page.source import ForShopper, Source

LISTED = 40
"""Shoppers to choose from; any other id can be typed."""
SLATE = 12
ACTS_SHOWN = 20
CARD_PIXELS = 480
SMALL_PIXELS = 240
FAILED = "act-failed"


def chooser(place: Place, shop: Source) -> None:
    """Who is it? A list of those who acted last, and a field for anybody."""
    with st.container(key="shoppers"):
        pieces.heading("Shopper")
        st.text_input(
            "A shopper's id",
            key=set_widget("shopper", place.shopper or ""),
            placeholder="Type an id",
            label_visibility="collapsed",
            max_chars=512,
            on_change=entered("shopper", shopper_named),
        )
        pieces.note("Or one of those who acted last:")
        pieces.people(shop.shoppers(LISTED), place.shopper, lambda user_id: go(shopper=user_id))


def shown(place: Place, shop: Source, other: Source | None) -> ForShopper | None:
    """The shopper's page; None while nobody was chosen. Raises EtalageError and its kinds."""
    if place.shopper is None:
        pieces.notice("Who is shopping?", "Choose a shopper on the left, or type any id, a new one too.")
        return None
    found = shop.for_shopper(place.shopper, SLATE)
    with st.container(key="shopper-title"):
        count = wording.amount(len(found.acts), "act", "acts")
        pieces.heading(f"For {place.shopper}", f"{count}, newest first" if found.acts else "no acts")
    if failed := st.session_state.pop(FAILED, None):
        pieces.notice("That was not noted", "Please try again in a moment.", failed)
    _history(found, shop)
    if other is None:
        _slate(place.shopper, found, shop)
        _how(found.answer)
    else:
        _how(_side_by_side(place.shopper, found, shop, other))
    return found


def _slate(user_id: str, found: ForShopper, shop: Source) -> None:
    answer = found.answer
    with st.container(key="shopper-slate"):
        pieces.heading("What they see now")
        pieces.note(_tier_in_words(answer))
        pieces.slate(
            "slate",
            answer.slate,
            _photos(shop, answer),
            columns=4,
            act=lambda asked: _act(shop, user_id, asked),
            pick=lambda item_id: go(item=item_id),
        )


def _side_by_side(user_id: str, found: ForShopper, shop: Source, other: Source) -> Recommended:
    """Both asked by the acts, for their online stores may differ; → the answer of `shop`."""
    past = found.acts
    answers = (shop.for_acts(past, SLATE), other.for_acts(past, SLATE))
    pieces.note(f"Both servers were asked with the same {wording.amount(len(past), 'act', 'acts')}.")
    for column, name, source, answer, against in zip(
        st.columns(2, gap="large"), ("one", "other"), (shop, other), answers, reversed(answers), strict=True
    ):
        with column, st.container(key=f"shopper-slate-{name}"):
            pieces.heading(answer.bundle, source.client.url)
            pieces.note(_tier_in_words(answer))
            pieces.slate(
                f"slate-{name}",
                answer.slate,
                _photos(source, answer),
                columns=3,
                marks=_marks(answer.slate, against.slate),
                act=(lambda asked: _act(shop, user_id, asked)) if source is shop else None,
                pick=(lambda item_id: go(item=item_id)) if source is shop else None,
            )
    return answers[0]


def _marks(slate: Sequence[ReasonedSlot], against: Sequence[ReasonedSlot]) -> dict[str, str]:
    """Where the other one has the item: nothing if at the same place."""
    there = {slot.item_id: slot.rank for slot in against}
    marks = {}
    for slot in slate:
        rank = there.get(slot.item_id)
        if rank != slot.rank:
            marks[slot.item_id] = "only here" if rank is None else f"there: {rank}"
    return marks


def _tier_in_words(answer: Recommended) -> str:
    said = wording.tier(answer.tier, answer.known)
    return f"{said} {answer.reason}." if answer.reason else said


def _photos(source: Source, answer: Recommended) -> dict[str, bytes]:
    wanted = [slot.item_id for slot in answer.slate if slot.photo is not None]
    return source.photos(answer.bundle, wanted, CARD_PIXELS)


def _act(shop: Source, user_id: str, asked: Sequence[str]) -> None:
    """A button under a card. Runs before the page is shown again, which then shows the new slate."""
    item_id, kind = asked
    try:
        shop.act(user_id, item_id, kind)
    except EtalageError as error:
        st.session_state[FAILED] = str(error)


def _history(found: ForShopper, shop: Source) -> None:
    newest: list[PastAct] = found.acts[::-1][:ACTS_SHOWN]
    with st.container(key="shopper-history"):
        if not newest:
            pieces.note("Nothing yet. View, cart or buy something, and the slate will know.")
            return
        wanted = [one.item_id for one in newest if one.item is not None and one.item.photo is not None]
        photos = shop.photos(found.bundle, list(dict.fromkeys(wanted)), SMALL_PIXELS)
        pieces.acts("past", newest, photos, lambda item_id: go(item=item_id))


def _how(answer: Recommended) -> None:
    """For the shop: what each stage did, and what is known of each place."""
    trace: Mapping[str, Any] = answer.trace or {}
    with st.container(key="shopper-trace"), st.expander("How this slate came about"):
        pieces.table(
            "stages",
            ("stage", "in", "out", "left out", "time"),
            [
                (
                    stage["name"],
                    f"{stage['in']:,}",
                    f"{stage['out']:,}",
                    ", ".join(f"{count:,} {why}" for why, count in stage["dropped"].items()),
                    f"{stage['milliseconds']:.1f} ms",
                )
                for stage in trace.get("stages", ())
            ],
        )
        names = list(trace.get("retrievers", {}))
        pieces.table(
            "places",
            ("", "item", *names, "ranked by" if trace.get("ranker") is None else trace["ranker"]),
            [_place(slot, names) for slot in answer.slate],
        )
        left_out = trace.get("dropped", ())
        if left_out:
            rows = [(one["item_id"], one["stage"], one["why"]) for one in left_out]
            pieces.table("left-out", ("left out", "by", "because"), rows)


def _place(slot: ReasonedSlot, names: Sequence[str]) -> tuple[str, ...]:
    trace: Mapping[str, Any] = slot.trace or {}
    scores = trace.get("retrievers", {})
    title = slot.title or slot.item_id
    found = (wording.score(scores.get(name)) for name in names)
    return (str(slot.rank), f"{title} ({slot.item_id})", *found, wording.score(trace.get("rank")))
