"""Every item of the catalogue ranked for every shopper, block by block, and where the right ones stand.

Nothing of the size users × items is ever held: a block of scores is 8 or 32 MB. Of each query its first K
items are kept and the ranks of its right answers; all metrics follow from those (metrics.at_ranks).

Equal scores are put in an order by a draw, seeded by the query's number: a model that scores everything
alike is no better than chance, and no worse, and a simple system is not beaten by noise because its
counts tie. An item with the score -inf is never shown.

    B queries   N items   K items kept a query   T right answers of all queries   C candidates a query
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from etalage import metrics
from etalage.errors import ExportDamaged
from etalage.features.behaviour import Interactions, Queries, ranges
from etalage.runtime.scorer import Scorer

NEVER_SHOWN = np.iinfo(np.int32).max
"""The rank of a right answer that cannot come up: unknown, left out, or scored -inf."""
PRODUCT_BYTES, BLOCK_BYTES = 1 << 25, 1 << 23
"""A block of an embedder's scores, which is one product, and of others', which is to stay in the cache."""
EMBED_AT_ONCE, ASK_AT_ONCE = 4096, 64
"""Queries put to an embedder, and to others at most: neighbours of all acts of all of them are in memory."""
FEW = 4
"""Up to so many right answers their scores are counted above; for more, sorting all scores is faster."""
LINES = 64


@dataclass(frozen=True)
class Ranked:
    """Where one system puts the right answers of B queries."""

    starts: np.ndarray
    """(B + 1,) int64: the right answers of query b are starts[b] … starts[b + 1] of `truth` and `ranks`."""
    truth: np.ndarray
    """(T,) int64 item rows."""
    ranks: np.ndarray
    """(T,) int64, 1 = first; NEVER_SHOWN."""
    candidates: np.ndarray
    """(B,) int64: how many items were ranked."""
    slates: np.ndarray
    """(B, K) int32 item rows, best first, equal ones by row; 0 = no more."""
    slate_scores: np.ndarray
    """(B, K) float32; -inf where there is no item."""
    ks: tuple[int, ...]

    @cached_property
    def per_query(self) -> dict[str, np.ndarray]:
        """metrics.at_ranks: name → (B,) float64; MRR over all ranks, AUROC among all that was ranked."""
        return metrics.at_ranks(self.ranks, self.starts, self.ks, self.candidates)

    @property
    def owners(self) -> np.ndarray:
        """(T,) int64: the query of each right answer."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def only(self, right: np.ndarray) -> tuple["Ranked", np.ndarray]:
        """With these (T,) bool of the right answers, without the queries that have none left; and which stay.

        What is left out is still ranked: it stands in the way like any other item.
        """
        counts = np.bincount(self.owners[right], minlength=len(self.starts) - 1)
        stay = np.flatnonzero(counts)
        starts = np.concatenate([[0], np.cumsum(counts[stay])])
        kept = (self.candidates[stay], self.slates[stay], self.slate_scores[stay])
        return Ranked(starts, self.truth[right], self.ranks[right], *kept, self.ks), stay

    @classmethod
    def joined(cls, parts: Sequence["Ranked"]) -> "Ranked":
        """The queries of several, at least one, one after the other."""
        width = max(one.slates.shape[1] for one in parts)

        def wide(array: np.ndarray, nothing: float) -> np.ndarray:
            return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=nothing)

        counts = np.concatenate([np.diff(one.starts) for one in parts])
        return cls(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([one.truth for one in parts]),
            np.concatenate([one.ranks for one in parts]),
            np.concatenate([one.candidates for one in parts]),
            np.concatenate([wide(one.slates, 0) for one in parts]),
            np.concatenate([wide(one.slate_scores, -np.inf) for one in parts]),
            parts[0].ks,
        )


def rank_all(
    scorer: Scorer,
    queries: Queries,
    truth: Sequence[np.ndarray],
    *,
    ks: Sequence[int] = (10,),
    exclude: Interactions | None = None,
    candidates: np.ndarray | None = None,
    block: int | None = None,
    seed: int = 0,
    first: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Ranked:
    """Rank the whole catalogue for each query.

    truth: the right item rows of each query, each once. exclude: what is not ranked for its user
    (BehaviourSet.seen); a right answer among it is never shown, so leave it out of `truth` (slices.ask).
    candidates: (N + 1,) bool, what may be shown at all. block: queries at once. first: the number of the
    first of these queries among all that are asked; where it is a multiple of `queries_at_once`, they are
    ranked as they are with all the others.
    Raises ExportDamaged: a score is NaN.
    """
    count = len(scorer.items)
    # Columns that may be shown; the unknown item never is.
    shown = np.arange(1, count) if candidates is None else np.flatnonzero(candidates[1:]) + 1
    column = np.full(count, -1)
    column[shown] = np.arange(len(shown))
    places = _Places(scorer.name, truth, ks, len(shown), seed, first)
    for start, scores in _blocks(scorer, queries, block):
        if exclude is not None:
            scores[_had(queries.block(start, start + len(scores)), exclude)] = -np.inf
        for number, whole in enumerate(scores, start):
            row = whole[1:] if candidates is None else whole[shown]
            places.put(number, row, column[places.right(number)], shown)
        if progress is not None:
            progress(len(scores))
    return places.ranked()


def rank_lists(
    scores: np.ndarray,
    items: np.ndarray,
    truth: Sequence[np.ndarray],
    *,
    ks: Sequence[int] = (10,),
    seed: int = 0,
    name: str = "scores",
) -> Ranked:
    """Rank a list of candidates for each query: (B, C) scores of (B, C) item rows, 0 where there are no more.

    An item that stands in a list twice counts once, where it stands first; a right answer that is in none
    is never shown. Raises ExportDamaged: a score is NaN.
    """
    order = np.argsort(items, axis=1, kind="stable")
    twice = np.zeros(items.shape, bool)
    ordered = np.take_along_axis(items, order, 1)
    np.put_along_axis(twice, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    scores = np.where(twice | (items == 0), -np.inf, scores).astype(np.float32)
    places = _Places(name, truth, ks, items.shape[1], seed)
    for number, (row, listed, sorting) in enumerate(zip(scores, items, order, strict=True)):
        right = places.right(number)
        at = np.minimum(np.searchsorted(listed, right, sorter=sorting), len(listed) - 1)
        places.put(number, row, np.where(listed[sorting[at]] == right, sorting[at], -1), listed)
    return places.ranked()


@dataclass(frozen=True)
class Published:
    """A protocol of sampled negatives: as it was published, and without its faults."""

    as_published: Ranked
    cleaned: Ranked
    """Without the negatives that are none: what the shopper had, what is right, what stands there twice."""
    faulty: float
    """The share of the negatives that were left out of `cleaned`."""

    @property
    def k(self) -> int:
        """10, or the largest k below it that was measured: what such papers report."""
        return max([k for k in self.cleaned.ks if k <= 10] or [min(self.cleaned.ks)])

    def figures(self) -> dict[str, float]:
        """Hits and nDCG at `k`, as published and cleaned."""
        return {
            f"{kind}_{metric}": float(ranked.per_query[f"{metric}_at_{self.k}"].mean())
            for kind, ranked in (("as_published", self.as_published), ("cleaned", self.cleaned))
            for metric in ("hit", "ndcg")
        }

    def sentence(self) -> str:
        """The figures in words."""
        found = self.figures()
        return (
            f"among the published negatives: hit_at_{self.k} {found['as_published_hit']:.4f}, "
            f"ndcg_at_{self.k} {found['as_published_ndcg']:.4f}; without the {self.faulty:.2%} that are "
            f"faulty {found['cleaned_hit']:.4f}, {found['cleaned_ndcg']:.4f}"
        )


def rank_published(
    scorer: Scorer,
    queries: Queries,
    truth: Sequence[np.ndarray],
    negatives_BK: np.ndarray,
    clean: np.ndarray,
    *,
    ks: Sequence[int] = (10,),
    block: int = ASK_AT_ONCE,
    seed: int = 0,
) -> Published:
    """Rank the right answers of each query among its published negatives alone: (B, n) item rows.

    Only for comparing with published figures: with so few to beat, systems change places (Krichene, Rendle,
    KDD 2020). clean: (B, n) bool, False = no true negative. As in the code of He et al. (WWW 2017), a
    negative that stands there twice counts once, and one that is the right answer is the right answer.
    """
    if negatives_BK.shape != clean.shape or len(negatives_BK) != len(queries):
        raise ValueError(
            f"{negatives_BK.shape} negatives, {clean.shape} marks for {len(queries)} queries: not the same"
        )
    longest = max((len(right) for right in truth), default=0)
    items = np.zeros((len(queries), longest + negatives_BK.shape[1]), np.int64)
    for number, right in enumerate(truth):
        items[number, : len(right)] = right
    items[:, longest:] = negatives_BK
    scores = np.concatenate(
        [
            scorer.scores_of(queries.block(a, min(a + block, len(queries))), items[a : a + block])
            for a in range(0, len(queries), block)
        ]
        or [np.empty(items.shape, np.float32)]
    )
    cleaned = items.copy()
    cleaned[:, longest:][~np.asarray(clean, bool)] = 0
    published = rank_lists(scores, items, truth, ks=ks, seed=seed, name=scorer.name)
    without = rank_lists(scores, cleaned, truth, ks=ks, seed=seed, name=scorer.name)
    wanted = sum(len(right) for right in truth)
    left = int(without.candidates.sum()) - wanted
    return Published(published, without, 1 - left / max(negatives_BK.size, 1))


class _Places:
    """What becomes a Ranked, query by query."""

    def __init__(
        self,
        name: str,
        truth: Sequence[np.ndarray],
        ks: Sequence[int],
        most: int,
        seed: int,
        first: int = 0,
    ) -> None:
        self.name, self.seed, self.first, self.ks = name, seed, first, tuple(sorted(set(ks)))
        self.starts = np.concatenate([[0], np.cumsum([len(one) for one in truth])]).astype(np.int64)
        self.truth = np.concatenate([*truth, np.empty(0, np.int64)]).astype(np.int64)
        self.ranks = np.full(len(self.truth), NEVER_SHOWN, np.int64)
        self.candidates = np.zeros(len(truth), np.int64)
        self.slates = np.zeros((len(truth), min(max(ks), most)), np.int32)
        self.slate_scores = np.full(self.slates.shape, -np.inf, np.float32)

    def right(self, query: int) -> np.ndarray:
        return self.truth[self.starts[query] : self.starts[query + 1]]

    def put(self, query: int, row: np.ndarray, wanted: np.ndarray, items: np.ndarray) -> None:
        """The scores `row` of `items`; `wanted`: positions of the right answers, -1 = not there."""
        number = self.first + query
        try:
            ranks, top, count = _place(row, wanted, self.slates.shape[1], (self.seed, number))
        except FloatingPointError as error:
            raise ExportDamaged(f"{self.name}: {error} (query {number}); train it again") from error
        self.ranks[self.starts[query] : self.starts[query + 1]] = ranks
        self.candidates[query] = count
        self.slates[query, : len(top)] = items[top]
        self.slate_scores[query, : len(top)] = row[top]

    def ranked(self) -> Ranked:
        answers = (self.starts, self.truth, self.ranks)
        return Ranked(*answers, self.candidates, self.slates, self.slate_scores, self.ks)


def queries_at_once(scorer: Scorer) -> int:
    """How many queries are put to this system at once: embedded, or scored."""
    if _embeds(scorer):
        return EMBED_AT_ONCE
    return min(ASK_AT_ONCE, max(1, BLOCK_BYTES // (4 * len(scorer.items))))


def _embeds(scorer: Scorer) -> bool:
    return hasattr(scorer, "embed_queries") and hasattr(scorer, "item_embeddings")


def _blocks(scorer: Scorer, queries: Queries, block: int | None) -> Iterator[tuple[int, np.ndarray]]:
    """(first query, writable (b, N + 1) float32 scores) of each block; the array is used again."""
    spot: Any = scorer
    if not _embeds(scorer):
        step = block or queries_at_once(scorer)
        for start in range(0, len(queries), step):
            # A copy: what a scorer gives away may be its own, or the same for everybody.
            yield start, np.array(scorer.scores(queries.block(start, min(start + step, len(queries)))))
        return
    # An embedder's scores are one product: no new memory for each block, and longer runs of its network.
    items = np.ascontiguousarray(spot.item_embeddings, np.float32)
    step = block or max(1, PRODUCT_BYTES // (4 * len(items)))
    buffer = np.empty((min(step, max(len(queries), 1)), len(items)), np.float32)
    for first in range(0, len(queries), EMBED_AT_ONCE):
        last = min(first + EMBED_AT_ONCE, len(queries))
        embedded = np.asarray(spot.embed_queries(queries.block(first, last)), np.float32)
        for start in range(first, last, step):
            rows = embedded[start - first : start - first + step]
            scores = np.matmul(rows, items.T, out=buffer[: len(rows)])
            scores[:, 0] = -np.inf
            yield start, scores


def _had(some: Queries, exclude: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """(query, item row) of what the shoppers of these queries have; an unknown shopper has nothing."""
    begin = np.searchsorted(exclude.users, some.users)
    lengths = np.where(some.users > 0, np.searchsorted(exclude.users, some.users + 1) - begin, 0)
    return np.repeat(np.arange(len(some)), lengths), exclude.items[ranges(begin, lengths)]


def _place(
    row: np.ndarray, wanted: np.ndarray, keep: int, key: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Ranks of the positions `wanted` (-1 = not there), the first `keep` positions, how many are ranked.

    Raises FloatingPointError: NaN.
    """
    scores = np.where(wanted >= 0, row[wanted], -np.inf) if len(row) else np.full(len(wanted), -np.inf)
    if len(wanted) > FEW:
        ordered = np.sort(row)
        above = len(row) - np.searchsorted(ordered, scores, "right")
        level = len(row) - above - np.searchsorted(ordered, scores, "left")
    else:
        above = np.array([np.count_nonzero(row > score) for score in scores], np.int64)
        level = np.array([np.count_nonzero(row == score) for score in scores], np.int64)
    ranks = above + 1
    if (level > 1).any():
        rng = np.random.default_rng(key)
        for score in np.unique(scores[(level > 1) & (scores > -np.inf)]):
            tied = np.flatnonzero(scores == score)
            ranks[tied] += rng.choice(level[tied[0]], len(tied), replace=False)
    ranks[scores == -np.inf] = NEVER_SHOWN
    return ranks, _top(row, keep), int(np.count_nonzero(row > -np.inf))


def _top(row: np.ndarray, keep: int) -> np.ndarray:
    """Positions of the `keep` highest, best first, equal ones by position; none of -inf.

    A bound first: laid out in lines, `keep` columns have a maximum of `least` or more, so the first `keep`
    have too. That is one pass; numpy.partition of a row full of ties took ten times as long.
    """
    lines = max(1, min(LINES, len(row) // (2 * keep + 1)))
    columns = len(row) // lines
    highest = row[: columns * lines].reshape(lines, columns).max(axis=0)  # NaN comes through
    if np.isnan(highest).any() or np.isnan(row[columns * lines :]).any():
        raise FloatingPointError("a score is NaN")
    if keep == 0:
        return np.empty(0, np.int64)
    least = np.partition(highest, len(highest) - keep)[len(highest) - keep]
    found = np.flatnonzero(row >= least)
    if len(found) > keep:
        scores = row[found]
        more = found[scores > least]
        missing = max(0, keep - len(more))
        found = np.sort(np.concatenate([more, found[scores == least][:missing]]))
    found = found[np.argsort(-row[found], kind="stable")][:keep]
    return found[row[found] > -np.inf]
