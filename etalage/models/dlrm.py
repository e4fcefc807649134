"""Ranking by dense and sparse features: embeddings, their pairwise dot products, and two perceptrons.

Paper: M. Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation
Systems, 2019, arXiv 1906.00091. With `interaction = "fm"` the network of H. Guo et al., DeepFM: A
Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017.

    B batch   S sparse features   F dense features   D embedding width   W output columns   P fields
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.errors import ConfigError, TooLittleData
from etalage.features.example_stream import ExampleStream
from etalage.features.examples import Examples, blocks, shuffled
from etalage.models.layers import device_of, on_device_of
from etalage.models.objectives import conflicts, loss_of, metrics_of
from etalage.models.ranks import ALONE, COUNT, Ranks
from etalage.models.recipe import BaseTask, Batch, Objective, Recipe, Schedule
from etalage.models.search_space import Choice, FloatRange, SearchSpace
from etalage.models.sharded_tables import tables_of
from etalage.models.streaming import StreamedConfig

FAR = 10.0
"""A dense number further from its mean than so many spreads counts as that far."""

PRESETS: dict[str, dict[str, Any]] = {
    "criteo_kaggle": {
        "dimension": 16,
        "linear": False,
        "bottom": (512, 256, 64),
        "top": (512, 256),
        "optimiser": "sgd",
        "table_optimiser": "sgd",
        "learning_rate": 0.1,
        "table_rate": 0.1,
        "batch_size": 128,
        "epochs": 1,
        "precision": "float32",
    },
    "deepfm": {
        "interaction": "fm",
        "dimension": 10,
        "top": (400, 400, 400),
        "dropout": 0.5,
        "schedule": "constant",
        "learning_rate": 1e-3,
        "table_rate": 1e-3,
    },
}
"""As in the authors' script for Criteo's Kaggle data: 13-512-256-64-16 and 512-256-1; and as DeepFM's paper
has it for Criteo's (section 3.1)."""


class DlrmConfig(StreamedConfig):
    preset: Literal["criteo_kaggle", "deepfm"] | None = None
    """Published settings, for what is not set here."""
    table: str | None = None
    """Learn from this table instead of what the shop's retrievers find: a Delta table (a folder or a URI), a
    Parquet file, or a folder of them. Relative to the shop's folder. A column `part` says which rows are for
    `train`, `validation` and `test`; without it a tenth each is drawn for the last two."""
    labels: tuple[str, ...] = ("label",)
    """Columns of the table that are predicted, numbers; null: not known."""
    sparse: tuple[str, ...] | None = None
    """Columns of the table that are codes; None: those of text and of truth values."""
    dense: tuple[str, ...] | None = None
    """Columns of the table that are quantities; None: those of fractions. Both named: no other is read."""
    dimension: int = Field(16, ge=1)
    """Width of every embedding, of the sparse features' and of the dense ones'."""
    embeddings: Literal["row_wise", "torchrec"] = "row_wise"
    """Tables of sparse features: whole in each worker, or in shards on the workers by TorchRec."""
    interaction: Literal["dot", "fm"] = "dot"
    """`dot`: the top reads the dot product of each pair. `fm`: it reads the embeddings themselves, and their
    factorisation machine stands beside it; a dense feature is a field too, its number times a vector."""
    bottom: tuple[int, ...] = (512, 256, 64)
    """Hidden widths of the perceptron over the dense features; its last layer is `dimension` wide."""
    top: tuple[int, ...] = (512, 256)
    """Hidden widths of the perceptron over the interactions."""
    linear: bool = True
    """Adds a weight for each value of a sparse feature and for each dense one, straight to the output, as in
    H.-T. Cheng et al., Wide & Deep Learning, DLRS 2016: for few rows, where pairs cannot be learned."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """After each hidden layer of the top."""
    unknown: float = Field(0.0, ge=0, lt=1)
    """Share of the sparse values that a training batch takes for unknown, so that row 0 is learned."""
    min_count: int = Field(1, ge=1)
    """A value of a sparse feature that fewer training rows have is unknown."""
    objectives: tuple[Objective, ...] = ()
    """By name of label; the first one orders the candidates. Empty: every label, binary."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Of the objectives' losses in the sum; 1 where none is given."""
    metric: Literal["auto", "auroc", "auroc_by_query", "log_likelihood", "r2"] = "auto"
    """What decides which epoch is kept, of the first objective. `auto`: auroc; r2 for regression."""
    batch_size: int = Field(2048, ge=1)
    optimiser: Literal["adamw", "adam", "adagrad", "sgd"] = "adam"
    table_rate: float | None = Field(0.02, gt=0)
    table_start: float = Field(1e-7, ge=0)
    schedule: Schedule = "linear"
    final_rate: float = Field(0.1, ge=0, le=1)
    window: int | None = Field(None, ge=1)
    """Shuffle within blocks of so many rows, for data larger than memory; None: all rows."""
    checkpoint_steps: int = Field(2000, ge=1)

    RENAMED: ClassVar[Mapping[str, str]] = {
        "batch": "batch_size",
        "falling": "schedule ('linear' or 'constant')",
    }
    decayed: ClassVar[Literal["matrices", "all"]] = "all"

    @property
    def row_wise(self) -> bool:
        """All tables of sparse features are."""
        return True

    @property
    def sharded(self) -> bool:
        """As `embeddings` says."""
        return self.embeddings == "torchrec"

    @property
    def filled(self) -> Mapping[str, Any]:
        return {} if self.preset is None else PRESETS[self.preset]

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.interaction == "fm":
            found["bottom"] = 'interaction = "dot"'
        if not self.top:
            found["dropout"] = "a layer in top"
        if self.table is None:
            found |= dict.fromkeys(("labels", "sparse", "dense", "stream", "buffer"), "table")
        elif self.window is not None:
            found["window"] = "no table: a stream shuffles within its buffer"
        return found

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        return {**PRESETS[preset], **given} if preset in PRESETS else given


class Dlrm(nn.Module):
    """sparse (B, S) int64, dense (B, F) float32 → (B, W) float32: logits, or values for regression.

    The top perceptron reads D + S + S(S-1)/2 numbers: the bottom's output, and the dot product of each
    pair among it and the S embeddings. Without dense features there is no bottom: S(S-1)/2 numbers. With
    `interaction = "fm"` it reads (S + F) · D numbers, the fields' embeddings.
    """

    def __init__(
        self,
        config: DlrmConfig,
        examples: Examples | ExampleStream,
        objectives: tuple[Objective, ...],
        kept: Tensor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.sparse_inputs, self.dense_inputs = examples.sparse_names, examples.dense_names
        self.objectives = objectives
        sparse, dense = len(self.sparse_inputs), len(self.dense_inputs)
        made = partial(tables_of, config, ranks, examples.sizes, kept=kept)
        self.tables = made(config.dimension) if sparse else None
        columns = sum(objective.width for objective in objectives)
        if not dense and sparse < 2:
            raise TooLittleData("one sparse feature and no dense one: nothing interacts")
        self.machine = Machine(dense, config.dimension, columns) if config.interaction == "fm" else None
        with_bottom = dense and self.machine is None
        self.bottom = _perceptron([dense, *config.bottom, config.dimension]) if with_bottom else None
        count = sparse + bool(dense)
        low_PP = torch.tril_indices(count, count, -1)
        self.register_buffer("pairs_P", low_PP[0] * count + low_PP[1], persistent=False)
        width = len(low_PP[0]) + (config.dimension if dense else 0)
        if self.machine is not None:
            width = (sparse + dense) * config.dimension
        self.top = _perceptron([width, *config.top, columns], config.dropout, last=False)
        self.linear_tables = made(columns, title="linear_tables") if config.linear and sparse else None
        self.linear_dense = nn.Linear(dense, columns, bias=False) if config.linear and dense else None
        if self.linear_tables is not None:
            self.linear_tables.zero()
        if self.linear_dense is not None:
            nn.init.zeros_(self.linear_dense.weight)
        self.register_buffer("dense_mean_F", torch.zeros(dense))
        self.register_buffer("dense_spread_F", torch.ones(dense))
        self.register_buffer("mean_W", torch.zeros(columns))
        self.register_buffer("spread_W", torch.ones(columns))

    def forward(self, sparse_BS: Tensor, dense_BF: Tensor) -> Tensor:
        normal_BF = (dense_BF - self.get_buffer("dense_mean_F")) / self.get_buffer("dense_spread_F")
        normal_BF = normal_BF.clamp(-FAR, FAR)
        found_BSD = None if self.tables is None else self.tables(sparse_BS)
        beside_BW: Tensor | None = None
        if self.machine is not None:
            fields_BPD = self.machine.fields(normal_BF, found_BSD)
            inputs, beside_BW = [fields_BPD.flatten(1)], self.machine(fields_BPD)
        else:
            inputs = self._dotted(normal_BF, found_BSD)
        hidden_BW = self.top(torch.cat(inputs, dim=1)).float()
        if beside_BW is not None:
            hidden_BW = hidden_BW + beside_BW.float()
        if self.linear_tables is not None:
            hidden_BW = hidden_BW + self.linear_tables(sparse_BS).sum(dim=1)
        if self.linear_dense is not None:
            hidden_BW = hidden_BW + self.linear_dense(normal_BF).float()
        out_BW: Tensor = hidden_BW * self.get_buffer("spread_W") + self.get_buffer("mean_W")
        return out_BW

    def _dotted(self, normal_BF: Tensor, found_BSD: Tensor | None) -> list[Tensor]:
        """What the bottom makes of the dense features, and the dot products of all pairs."""
        parts = [self.bottom(normal_BF)] if self.bottom is not None else []
        inputs = list(parts)
        if found_BSD is not None:
            all_BPD = torch.cat([part[:, None].to(found_BSD.dtype) for part in parts] + [found_BSD], dim=1)
            products_BPP = torch.bmm(all_BPD, all_BPD.transpose(1, 2))
            inputs.append(products_BPP.flatten(1)[:, self.get_buffer("pairs_P")])
        return inputs


class Machine(nn.Module):
    """The factorisation machine of DeepFM: half of (Σ e)² - Σ e² over the fields' embeddings e, equation 2.

    Of one output it is the sum over the D numbers, as published; of several, each output weighs them itself.
    """

    def __init__(self, dense: int, dimension: int, columns: int) -> None:
        super().__init__()
        self.vectors_FD = nn.Parameter(torch.randn(dense, dimension) * dimension**-0.5) if dense else None
        self.weights = nn.Linear(dimension, columns, bias=False) if columns > 1 else None
        if self.weights is not None:
            nn.init.ones_(self.weights.weight)

    def fields(self, normal_BF: Tensor, found_BSD: Tensor | None) -> Tensor:
        """(B, F + S, D): of each dense feature its number times a vector, and the sparse ones' embeddings."""
        found = [] if self.vectors_FD is None else [normal_BF.unsqueeze(2) * self.vectors_FD]
        found += [] if found_BSD is None else [found_BSD.float()]
        return torch.cat(found, dim=1)

    def forward(self, fields_BPD: Tensor) -> Tensor:
        """(B, W)"""
        products_BD = 0.5 * (fields_BPD.sum(1).square() - fields_BPD.square().sum(1))
        if self.weights is None:
            return products_BD.sum(1, keepdim=True)
        weighed_BW: Tensor = self.weights(products_BD)
        return weighed_BW


def _perceptron(widths: list[int], dropout: float = 0.0, last: bool = True) -> nn.Sequential:
    """Linear layers with ReLU between, and behind the last one if asked for; started as the authors do."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths)):
        linear = nn.Linear(before, after)
        nn.init.normal_(linear.weight, std=(2 / (before + after)) ** 0.5)
        nn.init.normal_(linear.bias, std=after**-0.5)
        layers.append(linear)
        if last or number < len(widths) - 2:
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


KnownLabels = tuple[int, Callable[[], Any], Callable[[], Any]]
"""How many training rows have a label; its mean, and its spread, when asked."""


@dataclass(frozen=True)
class Drawn:
    """One rank's examples of a batch of `of`."""

    examples: Examples
    rows: np.ndarray
    """(n,) int64 their numbers among all examples."""
    places: np.ndarray
    """(n,) int64 their places in the batch: what is drawn for it, is drawn for all ranks alike."""
    of: int


class DlrmTask(BaseTask):
    """The recipe bound to examples in memory; models/dlrm_stream.py binds it to a stream."""

    examples: Examples

    def __init__(self, config: DlrmConfig, examples: Examples | ExampleStream) -> None:
        self.config = config
        self._take(examples)
        self.objectives = config.objectives or tuple(Objective(name) for name in examples.label_names)
        for objective in self.objectives:
            if objective.name not in examples.label_names:
                there = ", ".join(examples.label_names)
                raise ConfigError(f"dlrm: no label {objective.name!r} for an objective; there are: {there}")
        self.label_of = [examples.label_names.index(objective.name) for objective in self.objectives]
        ends = np.cumsum([objective.width for objective in self.objectives])
        self.columns = [
            slice(int(end) - o.width, int(end)) for o, end in zip(self.objectives, ends, strict=True)
        ]
        first = self.objectives[0]
        auto = "r2" if first.kind == "regression" else "auroc"
        self.metric = auto if config.metric == "auto" else config.metric
        if self.count("train") == 0:
            raise TooLittleData("dlrm: no example of the part `train`")
        self._plan: tuple[int, np.ndarray] = (-1, np.empty(0))
        self._before: dict[str, float] | None = None
        self._scales = self._measure_scales()
        self._kept = self._count() if config.min_count > 1 else None

    @property
    def steps(self) -> int:
        return -(-self.count("train") // self.config.batch_size)

    # -- the data, which a stream has otherwise -----------------------------------------------------------

    def _take(self, examples: Any) -> None:
        self.examples = examples
        self.train_rows = examples.rows("train")

    def count(self, part: str) -> int:
        """Rows of a part."""
        return len(self.train_rows if part == "train" else self.examples.rows(part))

    def drawn(self, epoch: int, step: int, rank: int, world_size: int) -> Drawn:
        """This rank's examples of a batch."""
        if self._plan[0] != epoch:
            seed = (self.config.seed, epoch)
            self._plan = (epoch, shuffled(self.train_rows, seed, self.config.window))
        at = step % self.steps * self.config.batch_size
        every = self._plan[1][at : at + self.config.batch_size]
        places = np.arange(rank, len(every), world_size)
        return Drawn(self.examples.take(every[places]), every[places], places, len(every))

    def answers(self, network: nn.Module, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(R, W) what the network says of a part's rows, their (R, O) labels and (R,) groups."""
        rows = self.examples.rows(part)
        groups = None if self.examples.groups is None else self.examples.groups[rows]
        return self.predict(network, rows), self.examples.labels[rows], groups

    def first(self, part: str, count: int) -> Examples:
        """The first rows of a part."""
        return self.examples.take(self.examples.rows(part)[:count])

    def network(self) -> nn.Module:
        network = Dlrm(self.config, self.examples, self.objectives, self._kept, self.ranks)
        for name, values in self._scales.items():
            network.get_buffer(name).copy_(torch.from_numpy(values))
        return network

    def _count(self) -> Tensor | None:
        """(rows of all tables,) bool: which values at least `min_count` training rows have."""
        counts = [np.zeros(size, np.int64) for size in self.examples.sizes]
        for rows in blocks(self.train_rows, 2**16):
            for column, found in zip(self.examples.sparse[rows].T, counts, strict=True):
                found += np.bincount(column, minlength=len(found))
        return torch.from_numpy(np.concatenate(counts) >= self.config.min_count)

    def _measure_scales(self) -> dict[str, np.ndarray]:
        """Of the training rows: means and spreads of dense features and of regression's targets, and the
        logit of the share of positives, which a binary objective starts from."""
        dense, labels = self.examples.dense, self.examples.labels
        total, squares = np.zeros(dense.shape[1]), np.zeros(dense.shape[1])
        for rows in blocks(self.train_rows, 2**16):
            part = np.asarray(dense[rows], np.float64)
            total, squares = total + part.sum(axis=0), squares + np.square(part).sum(axis=0)
        mean = total / len(self.train_rows)
        spread = np.sqrt(np.maximum(squares / len(self.train_rows) - mean**2, 0))
        known = (labels[self.train_rows, label] for label in self.label_of)
        there = [some[np.isfinite(some)] for some in known]
        return self._scales_of(mean, spread, [(len(one), one.mean, one.std) for one in there])

    def _scales_of(
        self,
        mean: np.ndarray,
        spread: np.ndarray,
        labels: Sequence[KnownLabels],
    ) -> dict[str, np.ndarray]:
        """labels: one of each objective."""
        mean_W, spread_W = (np.full(self.columns[-1].stop, value, np.float32) for value in (0, 1))
        for objective, (count, average, deviation), column in zip(
            self.objectives, labels, self.columns, strict=True
        ):
            if count == 0:
                raise TooLittleData(f"dlrm: no training example has the label {objective.name!r}")
            if objective.kind == "binary":
                share = np.clip(average(), 1e-4, 1 - 1e-4)
                mean_W[column] = np.log(share / (1 - share))
            elif objective.kind == "regression":
                mean_W[column], spread_W[column] = average(), max(float(deviation()), 1e-6)
        return {
            "dense_mean_F": mean.astype(np.float32),
            "dense_spread_F": np.where(spread > 1e-6, spread, 1).astype(np.float32),
            "mean_W": mean_W,
            "spread_W": spread_W,
        }

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        drawn = self.drawn(epoch, step, rank, world_size)
        sparse_BS = torch.from_numpy(drawn.examples.sparse.astype(np.int64, copy=False))
        if self.config.unknown:
            rng = np.random.default_rng((self.config.seed, epoch, step, 1))
            hidden = rng.random((drawn.of, sparse_BS.shape[1]), np.float32) < self.config.unknown
            sparse_BS = sparse_BS.masked_fill(torch.from_numpy(hidden[drawn.places]), 0)
        labels_BO = drawn.examples.labels
        known_O = np.isfinite(labels_BO[:, self.label_of]).sum(axis=0)
        counts = {f"{COUNT}{one.name}": float(n) for one, n in zip(self.objectives, known_O, strict=True)}
        return {
            "sparse": sparse_BS,
            "dense": torch.from_numpy(drawn.examples.dense),
            "labels": torch.from_numpy(labels_BO),
            "rows": torch.from_numpy(drawn.rows),
            **{name: torch.tensor(count) for name, count in counts.items()},
        }

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        out_BW = network(batch["sparse"], batch["dense"])
        losses = self.losses(out_BW, batch["labels"], batch)
        weights = self.config.weights
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

    def losses(
        self, out_BW: Tensor, labels_BO: Tensor, counts: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """By objective, the mean over rows whose label is known; regression's in spreads of the target.
        counts: how many those are, `count.<objective>`; None: they are counted here."""
        found = {}
        for objective, label, column in zip(self.objectives, self.label_of, self.columns, strict=True):
            out, wanted = out_BW[:, column].float(), labels_BO[:, label]
            known = torch.isfinite(wanted)
            out, wanted = out[known], wanted[known]
            if objective.kind == "regression":
                spread = float(self._scales["spread_W"][column][0])
                out, wanted = out / spread, wanted / spread
            each = loss_of(objective, out, wanted)
            of = torch.tensor(float(len(each))) if counts is None else counts[f"{COUNT}{objective.name}"]
            found[objective.name] = each.sum() / of.clamp(min=1)
        return found

    def validate(self, network: nn.Module) -> dict[str, float]:
        """`measure` of the part validation; the same of the network before training, as `before.<metric>`."""
        if self.count("validation") == 0:
            return {}
        if self._before is None and not self.config.sharded:  # there is no room for all tables once more
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.config.seed)  # as the loop does before it asks for a network
                fresh = self.network().eval().to(device_of(network))
            self._before = self.measure(fresh, "validation")
        values = self.measure(network, "validation")
        agreement = self.agreement(network) if len(self.objectives) > 1 else {}
        before = {} if self._before is None else {f"before.{self.metric}": self._before[self.metric]}
        return {**values, **before, **agreement}

    def predict(self, network: nn.Module, rows: np.ndarray) -> np.ndarray:
        """(R, W) float32 of the network in eval mode."""
        parts = [np.empty((0, self.columns[-1].stop), np.float32)]
        with torch.no_grad():
            for part in blocks(rows):
                inputs = inputs_of(network, self.examples.take(part))
                parts.append(network(*inputs).float().cpu().numpy())
        return np.concatenate(parts)

    def measure(self, network: nn.Module, part: str) -> dict[str, float]:
        """Metrics of the first objective under their plain names, of the others as `<objective>.<metric>`."""
        out_RW, labels_RO, groups = self.answers(network, part)
        values: dict[str, float] = {}
        for objective, label, column in zip(self.objectives, self.label_of, self.columns, strict=True):
            wanted = labels_RO[:, label]
            known = np.isfinite(wanted)
            own_groups = None if groups is None else groups[known]
            found = metrics_of(objective, out_RW[known, column].astype(np.float64), wanted[known], own_groups)
            prefix = f"{objective.name}." if values else ""
            values |= {f"{prefix}{name}": value for name, value in found.items()}
        return values

    def agreement(self, network: nn.Module, rows: int = 4096) -> dict[str, float]:
        """`conflicts` of the objectives on the weights that all of them share, on validation rows."""
        some = self.first("validation", rows)
        shared = [p for name, p in network.named_parameters() if name.startswith(("bottom", "top"))][:-2]
        if not shared:
            return {}
        with torch.inference_mode(False), torch.enable_grad():
            out = network(*inputs_of(network, some))
            losses = self.losses(out, on_device_of(network, some.labels))
            return conflicts(losses, shared)


def inputs_of(network: nn.Module, examples: Examples) -> tuple[Tensor, Tensor]:
    """(R, S) int64 and (R, F) float32, on the network's device."""
    sparse = examples.sparse.astype(np.int64, copy=False)
    return on_device_of(network, sparse), on_device_of(network, examples.dense)


def bind(config: DlrmConfig, examples: Examples | ExampleStream) -> DlrmTask:
    """The task of the examples, in memory or not."""
    if isinstance(examples, ExampleStream):
        from etalage.models.dlrm_stream import DlrmStreamTask

        return DlrmStreamTask(config, examples)
    return DlrmTask(config, examples)


SPACE: SearchSpace = {
    "dimension": Choice((8, 16, 32)),
    "learning_rate": FloatRange(1e-4, 1e-2, log=True),
    "table_rate": FloatRange(3e-3, 0.1, log=True),
    "table_decay": FloatRange(1e-8, 1e-4, log=True),
    "dropout": FloatRange(0.0, 0.5),
    "bottom": Choice(((64,), (128, 64), (512, 256, 64))),
    "top": Choice(((64,), (256, 64), (512, 256))),
    "unknown": FloatRange(0.0, 0.1),
    "min_count": Choice((1, 2, 5, 10)),
    "linear": Choice((True, False)),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="dlrm",
    role="ranker",
    paper="Naumov et al., Deep Learning Recommendation Model, 2019",
    config=DlrmConfig,
    columns=(),
    bind=bind,
    data="examples",
    space=SPACE,
)
