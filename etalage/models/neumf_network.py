"""Neural matrix factorisation: will this user take this item? A logit for the pair.

X. He et al., Neural Collaborative Filtering, WWW 2017: GMF (equation 9), MLP (10), and NeuMF, which has
embeddings of its own for each and one head over both (12). `user_by` and `item_by = "acts"` or `"both"`:
Z.-H. Deng et al., DeepCF, AAAI 2019, where a user is what they took and an item who took it.

GMF alone can also retrieve: its logit is (head ∘ user)·item + biases, an inner product of vectors.

    B batch   K negatives of each, or of all   F factors of GMF   M of MLP   W = F + M   U users, N items
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.features.behaviour import Interactions
from etalage.models.interaction_vectors import Bag, Neighbours, Vectors
from etalage.models.recipe import Objective, TrainingConfig

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
    user_by: Literal["id", "acts", "both"] = "id"
    """What a user is known by: who they are, what they took, or the sum of both."""
    item_by: Literal["id", "acts", "both"] = "id"
    factors: int = Field(8, ge=1)
    """F."""
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
    pretrain: int = Field(0, ge=0)
    """Epochs, of all, in which GMF and MLP learn apart; then they are NeuMF, each head weighing one half."""
    loss: Literal["bce", "softmax", "bpr"] = "bce"
    """Taken or not, of each pair (its sigmoid is a probability); or which of the drawn ones; or before which.
    Explicit negatives are judged by bce, whatever the loss."""
    negatives: int = Field(4, ge=1)
    """Drawn for each positive; with softmax, for all positives of a batch alike."""
    spare_held_out: bool = True
    """Do not draw what a user takes in later parts either. False: only what they took in train is spared,
    which is all that a model can know; benchmarks/ncf.py measures what the difference is worth."""
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
