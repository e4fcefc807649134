"""What a model is before training (`Recipe`), and what the loop needs of it (`Task`).

A model is one file in this folder, or in a shop's own (own.py): its config, its network, its task and a
constant `RECIPE`.
"Not fitted yet" cannot happen: `training.loop.fit` turns a task into a `Trained`, another type.
"""

import ast
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import Field, field_validator, model_validator

from etalage.config import Settings, suggestion
from etalage.errors import ConfigError
from etalage.models.search_space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    import torch

    from etalage.models.own import Source

Role = Literal["embedder", "ranker", "classifier", "closed_form"]
Data = Literal["photos", "behaviour", "examples", "categories"]
"""What `bind` is given, of features/: photo_set.PhotoSet, behaviour.BehaviourSet, examples.Examples,
category_set.CategorySet."""
Scoring = Literal["prior", "item_item", "embeddings"]
"""How a closed-form model's arrays score (runtime/opening.py)."""
Schedule = Literal["constant", "linear", "cosine"]
Batch = Mapping[str, "torch.Tensor"]
WEIGHTS = "weights.safetensors"
"""Of an export: the network's own weights, for trainings that start from there; no score is made of them."""


class ModelConfig(Settings):
    """Base of every model's config; a closed-form model's extends it directly."""

    seed: int = Field(0, ge=0)

    def idle(self) -> dict[str, str]:
        """Settings that do nothing as the others stand → what makes them act. Subclasses add theirs."""
        return {}

    @property
    def filled(self) -> Mapping[str, Any]:
        """What was filled in for settings that were not given: those of a preset."""
        return {}

    @model_validator(mode="after")
    def _no_idle_setting(self) -> "ModelConfig":
        """Raises ValueError: a setting that differs from its default, where it does nothing."""
        fields = type(self).model_fields
        for name, needs in self.idle().items():
            value, default = getattr(self, name), fields[name].get_default(call_default_factory=True)
            if value not in (default, self.filled.get(name, default)):
                raise ValueError(
                    f"{name} = {value!r} does nothing here: it needs {needs}; set that, or leave {name} out"
                )
        return self


class TrainingConfig(ModelConfig):
    """What the loop reads; every trained model's config extends it."""

    epochs: int = Field(10, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    """None: as many as cover the data."""
    batch_size: int = Field(256, ge=1)
    """Rows of a step, of all workers together."""
    optimiser: Literal["adamw", "adam", "adagrad", "sgd"] = "adamw"
    """`adam`: weight_decay is an L2 penalty in the gradient, as it is for adagrad and sgd."""
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    """Of adamw and adam."""
    weight_decay: float = Field(0.0, ge=0)
    schedule: Schedule = "constant"
    """How the learning rate goes, after the warm-up, from itself to `final_rate` of it."""
    warm_up: float = Field(0.0, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    final_rate: float = Field(0.0, ge=0, le=1)
    """Share of the learning rate with which a falling schedule ends."""
    table_optimiser: Literal["rowwise_adagrad", "sgd"] = "rowwise_adagrad"
    """Of row-wise embedding tables, of which a step moves only the rows of its batch."""
    table_rate: float | None = Field(None, gt=0)
    """Their learning rate; None: `learning_rate`."""
    table_start: float = Field(0.0, ge=0)
    """Where row-wise Adagrad's sum of squares starts: the larger, the less a rare value moves."""
    table_decay: float = Field(0.0, ge=0)
    """L2 penalty on the rows that a step touches."""
    patience: int | None = Field(None, ge=1)
    """Epochs without a better validation metric before it stops; None: never."""
    clip_norm: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights that is validated and kept; None: the last weights."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast where the device multiplies bfloat16 (a processor by AVX-512 BF16, AMX)."""
    device: str = Field("auto", pattern=r"^(auto|cpu|[a-z]+(:[0-9]+)?)$")
    """Where it learns: `cpu`, `cuda`, `cuda:1`, `mps`; `auto`: the machine's accelerator, if it has one."""
    workers: int = Field(1, ge=1, le=64)
    """Processes of this machine that train together, each from its rows of a batch."""
    checkpoint_steps: int = Field(200, ge=1)
    """A checkpoint at least every so many steps, and at the end of every epoch."""

    decides_shape: ClassVar[tuple[str, ...]] = ()
    """Settings that have to be alike where weights are taken over from another training (`transfers`)."""
    decayed: ClassVar[Literal["matrices", "all"]] = "matrices"
    """What weight_decay is about: norms and biases hold no scale that decay could keep in check."""

    @property
    def row_wise(self) -> bool:
        """Whether the network has row-wise embedding tables (models/embedding_tables.py)."""
        return False

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.schedule == "constant":
            found["final_rate"] = 'schedule = "linear" or "cosine"'
        if self.optimiser in ("adagrad", "sgd"):
            found["betas"] = 'optimiser = "adamw" or "adam"'
        if not self.row_wise:
            tables = ("table_optimiser", "table_rate", "table_start", "table_decay")
            found |= dict.fromkeys(tables, "row-wise embedding tables")
        elif self.table_optimiser == "sgd":
            found["table_start"] = 'table_optimiser = "rowwise_adagrad"'
        return found


class SourcedConfig(TrainingConfig):
    """Of a model that looks at what other models embed of the items (features/sources.py)."""

    feature_sources: tuple[str, ...] | None = None
    """Whose embeddings of the items are features: `photo`, or models by their names, such as `item2vec`: what
    the newest export of each has. None: `photo`, where a model of photos was trained; (): none."""

    @field_validator("feature_sources", mode="before")
    @classmethod
    def _one_alone(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("feature_sources")
    @classmethod
    def _each_once(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if given is not None and len(set(given)) < len(given):
            raise ValueError(f"{list(given)} names one source twice")
        return given


C = TypeVar("C", bound=ModelConfig)


def batch_seed(seed: int, epoch: int, step: int, rank: int) -> tuple[int, ...]:
    """The seed of what is drawn for a batch: another one in each rank, rank 0's that of one worker alone."""
    return (seed, epoch, step) if rank == 0 else (seed, epoch, step, rank, 2**32 - 1)


class Task(Protocol):
    """A recipe bound to its data. `batch` is a pure function of (seed, epoch, step, rank, world_size): that
    alone makes resuming exact."""

    metric: str
    """The validation metric that decides which weights are kept; higher is better."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        ...

    def network(self) -> "torch.nn.Module":
        """A fresh network; the loop has seeded torch before it asks."""
        ...

    @property
    def phases(self) -> tuple[float, ...]:
        """Shares of the steps after which the schedule of the learning rate begins anew."""
        ...

    def learning_rate_of(self, parameter: str) -> float:
        """Of one parameter of the network, by its name."""
        ...

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """The rows of the batch that are this rank's; all that the loss reads of them is in it, since the
        loop brings it to the device. `rows` (B,) says which they are: errors name them, and ranks weigh by
        their number, which may be 0 in the last batch of an epoch."""
        ...

    def loss(self, network: "torch.nn.Module", batch: Batch) -> "torch.Tensor":
        """Scalar, the mean over the batch's rows. Where it is a mean over something else (the targets of
        windows), that over several ranks is nearly that of the whole, and not quite."""
        ...

    def validate(self, network: "torch.nn.Module") -> dict[str, float]:
        """Metrics on the validation rows, `metric` among them; {} where there are none."""
        ...


class BaseTask:
    """What most tasks have in common: one learning rate, one phase, and work for all workers."""

    config: Any
    phases: tuple[float, ...] = ()

    @property
    def workers(self) -> int:
        """How many can share the work."""
        found: int = self.config.workers
        return found

    def learning_rate_of(self, parameter: str) -> float:
        """The config's."""
        found: float = self.config.learning_rate
        return found


class ClosedForm(Protocol):
    """A recipe of role closed_form bound to its data: no gradient, one pass."""

    def count(self) -> "ClosedFormArrays":
        """Raises TooLittleData."""
        ...


@dataclass(frozen=True)
class ClosedFormArrays:
    """What a closed-form model found: arrays and settings, as runtime/opening.py reads them. N items, row 0
    unknown.

    prior: `scores` (N + 1,) float32.
    item_item: `indptr` (N + 2,) int64, `indices` (nnz,) int32, `weights` (nnz,) float32: row = item of the
    history, column = item that it speaks for; settings `decay` (factor a step back in the history, 1: none),
    `last` (acts that count; None: all), `every_act` (an item acted on twice speaks twice).
    embeddings: `item_embeddings` (N + 1, D) float32 and `gram` (D, D) float32 with settings `alpha` and
    `reg`: a query is folded in (implicit ALS); or `user_embeddings` (U + 1, D) float32: a user has a row.
    """

    scoring: Scoring
    arrays: dict[str, "np.ndarray"]
    settings: dict[str, Any] = field(default_factory=dict)


class BehaviourNetwork(Protocol):
    """What the export asks of an embedder's network over behaviour (training/behaviour_export.py).

    Inputs are named; the methods take them by position, in the order of the names.

    query_inputs, of: `user` (B,) int64 rows · `history` (B, L) int64 item rows, newest last, padded in front
    with 0 · `history_kinds` (B, L) int64, 0 = padding or no kind · `history_ages` (B, L) float32 days before
    now, 0 for padding · `history_embeddings` (B, L, E) float32, zeros for padding: what `history_item` makes
    of each act's item, looked up · `history_mask` (B, L) bool, True = an act · `user.<feature>`.
    item_inputs, of: `item` (B,) int64 rows · `item.<feature>`: sparse (B,) int64, bag (B, T) int64, dense
    (B, D) float32. Item 0 is the unknown one: a network with features scores it by content alone.
    """

    query_inputs: tuple[str, ...]
    item_inputs: tuple[str, ...]
    history_length: int
    """L: acts of a history that are looked at; 0 without history."""

    def embed_query(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """(B, D) float32; inner product with embed_item's is the trained score, or in its order."""
        ...

    def embed_item(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """(B, D) float32."""
        ...

    def history_item(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """(B, E) float32 of item_inputs. Only asked where query_inputs have `history_embeddings`."""
        ...


@dataclass(frozen=True)
class Objective:
    """One output of a ranker. `classes`: logits of so many classes, whose expected value is the score."""

    name: str
    kind: Literal["binary", "regression", "classes"] = "binary"
    classes: tuple[float, ...] = ()
    """The value of each class, for kind `classes`."""

    @property
    def width(self) -> int:
        """Columns of the network's output."""
        return len(self.classes) if self.kind == "classes" else 1


class RankerNetwork(Protocol):
    """What the export asks of a ranker's network: forward(sparse (B, S) int64, dense (B, F) float32) →
    (B, W) float32 logits or values, the columns of each objective side by side."""

    sparse_inputs: tuple[str, ...]
    """`user`, `item`: vocabulary rows; `user.<feature>`, `item.<feature>`; or any name of Examples."""
    dense_inputs: tuple[str, ...]
    """Names of features/pairs.py, `score.<retriever>`, or any name of Examples."""
    objectives: tuple[Objective, ...]
    """The first one is what candidates are ordered by."""


@dataclass(frozen=True)
class Recipe(Generic[C]):
    name: str
    role: Role
    paper: str
    config: type[C]
    columns: tuple[str, ...]
    """What it needs to know of an item: columns of `items`, or "photo"."""
    bind: Callable[[C, Any], Any]
    """(config, data) → Task, or ClosedForm for the role closed_form; the data is what `data` says."""
    data: Data = "photos"
    transfers: bool = False
    """Its weights fit other shops' data: the export keeps them, and another training starts from there, as
    `pretrained` of its config says."""
    embeds_items: bool = False
    """What it counts are embeddings of items, which other models may take as features; every embedder has
    some."""
    space: SearchSpace = field(default_factory=dict)
    """What `etalage tune` may choose of the config; {}: it has nothing to tune."""
    source: "Source | None" = None
    """The file that it comes from, where that is a shop's own; `Models.find` sets it, no file does."""


@dataclass(frozen=True)
class Trained(Generic[C]):
    """A model after training: the best weights are in the network; a closed-form model has arrays instead."""

    recipe: str
    config: C
    network: "torch.nn.Module | None"
    metrics: dict[str, float]
    history: list[dict[str, float]]
    seconds: float
    """Wall clock of the steps and validations, of earlier tries of a resumed run too."""
    cpu_seconds: float
    run: Path
    facts: dict[str, Any] = field(default_factory=dict)
    counted: ClosedFormArrays | None = None


@dataclass(frozen=True)
class Listed:
    """What a model's file says of it, read without running it: torch is not loaded for that."""

    name: str
    role: Role
    data: Data
    transfers: bool = False
    embeds_items: bool = False
    own: bool = False
    """Of the shop's own folder (models/own.py)."""

    @property
    def retrieves(self) -> bool:
        """It brings candidates of its own: by behaviour, or by photos like those of what was acted on."""
        return self.data in ("behaviour", "photos") and self.role in ("embedder", "closed_form")


def listed() -> dict[str, Listed]:
    """The models of this folder, by name: every module that has a RECIPE. Nothing registers itself."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        _, begin, recipe = file.read_text(encoding="utf-8").partition("\nRECIPE = ")
        if begin:
            assigned = ast.parse(f"RECIPE = {recipe}").body[0]
            assert isinstance(assigned, ast.Assign) and isinstance(assigned.value, ast.Call)
            call = assigned.value
            given = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
            role, data = given["role"], given.get("data", "photos")
            more = (given.get("transfers", False), given.get("embeds_items", role == "embedder"))
            found[file.stem] = Listed(file.stem, role, data, *more)  # type: ignore[arg-type]
    return found


def names() -> list[str]:
    """The names of the models of this folder."""
    return list(listed())


def known(name: str, where: str) -> None:
    """Raises ConfigError with the names that there are, unless `name` is one."""
    there = names()
    if name not in there:
        raise ConfigError(f"{where}: no model {name!r}; {suggestion(name, there)}")


def find(name: str) -> Recipe[Any]:
    """The recipe called `name`. Raises ConfigError with the names that there are."""
    known(name, where="models")
    recipe: Recipe[Any] = importlib.import_module(f"etalage.models.{name}").RECIPE
    return recipe
