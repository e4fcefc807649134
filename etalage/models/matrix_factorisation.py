"""Matrix factorisation, plain and deep.

Papers: Y. Koren, R. Bell, C. Volinsky, Matrix Factorization Techniques for Recommender Systems, IEEE Computer
2009 (`plain`); S. Rendle et al., BPR, UAI 2009 (`bpr`); S. Rendle et al., Neural Collaborative Filtering vs.
Matrix Factorization Revisited, RecSys 2020 (the inner product with sampled negatives, well regularised);
H.-J. Xue et al., Deep Matrix Factorization Models for Recommender Systems, IJCAI 2017 (`deep`: a user's row
and an item's column of the matrix through two towers, compared by their cosine).

    B batch   D dimension   S items drawn for a batch   L acts of a history   C users of an item's column
    U users   N items
"""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage import metrics
from etalage.errors import TooLittleData
from etalage.features.behaviour import BehaviourSet, Queries
from etalage.models.counting import counted_acts, user_items
from etalage.models.layers import mlp, on_device_of, table
from etalage.models.ranks import COUNT
from etalage.models.recipe import BaseTask, Batch, Recipe, Schedule, TrainingConfig
from etalage.models.search_space import Choice, FloatRange, SearchSpace

K = 10
VALIDATE_AT_ONCE = 1024


class MatrixFactorisationConfig(TrainingConfig):
    network: Literal["plain", "deep"] = "plain"
    """`plain`: the product of two embeddings; `deep`: of two towers over a row and a column of the matrix
    (DMF)."""
    dimension: int = Field(64, ge=1)
    """Width of the embeddings that are multiplied."""
    loss: Literal["bce", "bpr", "softmax"] = "softmax"
    """Of a positive against the drawn items: each on its own, in pairs, or all at once."""
    shared_negatives: int | None = Field(1000, ge=1)
    """Items drawn for each batch, all alike; a user's own among them do not count. None: every item."""
    balance: float = Field(4.0, gt=0)
    """`bce`: what all negatives together weigh against one positive."""
    strangers: float = Field(0.02, ge=0, lt=1)
    """Share of the examples whose user is hidden: what a user without a row, or without a history, is."""
    history: int = Field(200, ge=1)
    """`deep`: newest acts of a user's row that are looked at."""
    column: int = Field(200, ge=1)
    """`deep`: users of an item's column that are looked at, always the same ones."""
    layers: tuple[int, ...] = Field((128,), min_length=1)
    """`deep`: widths of the towers before their last layer, which is `dimension` wide."""
    scale: float = Field(10.0, gt=0)
    """`deep`: the cosine times this is the logit."""
    spread: float = Field(0.05, gt=0)
    """Standard deviation of the embeddings at the start."""
    l2: float = Field(0.02, ge=0)
    """`plain`: a penalty on the embeddings that a batch looks up."""
    batch_size: int = Field(1024, ge=1)
    epochs: int = Field(30, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    schedule: Schedule = "linear"
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Small products: bfloat16 gains nothing and its rounding blurs the order."""
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each kind of act in the loss; empty: each 1. Kinds not named do not count then."""
    validate_queries: int = Field(2000, ge=1)
    """Shoppers of the validation part that the catalogue is ranked for, at most."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "decay": "l2 (network = 'plain') or weight_decay ('deep')",
        "negatives": "shared_negatives",
    }
    decayed: ClassVar[Literal["matrices", "all"]] = "all"

    @model_validator(mode="before")
    @classmethod
    def _of_network(cls, given: Any) -> Any:
        deep = isinstance(given, dict) and given.get("network") == "deep"
        return {**_DEEP, **given} if deep else given

    @property
    def filled(self) -> Mapping[str, Any]:
        return _DEEP if self.network == "deep" else {}

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.network == "plain":
            found |= dict.fromkeys(("history", "column", "layers", "scale"), 'network = "deep"')
        else:
            found["l2"] = 'network = "plain" (weight_decay is for "deep")'
        if self.loss != "bce":
            found["balance"] = 'loss = "bce"'
        return found


_DEEP: dict[str, Any] = {"weight_decay": 0.02, "l2": 0.0}


class Plain(nn.Module):
    """logit(u, i) = p_u · q_i + b_i = [p_u, 1] · [q_i, b_i]: the inner product is the trained score."""

    query_inputs: tuple[str, ...] = ("user",)
    item_inputs: tuple[str, ...] = ("item",)
    history_length = 0

    def __init__(self, config: MatrixFactorisationConfig, users: int, items: int) -> None:
        super().__init__()
        self.users = table(users, config.dimension, config.spread)
        self.items = table(items, config.dimension, config.spread)
        self.biases = table(items, 1, 0.0)

    def embed_query(self, user_B: Tensor) -> Tensor:
        """(B,) int64 → (B, D + 1)."""
        found_BD = self.users(user_B)
        return torch.cat([found_BD, torch.ones_like(found_BD[:, :1])], dim=1)

    def embed_item(self, item_B: Tensor) -> Tensor:
        """(B,) int64 → (B, D + 1)."""
        return torch.cat([self.items(item_B), self.biases(item_B)], dim=1)


class Deep(nn.Module):
    """logit(u, i) = scale · cos(tower(row of u), tower(column of i)).

    A tower's first layer on a row of zeros and ones sums columns of its weights: a sum of embeddings, here
    over the root of their number, so that long rows do not drown the layers after it. A shopper is their
    history: one who was never seen is scored as soon as they act.
    """

    query_inputs: tuple[str, ...] = ("history",)
    item_inputs: tuple[str, ...] = ("item",)
    columns_NC: Tensor

    def __init__(self, config: MatrixFactorisationConfig, columns_NC: np.ndarray, users: int) -> None:
        super().__init__()
        self.history_length = config.history
        self.scale = config.scale
        self.register_buffer("columns_NC", torch.from_numpy(columns_NC))
        self.row = table(len(columns_NC), config.layers[0], config.spread)
        self.column = table(users, config.layers[0], config.spread)
        widths = (*config.layers, config.dimension)
        self.user_tower = nn.Sequential(nn.ReLU(), mlp(widths))
        self.item_tower = nn.Sequential(nn.ReLU(), mlp(widths))

    def embed_query(self, history_BL: Tensor) -> Tensor:
        """(B, L) int64 item rows, 0 = none → (B, D), of length `scale`."""
        return self.scale * _unit(self.user_tower(_summed(self.row, history_BL)))

    def embed_item(self, item_B: Tensor) -> Tensor:
        """(B,) int64 → (B, D), L2-normalised."""
        return self.embed_column(self.columns_NC[item_B])

    def embed_column(self, users_BC: Tensor) -> Tensor:
        """(B, C) int64 user rows, 0 = none → (B, D), L2-normalised."""
        return _unit(self.item_tower(_summed(self.column, users_BC)))


def _summed(rows: nn.Embedding, at_BL: Tensor) -> Tensor:
    """(B, L) rows, 0 = none → (B, D): their sum over the root of their number."""
    there_BL = (at_BL != 0).to(rows.weight.dtype)
    if torch.compiler.is_exporting():  # a bag becomes a loop over the batch in ONNX
        summed: Tensor = (rows(at_BL) * there_BL.unsqueeze(2)).sum(dim=1)
    else:  # eight times faster in training
        summed = F.embedding_bag(at_BL, rows.weight, mode="sum", per_sample_weights=there_BL)
    return summed / there_BL.sum(dim=1, keepdim=True).clamp(min=1).sqrt()


def _unit(found_BD: Tensor) -> Tensor:
    return found_BD / found_BD.norm(dim=-1, keepdim=True).clamp(min=1e-6)


class MatrixFactorisationTask(BaseTask):
    """The recipe bound to a shop's behaviour. Raises TooLittleData: nothing, or one item, was acted on."""

    metric = "ndcg_at_10"

    def __init__(self, config: MatrixFactorisationConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data
        self.pairs = user_items(data, config.kind_weights, RECIPE.name)
        self.users = np.repeat(np.arange(self.pairs.shape[0]), np.diff(self.pairs.indptr))
        self.items = self.pairs.indices.astype(np.int64)
        self.weights = (self.pairs.data / self.pairs.data.mean()).astype(np.float32)
        if len(np.unique(self.items)) < 2:
            raise TooLittleData(
                f"{RECIPE.name}: all interactions are with one item, so there is nothing to tell it from; "
                "load more interactions, or use the model popularity"
            )
        acts, _ = counted_acts(data, config.kind_weights, RECIPE.name)
        self.known = data.queries_of(np.arange(len(data.users)), acts, np.zeros(len(data.users), np.int64))
        self._plan: tuple[int, np.ndarray] = (-1, np.empty(0))

    @property
    def steps(self) -> int:
        return math.ceil(len(self.users) / self.config.batch_size)

    def network(self) -> nn.Module:
        users, items = self.pairs.shape
        if self.config.network == "plain":
            return Plain(self.config, users, items)
        return Deep(self.config, self.columns, users)

    @cached_property
    def columns(self) -> np.ndarray:
        """(N + 1, C) int64: users of each item; where there are more than C, C of them drawn by the seed."""
        by_item = self.pairs.T.tocsr()
        lengths = np.diff(by_item.indptr)
        owners = np.repeat(np.arange(len(lengths)), lengths)
        draw = np.random.default_rng(self.config.seed).random(by_item.nnz)
        order = np.lexsort((draw, owners))
        place = np.arange(by_item.nnz) - np.repeat(by_item.indptr[:-1], lengths)
        width = min(self.config.column, int(lengths.max()))
        columns_NC = np.zeros((len(lengths), width), np.int64)
        inside = place < width
        columns_NC[owners[inside], place[inside]] = by_item.indices[order][inside]
        return columns_NC

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        config = self.config
        if self._plan[0] != epoch:
            self._plan = (epoch, np.random.default_rng((config.seed, epoch)).permutation(len(self.users)))
        start = step % self.steps * config.batch_size
        every = self._plan[1][start : start + config.batch_size]
        rows = every[rank::world_size]
        rng = np.random.default_rng((config.seed, epoch, step))
        users, items, count = self.users[rows], self.items[rows], self.pairs.shape[1]
        drawn = np.arange(1, count)
        if config.shared_negatives is not None and config.shared_negatives < count - 1:
            # From every item, those never acted on too: else nothing would push these down. What is held out
            # for tests is drawn like any other item, as training must not know of it.
            drawn = rng.integers(1, count, config.shared_negatives)
        own_BS = self.pairs[users][:, drawn].toarray() > 0
        hidden = (rng.random(len(every)) < config.strangers)[rank::world_size]
        given = {"rows": rows, "item": items, "drawn": drawn, "own": own_BS, "weight": self.weights[rows]}
        if config.network == "plain":
            given["user"] = np.where(hidden, 0, users)
        else:
            history_BL = self.history(users, config.history + 1)
            history_BL[hidden[:, None] | (history_BL == items[:, None])] = 0
            columns_BC = self.columns[items]
            # Without the user that is asked about: at any other time their row and this column do not meet.
            columns_BC = np.where(columns_BC == users[:, None], 0, columns_BC)
            # An item that nobody else took would teach that empty columns are wanted: those of all new items.
            given["weight"] = given["weight"] * (columns_BC != 0).any(1)
            given |= {"history": history_BL, "column": columns_BC}
        batch = {name: torch.from_numpy(values) for name, values in given.items()}
        return batch | {
            f"{COUNT}rows": torch.tensor(float(len(rows))),
            f"{COUNT}weight": batch["weight"].sum(),
        }

    def history(self, users: np.ndarray, length: int) -> np.ndarray:
        """(B, length) newest item rows of each user, padded in front with 0."""
        back = self.known.starts[users + 1, None] - np.arange(length, 0, -1)
        inside = back >= self.known.starts[users, None]
        return np.where(inside, self.known.items[np.where(inside, back, 0)], 0)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        config = self.config
        extra: Tensor | float = 0.0
        share = len(batch["rows"]) / batch[f"{COUNT}rows"]
        if isinstance(network, Plain):
            queries_BD = network.embed_query(batch["user"])
            positives_BD, drawn_SD = network.embed_item(batch["item"]), network.embed_item(batch["drawn"])
            squares = (queries_BD[:, :-1].square().sum(1) + positives_BD.square().sum(1)).mean()
            extra = share * config.l2 * (squares + drawn_SD.square().sum(1).mean())
        else:
            assert isinstance(network, Deep)
            queries_BD = network.embed_query(batch["history"])
            positives_BD = network.embed_column(batch["column"])
            drawn_SD = network.embed_item(batch["drawn"])
        right_B = (queries_BD * positives_BD).sum(1)
        losses_B = contrast(right_B, queries_BD @ drawn_SD.T, batch["own"], config.loss, config.balance)
        return (losses_B * batch["weight"]).sum() / batch[f"{COUNT}weight"].clamp(min=1e-12) + extra

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Full ranking of every item but those of the history, for some users of the validation part."""
        queries, truth = self.data.queries("validation", self.data.part("train"))
        if len(queries) == 0:
            return {}
        rng = np.random.default_rng(self.config.seed)
        some = np.sort(rng.permutation(len(queries))[: self.config.validate_queries])
        found = np.concatenate([ranks for ranks in self._ranks(network, queries, truth, some)])
        lengths = np.array([len(truth[query]) for query in some])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        candidates = np.full(len(some), len(self.data.items) - 1)
        values = metrics.at_ranks(found, starts, (K,), candidates)
        return {name: float(values[name].mean()) for name in ("ndcg_at_10", "hit_at_10")}

    def _ranks(
        self, network: nn.Module, queries: Queries, truth: list[np.ndarray], some: np.ndarray
    ) -> Iterator[np.ndarray]:
        """Ranks of the right items of each query, 1 = first; equal scores count as above."""
        assert isinstance(network, Plain | Deep)
        items_ND = network.embed_item(on_device_of(network, np.arange(len(self.data.items))))
        for start in range(0, len(some), VALIDATE_AT_ONCE):
            block = some[start : start + VALIDATE_AT_ONCE]
            users = queries.users[block]
            asked = users if isinstance(network, Plain) else self.history(users, self.config.history)
            scores_BN = (network.embed_query(on_device_of(network, asked)) @ items_ND.T).float().cpu().numpy()
            scores_BN[:, 0] = -np.inf
            scores_BN[self.pairs[users].toarray() > 0] = -np.inf
            for scores, query in zip(scores_BN, block, strict=True):
                yield (scores[None, :] >= scores[truth[query], None]).sum(1)


def contrast(right_B: Tensor, drawn_BS: Tensor, own_BS: Tensor, loss: str, balance: float) -> Tensor:
    """(B,) losses of positives' logits against those of drawn items; `own`: no negatives of that user."""
    if loss == "softmax":
        against_BS = drawn_BS.masked_fill(own_BS, -torch.inf)
        return torch.cat([right_B[:, None], against_BS], dim=1).logsumexp(1) - right_B
    gaps_BS = drawn_BS - right_B[:, None] if loss == "bpr" else drawn_BS
    mean_B = F.softplus(gaps_BS).masked_fill(own_BS, 0).sum(1) / (~own_BS).sum(1).clamp(min=1)
    return mean_B if loss == "bpr" else F.softplus(-right_B) + balance * mean_B


SPACE: SearchSpace = {
    "dimension": Choice((32, 64, 128)),
    "loss": Choice(("softmax", "bpr", "bce")),
    "learning_rate": FloatRange(3e-4, 3e-2, log=True),
    "balance": FloatRange(0.5, 16.0, log=True, when={"loss": ("bce",)}),
    "l2": FloatRange(1e-4, 0.3, log=True, when={"network": ("plain",)}),
    "weight_decay": FloatRange(1e-6, 1e-2, log=True, when={"network": ("deep",)}),
    "scale": FloatRange(2.0, 20.0, log=True, when={"network": ("deep",)}),
    "strangers": FloatRange(0.0, 0.2),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="matrix_factorisation",
    role="embedder",
    paper="Rendle et al., NCF vs. Matrix Factorization Revisited, RecSys 2020; Xue et al., DMF, IJCAI 2017",
    config=MatrixFactorisationConfig,
    columns=(),
    bind=MatrixFactorisationTask,
    data="behaviour",
    space=SPACE,
)
