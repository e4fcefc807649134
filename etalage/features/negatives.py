"""Items that a user has not taken, drawn at random: exact, without rejection, a pure function of its seeds.

    U users   N items   B queries   n negatives of each   K pairs (user, item) that are never drawn

An item's weight is a whole number. Each user's weights are laid end to end with those of their own positives
cut out; a number below the total that is left names an item, by two searches in sorted arrays. So a positive
cannot be drawn, however many a user has, and no draw is thrown away.
"""

from collections.abc import Sequence

import numpy as np

from etalage.errors import TooLittleData
from etalage.features.behaviour import PARTS, BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary

_PRECISION = 2.0**20
"""The whole-number weight of an item of mean weight, where the sum has the room."""
_ROUNDS = 8


class Negatives:
    """Draws items for users, with the probability of an item proportional to its weight.

    never: acts whose pairs are never drawn (train and test, say). users, items: rows of the vocabularies, the
    unknown one included (U + 1, N + 1). weights: (N + 1,), of row 0 ignored; None: all alike. A weight below
    2^-20 of the mean counts as that much, so every item can be drawn.

    Excluding what is tested from what is trained on tells a model a little (that it is never pushed down);
    not excluding it trains against the very answer. A protocol says which it means by `never`.
    """

    def __init__(
        self,
        never: Interactions,
        users: int,
        items: int,
        weights: np.ndarray | None = None,
        names: Vocabulary | None = None,
        crowd: int = 0,
    ) -> None:
        """crowd: how many users there are in all, if these are some of them, numbered anew: then they are
        drawn for as they are among all."""
        self._names = names
        pairs = np.unique(never.keys)
        owners, taken = pairs >> 32, pairs & 0xFFFFFFFF
        self._uniform = weights is None
        # A user's row and a place among the weights share one int64.
        self._bits = 62 - max(users, crowd).bit_length()
        whole = np.ones(items, np.int64) if weights is None else _whole(weights, self._bits)
        whole[0] = 0
        known = (taken > 0) & (owners < users) & (taken < items)
        owners, taken = owners[known], taken[known]
        self._until = np.cumsum(whole)
        """(N + 1,): the places of item i end here."""
        self._cut = np.concatenate([[0], np.cumsum(whole[taken])])
        self._starts = np.searchsorted(owners, np.arange(users + 1))
        places = self._until[taken - 1] - (self._cut[:-1] - self._cut[self._starts[owners]])
        self._keys = owners << self._bits | places
        """(K,) ascending: a user and the place, of those left, at which a positive was cut out."""
        self._left = self._until[-1] - np.diff(self._cut[self._starts])

    @classmethod
    def of(
        cls,
        data: BehaviourSet,
        alpha: float = 0.0,
        uniform: float = 0.0,
        never: Sequence[str] = PARTS,
    ) -> "Negatives":
        """Negatives for `data`: no positive of the parts `never` of that user.

        Weights: share `uniform` of all items alike, the rest by their positives in train to the power of
        `alpha`; an item without any counts as one with one. alpha = 0: all alike.
        """
        taken = Interactions.joined(*(data.part(name).positive for name in never))
        weights = None
        if alpha != 0 and uniform < 1:
            popular = popularity(data.part("train"), len(data.items)) ** alpha
            weights = (1 - uniform) * popular / popular[1:].sum() + uniform / max(1, len(data.items) - 1)
        return cls(taken, len(data.users), len(data.items), weights, data.users)

    @property
    def drawable(self) -> np.ndarray:
        """(U + 1,) bool: users that there is any negative of."""
        return self._left > 0

    def draw(self, users: np.ndarray, count: int, seeds: Sequence[int]) -> np.ndarray:
        """(B, n) int64 item rows for users (B,), with replacement; `seeds`, such as (seed, epoch, step),
        alone decide. User row 0 has no positives. Raises TooLittleData: a user has taken every item."""
        users = np.asarray(users, np.int64)
        self._require(users)
        # In the order of users the searches walk through memory once: faster at millions of pairs.
        order = np.argsort(users, kind="stable")
        drawn = np.empty((len(users), count), np.int64)
        drawn[order] = self._drawn(np.random.default_rng(list(seeds)), users[order], count)
        return drawn

    def distinct(self, users: np.ndarray, count: int, seeds: Sequence[int]) -> np.ndarray:
        """(B, n) as `draw`, without replacement: the order is that of drawing; 0 where a user has no more."""
        users = np.asarray(users, np.int64)
        generator = np.random.default_rng(list(seeds))
        drawn = np.zeros((len(users), count), np.int64)
        able = np.flatnonzero(self.drawable[users])
        drawn[able] = self._drawn(generator, users[able], count)
        for _ in range(_ROUNDS):
            again = repeats(drawn)
            rows = np.flatnonzero(again.any(axis=1))
            if not len(rows):
                return drawn
            # A repeated draw is dropped and the next one counts: the newly drawn come last in their row.
            last = np.argsort(again[rows], axis=1, kind="stable")
            drawn[rows] = np.take_along_axis(drawn[rows], last, axis=1)
            new = again[rows].sum(axis=1)
            fresh = self._drawn(generator, users[rows], int(new.max()))
            places = np.arange(count)[None, :] - (count - new)[:, None]
            drawn[rows] = np.where(
                places >= 0, np.take_along_axis(fresh, np.maximum(places, 0), axis=1), drawn[rows]
            )
        again = repeats(drawn)
        for row in np.flatnonzero(again.any(axis=1)):
            drawn[row] = self._raced(generator, users[row], drawn[row][~again[row]], count)
        return drawn

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """float32 of the shape of `items`: the logarithm of the probability of each in one draw, before a
        user's own positives are cut out (that factor is one for all items of a user, so a softmax is blind to
        it). Subtract it from the logits of sampled items: sampled softmax, Bengio & Senécal 2008."""
        whole = np.diff(self._until, prepend=0)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(whole / self._until[-1])[items], np.float32)

    def _drawn(self, generator: np.random.Generator, users: np.ndarray, count: int) -> np.ndarray:
        left = self._left[users][:, None]
        places = (generator.random((len(users), count)) * left).astype(np.int64)
        behind = np.searchsorted(self._keys, users[:, None] << self._bits | places, side="right")
        places += self._cut[behind] - self._cut[self._starts[users]][:, None]
        if self._uniform:
            return places + 1
        return np.searchsorted(self._until, places, side="right")

    def _raced(self, generator: np.random.Generator, user: int, have: np.ndarray, count: int) -> np.ndarray:
        """(n,) `have`, then others by an exponential race of all that are left: where a user has few."""
        whole = np.diff(self._until, prepend=0).astype(np.float64)
        mine = slice(self._starts[user], self._starts[user + 1])
        cut = self._cut[mine] - self._cut[self._starts[user]]
        taken = np.searchsorted(self._until, (self._keys[mine] & ((1 << self._bits) - 1)) + cut, side="right")
        whole[taken] = whole[have] = 0
        with np.errstate(divide="ignore"):
            race = generator.exponential(size=len(whole)) / whole
        first = np.argsort(race, kind="stable")[: count - len(have)]
        found = np.concatenate([have, first[whole[first] > 0]])
        return np.pad(found, (0, count - len(found)))

    def _require(self, users: np.ndarray) -> None:
        without = users[~self.drawable[users]]
        if len(without):
            row = int(without[0])
            name = f"{self._names.id(row)!r} " if self._names is not None and row > 0 else ""
            raise TooLittleData(
                f"user {name}(row {row}) has taken all {len(self._until) - 1} items: no negative is left; "
                f"leave out such users (see `drawable`), {len(np.unique(without))} in this batch"
            )


def popularity(acts: Interactions, items: int) -> np.ndarray:
    """(N + 1,) float64: positives of each item in `acts`, at least 1; of row 0: 0."""
    counts = np.maximum(np.bincount(acts.positive.items, minlength=items), 1).astype(np.float64)
    counts[0] = 0
    return counts


def in_batch_log_q(acts: Interactions, items: int) -> np.ndarray:
    """(N + 1,) float32: the logarithm of how often each item is another's negative in a batch of `acts`' own
    positives. Subtract it from the logits of an in-batch softmax (Yi et al. 2019, section 3); row 0: 0."""
    counts = popularity(acts, items)
    share = counts / counts.sum() if items > 1 else counts
    return np.log(np.where(share > 0, share, 1)).astype(np.float32)


def candidates(data: BehaviourSet, part: str, count: int, seed: int) -> np.ndarray:
    """(B, n) int64: distinct negatives beside each of `data.queries(part)`, like those of published tests:
    no positive of any part of that user; 0 where a user has fewer that are left."""
    users = np.unique(data.truth(part).users)
    return Negatives.of(data).distinct(users, count, (seed, PARTS.index(part)))


def _whole(weights: np.ndarray, bits: int) -> np.ndarray:
    """(N + 1,) int64 in proportion to `weights`, at least 1; their sum stays below 2 ** bits."""
    if not np.isfinite(weights[1:]).all() or (weights[1:] < 0).any() or not weights[1:].sum() > 0:
        raise ValueError("weights of negatives must be finite, none below 0, and one above it")
    unit = min(_PRECISION, 2.0 ** (min(bits, 50) - 1) / len(weights))
    return np.maximum(1, np.round(weights / weights[1:].mean() * unit)).astype(np.int64)


def repeats(drawn: np.ndarray) -> np.ndarray:
    """(B, n) bool for (B, n) item rows: an earlier entry of the row is the same, and not 0."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ranked = np.take_along_axis(drawn, order, axis=1)
    same = np.zeros(drawn.shape, bool)
    same[:, 1:] = (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] > 0)
    found = np.zeros(drawn.shape, bool)
    np.put_along_axis(found, order, same, axis=1)
    return found
