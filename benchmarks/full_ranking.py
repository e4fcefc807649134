"""How long does it take, and how much memory, to rank a whole catalogue for every shopper?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/full_ranking.py [--users 200000]

Each case runs in a process of its own, so that its peak memory is its own. Seconds are of processor time.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.config import EvaluateConfig  # noqa: E402
from etalage.evaluation.behaviour import BehaviourEvaluator  # noqa: E402
from etalage.evaluation.evaluation import evaluate  # noqa: E402
from etalage.evaluation.ranking import PRODUCT_BYTES, rank_all  # noqa: E402
from etalage.evaluation.slices import Questions, ask  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.features.vocabulary import Vocabulary  # noqa: E402
from etalage.runtime.embeddings import EmbeddingScorer  # noqa: E402
from etalage.runtime.export_files import ExportFiles  # noqa: E402
from etalage.runtime.item_item import ItemItemScorer  # noqa: E402

D, NEIGHBOURS, K = 64, 100, 20
BARE, NAIVE = 20_000, 300
"""Shoppers of the two comparisons; their seconds are multiplied up to all shoppers."""
CASES = ("embeddings", "item_item", "evaluate")
COMMAND = (
    "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/full_ranking.py "
    "--users {} --items {} --acts {}"
)
NOTE = (
    "{acts:,} interactions of {users:,} shoppers with {items:,} items, drawn from a Zipf-like law; each "
    "shopper's last is what is to be found, and {asked:,} of them did not have it before. `etalage`: its "
    "rank among all items that its shopper does not have, the first {k} items, all metrics, for each. "
    "`limit`: the bare product of embeddings ({d} numbers) and numpy.argpartition for the first {k}, nothing "
    "else, measured on {bare:,} shoppers and multiplied up. `loop`: shopper by shopper, every item sorted, "
    "measured on {naive} shoppers and multiplied up. `item_item`: {neighbours} neighbours an item, out of "
    "the history. `evaluate`: all of `etalage evaluate` but its report: leakage check, validation and test, "
    "{systems} systems, the 10,000 shoppers that it draws by default. Seconds are of processor time on one "
    "thread, one run, other work beside it; memory is the peak of the whole process, {data:.0f} MB of it the "
    "interactions themselves."
)


def main(
    users: Annotated[int, typer.Option(help="Shoppers.")] = 200_000,
    items: Annotated[int, typer.Option(help="Items.")] = 40_000,
    acts: Annotated[int, typer.Option(help="Interactions of each shopper.")] = 50,
    case: Annotated[str | None, typer.Option(help="One case alone, printed as JSON.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("full_ranking", small, out)
    if small:
        users, items, acts = 400, 300, 8
    if case is not None:
        print(json.dumps(_measured(case, users, items, acts)))
        return
    found = {}
    for name in CASES:
        command = [sys.executable, __file__, "--case", name]
        command += ["--users", str(users), "--items", str(items), "--acts", str(acts)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, {key: round(value, 2) for key, value in found[name].items()}, flush=True)
    rows = []
    for name, figures in found.items():
        for key, value in figures.items():
            if "|" in key:
                system, metric = key.split("|")
                rows.append(
                    Row(name, system, metric, value, value, value, "s" if metric == "seconds" else "MB")
                )
    whole = found["embeddings"]
    bench.write(
        rows,
        command=COMMAND.format(users, items, acts),
        seeds=[0],
        packages=["numpy"],
        note=NOTE.format(
            acts=users * acts, users=users, items=items, asked=int(whole["asked"]), k=K, d=D, bare=BARE,
            naive=NAIVE, neighbours=NEIGHBOURS, systems=3, data=whole["data"],
        ),
    )  # fmt: skip


def _measured(case: str, users: int, items: int, acts: int) -> dict[str, float]:
    data = _drawn(users, items, acts)
    megabytes = sum(c.nbytes for part in data.parts.values() for c in vars(part).values()) / 2**20
    with tempfile.TemporaryDirectory() as folder:
        embedder = _embedder(Path(folder), data)
        figures: dict[str, float] = {"data": megabytes}
        if case == "evaluate":
            neighbours = _neighbours(Path(folder), data)
            config = EvaluateConfig(ks=(K,))
            systems = {"embeddings": embedder, "item_item": neighbours}
            seconds = _cpu(lambda: evaluate(BehaviourEvaluator(data, systems, config)))
            return figures | {"etalage|seconds": seconds, "etalage|peak memory": _peak()}
        asked, asking = _timed(lambda: ask(data, "test", users))
        scorer = embedder if case == "embeddings" else _neighbours(Path(folder), data)
        figures |= {"asked": len(asked.truth), "questions|seconds": asking}
        figures["questions|peak memory"] = _peak()
        seconds = _cpu(lambda: _etalage(scorer, asked))
        figures |= {"etalage|seconds": seconds, "etalage|peak memory": _peak()}
        if case == "embeddings":
            scale = len(asked.truth)
            some = min(BARE, scale)
            figures["limit|seconds"] = _cpu(lambda: _bare(embedder, asked, some)) * scale / some
        few = min(NAIVE, len(asked.truth))
        figures["loop|seconds"] = _cpu(lambda: _loop(scorer, asked, few)) * len(asked.truth) / few
    return figures


def _etalage(scorer: Any, asked: Questions) -> float:
    ranked = rank_all(scorer, asked.queries, asked.truth, ks=(1, 10, K), exclude=asked.seen)
    return float(ranked.per_query[f"ndcg_at_{K}"].mean())


def _bare(scorer: EmbeddingScorer, asked: Questions, count: int) -> None:
    embedded = scorer.embed_queries(asked.queries.block(0, count))
    items = np.ascontiguousarray(scorer.item_embeddings)
    step = PRODUCT_BYTES // (4 * len(items))
    buffer = np.empty((step, len(items)), np.float32)
    for start in range(0, count, step):
        rows = embedded[start : start + step]
        scores = np.matmul(rows, items.T, out=buffer[: len(rows)])
        np.argpartition(scores, len(items) - K, axis=1)


def _loop(scorer: Any, asked: Questions, count: int) -> list[int]:
    ranks = []
    for query in range(count):
        scores = scorer.scores(asked.queries.block(query, query + 1))[0].copy()
        begin, end = np.searchsorted(asked.seen.users, asked.queries.users[query] + np.arange(2))
        scores[asked.seen.items[begin:end]] = -np.inf
        order = np.argsort(-scores)
        ranks += [int(np.flatnonzero(order == item)[0]) + 1 for item in asked.truth[query]]
    return ranks


def _drawn(users: int, items: int, acts: int) -> BehaviourSet:
    """Each shopper's last act is `test`, the one before `validation`."""
    rng = np.random.default_rng(0)
    famous = np.cumsum(1 / np.arange(1, items + 1) ** 0.8)
    rows = rng.permutation(items)[np.searchsorted(famous, rng.random(users * acts) * famous[-1])] + 1
    owners = np.repeat(np.arange(1, users + 1), acts)
    place = np.tile(np.arange(acts), users)
    times = place * 1_000_000
    parts = {
        name: Interactions.sorted(owners[which], rows[which], times=times[which])
        for name, which in (
            ("train", place < acts - 2),
            ("validation", place == acts - 2),
            ("test", place == acts - 1),
        )
    }
    vocabularies = [Vocabulary([f"{n:07d}" for n in range(count)]) for count in (users, items)]
    # Shoppers take the same item twice here, so the split is like one that somebody else published.
    return BehaviourSet(*vocabularies, (), parts, own_split=False, facts={"split": "leave_one_out"})


def _opened(folder: Path, data: BehaviourSet, scoring: str) -> ExportFiles:
    facts = {"name": scoring, "role": "closed_form", "model_hash": "0" * 64, "kind": scoring, "settings": {}}
    return ExportFiles(folder, facts, data.items, data.users, None)


def _embedder(folder: Path, data: BehaviourSet) -> EmbeddingScorer:
    rng = np.random.default_rng(1)
    for name, vocabulary in (("user", data.users), ("item", data.items)):
        np.save(folder / f"{name}_embeddings.npy", rng.standard_normal((len(vocabulary), D), np.float32))
    return EmbeddingScorer(_opened(folder, data, "embeddings"))


def _neighbours(folder: Path, data: BehaviourSet) -> ItemItemScorer:
    """As large as a real matrix is; what stands in it does not change the time."""
    rng = np.random.default_rng(2)
    count = len(data.items)
    np.save(folder / "indptr.npy", np.concatenate([[0], np.arange(count) * NEIGHBOURS]))
    np.save(folder / "indices.npy", rng.integers(1, count, (count - 1) * NEIGHBOURS).astype(np.int32))
    np.save(folder / "weights.npy", rng.random((count - 1) * NEIGHBOURS, np.float32))
    return ItemItemScorer(_opened(folder, data, "item_item"))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def _cpu(work: Callable[[], Any]) -> float:
    return _timed(work)[1]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    run_main(main)
