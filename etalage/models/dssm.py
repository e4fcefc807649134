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

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet
from etalage.features.negatives import Negatives
from etalage.features.sources import require_features
from etalage.features.stream import VectorBatch, VectorStream
from etalage.models.dssm_network import (
    DSSM,
    DSSMConfig,
    figures_of,
    loss_of,
    pair_logits,
    prepared,
)
from etalage.models.layers import device_of
from etalage.models.recipe import BaseTask, Batch, Recipe, batch_seed
from etalage.models.vector_history import ValidationRanking, catalogue

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
        chosen = self._plan[1][step * config.batch_size : (step + 1) * config.batch_size][rank::world_size]
        kept = self._all_means
        means_BE = self._means_of(chosen) if kept is None else kept[torch.from_numpy(chosen)]
        batch = {"rows": torch.from_numpy(self.rows_R[chosen]), "means": means_BE}
        items, seeds = self.items_R[chosen], batch_seed(config.seed, epoch, step, rank)
        if config.loss == "softmax":
            return batch | self._candidates(items, seeds)
        return batch | self._pairs(self.users_R[chosen], items, self.labels_R[chosen], seeds)

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
    def _asked(self) -> Tensor:
        """(B, E): the mean of the newest acts of each shopper of the validation part."""
        queries, _ = self.ranking.asked
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

    def _candidates(self, items: np.ndarray, seeds: tuple[int, ...]) -> dict[str, Tensor]:
        rng = np.random.default_rng(seeds)
        drawn = rng.choice(self.ranked, min(self.config.shared_negatives, len(self.ranked)), replace=False)
        candidates = np.union1d(items, drawn)
        # Not to be among them: to be drawn neither as one of the batch's hits nor beside them.
        absent = (1 - self.share_N[candidates]) ** len(items) * (1 - len(drawn) / len(self.ranked))
        return {
            "candidates": self.given_NE[torch.from_numpy(candidates)],
            "log_probability": torch.from_numpy(np.float32(np.log(np.maximum(1 - absent, 1e-12)))),
            "targets": torch.from_numpy(np.searchsorted(candidates, items)),
        }

    def _pairs(
        self, users: np.ndarray, items: np.ndarray, labels: np.ndarray, seeds: tuple[int, ...]
    ) -> dict[str, Tensor]:
        """Each row's own item first, then its negatives."""
        drawn = self.negatives.draw(users, self.config.negatives, seeds)
        labels_BK = np.zeros((len(items), 1 + self.config.negatives), np.float32)
        labels_BK[:, 0] = labels
        given_BKE = self.given_NE[torch.from_numpy(np.column_stack([items, drawn]))]
        return {"given": given_BKE, "labels": torch.from_numpy(labels_BK)}

    # -- loss ----------------------------------------------------------------------------------

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, DSSM)
        return loss_of(network, batch)

    def validate(self, network: nn.Module) -> dict[str, float]:
        assert isinstance(network, DSSM)
        device = device_of(network)
        asked_BD = network.user_vectors(self._asked.to(device))
        figures = self.ranking.figures(asked_BD, network.embed_item(self.given_NE.to(device)))
        return {**figures, **self._validate_pairs(network)}

    def _validate_pairs(self, network: DSSM) -> dict[str, float]:
        """The same loss on the hits of the validation part, whose draws never change."""
        device = device_of(network)
        queries, wanted = self.ranking.asked
        pairs = [(query, item) for query, items in enumerate(wanted) for item in items if self.known_N[item]]
        if not pairs:
            return {}
        seeds = (self.config.seed, self.config.epochs)  # of no batch: those have three
        order = np.random.default_rng(seeds).permutation(len(pairs))
        of, items = np.array(pairs)[np.sort(order[: self.config.validate_pairs])].T
        means_BE = self._asked[torch.from_numpy(of)]
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


RECIPE = Recipe(
    name="dssm",
    role="embedder",
    paper="Huang et al., Learning Deep Structured Semantic Models, CIKM 2013",
    config=DSSMConfig,
    columns=(),
    bind=_bound,
    data="behaviour",
    transfers=True,
)
