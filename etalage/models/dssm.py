"""Two small towers on item vectors that are given: learned where behaviour is rich, tuned where it is sparse.

Papers: P.-S. Huang et al., Learning Deep Structured Semantic Models for Web Search using Clickthrough Data,
CIKM 2013 (two towers); X. Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations, RecSys 2019 (the softmax). `preset = "original"` is the network of the system that this one
follows: 128 + 128 numbers, Dense(64, ReLU) each, multiply, Dense(1, sigmoid), binary cross-entropy.

A shopper is the mean of the vectors of the items acted on, so the network is a function of vectors alone: it
holds no ids, new items and shoppers need no training, and its weights fit every shop whose item vectors are
of the same making. The score is the head's Σ w u v + b. The head is folded into the item's embedding, w ∘ v,
so that a search by inner product returns the order of the score; b moves no order.

    R rows   B positives   K items of each   C candidates   L acts of a history   E of a given vector
    D of a tower's   N items, row 0 unknown
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet
from etalage.features.negatives import Negatives
from etalage.features.sources import require_features
from etalage.features.stream import VectorBatch, VectorStream
from etalage.metrics import auroc
from etalage.models.layers import device_of, mlp
from etalage.models.losses import sampled_softmax
from etalage.models.ranks import ALONE, Gathers, Ranks, share_of
from etalage.models.recipe import WEIGHTS, BaseTask, Batch, Recipe, SourcedConfig
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace
from etalage.models.vector_history import ValidationRanking, catalogue, known_mean

ORIGINAL: dict[str, Any] = {
    "layers": (),
    "dimension": 64,
    "last_relu": True,
    "loss": "bce",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 100,
}
"""Adam and patience 10 are everybody's defaults here; the original's patience was longer than its run."""
WEIGHTS_OF = (WEIGHTS, "best.safetensors")
"""What is looked for in a folder that `pretrained` names: of an export, of a checkpoint."""
FROZEN = {"none": (), "item": ("item_tower.",), "both": ("item_tower.", "query_tower.")}


class DSSMConfig(SourcedConfig):
    preset: Literal["modern", "original"] = "modern"
    """`original` changes the defaults to ORIGINAL's; what is given beside it counts."""
    feature_sources: tuple[str, ...] = Field(("item2vec",), min_length=1)
    """The network's input, E numbers: what these embed of an item, side by side. Zeros: nothing is known of
    it."""
    rows: str | None = None
    """Learn from a file of rows `label, shopper's vector, item's vector` (text, or Parquet) instead of the
    shop's acts; it need not fit into memory. Relative to the shop's folder. Its vectors are of the same
    making as `feature_sources`, by which the shop's items are embedded then."""
    validation_rows: str | None = None
    """The same for validation; None: none, and the weights of the last epoch are kept."""
    layers: tuple[int, ...] = (128,)
    """Widths between E and D in each tower; empty: none."""
    dimension: int = Field(64, ge=1)
    """D, the width of the embeddings of shoppers and items."""
    last_relu: bool = False
    """ReLU at the end of the towers. The head's weights may be negative, so a score may be, too."""
    loss: Literal["softmax", "bce"] = "softmax"
    """Which item is it, of the batch's and of drawn ones; or, of each pair, is it one?"""
    shared_negatives: int = Field(1024, ge=0)
    """Items drawn for all rows of a batch alike, beside its own, for the softmax."""
    negatives: int = Field(4, ge=1)
    """Pairs with an item that the shopper has not taken, for each positive, for bce."""
    power: float = Field(0.0, ge=0, le=1)
    """These are drawn by frequency to this power; 0: all alike."""
    targets: tuple[str, ...] | None = None
    """Kinds of acts that are learned to be predicted; None: those that the shop is judged on. Histories have
    every kind."""
    history: int = Field(100, ge=1)
    """L: acts of a shopper, newest first, that make the query."""
    pretrained: str | None = None
    """Start from these weights: another shop (its newest export), the folder of an export or of a checkpoint,
    or a .safetensors file. Relative to the shop's folder."""
    freeze: Literal["none", "item", "both"] = "none"
    """Towers that keep the weights they start with; the head never does."""
    keep: Literal["loss", "ndcg_at_10"] = "loss"
    """What decides when to stop and which weights are kept: the loss on the validation part's pairs, or the
    order of the whole catalogue for its shoppers, which jumps about more."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Between the layers of the towers."""
    batch_size: int = Field(1024, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """The towers are too small to gain by less."""
    epochs: int = Field(50, ge=1)
    patience: int | None = Field(10, ge=1)
    validate_queries: int = Field(2000, ge=1)
    """Shoppers of the validation part that the catalogue is ranked for, at most."""
    validate_pairs: int = Field(4096, ge=1)
    """Hits of the validation part that the validation loss is of, at most; the same in every epoch."""

    RENAMED: ClassVar[Mapping[str, str]] = {"drawn": "shared_negatives", "vectors": "feature_sources"}
    decides_shape: ClassVar[tuple[str, ...]] = ("feature_sources", "layers", "dimension", "last_relu")
    decayed: ClassVar[Literal["matrices", "all"]] = "all"

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        original = isinstance(given, Mapping) and given.get("preset") == "original"
        return {**ORIGINAL, **given} if original else given

    @property
    def filled(self) -> Mapping[str, Any]:
        return ORIGINAL if self.preset == "original" else {}

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.loss != "softmax":
            found["shared_negatives"] = 'loss = "softmax"'
        if self.loss != "bce":
            found |= dict.fromkeys(("negatives", "power"), 'loss = "bce"')
        if not self.layers:
            found["dropout"] = "a layer in layers"
        if self.rows is not None:
            ours = ("negatives", "power", "targets", "validate_queries", "validate_pairs")
            found |= dict.fromkeys(ours, "the shop's own acts, which `rows` takes the place of")
        return found

    @model_validator(mode="after")
    def _sensible(self) -> "DSSMConfig":
        asked = "patience" in self.model_fields_set and self.patience is not None
        if asked and self.patience >= self.epochs:  # type: ignore[operator]
            raise ValueError(f"can never end a training of {self.epochs} epochs; set patience below epochs")
        if self.validation_rows is not None and self.rows is None:
            raise ValueError("validation_rows are for rows; set rows, too")
        if self.rows is not None and (self.loss != "bce" or self.keep != "loss"):
            raise ValueError("rows carry labels: they are learned by loss = 'bce' and keep = 'loss'")
        if self.freeze != "none" and self.pretrained is None:
            raise ValueError(f"freeze {self.freeze!r} would keep random weights; set pretrained, too")
        return self


class DSSM(nn.Module):
    """A BehaviourNetwork. inputs: E; widths: the part of each source, where there are several."""

    query_inputs = ("history_embeddings", "history_mask")

    def __init__(self, config: DSSMConfig, inputs: int, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.item_inputs = tuple(f"item.{name}" for name in config.feature_sources)
        self.widths = tuple(widths)
        self.history_length = config.history
        self.query_tower, self.item_tower = (_tower(config, inputs) for _ in range(2))
        self.head = nn.Linear(config.dimension, 1)
        if config.loss == "softmax":
            nn.init.ones_(self.head.weight)  # of the inner product, which the softmax is at home with

    def user_vectors(self, means_BE: Tensor) -> Tensor:
        """(B, D): the query tower of the mean of the vectors of the items acted on."""
        vectors_BD: Tensor = self.query_tower(means_BE)
        return vectors_BD

    def item_vectors(self, given_BE: Tensor) -> Tensor:
        """(B, D): the item tower, without the head."""
        vectors_BD: Tensor = self.item_tower(given_BE)
        return vectors_BD

    def forward(self, means_RE: Tensor, given_RE: Tensor) -> Tensor:
        """(R,) logits of rows of two vectors."""
        logits_R1: Tensor = self.head(self.user_vectors(means_RE) * self.item_vectors(given_RE))
        return logits_R1[:, 0]

    def history_item(self, *given: Tensor) -> Tensor:
        """(B, E): an act is the vector of its item."""
        return torch.cat(given, dim=1).float()

    def embed_query(self, history_BLE: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, D); of a shopper without acts what the tower makes of zeros."""
        return self.user_vectors(known_mean(history_BLE, mask_BL, self.widths))

    def embed_item(self, *given: Tensor) -> Tensor:
        """(B, D): w ∘ v; zeros for an item of which nothing is known, so that no index holds it."""
        given_BE = torch.cat(given, dim=1)
        known_B1 = (given_BE != 0).any(dim=1, keepdim=True)
        return self.head.weight * self.item_vectors(given_BE) * known_B1


def _tower(config: DSSMConfig, inputs: int) -> nn.Sequential:
    tower = mlp((inputs, *config.layers, config.dimension), config.dropout)
    return tower.append(nn.ReLU()) if config.last_relu else tower


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Put the weights of another DSSM into `network`. Raises ConfigError: none there, or of another shape."""
    path = Path(path)
    files = [path] if path.is_file() else [path / name for name in WEIGHTS_OF if (path / name).is_file()]
    if not files:
        raise ConfigError(
            f"pretrained = {str(path)!r}: no file, and no folder with {' or '.join(WEIGHTS_OF)}; name "
            "the folder of an export (exports/dssm/0001-…; an older one has no weights: train it again) or a "
            "checkpoint's"
        )
    try:
        found = load_file(files[0])
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"pretrained: {files[0]} is no safetensors file: {error}") from error
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        raise ConfigError(
            f"pretrained: {files[0]} is of another network than layers, dimension and feature_sources say: "
            f"{error}"
        ) from error


def loss_of(network: DSSM, batch: Batch, ranks: Ranks = ALONE) -> Tensor:
    """The mean over the batch's rows. ranks: who has a share of the candidates each."""
    if "labels" in batch:
        logits, labels = pair_logits(network, batch["means"], batch["given"]), batch["labels"]
        return F.binary_cross_entropy_with_logits(logits.float(), labels)
    candidates_CD = ranks.gather(network.embed_item(batch["candidates"]))
    users_BD = network.user_vectors(batch["means"])
    return sampled_softmax(users_BD, candidates_CD, batch["targets"], batch["log_probability"])


def pair_logits(network: DSSM, means_BE: Tensor, given: Tensor) -> Tensor:
    """(B,) or (B, K) logits of items (B, E) or (B, K, E)."""
    means = means_BE if given.ndim == 2 else means_BE[:, None, :].expand(-1, given.shape[1], -1)
    return network(means.flatten(0, -2), given.flatten(0, -2)).view(given.shape[:-1])


def figures_of(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Loss, accuracy at 0.5 and AUROC of labelled pairs of any shape; no AUROC where all have one label."""
    logits, labels = logits.detach().float().cpu().flatten(), labels.cpu().flatten()
    loss = float(F.binary_cross_entropy_with_logits(logits, labels))
    right = (logits > 0) == (labels > 0.5)
    figures = {"validation_loss": loss, "loss_gain": -loss, "accuracy": float(right.float().mean())}
    positive = (labels > 0.5).numpy()
    if positive.any() and not positive.all():
        figures["auroc"] = auroc(logits.numpy(), positive)
    return figures


def prepared(config: DSSMConfig, inputs: int, widths: Sequence[int] = ()) -> DSSM:
    """A fresh network, or one that starts from `pretrained`, with what `freeze` names frozen."""
    network = DSSM(config, inputs, widths)
    if config.pretrained is not None:
        load_weights(network, config.pretrained)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN[config.freeze]))
    return network


EVERY = slice(None)
CACHE_BYTES = 128 * 2**20
"""Of means that are kept, rather than made again for each batch."""


class DSSMTask(BaseTask):
    """The recipe bound to a BehaviourSet whose items have the dense features `feature_sources`.

    A hit of `train` is asked for by what its shopper did before its moment, of every kind; without times, by
    what stands before it.
    """

    def __init__(self, config: DSSMConfig, data: BehaviourSet) -> None:
        data = _aimed(config, data)
        self.config, self.data = config, data
        require_features(data.item_features, config.feature_sources, RECIPE.name)
        sources = [data.item_features.dense[name] for name in config.feature_sources]
        self.widths = tuple(source.shape[1] for source in sources)
        given_NE = np.concatenate(sources, axis=1)
        self.given_NE = torch.from_numpy(np.ascontiguousarray(given_NE, np.float32))
        self.known_N = (given_NE != 0).any(axis=1)
        self.known_N[0] = False
        train = data.part("train")
        wanted = self.known_N[train.items]
        if data.targets:
            wanted &= np.isin(train.kinds, data.targets)
        if config.loss == "softmax":
            wanted &= train.labels > 0
        self.rows_R = np.flatnonzero(wanted)
        if not (train.labels[self.rows_R] > 0).any():
            raise TooLittleData(
                f"dssm: none of {len(train)} interactions to learn from is a hit on an item that "
                f"{' or '.join(config.feature_sources)} knows"
            )
        self.users_R, self.items_R = train.users[self.rows_R], train.items[self.rows_R]
        self.labels_R = train.labels[self.rows_R]
        self.acts_M, self.begin_R, self.end_R = self._histories()
        ranked_N = catalogue(data, ("train",)) & self.known_N
        self.ranked = np.flatnonzero(ranked_N)
        counts_N = np.bincount(self.items_R[self.labels_R > 0], minlength=len(self.known_N))
        self.share_N = counts_N / counts_N.sum()
        self.negatives = Negatives(
            train.positive,
            len(data.users),
            len(data.items),
            np.where(ranked_N, np.maximum(counts_N, 1.0) ** config.power, 0.0),
        )
        self.ranking = ValidationRanking(data, config.validate_queries, config.seed)
        self._plan: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def _histories(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items of all positives (M,), and where in them the history of each row begins and ends (R,)."""
        train = self.data.part("train")
        before = np.concatenate([[0], np.cumsum(train.labels > 0)])
        fresh = np.ones(len(train), bool)
        same_user = train.users[1:] == train.users[:-1]
        fresh[1:] = ~same_user | (train.times[1:] != train.times[:-1]) | (train.times[1:] == NEVER)
        moment = np.maximum.accumulate(np.where(fresh, np.arange(len(train)), 0))[self.rows_R]
        first = np.searchsorted(train.users, self.users_R)
        end = before[moment]
        return train.positive.items, np.maximum(before[first], end - self.config.history), end

    @property
    def metric(self) -> str:
        """`ndcg_at_10`, or `loss_gain`: the validation loss with its sign turned."""
        return "ndcg_at_10" if self.config.keep == "ndcg_at_10" else "loss_gain"

    @property
    def steps(self) -> int:
        """The last batch of an epoch may be a small one; it is not dropped."""
        return -(-len(self.rows_R) // self.config.batch_size)

    def network(self) -> nn.Module:
        return prepared(self.config, self.given_NE.shape[1], self.widths)

    # -- batches -------------------------------------------------------------------------------

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """means (B, E), and for bce: given (B, K, E), labels (B, K); for the softmax: candidates (C, E) and
        their log_probability (C,), targets (B,) rows of them."""
        config = self.config
        if self._plan[0] != epoch:
            self._plan = (epoch, np.random.default_rng([config.seed, epoch]).permutation(len(self.rows_R)))
        step %= self.steps
        every = self._plan[1][step * config.batch_size : (step + 1) * config.batch_size]
        mine = slice(rank, None, world_size)
        chosen = every[mine]
        kept = self._all_means
        means_BE = self._means_of(chosen) if kept is None else kept[torch.from_numpy(chosen)]
        batch = {"rows": torch.from_numpy(self.rows_R[chosen]), "means": means_BE}
        items, seeds = self.items_R[every], (config.seed, epoch, step)
        if config.loss == "softmax":
            return batch | self._candidates(items, seeds, mine)
        return batch | self._pairs(self.users_R[every], items, self.labels_R[every], seeds, mine)

    def _means(self, owners: np.ndarray, items: np.ndarray, count: int) -> Tensor:
        """(count, E): the mean of the known vectors of `items`, a source at a time, by owner (ascending)."""
        return torch.cat(
            [_mean(given_NE, known_N, owners, items, count) for given_NE, known_N in self._of_sources], dim=1
        )

    @cached_property
    def _of_sources(self) -> list[tuple[Tensor, np.ndarray]]:
        """The columns of each source, and (N + 1,) bool which items it knows."""
        parts = [part.contiguous() for part in torch.split(self.given_NE, list(self.widths), dim=1)]
        return [(part, (part != 0).any(dim=1).numpy()) for part in parts]

    @cached_property
    def _query_means(self) -> Tensor:
        """(B, E): the mean of the newest acts of each shopper of the validation part."""
        queries, _ = self.ranking.questions
        begin, end = queries.starts[:-1], queries.starts[1:]
        owners, at = _spans(np.maximum(begin, end - self.config.history), end)
        return self._means(owners, queries.items[at], len(queries))

    @cached_property
    def _all_means(self) -> Tensor | None:
        """(R, E) of all rows, where they take little room: a small domain is gone through many times."""
        if len(self.rows_R) * self.given_NE.shape[1] * 4 > CACHE_BYTES:
            return None
        parts = np.array_split(np.arange(len(self.rows_R)), max(1, len(self.rows_R) // 4096))
        return torch.cat([self._means_of(part) for part in parts])

    def _means_of(self, chosen: np.ndarray) -> Tensor:
        owners, at = _spans(self.begin_R[chosen], self.end_R[chosen])
        return self._means(owners, self.acts_M[at], len(chosen))

    def _candidates(
        self, items: np.ndarray, seeds: tuple[int, ...], mine: slice = EVERY
    ) -> dict[str, Tensor]:
        """items: of all rows of a batch; mine: which of them are this part's."""
        rng = np.random.default_rng(seeds)
        drawn = rng.choice(self.ranked, min(self.config.shared_negatives, len(self.ranked)), replace=False)
        candidates = np.union1d(items, drawn)
        # Not to be among them: to be drawn neither as one of the batch's hits nor beside them.
        absent = (1 - self.share_N[candidates]) ** len(items) * (1 - len(drawn) / len(self.ranked))
        return {
            "candidates": self.given_NE[torch.from_numpy(share_of(candidates, self.ranks))],
            "log_probability": torch.from_numpy(np.float32(np.log(np.maximum(1 - absent, 1e-12)))),
            "targets": torch.from_numpy(np.searchsorted(candidates, items[mine])),
        }

    def _pairs(
        self,
        users: np.ndarray,
        items: np.ndarray,
        labels: np.ndarray,
        seeds: tuple[int, ...],
        mine: slice = EVERY,
    ) -> dict[str, Tensor]:
        """Of this part's rows each one's own item first, then its negatives, which are drawn for all."""
        drawn = self.negatives.draw(users, self.config.negatives, seeds)[mine]
        items, labels = items[mine], labels[mine]
        labels_BK = np.zeros((len(items), 1 + self.config.negatives), np.float32)
        labels_BK[:, 0] = labels
        given_BKE = self.given_NE[torch.from_numpy(np.column_stack([items, drawn]))]
        return {"given": given_BKE, "labels": torch.from_numpy(labels_BK)}

    # -- loss ----------------------------------------------------------------------------------

    @property
    def gathers(self) -> Gathers:
        """The candidates of the softmax, of which each rank embeds its share."""
        return "candidates" if self.config.loss == "softmax" else "nothing"

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, DSSM)
        return loss_of(network, batch, self.ranks)

    def validate(self, network: nn.Module) -> dict[str, float]:
        assert isinstance(network, DSSM)
        device = device_of(network)
        asked_BD = network.user_vectors(self._query_means.to(device))
        figures = self.ranking.figures(asked_BD, network.embed_item(self.given_NE.to(device)))
        return {**figures, **self._validate_pairs(network)}

    def _validate_pairs(self, network: DSSM) -> dict[str, float]:
        """The same loss on the hits of the validation part, whose draws never change."""
        device = device_of(network)
        queries, wanted = self.ranking.questions
        pairs = [(query, item) for query, items in enumerate(wanted) for item in items if self.known_N[item]]
        if not pairs:
            return {}
        seeds = (self.config.seed, self.config.epochs)  # of no batch: those have three
        order = np.random.default_rng(seeds).permutation(len(pairs))
        of, items = np.array(pairs)[np.sort(order[: self.config.validate_pairs])].T
        means_BE = self._query_means[torch.from_numpy(of)]
        if self.config.loss == "softmax":
            batch = {"means": means_BE, **self._candidates(items, seeds)}
            loss = loss_of(network, {name: tensor.to(device) for name, tensor in batch.items()}).detach()
            return {"validation_loss": float(loss), "loss_gain": -float(loss)}
        drawable = self.negatives.drawable[queries.users[of]]
        of, items, means_BE = of[drawable], items[drawable], means_BE[torch.from_numpy(drawable)]
        batch = self._pairs(queries.users[of], items, np.ones(len(items), np.float32), seeds)
        return figures_of(
            pair_logits(network, means_BE.to(device), batch["given"].to(device)), batch["labels"]
        )


def _aimed(config: DSSMConfig, data: BehaviourSet) -> BehaviourSet:
    """With the config's own `targets`, if it has any. Raises ConfigError: a kind that nobody did."""
    if config.targets is None:
        return data
    for kind in config.targets:
        if kind not in data.kinds:
            there = ", ".join(data.kinds) or "none"
            raise ConfigError(f"[models.dssm] targets: no act is of the kind {kind!r}; there are: {there}")
    return replace(data, targets=tuple(data.kinds.index(kind) + 1 for kind in config.targets))


def _mean(given_NE: Tensor, known_N: np.ndarray, owners: np.ndarray, items: np.ndarray, count: int) -> Tensor:
    known = known_N[items]
    starts = torch.from_numpy(np.searchsorted(owners[known], np.arange(count)))
    return F.embedding_bag(torch.from_numpy(items[known]), given_NE, starts, mode="mean")


def _spans(begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranges, flat: the number of the range that each place is in, and the places."""
    lengths = end - begin
    owners = np.repeat(np.arange(len(begin)), lengths)
    return owners, np.arange(len(owners)) + np.repeat(end - np.cumsum(lengths), lengths)


@dataclass(frozen=True)
class VectorRows:
    """Rows `label, shopper's vector, item's vector` out of files that need not fit into memory. The size of a
    batch is the streams' own."""

    train: VectorStream
    validation: VectorStream | None = None
    widths: tuple[int, ...] = ()
    """Of the sources that both vectors are made of, where they are several."""


class VectorRowsTask(BaseTask):
    """The recipe bound to files of rows. Its weights are a place for `pretrained` to start from."""

    metric = "loss_gain"
    ahead = 2
    """Batches that are read while a step is computed."""

    def __init__(self, config: DSSMConfig, rows: VectorRows) -> None:
        first, second = rows.train.sizes
        if config.loss != "bce" or config.keep != "loss":
            raise ConfigError(
                "[models.dssm] rows that carry labels are learned by loss = 'bce' and keep = 'loss'"
            )
        if first != second or (rows.validation is not None and rows.validation.sizes != rows.train.sizes):
            raise ConfigError(
                f"[models.dssm] rows: vectors of {rows.train.sizes} numbers, for validation of "
                f"{(rows.validation or rows.train).sizes}: all need to be of one size"
            )
        self.config, self.rows = config, rows

    @property
    def steps(self) -> int:
        return self.rows.train.steps

    def network(self) -> nn.Module:
        return prepared(self.config, self.rows.train.sizes[0], self.rows.widths)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        return _as_batch(self.rows.train.batch(epoch, step % self.steps, rank, world_size))

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, DSSM)
        return loss_of(network, batch)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """One batch in memory at a time; of each row two numbers are kept."""
        assert isinstance(network, DSSM)
        stream = self.rows.validation
        if stream is None:
            return {}
        device = device_of(network)
        batches = (_as_batch(stream.batch(0, step)) for step in range(stream.steps))
        kept = [
            (pair_logits(network, b["means"].to(device), b["given"].to(device)).cpu(), b["labels"])
            for b in batches
        ]
        logits, labels = zip(*kept, strict=True)
        return figures_of(torch.cat(logits), torch.cat(labels))


def _as_batch(rows: VectorBatch) -> Batch:
    arrays = {"rows": rows.rows, "means": rows.first, "given": rows.second, "labels": rows.labels}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _bound(config: DSSMConfig, data: BehaviourSet | VectorRows) -> DSSMTask | VectorRowsTask:
    return VectorRowsTask(config, data) if isinstance(data, VectorRows) else DSSMTask(config, data)


LAYERS = ((64,), (128,), (256,), (128, 128))
SPACE: SearchSpace = {
    "layers": Choice(((), *LAYERS), when={"pretrained": (None,)}),
    "dimension": Choice((32, 64, 128), when={"pretrained": (None,)}),
    "learning_rate": FloatRange(1e-4, 1e-2, log=True),
    "weight_decay": FloatRange(1e-7, 1e-2, log=True),
    "dropout": FloatRange(0.0, 0.5, when={"layers": LAYERS}),
    "shared_negatives": Choice((256, 1024, 4096), when={"loss": ("softmax",)}),
    "negatives": IntRange(2, 16, log=True, when={"loss": ("bce",)}),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="dssm",
    role="embedder",
    paper="Huang et al., Learning Deep Structured Semantic Models, CIKM 2013",
    config=DSSMConfig,
    columns=(),
    bind=_bound,
    data="behaviour",
    transfers=True,
    space=SPACE,
)
