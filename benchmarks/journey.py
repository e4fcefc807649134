"""Retrieve, then rank: does the whole funnel beat each of its stages on a year of receipts?

    OMP_NUM_THREADS=1 python benchmarks/journey.py [--data FOLDER] [--seeds 0,1,2]

FOLDER holds the Parquet files of The Complete Journey (simulated from real grocery shopping: realistic, not
measured behaviour). Receipts are cut at moments: retrievers learn from the first 70%, DLRM from what they
found for the shoppers of the next 10%, settings were chosen on the 10% after that, the figures are of the
last 10%.
Every system ranks the whole catalogue of 92,331 products for every household; what was bought before may be
bought again. The shop is the one of examples/journey_dlrm.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "examples" / "journey_dlrm")]
import miniature  # noqa: E402
import run as example  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.evaluation.ranking import Ranked, rank_all, rank_lists  # noqa: E402
from etalage.evaluation.slices import Asked, ask, slices  # noqa: E402
from etalage.features.leakage import check_leakage  # noqa: E402
from etalage.funnel.candidates import Excluded, candidates, fused  # noqa: E402
from etalage.metrics import bootstrap_all, paired_bootstrap  # noqa: E402
from etalage.runtime.export_files import newest_export, read_facts  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.runtime.pairs import PairScorer  # noqa: E402
from etalage.shop import Shop  # noqa: E402
from etalage.shop.behaviour_steps import QUOTA, Behaviour, behaviour, retrievers  # noqa: E402

RETRIEVERS = ("popularity", "buy_again", "item_knn", "ials")
FUNNEL, RETRIEVED = "retrieve + DLRM", "retrieved order"
METRICS = ("recall_at_20", "ndcg_at_10", "hit_at_10")
KS = (10, 20)
SLICES = ("all", "cold items among all", "rare items", "cold users", "taken again", "taken anew")
BLOCK = 128


def measured(shop: Shop, whole: Behaviour) -> tuple[dict[str, Ranked], Asked, float]:
    """Every system on the test part; and the share of what was bought that is among the candidates."""
    data = whole.data
    check_leakage(data)
    asked = ask(data, "test", 1_000_000)
    scorers = retrievers(shop, data)
    quotas = {name: shop.config.funnel.retrievers.get(name, QUOTA) for name in scorers}
    ways = [scorer.retriever() for scorer in scorers.values()]
    ranker = open_scorer(newest_export(shop.exports("dlrm")))
    assert isinstance(ranker, PairScorer)
    rows, ordered, plain = [], [], []
    for start in range(0, len(asked.queries), BLOCK):
        some = asked.queries.block(start, min(start + BLOCK, len(asked.queries)))
        found = candidates(ways, some, quotas, None, Excluded.none(len(some)))
        rows.append(found.rows)
        ordered.append(ranker.scores_of(some, found.rows, found.scores))
        plain.append(fused(found, {}))
    width = max(part.shape[1] for part in rows)
    items = _padded(rows, width, 0)
    ranked = {
        FUNNEL: rank_lists(_padded(ordered, width, -np.inf), items, asked.truth, ks=KS),
        RETRIEVED: rank_lists(_padded(plain, width, -np.inf), items, asked.truth, ks=KS),
    }
    for name, scorer in scorers.items():
        ranked[name] = rank_all(scorer, asked.queries, asked.truth, ks=KS)
    inside = [np.isin(right, items[query]) for query, right in enumerate(asked.truth)]
    return ranked, asked, float(np.concatenate(inside).mean())


def _padded(parts: list[np.ndarray], width: int, filler: float) -> np.ndarray:
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=filler) for part in parts]
    )


def one_seed(shop: Shop, whole: Behaviour, seed: int) -> list[dict[str, object]]:
    """Train what depends on the seed, measure everything; rows as JSON has them."""
    costs = {}
    for name in (*RETRIEVERS, "dlrm"):
        started = time.perf_counter()
        shop.train(name, {"seed": str(seed)})
        facts = read_facts(newest_export(shop.exports(name)))
        costs[name] = (facts["cpu_seconds"], time.perf_counter() - started)
    ranked, asked, inside = measured(shop, whole)
    kinds = slices(whole.data, asked)
    rows: list[dict[str, object]] = [
        {"case": "all", "system": "candidates", "metric": "recall", "value": inside}
    ]
    for case in SLICES:
        if case not in kinds or not kinds[case].right.any():
            continue
        values = {name: one.only(kinds[case].right)[0].per_query for name, one in ranked.items()}
        for name, found in values.items():
            intervals = bootstrap_all({metric: found[metric] for metric in METRICS})
            rows += [{"case": case, "system": name, "metric": m, **i._asdict()} for m, i in intervals.items()]
        for metric in METRICS:
            single = max((n for n in values if n != FUNNEL), key=lambda n: float(values[n][metric].mean()))
            gain = paired_bootstrap(values[FUNNEL][metric], values[single][metric])
            rows.append({"case": case, "system": f"gain over {single}", "metric": metric, **gain._asdict()})
    rows += [
        {"case": "cost", "system": n, "metric": "processor time", "value": c[0]} for n, c in costs.items()
    ]
    return rows


def main(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the Parquet files of The Complete Journey.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "0,1,2",
    weeks: Annotated[int | None, typer.Option(help="Only the first weeks.")] = None,
    households: Annotated[int | None, typer.Option(help="Only so many households.")] = None,
    parts: Annotated[Path | None, typer.Option(help="Where finished seeds are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("journey", small, out)
    parts, data = bench.work(parts), bench.data(data, "complete-journey", miniature.journey)
    if small:
        seeds = "0"
    folder = parts / "shop"
    loaded = folder / "tables" / "interactions"
    shop = Shop(folder) if loaded.exists() else example.load(folder, data, weeks, households)
    (folder / "shop.toml").write_bytes((ROOT / "examples" / "journey_dlrm" / "shop.toml").read_bytes())
    whole = behaviour(shop)
    wanted = [int(seed) for seed in seeds.split(",")]
    for seed in wanted:
        file = parts / f"seed-{seed}.json"
        if not file.exists():
            found = one_seed(shop, whole, seed)
            file.write_text(json.dumps(found), encoding="utf-8")
            print(f"seed {seed}: done")
    every = [json.loads((parts / f"seed-{seed}.json").read_text(encoding="utf-8")) for seed in wanted]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts = whole.data
    note = (
        f"{len(facts.users) - 1:,} households, {len(facts.items) - 1:,} products, "
        f"{len(facts.part('train')):,} purchases in train. Values are means over seeds; the interval is the "
        "lowest low and the highest high of the seeds' 95% bootstrap intervals over households. `gain "
        "over X`: the funnel's, paired by household, over the best single stage. `candidates`: the share of "
        "what was bought that any retriever brought. The data are simulated from real shopping."
    )
    bench.write(
        [*_joined(every), Row("cost", "whole run", "peak memory", peak, peak, peak, "GiB")],
        command=f"OMP_NUM_THREADS=1 python benchmarks/journey.py --data FOLDER --seeds {seeds}",
        seeds=wanted,
        packages=["numpy", "scipy", "torch", "onnxruntime"],
        note=note,
    )


def _joined(every: list[list[dict[str, object]]]) -> list[Row]:
    """One row of all seeds for each case, system and metric; gains over the best stage."""
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for rows in every:
        for row in rows:
            key = (str(row["case"]), str(row["system"]), str(row["metric"]))
            found.setdefault(key, []).append(row)  # type: ignore[arg-type]
    made = []
    for (case, system, metric), some in found.items():
        value = float(np.mean([row["value"] for row in some]))
        low = min(row.get("low", row["value"]) for row in some)
        high = max(row.get("high", row["value"]) for row in some)
        made.append(Row(case, system, metric, value, low, high, "s" if metric == "processor time" else ""))
    return made


if __name__ == "__main__":
    run_main(main)
