"""The simple recommenders on three public sets: what any deep model has to beat.

    python benchmarks/behaviour_baselines.py [--data FOLDER] [--only lastfm,AMusic,Beauty] [--tune]

lastfm and AMusic by NCF's protocol (one held-out item beside 99 published negatives), Amazon Beauty by its
last item among all 12,101. Every model is exported, and the export's scores are what is measured. Settings
were chosen on validation parts taken from the training parts (`--tune` compares some on such parts, and
prints). Each part (one set, one system) is kept under build/, so that a benchmark that was stopped goes on.
"""

import hashlib
import itertools
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.datasets.published import ncf, sequences  # noqa: E402
from etalage.evaluation.ranking import Ranked, rank_all, rank_published  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.features.leakage import check_leakage  # noqa: E402
from etalage.features.negatives import candidates  # noqa: E402
from etalage.metrics import bootstrap_all  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.runtime.scorer import Scorer  # noqa: E402
from etalage.training.behaviour_export import export_behaviour  # noqa: E402
from etalage.training.export_source import Source  # noqa: E402
from etalage.training.loop import fit  # noqa: E402

NCF, SEQUENCES = "deepcf-amusic-lastfm", "s3rec-amazon-beauty"
METRICS = {"hit_at_10": "HR@10", "ndcg_at_10": "nDCG@10"}
Settings = dict[str, Any]
KNN: Settings = {"similarity": "tf_idf", "neighbours": 300, "shrink": 10.0}
DEEP: Settings = {"network": "deep", "loss": "softmax", "epochs": 6}
SEQUENCE: Settings = {"similarity": "sequence", "backward": 0.3, "shrink": 100.0, "decay": 0.6}
SYSTEMS: dict[str, dict[str, tuple[str, Settings]]] = {
    "lastfm": {
        "popularity": ("popularity", {}),
        "ItemKNN, TF-IDF": ("item_knn", {**KNN, "shrink": 0.0, "strength": "log_value"}),
        "EASE": ("ease", {"regularisation": 200.0, "dropout": 0.5, "neighbours": None}),
        "iALS": ("ials", {"dimension": 32, "alpha": 10.0, "regularisation": 40.0, "frequency": 0.5}),
        "matrix factorisation": (
            "matrix_factorisation",
            {"learning_rate": 6e-3, "l2": 0.05, "epochs": 20},
        ),
        "deep matrix factorisation": ("matrix_factorisation", DEEP),
    },
    "AMusic": {
        "popularity": ("popularity", {}),
        "ItemKNN, TF-IDF": ("item_knn", {**KNN, "neighbours": 3000}),
        "EASE": ("ease", {"regularisation": 500.0, "neighbours": 500}),
        "iALS": ("ials", {"dimension": 32, "alpha": 40.0, "regularisation": 30.0, "frequency": 0.5}),
        "deep matrix factorisation": ("matrix_factorisation", {**DEEP, "scale": 6.0}),
    },
    "Beauty": {
        "popularity": ("popularity", {}),
        "ItemKNN, TF-IDF": ("item_knn", KNN),
        "ItemKNN, newer acts first": ("item_knn", {**KNN, "decay": 0.7}),
        "what follows what": ("item_knn", SEQUENCE),
        "EASE": ("ease", {"regularisation": 250.0, "neighbours": 500}),
        "iALS": ("ials", {"dimension": 64, "alpha": 40.0, "regularisation": 30.0, "frequency": 1.0}),
    },
}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "popularity": {},
    "item_knn": {
        "similarity": ["cosine", "tf_idf", "bm25"],
        "neighbours": [100, 300, 3000],
        "shrink": [0.0, 10.0, 50.0],
        "decay": [1.0, 0.7],
    },
    "ease": {"regularisation": [50.0, 200.0, 500.0], "dropout": [0.0, 0.5]},
    "ials": {
        "dimension": [32, 64],
        "alpha": [2.0, 10.0, 40.0],
        "regularisation": [10.0, 40.0],
        "frequency": [0.5],
    },
    "matrix_factorisation": {"network": ["deep"], "epochs": [6, 10], "scale": [6.0, 10.0]},
}
"""What `--tune` tries."""
NOTE = (
    "Intervals: 95% bootstrap over the users. lastfm (1,741 users), AMusic (1,776): the held-out item beside "
    "99 published negatives; `as published` counts all of them, though {lastfm:.1%} of lastfm's and "
    "{amusic:.1%} of AMusic's are items that the user has, or stand there twice; `cleaned` leaves those out. "
    "{cold:.0%} of AMusic's held-out items occur in no training row, against {cold_negative:.0%} of its "
    "negatives: a model that happens to score items without acts highly looks good there. "
    "Beauty (22,363 users): the last item among all that the user does not have; trained on all before it. "
    "Equal scores are ordered by lot."
)


def main(
    data: Annotated[Path | None, typer.Option(help=f"Folder of {NCF}/ and {SEQUENCES}/.")] = None,
    only: Annotated[str, typer.Option(help="Sets.")] = ",".join(SYSTEMS),
    tune: Annotated[bool, typer.Option(help="Compare settings on validation parts, print, stop.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("behaviour_baselines", small, out)
    work = bench.work(work)
    folders = {
        NCF: bench.data(data and data / NCF, NCF, miniature.deepcf),
        SEQUENCES: bench.data(data and data / SEQUENCES, SEQUENCES, miniature.beauty),
    }
    sets = {name: load(folders, name, tune) for name in only.split(",")}
    rows = []
    for name, found in sets.items():
        if tune:
            tuned(name, found)
            continue
        for system, (model, settings) in SYSTEMS[name].items():
            shorter = {"epochs": 1} if small and model == "matrix_factorisation" else {}
            rows += _part(work, name, system, model, {**settings, **shorter}, found)
    if tune:
        return
    bench.write(
        rows,
        command=f"OMP_NUM_THREADS=1 python benchmarks/behaviour_baselines.py --data FOLDER --only {only}",
        seeds=[0],
        packages=["numpy", "scipy", "torch", "onnxruntime"],
        note=NOTE.format(**_faults(sets)),
    )


def load(folders: dict[str, Path], name: str, tune: bool) -> BehaviourSet:
    """The set as it is tested; with `tune`, its validation part in place of the test part."""
    if name == "Beauty":
        data = sequences(folders[SEQUENCES] / "Beauty.txt")
    else:
        data = ncf(folders[NCF], name, validation="leave_one_out" if tune else "none")
    none = Interactions.none()
    if tune:
        held = data.part("validation")
        data = data.with_parts(validation=none, test=held)
        if name != "Beauty":
            return replace(data, negatives={"test": candidates(data, "test", 99, seed=0)})
    return data.with_parts(train=data.before("test"), validation=none)


def scored(data: BehaviourSet, model: str, settings: Settings, folder: Path) -> Scorer:
    recipe = recipes.find(model)
    config = recipe.config(**settings)
    trained = fit(recipe, recipe.bind(config, data), config, folder / "run")
    return open_scorer(export_behaviour(recipe, trained, Source.of(data), folder / "exports"))


def ranked(data: BehaviourSet, scorer: Scorer) -> dict[str, Ranked]:
    queries, truth = data.queries("test")
    if "test" not in data.negatives:
        return {"last item among all": rank_all(scorer, queries, truth, exclude=data.seen("test"))}
    clean = check_leakage(data).cleaned["test"]
    found = rank_published(scorer, queries, truth, data.negatives["test"], clean)
    return {"99 negatives, as published": found.as_published, "99 negatives, cleaned": found.cleaned}


def _part(
    work: Path, name: str, system: str, model: str, settings: Settings, data: BehaviourSet
) -> list[Row]:
    settled = json.dumps([name, model, recipes.find(model).config(**settings).model_dump(mode="json")])
    file = work / f"{name}-{model}-{hashlib.sha256(settled.encode()).hexdigest()[:8]}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            scorer = scored(data, model, settings, Path(folder))
            seconds = time.process_time() - started
            figures: dict[str, Any] = {"seconds": seconds}
            for case, found in ranked(data, scorer).items():
                values = {metric: found.per_query[metric] for metric in METRICS}
                figures[case] = {metric: list(one) for metric, one in bootstrap_all(values).items()}
        file.write_text(json.dumps(figures, indent=1))
        print(name, system, figures, flush=True)
    kept: dict[str, Any] = json.loads(file.read_text())
    seconds = kept.pop("seconds")
    rows = [
        Row(f"{name}: {case}", system, METRICS[metric], *interval)
        for case, metrics in kept.items()
        for metric, interval in metrics.items()
    ]
    return [
        *rows,
        Row(f"{name}: training and export", system, "processor time", seconds, seconds, seconds, "s"),
    ]


def tuned(name: str, data: BehaviourSet) -> None:
    """Every setting of GRIDS for the models of this set, on its validation part."""
    for model in dict.fromkeys(model for model, _ in SYSTEMS[name].values()):
        for values in itertools.product(*GRIDS[model].values()):
            settings = dict(zip(GRIDS[model], values, strict=True))
            with tempfile.TemporaryDirectory() as folder:
                found = ranked(data, scored(data, model, settings, Path(folder)))
            shown = {
                case: {METRICS[m]: round(float(np.mean(one.per_query[m])), 4) for m in METRICS}
                for case, one in found.items()
            }
            print(name, model, settings, shown, flush=True)


def _faults(sets: dict[str, BehaviourSet]) -> dict[str, float]:
    """Shares that the note names; NaN for a set that was left out."""
    found = dict.fromkeys(("lastfm", "amusic", "cold", "cold_negative"), float("nan"))
    for name in ("lastfm", "AMusic"):
        if name not in sets:
            continue
        data = sets[name]
        found[name.lower()] = 1 - float(check_leakage(data).cleaned["test"].mean())
        if name == "AMusic":
            known = np.unique(data.part("train").items)
            found["cold"] = 1 - float(np.isin(data.part("test").items, known).mean())
            found["cold_negative"] = 1 - float(np.isin(data.negatives["test"], known).mean())
    return found


if __name__ == "__main__":
    run_main(main)
