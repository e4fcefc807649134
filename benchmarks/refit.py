"""Is what learned from everything before the test better than what the gate judged, with the same settings?

    OMP_NUM_THREADS=1 python benchmarks/refit.py [--data FOLDER] [--seeds 0,1,2] [--only "receipts;films"]

Three public sets: receipts of The Complete Journey (simulated from real shopping) and films of
ml-latest-small, both cut at two moments of the whole shop, and the order of Amazon Beauty's acts (S3-Rec: the
last item of each shopper is the test, the one before it the validation). The judged model learns from train
and keeps its best epoch by validation. The same settings then learn from train and validation, for as many
epochs, as `etalage publish` does it. Both rank the whole catalogue for the same shoppers, who have the same
history. (Of a two-tower, beauty.py has both.) Each part (one set, one model, one seed) is kept under build/,
so that a benchmark that was stopped goes on.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from acts import acts_of, instants  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.config import BehaviourConfig, FunnelConfig  # noqa: E402
from etalage.datasets.published import sequences  # noqa: E402
from etalage.evaluation.ranking import rank_all  # noqa: E402
from etalage.evaluation.slices import Questions, ask  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.features.behaviour_set import behaviour_set  # noqa: E402
from etalage.metrics import bootstrap, paired_bootstrap  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.models.recipe import Recipe, Trained  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.shop.refit_training import again_config, best_epoch  # noqa: E402
from etalage.training.behaviour_export import export_behaviour  # noqa: E402
from etalage.training.export_source import Source  # noqa: E402
from etalage.training.learned_from import learned_from  # noqa: E402
from etalage.training.loop import fit  # noqa: E402

METRICS = {"recall_at_20": "recall@20", "ndcg_at_10": "nDCG@10"}
HOUSEHOLDS, LAST = 600, 13
"""Of the receipts: so many households, so many weeks."""
MODELS: dict[str, dict[str, Any]] = {
    "matrix_factorisation": {"epochs": 5, "batch_size": 1024, "schedule": "cosine"},
    "item2vec": {"epochs": 5},
}
Parts = list[dict[str, Any]]
NOTE = (
    "`judged`: learned from train, the best epoch of at most {epochs} by validation; `on everything`: the "
    "same settings and as many epochs on all acts before the test. The whole catalogue is ranked. Values are "
    "means over {seeds} seeds, intervals 95% bootstrap over the shoppers of the test (of the mean over the "
    "seeds of each shopper); `gain` is paired. Processor time: of one training. Epochs: after which the "
    "judged weights were kept. Receipts: of {households} households and {weeks} weeks; what was bought "
    "before may be bought again."
)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets' folders.")] = None,
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "0,1,2",
    only: Annotated[str, typer.Option(help="Sets, a semicolon between; default: all.")] = "",
    models: Annotated[str, typer.Option(help="Models.")] = ",".join(MODELS),
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("refit", small, out)
    work = bench.work(work)
    numbers = [int(seed) for seed in seeds.split(",")]
    if small:
        numbers, models = [0], "matrix_factorisation"
    rows: list[Row] = []
    for name, read in sets_of(bench, data).items():
        if only and name not in only.split(";"):
            continue
        found: BehaviourSet | None = None
        for model in models.split(","):
            settings = {**MODELS[model], **({"epochs": 2} if small else {})}
            parts: Parts = []
            for seed in numbers:
                decides = json.dumps([name, model, settings, seed])
                file = work / f"{name}-{model}-{hashlib.sha256(decides.encode()).hexdigest()[:8]}.json"
                if not file.exists():
                    found = read() if found is None else found
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(json.dumps(measured(found, model, {**settings, "seed": seed})))
                    print(name, model, seed, "done", flush=True)
                parts.append(json.loads(file.read_text()))
            rows += rows_of(name, model, parts)
    chosen = f' --only "{only}"' if only else ""
    longest = max(one["epochs"] for one in MODELS.values())
    bench.write(
        rows,
        command=f"OMP_NUM_THREADS=1 python benchmarks/refit.py --seeds {seeds}{chosen}",
        seeds=numbers,
        packages=["numpy", "torch", "onnxruntime"],
        note=NOTE.format(epochs=longest, seeds=len(numbers), households=HOUSEHOLDS, weeks=LAST),
    )


def sets_of(bench: Run, data: Path | None) -> dict[str, Callable[[], BehaviourSet]]:
    def folder(name: str, drawn: Callable[[Path], Path]) -> Path:
        return bench.data(None if data is None else data / name, name, drawn)

    return {
        "receipts": partial(receipts, folder("complete-journey", miniature.journey)),
        "films": partial(films, folder("ml-latest-small", miniature.movielens)),
        "Beauty": partial(sequences, folder("s3rec-amazon-beauty", miniature.beauty) / "Beauty.txt"),
    }


def receipts(folder: Path) -> BehaviourSet:
    """Some households' purchases of the last weeks of a year, by time."""
    columns = ["household_id", "product_id", "week", "transaction_timestamp"]
    rows = pyarrow.parquet.read_table(folder / "transactions.parquet", columns=columns)
    rows = rows.filter(pc.greater(rows["week"], pc.subtract(pc.max(rows["week"]), LAST)))
    homes = pc.unique(rows["household_id"])
    drawn = np.random.default_rng(0).permutation(len(homes))[:HOUSEHOLDS]
    rows = rows.filter(pc.is_in(rows["household_id"], value_set=homes.take(drawn)))
    times = rows["transaction_timestamp"].cast("timestamp[us]").cast("int64").cast(pa.timestamp("us", "UTC"))
    acts = acts_of(rows["household_id"], rows["product_id"], times, "buy")
    config = BehaviourConfig(split="time", repeat=True)
    return behaviour_set(acts, None, None, config, funnel=FunnelConfig(seen="keep"))


def films(folder: Path) -> BehaviourSet:
    """All ratings as acts, by time: most shoppers of the test are new."""
    ratings = pyarrow.csv.read_csv(folder / "ratings.csv")
    acts = acts_of(ratings["userId"], ratings["movieId"], instants(ratings["timestamp"]), "view")
    return behaviour_set(acts, None, None, BehaviourConfig(split="time"))


def measured(data: BehaviourSet, model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Of both trainings the metrics of each shopper of the test, and what they cost."""
    recipe = recipes.find(model)
    config = recipe.config(**settings)
    asked = ask(data, "test", len(data.users))
    trained, before = trained_and_ranked(recipe, config, data, asked)
    everything = data.with_parts(train=data.before("test"), validation=Interactions.none())
    facts = {"history": trained.history, "metrics": trained.metrics, "learned_from": learned_from(data)}
    again = again_config(config, facts, len(everything.part("train")))
    last, now = trained_and_ranked(recipe, again, everything, asked)
    return {
        "judged": before,
        "on everything": now,
        "seconds": {"judged": trained.cpu_seconds, "on everything": last.cpu_seconds},
        "epochs": best_epoch(facts),
    }


def trained_and_ranked(
    recipe: Recipe[Any], config: Any, data: BehaviourSet, asked: Questions
) -> tuple[Trained[Any], dict[str, list[float]]]:
    with tempfile.TemporaryDirectory() as name:
        trained = fit(recipe, recipe.bind(config, data), config, Path(name))
        scorer = open_scorer(export_behaviour(recipe, trained, Source.of(data), Path(name) / "exports"))
        found = rank_all(scorer, asked.queries, asked.truth, ks=(10, 20), exclude=asked.seen)
    return trained, {metric: found.per_query[metric].tolist() for metric in METRICS}


def rows_of(name: str, model: str, parts: Parts) -> list[Row]:
    rows = []
    for metric, shown in METRICS.items():
        judged, again = (
            np.mean([part[which][metric] for part in parts], axis=0) for which in ("judged", "on everything")
        )
        rows += [
            Row(name, f"{model}, judged", shown, *bootstrap(judged)),
            Row(name, f"{model}, on everything", shown, *bootstrap(again)),
            Row(name, f"{model}, gain", shown, *paired_bootstrap(again, judged)),
        ]
    for which in ("judged", "on everything"):
        seconds = [part["seconds"][which] for part in parts]
        figures = (float(np.mean(seconds)), min(seconds), max(seconds))
        rows.append(Row(name, f"{model}, {which}", "processor time", *figures, "s"))
    epochs = [float(part["epochs"]) for part in parts]
    rows.append(Row(name, f"{model}, judged", "epochs", float(np.mean(epochs)), min(epochs), max(epochs)))
    return rows


if __name__ == "__main__":
    run_main(main)
