"""DLRM on clicks whose best possible AUROC is known: draw, train, export, score with the export.

python examples/synthetic_dlrm/run.py [--rows 200000] [--target several] [--set epochs=2]
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from etalage.config import parse_pairs
from etalage.console import bar
from etalage.datasets.clicks import CLASSES, Clicks, Target, draw_clicks
from etalage.errors import EtalageError
from etalage.metrics import auroc
from etalage.models import recipe as recipes
from etalage.models.recipe import Objective
from etalage.runtime.opening import open_scorer
from etalage.training.run import resolve, train_behaviour

SETTINGS: dict[str, Any] = {
    "bottom": [64], "top": [64], "batch_size": 512, "epochs": 3, "average": 0.999, "learning_rate": 3e-3,
    "weight_decay": 5e-5, "table_rate": 0.1, "table_start": 1e-6, "table_decay": 3e-4,
}  # fmt: skip
RARE = 800
"""A value that fewer than one in so many rows has is taken for unknown: too few to learn from."""


def main(
    rows: Annotated[int, typer.Option(min=1000, help="Examples to draw.")] = 200_000,
    target: Annotated[str, typer.Option(help="binary, regression, classes or several.")] = "binary",
    seed: Annotated[int, typer.Option(help="Of the clicks and of the model.")] = 0,
    folder: Annotated[Path, typer.Option(help="Where runs and exports go.")] = Path("build/synthetic-dlrm"),
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model's config.")] = None,
) -> None:
    kind: Target = _target(target)
    clicks = draw_clicks(rows, seed, kind)
    recipe = recipes.find("dlrm")
    shop = {**SETTINGS, "min_count": max(1, rows // RARE), "seed": seed}
    config = resolve(recipe, shop, parse_pairs("--set", set) or {})
    if not config.objectives and kind in ("regression", "classes"):
        config = _with_objective(config, clicks, kind)
    with bar("train", None) as meter:
        done = 0

        def tell(step: int, total: int, line: str) -> None:
            nonlocal done
            meter.say(line, total)
            meter(step - done)
            done = step

        trained, exported = train_behaviour(
            recipe, config, clicks.examples, runs=folder / "runs", exports=folder / "exports", progress=tell
        )
    for number, epoch in enumerate(trained.history, start=1):
        print(f"epoch {number}:", ", ".join(f"{name} {value:.4f}" for name, value in epoch.items()))
    _tell_test(clicks, exported, kind)


def _target(name: str) -> Target:
    for known in ("binary", "regression", "classes", "several"):
        if name == known:
            return known
    raise typer.BadParameter(f"no target {name!r}; there are: binary, regression, classes, several")


def _with_objective(config: Any, clicks: Clicks, target: Target) -> Any:
    """The one label of these targets is a number, or one of CLASSES."""
    name = clicks.examples.label_names[0]
    objective = (
        Objective(name, "regression") if target == "regression" else Objective(name, "classes", CLASSES)
    )
    return config.model_copy(update={"objectives": (objective,)})


def _tell_test(clicks: Clicks, exported: Path, target: Target) -> None:
    """What the export, which is what would be served, makes of the test rows."""
    examples = clicks.examples
    rows = examples.rows("test")
    scorer: Any = open_scorer(exported)
    out = scorer.score_rows(examples.sparse[rows], examples.dense[rows])
    print(f"{exported.name} on {len(rows)} test rows:")
    if target in ("binary", "several"):
        for column, name in enumerate(examples.label_names):
            found = auroc(out[:, column], examples.labels[rows, column] > 0)
            print(f"  {name}: AUROC {found:.4f}; the best possible is {clicks.best_auroc(label=column):.4f}")
        return
    score, truth = scorer.first_objective(out), clicks.truth[rows, 0]
    found, best = (np.corrcoef(one, examples.labels[rows, 0])[0, 1] for one in (score, truth))
    print(f"  {examples.label_names[0]}: correlation {found:.4f}; that of the true expectation is {best:.4f}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
