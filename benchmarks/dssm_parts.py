"""The Complete Journey as two domains: all that was bought, and the little that was bought with a coupon."""

import hashlib
import json
import resource
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from safetensors.torch import save_file

from etalage.evaluation.ranking import rank_all
from etalage.features.behaviour import BehaviourSet, Interactions, Queries
from etalage.features.vocabulary import Vocabulary
from etalage.models import recipe as recipes
from etalage.models.item2vec import Item2Vec
from etalage.models.recipe import Trained
from etalage.runtime.opening import open_scorer
from etalage.runtime.scorer import Scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit

RICH, SPARSE = 1, 2
KINDS = ("purchase", "coupon")
"""Codes 1 and 2: bought as usual; bought with a coupon (coupon_disc > 0)."""
BOOKKEEPING = 5978656
"""No product: always of quantity 0, in no catalogue; coupons that belong to no product are booked on it."""
PRETRAIN_UNTIL, VALIDATE_FROM, TEST_FROM = 35, 38, 43
"""Weeks of 53: the rich domain is learned from up to 35 and validated on 36 and 37, the sparse one is learned
from up to 37, validated on 38 to 42, tested on 43 to 53."""


@dataclass(frozen=True)
class Domains:
    """Two sets over the same households and items; they differ in what counts as a hit."""

    rich: BehaviourSet
    sparse: BehaviourSet
    catalogue_N: np.ndarray
    """(N + 1,) bool: items bought with a coupon in any week: what is ranked in the sparse domain."""
    facts: dict[str, int]


def domains(folder: Path) -> Domains:
    """Read transactions.parquet of `folder`; nothing of week 43 on is in a train or validation part."""
    names = ["household_id", "product_id", "coupon_disc", "week", "transaction_timestamp"]
    table = pq.read_table(folder / "transactions.parquet", columns=names, use_threads=False)
    whole: pd.DataFrame = table.to_pandas()
    frame = whole[whole.product_id != BOOKKEEPING]
    coupon_M = frame.coupon_disc.to_numpy() > 0
    week_M = frame.week.to_numpy()
    people = frame.household_id.astype(str).to_numpy()
    things = frame.product_id.astype(str).to_numpy()
    users = Vocabulary.fit(people.tolist())
    items = Vocabulary.fit(things.tolist())
    acts = {
        "users": users.rows(people.tolist()),
        "items": items.rows(things.tolist()),
        "kinds": np.where(coupon_M, SPARSE, RICH),
        "times": frame.transaction_timestamp.to_numpy("datetime64[us]").astype(np.int64),
    }

    def during(mask: np.ndarray) -> Interactions:
        return Interactions.sorted(**{name: column[mask] for name, column in acts.items()})

    earlier, late = week_M < VALIDATE_FROM, week_M >= TEST_FROM
    held = (week_M > PRETRAIN_UNTIL) & earlier
    facts = {"repeat": True}
    rich = BehaviourSet(
        users,
        items,
        KINDS,
        {"train": during(week_M <= PRETRAIN_UNTIL), "validation": during(held)},
        facts=facts,
        targets=(RICH,),
    )
    sparse = BehaviourSet(
        users,
        items,
        KINDS,
        {"train": during(earlier), "validation": during(~earlier & ~late), "test": during(late)},
        facts=facts,
        targets=(SPARSE,),
    )
    catalogue_N = np.zeros(len(items), bool)
    catalogue_N[acts["items"][coupon_M]] = True
    counts = {
        "rows": len(whole),
        "coupon_rows": int((whole.coupon_disc > 0).sum()),
        "bookkeeping": len(whole) - len(frame),
        "coupon": int(coupon_M.sum()),
        "coupon_train": int((coupon_M & earlier).sum()),
        "coupon_validation": int((coupon_M & ~earlier & ~late).sum()),
        "coupon_test": int((coupon_M & late).sum()),
        "catalogue": int(catalogue_N.sum()),
    }
    return Domains(rich, sparse, catalogue_N, counts)


BASELINES: dict[str, dict[str, Any]] = {
    "popularity": {"kind_weights": {"coupon": 1.0}},
    "bought before": {},
    "item_knn on coupons": {"kind_weights": {"coupon": 1.0}},
    "item_knn on all": {"strength": "log_count"},
}
SHAPES: dict[str, dict[str, Any]] = {
    "original": {"preset": "original"},
    "modern": {},
}
"""Settings of a network; everything else is DSSMConfig's default."""
PRETRAIN: dict[str, Any] = {"epochs": 4, "patience": 2, "steps_per_epoch": 300}
TUNE: dict[str, Any] = {"epochs": 60}
MODES: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "frozen towers": {"freeze": "both"},
    "frozen item tower": {"freeze": "item"},
    "fine-tuned": {},
}
ALONE = "coupons alone"
ITEM2VEC: dict[str, Any] = {
    "session_hours": 0,
    "sets": True,
    "epochs": 4,
    "learning_rate": 0.02,
    "batch_size": 2048,
    "prior": 1.0,
}
ALONE_ITEM2VEC: dict[str, Any] = {"min_count": 2, "session_hours": None, "sets": False, "epochs": 20}
"""Coupons are bought one or two a trip: a household's are one sequence."""
SHORT: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 2, "patience": None}
"""Of everything that is trained, in a small run."""
KS = (10, 20, 100)


def settings_of(part: str) -> list[dict[str, Any]]:
    """All settings that decide the outcome of a part."""
    weeks = {"weeks": [PRETRAIN_UNTIL, VALIDATE_FROM, TEST_FROM]}
    if part in BASELINES:
        return [weeks, BASELINES[part]]
    if part == "item2vec":
        return [weeks, ITEM2VEC]
    if part == f"item2vec of {ALONE}":
        return [weeks, ITEM2VEC, ALONE_ITEM2VEC]
    shape, mode = part.split(", ")
    if mode == "as pre-trained":
        return [weeks, ITEM2VEC, SHAPES[shape], PRETRAIN]
    if mode == ALONE:
        return [weeks, ITEM2VEC, ALONE_ITEM2VEC, SHAPES[shape], TUNE]
    before = {} if mode == "from scratch" else PRETRAIN
    return [weeks, ITEM2VEC, SHAPES[shape], before, TUNE, MODES[mode]]


class _Trained:
    """Trains what a part needs, out of what earlier parts left in `work`."""

    def __init__(self, found: Domains, seed: int, work: Path, small: bool) -> None:
        self.found, self.seed, self.work, self.small = found, seed, work, small

    def scorer(self, part: str) -> tuple[Any, Interactions | None, float]:
        """The part's scorer, the histories that it is asked with (None: all that was bought), CPU seconds."""
        sparse = self.found.sparse
        if part == "bought before":
            return BoughtBefore(sparse), None, 0.0
        if part in BASELINES:
            recipe = "popularity" if part == "popularity" else "item_knn"
            history = _coupons(sparse.before("test")) if part == "item_knn on coupons" else None
            data = sparse if history is None else _only_coupons(sparse)
            return self._exported(part, recipe, BASELINES[part], data, history)
        if part == "item2vec":
            return self._exported(part, "item2vec", ITEM2VEC, self.found.rich, None)
        shape, mode = part.split(", ")
        if mode == "as pre-trained":
            data = self._with_vectors(self.found.rich, "item2vec")
            return self._exported(part, "dssm", {**SHAPES[shape], **PRETRAIN}, data, None)
        settings = {**SHAPES[shape], **TUNE, **MODES.get(mode, {})}
        if mode == ALONE:
            data, history = _only_coupons(sparse), _coupons(sparse.before("test"))
            vectors = f"item2vec of {ALONE}"
            _, _, before = self._exported(vectors, "item2vec", {**ITEM2VEC, **ALONE_ITEM2VEC}, data, None)
            scorer, _, cpu = self._exported(part, "dssm", settings, self._with_vectors(data, vectors), None)
            return scorer, history, before + cpu
        if mode != "from scratch":
            settings["pretrained"] = str(self._kept(f"{shape}, as pre-trained", "safetensors"))
        return self._exported(part, "dssm", settings, self._with_vectors(sparse, "item2vec"), None)

    def _exported(
        self, part: str, name: str, settings: dict[str, Any], data: BehaviourSet, history: Interactions | None
    ) -> tuple[Scorer, Interactions | None, float]:
        recipe = recipes.find(name)
        if self.small and recipe.role != "closed_form":
            settings = {**settings, **SHORT}
        config = recipe.config(seed=self.seed, **settings)
        trained = fit(recipe, recipe.bind(config, data), config, self._kept(part, "run"))
        self._keep(part, trained)
        exported = export_behaviour(recipe, trained, Source.of(data), self._kept(part, "exports"))
        return open_scorer(exported), history, trained.cpu_seconds

    def _keep(self, part: str, trained: Trained[Any]) -> None:
        network = trained.network
        if isinstance(network, Item2Vec):
            np.save(self._kept(part, "npy"), network.vectors())
        elif network is not None:
            save_file(network.state_dict(), self._kept(part, "safetensors"))

    def _kept(self, part: str, ending: str) -> Path:
        return self.work / "kept" / f"{part_name(part, self.seed)}.{ending}"

    def _with_vectors(self, data: BehaviourSet, part: str) -> BehaviourSet:
        vectors = np.load(self._kept(part, "npy"), allow_pickle=False)
        return replace(data, item_features=data.item_features.plus("item2vec", vectors))


class BoughtBefore:
    """How often the household bought the item; of equals, what was bought with coupons most."""

    name = "bought before"

    def __init__(self, sparse: BehaviourSet) -> None:
        self.items = sparse.items
        counts = np.bincount(sparse.truth("train").items, minlength=len(sparse.items))
        self.popular_N = counts / (counts.max() + 1)

    def scores(self, queries: Queries) -> np.ndarray:
        scores = np.tile(self.popular_N, (len(queries), 1)).astype(np.float32)
        np.add.at(scores, (queries.owners, queries.items), 1)
        scores[:, 0] = -np.inf
        return scores


def _coupons(acts: Interactions) -> Interactions:
    return acts.take(acts.kinds == SPARSE)


def _only_coupons(sparse: BehaviourSet) -> BehaviourSet:
    return sparse.with_parts(**{name: _coupons(acts) for name, acts in sparse.parts.items()})


def part_name(part: str, seed: int) -> str:
    """Other settings, another name."""
    settled = hashlib.sha256(json.dumps(settings_of(part), sort_keys=True).encode()).hexdigest()[:8]
    return f"{part.replace(', ', '-').replace(' ', '_')}-{settled}-{seed}"


def measure(part: str, seed: int, found: Domains, work: Path, small: bool = False) -> None:
    """Train one part (for a moment, if `small`), export it, rank the catalogue with the export, keep (Q,)
    values by metric."""
    (work / "kept").mkdir(parents=True, exist_ok=True)
    (work / "parts").mkdir(parents=True, exist_ok=True)
    scorer, history, cpu = _Trained(found, seed, work, small).scorer(part)
    queries, wanted = found.sparse.queries("test", history)
    ranked = rank_all(scorer, queries, wanted, ks=KS, candidates=found.catalogue_N)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    file = work / "parts" / f"{part_name(part, seed)}.npz"
    columns: dict[str, Any] = {"cpu": cpu, "peak": peak, **ranked.per_query}
    np.savez(file.with_suffix(".draft.npz"), **columns)
    file.with_suffix(".draft.npz").rename(file)
