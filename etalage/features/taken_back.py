"""What a later act does to an earlier one of the same shopper on the same item: takes it back, overrules it.

Acts are arrays here; what is an act that takes back, or an opinion, is said by features/history.py.

    M acts
"""

import numpy as np


def overruled(pairs: np.ndarray, times: np.ndarray, negative: np.ndarray, opinion: np.ndarray) -> np.ndarray:
    """(M,) bool: explicit negatives behind which the same shopper says that they like the item.

    pairs: (M,) one number for each shopper and item; times: (M,) int64; negative, opinion: (M,) bool, what
    each act is.
    """
    return followed(pairs, times, negative, opinion, ties=False)


def off_slate(
    pairs: np.ndarray, times: np.ndarray, drops: np.ndarray, negative: np.ndarray, opinion: np.ndarray
) -> np.ndarray:
    """(M,) bool: the acts that keep their items off the slate: those of a kind that does, and explicit
    negatives that no later like overrules.

    drops: (M,) bool, is of such a kind; else as of `overruled`.
    """
    return np.asarray(drops | (negative & ~overruled(pairs, times, negative, opinion)))


def followed(
    pairs: np.ndarray, times: np.ndarray, what: np.ndarray, by: np.ndarray, ties: bool = True
) -> np.ndarray:
    """(M,) bool: the acts of `what` behind which, or at whose time with `ties`, one of `by` is of their
    pair."""
    out = np.zeros(len(pairs), bool)
    if not (what.any() and by.any()):
        return out
    later, at = np.flatnonzero(by), np.flatnonzero(what)
    later = later[np.lexsort((times[later], pairs[later]))]
    later = later[np.append(np.diff(pairs[later]) != 0, True)]  # the newest of each pair
    place = np.minimum(np.searchsorted(pairs[later], pairs[at]), len(later) - 1)
    known, newest = pairs[later[place]], times[later[place]]
    out[at] = (known == pairs[at]) & ((newest > times[at]) | (ties & (newest == times[at])))
    return out


def matched(pairs: np.ndarray, taking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions of what was taken back, positions of what took it): each taking act and the newest act of
    its pair before it that none took yet, as brackets match. pairs, taking: in the order of time."""
    order = np.argsort(pairs, kind="stable")
    steps = np.where(taking[order], -1, 1)
    first = np.concatenate([[True], np.diff(pairs[order]) != 0])
    starts = np.flatnonzero(first)
    owner = np.cumsum(first) - 1
    depth = np.cumsum(steps)
    depth -= np.concatenate([[0], depth])[starts][owner]
    # A taking act with nothing before it closes no bracket: the depth is counted from the lowest one so far.
    wide = np.int64(len(order) + 1)
    lowest = np.minimum.accumulate(depth - owner * 2 * wide) + owner * 2 * wide
    floor = np.minimum(np.concatenate([[0], lowest[:-1]]), 0)
    floor[starts] = 0
    idle = (steps < 0) & (depth < floor)
    level = depth - np.minimum(lowest, 0) + (steps < 0)
    kept = np.flatnonzero(~idle)
    by_level = kept[np.lexsort((kept, level[kept], owner[kept]))]
    same = (owner[by_level[:-1]] == owner[by_level[1:]]) & (level[by_level[:-1]] == level[by_level[1:]])
    closes = np.flatnonzero(same & (steps[by_level[:-1]] > 0) & (steps[by_level[1:]] < 0))
    return order[by_level[closes]], order[by_level[closes + 1]]
