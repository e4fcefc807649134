"""How near does DLRM come to the best possible order of a million clicks, and what does its loop cost?

    python benchmarks/dlrm_synthetic.py [--seeds 0,1,2] [--rows 1000000]

The clicks are drawn (datasets/clicks.py), so that the probability of each is known: no model can order the
test rows better than it does. Settings were chosen on the validation rows of another seed, 100. Each part
(one system, one seed) runs in a process of its own, and is kept under build/.
"""

import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.datasets import clicks as generator  # noqa: E402
from etalage.datasets.clicks import draw_clicks  # noqa: E402
from etalage.features.examples import Examples  # noqa: E402
from etalage.metrics import auroc  # noqa: E402

SETTINGS: dict[str, Any] = {
    "dimension": 16, "bottom": (64,), "top": (64,), "min_count": 700, "batch_size": 2048, "epochs": 4,
    "average": 0.999, "learning_rate": 3e-3, "weight_decay": 5e-5, "table_rate": 0.1, "table_decay": 3e-4,
    "table_start": 1e-7,
}  # fmt: skip
ALPHAS = (2e-6, 1e-5)
"""Penalties of logistic regression, chosen on the validation rows."""
TREES = {"max_iter": 200, "learning_rate": 0.1, "max_leaf_nodes": 63, "early_stopping": False}
STEPS = 100
"""Of each of the two loops whose speeds are compared, three times in turn."""
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/dlrm_synthetic.py --seeds {} --rows {}"
NOTE = (
    "{rows} rows of 26 sparse and 13 dense features, the last tenth to test on, the tenth before to "
    "choose on. Value: mean over seeds, each with clicks of its own; interval: lowest and highest of "
    "{seeds}. `best possible`: the true probabilities, on the same test rows. Logistic regression: one-"
    "hot and dense, by averaged stochastic gradient descent. Boosted trees: 200 of 63 leaves, over codes "
    "and dense. `published shape`: 512-256-64 and 512-256, without a linear part, one epoch. Seconds: "
    "processor time of fitting, on one thread; memory: peak of a process that does nothing else. Speed: "
    "rows a processor second of our loop, with its data, shuffling, checks and checkpoint, and of a bare "
    "loop of forward, backward and step over batches that lie in memory; share: the one over the other."
)


def main(
    seeds: Annotated[str, typer.Option(help="Seeds of the clicks and of the models.")] = "0,1,2",
    rows: Annotated[int, typer.Option(help="Rows of each seed.")] = generator.MILLION,
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("dlrm_synthetic", small, out)
    work = bench.work(work)
    if small:
        seeds, rows = "0", 20_000
    world = [rows, generator.PAIRS, generator.WITH_DENSE, generator.DAMPING, generator.FACTORS]
    settled = json.dumps([SETTINGS, ALPHAS, TREES, STEPS, world])
    work = work / hashlib.sha256(settled.encode()).hexdigest()[:8]
    numbers = [int(part) for part in seeds.split(",")]
    parts: list[dict[str, float]] = []
    for seed in numbers:
        found: dict[str, float] = {}
        for measure in (_draw, _dlrm, _logistic, _speed, _trees, _published):
            found |= _part(bench, work, measure, seed, rows)
        parts.append(found)
    table = []
    for key in parts[0]:
        values = [part[key] for part in parts]
        case, system, metric, unit = key.split("|")
        table.append(Row(case, system, metric, float(np.mean(values)), min(values), max(values), unit))
    bench.write(
        table,
        command=COMMAND.format(seeds, rows),
        seeds=numbers,
        packages=["torch", "scikit-learn", "numpy"],
        note=NOTE.format(rows=f"{rows:,}", seeds=len(numbers)),
    )


def _part(
    bench: Run, work: Path, measure: Callable[[Path, int, int], dict[str, float]], seed: int, rows: int
) -> dict[str, float]:
    file = work / f"{measure.__name__.strip('_')}-{seed}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = bench.alone(measure, work / f"clicks-{seed}", seed, rows)
        file.write_text(json.dumps(found, indent=1))
        print(seed, {key: round(value, 4) for key, value in found.items()}, flush=True)
    loaded: dict[str, float] = json.loads(file.read_text())
    return loaded


def _draw(folder: Path, seed: int, rows: int) -> dict[str, float]:
    started = time.process_time()
    drawn = draw_clicks(rows, seed)
    seconds = time.process_time() - started
    drawn.examples.save(folder)
    return {
        "test|best possible|AUROC|": drawn.best_auroc(),
        "fitting|drawing the clicks|processor time|s": seconds,
    }


def _logistic(folder: Path, seed: int, rows: int) -> dict[str, float]:
    import scipy.sparse
    from sklearn.linear_model import SGDClassifier

    examples = Examples.open(folder)
    first = np.cumsum(examples.sizes) - examples.sizes
    inputs, labels = [], []
    for part in ("train", "validation", "test"):
        at = examples.rows(part)
        where = examples.sparse[at] + first
        ends = np.arange(0, where.size + 1, where.shape[1])
        ones = np.ones(where.size, np.float32)
        hot = scipy.sparse.csr_matrix((ones, where.ravel(), ends), shape=(len(at), sum(examples.sizes)))
        inputs.append(scipy.sparse.hstack([hot, examples.dense[at]]).tocsr())
        labels.append(examples.labels[at, 0] > 0)
    found = []
    for alpha in ALPHAS:
        started = time.process_time()
        model = SGDClassifier(
            loss="log_loss", alpha=alpha, max_iter=10, tol=None, average=True, random_state=seed
        )
        model.fit(inputs[0], labels[0])
        seconds = time.process_time() - started
        on = [auroc(model.decision_function(inputs[n]), labels[n]) for n in (1, 2)]
        found.append((on[0], on[1], seconds))
    _, test, seconds = max(found)
    return _figures("logistic regression", test, seconds)


def _trees(folder: Path, seed: int, rows: int) -> dict[str, float]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    examples = Examples.open(folder)
    train, test = (
        (np.hstack([examples.sparse[r].astype(np.float32), examples.dense[r]]), examples.labels[r, 0] > 0)
        for r in (examples.rows("train"), examples.rows("test"))
    )
    started = time.process_time()
    model = HistGradientBoostingClassifier(**TREES, random_state=seed).fit(*train)
    seconds = time.process_time() - started
    return _figures("boosted trees", auroc(model.decision_function(test[0]), test[1]), seconds)


def _dlrm(folder: Path, seed: int, rows: int) -> dict[str, float]:
    found = _fitted(folder, seed, SETTINGS, "DLRM")
    best = json.loads((folder.parent / f"draw-{seed}.json").read_text())["test|best possible|AUROC|"]
    found["test|best possible less DLRM|AUROC|"] = best - found["test|DLRM|AUROC|"]
    return found


def _published(folder: Path, seed: int, rows: int) -> dict[str, float]:
    found = _fitted(folder, seed, {"epochs": 1, "linear": False}, "DLRM, published shape")
    return {key: value for key, value in found.items() if not key.startswith("validation")}


def _fitted(folder: Path, seed: int, settings: dict[str, Any], name: str) -> dict[str, float]:
    from etalage.models.dlrm import RECIPE, DlrmConfig
    from etalage.training.loop import fit

    config = DlrmConfig(**{**settings, "seed": seed})
    task = RECIPE.bind(config, Examples.open(folder))
    with tempfile.TemporaryDirectory() as run:
        trained = fit(RECIPE, task, config, Path(run))
    assert trained.network is not None
    found = _figures(name, task.measure(trained.network, "test")["auroc"], trained.cpu_seconds)
    found[f"validation|{name}|AUROC before training|"] = trained.history[0]["before.auroc"]
    for number, epoch in enumerate(trained.history, start=1):
        found[f"validation|{name}|AUROC after epoch {number}|"] = epoch["auroc"]
    return found


def _figures(system: str, value: float, seconds: float) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        f"test|{system}|AUROC|": value,
        f"fitting|{system}|processor time|s": seconds,
        f"fitting|{system}|peak memory|MiB": peak,
    }


def _speed(folder: Path, seed: int, rows: int) -> dict[str, float]:
    """Both loops on the published shape."""
    import torch

    from etalage.models.dlrm import RECIPE, DlrmConfig
    from etalage.training import optim
    from etalage.training.context import Context
    from etalage.training.loop import fit

    steps = min(STEPS, max(1, rows // 2048))
    config = DlrmConfig(seed=seed, epochs=1, steps_per_epoch=steps, linear=False)
    whole = Examples.open(folder)
    task = RECIPE.bind(config, whole.take(whole.rows("train")))
    ready = [task.batch(0, step) for step in range(steps)]

    context = Context.of(config)

    def bare() -> float:
        torch.manual_seed(seed)
        network = task.network().train()
        optimiser = optim.build(task, network, config)
        started = time.process_time()
        for batch in ready:
            with context.autocast():
                loss = task.loss(network, batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return time.process_time() - started

    def ours() -> float:
        with tempfile.TemporaryDirectory() as run:
            started = time.process_time()
            fit(RECIPE, task, config, Path(run))
            return time.process_time() - started

    pairs = [(bare(), ours()) for _ in range(3)]
    theirs, own = (
        steps * config.batch_size / float(np.median(seconds)) for seconds in zip(*pairs, strict=True)
    )
    share = float(np.median([fast / slow for fast, slow in pairs]))
    return {
        "speed|bare loop|rows a second|": theirs,
        "speed|our loop|rows a second|": own,
        "speed|our loop|share of the bare loop|": share,
    }


if __name__ == "__main__":
    run_main(main)
