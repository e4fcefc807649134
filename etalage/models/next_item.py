"""What the models share that read a history and predict which item comes next: batches of windows, the
candidates of a softmax, and how they are validated.

    B windows   L acts   T targets of a batch   K items of a batch   C candidates   N items, row 0 unknown
    E an item as it stands in a history   D embedding dimension
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.features.behaviour import BehaviourSet, Queries
from etalage.features.sources import require_features
from etalage.features.windows import DrawnWindows, WindowPlan, Windows
from etalage.models.history_encoder import BlockName, HistoryEncoder
from etalage.models.layers import FeatureSum, on_device_of
from etalage.models.ranks import Gathers, share_of
from etalage.models.recipe import BaseTask, Batch, SourcedConfig
from etalage.models.streaming import StreamedConfig
from etalage.models.targets import Targets
from etalage.models.vector_history import ValidationRanking

AT_ONCE = 512


class HistoryConfig(SourcedConfig, StreamedConfig):
    """Settings of every model that reads a history."""

    history: int = Field(50, ge=0)
    """Acts that are looked at, L; 0: none."""
    kinds: bool = True
    """Whether an act was a view or a purchase is told to the history, where there are several kinds."""
    width: int = Field(64, ge=2)
    """E, of embeddings and of the history's states."""
    layers: int = Field(2, ge=1)
    """Self-attention layers over the history."""
    heads: int = Field(2, ge=1)
    """Heads of each of them."""
    dropout: float = Field(0.4, ge=0, lt=1)
    """Of embeddings and of each layer's output."""
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    """Of the attention's weights."""
    forget_item: float = Field(0.1, ge=0, le=1)
    """Share of items whose id is replaced by the unknown one in a step, so that it learns to stand for those
    that come later: content has to say it alone."""
    full_up_to: int = Field(30_000, ge=0)
    """Up to so many items the softmax runs over all of them, else over those of the batch and drawn ones."""
    shared_negatives: int = Field(2000, ge=1)
    """Items drawn evenly for each batch, beside its own."""
    validate_queries: int = Field(5000, ge=1)
    """Shoppers of the validation part that the catalogue is ranked for, at most."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "HistoryConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class NextItemNetwork(nn.Module):
    """What the networks share that such tasks train: items by id and by content, in one table for histories
    and for what is found."""

    config: HistoryConfig
    known_items: Tensor
    """(N + 1,) bool: which items stand in the training part; any other has the unknown id."""
    item_id: nn.Module
    item_content: FeatureSum | None

    def held(self, item_B: Tensor, *features: Tensor) -> Tensor:
        """(B, E): the item by id and content; in training the ids of some are forgotten (`forget_item`)."""
        known_B = torch.where(self.known_items[item_B], item_B, 0)
        if self.training and self.config.forget_item:
            forgotten_B = torch.rand(known_B.shape, device=known_B.device) < self.config.forget_item
            known_B = torch.where(forgotten_B, 0, known_B)
        found_BE: Tensor = self.item_id(known_B)
        return found_BE if self.item_content is None else found_BE + self.item_content(features)


def encoder_of(config: HistoryConfig, kinds: int, block: BlockName = "pre_norm") -> HistoryEncoder:
    """The encoder that a config asks for. kinds: their number, "none given" included; of one kind there is
    nothing to tell."""
    told = kinds if config.kinds and kinds > 2 else 1
    dropouts = config.dropout, config.attention_dropout
    return HistoryEncoder(
        config.width, config.history, told, config.layers, config.heads, *dropouts, block=block
    )


def inputs_about(what: str, content: FeatureSum | None) -> tuple[str, ...]:
    """The names of a network's inputs for the features of an `item` or a `user`."""
    return () if content is None else tuple(f"{what}.{name}" for name in content.names)


class NextItemTask(BaseTask):
    """A recipe bound to a shop's behaviour, but for the network and the loss. Raises what Targets raises,
    TooLittleData, and ConfigError: items lack a feature that the config names."""

    metric = "ndcg_at_10"
    name: str
    """Of the model."""
    config: Any

    def __init__(self, config: HistoryConfig, data: BehaviourSet) -> None:
        require_features(data.item_features, config.feature_sources or (), self.name)
        self.config, self.data, self.train = config, data, data.part("train")
        self.targets = self._targets()
        self.plan = self._planned()
        seen = self.plan.seen
        self.share = seen / seen.sum()
        self.catalogue = np.flatnonzero(seen)
        """(C,) items that were a target: those that never were cannot be told from bad ones."""
        self.full = self.wants_candidates and len(self.catalogue) <= config.full_up_to
        self.item_columns = _tensors(data.item_features.columns.values())
        self.user_columns = _tensors(data.user_features.columns.values())
        self.ranking = self._validated()

    @property
    def steps(self) -> int:
        return self.plan.steps

    @property
    def wants_candidates(self) -> bool:
        """Whether the loss compares each target with candidates that the whole batch shares."""
        return True

    # -- the data, which a stream has otherwise --------------------------------------------------

    def _targets(self) -> Targets:
        return Targets("softmax", {}, self.data)

    def _planned(self) -> Any:
        """The batches, and what stands in them: see WindowPlan."""
        config = self.config
        windows = Windows(self.train, self.targets.wanted, config.history, config.batch_size, config.seed)
        return WindowPlan(windows, len(self.data.items), len(self.data.users))

    def _validated(self) -> ValidationRanking:
        return ValidationRanking(self.data, self.config.validate_queries, self.config.seed)

    def _of_validation(self) -> BehaviourSet:
        """With the first shoppers of the validation part, `validate_queries` of them at least."""
        return self.data

    # -- batches -------------------------------------------------------------------------------

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """`item` (K,) are the item rows that take part; `history`, `target`, `candidates` places in them;
        `right` (T,) of each target among the candidates."""
        drawn = self.plan.drawn(epoch, step, rank, world_size)
        found, seeds = drawn.batch, (self.config.seed, epoch, step)
        arrays = self._asked(drawn, seeds)
        candidates = self._candidates(drawn.every_item, seeds)
        own = candidates if self.full else share_of(candidates, self.ranks)
        parts = (np.zeros(1, np.int64), found.items.ravel(), arrays["target"], own)
        items = np.arange(len(self.data.items)) if self.full else np.unique(np.concatenate(parts))
        if self.wants_candidates:
            arrays["right"] = np.searchsorted(candidates, arrays["target"])
            if not self.full:
                arrays["log_probability"] = self._log_probability(candidates, len(drawn.every_item))
        arrays["history"] = np.searchsorted(items, found.items)
        arrays["target"] = np.searchsorted(items, arrays["target"])
        arrays["candidates"] = np.searchsorted(items, own)
        arrays |= {"rows": drawn.numbers, "user": found.users, "kinds": found.kinds}
        given = {name: torch.from_numpy(np.asarray(array, order="C")) for name, array in arrays.items()}
        return given | self._about_items(torch.from_numpy(items)) | self._about_users(given["user"])

    def _asked(self, drawn: DrawnWindows, seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
        """(T,) arrays of the targets of this part: `at` a place among the windows' states, `target` an item
        row, whatever else the loss reads, and its counts."""
        raise NotImplementedError

    def _log_probability(self, candidates: np.ndarray, targets: int) -> np.ndarray:
        """(C,) float32: of being among so many targets drawn by frequency, or among those drawn evenly."""
        missed = targets * np.log1p(-np.minimum(self.share[candidates], 1 - 1e-12))
        missed += math.log1p(-min(self.config.shared_negatives / len(self.catalogue), 1 - 1e-12))
        return np.log(-np.expm1(missed)).astype(np.float32)

    def _candidates(self, targets: np.ndarray, seeds: tuple[int, ...]) -> np.ndarray:
        """(C,) item rows, ascending, that the targets of the batch are compared with."""
        if not self.wants_candidates:
            return np.empty(0, np.int64)
        if self.full:
            return self.catalogue
        rng = np.random.default_rng([*seeds, 1])
        count = min(self.config.shared_negatives, len(self.catalogue))
        return np.union1d(targets, rng.choice(self.catalogue, count, replace=False))

    def _about_items(self, items_K: Tensor) -> dict[str, Tensor]:
        names = self.data.item_features.columns
        columns = zip(names, self.item_columns, strict=True)
        return {"item": items_K} | {f"item.{name}": column[items_K] for name, column in columns}

    def _about_users(self, users_B: Tensor) -> dict[str, Tensor]:
        names = self.data.user_features.columns
        columns = zip(names, self.user_columns, strict=True)
        return {"user": users_B} | {f"user.{name}": column[users_B] for name, column in columns}

    @property
    def gathers(self) -> Gathers:
        """The candidates, where they are some of the items: each rank embeds its share."""
        return "candidates" if self.wants_candidates and not self.full else "nothing"

    def given(self, batch: Batch, held_KE: Tensor) -> dict[str, Tensor]:
        """The network's query inputs for the windows of a batch. held_KE: what `history_item` makes of the
        batch's items."""
        found = {name: tensor for name, tensor in batch.items() if name == "user" or name.startswith("user.")}
        found["history_embeddings"] = F.embedding(batch["history"], held_KE)
        # Items ascend, and the first is row 0, so that place 0 is padding.
        found["history_mask"] = batch["history"] != 0
        found["history_kinds"] = batch["kinds"]
        return found

    # -- validation ------------------------------------------------------------------------------

    def ranked(self, network: nn.Module, held_NE: Tensor, items_ND: Tensor) -> dict[str, float]:
        """nDCG@10 and recall@20 over all items; {} where nobody is asked."""
        asked = self.ranking.questions[0]
        if not len(asked):
            return {}
        return self.ranking.figures(self.embed_all(network, asked, held_NE), items_ND)

    def embed_all(self, network: nn.Module, queries: Queries, held_NE: Tensor) -> Tensor:
        """`embed`, some queries at a time."""
        starts = range(0, len(queries), AT_ONCE)
        blocks = (queries.block(at, min(at + AT_ONCE, len(queries))) for at in starts)
        return torch.cat([self.embed(network, block, held_NE) for block in blocks])

    def embed(self, network: Any, queries: Queries, held_NE: Tensor) -> Tensor:
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
        found: Tensor = network.embed_query(*(given[name] for name in network.query_inputs))
        return found


def _tensors(columns: Any) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(column)) for column in columns]
