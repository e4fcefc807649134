"""The page of one shopper: what they did, what they would be shown now and why; acts that change it."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from etalage.api import MAX_ACTS, ReasonedSlot, Recommended
from etalage.kinds import known_meaning
from etalage.page import parts, wording
from etalage.page.place import Place
from etalage.page.source import ForShopper, Source
from etalage.page.views import View, answered

LISTED = 40
"""Shoppers to choose from; any other id can be typed."""
SLATE = 12
ACTS_SHOWN = 20
BUTTONS = (("view", "View"), ("cart", "Cart"), ("has", "Buy"))
"""What may be done to an item of a slate: the meaning of its kind, and its button."""


def view(place: Place, shop: Source, other: Source | None, failed: str = "") -> View:
    """The page of the place's shopper; the choice alone while nobody is chosen.

    `failed`: why what was done last was not noted. Raises EtalageError and its kinds.
    """
    choice = {"place": place, "people": _people(place, shop), "failed": failed}
    if place.shopper is None:
        return View("shopper.html.j2", "For a shopper", {**choice, "found": None})
    found = shop.for_shopper(place.shopper, SLATE)
    slates, answer = (
        ([_slate(place, found.answer, shop)], found.answer)
        if other is None
        else _side_by_side(place, found, shop, other)
    )
    return View(
        "shopper.html.j2",
        f"For {place.shopper}",
        {
            **choice,
            "found": found,
            "did": _did(len(found.acts)),
            "past": parts.past(found.acts[::-1][:ACTS_SHOWN], place, found.bundle),
            "slates": slates,
            "asked_alike": None
            if other is None
            else f"Both servers were asked with the same {wording.amount(len(found.acts), 'act', 'acts')}.",
            "kinds": _kinds(shop.facts(found.bundle).kinds),
            "once": uuid.uuid4().hex,
            **_how(answer, {act.item_id: wording.name(act.item) for act in found.acts if act.item}),
            **answered(found.bundle, found.seconds),
        },
    )


def _did(count: int) -> str:
    """How much a shopper did, of which a server tells no more than MAX_ACTS."""
    if count >= MAX_ACTS:
        return f"the newest {MAX_ACTS:,} acts"
    return f"{wording.amount(count, 'act', 'acts')}, newest first" if count else "no acts"


def _kinds(counted: Sequence[str]) -> list[tuple[str, str, str]]:
    """(kind, label, class) of the buttons: of each meaning the first kind that the shop counts."""
    named = [(next((one for one in counted if known_meaning(one) == means), None), means, label)
             for means, label in BUTTONS]  # fmt: skip
    return [(kind, label, means) for kind, means, label in named if kind is not None]


def _people(place: Place, shop: Source) -> list[parts.Choice]:
    return [
        parts.Choice(user_id, place.address(shopper=user_id), user_id, chosen=user_id == place.shopper)
        for user_id in shop.shoppers(LISTED)
    ]


def _slate(place: Place, answer: Recommended, shop: Source) -> dict[str, Any]:
    return {
        "key": "slate",
        "heading": "What they see now",
        "address": "",
        "tier": _tier_in_words(answer, shop),
        "cards": parts.reasoned(answer.slate, place, answer.bundle),
        "can_act": True,
    }


def _side_by_side(
    place: Place, found: ForShopper, shop: Source, other: Source
) -> tuple[list[dict[str, Any]], Recommended]:
    """Both asked by the acts, for their online stores may differ; → the slates, the answer of `shop`."""
    answers = (shop.for_acts(found.acts, SLATE), other.for_acts(found.acts, SLATE))
    slates = []
    for key, source, of, answer, against in zip(
        ("slate-one", "slate-other"),
        (shop, other),
        (parts.SHOP, parts.OTHER),
        answers,
        reversed(answers),
        strict=True,
    ):
        marks = _marks(answer.slate, against.slate)
        slates.append(
            {
                "key": key,
                "heading": answer.bundle,
                "address": source.client.url,
                "tier": _tier_in_words(answer, source),
                "cards": parts.reasoned(answer.slate, place, answer.bundle, marks, of),
                "can_act": of == parts.SHOP,
            }
        )
    return slates, answers[0]


def _marks(slate: Sequence[ReasonedSlot], against: Sequence[ReasonedSlot]) -> dict[str, str]:
    """Where the other one has the item: nothing if at the same place."""
    there = {slot.item_id: slot.rank for slot in against}
    marks = {}
    for slot in slate:
        rank = there.get(slot.item_id)
        if rank != slot.rank:
            marks[slot.item_id] = "only here" if rank is None else f"there: {rank}"
    return marks


def _tier_in_words(answer: Recommended, shop: Source) -> str:
    said = wording.tier(answer.tier, answer.known, shop.facts(answer.bundle).acted_on > 0)
    return f"{said} {answer.reason}." if answer.reason else said


def _how(answer: Recommended, known: Mapping[str, str]) -> dict[str, Any]:
    """For the shop: what each stage did, and who brought what stands at each place. In words.

    known: what the items that the shopper acted on are called; a trace names what was left out by ids.
    """
    trace: Mapping[str, Any] = answer.trace or {}
    return {
        "ranker": trace.get("ranker"),
        "stages": [
            (
                stage["name"],
                f"{stage['in']:,}",
                f"{stage['out']:,}",
                ", ".join(f"{count:,} {why}" for why, count in stage["dropped"].items()),
                f"{stage['milliseconds']:.1f} ms",
            )
            for stage in trace.get("stages", ())
        ],
        "places": [
            (str(slot.rank), _with_id(wording.name(slot), slot.item_id), _found_by(slot))
            for slot in answer.slate
        ],
        "left_out": [
            (_with_id(known.get(one["item_id"], one["item_id"]), one["item_id"]), one["stage"], one["why"])
            for one in trace.get("dropped", ())
        ],
    }


def _with_id(name: str, item_id: str) -> str:
    """What an item is called, and its id where that is something else."""
    return item_id if name == item_id else f"{name} ({item_id})"


def _found_by(slot: ReasonedSlot) -> str:
    trace: Mapping[str, Any] = slot.trace or {}
    return ", ".join(trace.get("retrievers", {}))
