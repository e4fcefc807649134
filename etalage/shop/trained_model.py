"""What a training made, for who asked for it: the terminal, --json, a notebook."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.console import counted
from etalage.shop.search_steps import Search

if TYPE_CHECKING:
    from etalage.models.recipe import Trained


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, its export, and from how much it learned."""

    model: str
    export: Path
    learned_from: Mapping[str, int]
    """What was counted in the data, in words → how many: `interactions` → 18,204."""
    metrics: Mapping[str, float]
    """Of its best epoch on validation; a closed-form model has none: `etalage evaluate` measures it."""
    seconds: float
    """Elapsed time of the steps and validations, or of counting; those of earlier parts of a run that went on
    are in it."""
    cpu_seconds: float
    """The same in processor time, over all workers."""
    run: str
    """The run in MLflow."""
    told: tuple[str, ...] = ()
    """What the training has to say besides: what it compared before it took a way, what it had already."""
    search: Mapping[str, Any] | None = None
    """Which settings were compared on validation before it was counted, and what came of it (Search of
    shop/search_steps.py); None: none were."""

    @classmethod
    def of(cls, trained: "Trained[Any]", export: Path) -> "TrainedModel":
        facts = trained.facts
        search, told = facts.get("search"), tuple(facts.get("told", ()))
        if search is not None:
            told = (f"settings: {Search.of(search).told}", *told)
        return cls(
            trained.recipe,
            export,
            facts.get("learned_from", {}),
            trained.metrics,
            trained.seconds,
            trained.cpu_seconds,
            str(facts.get("mlflow_run", "")),
            told,
            search,
        )

    @property
    def learned(self) -> str:
        """`18,204 interactions of 2,000 shoppers with 3,100 items`."""
        words = [counted(count, _one(name), name) for name, count in self.learned_from.items()]
        if not words:
            return "rows in files"
        return words[0] + "".join(
            f" {how} {one}" for how, one in zip(("of", "with"), words[1:], strict=False)
        )


def _one(names: str) -> str:
    return "category" if names == "categories" else names.removesuffix("s")
