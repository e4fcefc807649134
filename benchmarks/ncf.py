"""Neural collaborative filtering's own protocol on Last.fm and Amazon Music: who beats whom, by how much?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/ncf.py [--data FOLDER] [--seeds 0,1,2]

FOLDER holds NAME.train.rating, NAME.test.rating and NAME.test.negative of lastfm and AMusic (Deng et al.,
DeepCF, AAAI 2019). One positive of each user is ranked among the 99 negatives that were published with it.
What is measured is the export, as it would be served. Each part (data set, system, seed) runs in a process of
its own and is kept under build/, so that a benchmark that was stopped goes on where it was. Nothing was
chosen by the test part, but where the name of a system says so.
"""

import hashlib
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.datasets.published import ncf  # noqa: E402
from etalage.evaluation.ranking import rank_published  # noqa: E402
from etalage.features.leakage import check_leakage  # noqa: E402
from etalage.metrics import bootstrap, paired_bootstrap  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402

SETS = ("lastfm", "AMusic")
GMF = {"preset": "interactions", "part": "gmf"}
NEUMF = {"preset": "interactions"}
SYSTEMS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "lastfm": {
        "popularity": ("popularity", {}),
        "TF-IDF ItemKNN": ("item_knn", {}),
        "EASE, chosen on validation": ("ease", {"regularisation": 400.0, "neighbours": None}),
        "EASE, best on test": ("ease", {"regularisation": 800.0, "neighbours": None}),
        "NeuMF of the paper": ("neumf", {"factors": 64, "epochs": 20}),
        "GMF of interactions": ("neumf", GMF),
        "NeuMF of interactions": ("neumf", NEUMF),
        "the same, test positives spared": ("neumf", {**NEUMF, "spare_held_out": True}),
    },
    "AMusic": {
        "popularity": ("popularity", {}),
        "TF-IDF ItemKNN": ("item_knn", {}),
        "EASE, chosen on validation": ("ease", {"regularisation": 200.0, "neighbours": None}),
        "EASE, best on test": ("ease", {"regularisation": 400.0, "neighbours": None}),
        "NeuMF of the paper": ("neumf", {"factors": 64, "epochs": 20}),
        "GMF of interactions": ("neumf", {**GMF, "negatives": 512, "epochs": 16}),
        "NeuMF of interactions": ("neumf", {**NEUMF, "negatives": 512, "epochs": 16}),
        "the same, test positives spared": (
            "neumf",
            {**NEUMF, "negatives": 512, "epochs": 16, "spare_held_out": True},
        ),
    },
}
"""What each is trained with, on all of train; by data set and name, the recipe and its settings."""
PUBLISHED = {"lastfm": (0.8995, 0.6186), "AMusic": (0.4116, 0.2601)}
"""CFNet, table 3 of Deng et al."""
REFERENCE = "EASE, best on test"
COMMAND = "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/ncf.py --data FOLDER --seeds {}"
NOTE = (
    "HR@10 and nDCG@10 of one held-out positive of each user among its published negatives. `as published`: "
    "with the faults of the lists ({faults}); `cleaned`: those negatives left out. Value: mean over users "
    "and over {count} seeds (systems that draw nothing have one); interval: 95%, bootstrap over users. "
    "`gain`: over EASE with the regularisation that is best on the test part, paired. CFNet: as its paper "
    "gives it, chosen on the test part. `of interactions` (preset `interactions`): users are known by what "
    "they took, items by their ids and by who took them; no pair is told of itself. Negatives of training "
    "are drawn from all that a user did not take in train, like in the published code: a test positive may "
    "be drawn. `test positives spared`: it may not, which no honest protocol can know; the difference is "
    "what such a leak is worth. Seconds are of training alone, on one thread with other work beside it, "
    "`cpu` of processor time; memory is the peak of the whole process."
)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the rating files.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the systems that draw.")] = "0,1,2",
    only: Annotated[str | None, typer.Option(help="Only systems whose name contains this; no table.")] = None,
    without: Annotated[str, typer.Option(help="Systems to leave out, a semicolon between.")] = "",
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("ncf", small, out)
    work, data = bench.work(work), bench.data(data, "deepcf-amusic-lastfm", miniature.deepcf)
    sets, shorter = SETS, {}
    if small:
        seeds, sets, shorter = "0", ("lastfm",), {"epochs": 1}
    numbers = [int(part) for part in seeds.split(",")]
    parts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed in numbers:
        for name in sets:
            for system, (recipe, settings) in SYSTEMS[name].items():
                if (only and only not in system) or (seed != numbers[0] and recipe != "neumf"):
                    continue
                if system in without.split(";"):
                    continue
                drawn = {"seed": seed, **(shorter if recipe == "neumf" else {})}
                found = _part(bench, work, data, name, recipe, {**settings, **drawn})
                parts.setdefault((name, system), []).append(found)
                print(name, system, seed, {k: round(np.mean(v), 4) for k, v in found.items()}, flush=True)
    if only:
        return
    faults = []
    for name in sets:
        leakage = check_leakage(ncf(data, name, validation="none"))
        share = 1 - float(leakage.cleaned["test"].mean())
        faults.append(f"{share:.2%} of {name}'s are no true negatives")
    bench.write(
        _rows(parts, sets),
        command=COMMAND.format(seeds) + (f' --without "{without}"' if without else ""),
        seeds=numbers,
        packages=["torch", "onnxruntime", "numpy", "scipy"],
        note=NOTE.format(faults=", ".join(faults), count=len(numbers)),
    )


def _part(
    bench: Run, work: Path, data: Path, name: str, recipe: str, settings: dict[str, Any]
) -> dict[str, Any]:
    key = hashlib.sha256(json.dumps([name, recipe, settings], sort_keys=True).encode()).hexdigest()[:10]
    file = work / "parts" / f"{name}-{recipe}-{settings['seed']}-{key}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(bench.alone(_measured, data, work, name, recipe, settings)))
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def _measured(
    folder: Path, work: Path, name: str, recipe_name: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """By case and metric: a value for each user; and what the training took."""
    from etalage.training.run import train_behaviour

    data = ncf(folder, name, validation="none")
    clean = check_leakage(data).cleaned["test"]
    recipe = recipes.find(recipe_name)
    with tempfile.TemporaryDirectory() as scratch:
        trained, exported = train_behaviour(
            recipe, recipe.config(**settings), data, runs=work / "runs", exports=Path(scratch), fresh=True
        )
        queries, truth = data.queries("test")
        done = rank_published(open_scorer(exported), queries, truth, data.negatives["test"], clean)
    figures: dict[str, Any] = {}
    for case, ranked in (("as published", done.as_published), ("cleaned", done.cleaned)):
        figures[f"{case}|HR@10"] = ranked.per_query["hit_at_10"].tolist()
        figures[f"{case}|nDCG@10"] = ranked.per_query["ndcg_at_10"].tolist()
    return figures | {
        "training|wall": [trained.seconds],
        "training|cpu": [trained.cpu_seconds],
        "training|peak memory": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024],
    }


def _rows(parts: dict[tuple[str, str], list[dict[str, Any]]], sets: tuple[str, ...]) -> list[Row]:
    rows = []
    for (name, system), found in parts.items():
        for key in found[0]:
            case, metric = key.split("|")
            values = np.array([one[key] for one in found])  # (seeds, users)
            if case == "training":
                unit = "MB" if "memory" in metric else "s"
                flat = values[:, 0]
                rows.append(Row(f"{name}, {case}", system, metric, flat.mean(), flat.min(), flat.max(), unit))
                continue
            mean = values.mean(axis=0)
            rows.append(Row(f"{name}, {case}", system, metric, *bootstrap(mean)))
            if system != REFERENCE:
                than = np.mean([one[key] for one in parts[name, REFERENCE]], axis=0)
                rows.append(
                    Row(f"{name}, {case}", system, f"gain in {metric}", *paired_bootstrap(mean, than))
                )
    for name in sets:
        for metric, value in zip(("HR@10", "nDCG@10"), PUBLISHED[name], strict=True):
            rows.append(Row(f"{name}, as published", "CFNet, its paper", metric, value, value, value))
    return sorted(rows, key=lambda row: (row.case, row.metric))


if __name__ == "__main__":
    run_main(main)
