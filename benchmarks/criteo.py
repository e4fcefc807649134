"""Does DLRM hold its own on real clicks? Criteo's log, the 8,000 rows of it that are to be had in the open.

    python benchmarks/criteo.py [--data FOLDER] [--seeds 0,1,2,3,4]

FOLDER holds train.csv, dev.csv and test.csv. All three systems are chosen in the same way, by five folds of
train and dev together (7,609 rows), and fitted again to all of these; test (391 rows) is looked at once,
at the end. So few rows make wide intervals: the table says how wide. Parts are kept under build/.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.datasets.criteo import read_criteo  # noqa: E402
from etalage.features.examples import Examples  # noqa: E402
from etalage.metrics import auroc  # noqa: E402

FILES = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
FOLDS = 5
STRENGTHS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""C of logistic regression."""
TREES = tuple((leaves, rate) for leaves in (4, 8, 16) for rate in (0.03, 0.1))
"""Leaves and learning rate of boosted trees; the folds also choose how many, up to 300."""
GRID: tuple[dict[str, Any], ...] = tuple(
    {"min_count": least, "dropout": dropout, "weight_decay": decay, "table_decay": shrinking}
    for least in (5, 10, 20)
    for dropout in (0.0, 0.3)
    for decay in (1e-4, 1e-3)
    for shrinking in (3e-3, 6e-3)
)
COMMON: dict[str, Any] = {
    "dimension": 4, "bottom": (32,), "top": (16,), "linear": True, "batch_size": 256, "epochs": 12,
    "schedule": "constant", "learning_rate": 2e-3,
    "table_rate": 0.05, "table_start": 1e-5, "average": 0.98, "unknown": 0.1,
    "precision": "float32",
}  # fmt: skip
"""DLRM beside GRID; the folds also choose the number of epochs, which a constant rate allows."""
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/criteo.py --data FOLDER --seeds {}"
NOTE = (
    "{train} rows to learn from and to choose on, in {folds} folds, and {test} rows to test on, of "
    "Criteo's challenge of 2014 (the first rows of its log, split at random by others). AUROC; on test "
    "with its 95% bootstrap interval over the rows, in the folds with the lowest and the highest of them."
    " `DLRM`: the mean of the scores of {seeds} networks that differ in their seed alone; `one DLRM`: "
    "mean, lowest and highest of the {seeds}. Differences are of the same resamples. Chosen: {chosen}."
)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of train.csv, dev.csv and test.csv.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of DLRM.")] = "0,1,2,3,4",
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("criteo", small, out)
    work, data = bench.work(work), bench.data(data, "ctr-criteo-sample", miniature.criteo)
    grid = GRID
    if small:
        seeds, grid = "0", tuple({**one, "epochs": 1} for one in GRID[:1])
    examples, _ = read_criteo({part: data / name for part, name in FILES.items()}, min_count=2)
    settled = json.dumps([STRENGTHS, TREES, grid, COMMON, FOLDS, examples.fingerprint()])
    work = work / hashlib.sha256(settled.encode()).hexdigest()[:8]
    numbers = [int(part) for part in seeds.split(",")]
    linear = _part(work, "logistic", lambda: _logistic(examples))
    trees = _part(work, "trees", lambda: _trees(examples))
    chosen = _part(work, "dlrm", lambda: _choose(examples, grid, work))
    nets = [
        _part(work, f"dlrm-seed-{seed}", lambda seed=seed: _dlrm(examples, chosen["choice"], seed))
        for seed in numbers
    ]
    test = examples.rows("test")
    labels = examples.labels[test, 0] > 0
    systems = {
        "logistic regression": np.array(linear["test"]),
        "boosted trees": np.array(trees["test"]),
        "DLRM": np.mean([net["test"] for net in nets], axis=0),
    }
    rows = [
        Row("five folds", name, "AUROC", part["folds"][0], part["folds"][1], part["folds"][2])
        for name, part in zip((*list(systems)[:2], "one DLRM"), (linear, trees, chosen), strict=True)
    ]
    rows += _rows(systems, labels)
    alone = [auroc(np.array(net["test"]), labels) for net in nets]
    rows.append(Row("test", "one DLRM", "AUROC", float(np.mean(alone)), min(alone), max(alone)))
    found = (
        f"C {linear['choice']}; leaves, rate and number of trees {trees['choice']}; DLRM {chosen['choice']}"
    )
    bench.write(
        rows,
        command=COMMAND.format(seeds),
        seeds=numbers,
        packages=["torch", "scikit-learn", "numpy"],
        note=NOTE.format(
            train=len(examples) - len(test), test=len(test), folds=FOLDS, seeds=len(numbers), chosen=found
        ),
    )


def _part(work: Path, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    file = work / f"{name}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = measure()
        file.write_text(json.dumps(found))
        print(name, {key: value for key, value in found.items() if key != "test"}, flush=True)
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def _folds(examples: Examples) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and rows to judge, of all that is not test."""
    known = np.flatnonzero(examples.parts != 2)
    place = np.random.default_rng(0).permutation(len(known)) % FOLDS
    return [(known[place != fold], known[place == fold]) for fold in range(FOLDS)]


def _summary(values: list[float]) -> list[float]:
    return [float(np.mean(values)), min(values), max(values)]


def _logistic(examples: Examples) -> dict[str, Any]:
    """One-hot sparse features beside standardised dense ones."""
    import scipy.sparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    labels = examples.labels[:, 0]

    def scores(strength: float, fit: np.ndarray, ask: np.ndarray) -> np.ndarray:
        hot = OneHotEncoder(handle_unknown="ignore").fit(examples.sparse[fit])
        scale = StandardScaler().fit(examples.dense[fit])
        inputs = [
            scipy.sparse.hstack(
                [hot.transform(examples.sparse[r]), scale.transform(examples.dense[r])]
            ).tocsr()
            for r in (fit, ask)
        ]
        model = LogisticRegression(C=strength, max_iter=3000).fit(inputs[0], labels[fit])
        return np.asarray(model.decision_function(inputs[1]))

    found = {
        strength: [auroc(scores(strength, fit, ask), labels[ask] > 0) for fit, ask in _folds(examples)]
        for strength in STRENGTHS
    }
    choice = max(found, key=lambda strength: np.mean(found[strength]))
    test = scores(choice, np.flatnonzero(examples.parts != 2), examples.rows("test"))
    return {"choice": choice, "folds": _summary(found[choice]), "test": test.tolist()}


def _trees(examples: Examples) -> dict[str, Any]:
    """Histogram boosting; the 250 most frequent values of a sparse feature are its categories: its limit."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    labels, width = examples.labels[:, 0], examples.sparse.shape[1]
    known = np.flatnonzero(examples.parts != 2)
    columns = []
    for column in range(width):
        counts = np.bincount(examples.sparse[known, column], minlength=examples.sizes[column])
        counts[0] = 0
        place = np.full(len(counts), np.nan)
        often = [value for value in np.argsort(-counts)[:250] if counts[value] > 0]
        place[often] = np.arange(len(often))
        columns.append(place[examples.sparse[:, column]])
    inputs = np.column_stack([*columns, examples.dense])
    categorical = [True] * width + [False] * examples.dense.shape[1]

    def scores(leaves: int, rate: float, fit: np.ndarray, ask: np.ndarray) -> list[np.ndarray]:
        model = HistGradientBoostingClassifier(
            max_iter=300,
            max_leaf_nodes=leaves,
            learning_rate=rate,
            l2_regularization=1.0,
            categorical_features=categorical,
            early_stopping=False,
            random_state=0,
        ).fit(inputs[fit], labels[fit])
        return [step.ravel() for step in model.staged_decision_function(inputs[ask])]

    found: dict[tuple[int, float, int], list[float]] = {}
    for leaves, rate in TREES:
        for fit, ask in _folds(examples):
            steps = scores(leaves, rate, fit, ask)
            for count in range(10, 301, 10):
                found.setdefault((leaves, rate, count), []).append(auroc(steps[count - 1], labels[ask] > 0))
    choice = max(found, key=lambda one: np.mean(found[one]))
    test = scores(choice[0], choice[1], known, examples.rows("test"))[choice[2] - 1]
    return {"choice": list(choice), "folds": _summary(found[choice]), "test": test.tolist()}


def _choose(examples: Examples, grid: tuple[dict[str, Any], ...], work: Path) -> dict[str, Any]:
    """The settings of `grid`, and the number of epochs, of the highest mean AUROC over the folds."""
    best: tuple[float, dict[str, Any], list[float]] = (0.0, {}, [])
    for number, settings in enumerate(grid):
        curves = [
            _part(work, f"fold-{number}-{fold}", lambda s=settings, f=fold: _fold(examples, s, f))["curve"]
            for fold in range(FOLDS)
        ]
        means = np.mean(curves, axis=0)
        epochs = int(means.argmax()) + 1
        if means.max() > best[0]:
            best = (
                float(means.max()),
                {**settings, "epochs": epochs},
                [curve[epochs - 1] for curve in curves],
            )
    return {"choice": best[1], "folds": _summary(best[2])}


def _fold(examples: Examples, settings: dict[str, Any], fold: int) -> dict[str, Any]:
    fit, ask = _folds(examples)[fold]
    parts = np.full(len(examples), 2, np.uint8)
    parts[fit], parts[ask] = 0, 1
    trained = _train(replace(examples, parts=parts), settings, fold)[1]
    return {"curve": [epoch["auroc"] for epoch in trained.history]}


def _dlrm(examples: Examples, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Fitted to all rows but those of test, for as many epochs as the folds chose."""
    whole = replace(examples, parts=np.where(examples.parts == 2, 2, 0).astype(np.uint8))
    task, trained = _train(whole, settings, seed)
    return {"test": task.predict(trained.network, whole.rows("test"))[:, 0].tolist()}


def _train(examples: Examples, settings: dict[str, Any], seed: int) -> tuple[Any, Any]:
    from etalage.models.dlrm import RECIPE, DlrmConfig
    from etalage.training.loop import fit

    config = DlrmConfig(**{**COMMON, **settings, "seed": seed})
    task = RECIPE.bind(config, examples)
    with tempfile.TemporaryDirectory() as folder:
        return task, fit(RECIPE, task, config, Path(folder))


def _rows(systems: dict[str, np.ndarray], labels: np.ndarray) -> list[Row]:
    """AUROC of each, and of DLRM less each other one, over the same resamples of the rows."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(labels), len(labels)) for _ in range(2000)]
    values = {
        name: np.array([auroc(scores[d], labels[d]) for d in drawn]) for name, scores in systems.items()
    }
    exact = {name: auroc(scores, labels) for name, scores in systems.items()}
    *others, ours = systems
    rows = []
    for name in systems:
        low, high = np.quantile(values[name], [0.025, 0.975])
        rows.append(Row("test", name, "AUROC", exact[name], float(low), float(high)))
    for name in others:
        low, high = np.quantile(values[ours] - values[name], [0.025, 0.975])
        rows.append(
            Row(
                "paired difference",
                f"DLRM less {name}",
                "AUROC",
                exact[ours] - exact[name],
                float(low),
                float(high),
            )
        )
    return rows


if __name__ == "__main__":
    run_main(main)
