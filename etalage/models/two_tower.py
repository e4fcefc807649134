"""Who asks and what they did in one tower, what there is in the other; their inner product is the score.

Papers: P. Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016 (which item comes
next, as a softmax); X. Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
Recommendations, RecSys 2019 (two towers, drawn candidates); W.-C. Kang and J. McAuley, Self-Attentive
Sequential Recommendation, ICDM 2018 (the history; every act is a target).

`preset = "original"` is the network of the Databricks two-tower notebooks on TorchRec, without the ReLU that
ended its towers: an inner product that cannot be negative is never a probability below one half.

    B windows   L acts   T targets of a batch   K items of a batch   C candidates of a softmax   A actions
    S states of a history: its start, then one after each of its L acts   E an item as it stands in a history
    D embedding dimension   N items, U users, row 0 unknown
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.errors import ConfigError
from etalage.features.behaviour import NEVER, BehaviourSet
from etalage.features.behaviour_stream import BehaviourStream
from etalage.features.encoder import Features
from etalage.features.negatives import Negatives
from etalage.features.windows import DrawnWindows
from etalage.metrics import auroc
from etalage.models.embedding_tables import RowwiseTables
from etalage.models.layers import content_sum, device_of, mlp, on_device_of, table
from etalage.models.losses import full_softmax, ordinal, sampled_softmax, weighted_mean
from etalage.models.next_item import (
    HistoryConfig,
    NextItemNetwork,
    NextItemTask,
    encoder_of,
    inputs_about,
)
from etalage.models.objectives import conflicts
from etalage.models.ranks import ALONE, COUNT, Ranks
from etalage.models.recipe import Batch, Recipe, Schedule
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace
from etalage.models.sharded_tables import ShardedTables, Sharding
from etalage.models.targets import Targets
from etalage.models.windows_streamed import StreamedWindows

ORIGINAL: dict[str, Any] = {
    "user_id": True,
    "history": 0,
    "width": 128,
    "query_layers": (128, 64),
    "item_layers": (128, 64),
    "objective": "binary",
    "negatives": 0,
    "cosine": False,
    "embeddings": "row_wise",
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


class TwoTowerConfig(HistoryConfig):
    preset: Literal["sequence", "original"] = "sequence"
    """`original` changes the defaults to ORIGINAL's; what is given beside it counts."""
    user_id: bool = False
    """An embedding for each user, beside history and attributes."""
    query_layers: tuple[int, ...] = ()
    """Widths of the perceptron on top of the user tower; its last is D. Empty: none, D = E."""
    item_layers: tuple[int, ...] = ()
    """Widths of the perceptron on top of the item tower; its last is D. Empty: none, D = E."""
    forget_user: float = Field(0.3, ge=0, le=1)
    """Share of users whose id is replaced by the unknown one in a step, so that it learns to stand for those
    that come later: history and attributes have to say it alone."""
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
    negatives: int = Field(4, ge=0)
    """For `binary`: items drawn for each positive, none of its user's."""
    item_bias: bool = True
    """For objectives other than `softmax`: a number of the item, whoever asks."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of the softmax."""
    batch_size: int = Field(2048, ge=1)
    """Targets of a batch, about."""
    embeddings: Literal["dense", "row_wise", "torchrec"] = "dense"
    """Tables of ids. `row_wise`: a step moves only the rows of its batch, by row-wise Adagrad; for catalogues
    and crowds where a step over whole tables is too slow. `torchrec`: the same, in shards on the workers."""
    learning_rate: float = Field(2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Schedule = "cosine"
    warm_up: float = Field(0.05, ge=0, lt=1)
    RENAMED: ClassVar[Mapping[str, str]] = {
        "sampled": "shared_negatives",
        "tables": "embeddings",
    }

    @property
    def row_wise(self) -> bool:
        """As `embeddings` says."""
        return self.embeddings != "dense"

    @property
    def sharded(self) -> bool:
        """As `embeddings` says."""
        return self.embeddings == "torchrec"

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
            found |= dict.fromkeys(rows, 'embeddings = "row_wise" or "torchrec"')
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
        return self


class TwoTower(NextItemNetwork):
    """See BehaviourNetwork for the inputs. Both embeddings are float32; their inner product is the score."""

    config: TwoTowerConfig
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
        ranks: Ranks = ALONE,
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
        self.item_id = _ids(config, len(known_items), ranks, "item_id")
        self.item_content = content_sum(item_features, width)
        self.user_id = _ids(config, len(known_users), ranks, "user_id") if config.user_id else None
        self.user_content = content_sum(user_features, width)
        self.encoder = encoder_of(config, kinds) if config.history else None
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
        self.query_inputs = (
            *(("user",) if config.user_id else ()),
            *(self.encoder.inputs if self.encoder else ()),
            *inputs_about("user", self.user_content),
        )
        self.item_inputs = ("item", *inputs_about("item", self.item_content))

    def history_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        """(B, E): as the item tower starts from it too."""
        return self.held(item_B, *features)

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
        queries_ABD = torch.stack(self.queries_by_action(states_BSE[:, -1]))
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

    def queries_by_action(self, states_TE: Tensor) -> list[Tensor]:
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

    def __init__(self, rows: int, width: int, weight: Tensor | None = None) -> None:
        super().__init__([rows], width, weight=weight)

    def forward(self, rows: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # see layers.EmbeddingTable
            return self.weight[rows]
        return super().forward(rows.unsqueeze(-1)).squeeze(-2)


class ShardedIds(ShardedTables):
    """The same in shards."""

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows.reshape(-1, 1)).reshape(*rows.shape, -1)

    def around(self, weight: Tensor) -> RowwiseTables:
        return Ids(self.counts[0], self.dimension, weight)


def _ids(config: TwoTowerConfig, rows: int, ranks: Ranks, title: str) -> nn.Module:
    if config.sharded and ranks.world_size > 1:
        sharding = Sharding.of(config)
        return ShardedIds([rows], config.width, sharding=sharding, ranks=ranks, title=title)
    return Ids(rows, config.width) if config.row_wise else table(rows, config.width)


AT_ONCE = 512
AGREEMENT_BATCHES = 4


class TwoTowerTask(NextItemTask):
    """The recipe bound to a shop's behaviour. Raises what NextItemTask raises."""

    name = "two_tower"

    def __init__(self, config: TwoTowerConfig, data: BehaviourSet) -> None:
        super().__init__(config, data)
        self.draws_negatives = config.objective == "binary" and config.negatives > 0

    @property
    def wants_candidates(self) -> bool:
        """For the softmax."""
        return bool(self.config.objective == "softmax")

    def _targets(self) -> Targets:
        return Targets(self.config.objective, self.config.actions, self.data)

    @cached_property
    def _every_negative(self) -> Negatives:
        data = self.data
        weights = (self.plan.seen > 0) * 1.0
        return Negatives(self.train.positive, len(data.users), len(data.items), weights, data.users)

    def negatives_of(self, users: np.ndarray) -> tuple[Negatives, np.ndarray]:
        """Those of these user rows, and the number that each has there."""
        return self._every_negative, users

    # -- batches -------------------------------------------------------------------------------

    def _asked(self, drawn: DrawnWindows, seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
        acts = drawn.acts
        arrays = {
            "at": drawn.batch.at,
            "target": acts.items,
            "label": acts.labels,
            "value": self.targets.scaled(acts.values),
            "action": self.targets.action_of[acts.kinds],
        }
        if self.draws_negatives:
            arrays = self._with_negatives(arrays, drawn.every_row, drawn.mine, seeds)
        for action in range(max(1, len(self.config.actions))):
            of_it = arrays["action"] == action if len(self.config.actions) > 1 else arrays["at"] >= 0
            arrays[f"{COUNT}{action}"] = np.float32(of_it.sum())
        return arrays

    def _with_negatives(
        self, arrays: dict[str, np.ndarray], rows: np.ndarray, mine: np.ndarray, seeds: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """arrays: of this part's targets; rows: of all targets of the batch, `mine` of which are this part's:
        negatives are drawn for all."""
        negatives, users = self.negatives_of(self.train.users[rows])
        asking = (self.train.labels[rows] > 0) & negatives.drawable[users]
        again = np.repeat(np.flatnonzero(asking[mine]), self.config.negatives)
        more = {name: array[again] for name, array in arrays.items()}
        drawn = negatives.draw(users[asking], self.config.negatives, seeds)
        more["target"] = drawn[mine[asking]].ravel()
        more["label"] = np.zeros(len(again), np.float32)
        return {name: np.concatenate([array, more[name]]) for name, array in arrays.items()}

    # -- loss ----------------------------------------------------------------------------------

    def network(self) -> nn.Module:
        data = self.data
        return TwoTower(
            self.config,
            self.plan.known_items,
            self.plan.known_users,
            data.item_features,
            data.user_features,
            kinds=len(data.kinds) + 1,
            bounds=self.targets.bounds,
            ranks=self.ranks,
        )

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, TwoTower)
        losses = self.losses(network, batch)
        return torch.stack([w * loss for w, loss in zip(network.action_weights, losses, strict=True)]).sum()

    def losses(self, network: TwoTower, batch: Batch) -> list[Tensor]:
        """One for each action, the mean over its targets; 0 where the batch has none."""
        held_KE = network.history_item(*(batch[name] for name in network.item_inputs))
        states_TE = network.states(self.given(batch, held_KE)).flatten(0, 1)[batch["at"]]
        queries_ATD = network.queries_by_action(states_TE)
        items_KD = network.finished(held_KE)
        candidates_CD = items_KD[batch["candidates"]]
        if self.gathers == "candidates":
            candidates_CD = self.ranks.gather(candidates_CD)
        found = []
        for action, queries_TD in enumerate(queries_ATD):
            mine_T = (
                batch["action"] == action if len(queries_ATD) > 1 else torch.ones_like(batch["at"]).bool()
            )
            count = mine_T.sum()
            loss = self._loss(network, queries_TD[mine_T], items_KD, candidates_CD, batch, mine_T)
            found.append(loss * (count / batch[f"{COUNT}{action}"].clamp(min=1)))
        return found

    def _loss(
        self,
        network: TwoTower,
        queries_TD: Tensor,
        items_KD: Tensor,
        candidates_CD: Tensor,
        batch: Batch,
        mine_T: Tensor,
    ) -> Tensor:
        """The mean over the targets `mine_T` of this part."""
        target_T, label_T, value_T = (batch[name][mine_T] for name in ("target", "label", "value"))
        if self.config.objective == "softmax":
            right_T = batch["right"][mine_T]
            if self.full:
                return full_softmax(queries_TD, candidates_CD, right_T, smoothing=self.config.smoothing)
            return sampled_softmax(queries_TD, candidates_CD, right_T, batch["log_probability"])
        scores_T = (queries_TD * items_KD[target_T]).sum(1)
        if self.config.objective == "binary":
            losses_T = F.binary_cross_entropy_with_logits(scores_T, label_T, reduction="none")
        elif self.config.objective == "regression":
            losses_T = (scores_T - value_T).square()
        else:
            losses_T = ordinal(scores_T, network.rising_bounds(), value_T)
        return weighted_mean(losses_T, None)

    # -- training --------------------------------------------------------------------------------

    def validate(self, network: nn.Module) -> dict[str, float]:
        """nDCG@10 and recall@20 over all items; AUROC of labels where there are both; `rmse` of values, in
        their unit, where they are predicted; with several actions, how well their gradients agree."""
        assert isinstance(network, TwoTower)
        device = device_of(network)
        every = self._about_items(torch.arange(len(self.data.items)))
        held_NE = network.history_item(*(every[name].to(device) for name in network.item_inputs)).float()
        items_ND = network.finished(held_NE)
        figures = self.ranked(network, held_NE, items_ND)
        figures |= self._of_pairs(network, held_NE, items_ND)
        return figures | (self.agreement(network) if len(network.action_weights) > 1 else {})

    def _of_pairs(self, network: TwoTower, held_NE: Tensor, items_ND: Tensor) -> dict[str, float]:
        data = self._of_validation()
        acts = data.part("validation")
        acts = acts.take(self.targets.action_of[acts.kinds] >= 0)
        users = np.unique(acts.users)[: self.config.validate_queries]
        acts = acts.take(np.isin(acts.users, users))
        both = bool(0 < (acts.labels > 0).sum() < len(acts))
        valued = self.config.objective == "regression" and np.isfinite(acts.values).any()
        if not (both or valued):
            return {}
        known = data.before("validation").positive
        queries = data.queries_of(users, known, np.full(len(users), NEVER))
        asked_TD = self.embed_all(network, queries, held_NE)[np.searchsorted(users, acts.users)]
        scores = (asked_TD * items_ND[on_device_of(network, acts.items)]).sum(1).float().cpu().numpy()
        figures = {"auroc": auroc(scores, acts.labels > 0)} if both else {}
        if valued:
            mean, spread = self.targets.scale
            figures["rmse"] = float(np.sqrt(np.nanmean((mean + spread * scores - acts.values) ** 2)))
        return figures

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


class TwoTowerStreamTask(StreamedWindows, TwoTowerTask):
    """The same, bound to behaviour that is larger than memory."""

    def negatives_of(self, users: np.ndarray) -> tuple[Negatives, np.ndarray]:
        some = np.unique(users)
        acts = self.train.of_users(some).positive
        mine = replace(acts, users=1 + np.searchsorted(some, acts.users))
        weights = (self.plan.seen > 0) * 1.0
        count, crowd = len(some) + 1, len(self.data.users)
        negatives = Negatives(mine, count, len(self.data.items), weights, crowd=crowd)
        return negatives, 1 + np.searchsorted(some, users)


def bind(config: TwoTowerConfig, data: BehaviourSet | BehaviourStream) -> TwoTowerTask:
    """The task of the shop's behaviour, in memory or not."""
    if isinstance(data, BehaviourStream):
        return TwoTowerStreamTask(config, data)
    return TwoTowerTask(config, data)


SPACE: SearchSpace = {
    "learning_rate": FloatRange(3e-4, 1e-2, log=True),
    "dropout": FloatRange(0.0, 0.6),
    "width": Choice((32, 64, 128)),
    "temperature": FloatRange(0.03, 0.3, log=True, when={"objective": ("softmax",), "cosine": (True,)}),
    "smoothing": FloatRange(0.0, 0.2, when={"objective": ("softmax",)}),
    "weight_decay": FloatRange(1e-6, 0.1, log=True),
    "forget_item": FloatRange(0.0, 0.4),
    "layers": IntRange(1, 3, when={"preset": ("sequence",)}),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="two_tower",
    role="embedder",
    paper="Yi et al., RecSys 2019; Kang and McAuley, SASRec, ICDM 2018",
    config=TwoTowerConfig,
    columns=("title", "brand", "price", "category_id", "attributes"),
    bind=bind,
    data="behaviour",
    space=SPACE,
)
