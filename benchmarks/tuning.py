"""What `etalage tune` gains: trials on validation, then the test part, once.

    python benchmarks/tuning.py [--data FOLDER] [--only "Beauty: item_knn"] [--trials 32]

A whole shop for each case: its data are ingested, the model is trained with its defaults, tuned by `etalage
tune`, and both exports are measured on the test part, shopper by shopper or photo by photo. Then the first
settings are tried again, two at a time, for the wall time of that over one at a time. A case that is measured
is kept under build/, so that a benchmark that was stopped goes on where it was.
"""

import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parents[1] / "examples" / "fashion_mnist"), str(Path(__file__).parent)]
import miniature  # noqa: E402
from run import load  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.evaluation.behaviour import ks_with  # noqa: E402
from etalage.evaluation.measured import measure  # noqa: E402
from etalage.evaluation.protocols import evaluate_embeddings  # noqa: E402
from etalage.metrics import bootstrap, paired_bootstrap  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.runtime.photos import PhotoEmbedder  # noqa: E402
from etalage.shop import Shop, behaviour_steps, photo_steps, tuning_steps  # noqa: E402
from etalage.training.tune import JOURNAL  # noqa: E402
from etalage.training.workers import hand_over, shared  # noqa: E402

SEQUENCES, NCF, PHOTOS = "s3rec-amazon-beauty", "deepcf-amusic-lastfm", "fashion-mnist"
METRIC, PHOTO_METRIC = "recall_at_10", "hit_at_1"
AGAIN = 8
"""Trials that are tried again, one and two at a time."""
CASES: dict[str, tuple[str, str, dict[str, str]]] = {
    "Beauty: item_knn": ("item_knn", "Beauty", {}),
    "Beauty: ease": ("ease", "Beauty", {}),
    "lastfm: item_knn": ("item_knn", "lastfm", {}),
    "lastfm: two_tower": ("two_tower", "lastfm", {"epochs": "6"}),
    "Fashion-MNIST: CNN": ("image_similarity", "Fashion-MNIST", {"epochs": "3", "steps_per_epoch": "100"}),
}
"""Case → model, set, and settings that no trial changes."""
TOML = """name = "{name}"
[behaviour]
split = "leave_one_out"
has = ["view", "rating"]
[evaluate]
retrieval_metric = "{metric}"
"""
NOTE = (
    "Beauty, lastfm: each shopper's last item is the test, the one before it validation; every item that the "
    "shopper does not have is ranked. Fashion-MNIST: the 10,000 test images search in the 60,000 others, of "
    "which 2% are validation; R@1: the nearest bears the query's class; `defaults` are the settings of "
    "examples/fashion_mnist, both trained for 3 epochs of 100 steps. `tuned`: the best of {trials} trials on "
    "validation, the first of which has the defaults; the test part was measured once, for both. Intervals: "
    "95% bootstrap over the shoppers or queries, of the gain paired. `2 in parallel / 1`: wall time of the "
    "settings of the first {again} trials again, two at a time over one at a time, on two cores; "
    "workers start and import what they need within it."
)


def main(
    data: Annotated[Path | None, typer.Option(help=f"Folder of {SEQUENCES}/, {NCF}/ and {PHOTOS}/.")] = None,
    only: Annotated[str, typer.Option(help="Cases, by comma.")] = ",".join(CASES),
    trials: Annotated[int, typer.Option(min=2)] = 32,
    work: Annotated[Path | None, typer.Option(help="Where shops are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("tuning", small, out)
    trials = 3 if small else trials
    folders = {
        "Beauty": bench.data(data and data / SEQUENCES, SEQUENCES, miniature.beauty),
        "lastfm": bench.data(data and data / NCF, NCF, miniature.deepcf),
        "Fashion-MNIST": bench.data(data and data / PHOTOS, PHOTOS, miniature.fashion),
    }
    rows: list[Row] = []
    for case in ["Beauty: item_knn", "Fashion-MNIST: CNN"] if small else only.split(","):
        model, name, fixed = CASES[case]
        if small and "epochs" in fixed:
            fixed = {"epochs": "2", "steps_per_epoch": "2"}
        folder = bench.work(work) / case.replace(": ", "-")
        kept = folder.with_name(f"{folder.name}-{trials}.json")
        if not kept.exists():
            found = measured(opened(folder, name, folders[name]), case, model, fixed, trials)
            kept.write_text(json.dumps([asdict(row) for row in found]), encoding="utf-8")
        rows += [Row(**row) for row in json.loads(kept.read_text(encoding="utf-8"))]
    bench.write(
        rows,
        command=f'OMP_NUM_THREADS=1 python benchmarks/tuning.py --only "{only}" --trials {trials}',
        seeds=[0],
        packages=["numpy", "scipy", "torch", "optuna"],
        note=NOTE.format(trials=trials, again=min(AGAIN, trials)),
    )


def opened(folder: Path, name: str, data: Path) -> Shop:
    """The shop of a set; one that an earlier run left begins anew."""
    shutil.rmtree(folder, ignore_errors=True)
    if name == "Fashion-MNIST":
        return load(folder, data)
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text(TOML.format(name=name, metric=METRIC), encoding="utf-8")
    shop = Shop(folder)
    if name == "Beauty":
        shop.ingest(data / "Beauty.txt", "interactions", format="sequences")
    else:
        for file in sorted(data.glob(f"{name}.t*.rating")):
            shop.ingest(file, "interactions", format="ncf")
    return shop


def measured(shop: Shop, case: str, model: str, fixed: dict[str, str], trials: int) -> list[Row]:
    _, default = shop.train(model, fixed)
    done = shop.tune(model, trials=trials, settings=fixed)
    assert done.trained is not None and done.best.value is not None
    of_test = photo_hits if model == "image_similarity" else shopper_recalls
    name, values = of_test(shop, {"defaults": default, "tuned": done.trained[1]})
    rows = [Row(case, system, name, *bootstrap(one)) for system, one in values.items()]
    rows.append(
        Row(case, "tuned less defaults", name, *paired_bootstrap(values["tuned"], values["defaults"]))
    )
    relative = values["tuned"].mean() / max(values["defaults"].mean(), 1e-12) - 1
    rows.append(Row(case, "tuned over defaults", "gain", *[100 * float(relative)] * 3, "%"))
    if done.current is not None and done.current.value is not None:
        found_by = done.best.value - done.current.value
        rows.append(Row(case, "tuned less defaults", f"{done.metric} on validation", *[found_by] * 3))
    states = Counter(one.state for one in done.trials)
    said = ", ".join(f"{count} {state}" for state, count in states.items())
    seconds = sum(one.cpu_seconds for one in done.trials)
    rows.append(Row(case, f"{len(done.trials)} trials ({said})", "processor time", *[seconds] * 3, "s"))
    one, two = (_again(shop, done, model, parallel) for parallel in (1, 2))
    rows.append(Row(case, "2 in parallel / 1", "wall", *[two / one] * 3))
    print(case, json.dumps(done.best.settings), done.toml, flush=True)
    return rows


def shopper_recalls(shop: Shop, exports: dict[str, Path]) -> tuple[str, dict[str, np.ndarray]]:
    """The metric's name; system → its recall@10 of each shopper's test item."""
    whole = behaviour_steps.behaviour(shop).data
    config = shop.config.evaluate.model_copy(update={"ks": ks_with((), METRIC)})
    systems = {name: open_scorer(folder) for name, folder in exports.items()}
    found = measure(whole, systems, "test", "embedder", config, 0, None).values("all")
    return "recall@10", {name: found[name][METRIC] for name in systems}


def photo_hits(shop: Shop, exports: dict[str, Path]) -> tuple[str, dict[str, np.ndarray]]:
    """The metric's name; system → of each test photo, whether the nearest of the others bears its class."""
    whole, hits = photo_steps.payload(shop), {}
    for name, folder in exports.items():
        embedder = PhotoEmbedder.open(folder, threads=1)
        photos = photo_steps.photos(shop, whole, embedder.encoder)
        found, labels = embedder.embed_pixels(photos.pixels_NHWC), photos.labels_N
        queries, index = photos.rows("test"), np.flatnonzero(photos.parts_N != "test")
        scores = evaluate_embeddings(found[queries], labels[queries], found[index], labels[index], ks=(1,))
        hits[name] = scores.per_query[PHOTO_METRIC]
    return "R@1", hits


def _again(shop: Shop, done: Any, model: str, parallel: int) -> float:
    """Seconds of wall clock for the settings of the first trials, tried again so many at a time."""
    recipe = shop.models.find(model)
    config = recipe.config(**done.settings)
    _, task, _ = tuning_steps.task_of(shop, recipe, config, done.settings, recipe.space, None)
    folder = done.study.folder / f"again-{parallel}"
    folder.mkdir()
    hand_over(replace(task, data=shared(task.data, folder / "data")), folder)
    settings = [one.settings for one in done.trials if one.state == "done"][:AGAIN]
    trial = partial(tuning_steps.run_trial, folder, recipe.source, report=tuning_steps.unheard)
    started = time.perf_counter()
    for _ in shop.engine.map(trial, settings, workers=parallel):
        pass
    seconds = time.perf_counter() - started
    assert (done.study.folder / JOURNAL).exists()
    shutil.rmtree(folder)
    return seconds


if __name__ == "__main__":
    run_main(main)
