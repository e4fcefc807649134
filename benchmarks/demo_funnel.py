"""The demo shop's funnel beside an oracle that knows every shopper's hidden taste.

    OMP_NUM_THREADS=1 python benchmarks/demo_funnel.py [--items 5000] [--shoppers 2000] [--seeds 7,8,9]

The shop is drawn by code, so what each shopper truly likes is known (`demo`, `truth`); models
never see it. Recall after a stage: the share of the 20 items that a shopper likes best, of those in stock
that they do not have, that are still there. Value of a slate: the mean liking of its 10 items, as a share
of the oracle's own ten; `random` is the mean liking of everything.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.demo import tables  # noqa: E402
from etalage.demo.command import CONFIG, RANKER, SIMPLE  # noqa: E402
from etalage.demo.tables import DemoSize  # noqa: E402
from etalage.funnel.catalogue import Filters  # noqa: E402
from etalage.metrics import bootstrap  # noqa: E402
from etalage.shop import Shop  # noqa: E402

K, BEST = 10, 20


def made(folder: Path, size: DemoSize) -> Shop:
    """The demo's tables without its photos, its models of behaviour, its bundle."""
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    shop = Shop(folder)
    shop.lake.table("items").merge(tables.catalogue(size))
    shop.lake.table("users").merge(tables.shoppers(size))
    shop.lake.table("interactions").merge(tables.interactions(size))
    for model in (*SIMPLE, RANKER):
        shop.train(model)
    shop.evaluate(RANKER)
    shop.publish()
    return shop


def measured(shop: Shop, size: DemoSize, asked: int) -> dict[str, np.ndarray]:
    """(U,) values of `asked` shoppers by what is measured."""
    recommender, truth = shop.recommender(), tables.truth(size)
    catalogue, funnel = recommender.catalogue, recommender.funnel
    found: dict[str, list[float]] = {}
    with shop.live_store() as live:
        users = live.users(size.shoppers)[:: max(1, size.shoppers // asked)]
        stocked = recommender.stock(live).stocked
        for user in users:
            liking = np.concatenate([[0.0], truth.liking([user], catalogue.ids[1:])[0]])  # by row
            shopper = recommender._shopper(user, None, live, None)
            allowed = stocked.copy()
            allowed[shopper.seen] = False
            rows = np.flatnonzero(allowed)
            best = rows[np.argsort(-liking[rows], kind="stable")]
            answer = funnel.answer(shopper, K, Filters(), recommender.stock(live))
            brought, ranked, slate = answer.ranking.rows, answer.ranking.rows, answer.rows
            order = np.argsort(-answer.ranking.scores, kind="stable")
            oracle = liking[best[:K]].mean()
            parts = {
                "recall after retrieval": np.isin(best[:BEST], brought).mean(),
                "recall in the ranker's first 100": np.isin(best[:BEST], ranked[order[:100]]).mean(),
                "value of the slate": liking[slate].mean() / oracle,
                "value of the popular ten": liking[catalogue.by_popularity[:K]].mean() / oracle,
                "value of the best of the candidates": np.sort(liking[brought])[::-1][:K].mean() / oracle,
                "value of random items": liking[rows].mean() / oracle,
            }
            for name, value in parts.items():
                found.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def main(
    items: Annotated[int, typer.Option()] = 5000,
    shoppers: Annotated[int, typer.Option()] = 2000,
    seeds: Annotated[str, typer.Option(help="Of the shops that are drawn.")] = "7,8,9",
    asked: Annotated[int, typer.Option(help="So many shoppers of each.")] = 500,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("demo_funnel", small, out)
    if small:
        items, shoppers, seeds, asked = 300, 120, "7", 20
    every: dict[str, list[np.ndarray]] = {}
    numbers, started = [int(seed) for seed in seeds.split(",")], time.perf_counter()
    for seed in numbers:
        size = DemoSize(items, shoppers, seed)
        with tempfile.TemporaryDirectory() as folder:
            shop = made(Path(folder) / "shop", size)
            for name, values in measured(shop, size, asked).items():
                every.setdefault(name, []).append(values)
    rows = []
    for name, values in every.items():
        interval = bootstrap(np.concatenate(values))
        rows.append(Row("demo shop", "the demo's funnel", name, *interval))
    seconds = time.perf_counter() - started
    rows.append(Row("demo shop", "whole run", "time", seconds, seconds, seconds, "s"))
    bench.write(
        rows,
        command=f"OMP_NUM_THREADS=1 python benchmarks/demo_funnel.py --seeds {seeds}",
        seeds=numbers,
        packages=["numpy", "torch", "onnxruntime"],
        note=f"{items:,} items, {shoppers:,} shoppers, {asked} asked in each of {len(numbers)} shops. "
        f"Intervals: 95% bootstrap over the shoppers. The best {BEST}, the oracle's {K}: by hidden taste.",
    )


if __name__ == "__main__":
    run_main(main)
