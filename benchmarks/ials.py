"""iALS beside the ALS of the library `implicit`: processor time at equal factors, and what both find.

    pip install --no-deps --target PEER implicit tqdm
    OMP_NUM_THREADS=1 python benchmarks/ials.py --peer PEER [--only Beauty] [--rounds 3]

Public sets of implicit feedback: LightGCN's Last.fm and NCF's AMusic as published, the newest fifth of each
user's ratings of ml-latest-small, the last item of Amazon Beauty. All items that the user does not have are
ranked. `implicit` runs with one thread, in the same process, round by round in turn.
"""

import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import sparse

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from behaviour_baselines import scored  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.datasets.published import ncf, sequences  # noqa: E402
from etalage.evaluation.ranking import rank_all  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.features.vocabulary import Vocabulary  # noqa: E402
from etalage.metrics import bootstrap_all  # noqa: E402
from etalage.models.blas import one_thread  # noqa: E402
from etalage.models.counting import user_items  # noqa: E402
from etalage.models.ials import IalsConfig, IalsSolver  # noqa: E402
from etalage.runtime.embeddings import EmbeddingScorer  # noqa: E402
from etalage.runtime.export_files import ExportFiles  # noqa: E402
from etalage.runtime.scorer import Scorer  # noqa: E402

METRICS = {"recall_at_20": "R@20", "ndcg_at_10": "nDCG@10"}
FACTORS = (64, 128)
ITERATIONS = 15
ALPHA, REGULARISATION = 20.0, 60.0
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "iALS, defaults": ("ials", {}),
    "iALS, frequency 0": ("ials", {"frequency": 0.0}),
    "EASE, defaults": ("ease", {}),
}
NOTE = (
    "Processor time: {iterations} iterations, one thread each, the median of {rounds} rounds in turn, from "
    "the least to the most; `ratio`: Etalage's over that of implicit in the same round. Quality: alpha "
    "{alpha:g}, regularisation {reg:g}, {factors} factors for both; `iALS, frequency 0` "
    "minimises what implicit does. None of this is searched: training in a shop compares some pairs of alpha "
    "and regularisation on validation. Intervals of quality: 95% bootstrap over the users. Learned from all "
    "before the test."
)  # fmt: skip


def main(
    peer: Annotated[Path | None, typer.Option(help="Folder where pip put implicit; without: Etalage alone.")]
    = None,
    only: Annotated[str, typer.Option(help="Sets.")] = "Beauty,Last.fm,ml-latest-small,AMusic",
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    small: Small = False,
    out: Out = None,
) -> None:  # fmt: skip
    bench = Run.of("ials", small, out)
    if peer is not None:
        sys.path.append(str(peer))
    rounds, factors = (1, (8,)) if small else (rounds, FACTORS)
    rows: list[Row] = []
    for name in only.split(","):
        data = LOADERS[name](bench)
        print(name, len(data.users) - 1, len(data.items) - 1, len(data.part("train")), flush=True)
        for width in factors:
            rows += timed(name, data, width, rounds, peer is not None)
        rows += quality(name, data, factors[-1], peer is not None)
        print(*rows[-12:], sep="\n", flush=True)
    bench.write(
        rows,
        command="OMP_NUM_THREADS=1 python benchmarks/ials.py --peer PEER",
        seeds=[0],
        packages=["numpy", "scipy", *(["implicit"] if peer else [])],
        note=NOTE.format(
            iterations=ITERATIONS, rounds=rounds, alpha=ALPHA, reg=REGULARISATION, factors=factors[-1]
        ),
    )


# -- the sets ------------------------------------------------------------------------------------


def _lastfm(bench: Run) -> BehaviourSet:
    folder = bench.data(None, "lightgcn-lastfm", miniature.lightgcn)
    train, test = (np.loadtxt(folder / f"{n}1.txt", usecols=(0, 1)).astype(int) for n in ("data", "test"))
    return of_pairs(train, test, "lightgcn-lastfm")


def _movielens(bench: Run) -> BehaviourSet:
    folder = bench.data(None, "ml-latest-small", miniature.movielens)
    ratings = np.loadtxt(folder / "ratings.csv", delimiter=",", skiprows=1)
    ratings = ratings[np.lexsort((ratings[:, 3], ratings[:, 0]))]
    pairs = np.stack([np.unique(ratings[:, n], return_inverse=True)[1] + 1 for n in (0, 1)], axis=1)
    counts = np.bincount(pairs[:, 0])
    back = np.cumsum(counts)[pairs[:, 0]] - 1 - np.arange(len(pairs))
    newest = back < counts[pairs[:, 0]] // 5
    return of_pairs(pairs[~newest], pairs[newest], "ml-latest-small")


def _amusic(bench: Run) -> BehaviourSet:
    data = ncf(bench.data(None, "deepcf-amusic-lastfm", miniature.deepcf), "AMusic", validation="none")
    return data.with_parts(test=data.part("test"))


def _beauty(bench: Run) -> BehaviourSet:
    data = sequences(bench.data(None, "s3rec-amazon-beauty", miniature.beauty) / "Beauty.txt")
    return data.with_parts(train=data.before("test"), validation=Interactions.none())


LOADERS: Mapping[str, Callable[[Run], BehaviourSet]] = {
    "Beauty": _beauty,
    "Last.fm": _lastfm,
    "ml-latest-small": _movielens,
    "AMusic": _amusic,
}


def of_pairs(train: np.ndarray, test: np.ndarray, name: str) -> BehaviourSet:
    """(n, 2) user and item, from 1 on."""
    users, items = np.concatenate([train, test]).max(axis=0)
    vocabularies = [Vocabulary([f"{n:07d}" for n in range(count)]) for count in (users, items)]
    parts = {
        "train": Interactions.sorted(train[:, 0], train[:, 1], times=np.arange(len(train))),
        "test": Interactions.sorted(test[:, 0], test[:, 1], times=len(train) + np.arange(len(test))),
    }
    facts = {"split": "published", "name": name, "repeat": False}
    return BehaviourSet(*vocabularies, ("act",), parts, own_split=False, facts=facts)


# -- what is measured ----------------------------------------------------------------------------


def timed(name: str, data: BehaviourSet, factors: int, rounds: int, peer: bool) -> list[Row]:
    matrix = user_items(data, {}, "ials")
    config = IalsConfig(dimension=factors, iterations=ITERATIONS)
    seconds: dict[str, list[float]] = {"iALS": [], "implicit": []}
    for _ in range(rounds):
        solver = IalsSolver(config, data)
        seconds["iALS"].append(_spent(solver.count))
        if peer:
            seconds["implicit"].append(_spent(lambda: implicit_als(matrix, factors, ITERATIONS)))
    case = f"{name}: {factors} factors"
    rows = [_row(case, system, "processor time", some, "s") for system, some in seconds.items() if some]
    if peer:
        ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
        rows.append(_row(case, "iALS over implicit", "ratio", ratios))
    return rows


def _spent(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _row(case: str, system: str, metric: str, values: list[float], unit: str = "") -> Row:
    return Row(case, system, metric, statistics.median(values), min(values), max(values), unit)


def implicit_als(matrix: sparse.csr_matrix, factors: int, iterations: int) -> Any:
    """Fitted on the same loss: it takes an entry as the confidence."""
    als = importlib.import_module("implicit.als").AlternatingLeastSquares
    model = als(
        factors,
        regularization=REGULARISATION,
        alpha=1.0,
        iterations=iterations,
        num_threads=1,
        random_state=0,
    )
    confidence = matrix.astype(np.float32)
    confidence.data = 1 + np.float32(ALPHA) * confidence.data
    with one_thread():
        model.fit(confidence, show_progress=False)
    return model


def quality(name: str, data: BehaviourSet, factors: int, peer: bool) -> list[Row]:
    rows = []
    for system, (model, settings) in SYSTEMS.items():
        with tempfile.TemporaryDirectory() as folder:
            more = {"dimension": factors} if model == "ials" else {}
            rows += judged(name, system, data, scored(data, model, {**settings, **more}, Path(folder)))
    if peer:
        model = implicit_als(user_items(data, {}, "ials"), factors, ITERATIONS)
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "user_embeddings.npy", model.user_factors)
            np.save(Path(folder) / "item_embeddings.npy", model.item_factors)
            facts = {"name": "implicit", "role": "closed_form", "model_hash": "0" * 64, "settings": {}}
            opened = ExportFiles(Path(folder), facts, data.items, data.users, None)
            rows += judged(name, "implicit", data, EmbeddingScorer(opened))
    return rows


def judged(name: str, system: str, data: BehaviourSet, scorer: Scorer) -> list[Row]:
    queries, truth = data.queries("test")
    ranked = rank_all(scorer, queries, truth, ks=(10, 20), exclude=data.seen("test"))
    found = bootstrap_all({metric: ranked.per_query[metric] for metric in METRICS})
    return [Row(f"{name}: test", system, METRICS[metric], *one) for metric, one in found.items()]


if __name__ == "__main__":
    run_main(main)
