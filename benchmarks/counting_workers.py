"""From how much work on do workers pay for closed-form models? ItemKNN and iALS by one process and several.

    python benchmarks/counting_workers.py [--rows 3000000] [--workers 2] [--rounds 3]

Behaviour is drawn as scale_steps.py draws it.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from etalage.engine.threads import configure_threads

configure_threads(1)  # before numpy
import numpy as np  # noqa: E402
import typer  # noqa: E402

sys.path[:0] = [str(Path(__file__).parent)]
from scale_steps import draw_behaviour  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "item_knn": ("item_knn", {}),
    "item_knn, sequence": ("item_knn", {"similarity": "sequence"}),
    "ials": ("ials", {"dimension": 64, "iterations": 2}),
}
NOTE = (
    "{rows:,} drawn acts; {workers} workers of one thread each. Seconds by the clock and of processor time "
    "(of all processes, starting them included); the median of {rounds} rounds, from the least to the most. "
    "`start`: the same model of a thousand acts, by workers from its first block on, less what one process "
    "takes. Workers are started where they save {worth:.0f} s of processor time. `differ`: numbers of the "
    "result that are not equal to the last bit. Other work ran on the machine, which a clock shows and "
    "processor time hardly does."
)


def main(
    rows: Annotated[int, typer.Option(min=1000)] = 3_000_000,
    workers: Annotated[int, typer.Option(min=2)] = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    small: Small = False,
    out: Out = None,
) -> None:
    from etalage.engine.worth import WORTH_SECONDS

    bench = Run.of("counting_workers", small, out)
    rows, rounds = (3000, 1) if small else (rows, rounds)
    found = []
    with tempfile.TemporaryDirectory() as name:
        for count in (1000, rows):
            (Path(name) / str(count)).mkdir()
            draw_behaviour(count, Path(name) / str(count))
        for model in MODELS:
            start = _seconds(model, Path(name) / "1000", workers, rounds)[0]
            spent, differ = _seconds(model, Path(name) / str(rows), workers, rounds)
            more = np.subtract(start["workers, processor"], start["one process, processor"])
            found.append(_row(model, "workers", "start, processor time", list(more), "s"))
            for metric, some in spent.items():
                found.append(_row(model, *metric.split(", "), some, "s"))
            found.append(Row(model, "workers", "differ", differ, differ, differ))
            print(*found[-6:], sep="\n", flush=True)
    bench.write(
        found,
        command=f"python benchmarks/counting_workers.py --rows {rows} --workers {workers}",
        seeds=[rows],
        packages=["numpy", "scipy"],
        note=NOTE.format(rows=rows, workers=workers, rounds=rounds, worth=WORTH_SECONDS),
    )


def _row(model: str, system: str, metric: str, values: list[float], unit: str) -> Row:
    return Row(model, system, metric, float(np.median(values)), min(values), max(values), unit)


def _seconds(model: str, folder: Path, workers: int, rounds: int) -> tuple[dict[str, list[float]], int]:
    """(system and which time → its rounds), and how many numbers differ."""
    from etalage.engine.local import LOCAL
    from etalage.features.array_blocks import ArrayLoop
    from etalage.features.behaviour_files import open_mapped
    from etalage.models import recipe as recipes

    name, settings = MODELS[model]
    recipe = recipes.find(name)
    task = recipe.bind(recipe.config(**settings), open_mapped(folder / "behaviour"))
    found: dict[str, list[float]] = {}
    made = {}
    for _ in range(rounds):
        for system, measured in (("one process", None), ("workers", 0)):
            loop = ArrayLoop()
            if measured is not None:
                loop = ArrayLoop(LOCAL, folder / "spool", workers, measured=measured)
            clock, spent = time.perf_counter(), _processor()
            made[system] = recipes.count(task, loop).arrays
            found.setdefault(f"{system}, processor", []).append(_processor() - spent)
            found.setdefault(f"{system}, clock", []).append(time.perf_counter() - clock)
    one, other = made["one process"], made["workers"]
    return found, sum(int((array != other[place]).sum()) for place, array in one.items())


def _processor() -> float:
    """Seconds of this process and of those that it waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    run_main(main)
