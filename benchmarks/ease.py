"""EASE solved whole, and each item among its neighbours alone: what that loses, and what it takes.

    OMP_NUM_THREADS=1 python benchmarks/ease.py [--only Beauty,Last.fm] [--items 60000]

The sets and the questions of ials.py. A catalogue that no matrix holds is drawn: shoppers take half of what
they take among the items of one kind, and half by how popular items are.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
from ials import LOADERS, METRICS, judged, of_pairs  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.models import recipe as recipes  # noqa: E402
from etalage.models.recipe import Trained  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.training.closed_form import export_closed_form  # noqa: E402
from etalage.training.export_source import Source  # noqa: E402

SYSTEMS: dict[str, dict[str, Any]] = {
    "whole": {"method": "exact"},
    "among 50 neighbours": {"method": "sparse", "solved_among": 50},
    "among 100 neighbours": {"method": "sparse", "solved_among": 100},
    "among 200 neighbours": {"method": "sparse", "solved_among": 200},
}
KIND = 300
"""Items of one kind, in the drawn catalogue."""
NOTE = (
    "Regularisation {regularisation:g}, 500 weights kept of each item, both as by default. Processor "
    "time is that of solving, one thread. Intervals: 95% bootstrap over the users. Learned from all before "
    "the test. The drawn catalogue: {items:,} items, as many shoppers, {acts:,} acts; memory is the peak of "
    "the whole process."
)


def main(
    only: Annotated[str, typer.Option(help="Sets.")] = "Beauty,Last.fm,ml-latest-small",
    items: Annotated[int, typer.Option(min=100, help="Of the drawn catalogue.")] = 60_000,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("ease", small, out)
    items, each = (600, 12) if small else (items, 30)
    drawn = bench.alone(_of_drawn, items, each)  # first: a process begins with the peak of who began it
    rows: list[Row] = []
    for name in only.split(","):
        data = LOADERS[name](bench)
        for system, settings in SYSTEMS.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds, scorer = _solved(data, settings, Path(folder))
                rows += judged(name, system, data, scorer)
            rows.append(Row(f"{name}: solving", system, "processor time", seconds, seconds, seconds, "s"))
            print(*rows[-len(METRICS) - 1 :], sep="\n", flush=True)
    for metric, (value, unit) in drawn.items():
        rows.append(Row(f"drawn: {items:,} items", "by default", metric, value, value, value, unit))
    config = recipes.find("ease").config()
    bench.write(
        rows,
        command="OMP_NUM_THREADS=1 python benchmarks/ease.py",
        seeds=[0],
        packages=["numpy", "scipy"],
        note=NOTE.format(regularisation=config.regularisation, items=items, acts=items * each),
    )


def _solved(data: Any, settings: dict[str, Any], folder: Path) -> tuple[float, Any]:
    recipe = recipes.find("ease")
    config = recipe.config(**settings)
    started = time.process_time()
    counted = recipe.bind(config, data).count()
    seconds = time.process_time() - started
    trained = Trained("ease", config, None, {}, [], seconds, seconds, folder, counted=counted)
    return seconds, open_scorer(export_closed_form(recipe, trained, Source.of(data), folder))


def _of_drawn(items: int, each: int) -> dict[str, tuple[float, str]]:
    """What a catalogue takes that is solved by default; and how often the first of 20 is of the shopper's
    kind."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(items), each)
    kinds = rng.integers(0, -(-items // KIND), items)
    famous = np.cumsum(1 / np.arange(10, items + 10) ** 0.6)
    taken = rng.permutation(items)[np.searchsorted(famous, rng.random(len(users)) * famous[-1])]
    own = kinds[users] * KIND + rng.integers(0, KIND, len(users))
    taken = np.where(rng.random(len(users)) < 0.5, np.minimum(own, items - 1), taken)
    pairs = np.stack([users, taken], axis=1) + 1
    data = of_pairs(pairs, pairs[:: each * 10], "drawn")
    with tempfile.TemporaryDirectory() as folder:
        seconds, scorer = _solved(data, {}, Path(folder))
        queries, _ = data.queries("test")
        best = scorer.scores(queries.block(0, min(200, len(queries)))).argmax(axis=1)
    same = (best - 1) // KIND == kinds[queries.users[: len(best)] - 1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "processor time": (seconds, "s"),
        "peak memory": (peak, "MB"),
        "first item of the shopper's kind": (float(same.mean()), ""),
    }


if __name__ == "__main__":
    run_main(main)
