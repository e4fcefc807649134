"""Before a network that was trained again on everything is served: is it whole?

What the judged one was chosen by, the new one has seen: it has to find that at least as well. That is a floor
and no verdict, and it catches a training that went astray. Both exports are asked the same questions, each by
its own ids.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from etalage.errors import TooLittleData
from etalage.shop.search_steps import SURE, of_some_shoppers
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from etalage.config import BehaviourConfig
    from etalage.evaluation.slices import Questions
    from etalage.features.behaviour import BehaviourSet
    from etalage.runtime.scorer import ExportScorer

log = logging.getLogger(__name__)
MOST, SCORES = 1000, 4_000_000
"""Shoppers that are asked at most, and scores of items that are made for them."""


def why_worse(workspace: Workspace, judged: Path, again: Path, whole: "BehaviourSet") -> str | None:
    """In figures, that `again` finds less of the part that settings are chosen by than `judged`; None: it
    does not, or there is nobody to ask. whole: all acts. Raises ExportDamaged: a score is NaN."""
    from etalage.evaluation.slices import ask
    from etalage.runtime.opening import open_scorer

    old, new = open_scorer(judged), open_scorer(again)
    evaluate = workspace.evaluating
    metric = evaluate.ranking_metric if old.role == "ranker" else evaluate.retrieval_metric
    try:
        data = _split(_known_to(whole, old), workspace.config.behaviour)
        asked = ask(data, "validation", max(1, min(MOST, SCORES // len(whole.items))))
    except TooLittleData as error:
        log.info("%s on everything is compared with nothing: %s", old.name, error)
        return None
    attributes = _attributes(workspace, asked, data) if old.user_encoder or new.user_encoder else None
    before, now = (_values(one, asked, data, metric, attributes) for one in (old, new))
    gains = now - before
    chance = float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    if float(gains.mean()) >= -SURE * chance:
        return None
    return (
        f"{metric} {now.mean():.4f} on everything, {before.mean():.4f} as it was judged, of {len(gains):,} "
        "shoppers of validation, whose acts it has seen"
    )


def _known_to(whole: "BehaviourSet", judged: "ExportScorer") -> "BehaviourSet":
    """The acts of some shoppers whom the judged model knows, on items that it knows."""
    some = of_some_shoppers(whole)
    users = np.append(False, judged.users.rows(whole.users.ids) > 0)
    items = np.append(False, judged.items.rows(whole.items.ids) > 0)
    acts, held = (one.take(users[one.users] & items[one.items]) for one in (some.part("train"), some.held))
    return replace(some, parts={"train": acts}, held=held, shop_begins=None)


def _split(data: "BehaviourSet", config: "BehaviourConfig") -> "BehaviourSet":
    """As [behaviour] says; where the split was published, each shopper's last acts. Raises TooLittleData."""
    from etalage.features.split_interactions import parted

    if config.split == "published":
        config = config.model_copy(update={"split": "leave_one_out"})
    parts = parted(data.part("train"), config, data.targets)
    return replace(data, parts=parts, own_split=True, facts={**data.facts, "split": config.split})


def _attributes(workspace: Workspace, asked: "Questions", data: "BehaviourSet") -> "pa.ChunkedArray":
    """(B,) JSON of the table users; null: nothing is known of the shopper."""
    import pyarrow.compute as pc

    users = workspace.lake.table("users").read(columns=["user_id", "attributes"])
    ids = data.users.ids.take(asked.queries.users - 1)
    return users["attributes"].take(pc.index_in(ids, value_set=users["user_id"].combine_chunks()))


def _values(
    scorer: "ExportScorer",
    asked: "Questions",
    data: "BehaviourSet",
    metric: str,
    attributes: "pa.ChunkedArray | None",
) -> np.ndarray:
    """(B,) float64: what the model finds, by its own rows of shoppers and items."""
    from etalage.evaluation.behaviour import ks_with
    from etalage.evaluation.ranking import rank_all
    from etalage.features.behaviour import Interactions
    from etalage.features.history import Histories

    users = np.append(0, scorer.users.rows(data.users.ids))
    items = np.append(0, scorer.items.rows(data.items.ids))
    given, seen = asked.queries, asked.seen
    names = ("", *data.kinds)
    histories = Histories(given.starts, items[given.items], given.kinds, given.times, names)
    found = rank_all(
        scorer,
        scorer.ask(users[given.users], histories, given.now, attributes),
        [np.sort(items[right]) for right in asked.truth],
        ks=ks_with((), metric),
        exclude=Interactions.sorted(users[seen.users], items[seen.items]),
    )
    return np.asarray(found.per_query[metric])
