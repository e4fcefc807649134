"""Neural matrix factorisation: will this user take this item? The recipe; neumf_network.py has the model.

X. He et al., Neural Collaborative Filtering, WWW 2017. Negatives are drawn anew in every epoch.

    B batch   K negatives of each, or of all   M rows of train
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etalage.features.behaviour import PARTS, BehaviourSet, Interactions, pair_keys
from etalage.features.negatives import Negatives, candidates
from etalage.metrics import auroc
from etalage.models.layers import on_device_of
from etalage.models.neumf_network import Neumf, NeumfConfig
from etalage.models.recipe import BaseTask, Batch, Recipe, batch_seed


class NeumfTask(BaseTask):
    """The recipe bound to a shop's behaviour; it learns from `train` alone."""

    metric = "ndcg_at_10"

    def __init__(self, config: NeumfConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data
        never = PARTS if config.spare_held_out else ("train",)
        self.negatives = Negatives.of(data, never=never)
        train = data.part("train")
        # Who has taken everything teaches nothing of what is not taken.
        self.train = train.take(self.negatives.drawable[train.users])
        spared = Interactions.joined(*(data.part(name).positive for name in never))
        self.taken = np.unique(spared.keys)
        self.weights = self._weights()
        self._plan: tuple[int, np.ndarray, np.ndarray] = (-1, np.empty(0), np.empty(0))

    def _weights(self) -> np.ndarray:
        weights = np.ones(len(self.train), np.float32)
        if self.config.weigh_values:
            given = np.log1p(np.maximum(np.nan_to_num(self.train.values), 0)).astype(np.float32)
            positive = self.train.labels > 0
            weights[positive] = given[positive] / max(float(given[positive].mean()), 1e-6)
        return weights

    @property
    def steps(self) -> int:
        return max(1, -(-len(self.train) // self.config.batch_size))

    def network(self) -> nn.Module:
        return Neumf(self.config, len(self.data.users), len(self.data.items), self.data.part("train"))

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        config, train = self.config, self.train
        if self._plan[0] != epoch:
            self._plan = epoch, *self._drawn(epoch)
        _, order, negatives = self._plan
        rows = order[step % self.steps * config.batch_size :][: config.batch_size][rank::world_size]
        generator = np.random.default_rng(batch_seed(config.seed, epoch, step, rank))
        users, items = train.users[rows], train.items[rows]
        hide = generator.random((2, len(rows))) < config.forget
        batch = {"rows": rows, "users": users, "items": items, "labels": train.labels[rows]}
        batch["weights"] = self.weights[rows]
        if config.loss == "softmax":
            count = min(config.negatives, len(self.data.items) - 1)
            drawn = generator.choice(len(self.data.items) - 1, count, replace=False) + 1
            batch["negatives"] = drawn
            batch["allowed"] = ~_among(pair_keys(users[:, None], drawn[None, :]), self.taken)
        else:
            batch["negatives"] = negatives[rows]
        batch["user_shown"] = np.where(hide[0], 0, users)
        batch["item_shown"] = np.where(hide[1] & ~hide[0], 0, items)
        batch["apart"] = np.array(epoch < config.pretrain)
        return {name: torch.from_numpy(np.asarray(values)) for name, values in batch.items()}

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of train's rows in this epoch, and their negatives, (M, K)."""
        config = self.config
        order = np.random.default_rng([config.seed, epoch]).permutation(len(self.train))
        if config.loss == "softmax":
            return order, np.empty((0, 0), np.int64)
        return order, self.negatives.draw(self.train.users, config.negatives, (config.seed, epoch))

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, Neumf)
        users_B, items_B = batch["user_shown"], batch["item_shown"]
        users = network.users(users_B, batch["items"])
        own = network.logits(users, network.items(items_B, batch["users"]), items_B, crossed=False)
        drawn, crossed = batch["negatives"], self.config.loss == "softmax"
        others = network.items(drawn.reshape(-1), None)
        if crossed:
            against = network.logits(users, others, drawn, crossed=True)
        else:
            each = {p: v.repeat_interleave(drawn.shape[1], 0) for p, v in users.items()}
            against = network.logits(each, others, drawn.reshape(-1), crossed=False)
            against = against.reshape(len(own), *drawn.shape)
        # Apart, each part has a loss of its own, and they share nothing but the bias; together there is one.
        share = 0.5 if self.config.pretrain else 1.0
        if not bool(batch["apart"]):
            own, against = share * own.sum(0, keepdim=True), share * against.sum(0, keepdim=True)
        losses = [
            self._loss(positive, negative, batch) for positive, negative in zip(own, against, strict=True)
        ]
        return torch.stack(losses).sum()

    def _loss(self, own_B: Tensor, against_BK: Tensor, batch: Batch) -> Tensor:
        """own: of the rows of train; against: of what was drawn for them."""
        positive_B, weights_B = batch["labels"] > 0, batch["weights"]
        if self.config.loss == "bce":
            signs_B = torch.where(positive_B, -1.0, 1.0)
            total = (weights_B * F.softplus(signs_B * own_B)).sum() + F.softplus(against_BK)[positive_B].sum()
            return total / (len(own_B) + int(positive_B.sum()) * against_BK.shape[1])
        if self.config.loss == "bpr":
            each_B = F.softplus(against_BK - own_B[:, None]).mean(1)
        else:
            rest_BK = against_BK.masked_fill(~batch["allowed"], float("-inf"))
            each_B = torch.cat([own_B[:, None], rest_BK], dim=1).logsumexp(1) - own_B
        disliked_B = F.softplus(own_B).masked_fill(positive_B, 0)
        return ((weights_B * each_B).masked_fill(~positive_B, 0) + disliked_B).mean()

    # -- validation ------------------------------------------------------------------------------

    def validate(self, network: nn.Module) -> dict[str, float]:
        """hit_at_10 and ndcg_at_10 of a held-out positive of each user, and auroc: of all held-out positives
        against drawn items and explicit negatives."""
        assert isinstance(network, Neumf)
        truth, config = self.data.truth("validation"), self.config
        users, first = np.unique(truth.users, return_index=True)
        if not len(users):
            return {}
        if len(users) > config.validate_queries:
            some = np.random.default_rng(config.seed).choice(
                len(users), config.validate_queries, replace=False
            )
            users, first = users[np.sort(some)], first[np.sort(some)]
        drawn = candidates(self.data, "validation", 99, config.seed)
        drawn = drawn[np.searchsorted(np.unique(truth.users), users)]
        scores = _scores(network, users, np.concatenate([truth.items[first][:, None], drawn], axis=1))
        scores[:, 1:][drawn == 0] = -np.inf
        refused = self.data.part("validation").take(self.data.part("validation").labels <= 0)
        disliked = _scores(network, refused.users, refused.items[:, None])[:, 0]
        negative = np.concatenate([scores[:, 1:][drawn > 0], disliked])
        both = np.concatenate([scores[:, 0], negative])
        figures = {"auroc": auroc(both, np.arange(len(both)) < len(users))}
        if config.validate_on == "full":
            ranks = self._full_ranks(network, users, truth.items[first])
        else:
            ranks = 1 + (scores[:, 1:] > scores[:, :1]).sum(1) + (scores[:, 1:] == scores[:, :1]).sum(1) / 2
        gains = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0)
        return {"ndcg_at_10": float(gains.mean()), "hit_at_10": float((ranks <= 10).mean()), **figures}

    def _full_ranks(self, network: Neumf, users: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Of each wanted item, 1 = first, among all that its user has not got."""
        ranks = np.empty(len(users))
        had = self.data.before("validation").positive
        for start in range(0, len(users), 64):
            part = slice(start, start + 64)
            scores = network.of_everything(on_device_of(network, users[part])).cpu().numpy()
            own = scores[np.arange(len(scores)), wanted[part]]
            queries = self.data.asked(users[part], had, np.zeros(len(scores), np.int64))
            scores[queries.owners, queries.items] = -np.inf
            scores[:, 0] = -np.inf
            scores[np.arange(len(scores)), wanted[part]] = -np.inf
            ranks[part] = 1 + (scores > own[:, None]).sum(1) + (scores == own[:, None]).sum(1) / 2
        return ranks


def _among(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """bool of the shape of `keys`: is it one of `known`, ascending?"""
    if not len(known):
        return np.zeros(keys.shape, bool)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.asarray(known[at] == keys)


def _scores(network: Neumf, users_B: np.ndarray, items_BK: np.ndarray) -> np.ndarray:
    """(B, K) logits."""
    pairs = np.stack(np.broadcast_arrays(users_B[:, None], items_BK), axis=2).reshape(-1, 2)
    blocks = torch.split(on_device_of(network, pairs), 1 << 15)
    found = [network(block, block.new_empty(len(block), 0))[:, 0].float().cpu() for block in blocks]
    return (torch.cat(found).numpy() if found else np.empty(0, np.float32)).reshape(items_BK.shape)


RECIPE = Recipe(
    name="neumf",
    role="ranker",
    paper="He et al., Neural Collaborative Filtering, WWW 2017",
    config=NeumfConfig,
    columns=(),
    bind=NeumfTask,
    data="behaviour",
)
