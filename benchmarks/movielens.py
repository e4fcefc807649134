"""MovieLens, the ten latest of each user held out: NeuMF beside simple systems, the whole catalogue ranked.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/movielens.py [--data FOLDER] [--seeds 0,1,2]

FOLDER holds ratings.csv and movies.csv of ml-latest-small (GroupLens). How long a model trains is chosen on
the validation part; then it learns from train and validation together, like the systems that draw nothing,
and what is measured is its export. Each part (system, seed) is kept under build/.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import typer

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from acts import acts_of, instants  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.config import BehaviourConfig  # noqa: E402
from etalage.evaluation.ranking import rank_all  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.features.behaviour_set import behaviour_set  # noqa: E402
from etalage.features.negatives import candidates  # noqa: E402
from etalage.metrics import auroc, bootstrap, paired_bootstrap  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402

HELD_OUT = 10
HONEST = {"validate_on": "full"}
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "TF-IDF ItemKNN": ("item_knn", {}),
    "EASE": ("ease", {"neighbours": None}),
    "two-tower": ("two_tower", {}),
    "NeuMF of the paper": ("neumf", {**HONEST, "epochs": 15}),
    "NeuMF of the original": ("neumf", {**HONEST, "preset": "original", "epochs": 15}),
    "GMF of interactions": (
        "neumf",
        {**HONEST, "preset": "interactions", "part": "gmf", "factors": 128, "negatives": 1024, "epochs": 10},
    ),
}
DRAWN = ("two_tower", "neumf")
REFERENCE = "EASE"
COMMAND = "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/movielens.py --data FOLDER --seeds {}"
NOTE = (
    "A rating is implicit feedback; each user's ten latest are the test, and all films that the user has not "
    "rated before are ranked (9,742 in all, rated or not). Value: mean over users and seeds; interval: 95%, "
    "bootstrap over users; `gain`: over EASE, paired. Negatives of training are drawn from what a user has "
    "not rated in train. `AUROC`: of the held-out films among all others. `at probability 0.5`: of the "
    "test's positives and as many films that the user never rated, by NeuMF with its binary loss: accuracy, "
    "and precision and recall of either class. `validation AUROC`, by epoch: of one held-out film of each "
    "user against 99 drawn ones, epoch 0 before training; lowest and highest of the seeds."
)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of ratings.csv and movies.csv.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the systems that draw.")] = "0,1,2",
    only: Annotated[str | None, typer.Option(help="Only systems whose name contains this; no table.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("movielens", small, out)
    work, data = bench.work(work), bench.data(data, "ml-latest-small", miniature.movielens)
    shorter = {"epochs": 1} if small else {}
    if small:
        seeds = "0"
    behaviour = read(data)
    numbers = [int(part) for part in seeds.split(",")]
    parts: dict[str, list[dict[str, Any]]] = {}
    for seed in numbers:
        for system, (recipe, settings) in SYSTEMS.items():
            if (only and only not in system) or (seed != numbers[0] and recipe not in DRAWN):
                continue
            drawn = {"seed": seed, **(shorter if recipe in DRAWN else {})}
            found = _part(work, behaviour, recipe, {**settings, **drawn})
            parts.setdefault(system, []).append(found)
            print(system, seed, {k: round(float(np.mean(v)), 4) for k, v in found.items()}, flush=True)
    if only:
        return
    packages = ["torch", "onnxruntime", "numpy", "scipy"]
    bench.write(_rows(parts), command=COMMAND.format(seeds), seeds=numbers, packages=packages, note=NOTE)


def read(folder: Path) -> BehaviourSet:
    """The ten latest of each user are `test`, the latest tenth of the rest `validation`."""
    ratings = pyarrow.csv.read_csv(folder / "ratings.csv")
    films = pyarrow.csv.read_csv(folder / "movies.csv")
    times = instants(ratings["timestamp"])
    interactions = acts_of(ratings["userId"], ratings["movieId"], times, "rating", ratings["rating"])
    items = pa.table({"item_id": films["movieId"].cast(pa.string()), "title": films["title"]})
    return behaviour_set(interactions, items, None, BehaviourConfig(split="last_n", last_n=HELD_OUT))


def _part(work: Path, data: BehaviourSet, recipe: str, settings: dict[str, Any]) -> dict[str, Any]:
    key = hashlib.sha256(json.dumps([data.fingerprint(), recipe, settings], sort_keys=True).encode())
    file = work / "parts" / f"{recipe}-{settings['seed']}-{key.hexdigest()[:10]}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(_measured(work, data, recipe, settings)))
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def _measured(work: Path, data: BehaviourSet, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """By case and metric: a value for each user, or one."""
    import torch

    from etalage.training.run import train_behaviour

    recipe = recipes.find(name)
    config = recipe.config(**settings)
    known = {"train": data.before("test"), "validation": Interactions.none()}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders: dict[str, Any] = {"runs": work / "runs", "exports": Path(scratch), "fresh": True}
        seconds = cpu = 0.0
        if recipe.role != "closed_form":
            trained, _ = train_behaviour(recipe, config, data, **folders)
            seconds, cpu = trained.seconds, trained.cpu_seconds
            metric = recipe.bind(config, data).metric
            best = int(np.argmax([epoch[metric] for epoch in trained.history]))
            config = recipe.config(**{**settings, "epochs": best + 1})
            if name == "neumf":
                task = recipe.bind(config, data)
                torch.manual_seed(config.seed)
                with torch.inference_mode():
                    figures["validation AUROC|epoch 00"] = [task.validate(task.network().eval())["auroc"]]
                for number, epoch in enumerate(trained.history, start=1):
                    figures[f"validation AUROC|epoch {number:02d}"] = [epoch["auroc"]]
        whole = data.with_parts(**known)
        trained, exported = train_behaviour(recipe, config, whole, **folders)
        scorer: Any = open_scorer(exported)
        queries, truth = whole.queries("test")
        ranked = rank_all(scorer, queries, truth, ks=(10,), exclude=whole.seen("test"))
        for label, key in (("recall@10", "recall_at_10"), ("nDCG@10", "ndcg_at_10"), ("HR@10", "hit_at_10")):
            figures[f"all films|{label}"] = ranked.per_query[key].tolist()
        figures["all films|AUROC"] = ranked.per_query["auroc"].tolist()
        if name == "neumf" and config.loss == "bce":
            figures |= _at_half(scorer, whole)
    figures["training|wall"] = [seconds + trained.seconds]
    figures["training|cpu"] = [cpu + trained.cpu_seconds]
    return figures


def _at_half(scorer: Any, data: BehaviourSet) -> dict[str, Any]:
    """Positives of the test and as many drawn films, of which the sigmoid says yes or no."""
    queries, truth = data.queries("test")
    right = np.stack([np.pad(items, (0, HELD_OUT - len(items))) for items in truth])
    drawn = np.where(right > 0, candidates(data, "test", HELD_OUT, seed=0), 0)
    asked = np.concatenate([right, drawn], axis=1)
    scores, there = scorer.scores_of(queries, asked), asked > 0
    positive = np.broadcast_to(np.arange(2 * HELD_OUT) < HELD_OUT, asked.shape)[there]
    said = scorer.probability(scores[there]) >= 0.5
    case = "at probability 0.5"
    return {
        f"{case}|accuracy": [float((said == positive).mean())],
        f"{case}|precision of yes": [float(positive[said].mean())],
        f"{case}|recall of yes": [float(said[positive].mean())],
        f"{case}|precision of no": [float((~positive[~said]).mean())],
        f"{case}|recall of no": [float((~said[~positive]).mean())],
        f"{case}|AUROC": [float(auroc(scores[there], positive))],
    }


def _rows(parts: dict[str, list[dict[str, Any]]]) -> list[Row]:
    rows = []
    for system, found in parts.items():
        for key in found[0]:
            case, metric = key.split("|")
            values = np.array([one[key] for one in found if key in one])
            if case != "all films":
                flat, unit = values[:, 0], "s" if case == "training" else ""
                rows.append(Row(case, system, metric, flat.mean(), flat.min(), flat.max(), unit))
                continue
            mean = values.mean(axis=0)
            rows.append(Row(case, system, metric, *bootstrap(mean)))
            if system != REFERENCE:
                gain = paired_bootstrap(mean, np.array(parts[REFERENCE][0][key]))
                rows.append(Row(case, system, f"gain in {metric}", *gain))
    return sorted(rows, key=lambda row: (row.case, row.metric))


if __name__ == "__main__":
    run_main(main)
