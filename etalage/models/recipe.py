"""What a model is before training (`Recipe`), and what the loop needs of it (`Task`).

A model is one file in this folder: its config, its network, its task and a constant `RECIPE`.
"Not fitted yet" cannot happen: `training.loop.fit` turns a task into a `Trained`, another type.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from pydantic import Field

from etalage.config import Settings
from etalage.errors import ConfigError

if TYPE_CHECKING:
    import torch

Role = Literal["embedder", "ranker", "classifier", "counter"]
Batch = Mapping[str, "torch.Tensor"]


class TrainingConfig(Settings):
    """What the loop reads; every trained model's config extends it."""

    seed: int = Field(0, ge=0)
    epochs: int = Field(10, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    """None: as many as cover the data."""
    patience: int | None = Field(None, ge=1)
    """Epochs without a better validation metric before it stops; None: never."""
    clip_norm: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights that is validated and kept; None: the last weights."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast where the processor multiplies bfloat16 (AVX-512 BF16, AMX)."""
    checkpoint_steps: int = Field(200, ge=1)
    """A checkpoint at least every so many steps, and at the end of every epoch."""


C = TypeVar("C", bound=TrainingConfig)


class Task(Protocol):
    """A recipe bound to its data. `batch` is a pure function of (seed, epoch, step): that alone makes
    resuming exact."""

    metric: str
    """The validation metric that decides which weights are kept; higher is better."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        ...

    def network(self) -> "torch.nn.Module":
        """A fresh network; the loop has seeded torch before it asks."""
        ...

    def optimiser(self, network: "torch.nn.Module") -> "torch.optim.Optimizer": ...

    def rate(self, done: float) -> float:
        """Factor on the learning rate when the share `done` in [0, 1] of all steps is behind."""
        ...

    def batch(self, epoch: int, step: int) -> Batch: ...

    def loss(self, network: "torch.nn.Module", batch: Batch) -> "torch.Tensor":
        """Scalar, the mean over the batch."""
        ...

    def validate(self, network: "torch.nn.Module") -> dict[str, float]:
        """Metrics on the validation rows, `metric` among them; {} where there are none."""
        ...


@dataclass(frozen=True)
class Recipe(Generic[C]):
    name: str
    role: Role
    paper: str
    config: type[C]
    columns: tuple[str, ...]
    """What it needs to know of an item: columns of `items`, or "photo"."""
    bind: Callable[[C, Any], Task]
    """(config, data) → task; the data is what `features` makes of `columns`."""


@dataclass(frozen=True)
class Trained(Generic[C]):
    """A model after training: the best weights are in the network."""

    recipe: str
    config: C
    network: "torch.nn.Module"
    metrics: dict[str, float]
    history: list[dict[str, float]]
    seconds: float
    """Wall clock of the steps and validations, of earlier tries of a resumed run too."""
    cpu_seconds: float
    run: Path
    facts: dict[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """The models of this folder: every module that has a RECIPE. Nothing registers itself."""
    folder = Path(__file__).parent
    found = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return sorted(
        name for name in found if "\nRECIPE = " in (folder / f"{name}.py").read_text(encoding="utf-8")
    )


def known(name: str, where: str) -> None:
    """Raises ConfigError with the names that there are, unless `name` is one."""
    there = names()
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(there)}"
        raise ConfigError(f"{where}: no model {name!r}; {hint}")


def find(name: str) -> Recipe[Any]:
    """The recipe called `name`. Raises ConfigError with the names that there are."""
    known(name, where="train")
    recipe: Recipe[Any] = importlib.import_module(f"etalage.models.{name}").RECIPE
    return recipe
