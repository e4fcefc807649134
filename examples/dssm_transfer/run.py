"""Transfer: vectors and towers from all purchases, tuned on the few with a coupon.

python examples/dssm_transfer/run.py --data FOLDER [--one-in 10] [--freeze item]
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from etalage.console import bar
from etalage.errors import EtalageError
from etalage.evaluation.ranking import rank_all
from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_set import behaviour_set
from etalage.lake.transactions import WITH_COUPON, journey
from etalage.models import recipe as recipes
from etalage.models.recipe import Trained
from etalage.runtime.opening import open_scorer
from etalage.runtime.scorer import Scorer
from etalage.shop import Shop
from etalage.shop.source_steps import embedded_items
from etalage.training.run import resolve, train_behaviour

TUNE = {"targets": '["buy_with_coupon"]', "epochs": "60", "patience": "10", "steps_per_epoch": "null"}


def load(folder: Path, data: Path, one_in: int) -> Shop:
    """A shop at `folder` with the tables of The Complete Journey; of every `one_in` households one."""
    shop = Shop.create(folder, "The Complete Journey", bar)
    shutil.copy(Path(__file__).with_name("shop.toml"), folder / "shop.toml")
    with shop.bar("ingest the receipts", None) as meter:
        for name, rows in journey(data, 500_000):
            some = _some(rows, one_in) if name == "interactions" else rows
            shop.lake.table(name).merge(some)
            meter(rows.num_rows)
    return shop


def _some(rows: pa.Table, one_in: int) -> pa.Table:
    households = pc.cast(rows["user_id"], pa.int64()).to_numpy()
    return rows.filter(pa.array(households % one_in == 0))


def main(
    data: Annotated[Path, typer.Option(help="Folder of the Parquet files of The Complete Journey.")],
    shop: Annotated[Path, typer.Option(help="Where the shop is made.")] = Path("build/dssm-transfer"),
    one_in: Annotated[int, typer.Option(min=1, help="Of so many households take one.")] = 1,
    freeze: Annotated[str, typer.Option(help="What tuning leaves alone: none, item or both.")] = "none",
) -> None:
    opened = load(shop, data, one_in)
    interactions = opened.lake.table("interactions").read()
    behaviour = behaviour_set(interactions, None, None, opened.config.behaviour)
    print({name: len(part) for name, part in behaviour.parts.items()})

    _, exported = train(opened, "item2vec", {}, behaviour)
    scorers: dict[str, Scorer] = {"item2vec": open_scorer(exported)}
    behaviour = behaviour.with_sources({"item2vec": embedded_items(exported)})
    _, rich = train(opened, "dssm", {}, behaviour)
    scorers["dssm, as pre-trained"] = open_scorer(rich)
    start = {"pretrained": str(rich), "freeze": freeze}
    for name, settings in (("dssm, tuned", {**TUNE, **start}), ("dssm, from scratch", TUNE)):
        _, exported = train(opened, "dssm", settings, behaviour)
        scorers[name] = open_scorer(exported)
    tell(scorers, behaviour)


def train(shop: Shop, model: str, settings: dict[str, str], data: BehaviourSet) -> tuple[Trained[Any], Path]:
    """Train and export `model`, with the settings of shop.toml and these."""
    recipe = recipes.find(model)
    config = resolve(recipe, shop.config.models.get(model, {}), settings)
    with shop.bar(f"train {model}", None) as meter:
        done = 0

        def say(step: int, total: int, line: str) -> None:
            nonlocal done
            meter.say(f"train {model}: {line}", total)
            meter(step - done)
            done = step

        trained, exported = train_behaviour(
            recipe, config, data, runs=shop.runs, exports=shop.exports(model), progress=say
        )
    print(f"{model} {exported.name}: {trained.metrics}, {trained.cpu_seconds:.0f} s of a processor")
    return trained, exported


def tell(scorers: dict[str, Scorer], data: BehaviourSet) -> None:
    """Full ranking of the items that were bought with a coupon, in the last fifth of the receipts."""
    ranked_N = np.zeros(len(data.items), bool)
    for part in data.parts:
        ranked_N[data.truth(part).items] = True
    queries, wanted = data.queries("test")
    print(f"{len(queries)} households, {ranked_N.sum()} items ever bought ({WITH_COUPON}):")
    for name, scorer in scorers.items():
        found = rank_all(scorer, queries, wanted, ks=(10, 100), candidates=ranked_N).per_query
        figures = ("hit_at_10", "ndcg_at_10", "recall_at_100", "auroc")
        print(f"  {name:22}", ", ".join(f"{figure} {found[figure].mean():.4f}" for figure in figures))


if __name__ == "__main__":
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
