"""Who asks and what they did in one tower, what there is in the other; their inner product is the score.

Papers: P. Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016 (which item comes
next, as a softmax); X. Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations, RecSys 2019 (two towers, drawn candidates); W.-C. Kang and J. McAuley, Self-Attentive
Sequential Recommendation, ICDM 2018 (the history; every act is a target).

    B windows   L acts   T targets of a batch   K items of a batch   C candidates of a softmax   A actions
    D embedding dimension   N items, row 0 unknown
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etalage.features.behaviour import NEVER, BehaviourSet, Queries
from etalage.features.negatives import Negatives
from etalage.features.sources import require_features
from etalage.features.windows import Windows
from etalage.metrics import auroc
from etalage.models.layers import device_of, on_device_of
from etalage.models.losses import full_softmax, ordinal, sampled_softmax, weighted_mean
from etalage.models.objectives import conflicts
from etalage.models.recipe import BaseTask, Batch, Recipe, batch_seed
from etalage.models.targets import Targets
from etalage.models.towers import TwoTower, TwoTowerConfig
from etalage.models.vector_history import ValidationRanking

AT_ONCE = 512
AGREEMENT_BATCHES = 4


class TwoTowerTask(BaseTask):
    """The recipe bound to a shop's behaviour. Raises what Targets raises, TooLittleData, and ConfigError:
    items lack a feature that the config names."""

    metric = "ndcg_at_10"

    def __init__(self, config: TwoTowerConfig, data: BehaviourSet) -> None:
        require_features(data.item_features, config.feature_sources or (), RECIPE.name)
        self.config, self.data, self.train = config, data, data.part("train")
        self.targets = Targets(config.objective, config.actions, data)
        wanted = self.targets.wanted
        self.windows = Windows(self.train, wanted, config.history, config.batch_size, config.seed)
        seen = np.bincount(self.train.items[wanted], minlength=len(data.items))
        self.share = seen / seen.sum()
        self.catalogue = np.flatnonzero(seen)
        """(C,) items that were a target: those that never were cannot be told from bad ones."""
        self.full = config.objective == "softmax" and len(self.catalogue) <= config.full_up_to
        drawing = config.objective == "binary" and config.negatives > 0
        self.negatives = (
            Negatives(self.train.positive, len(data.users), len(data.items), (seen > 0) * 1.0, data.users)
            if drawing
            else None
        )
        self.item_columns = _tensors(data.item_features.columns.values())
        self.user_columns = _tensors(data.user_features.columns.values())
        self.ranking = ValidationRanking(data, config.validate_queries, config.seed)
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])

    @property
    def steps(self) -> int:
        return self.windows.steps

    # -- batches -------------------------------------------------------------------------------

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """`item` (K,) are the item rows that take part; `history`, `target`, `candidates` places in them."""
        if self._plan[0] != epoch:
            self._plan = (epoch, self.windows.plan(epoch))
        chosen = self._plan[1][step % self.steps][rank::world_size]
        found = self.windows.batch(chosen)
        rows = found.targets
        arrays = {
            "at": found.at,
            "target": self.train.items[rows],
            "label": self.train.labels[rows],
            "value": self.targets.scaled(self.train.values[rows]),
            "action": self.targets.action_of[self.train.kinds[rows]],
        }
        seeds = batch_seed(self.config.seed, epoch, step, rank)
        if self.negatives is not None:
            arrays = self._with_negatives(arrays, self.train.users[rows], seeds)
        candidates = self._candidates(arrays["target"], seeds)
        parts = (np.zeros(1, np.int64), found.items.ravel(), arrays["target"], candidates)
        items = np.arange(len(self.data.items)) if self.full else np.unique(np.concatenate(parts))
        arrays["history"] = np.searchsorted(items, found.items)
        arrays["target"] = np.searchsorted(items, arrays["target"])
        arrays["candidates"] = np.searchsorted(items, candidates)
        arrays |= {"rows": chosen, "user": found.users, "kinds": found.kinds}
        if self.config.objective == "softmax" and not self.full:
            arrays["log_probability"] = self._log_probability(candidates, len(rows))
        given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return given | self._about_items(torch.from_numpy(items)) | self._about_users(given["user"])

    def _log_probability(self, candidates: np.ndarray, targets: int) -> np.ndarray:
        """(C,) float32: of being among so many targets drawn by frequency, or among those drawn evenly."""
        missed = targets * np.log1p(-np.minimum(self.share[candidates], 1 - 1e-12))
        missed += math.log1p(-min(self.config.shared_negatives / len(self.catalogue), 1 - 1e-12))
        return np.log(-np.expm1(missed)).astype(np.float32)

    def _about_items(self, items_K: Tensor) -> dict[str, Tensor]:
        names = self.data.item_features.columns
        columns = zip(names, self.item_columns, strict=True)
        return {"item": items_K} | {f"item.{name}": column[items_K] for name, column in columns}

    def _about_users(self, users_B: Tensor) -> dict[str, Tensor]:
        names = self.data.user_features.columns
        columns = zip(names, self.user_columns, strict=True)
        return {"user": users_B} | {f"user.{name}": column[users_B] for name, column in columns}

    def _with_negatives(
        self, arrays: dict[str, np.ndarray], users: np.ndarray, seeds: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        assert self.negatives is not None
        positive = np.flatnonzero((arrays["label"] > 0) & self.negatives.drawable[users])
        again = np.repeat(positive, self.config.negatives)
        more = {name: array[again] for name, array in arrays.items()}
        more["target"] = self.negatives.draw(users[positive], self.config.negatives, seeds).ravel()
        more["label"] = np.zeros(len(again), np.float32)
        return {name: np.concatenate([array, more[name]]) for name, array in arrays.items()}

    def _candidates(self, targets: np.ndarray, seeds: tuple[int, ...]) -> np.ndarray:
        """(C,) item rows, ascending, that the softmax runs over; none for other objectives."""
        if self.config.objective != "softmax":
            return np.empty(0, np.int64)
        if self.full:
            return self.catalogue
        rng = np.random.default_rng([*seeds, 1])
        count = min(self.config.shared_negatives, len(self.catalogue))
        return np.union1d(targets, rng.choice(self.catalogue, count, replace=False))

    # -- loss ----------------------------------------------------------------------------------

    def network(self) -> nn.Module:
        data, train = self.data, self.train
        return TwoTower(
            self.config,
            np.bincount(train.items, minlength=len(data.items)) > 0,
            np.bincount(train.users, minlength=len(data.users)) > 0,
            data.item_features,
            data.user_features,
            kinds=len(data.kinds) + 1,
            bounds=self.targets.bounds,
        )

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, TwoTower)
        losses = self.losses(network, batch)
        return torch.stack([w * loss for w, loss in zip(network.action_weights, losses, strict=True)]).sum()

    def losses(self, network: TwoTower, batch: Batch) -> list[Tensor]:
        """One for each action, the mean over its targets; 0 where the batch has none."""
        history = batch["history"]
        held_KE = network.history_item(*(batch[name] for name in network.item_inputs))
        given = {name: tensor for name, tensor in batch.items() if name == "user" or name.startswith("user.")}
        given["history_embeddings"] = F.embedding(history, held_KE)
        # Items ascend, and the first is row 0, so that place 0 is padding.
        given["history_mask"] = history != 0
        given["history_kinds"] = batch["kinds"]
        states_TE = network.states(given).flatten(0, 1)[batch["at"]]
        queries_ATD = network.asked(states_TE)
        items_KD = network.finished(held_KE)
        if len(queries_ATD) == 1:
            return [self._loss(network, queries_ATD[0], items_KD, batch, None)]
        return [
            self._loss(network, queries_TD, items_KD, batch, batch["action"] == action)
            for action, queries_TD in enumerate(queries_ATD)
        ]

    def _loss(
        self, network: TwoTower, queries_TD: Tensor, items_KD: Tensor, batch: Batch, mine_T: Tensor | None
    ) -> Tensor:
        target_T, label_T, value_T = batch["target"], batch["label"], batch["value"]
        if mine_T is not None:
            queries_TD, target_T, label_T, value_T = (
                tensor[mine_T] for tensor in (queries_TD, target_T, label_T, value_T)
            )
        if self.config.objective == "softmax":
            return self._softmax(queries_TD, items_KD, target_T, batch)
        scores_T = (queries_TD * items_KD[target_T]).sum(1)
        if self.config.objective == "binary":
            losses_T = F.binary_cross_entropy_with_logits(scores_T, label_T, reduction="none")
        elif self.config.objective == "regression":
            losses_T = (scores_T - value_T).square()
        else:
            losses_T = ordinal(scores_T, network.rising_bounds(), value_T)
        return weighted_mean(losses_T, None)

    def _softmax(self, queries_TD: Tensor, items_KD: Tensor, target_T: Tensor, batch: Batch) -> Tensor:
        candidates_C = batch["candidates"]
        right_T = torch.searchsorted(candidates_C, target_T)
        candidates_CD = items_KD[candidates_C]
        if self.full:
            return full_softmax(queries_TD, candidates_CD, right_T, smoothing=self.config.smoothing)
        return sampled_softmax(queries_TD, candidates_CD, right_T, batch["log_probability"])

    # -- training --------------------------------------------------------------------------------

    def validate(self, network: nn.Module) -> dict[str, float]:
        """nDCG@10 and recall@20 over all items; AUROC of labels where there are both; `rmse` of values, in
        their unit, where they are predicted; with several actions, how well their gradients agree."""
        assert isinstance(network, TwoTower)
        device = device_of(network)
        every = self._about_items(torch.arange(len(self.data.items)))
        held_NE = network.history_item(*(every[name].to(device) for name in network.item_inputs)).float()
        items_ND = network.finished(held_NE)
        asked = self.ranking.asked[0]
        figures = (
            self.ranking.figures(self._embed_all(network, asked, held_NE), items_ND) if len(asked) else {}
        )
        figures |= self._of_pairs(network, held_NE, items_ND)
        return figures | (self.agreement(network) if len(network.action_weights) > 1 else {})

    def _of_pairs(self, network: TwoTower, held_NE: Tensor, items_ND: Tensor) -> dict[str, float]:
        acts = self.data.part("validation")
        acts = acts.take(self.targets.action_of[acts.kinds] >= 0)
        users = np.unique(acts.users)[: self.config.validate_queries]
        acts = acts.take(np.isin(acts.users, users))
        both = bool(0 < (acts.labels > 0).sum() < len(acts))
        valued = self.config.objective == "regression" and np.isfinite(acts.values).any()
        if not (both or valued):
            return {}
        known = self.data.before("validation").positive
        queries = self.data.asked(users, known, np.full(len(users), NEVER))
        asked_TD = self._embed_all(network, queries, held_NE)[np.searchsorted(users, acts.users)]
        scores = (asked_TD * items_ND[on_device_of(network, acts.items)]).sum(1).float().cpu().numpy()
        figures = {"auroc": auroc(scores, acts.labels > 0)} if both else {}
        if valued:
            mean, spread = self.targets.scale
            figures["rmse"] = float(np.sqrt(np.nanmean((mean + spread * scores - acts.values) ** 2)))
        return figures

    def _embed_all(self, network: TwoTower, queries: Queries, held_NE: Tensor) -> Tensor:
        blocks = (
            queries.block(at, min(at + AT_ONCE, len(queries))) for at in range(0, len(queries), AT_ONCE)
        )
        return torch.cat([self.embed(network, block, held_NE) for block in blocks])

    def embed(self, network: TwoTower, queries: Queries, held_NE: Tensor) -> Tensor:
        """(B, D); held_NE: what `history_item` makes of every item."""
        rows, kinds, _ = queries.last(network.history_length)
        longest = min(int(np.diff(queries.starts).max(initial=0)), network.history_length)
        history = on_device_of(network, rows[:, rows.shape[1] - longest :])
        users = queries.features.columns.items()
        given = {"user": on_device_of(network, queries.users)}
        given |= {f"user.{name}": on_device_of(network, column) for name, column in users}
        given["history_embeddings"] = F.embedding(history, held_NE)
        given["history_mask"] = history != 0
        given["history_kinds"] = on_device_of(network, kinds[:, kinds.shape[1] - longest :])
        return network.embed_query(*(given[name] for name in network.query_inputs))

    def agreement(self, network: TwoTower) -> dict[str, float]:
        """Whether the actions' gradients point the same way on what they share, over some batches of the
        first epoch (see `conflicts`, which warns)."""
        shared = [p for name, p in network.named_parameters() if not name.startswith("action_heads")]
        with torch.inference_mode(False), torch.enable_grad():
            device = device_of(network)
            batches = [self.batch(0, step) for step in range(min(self.steps, AGREEMENT_BATCHES))]
            losses = [
                torch.stack(self.losses(network, {name: t.to(device) for name, t in batch.items()}))
                for batch in batches
            ]
            mean_A = torch.stack(losses).mean(0)
            return conflicts(dict(zip(self.config.actions, mean_A, strict=True)), shared)


def _tensors(columns: Any) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(column)) for column in columns]


RECIPE = Recipe(
    name="two_tower",
    role="embedder",
    paper="Yi et al., RecSys 2019; Kang and McAuley, SASRec, ICDM 2018",
    config=TwoTowerConfig,
    columns=("title", "brand", "price", "category_id", "attributes"),
    bind=TwoTowerTask,
    data="behaviour",
)
