"""Neural matrix factorisation: will this user take this item? A logit for the pair.

X. He et al., Neural Collaborative Filtering, WWW 2017: GMF (equation 9), MLP (10), and NeuMF, which has
embeddings of its own for each and one head over both (12). `user_by` and `item_by = "acts"` or `"both"`:
Z.-H. Deng et al., DeepCF, AAAI 2019, where a user is what they took and an item who took it. Negatives are
drawn anew in every epoch.

GMF alone can also retrieve: its logit is (head ∘ user)·item + biases, an inner product of vectors.

    B batch   K negatives of each, or of all   U users, N items
    of the network: F factors of GMF   M of MLP   W = F + M;  of the task: M rows of train
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.features.behaviour import PARTS, BehaviourSet, Interactions, pair_keys
from etalage.features.negatives import Negatives, candidates
from etalage.metrics import auroc
from etalage.models.interaction_vectors import Bag, Neighbours, Vectors
from etalage.models.layers import on_device_of
from etalage.models.ranks import COUNT
from etalage.models.recipe import BaseTask, Batch, Objective, Recipe, TrainingConfig
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace

PAPER: dict[str, Any] = {}
"""The defaults: 8 factors (8 to 64 in the paper), an MLP of 64-32-16-8 whose 64 is its input, 4 negatives."""
ORIGINAL: dict[str, Any] = {
    "factors": 32,
    "mlp_factors": 32,
    "layers": (64, 32, 16, 8),
    "dropout": 0.25,
    "negatives": 5,
}
"""The SageMaker example: four layers behind the concatenation, and dropout between it and them."""
INTERACTIONS: dict[str, Any] = {
    "user_by": "acts",
    "item_by": "both",
    "factors": 256,
    "mlp_factors": 32,
    "layers": (32, 16),
    "hidden": 0.5,
    "factor_dropout": 0.5,
    "item_bias": True,
    "loss": "softmax",
    "negatives": 256,
    "batch_size": 512,
    "learning_rate": 2e-3,
    "weight_decay": 0.3,
    "schedule": "linear",
    "final_rate": 1e-3,
    "epochs": 12,
    "spread": 0.05,
    "average": 0.99,
}
"""What was best on validation parts: who took what, and one answer among many drawn items."""
PRESETS = {"paper": PAPER, "original": ORIGINAL, "interactions": INTERACTIONS}


class NeumfConfig(TrainingConfig):
    preset: Literal["paper", "original", "interactions"] = "paper"
    """Changes the defaults of what is not given beside it: PRESETS."""
    part: Literal["neumf", "gmf", "mlp"] = "neumf"
    """Both halves, or one of them alone: the element-wise product, or the perceptron."""
    user_by: Literal["id", "acts", "both"] = "id"
    """What a user is known by: who they are, what they took, or the sum of both."""
    item_by: Literal["id", "acts", "both"] = "id"
    """What an item is embedded by: its id, the shoppers who acted on it, or both."""
    factors: int = Field(8, ge=1)
    """F, the width of GMF's embeddings."""
    mlp_factors: int = Field(32, ge=1)
    """M: half of what goes into the MLP."""
    layers: tuple[int, ...] = Field((32, 16, 8), min_length=1)
    """Widths of the MLP behind the concatenation."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the concatenation, ahead of the MLP."""
    factor_dropout: float = Field(0.0, ge=0, lt=1)
    """Of a user's factors in GMF."""
    hidden: float = Field(0.0, ge=0, lt=1)
    """Share of the interactions that a row is known by that are hidden from it, anew at every step."""
    power: float = Field(0.5, ge=0, le=1)
    """A sum over n interactions weighs n to the minus `power`: 0.5 keeps its spread, 1 makes it a mean."""
    item_bias: bool = False
    """A number of the item, whoever asks, added to the score."""
    pretrain: int = Field(0, ge=0)
    """Epochs, of all, in which GMF and MLP learn apart; then they are NeuMF, each head weighing one half."""
    loss: Literal["bce", "softmax", "bpr"] = "bce"
    """Taken or not, of each pair (its sigmoid is a probability); or which of the drawn ones; or before which.
    Explicit negatives are judged by bce, whatever the loss."""
    negatives: int = Field(4, ge=1)
    """Drawn for each positive; with softmax, for all positives of a batch alike."""
    spare_held_out: bool = False
    """Do not draw what a user takes in later parts either, as the original did. That tells the model what it
    is judged by: benchmarks/ncf.py measures what it is worth."""
    forget: float = Field(0.01, ge=0, lt=1)
    """Share of the rows at a step whose user, and of others whose item, is shown as unknown: row 0 learns."""
    weigh_values: bool = False
    """A positive weighs log(1 + value) (listening counts), 1 in the mean."""
    batch_size: int = Field(256, ge=1)
    """Rows of train a step, the negatives not counted."""
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    spread: float = Field(0.01, gt=0)
    """Standard deviation of embeddings before training."""
    epochs: int = Field(20, ge=1)
    patience: int | None = Field(None, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """The layers are too small to gain by less."""
    validate_on: Literal["sampled", "full"] = "sampled"
    """99 drawn items beside each positive, as in the paper, or all items that are not had yet."""
    validate_queries: int = Field(2000, ge=1)
    """Users."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "fall": "schedule ('linear' or 'constant')",
        "validate_users": "validate_queries",
    }
    decayed: ClassVar[Literal["matrices", "all"]] = "all"

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        chosen = PRESETS.get(str(given.get("preset")), {}) if isinstance(given, Mapping) else {}
        return {**chosen, **given} if chosen else given

    @property
    def filled(self) -> Mapping[str, Any]:
        return PRESETS[self.preset]

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.user_by == self.item_by == "id":
            found |= dict.fromkeys(("hidden", "power"), 'user_by or item_by = "acts" or "both"')
        if self.part == "gmf":
            found |= dict.fromkeys(("mlp_factors", "layers", "dropout"), 'part = "neumf" or "mlp"')
        if self.part == "mlp":
            found |= dict.fromkeys(("factors", "factor_dropout"), 'part = "neumf" or "gmf"')
        return found

    @model_validator(mode="after")
    def _sensible(self) -> "NeumfConfig":
        if self.pretrain and self.part != "neumf":
            raise ValueError(f"pretrain joins GMF and MLP, but part is {self.part!r}; set pretrain = 0")
        if self.pretrain >= self.epochs:
            raise ValueError(f"pretrain leaves no epoch of {self.epochs} for NeuMF; raise epochs")
        return self


class Neumf(nn.Module):
    """A RankerNetwork: forward(sparse (B, 2) int64 rows of user and item, dense (B, 0)) → (B, 1) logits."""

    sparse_inputs = ("user", "item")
    dense_inputs: tuple[str, ...] = ()
    objectives = (Objective("taken"),)

    def __init__(
        self, config: NeumfConfig, users: int, items: int, known: Interactions | None = None
    ) -> None:
        """users, items: U + 1 and N + 1 rows. known: what rows are known by, unless it is their ids alone."""
        super().__init__()
        self.config = config
        keys = np.unique(known.positive.keys if known is not None else np.empty(0, np.int64))
        of_users, of_items, power, spread = keys >> 32, keys & 0xFFFFFFFF, config.power, config.spread
        self.user_acts = Neighbours(of_users, of_items, users, power) if config.user_by != "id" else None
        self.item_acts = Neighbours(of_items, of_users, items, power) if config.item_by != "id" else None
        self.parts = ("gmf", "mlp") if config.part == "neumf" else (config.part,)
        self.user, self.item = nn.ModuleDict(), nn.ModuleDict()
        for part in self.parts:
            width, by_id = config.factors if part == "gmf" else config.mlp_factors, config.user_by != "acts"
            self.user[part] = Vectors(users, items, width, by_id, self.user_acts is not None, spread)
            by_id = config.item_by != "acts"
            self.item[part] = Vectors(items, users, width, by_id, self.item_acts is not None, spread)
        self.dropout, self.factor_dropout = nn.Dropout(config.dropout), nn.Dropout(config.factor_dropout)
        if "mlp" in self.parts:
            ins = [2 * config.mlp_factors, *config.layers[:-1]]
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(ins, config.layers, strict=True))
        features = config.factors * ("gmf" in self.parts) + config.layers[-1] * ("mlp" in self.parts)
        self.head = nn.Linear(features, 1)
        nn.init.kaiming_uniform_(self.head.weight, a=1, nonlinearity="sigmoid")  # the paper's lecun_uniform
        self.item_bias = nn.Parameter(torch.zeros(items)) if config.item_bias else None
        self.register_load_state_dict_post_hook(_sum_up_again)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> "Neumf":
        """Leaving training sums up the interactions, with the weights that there are then."""
        super().train(mode)
        for part in () if mode else self.parts:
            self._vectors("user", part).sum_up(self.user_acts)
            self._vectors("item", part).sum_up(self.item_acts)
        return self

    def _vectors(self, side: str, part: str) -> Vectors:
        found = getattr(self, side)[part]
        assert isinstance(found, Vectors)
        return found

    def forward(self, sparse_B2: Tensor, dense_B0: Tensor) -> Tensor:
        users, items = sparse_B2[:, 0], sparse_B2[:, 1]
        nothing = users.new_zeros(1, dtype=torch.bool), users.new_zeros(1, dtype=torch.float32)
        about_user = nothing if self.user_acts is None else self.user_acts(users, items)
        about_item = nothing if self.item_acts is None else self.item_acts(items, users)
        user_vectors = {p: self.user[p](users, items, *about_user) for p in self.parts}
        item_vectors = {p: self.item[p](items, users, *about_item) for p in self.parts}
        features = []
        if "gmf" in self.parts:
            features.append(user_vectors["gmf"] * item_vectors["gmf"])
        if "mlp" in self.parts:
            hidden = torch.cat([user_vectors["mlp"], item_vectors["mlp"]], dim=1)
            for layer in self.layers:
                hidden = F.relu(layer(hidden))
            features.append(hidden)
        logits: Tensor = self.head(torch.cat(features, dim=1))
        return logits if self.item_bias is None else logits + self.item_bias[items].unsqueeze(1)

    # -- training --------------------------------------------------------------------------------

    def users(self, users_B: Tensor, without_B: Tensor | None) -> dict[str, Tensor]:
        """By part: (B, F) and (B, M), in training. without: the items that the questions are of."""
        bag = self._bag(self.user_acts, users_B, without_B)
        found = {p: self._vectors("user", p).learn(users_B, bag) for p in self.parts}
        return found | ({"gmf": self.factor_dropout(found["gmf"])} if "gmf" in found else {})

    def items(self, items_B: Tensor, without_B: Tensor | None) -> dict[str, Tensor]:
        bag = self._bag(self.item_acts, items_B, without_B)
        return {p: self._vectors("item", p).learn(items_B, bag) for p in self.parts}

    def _bag(self, acts: Neighbours | None, rows_B: Tensor, without_B: Tensor | None) -> Bag | None:
        return None if acts is None else acts.bag(rows_B, without_B, self.config.hidden)

    def logits(
        self, users: dict[str, Tensor], items: dict[str, Tensor], rows: Tensor, crossed: bool
    ) -> Tensor:
        """(parts, …) logits by part, their sum NeuMF's: (B,) of B users with B items, or, crossed, (B, K) of
        each of B users with each of K items. rows: of the items, (B,) or (K,)."""
        found = []
        split = torch.split_with_sizes(self.head.weight[0], [self._width(part) for part in self.parts])
        for part, weights in zip(self.parts, split, strict=True):
            left, right = users[part], items[part]
            if part == "gmf":
                found.append((left * weights) @ right.T if crossed else (left * right) @ weights)
                continue
            # The first layer over a concatenation is a sum of two: each side passes it once, not each pair.
            first = self.layers[0]
            assert isinstance(first, nn.Linear)
            of_user, of_item = first.weight.chunk(2, dim=1)
            one = F.linear(self.dropout(left), of_user, first.bias)
            other = F.linear(self.dropout(right), of_item)
            hidden = F.relu(one[:, None] + other[None] if crossed else one + other)
            for layer in self.layers[1:]:
                hidden = F.relu(layer(hidden))
            found.append(hidden @ weights)
        offset = self.head.bias + (0 if self.item_bias is None else self.item_bias[rows])
        return torch.stack([logits + offset / len(found) for logits in found])

    def _width(self, part: str) -> int:
        return self.config.factors if part == "gmf" else self.config.layers[-1]

    def of_everything(self, users_B: Tensor) -> Tensor:
        """(B, N + 1) logits of users with items that they have not, in eval mode."""
        users = {p: self._vectors("user", p).every(self.user_acts)[users_B] for p in self.parts}
        items = {p: self._vectors("item", p).every(self.item_acts) for p in self.parts}
        rows = torch.arange(len(next(iter(items.values()))), device=users_B.device)
        return self.logits(users, items, rows, crossed=True).sum(0)


def _sum_up_again(network: nn.Module, _keys: object) -> None:
    """Sums that were made with other weights are not these weights'."""
    network.train(network.training)


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
        every = order[step % self.steps * config.batch_size :][: config.batch_size]
        rows = every[rank::world_size]
        generator = np.random.default_rng((config.seed, epoch, step))
        users, items = train.users[rows], train.items[rows]
        hide = (generator.random((2, len(every))) < config.forget)[:, rank::world_size]
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
        # For bce, each pair counts; else each row.
        pairs = (batch["labels"] > 0).sum() * config.negatives if config.loss == "bce" else 0
        batch[f"{COUNT}of"] = np.array(len(rows) + pairs, np.float32)
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
        positive_B, weights_B, of = batch["labels"] > 0, batch["weights"], batch[f"{COUNT}of"]
        if self.config.loss == "bce":
            signs_B = torch.where(positive_B, -1.0, 1.0)
            total = (weights_B * F.softplus(signs_B * own_B)).sum() + F.softplus(against_BK)[positive_B].sum()
            return total / of
        if self.config.loss == "bpr":
            each_B = F.softplus(against_BK - own_B[:, None]).mean(1)
        else:
            rest_BK = against_BK.masked_fill(~batch["allowed"], float("-inf"))
            each_B = torch.cat([own_B[:, None], rest_BK], dim=1).logsumexp(1) - own_B
        disliked_B = F.softplus(own_B).masked_fill(positive_B, 0)
        return ((weights_B * each_B).masked_fill(~positive_B, 0) + disliked_B).sum() / of

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
            queries = self.data.queries_of(users[part], had, np.zeros(len(scores), np.int64))
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


SPACE: SearchSpace = {
    "factors": Choice((8, 16, 32, 64)),
    "mlp_factors": Choice((16, 32, 64)),
    "layers": Choice(((32, 16, 8), (64, 32, 16), (128, 64))),
    "dropout": FloatRange(0.0, 0.5),
    "factor_dropout": FloatRange(0.0, 0.5),
    "loss": Choice(("bce", "softmax", "bpr")),
    "negatives": IntRange(2, 16, log=True),
    "learning_rate": FloatRange(1e-4, 1e-2, log=True),
    "weight_decay": FloatRange(1e-7, 1e-3, log=True),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="neumf",
    role="ranker",
    paper="He et al., Neural Collaborative Filtering, WWW 2017",
    config=NeumfConfig,
    columns=(),
    bind=NeumfTask,
    data="behaviour",
    space=SPACE,
)
