"""Explains a slate: to the shop by numbers of every stage, to the shopper by a sentence per item.

K candidates   H acts
"""

from collections import Counter
from typing import Any

import numpy as np

from etalage.funnel.candidates import Excluded, candidates
from etalage.funnel.catalogue import NOT_SOLD_OUT, Filters, Stock
from etalage.funnel.funnel import Answered, Funnel
from etalage.funnel.shoppers import Shopper
from etalage.kinds import Meaning, known_meaning, plain_kind

MOST_DROPPED = 50
STRONGEST: tuple[Meaning, ...] = ("has", "rating", "like", "cart", "view")
VERBS = {
    "view": "you looked at",
    "cart": "you put into your cart",
    "has": "you bought",
    "rating": "you liked",
    "like": "you liked",
}
"""Phrases by the meaning of a kind."""
CHOSE = {"play": "you listened to", "listen": "you listened to", "watch": "you watched"}
"""Phrases by kind, for kinds that only mean interest; for others: "you chose"."""


def trace(
    funnel: Funnel, shopper: Shopper, answered: Answered, filters: Filters, stock: Stock
) -> dict[str, Any]:
    """{"stages", "retrievers", "dropped"} of one answer. To find what the filters kept out, it retrieves
    again without them."""
    plan, found = answered.ranking.plan, answered.ranking.found
    stages = [dict(stage) for stage in answered.stages.rows]
    dropped = _filtered(funnel, answered, filters, stock, shopper)
    stages[0]["dropped"] = dict(Counter(one["why"] for one in dropped))
    below = len(answered.ranking.rows) - len(answered.order.places) - len(answered.order.capped)
    ordered = Counter(answered.order.capped.values())
    stages[-1]["dropped"] = {**({"below the last place": below} if below > 0 else {}), **ordered}
    ids = funnel.catalogue.ids
    dropped += [
        {"item_id": ids[int(answered.ranking.rows[place])], "stage": "order", "why": why}
        for place, why in answered.order.capped.items()
    ]
    retrievers = {
        one.name: {
            "quota": plan.quotas.get(one.name, 0),
            "found": int(found.found_by(one.name).sum()) if one.name in found.scores else 0,
        }
        for one in plan.retrievers
    }
    return {
        "tier": plan.tier,
        "ranker": None if plan.ranker is None or plan.tier == "popular" else plan.ranker.name,
        "acts": len(shopper.rows),
        "stages": stages,
        "retrievers": retrievers,
        "dropped": dropped[:MOST_DROPPED],
    }


def _filtered(
    funnel: Funnel, answered: Answered, filters: Filters, stock: Stock, shopper: Shopper
) -> list[dict[str, str]]:
    """What the retrievers would have found without filters."""
    plan = answered.ranking.plan
    if answered.allow is None and answered.excluded.most == 0:
        return []
    every = candidates(plan.retrievers, plan.queries, plan.quotas, None, Excluded.none(1))
    rows = every.rows[0]
    out = np.zeros(len(rows), bool) if answered.allow is None else ~answered.allow[rows]
    excluded = answered.excluded.holds(np.zeros(len(rows), np.int64), rows)
    parts = list(funnel.catalogue.parts(_without_exclude(funnel.with_stock_rule(filters)), stock))
    seen = set(shopper.seen.tolist())
    dropped = []
    for row in rows[out | excluded].tolist():
        missed = next((name for name, mask in parts if not mask[row]), None)
        if missed is not None:
            why = "out of stock" if missed == NOT_SOLD_OUT else f"not {missed}"
        else:
            why = "seen" if row in seen else "excluded by the request"
        dropped.append({"item_id": funnel.catalogue.ids[row], "stage": "retrieve", "why": why})
    return dropped


def _without_exclude(filters: Filters) -> Filters:
    return Filters(**{**filters.__dict__, "exclude": ()})


def place_traces(answered: Answered) -> list[dict[str, Any]]:
    """For every place of the slate: which retrievers found the item, and each stage's score."""
    found, order = answered.ranking.found, answered.order
    traces: list[dict[str, Any]] = []
    for n in range(len(answered.rows)):
        if n >= len(order.places):
            traces.append({"retrievers": {}, "rank": None, "order": None, "filled": True})
            continue
        place = int(order.places[n])
        scores = {name: float(s[0, place]) for name, s in found.scores.items() if np.isfinite(s[0, place])}
        traces.append(
            {
                "retrievers": scores,
                "rank": float(answered.ranking.scores[place]),
                "order": float(order.scores[n]),
            }
        )
    return traces


def sentences(funnel: Funnel, shopper: Shopper, answered: Answered) -> list[str]:
    """For every place of the slate, a reason that a shopper can read."""
    rows = answered.rows
    votes = _votes(funnel, shopper, answered, rows)
    popular = "popular right now" if funnel.catalogue.popularity.any() else "from the shop"
    said = []
    for place in range(len(rows)):
        act = int(np.argmax(votes[place])) if votes.shape[1] else -1
        if act >= 0 and votes[place, act] > 0:
            title = funnel.catalogue.title(int(shopper.rows[act]))
            if answered.tier == "photo":
                said.append(f"looks like {title}")
            else:
                said.append(f"because {_verb(shopper, act)} {title}")
        elif answered.tier in ("popular", "photo") or not len(shopper.rows):
            said.append(popular)
        else:
            said.append("popular with shoppers like you" if _personal(answered, place) else popular)
    return said


def _verb(shopper: Shopper, act: int) -> str:
    """The strongest thing that the shopper did with the item of this act: who bought it has viewed it too."""
    kinds = [shopper.kinds[n] for n in np.flatnonzero(shopper.rows == shopper.rows[act])]
    meanings = {known_meaning(kind) for kind in kinds}
    told = [VERBS[meaning] for meaning in STRONGEST if meaning in meanings]
    return told[0] if told else CHOSE.get(plain_kind(shopper.kinds[act]), "you chose")


def _personal(answered: Answered, place: int) -> bool:
    if place >= len(answered.order.places):
        return False
    at = int(answered.order.places[place])
    names = [n for n, s in answered.ranking.found.scores.items() if np.isfinite(s[0, at])]
    return any(name != answered.ranking.plan.retrievers[-1].name for name in names)


def _votes(funnel: Funnel, shopper: Shopper, answered: Answered, rows: np.ndarray) -> np.ndarray:
    """(k, H) how much each act recommends each item; each retriever's votes are scaled to at most 1 per item.

    Only retrievers that found the item count.
    """
    votes = np.zeros((len(rows), len(shopper.rows)))
    if votes.size == 0:
        return votes
    found, places = answered.ranking.found, answered.order.places
    for one in answered.ranking.plan.retrievers:
        if one.name not in found.scores:
            continue
        heard = np.zeros(len(rows), bool)
        heard[: len(places)] = np.isfinite(found.scores[one.name][0][places])
        theirs = one.votes(shopper.rows, rows)
        if theirs is None:
            continue
        most = np.maximum(theirs.max(axis=1, keepdims=True), 1e-12)
        votes += np.where(heard[:, None], np.maximum(theirs, 0) / most, 0)
    # An item does not explain itself.
    votes[rows[:, None] == shopper.rows[None, :]] = 0
    return votes
