"""Settings and network of the two-tower (two_tower.py): who asks and what they did, and what there is.

`original` is the network of the Databricks two-tower notebooks on TorchRec, without the ReLU that ended its
towers: an inner product that cannot be negative is never a probability below one half.

    B shoppers or items   S states of a history: its start, then one after each of its L acts   T targets
    E an item as it stands in a history   D embedding dimension   A actions   N items, U users, row 0 unknown
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.errors import ConfigError
from etalage.features.encoder import Features
from etalage.models.embedding_tables import RowwiseTables
from etalage.models.layers import FeatureSum, HistoryEncoder, mlp, table
from etalage.models.recipe import Schedule, SourcedConfig

ORIGINAL: dict[str, Any] = {
    "user_id": True,
    "history": 0,
    "width": 128,
    "query_layers": (128, 64),
    "item_layers": (128, 64),
    "objective": "binary",
    "negatives": 0,
    "cosine": False,
    "tables": "row_wise",
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "batch_size": 1024,
    "dropout": 0.0,
    "forget_user": 0.0,
    "forget_item": 0.0,
    "schedule": "constant",
    "warm_up": 0.0,
    "item_bias": False,
}
"""Ids alone, perceptrons, explicit negatives; row-wise Adagrad for tables and Adam for the rest."""


class TwoTowerConfig(SourcedConfig):
    preset: Literal["sequence", "original"] = "sequence"
    """`original` changes the defaults to ORIGINAL's; what is given beside it counts."""
    user_id: bool = False
    """An embedding for each user, beside history and attributes."""
    history: int = Field(50, ge=0)
    """Acts that are looked at, L; 0: none."""
    kinds: bool = True
    """Whether an act was a view or a purchase is told to the history, where there are several kinds."""
    width: int = Field(64, ge=2)
    """E, of embeddings and of the history's states."""
    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    query_layers: tuple[int, ...] = ()
    item_layers: tuple[int, ...] = ()
    """Widths of the perceptron on top of each tower; both end in D. Empty: none, D = E."""
    dropout: float = Field(0.4, ge=0, lt=1)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    forget_user: float = Field(0.3, ge=0, le=1)
    forget_item: float = Field(0.1, ge=0, le=1)
    """Share of users, of items, whose id is replaced by the unknown one in a step, so that it learns to stand
    for those that come later: history, attributes and content have to say it alone."""
    cosine: bool = True
    """Embeddings of length 1, and a scale."""
    temperature: float = Field(0.07, gt=0)
    """Of `softmax`: the scale is 1 / temperature, throughout. The other objectives learn theirs from 1 on."""
    objective: Literal["softmax", "binary", "regression", "classes"] = "softmax"
    """What is predicted: which item comes next; the label; the value; the value as one of few ordered
    classes."""
    actions: dict[str, float] = Field(default_factory=dict)
    """Kinds that are predicted, each by a query embedding of its own, with the weight of its loss and in the
    score; empty: all kinds by one."""
    full_up_to: int = Field(30_000, ge=0)
    """Up to so many items the softmax runs over all of them, else over those of the batch and drawn ones."""
    shared_negatives: int = Field(2000, ge=1)
    """Items drawn evenly for each batch, beside its own."""
    negatives: int = Field(4, ge=0)
    """For `binary`: items drawn for each positive, none of its user's."""
    item_bias: bool = True
    """For objectives other than `softmax`: a number of the item, whoever asks."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    batch_size: int = Field(2048, ge=1)
    """Targets of a batch, about."""
    tables: Literal["dense", "row_wise"] = "dense"
    """Of ids. `row_wise`: a step moves only the rows of its batch, by row-wise Adagrad; for catalogues and
    crowds where a step over whole tables is too slow."""
    learning_rate: float = Field(2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Schedule = "cosine"
    warm_up: float = Field(0.05, ge=0, lt=1)
    validate_queries: int = Field(5000, ge=1)

    RENAMED: ClassVar[Mapping[str, str]] = {
        "sampled": "shared_negatives",
    }

    @property
    def row_wise(self) -> bool:
        """As `tables` says."""
        return self.tables == "row_wise"

    @property
    def filled(self) -> Mapping[str, Any]:
        return ORIGINAL if self.preset == "original" else {}

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.history == 0:
            found |= dict.fromkeys(("kinds", "layers", "heads", "attention_dropout"), "history above 0")
        if not self.user_id:
            found["forget_user"] = "user_id = true"
        if self.objective == "softmax":
            found["item_bias"] = "another objective"
        else:
            of_softmax = ("full_up_to", "shared_negatives", "smoothing")
            found |= dict.fromkeys(of_softmax, 'objective = "softmax"')
        if self.objective != "binary":
            found["negatives"] = 'objective = "binary"'
        if self.objective != "softmax" or not self.cosine:
            found["temperature"] = 'objective = "softmax" and cosine = true'
        if not self.row_wise:
            rows = ("table_optimiser", "table_rate", "table_start", "table_decay")
            found |= dict.fromkeys(rows, 'tables = "row_wise"')
        return found

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") == "original":
            return {**ORIGINAL, **given}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> "TwoTowerConfig":
        if (self.width, *self.item_layers)[-1] != (self.width, *self.query_layers)[-1]:
            raise ValueError("query_layers and item_layers must end in the same width")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class TwoTower(nn.Module):
    """See BehaviourNetwork for the inputs. Both embeddings are float32; their inner product is the score."""

    known_items: Tensor
    known_users: Tensor

    def __init__(
        self,
        config: TwoTowerConfig,
        known_items: np.ndarray,
        known_users: np.ndarray,
        item_features: Features,
        user_features: Features,
        kinds: int,
        bounds: int = 0,
    ) -> None:
        """known_items (N + 1,), known_users (U + 1,): bool, who stands in the training part; any other has
        the unknown id. kinds: their number, "none given" included. bounds: between the classes, for
        `classes`. Raises ConfigError: nothing to tell one shopper from another by."""
        super().__init__()
        self.config, self.history_length = config, config.history
        width = config.width
        self.register_buffer("known_items", torch.from_numpy(known_items.copy()))
        self.register_buffer("known_users", torch.from_numpy(known_users.copy()))
        if not (config.user_id or config.history or len(user_features)):
            raise ConfigError("[models.two_tower] history = 0 needs user_id = true, or users with attributes")
        ids: Callable[[int, int], nn.Module] = Ids if config.tables == "row_wise" else table
        self.item_id = ids(len(known_items), width)
        self.item_content = _content(item_features, width)
        self.user_id = ids(len(known_users), width) if config.user_id else None
        self.user_content = _content(user_features, width)
        with_kinds = config.kinds and kinds > 2 and config.history > 0
        self.encoder = (
            HistoryEncoder(
                width,
                config.history,
                kinds if with_kinds else 1,
                config.layers,
                config.heads,
                config.dropout,
                config.attention_dropout,
            )
            if config.history
            else None
        )
        self.query_top = mlp((width, *config.query_layers), config.dropout)
        self.item_top = mlp((width, *config.item_layers), config.dropout)
        dimension = (width, *config.item_layers)[-1]
        actions = len(config.actions) if len(config.actions) > 1 else 0
        self.action_heads = nn.ModuleList([nn.Linear(dimension, dimension) for _ in range(actions)])
        weights = list(config.actions.values()) if actions else [1.0]
        self.action_weights = [weight / sum(weights) for weight in weights]
        biased = config.item_bias and config.objective != "softmax"
        self.item_bias = nn.Linear(width, 1) if biased else None
        learned = config.cosine and config.objective != "softmax"
        self.log_scale = nn.Parameter(torch.zeros(())) if learned else None
        self.bounds = nn.Parameter(torch.zeros(bounds)) if bounds else None
        history = ("history_embeddings", "history_mask") + (("history_kinds",) if with_kinds else ())
        self.query_inputs = (
            *(("user",) if config.user_id else ()),
            *(history if config.history else ()),
            *(f"user.{name}" for name in (self.user_content.names if self.user_content else ())),
        )
        self.item_inputs = (
            "item",
            *(f"item.{name}" for name in (self.item_content.names if self.item_content else ())),
        )

    def history_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        """(B, E): the item as histories hold it and as the item tower starts from it: one table for both."""
        known_B = torch.where(self.known_items[item_B], item_B, 0)
        if self.training and self.config.forget_item:
            forgotten_B = torch.rand(known_B.shape, device=known_B.device) < self.config.forget_item
            known_B = torch.where(forgotten_B, 0, known_B)
        found_BE: Tensor = self.item_id(known_B)
        return found_BE if self.item_content is None else found_BE + self.item_content(features)

    def embed_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        return self.finished(self.history_item(item_B, *features))

    def finished(self, items_BE: Tensor) -> Tensor:
        """What `history_item` made → item embeddings (B, D)."""
        top_BD = self.item_top(items_BE).float()
        if self.config.cosine:
            top_BD = F.normalize(top_BD, dim=1)
        if self.item_bias is not None:
            top_BD = torch.cat([top_BD, self.item_bias(items_BE).float()], dim=1)
        return top_BD

    def embed_query(self, *inputs: Tensor) -> Tensor:
        """With several actions the weighted sum of their query embeddings: its inner product with an item is
        the weighted sum of their scores."""
        given = dict(zip(self.query_inputs, inputs, strict=True))
        states_BSE = self.states(given)
        queries_ABD = torch.stack(self.asked(states_BSE[:, -1]))
        weights_A = queries_ABD.new_tensor(self.action_weights)
        return (weights_A[:, None, None] * queries_ABD).sum(0)

    def states(self, given: Mapping[str, Tensor]) -> Tensor:
        """(B, L + 1, E): what is known of each shopper after each of their acts."""
        parts: list[Tensor] = []
        if self.user_id is not None:
            user_B = torch.where(self.known_users[given["user"]], given["user"], 0)
            if self.training and self.config.forget_user:
                user_B = torch.where(
                    torch.rand(user_B.shape, device=user_B.device) < self.config.forget_user, 0, user_B
                )
            parts.append(self.user_id(user_B))
        if self.user_content is not None:
            parts.append(self.user_content([given[f"user.{name}"] for name in self.user_content.names]))
        who_BE = torch.stack(parts).sum(0) if parts else None
        if self.encoder is None:
            assert who_BE is not None
            return who_BE.unsqueeze(1)
        states_BSE: Tensor = self.encoder(
            given["history_embeddings"], given["history_mask"], given.get("history_kinds")
        )
        return states_BSE if who_BE is None else states_BSE + who_BE.unsqueeze(1)

    def asked(self, states_TE: Tensor) -> list[Tensor]:
        """Query embeddings of each action, (T, D)."""
        top_TD = self.query_top(states_TE)
        found = [head(top_TD).float() for head in self.action_heads] or [top_TD.float()]
        if self.config.cosine:
            scale = 1 / self.config.temperature if self.log_scale is None else self.log_scale.exp()
            found = [scale * F.normalize(query, dim=1) for query in found]
        if self.item_bias is not None:
            found = [torch.cat([query, torch.ones_like(query[:, :1])], dim=1) for query in found]
        return found

    def rising_bounds(self) -> Tensor:
        """(classes - 1,): where on the scale of the score one class ends and the next begins."""
        assert self.bounds is not None
        steps = F.softplus(self.bounds[1:])
        return torch.cat([self.bounds[:1] - 1, steps]).cumsum(0)


class Ids(RowwiseTables):
    """One table of ids whose gradient is of the rows looked up alone: rows of any shape → (…, width)."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__([rows], width)

    def forward(self, rows: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # see layers.Table
            return self.weight[rows]
        return super().forward(rows.unsqueeze(-1)).squeeze(-2)


def _content(features: Features, width: int) -> FeatureSum | None:
    if len(features) == 0:
        return None
    return FeatureSum(
        {name: features.sizes[name] for name in sorted(features.sparse)},
        {name: features.sizes[name] for name in sorted(features.bags)},
        {name: features.dense[name].shape[1] for name in sorted(features.dense)},
        width,
    )
