"""The funnel as a whole, measured like any of its parts: who is asked, what they bring, how it is ordered.

Who speaks is decided by funnel/fallback.py and the scores by funnel/funnel.py, as in serving, but for many
shoppers at once. Filters, stock, diversity and the caps of a slate are not in it: they are about a moment,
not about what shoppers want.

    B queries   C candidates a query
"""

from collections.abc import Callable, Sequence

import numpy as np

from etalage.evaluation.ranking import Ranked, rank_lists
from etalage.evaluation.slices import Questions
from etalage.features.behaviour import Queries
from etalage.features.history import BehaviourRule
from etalage.funnel.candidates import Candidates, Excluded, candidates
from etalage.funnel.fallback import FallbackPolicy
from etalage.funnel.funnel import ranking_scores
from etalage.runtime.opening import OpenedModel
from etalage.runtime.scorer import ExportScorer

FUNNEL = "the funnel"
AT_ONCE = 256


class WholeFunnel:
    """The models that would be published, opened, at work on queries of one vocabulary."""

    def __init__(
        self, models: Sequence[tuple[ExportScorer, bool]], rules: BehaviourRule, popularity: np.ndarray
    ) -> None:
        """models: each with whether it loses to popularity and stays behind. popularity: (N + 1,) what a
        stranger is shown, where no model counts."""
        opened = [OpenedModel(one.name, one.role, one, behind=behind) for one, behind in models]
        self.fallback_policy = FallbackPolicy(popularity, opened, rules, None)

    @property
    def names(self) -> list[str]:
        ranker = [] if self.fallback_policy.ranker is None else [self.fallback_policy.ranker.name]
        ways = (*self.fallback_policy.deep, *self.fallback_policy.collaborative, self.fallback_policy.prior)
        return [*(one.name for one in ways), *ranker]

    def rank(
        self, asked: Questions, ks: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> Ranked:
        """What it would show, best first; a right answer that is no candidate never comes up."""
        parts = []
        for start in range(0, len(asked.queries), AT_ONCE):
            end = min(start + AT_ONCE, len(asked.queries))
            queries = asked.queries.block(start, end)
            rows, scores = self._slates(queries, _had(asked, queries), max(ks))
            parts.append(rank_lists(scores, rows, asked.truth[start:end], ks=ks, seed=start, name=FUNNEL))
            if progress is not None:
                progress(end - start)
        return Ranked.joined(parts)

    def _slates(self, queries: Queries, had: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
        """(B, C) item rows, 0 = no more, and (B, C) float32: what they are ordered by."""
        fallback_policy = self.fallback_policy
        ways = [*fallback_policy.deep, *fallback_policy.collaborative]
        know = np.stack([one.knows(queries) for one in ways] or [np.zeros(len(queries), bool)])
        acts = np.bincount(queries.owners[queries.items > 0], minlength=len(queries))
        enough = acts >= fallback_policy.rules.funnel.enough
        ranked = enough & (
            fallback_policy.ranker.knows(queries) if fallback_policy.ranker is not None else False
        )
        kinds, which = np.unique(np.vstack([know, enough, ranked]), axis=1, return_inverse=True)
        found: list[tuple[np.ndarray, Candidates, np.ndarray]] = []
        for number, kind in enumerate(kinds.T):
            some = np.flatnonzero(which.ravel() == number)
            names = {one.name for one, knows in zip(ways, kind, strict=False) if knows}
            found += self._of_a_kind(queries, some, had, names, bool(kind[-2]), bool(kind[-1]), k)
        width = max((one.rows.shape[1] for _, one, _ in found), default=0)
        rows = np.zeros((len(queries), width), np.int64)
        scores = np.full((len(queries), width), -np.inf, np.float32)
        for some, one, theirs in found:
            rows[some[:, None], np.arange(one.rows.shape[1])] = one.rows
            scores[some[:, None], np.arange(one.rows.shape[1])] = theirs
        return rows, scores

    def _of_a_kind(
        self,
        queries: Queries,
        some: np.ndarray,
        had: list[np.ndarray],
        know: set[str],
        enough: bool,
        ranked: bool,
        k: int,
    ) -> list[tuple[np.ndarray, Candidates, np.ndarray]]:
        """Candidates and scores of the queries `some`, for whom the same models speak."""
        tier, asked, quotas = self.fallback_policy.choose(know, enough, ranked, k)
        found = []
        for quota in (quotas, {**quotas, self.fallback_policy.prior.name: k}):
            if not len(some):
                break
            theirs = queries.only(some)
            excluded = Excluded([had[n] for n in some], len(self.fallback_policy.prior.prior))
            one = candidates(asked, theirs, quota, None, excluded)
            # As Funnel.retrieve: who has fewer candidates than places is brought what is popular besides.
            short = (one.counts < k) & (quota is quotas) & (quotas[self.fallback_policy.prior.name] < k)
            ranker = self.fallback_policy.ranker if ranked else None
            good = np.flatnonzero(~short)
            if len(good):
                kept = Candidates(one.rows[good], {n: s[good] for n, s in one.scores.items()})
                scores = ranking_scores(
                    tier, ranker, theirs.only(good), kept, self.fallback_policy.prior.name
                )
                found.append((some[good], kept, scores))
            some = some[short]
        return found


def _had(asked: Questions, queries: Queries) -> list[np.ndarray]:
    """What is not shown again to the shoppers of these queries."""
    begin, end = (np.searchsorted(asked.seen.users, queries.users + n) for n in (0, 1))
    return [asked.seen.items[a:b] for a, b in zip(begin, end, strict=True)]
