"""What the demo shop's shoppers did in a year: sessions of views, some carts, some purchases.

Shoppers are simulated in blocks of 256, each with its own generator, always a whole block: so a
shopper does the same however many others there are.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etalage.demo.categories import leaves
from etalage.demo.draws import choice, normal, uniform
from etalage.demo.facts import TODAY, Facts, item_ids
from etalage.demo.tastes import item_tastes, liking_of, user_ids, user_tastes
from etalage.lake.schema import TABLES

DAYS = 365
KINDS = ("view", "cart", "buy")
BLOCK = 256
_WEEKS = 53
_TRIED = 10  # items that a shopper's eye passes over for each one that she opens
_HOURS = np.array(
    [1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 6, 5, 5, 6, 7, 9, 11, 12, 11, 7, 3], dtype=np.float64
)
_PEAKS = {"spring": 112, "summer": 190, "autumn": 285, "winter": 350}  # day of the year


@dataclass(frozen=True, slots=True)
class Shelves:
    """The catalogue as shoppers meet it: item rows sorted by aisle, and their weight in each week."""

    rows: NDArray[np.int64]  # (I,) item row at each place
    cumulative: NDArray[np.float64]  # (weeks, I): running sum of the weights
    starts: NDArray[np.int64]  # (aisles + 1,)
    traffic: NDArray[np.float64]  # (weeks, aisles): share of interest


def _season(days: NDArray[np.floating]) -> NDArray[np.float64]:
    """(weeks, leaves): how much each leaf is in demand in weeks that start at these days of the year."""
    factors = np.ones((len(days), len(leaves())))
    for i, leaf in enumerate(leaves()):
        if leaf.season == "gifts":
            factors[:, i] = 0.7 + 2.2 * np.exp(-(((days - 345 + 182) % 365 - 182) ** 2) / (2 * 14.0**2))
        elif leaf.season in _PEAKS:
            swing = np.cos(2 * np.pi * (days - _PEAKS[leaf.season]) / 365)
            factors[:, i] = np.exp(1.5 * swing - 0.3)
    return factors


def popularity(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often an item is shown, before season and age: Zipf's law, (N,)."""
    return np.asarray((uniform(seed, "popularity", numbers) + 1e-3) ** -0.75)


def shelves(seed: int, f: Facts) -> Shelves:
    """Sorts the catalogue by aisle and weighs every item in every week of the year."""
    aisles = sorted({leaf.aisle for leaf in leaves()})
    aisle = np.array([aisles.index(leaf.aisle) for leaf in leaves()])[f.leaf]
    rows = np.argsort(aisle, kind="stable")
    first = TODAY.timetuple().tm_yday - DAYS
    weeks = np.arange(_WEEKS)
    season = _season((first + weeks * 7.0) % 365)
    since = (weeks * 7)[:, None] - (DAYS - f.release_day[rows])[None, :]  # days on sale at the week's start
    fresh = 1.0 + 2.0 * np.exp(-np.maximum(since, 0) / 25.0)
    weight = popularity(seed, f.numbers[rows]) * season[:, f.leaf[rows]] * fresh * (since >= 0)
    starts = np.searchsorted(aisle[rows], np.arange(len(aisles) + 1))
    cumulative = np.concatenate([np.zeros((_WEEKS, 1)), np.cumsum(weight, axis=1)], axis=1)
    return Shelves(rows, cumulative, starts, np.diff(cumulative[:, starts], axis=1))


def _passed(
    shelf: Shelves, week: NDArray[np.int64], aisle: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Item rows (N, _TRIED) that shoppers meet in that week and aisle (−1: in the whole shop)."""
    low = np.where(aisle >= 0, shelf.starts[aisle], 0)
    high = np.where(aisle >= 0, shelf.starts[aisle + 1], len(shelf.rows))
    draws = random.random((len(week), _TRIED))
    found = np.empty((len(week), _TRIED), dtype=np.int64)
    order = np.argsort(week, kind="stable")
    bounds = np.searchsorted(week[order], np.arange(_WEEKS + 1))
    for w in range(_WEEKS):
        chosen = order[bounds[w] : bounds[w + 1]]
        if not len(chosen):
            continue
        running = shelf.cumulative[w]
        floor, ceiling = running[low[chosen], None], running[high[chosen], None]
        target = np.minimum(floor + draws[chosen] * (ceiling - floor), np.nextafter(ceiling, 0.0))
        place = np.searchsorted(running, target, side="right") - 1
        found[chosen] = shelf.rows[place]
    return found


@dataclass(frozen=True, slots=True)
class Deeds:
    """Interactions as arrays, (N,) each, in order of user and time."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    kind: NDArray[np.int64]  # index into KINDS
    second: NDArray[np.int64]  # after the year's start


def _sessions(
    seed: int, numbers: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Whose each session is, and when it starts (seconds after the year's start), in that order."""
    activity = np.exp(1.45 + 1.0 * normal(seed, "activity", numbers))  # heavy-tailed
    joined = uniform(seed, "joined", numbers) ** 3 * 0.9 * DAYS
    count = np.minimum(1 + random.poisson(activity * (1 - joined / DAYS)), 200)
    user = np.repeat(np.arange(len(numbers)), count)
    first = TODAY.timetuple().tm_yday - DAYS
    offer = joined[user, None] + random.random((len(user), 4)) * (DAYS - joined[user, None])
    yearday = (first + offer) % 365
    busy = 1.0 + 0.35 * np.exp(-(((yearday - 335) / 18.0) ** 2)) + 0.25 * ((offer.astype(np.int64) % 7) >= 5)
    pick = np.argmax(busy * random.random(busy.shape) ** 0.5, axis=1)
    day = np.floor(offer[np.arange(len(user)), pick])
    hour = random.choice(24, size=len(user), p=_HOURS / _HOURS.sum())
    start = day * 86_400 + hour * 3_600 + random.random(len(user)) * 3_000
    order = np.lexsort((start, user))
    return user[order], start[order]


@dataclass(frozen=True, slots=True)
class DrawnShoppers:
    """What a block's simulation needs to know about the shop."""

    seed: int
    shelf: Shelves
    items: NDArray[np.float32]  # item_tastes, (I, T)
    aisles: NDArray[np.float32]  # their mean over each aisle, (aisles, T)


def crowd(seed: int, f: Facts) -> DrawnShoppers:
    """The shop before anybody came in."""
    shelf, tastes = shelves(seed, f), item_tastes(seed, f)
    spans = zip(shelf.starts[:-1], shelf.starts[1:], strict=True)
    means = [tastes[shelf.rows[a:b]].mean(axis=0) if b > a else np.zeros(tastes.shape[1]) for a, b in spans]
    return DrawnShoppers(seed, shelf, tastes, np.array(means, dtype=np.float32))


def _errands(
    shop: DrawnShoppers, users: NDArray[np.float32], week: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Which aisle each session is about: what the season sells, and what its shopper likes. (sessions,)"""
    with np.errstate(divide="ignore"):
        pull = np.log(shop.shelf.traffic[week]) + 0.8 * (users @ shop.aisles.T)
    return np.asarray(np.argmax(pull + random.gumbel(size=pull.shape), axis=1), dtype=np.int64)


def block(shop: DrawnShoppers, number: int) -> Deeds:
    """The year of the shoppers [256 number, 256 (number + 1))."""
    random = np.random.default_rng([shop.seed, number, 0x5401])
    numbers = np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.int64)
    tastes = user_tastes(shop.seed, numbers)
    owner, start = _sessions(shop.seed, numbers, random)
    week = np.minimum(start // (7 * 86_400), _WEEKS - 1).astype(np.int64)
    aisle = _errands(shop, tastes[owner], week, random)
    length = np.minimum(1 + random.geometric(0.22, len(owner)), 40)
    session = np.repeat(np.arange(len(owner)), length)
    focused = np.where(random.random(len(session)) < 0.75, aisle[session], -1)
    passed = _passed(shop.shelf, week[session], focused, random)
    who = tastes[owner[session]]
    odds = np.einsum("nt,nkt->nk", who, shop.items[passed])
    opened = np.argmax(0.65 * odds + random.gumbel(size=odds.shape), axis=1)
    item = passed[np.arange(len(session)), opened]
    gaps = np.cumsum(5 + random.exponential(40, len(session)))
    first = np.cumsum(length) - length
    second = (start[session] + gaps - gaps[first][session]).astype(np.int64)
    liked = liking_of(who, shop.items[item])
    return _funnel(numbers[owner[session]], item, second, second[first + length - 1][session], liked, random)


def _funnel(
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    second: NDArray[np.int64],
    leaving: NDArray[np.int64],
    liked: NDArray[np.float32],
    random: np.random.Generator,
) -> Deeds:
    """Views become carts, and carts purchases, the more the item is liked; some of both is chance."""
    count = len(user)
    carted = random.random(count) < 0.01 + 0.26 * liked**1.3
    bought = carted & (random.random(count) < 0.1 + 0.5 * liked)
    events = [
        (np.ones(count, dtype=bool), 0, second),
        (carted, 1, second + random.integers(3, 40, count)),
        (bought, 2, leaving + random.integers(45, 400, count)),
    ]
    users = np.concatenate([user[chosen] for chosen, _, _ in events])
    items = np.concatenate([item[chosen] for chosen, _, _ in events])
    kinds = np.concatenate([np.full(int(chosen.sum()), kind) for chosen, kind, _ in events])
    seconds = np.concatenate([at[chosen] for chosen, _, at in events])
    order = np.lexsort((kinds, seconds, users))
    order = order[seconds[order] < DAYS * 86_400]
    return Deeds(users[order], items[order], kinds[order], seconds[order])


def _table(deeds: Deeds, prices: NDArray[np.float64], shoppers: int) -> pa.Table:
    kept = deeds.user < shoppers
    user, item, kind, second = deeds.user[kept], deeds.item[kept], deeds.kind[kept], deeds.second[kept]
    occurrence = np.arange(len(user)) - np.searchsorted(user, user)
    owners = user_ids(user)
    value = np.select([kind == 1, kind == 2], [np.ones(len(user)), prices[item]], np.nan)
    moments = (int(TODAY.timestamp()) - DAYS * 86_400 + second) * 1_000_000
    columns = {
        "interaction_id": [f"{owner}-{n:05d}" for owner, n in zip(owners, occurrence.tolist(), strict=True)],
        "user_id": owners,
        "item_id": item_ids(item),
        "kind": pa.array(KINDS).take(pa.array(kind)),
        "value": pa.array(value, from_pandas=True),
        "time": pa.array(moments, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        "part": pa.nulls(len(user), pa.string()),
    }
    return pa.table(columns, schema=TABLES["interactions"].schema)


def interactions(seed: int, f: Facts, shoppers: int) -> Iterator[pa.Table]:
    """What each block of shoppers did: columns of the interactions table.

    `value` is null for a view, the number of pieces for a cart, the amount paid for a purchase.
    """
    shop = crowd(seed, f)
    for number in range((shoppers + BLOCK - 1) // BLOCK):
        yield _table(block(shop, number), f.price, shoppers)


_AGES = ("16-24", "25-34", "35-44", "45-54", "55-64", "65+")
_LANDS = ("BE", "DE", "FR", "NL", "AT", "ES")


def users(seed: int, numbers: NDArray[np.int64]) -> pa.Table:
    """The rows of the users table: what a shop knows of a shopper, which is not what she likes."""
    age = choice(seed, "user/age", numbers, np.array([14, 27, 23, 17, 12, 7], dtype=np.float64)).tolist()
    land = choice(seed, "user/land", numbers, np.array([12, 30, 24, 20, 6, 8], dtype=np.float64)).tolist()
    letter = (uniform(seed, "user/letter", numbers) < 0.4).tolist()
    attributes = [
        json.dumps(
            {"age": _AGES[a], "country": _LANDS[c], "newsletter": "yes" if n else "no"}, sort_keys=True
        )
        for a, c, n in zip(age, land, letter, strict=True)
    ]
    return pa.table({"user_id": user_ids(numbers), "attributes": attributes}, schema=TABLES["users"].schema)
