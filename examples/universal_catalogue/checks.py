"""What the example claims, checked: how every link ended, how the crawler behaved, what was written back."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claims import Claims
from feeds import FAULTS, TEMPORARY, World
from merchants import MERCHANTS, own_ids

from etalage.config import PhotosConfig

JITTER = 0.1
"""Seconds by which a busy machine may see a request late."""


def links_ended_well(world: World, rows: Iterable[Mapping[str, Any]], claims: Claims) -> None:
    """Each link is in one of the states that its server's behaviour allows. rows: of table `links`."""
    states = {row["url"]: row["status"] for row in rows}
    by_how: dict[str, Counter[str]] = defaultdict(Counter)
    wrong = []
    for offer in world.offers:
        if offer.link is None:
            continue
        state = states.get(offer.link, "never asked for")
        by_how[offer.how][state] += 1
        if state not in offer.states:
            wrong.append(f"{offer.link} ({offer.how}): {state}")
    for how in ("photo", "moved", "busy", "shaky", "invalid", *FAULTS):
        told = ", ".join(f"{count} {state}" for state, count in by_how[how].most_common())
        print(f"    {how:10}  {told or '–'}")
    total = sum(sum(counts.values()) for counts in by_how.values())
    claims.that(f"every one of {total} links ended in the right state", not wrong, "; ".join(wrong[:5]))


def read_requests(log: Path) -> list[dict[str, Any]]:
    """What the merchants' servers were asked, in order."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def crawler_behaved(requests: list[dict[str, Any]], config: PhotosConfig, claims: Claims) -> None:
    """By the servers' own log of one run."""
    by_host: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for request in requests:
        by_host[request["host"]].append(request)
    fenced = [request["path"] for request in requests if request["path"].startswith("/members/")]
    claims.that("nothing was asked for that robots.txt keeps back", not fenced, fenced[:3] or "")
    late = [host for host, asked in by_host.items()
            if min(asked, key=lambda request: request["time"])["path"] != "/robots.txt"]  # fmt: skip
    claims.that(f"all of {len(by_host)} hosts were asked for robots.txt first", not late, late[:3] or "")
    most = max((request["at_once"] for request in requests), default=0)
    claims.that(f"at most {config.per_host} requests at once to a host", most <= config.per_host, most)
    hasty = []
    for host, asked in by_host.items():
        times = [request["time"] for request in asked]
        if max(times) - min(times) < config.spacing * (len(times) - 1) - JITTER:
            hasty.append(host)
    claims.that(f"no host was asked more often than every {config.spacing:g} s", not hasty, hasty[:3] or "")
    told = {request["agent"] for request in requests}
    named = all(str(config.contact) in agent for agent in told)
    claims.that("every request said who asks", named, ", ".join(sorted(told)))


def only_failed_asked_again(world: World, requests: list[dict[str, Any]], claims: Claims) -> None:
    """In a second run, whose `requests` these are: nothing that is stored, nothing that failed for good."""
    may = {offer.link for offer in world.offers if offer.how in TEMPORARY}
    asked = {f"http://{request['host']}{request['path']}" for request in requests}
    asked = {url for url in asked if not url.endswith("/robots.txt")}
    claims.that(
        f"a second run asks for {len(asked)} of the links that failed for now, and for no other",
        asked <= may,
        ", ".join(sorted(asked - may)[:3]),
    )


@dataclass(frozen=True)
class WrittenBack:
    """What the classifier wrote of the items that carried no id: a figure for a look, not a measurement.

    Their near-duplicates at other merchants were learned from; `etalage evaluate` keeps those apart.
    """

    items: int
    decided: int
    right: int


def written_back(
    world: World, rows: Sequence[Mapping[str, Any]], own: Mapping[str, str | None], claims: Claims
) -> WrittenBack:
    """Every item has its row beside the merchant's own category, and nothing was guessed from a bad id.

    rows: of table `classifications`. own: {item: category_id of table `items`}.
    """
    ids, by_item = own_ids(), {row["item_id"]: row for row in rows}
    claims.that("every item has its row", set(by_item) == {offer.item_id for offer in world.offers})
    kept = all(own[offer.item_id] == offer.category for offer in world.offers)
    claims.that("no merchant's own category was touched", kept)
    services = [by_item[offer.item_id] for offer in world.offers if offer.of is None]
    outside = all(row["status"] == "outside" and row["category_id"] is None for row in services)
    claims.that(f"{len(services)} services are outside the taxonomy", outside)
    bad = [offer for offer in world.offers if offer.carries in ("unknown", "retired")]
    guessed = [offer.item_id for offer in bad if by_item[offer.item_id]["given_how"] == "given"]
    claims.that(f"{len(bad)} unknown and retired ids were not taken for one", not guessed, guessed[:3] or "")
    bare = [
        offer for offer in world.offers if offer.of and offer.carries in ("nothing", "unknown", "retired")
    ]
    decided = [offer for offer in bare if by_item[offer.item_id]["category_id"] is not None]
    right = [o for o in decided if o.of and by_item[o.item_id]["category_id"] == ids[o.of.name][0]]
    return WrittenBack(len(bare), len(decided), len(right))


def beside(world: World, rows: Sequence[Mapping[str, Any]], most: int) -> list[tuple[str, ...]]:
    """Some items of each merchant: whose, its title, its own category, what was written, how sure."""
    by_item = {row["item_id"]: row for row in rows}
    shown: list[tuple[str, ...]] = []
    for merchant in MERCHANTS:
        mine = [offer for offer in world.offers if offer.merchant is merchant]
        for offer in (*mine[: most - 1], mine[-1]):
            row = by_item[offer.item_id]
            path = " > ".join((row["path"] or "").split(" > ")[-2:]) or row["status"]
            sure = "" if row["confidence"] is None else f"{row['confidence']:.2f}"
            shown.append((merchant.name, offer.title, offer.category, path, sure))
    return shown
