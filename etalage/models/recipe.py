"""Defines what a model is before training (`Recipe`), and what the training loop needs from it (`Task`).

A model is one file in this folder, or in a shop's own (own.py). The file holds the config, the network, the
task and a constant `RECIPE`. "Not fitted yet" cannot happen: `training.loop.fit` turns a task into a
`Trained`, which is another type.
"""

import ast
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import Field, ValidationInfo, field_validator, model_validator

from etalage.config import Settings, suggestion
from etalage.errors import ConfigError
from etalage.models.ranks import ALONE, Gathers, Ranks
from etalage.models.search_space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    import torch

    from etalage.features.array_blocks import ArrayLoop
    from etalage.features.photo import PhotoEncoder
    from etalage.features.words import WordEncoder
    from etalage.models.own import Source

Role = Literal["embedder", "ranker", "classifier", "closed_form"]
Data = Literal["photos", "behaviour", "examples", "categories"]
"""Which data `bind` gets, in this order: features/photo_set.PhotoSet, behaviour.BehaviourSet,
examples.Examples, category_set.CategorySet."""
Scoring = Literal["prior", "item_item", "embeddings"]
"""How a closed-form model's arrays score (runtime/opening.py)."""
Schedule = Literal["constant", "linear", "cosine"]
Seen = Literal["photo", "title"]
"""What a classifier can look at of an item."""
Batch = Mapping[str, "torch.Tensor"]
WEIGHTS = "weights.safetensors"
"""File of an export with the network's weights, for trainings that start from them; serving does not read
it."""


IDLE_TOO = "settings that do nothing are let through"
"""A context of validation."""


class ModelConfig(Settings):
    """Base of every model's config: through ClosedFormConfig or TrainingConfig, or directly."""

    seed: int = Field(0, ge=0)
    """Of all that is drawn at random; the same seed and data give the same model."""

    def idle(self) -> dict[str, str]:
        """Setting that has no effect with the present other settings → what would give it one. Subclasses add
        theirs."""
        return {}

    @property
    def filled(self) -> Mapping[str, Any]:
        """The values that a preset filled in for settings that were not given."""
        return {}

    def doing_nothing(self) -> dict[str, str]:
        """Of these, the settings that differ from their defaults all the same."""
        fields = type(self).model_fields
        found = {}
        for name, needs in self.idle().items():
            value, default = getattr(self, name), fields[name].get_default(call_default_factory=True)
            if value not in (default, self.filled.get(name, default)):
                found[name] = needs
        return found

    @classmethod
    def acting(cls, given: Mapping[str, Any], tried: Mapping[str, Any]) -> dict[str, Any]:
        """`given` without what does nothing beside `tried`. Raises ValidationError: a wrong value."""
        whole = cls.model_validate({**given, **tried}, context=IDLE_TOO)
        idle = whole.doing_nothing()
        return {name: value for name, value in given.items() if name not in idle or name in tried}

    @model_validator(mode="after")
    def _no_idle_setting(self, info: ValidationInfo) -> "ModelConfig":
        """Raises ValueError: a setting differs from its default but has no effect."""
        if info.context == IDLE_TOO:
            return self
        for name, needs in self.doing_nothing().items():
            raise ValueError(
                f"{name} = {getattr(self, name)!r} does nothing here: it needs {needs}; set that, or leave "
                f"{name} out"
            )
        return self


class ClosedFormConfig(ModelConfig):
    """Base of the config of a closed-form model whose recipe names `trials`."""

    search: bool = True
    """Whether a training compares a few settings on validation and takes the best: of those that are not
    given. false: what is not given has its default."""


class TrainingConfig(ModelConfig):
    """The settings that the training loop reads; the config of every model with gradients extends it."""

    epochs: int = Field(10, ge=1)
    """Passes over the training data, at most."""
    steps_per_epoch: int | None = Field(None, ge=1)
    """None: as many as one pass over the data needs."""
    stop_after: int | None = Field(None, ge=1)
    """Stop after so many of the `epochs`; the learning rate falls as if all of them came. None: go on to the
    last. What is published trained again on everything says here at which epoch the judged training was best
    ([publish] refit)."""
    batch_size: int = Field(256, ge=1)
    """Rows in one step, of all workers together."""
    accumulate: int = Field(1, ge=1)
    """In how many parts each worker goes through its rows of a batch, one after the other, before one step:
    for batches whose activations do not fit into memory. What is learned stays the same."""
    optimiser: Literal["adamw", "adam", "adagrad", "sgd"] = "adamw"
    """For `adam`, `adagrad` and `sgd`, weight_decay is an L2 penalty in the gradient."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of the optimiser, at its highest."""
    betas: tuple[float, float] = (0.9, 0.999)
    """For adamw and adam."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's; of the other optimisers an L2 penalty."""
    schedule: Schedule = "constant"
    """How the learning rate falls after the warm-up, down to its share `final_rate`."""
    warm_up: float = Field(0.0, ge=0, lt=1)
    """Share of the steps during which the learning rate rises."""
    final_rate: float = Field(0.0, ge=0, le=1)
    """Share of the learning rate at which a falling schedule ends."""
    table_optimiser: Literal["rowwise_adagrad", "sgd"] = "rowwise_adagrad"
    """For row-wise embedding tables, of which a step changes only the rows in its batch."""
    table_rate: float | None = Field(None, gt=0)
    """Learning rate of row-wise tables; None: `learning_rate`."""
    table_start: float = Field(0.0, ge=0)
    """Start of row-wise Adagrad's sum of squares: the larger, the less a rare value moves."""
    table_decay: float = Field(0.0, ge=0)
    """L2 penalty on the rows of row-wise tables that a step changes."""
    table_sharding: Literal["auto", "table_wise", "column_wise", "row_wise", "data_parallel"] = "auto"
    """How `embeddings = "torchrec"` divides tables among workers; `auto`: as TorchRec's planner reckons."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many epochs without a better validation metric; None: never."""
    clip_norm: float | None = Field(None, gt=0)
    """Gradients are scaled down to this norm, taken over all weights of all workers, tables included."""
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the weights, which is then validated and kept. None: the plain weights."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast if the device multiplies bfloat16 (a processor with AVX-512 BF16 or AMX)."""
    device: str = Field("auto", pattern=r"^(auto|cpu|[a-z]+(:[0-9]+)?)$")
    """The device to train on: `cpu`, `cuda`, `cuda:1`, `mps`; `auto`: the machine's accelerator, if it has
    one."""
    workers: int = Field(1, ge=1, le=64)
    """How many processes of this machine train together, each on its rows of a batch."""
    checkpoint_steps: int = Field(200, ge=1)
    """Write a checkpoint after at most this many steps, and at the end of every epoch."""

    decides_shape: ClassVar[tuple[str, ...]] = ()
    """Settings that must be equal to those of another training to start from its weights (`transfers`)."""
    decayed: ClassVar[Literal["matrices", "all"]] = "matrices"
    """Which weights weight_decay applies to: norms and biases have no scale that decay could limit."""

    @property
    def row_wise(self) -> bool:
        """Whether the network has row-wise embedding tables (models/embedding_tables.py)."""
        return False

    @property
    def sharded(self) -> bool:
        """Whether several workers hold these tables in shards (models/sharded_tables.py)."""
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
        if self.sharded:
            found["average"] = 'embeddings = "row_wise": no average of shards is kept'
            found["table_decay"] = 'embeddings = "row_wise": TorchRec\'s kernels decay in another way'
        else:
            found["table_sharding"] = 'embeddings = "torchrec"'
        return found

    @model_validator(mode="after")
    def _stops_before_the_end(self) -> "TrainingConfig":
        if self.stop_after is not None and self.stop_after >= self.epochs:
            raise ValueError(
                f"stop_after = {self.stop_after} does nothing: there are {self.epochs} epochs; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _parts_have_rows(self) -> "TrainingConfig":
        parts = self.accumulate * self.workers
        if self.accumulate > 1 and parts > self.batch_size:
            raise ValueError(
                f"accumulate = {self.accumulate}: {self.workers} workers cannot cut a batch of "
                f"{self.batch_size} rows into {parts} parts; take a larger batch_size"
            )
        return self


class SourcesConfig(ModelConfig):
    """Of a model that reads other models' embeddings of the items (features/sources.py)."""

    feature_sources: tuple[str, ...] | None = None
    """Whose item embeddings are features: `photo`, `text` (by the encoder of [text]), or names of models,
    such as `item2vec`; each one's newest export is read. None: `photo`, if a photo model is trained, and
    `text`, if [text] names an encoder; (): none."""

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


class SourcedConfig(SourcesConfig, TrainingConfig):
    """The same, and trained by steps."""


class ClassifierConfig(TrainingConfig):
    """Of a model that says what an item is: what it looks at follows from here, in training and in serving.

    Models override `photo_encoder`, `word_encoder`, or both.
    """

    weak_weight: float = Field(0.3, ge=0, le=1)
    """Of a label that was read from a merchant's text."""
    decision: Literal["probable", "risk"] = "probable"
    """The most probable leaf, or the one whose expected distance in the taxonomy is least."""
    served: Literal["cheapest", "float32", "int8"] = "cheapest"
    """How the photo network is exported; cheapest: in int8 if that costs at most a point of accuracy on the
    validation items (training/category_served.py)."""

    def photo_encoder(self) -> "PhotoEncoder | None":
        """How photos become pixels; None: it looks at no photos."""
        return None

    def word_encoder(self) -> "WordEncoder | None":
        """How titles become words; None: it reads no titles."""
        return None

    @property
    def reads(self) -> tuple[Seen, ...]:
        """What it looks at of an item."""
        found: list[Seen] = ["photo"] if self.photo_encoder() is not None else []
        return (*found, "title") if self.word_encoder() is not None else tuple(found)

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if "photo" not in self.reads:
            found["served"] = "a model that looks at photos (photo_encoder)"
        return found


def photo_encoder(config: Any) -> "PhotoEncoder":
    """How a photo embedder's config turns photos into pixels: as its `photo_encoder` says, else by its `size`
    and `channels`."""
    from etalage.features.photo import PhotoEncoder

    said: Callable[[], PhotoEncoder] | None = getattr(config, "photo_encoder", None)
    return PhotoEncoder(config.size, config.channels) if said is None else said()


C = TypeVar("C", bound=ModelConfig)


class Task(Protocol):
    """A recipe bound to its data. A batch is a pure function of (seed, epoch, step), random draws included,
    which makes resuming exact; a rank has its rows of it, so that any number of workers learn the same."""

    metric: str
    """The validation metric that decides which weights are kept; higher is better."""
    ranks: Ranks
    """Who trains together, set by the loop while it computes losses (models/ranks.py); alone otherwise."""

    @property
    def gathers(self) -> Gathers:
        """What the loss gathers over the ranks: with "candidates" or "rows", it is asked in every rank, even
        of no rows."""
        ...

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        ...

    def network(self) -> "torch.nn.Module":
        """Make a new network; the loop seeds torch before."""
        ...

    @property
    def phases(self) -> tuple[float, ...]:
        """Shares of the steps after which the learning rate's schedule starts again."""
        ...

    def learning_rate_of(self, parameter: str) -> float:
        """The learning rate of one parameter of the network, by its name."""
        ...

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """Make this rank's rows of a batch. It holds everything that the loss reads, because the loop moves
        it to the device. `rows` (B,) are the rows' numbers: errors name them, and ranks are weighted by how
        many they have, which may be 0 in the last batch of an epoch. `count.<name>`, scalars of float32: what
        the loss divides by, if that is not the number of rows; the loop adds them up (models/ranks.py).

        With `accumulate`, the loop asks for parts as if there were so many more ranks."""
        ...

    def loss(self, network: "torch.nn.Module", batch: Batch) -> "torch.Tensor":
        """The loss, a scalar: the mean over the rows of `batch`. If the batch has counts, which are those of
        the whole batch then: this part's share, so that the sum over all parts is the whole batch's loss."""
        ...

    def validate(self, network: "torch.nn.Module") -> dict[str, float]:
        """Metrics on the validation rows, including `metric`; {} if there are no such rows."""
        ...

    def chosen(self, network: "torch.nn.Module") -> dict[str, Any]:
        """Settings that the config leaves to the training, as the network has them after it."""
        ...


class BaseTask:
    """Defaults for most tasks: one learning rate, one phase, and work for all workers."""

    config: Any
    phases: tuple[float, ...] = ()
    ranks: Ranks = ALONE

    @property
    def gathers(self) -> Gathers:
        """Nothing: the loss of a row hangs on no other row."""
        return "nothing"

    @property
    def workers(self) -> int:
        """How many workers can share the work."""
        found: int = self.config.workers
        return found

    def learning_rate_of(self, parameter: str) -> float:
        """The config's learning rate, for every parameter."""
        found: float = self.config.learning_rate
        return found

    def chosen(self, network: "torch.nn.Module") -> dict[str, Any]:
        """None: the config has them all."""
        return {}


@runtime_checkable
class Solves(Protocol):
    """A recipe bound to its data whose network is solved, without steps."""

    metric: str
    """Which of the figures tells how good it is; higher is better."""

    def solve(self) -> "Solved":
        """Raises TooLittleData."""
        ...


@dataclass(frozen=True)
class Solved:
    """A network that was solved."""

    network: "torch.nn.Module"
    figures: dict[str, float]
    chosen: dict[str, Any] = field(default_factory=dict)
    """Settings that the config leaves to the training."""


class ClosedForm(Protocol):
    """A recipe of role closed_form, bound to its data: solved or counted, without gradients."""

    def count(self) -> "ClosedFormArrays":
        """Fit the model. Raises TooLittleData."""
        ...


@runtime_checkable
class ClosedFormByBlocks(ClosedForm, Protocol):
    """One whose work can be split into blocks that several workers do."""

    def count_by_blocks(self, loop: "ArrayLoop") -> "ClosedFormArrays":
        """What `count` returns, to the last bit, with the work on blocks done where `loop` says."""
        ...


def count(task: ClosedForm, loop: "ArrayLoop") -> "ClosedFormArrays":
    """Fit a closed-form model: by blocks, if it can be split into some. Raises TooLittleData."""
    return task.count_by_blocks(loop) if isinstance(task, ClosedFormByBlocks) else task.count()


@dataclass(frozen=True)
class ClosedFormArrays:
    """A fitted closed-form model: arrays and settings, as runtime/opening.py reads them. N items; row 0 is
    unknown.

    prior: `scores` (N + 1,) float32.
    item_item: `indptr` (N + 2,) int64, `indices` (nnz,) int32, `weights` (nnz,) float32: row = item of the
    history, column = item that it recommends; settings `decay` (factor for each step back in the history, 1:
    none), `last` (how many newest acts count; None: all), `every_act` (an item acted on twice counts twice).
    embeddings: `item_embeddings` (N + 1, D) float32 and `gram` (D, D) float32 with settings `alpha`, `reg`,
    `others` and `frequency`: a query is folded in (models/ials.py says how); or `user_embeddings` (U + 1, D)
    float32: a user has a row.
    """

    scoring: Scoring
    arrays: dict[str, "np.ndarray"]
    settings: dict[str, Any] = field(default_factory=dict)


class BehaviourNetwork(Protocol):
    """What the export needs from an embedder's network over behaviour (training/behaviour_export.py).

    Inputs have names; the methods take them by position, in the order of the names.

    query_inputs, of: `user` (B,) int64 rows · `history` (B, L) int64 item rows, newest last, padded in front
    with 0 · `history_kinds` (B, L) int64, 0 = padding or no kind · `history_ages` (B, L) float32 days before
    now, 0 for padding · `history_embeddings` (B, L, E) float32, zeros for padding: the output of
    `history_item` for each act's item, looked up · `history_mask` (B, L) bool, True = an act ·
    `user.<feature>`. item_inputs, of: `item` (B,) int64 rows · `item.<feature>`: sparse (B,) int64, bag (B,
    T) int64, dense (B, D) float32. Item 0 is the unknown item: a network with features scores it by content
    only.
    """

    query_inputs: tuple[str, ...]
    item_inputs: tuple[str, ...]
    history_length: int
    """L: how many acts of a history the network reads; 0 without history."""

    def embed_query(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """(B, D) float32. Its inner product with embed_item's output is the trained score, or has the same
        order."""
        ...

    def embed_item(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """(B, D) float32."""
        ...

    def history_item(self, *inputs: "torch.Tensor") -> "torch.Tensor":
        """item_inputs → (B, E) float32. Only needed if query_inputs include `history_embeddings`."""
        ...


@dataclass(frozen=True)
class Objective:
    """One output of a ranker. Kind `classes`: one logit per class; the score is the expected value."""

    name: str
    kind: Literal["binary", "regression", "classes"] = "binary"
    classes: tuple[float, ...] = ()
    """The value of each class, for kind `classes`."""

    @property
    def width(self) -> int:
        """Columns of the network's output."""
        return len(self.classes) if self.kind == "classes" else 1


class RankerNetwork(Protocol):
    """What the export needs from a ranker's network: forward(sparse (B, S) int64, dense (B, F) float32) →
    (B, W) float32 logits or values, the columns of each objective side by side."""

    sparse_inputs: tuple[str, ...]
    """`user`, `item`: vocabulary rows; `user.<feature>`, `item.<feature>`; or any name of Examples."""
    dense_inputs: tuple[str, ...]
    """Names of features/pairs.py, `score.<retriever>`, or any name of Examples."""
    objectives: tuple[Objective, ...]
    """The first one orders the candidates."""


class ClassifierNetwork(Protocol):
    """What training and export ask of a classifier's network (models/classifier_task.py,
    training/category_export.py): forward(*inputs) → a tuple, of each head (B, L) float32 scores of leaves.

    inputs, of: `features` (B, F) float32, the mean of what `trunk` makes of an item's photos, zeros without
    one · `has_photo` (B,) bool · `words` (B, T) int64 of features/words.py, 0 = padding. `forward` takes them
    by position, in the order of the names.

    A network that looks at photos has a module `trunk`: (P, H, W, C) uint8 → (P, F) float32.
    """

    inputs: tuple[str, ...]
    sees: Mapping[str, tuple[Seen, ...]]
    """Head → what it looks at, in the order of the scores. Of an item that shows it none of that, a head has
    no say."""


@dataclass(frozen=True)
class Recipe(Generic[C]):
    name: str
    role: Role
    paper: str
    config: type[C]
    columns: tuple[str, ...]
    """What the model needs to know about an item: columns of `items`, or "photo"."""
    bind: Callable[[C, Any], Any]
    """(config, data) → Task, or ClosedForm for the role closed_form. `data` says which data it gets."""
    data: Data = "photos"
    transfers: bool = False
    """Whether its weights fit other shops' data: the export then keeps them, and another training can start
    from them (`pretrained` in its config)."""
    embeds_items: bool = False
    """Whether a closed-form model yields item embeddings, which other models may use as features; every
    embedder does."""
    slice: str = "all"
    """What it is there for: the slice that it is judged on where [evaluate] slices names no other."""
    space: SearchSpace = field(default_factory=dict)
    """What `etalage tune` may choose of the config; {}: there is nothing to tune."""
    trials: tuple[Mapping[str, Any], ...] = ()
    """Settings, beside the defaults, that a training of a closed-form model compares on validation where they
    are not given (shop/search_steps.py)."""
    small: Mapping[str, int] = field(default_factory=dict)
    """Setting → its largest value while trials are compared, where full size costs more than it tells."""
    when_scoring: tuple[str, ...] = ()
    """Settings of a closed-form model that only scoring reads: they stand in ClosedFormArrays.settings by the
    same name, and counting does not look at them."""
    source: "Source | None" = None
    """The shop's own file that it comes from, if any; `Models.find` sets it, not the file."""


@dataclass(frozen=True, repr=False)
class Trained(Generic[C]):
    """A model after training. The network has the best weights; a closed-form model has arrays instead."""

    recipe: str
    config: C
    network: "torch.nn.Module | None"
    metrics: dict[str, float]
    history: list[dict[str, float]]
    seconds: float
    """Elapsed time of the steps and validations, including earlier parts of a resumed run."""
    cpu_seconds: float
    run: Path
    facts: dict[str, Any] = field(default_factory=dict)
    counted: ClosedFormArrays | None = None

    def __repr__(self) -> str:
        told = "".join(f", {name} {value:.4f}" for name, value in self.metrics.items())
        how = "fitted in closed form" if self.network is None else "trained"
        return f"<{self.recipe}: {how} in {self.seconds:.1f} s{told}>"


@dataclass(frozen=True)
class Listed:
    """What a model's file says about the model. It is read without running the file or loading torch."""

    name: str
    role: Role
    data: Data
    transfers: bool = False
    embeds_items: bool = False
    own: bool = False
    """Whether it is in the shop's own folder (models/own.py)."""
    slice: str = "all"
    about: str = ""
    """The first line that its file says of itself."""

    @property
    def retrieves(self) -> bool:
        """Whether it retrieves candidates: by behaviour, or by photos similar to those of the history."""
        return self.data in ("behaviour", "photos") and self.role in ("embedder", "closed_form")


def listed() -> dict[str, Listed]:
    """The models of this folder by name: every module with a RECIPE. Nothing registers itself."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        _, begin, recipe = text.partition("\nRECIPE = ")
        if begin:
            assigned = ast.parse(f"RECIPE = {recipe}").body[0]
            assert isinstance(assigned, ast.Assign) and isinstance(assigned.value, ast.Call)
            call = assigned.value
            given = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
            role, data = given["role"], given.get("data", "photos")
            more = (given.get("transfers", False), given.get("embeds_items", role == "embedder"))
            about = text.removeprefix('"""').partition("\n")[0]
            slice = given.get("slice", "all")
            found[file.stem] = Listed(file.stem, role, data, *more, slice=slice, about=about)  # type: ignore[arg-type]
    return found


def names() -> list[str]:
    """The names of the models of this folder."""
    return list(listed())


def known(name: str, where: str) -> None:
    """Raises ConfigError, which lists the known names, unless `name` is one of them."""
    there = names()
    if name not in there:
        raise ConfigError(f"{where}: no model {name!r}; {suggestion(name, there)}")


def find(name: str) -> Recipe[Any]:
    """The recipe called `name`. Raises ConfigError, which lists the known names."""
    known(name, where="models")
    recipe: Recipe[Any] = importlib.import_module(f"etalage.models.{name}").RECIPE
    return recipe
