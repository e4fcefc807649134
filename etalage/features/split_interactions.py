"""One shop's interactions → parts that are learned from and judged on: pure functions, no act in two parts.

    M acts

`targets`: codes of the kinds that a model is judged on, empty: all. Unless shoppers take the same again
(`repeat`), a pair (user, item) of these kinds stands in one part alone: what a user took in an earlier part
is left out of the later ones, since it is not to be shown them again. That also makes each part free of the
leak that check_leakage looks for. A view before the sale is no such repetition, where views are no target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etalage.config import BehaviourConfig
from etalage.errors import TooLittleData
from etalage.features.behaviour import NEVER, PARTS, Interactions

_TRAIN, _RANK, _VALIDATION, _TEST = range(len(PARTS))


@dataclass(frozen=True)
class Shopwide:
    """What a split has to know of all acts of the shop, to divide those of some shoppers as it would divide
    all. Blocks of shoppers are given in the order of their rows, each once."""

    draws: np.random.Generator
    """Goes on from block to block."""
    cuts: tuple[int, ...] = ()
    """For a split by time: where each later part begins."""
    timed: bool = True
    """For a published one: whether any act of train has a time."""
    there: frozenset[str] = frozenset()
    """For a published one: the parts that any act is of."""


def as_published(
    published: Mapping[str, Interactions], rank: float, seed: int, shop: Shopwide | None = None
) -> dict[str, Interactions]:
    """The parts that somebody published, as they are; where none is of `validation`, one positive of each
    user with two or more of them in train. `rank`: the newest share of each user's train, where none is
    published. shop: of which these are the acts of some shoppers; None: all."""
    parts = {name: published.get(name, Interactions.none()) for name in PARTS}
    there = {name for name, part in parts.items() if len(part)} if shop is None else shop.there
    if "validation" not in there:
        parts |= carved(parts["train"], seed, shop)
    if rank and "rank" not in there:
        train = parts["train"]
        part = _with_rank(train.users, np.full(len(train), _TRAIN), rank)
        parts |= {"train": train.take(part == _TRAIN), "rank": train.take(part == _RANK)}
    return parts


def carved(train: Interactions, seed: int, shop: Shopwide | None = None) -> dict[str, Interactions]:
    """`train` and `validation`: one positive of each user with two or more of them: the newest, or any where
    there are no times."""
    shop = shop or Shopwide(np.random.default_rng(seed), timed=bool((train.times != NEVER).any()))
    if shop.timed:
        split = leave_one_out(train)
        # Of leave_one_out's parts, train's newest positive is wanted, not its newest two.
        return {
            "train": Interactions.joined(split["train"], split["validation"]),
            "validation": split["test"],
        }
    draw = shop.draws.random(len(train))
    draw[train.labels <= 0] = -1
    order = np.lexsort((draw, train.users))
    last = np.append(train.users[order][1:] != train.users[order][:-1], True) if len(train) else order > 0
    chosen = order[last]
    several = np.bincount(train.users, weights=train.labels > 0)[train.users[chosen]] > 1
    held = np.isin(train.keys, train.keys[chosen[several]])
    return {"train": train.take(~held), "validation": train.take(held)}


def parted(
    acts: Interactions, config: BehaviourConfig, targets: Sequence[int] = (), shop: Shopwide | None = None
) -> dict[str, Interactions]:
    """`acts` by part (each of PARTS is there, perhaps empty), as `config` says. shop: of which these are the
    acts of some shoppers; None: all. Raises TooLittleData: a split by time of acts none of which has one."""
    rank, validation, test = config.rank, config.validation, config.test
    if config.split == "time":
        cuts = None if shop is None else shop.cuts
        return by_time(acts, rank, validation, test, config.repeat, targets, cuts)
    if config.split == "leave_one_out":
        return leave_one_out(acts, rank, config.repeat, targets)
    if config.split == "last_n":
        return last_n(acts, config.last_n, rank, validation, config.repeat, targets)
    draws = None if shop is None else shop.draws
    return at_random(acts, rank, validation, test, config.seed, config.repeat, targets, draws)


def by_time(
    acts: Interactions,
    rank: float,
    validation: float,
    test: float,
    repeat: bool = False,
    targets: Sequence[int] = (),
    cuts: tuple[int, ...] | None = None,
) -> dict[str, Interactions]:
    """Cut at three moments of the whole shop, which come nearest to the shares of acts asked for.

    Acts of one moment fall together; acts without a time are in `train`. Users and items that are new
    behind a cut stay in the later parts: they are the cold slices. cuts: what `cuts_of` says; None: of these
    acts. Raises TooLittleData.
    """
    cuts = cuts_of(np.sort(acts.times), rank, validation, test) if cuts is None else cuts
    return _divided(acts, np.searchsorted(cuts, acts.times, side="right"), repeat, targets)


def cuts_of(times: np.ndarray, rank: float, validation: float, test: float) -> tuple[int, ...]:
    """The moments at which rank, validation and test begin. times: of all acts, rising. Raises
    TooLittleData: none has one."""
    if len(times) and times[-1] == NEVER:
        raise TooLittleData(
            f"none of {len(times)} interactions has a time, so they cannot be split by time; map a column to "
            f'`time`, or set [behaviour] split = "leave_one_out" or "random"'
        )
    cuts = [_cut(times, 1 - share) for share in (rank + validation + test, validation + test, test)]
    if rank == 0:
        cuts[0] = cuts[1]
    return tuple(cuts)


def leave_one_out(
    acts: Interactions, rank: float = 0.0, repeat: bool = False, targets: Sequence[int] = ()
) -> dict[str, Interactions]:
    """The newest hit of each user is `test`, the one before it `validation`, all older ones `train`.

    Acts between two hits go with the older, acts after the newest with it. A user of two hits has no
    validation, one of a single hit is in train alone. `rank`: the newest share of what train would have.
    """
    counted = _counted(acts, repeat, targets) & (acts.labels > 0)
    newer, total = _newer(acts.users, counted)
    part = np.full(len(acts), _TRAIN)
    part[(newer < 2) & (total > 2)] = _VALIDATION
    part[(newer < 1) & (total > 1)] = _TEST
    return _divided(acts, _with_rank(acts.users, part, rank), repeat, targets)


def last_n(
    acts: Interactions,
    n: int,
    rank: float,
    validation: float,
    repeat: bool = False,
    targets: Sequence[int] = (),
) -> dict[str, Interactions]:
    """The newest `n` of each user's acts (of those in `targets`, liked or not) are `test`.

    Of the rest, the newest share is `validation`, the newest share before it `rank`. One act stays in train
    at least: who has n acts or fewer is tested on all but the first.
    """
    newer, total = _newer(acts.users, _counted(acts, repeat, targets))
    tested = np.clip(total - 1, 0, n)
    rest = total - tested
    validated = np.where(rest > 1, np.clip(np.round(validation * rest), 1, rest - 1), 0)
    part = np.full(len(acts), _TRAIN)
    part[(newer < tested + validated) & (validated > 0)] = _VALIDATION
    part[newer < tested] = _TEST
    return _divided(acts, _with_rank(acts.users, part, rank), repeat, targets)


def at_random(
    acts: Interactions,
    rank: float,
    validation: float,
    test: float,
    seed: int,
    repeat: bool = False,
    targets: Sequence[int] = (),
    draws: np.random.Generator | None = None,
) -> dict[str, Interactions]:
    """Each pair (user, item), or each act where shoppers take the same again, falls by the seed alone, or by
    `draws`, which went on from the shoppers before."""
    draws = draws or np.random.default_rng(seed)
    unit = np.arange(len(acts)) if repeat else np.unique(acts.keys, return_inverse=True)[1]
    drawn = draws.random(int(unit.max(initial=-1)) + 1)[unit]
    bounds = 1 - np.array([rank + validation + test, validation + test, test])
    return _divided(acts, np.searchsorted(bounds, drawn, side="right"), repeat, targets)


def _divided(
    acts: Interactions, part: np.ndarray, repeat: bool, targets: Sequence[int]
) -> dict[str, Interactions]:
    """By part number (M,), less the acts whose pair stands in an earlier part."""
    keep = np.ones(len(acts), bool)
    if not repeat and len(acts):
        judged = _judged(acts, targets)
        pairs, which = np.unique(acts.keys, return_inverse=True)
        earliest = np.full(len(pairs), len(PARTS))
        np.minimum.at(earliest, which[judged], part[judged])
        keep = ~judged | (part == earliest[which])
    return {name: acts.take(keep & (part == number)) for number, name in enumerate(PARTS)}


def _cut(times: np.ndarray, share: float) -> int:
    """The moment (of sorted `times`) with about `share` of the acts before it, and at least one act.

    Where all acts are of one moment there is none: the cut lies behind it. It is searched for, so that the
    times may lie in a file.
    """
    if not len(times):
        return NEVER
    if times[0] == times[-1]:
        return int(np.iinfo(np.int64).max)
    wanted = share * len(times)
    second = times[np.searchsorted(times, times[0], side="right")]
    before = max(times[min(int(max(wanted, 0)), len(times) - 1)], second)
    after = times[min(int(np.searchsorted(times, before, side="right")), len(times) - 1)]
    return int(min((before, after), key=lambda moment: abs(np.searchsorted(times, moment) - wanted)))


def _judged(acts: Interactions, targets: Sequence[int]) -> np.ndarray:
    """(M,) bool: of a kind that models are judged on."""
    return np.isin(acts.kinds, targets) if targets else np.ones(len(acts), bool)


def _counted(acts: Interactions, repeat: bool, targets: Sequence[int]) -> np.ndarray:
    """(M,) bool: of such a kind, and the first of its pair unless shoppers take the same again."""
    counted = _judged(acts, targets)
    if not repeat:
        rows = np.flatnonzero(counted)
        counted = np.zeros(len(acts), bool)
        counted[rows[np.unique(acts.keys[rows], return_index=True)[1]]] = True
    return counted


def _newer(users: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M,) how many counted acts of its user are newer than an act; (M,) how many the user has."""
    until = np.concatenate([[0], np.cumsum(counted)])
    begin, end = np.searchsorted(users, users), np.searchsorted(users, users, side="right")
    return until[end] - until[1:], until[end] - until[begin]


def _with_rank(users: np.ndarray, part: np.ndarray, share: float) -> np.ndarray:
    """The newest `share` of each user's acts in train become `rank`; one stays in train."""
    train = part == _TRAIN
    newer, total = _newer(users, train)
    ranked = np.minimum(np.round(share * total), total - 1)
    return np.where(train & (newer < ranked), _RANK, part)
