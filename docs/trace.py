"""Writes docs/trace.md, one shopper traced through every stage: python docs/trace.py SHOP USER FILE."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from etalage.api import Recommended
from etalage.recommend import Recommender
from etalage.shop import Shop


def page(recommender: Recommender, answer: Recommended, history: list[tuple[str, str, str]]) -> str:
    """Markdown; everything in it is what `explain` returned."""
    trace = answer.trace
    lines = [
        "# One shopper, from behaviour to a slate",
        "",
        f"`docs/trace.py` generated this page from bundle `{recommender.bundle}` of a demo shop: shopper "
        f"`{answer.user_id}`, tier `{answer.tier}`, ranker `{trace['ranker']}`.",
        "",
        "## What the shopper did last",
        "",
        "| when | what | item |",
        "|---|---|---|",
        *(f"| {when} | {kind} | {title} |" for when, kind, title in history),
        "",
        "## What each stage did",
        "",
        "| stage | in | out | dropped |",
        "|---|---|---|---|",
    ]
    for stage in trace["stages"]:
        dropped = ", ".join(f"{count:,} {why}" for why, count in stage["dropped"].items()) or "–"
        lines.append(f"| {stage['name']} | {stage['in']:,} | {stage['out']:,} | {dropped} |")
    lines += ["", "| retriever | quota | found |", "|---|---|---|"]
    lines += [f"| {name} | {one['quota']} | {one['found']} |" for name, one in trace["retrievers"].items()]
    lines += [
        "",
        "## The slate",
        "",
        "| | item | price | found by (score) | ranked | why |",
        "|---|---|---|---|---|---|",
    ]
    for slot in answer.slate:
        assert slot.trace is not None
        found = ", ".join(f"{name} ({score:.3g})" for name, score in slot.trace["retrievers"].items())
        price = "" if slot.price is None else f"{slot.price:.2f}"
        ranked = f"{slot.trace['rank']:.3f}"
        lines.append(f"| {slot.rank} | {slot.title} | {price} | {found} | {ranked} | {slot.why} |")
    lines += ["", "## The first ten items that were left out", "", "| item | stage | why |", "|---|---|---|"]
    lines += [f"| {one['item_id']} | {one['stage']} | {one['why']} |" for one in trace["dropped"][:10]]
    return "\n".join([*lines, ""])


def main(folder: str, user_id: str, file: str) -> None:
    shop = Shop(folder)
    recommender = shop.recommender()
    with shop.live_store() as live:
        answer = recommender.recommend(user_id=user_id, k=8, explain=True, live=live)
        acts = live.history(user_id, 8)
    shown = []
    for act in acts:
        row = recommender.catalogue.row(act.item_id)
        title = act.item_id if row == 0 else recommender.catalogue.shown(row)["title"]
        when = "" if act.time is None else f"{datetime.fromtimestamp(act.time / 1e6, UTC):%Y-%m-%d %H:%M}"
        shown.append((when, act.kind, title))
    Path(file).write_text(page(recommender, answer, shown), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
