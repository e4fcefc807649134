"""Settings that a closed-form model chooses by itself: a few are tried, small, on validation.

What decides how strong a factorisation has to be held back (how long histories are, how many items there are,
whether shoppers take the same again) differs from shop to shop, so no single default is right. `etalage tune`
searches more settings, longer; what stands in shop.toml is never touched.
"""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etalage.features.array_blocks import ArrayLoop
from etalage.features.behaviour import BehaviourSet, Queries
from etalage.metrics import ndcg_at_k
from etalage.models.recipe import Recipe
from etalage.runtime.opening import open_scorer
from etalage.runtime.retrieving import Excluded
from etalage.runtime.scorer import ExportScorer
from etalage.training.closed_form import export_closed_form, solve
from etalage.training.export_source import Source

FEWEST = 50
"""Shoppers of validation by whom settings are told apart, at least."""
ASKED = 1000
"""Shoppers that are asked about at most, drawn by the model's seed."""
AT_ONCE = 200
K = 10
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """What was tried, and what came of it."""

    settings: Mapping[str, Any]
    tried: list[tuple[Mapping[str, Any], float]]
    """Settings, and nDCG@10 on validation."""
    shoppers: int

    @property
    def said(self) -> str:
        """`alpha 20, regularisation 60 chosen of 5 by nDCG@10 on validation (0.0231; others …)`"""
        values = sorted(value for _, value in self.tried)
        settings = ", ".join(f"{name} {value:g}" for name, value in self.settings.items())
        return (
            f"{settings} chosen of {len(values)} by nDCG@{K} on validation ({values[-1]:.4f}; others "
            f"{values[0]:.4f} to {values[-2]:.4f}; {self.shoppers:,} shoppers)"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For the export, and for the run in MLflow."""
        tried = [{**settings, f"ndcg_at_{K}": round(value, 6)} for settings, value in self.tried]
        return {"chosen": self.said, "tried": tried}


def choose(
    recipe: Recipe[Any], config: Any, data: Any, blocks: ArrayLoop | None = None
) -> tuple[Any, Chosen | None]:
    """The config with what does best on validation, where none of the recipe's choices was given; said in the
    log. None: there was nothing to choose, or too few shoppers to choose by, which is said too.

    Raises what counting raises.
    """
    names = sorted({name for one in recipe.choices for name in one})
    if not names or not config.model_fields_set.isdisjoint(names) or not isinstance(data, BehaviourSet):
        return config, None
    queries, truth = data.queries("validation")
    if len(queries) < FEWEST:
        log.warning(
            "%s: %s as they are by default: validation has %d shoppers, and settings are told apart by %d or "
            "more; set them in [models.%s] where you know better",
            recipe.name, " and ".join(names), len(queries), FEWEST, recipe.name,
        )  # fmt: skip
        return config, None
    rng = np.random.default_rng(config.seed)
    drawn = np.sort(rng.permutation(len(queries))[:ASKED])
    asked, right = queries.only(drawn), [truth[row] for row in drawn]
    tried = [(one, _tried(recipe, config, one, data, asked, right, blocks)) for one in recipe.choices]
    best = max(tried, key=lambda one: one[1])[0]  # of equal ones the first
    found = Chosen(best, tried, len(drawn))
    log.info("%s: %s", recipe.name, found.said)
    return config.model_copy(update=dict(best)), found


def _tried(
    recipe: Recipe[Any],
    config: Any,
    settings: Mapping[str, Any],
    data: BehaviourSet,
    asked: Queries,
    right: list[np.ndarray],
    blocks: ArrayLoop | None,
) -> float:
    """Counted small, exported and opened: what is judged is what would be served. → mean nDCG@10."""
    small = {name: min(most, getattr(config, name)) for name, most in recipe.small.items()}
    trial = config.model_copy(update={**small, **settings})
    with tempfile.TemporaryDirectory() as folder:
        counted = solve(recipe, recipe.bind(trial, data), trial, Path(folder), blocks)
        scorer = open_scorer(export_closed_form(recipe, counted, Source.of(data), Path(folder)))
        assert isinstance(scorer, ExportScorer)
        return _ndcg(scorer, data, asked, right)


def _ndcg(scorer: ExportScorer, data: BehaviourSet, asked: Queries, right: list[np.ndarray]) -> float:
    seen, retriever, values = data.seen("validation"), scorer.retriever(), []
    for start in range(0, len(asked), AT_ONCE):
        some = asked.block(start, min(start + AT_ONCE, len(asked)))
        begin, end = (np.searchsorted(seen.users, some.users + n) for n in (0, 1))
        had = Excluded([seen.items[a:b] for a, b in zip(begin, end, strict=True)], len(data.items))
        found_BK = retriever.find(some, K, None, had).rows
        wanted = right[start : start + len(some)]
        relevant_BK = np.stack([np.isin(rows, one) for rows, one in zip(found_BK, wanted, strict=True)])
        padded_BK = np.zeros((len(some), K), bool)
        padded_BK[:, : relevant_BK.shape[1]] = relevant_BK
        values.append(ndcg_at_k(padded_BK, K, np.array([len(one) for one in wanted])))
    return float(np.concatenate(values).mean())
