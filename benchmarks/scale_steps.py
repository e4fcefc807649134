"""How do time and memory of each step grow with its rows, from ten thousand to ten million?

    python benchmarks/scale_steps.py [--only item_knn --only ials]

A step is a line of STEPS: it draws its input into a folder, opens it, and is run, each in a process of its
own. What was measured is kept in build/benchmark-scale_steps, so that a run that was stopped goes on. Ends
with status 1 where a step grows faster than its bound.
"""

import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from etalage.engine.threads import configure_threads

configure_threads(1)  # before numpy
import numpy as np  # noqa: E402
import typer  # noqa: E402

sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000, 3_162_278, 10_000_000)
FITTED_FROM = 100_000
"""Below, what a step takes for any number of rows hides how it grows."""
ROUNDS, ONCE_FROM = 3, 300_000
USERS, ITEMS = 10, 100
"""Rows a user, and rows an item: both grow with the rows."""
DIMENSION = 64
NOTE = (
    "Rows of behaviour are drawn: a user for 10 rows, whose acts are lognormal (sigma 1), an item for 100 "
    "rows, chosen with a chance that falls as rank^-0.7. Rows of publish and sync are items, with five acts "
    "each; of embed and publish, items with a photo. Rows of an index are items: 64 numbers, in 1,000 "
    "clusters. `processor seconds`: of the step alone, without reading its input; the median of three rounds "
    "below 300,000 rows, with the least and the most. `peak MiB`: the largest resident size (getrusage), "
    "mapped files included, less what it was before the step. Exponents: least squares of the logarithms "
    "from 100,000 rows on, plus and minus two standard errors; a step fails where all of that is above its "
    "bound. One process, one thread, while other work ran on the machine."
)


@dataclass(frozen=True)
class Step:
    """What is measured at each number of rows."""

    draw: Callable[[int, Path], None]
    """Writes the step's input, of so many rows, into a folder."""
    open: Callable[[Path], Any]
    """Opens it, and imports what the step needs: this is not measured."""
    run: Callable[[Any], object]
    """The step itself."""
    time: float
    """Bound of the exponent of its processor time."""
    memory: float
    """Bound of the exponent of its peak."""
    why: str
    """Where the bounds come from."""
    most: int = SIZES[-1]


# -- behaviour ---------------------------------------------------------------------------------


def draw_behaviour(rows: int, folder: Path) -> None:
    """A BehaviourSet, mapped by the step; each user's newest act is its test."""
    from etalage.features.behaviour import BehaviourSet, Interactions
    from etalage.features.behaviour_files import save
    from etalage.features.vocabulary import Vocabulary

    rng = np.random.default_rng(rows)
    users, items = rows // USERS, rows // ITEMS
    lengths = rng.lognormal(0, 1, users)
    lengths = np.clip(np.round(lengths / lengths.sum() * rows), 2, 1000).astype(np.int64)
    owners = np.repeat(np.arange(1, users + 1), lengths)
    chosen = 1 + (items * rng.random(len(owners)) ** (1 / 0.3)).astype(np.int64)
    whole = Interactions.sorted(owners, chosen, times=rng.integers(0, 10**13, len(owners)))
    last = np.append(whole.users[1:] != whole.users[:-1], True)
    parts = {"train": whole.take(~last), "test": whole.take(last)}
    ids = [
        Vocabulary([f"{kind}{n:09d}" for n in range(count)]) for kind, count in (("u", users), ("i", items))
    ]
    save(BehaviourSet(*ids, ("view",), parts), folder / "behaviour")


def closed_form(name: str, **settings: Any) -> Callable[[Path], Any]:
    """The model bound to what was drawn."""

    def opened(folder: Path) -> Any:
        from etalage.features.behaviour_files import open_mapped
        from etalage.models import recipe as recipes

        recipe = recipes.find(name)
        return recipe.bind(recipe.config(**settings), open_mapped(folder / "behaviour"))

    return opened


def count(task: Any) -> object:
    return task.count()


# -- evaluation --------------------------------------------------------------------------------


def draw_evaluation(rows: int, folder: Path) -> None:
    """The same, and exports of two models of it."""
    from etalage.features.behaviour_files import open_mapped
    from etalage.models import recipe as recipes
    from etalage.models.recipe import Trained
    from etalage.training.behaviour_export import export_behaviour
    from etalage.training.export_source import Source

    draw_behaviour(rows, folder)
    data = open_mapped(folder / "behaviour")
    for name, settings in (("popularity", {}), ("ials", {"dimension": 32, "iterations": 1})):
        recipe = recipes.find(name)
        config = recipe.config(**settings)
        counted = recipe.bind(config, data).count()
        trained = Trained(name, config, None, {}, [], 0.0, 0.0, folder, {}, counted)
        export_behaviour(recipe, trained, Source.of(data), folder / name)


def open_evaluation(folder: Path) -> Any:
    from etalage.features.behaviour_files import open_mapped
    from etalage.runtime.export_files import newest_export
    from etalage.runtime.opening import open_scorer

    names = ("popularity", "ials")
    return open_mapped(folder / "behaviour"), {n: open_scorer(newest_export(folder / n)) for n in names}


def evaluate(opened: Any) -> object:
    """As `etalage evaluate` measures: 10,000 shoppers at most, every item of the catalogue for each."""
    from etalage.config import EvaluateConfig
    from etalage.evaluation.measured import measure

    data, systems = opened
    return measure(data, systems, "test", "closed_form", EvaluateConfig(), 0, None)


# -- indexes -----------------------------------------------------------------------------------


def draw_vectors(rows: int, folder: Path) -> None:
    rng = np.random.default_rng(rows)
    centres = rng.normal(size=(1000, DIMENSION)).astype(np.float32)
    found = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, DIMENSION))
    for start in range(0, rows, 2**16):
        some = centres[rng.integers(0, len(centres), min(2**16, rows - start))]
        some += rng.normal(0, 0.5, some.shape).astype(np.float32)
        found[start : start + len(some)] = some / np.linalg.norm(some, axis=1, keepdims=True)
    found.flush()


def index(kind: str) -> Callable[[Path], Any]:
    """What builds an index of what was drawn, and writes it."""

    def opened(folder: Path) -> Any:
        import etalage.index.exact
        import etalage.index.faiss  # noqa: F401
        from etalage.config import IndexConfig
        from etalage.index import build

        vectors = np.load(folder / "vectors.npy", mmap_mode="r")

        def built() -> None:
            build(np.arange(1, len(vectors) + 1), vectors, IndexConfig(kind=kind)).save(folder / "index")

        return built

    return opened


def call(built: Callable[[], None]) -> object:
    return built()


# -- a shop ------------------------------------------------------------------------------------


def draw_file(rows: int, folder: Path) -> None:
    """A CSV of interactions, each with a time."""
    import pyarrow as pa
    import pyarrow.csv as csv

    rng = np.random.default_rng(rows)
    with csv.CSVWriter(folder / "acts.csv", pa.schema([(n, pa.string()) for n in _ACTS])) as writer:
        for start in range(0, rows, 2**18):
            writer.write(pa.table(_acts(rng, min(2**18, rows - start), rows)))


_ACTS = ("user_id", "item_id", "kind", "time")


def _acts(rng: np.random.Generator, count: int, rows: int) -> dict[str, list[str]]:
    """Some of `rows` acts."""
    items = 1 + (max(rows // ITEMS, 1) * rng.random(count) ** (1 / 0.3)).astype(np.int64)
    seconds = np.datetime64("2025-01-01") + rng.integers(0, 3 * 10**7, count).astype("timedelta64[s]")
    return {
        "user_id": [f"u{n:09d}" for n in rng.integers(0, max(rows // USERS, 1), count)],
        "item_id": [f"i{n:09d}" for n in items],
        "kind": np.array(["view", "cart", "buy"])[rng.integers(0, 3, count)].tolist(),
        "time": seconds.astype(str).tolist(),
    }


def open_file(folder: Path) -> Any:
    import pyarrow  # noqa: F401

    from etalage.lake.delta import Lake
    from etalage.lake.ingest import ingest

    return lambda: ingest(Lake(folder / f"tables-{time.monotonic_ns()}"), folder / "acts.csv", "interactions")


def draw_shop(rows: int, folder: Path) -> None:
    """A shop of so many items, a shopper for two of them and ten acts a shopper; popularity and ials are
    trained. One item in ten has no act."""
    import pyarrow as pa

    from etalage.lake.delta import Lake
    from etalage.shop import Shop

    (folder / "shop.toml").write_text(
        'name = "scale"\n[models.ials]\ndimension = 32\niterations = 1\n[index]\nkind = "exact"\n'
        "[funnel.retrievers]\npopularity = 100\nials = 100\n[behaviour]\nmax_user = 0\n"
    )
    rng, lake, now = np.random.default_rng(rows), Lake(folder / "tables"), np.datetime64("2026-01-01", "us")
    ids = np.array([f"i{n:09d}" for n in range(rows)])
    columns = {
        "item_id": ids, "title": np.char.add("Title of ", ids), "price": rng.lognormal(3, 1, rows),
        "category_id": np.char.add("Top > Leaf ", (np.arange(rows) % 500).astype(str)),
    }  # fmt: skip
    lake.table("items").merge(pa.table({name: pa.array(values) for name, values in columns.items()}))
    for start in range(0, 5 * rows, 2**19):
        count = min(2**19, 5 * rows - start)
        seconds = rng.integers(0, 3 * 10**13, count).astype("timedelta64[us]")
        acts = {
            "interaction_id": [f"a{n:010d}" for n in range(start, start + count)],
            "user_id": [f"u{n:09d}" for n in rng.integers(0, max(rows // 2, 1), count)],
            "item_id": ids[(0.9 * rows * rng.random(count) ** 2).astype(np.int64)],
            "kind": ["buy"] * count,
            "time": pa.array(now - seconds, pa.timestamp("us", "UTC")),
        }
        lake.table("interactions").merge(pa.table(acts))
    shop = Shop(folder)
    for name in ("popularity", "ials"):
        shop.train(name)


def draw_published(rows: int, folder: Path) -> None:
    """The same, published; then the prices of a thousand items change."""
    import pyarrow as pa

    from etalage.shop import Shop

    draw_shop(rows, folder)
    shop = Shop(folder)
    shop.publish(force=True)
    changed = [f"i{n:09d}" for n in range(min(1000, rows))]
    shop.lake.table("items").merge(pa.table({"item_id": changed, "price": [9.99] * len(changed)}))


def draw_photos(rows: int, folder: Path) -> None:
    """A drawn shop of so many photos, and an embedder that hardly learned."""
    from etalage.demo import tables
    from etalage.demo.tables import DemoSize
    from etalage.lake.delta import Lake
    from etalage.shop import Shop

    (folder / "shop.toml").write_text(
        'name = "scale"\n[models.image_similarity]\nsize = 32\nchannels = 3\nclasses_per_batch = 8\n'
        'examples_per_class = 2\nepochs = 1\nsteps_per_epoch = 2\nprecision = "float32"\n'
        "[engine]\nworkers = 1\n[split]\nnear_duplicates = false\n"
    )
    tables.fill(Lake(folder / "tables"), DemoSize(items=rows, shoppers=1), workers=1)
    Shop(folder).train("image_similarity")


def open_shop(folder: Path) -> Any:
    import etalage.bundle.publish
    import etalage.bundle.sync
    import etalage.index.exact
    import etalage.recommend
    import etalage.training.run  # noqa: F401
    from etalage.shop import Shop

    return Shop(folder)


def publish(shop: Any) -> object:
    return shop.publish(force=True)


def sync(shop: Any) -> object:
    return shop.sync(force=True)


STEPS: dict[str, Step] = {
    "ingest": Step(
        draw_file, open_file, call, 1.15, 1.1,
        "each row is checked by itself; merges look through what is stored, ever larger ones less often",
    ),
    "publish": Step(
        draw_shop, open_shop, publish, 1.2, 1.1,
        "rows are items, with five acts each: both models are solved again on everything", most=1_000_000,
    ),
    "sync": Step(
        draw_published, open_shop, sync, 1.1, 1.1,
        "a thousand items changed; the whole bundle is written anew", most=1_000_000,
    ),
    "embed and publish": Step(
        draw_photos, open_shop, publish, 1.1, 1.1, "each photo is decoded and embedded by itself",
        most=100_000,
    ),
    "item_knn": Step(
        draw_behaviour, closed_form("item_knn"), count, 1.2, 1.1,
        "products of pairs of acts of one user, whose number does not grow; 200 neighbours an item",
    ),
    "item_knn, sequence": Step(
        draw_behaviour, closed_form("item_knn", similarity="sequence"), count, 1.2, 1.1,
        "at most ten acts after each act",
    ),
    "ials": Step(
        draw_behaviour, closed_form("ials", dimension=32, iterations=2), count, 1.1, 1.1,
        "acts times the square of the dimensions, and users and items times its cube",
    ),
    "evaluation": Step(
        draw_evaluation, open_evaluation, evaluate, 1.1, 1.1,
        "10,000 shoppers at most, each asked for the whole catalogue",
    ),
    "index, exact": Step(draw_vectors, index("exact"), call, 1.1, 1.1, "a copy of the vectors"),
    "index, ivf_flat": Step(
        draw_vectors, index("ivf_flat"), call, 1.6, 1.1,
        "each row is compared with the 4·√rows centroids", most=3_162_278,
    ),
}  # fmt: skip
"""The steps, by name."""


# -- measuring ---------------------------------------------------------------------------------


def measured(name: str, folder: Path) -> dict[str, float]:
    """In a process of its own: what the step took."""
    step = STEPS[name]
    opened = step.open(folder)
    before, started = _peak(), (time.process_time(), time.perf_counter())
    step.run(opened)
    return {
        "cpu": time.process_time() - started[0],
        "clock": time.perf_counter() - started[1],
        "peak": _peak() - before,
    }


def _peak() -> float:
    """MiB; of macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def drawn(name: str, rows: int, folder: Path) -> None:
    STEPS[name].draw(rows, folder)


def note_of(kept: Path, name: str, rows: int) -> Path:
    return kept / f"{name.replace(', ', '-')}-{rows}.json"


def rounds_of(bench: Run, name: str, rows: int, kept: Path) -> list[dict[str, float]]:
    """The rounds of one size, measured now or by an earlier run."""
    note = note_of(kept, name, rows)
    if note.exists():
        found: list[dict[str, float]] = json.loads(note.read_text(encoding="utf-8"))
        return found
    folder = Path(tempfile.mkdtemp(prefix="drawn-", dir=kept))
    try:
        bench.alone(drawn, name, rows, folder)
        rounds = 1 if bench.small or rows >= ONCE_FROM else ROUNDS
        found = [bench.alone(measured, name, folder) for _ in range(rounds)]
    finally:
        shutil.rmtree(folder)
    note.write_text(json.dumps(found), encoding="utf-8")
    return found


def exponent(sizes: list[int], values: list[float]) -> tuple[float, float]:
    """(slope, standard error) of log value against log size, by least squares."""
    x, y = np.log(sizes), np.log(np.maximum(values, 1e-6))
    x = x - x.mean()
    slope = float((x * y).sum() / (x**2).sum())
    rest = y - y.mean() - slope * x
    error = float(np.sqrt((rest**2).sum() / max(len(x) - 2, 1) / (x**2).sum()))
    return slope, error


def main(
    only: Annotated[list[str] | None, typer.Option(help="Steps; default: all.")] = None,
    most: Annotated[int, typer.Option(help="Rows, at most.")] = SIZES[-1],
    so_far: Annotated[bool, typer.Option("--so-far", help="Only what was measured before.")] = False,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("scale_steps", small, out)
    kept = bench.work()
    kept.mkdir(parents=True, exist_ok=True)
    rows, failed = [], []
    for name in only or STEPS:
        if name not in STEPS:
            raise typer.BadParameter(f"no step {name!r}: {', '.join(STEPS)}")
        step = STEPS[name]
        sizes = [1000, 2000, 4000] if small else [n for n in SIZES if n <= min(most, step.most)]
        sizes = [size for size in sizes if not so_far or note_of(kept, name, size).exists()]
        found = {size: rounds_of(bench, name, size, kept) for size in sizes}
        for size, some in found.items():
            cpu, peak = ([one[what] for one in some] for what in ("cpu", "peak"))
            case = f"{size:,} rows"
            rows.append(Row(case, name, "processor seconds", float(np.median(cpu)), min(cpu), max(cpu), "s"))
            rows.append(Row(case, name, "peak MiB", max(peak), min(peak), max(peak), "MiB"))
            print(name, case, rows[-2].value, rows[-1].value, flush=True)
        fitted = [size for size in sizes if size >= FITTED_FROM] if not small else sizes
        for what, metric, bound in (("cpu", "time", step.time), ("peak", "memory", step.memory)):
            values = [float(np.median([one[what] for one in found[size]])) for size in fitted]
            if len(fitted) < 3:
                continue
            slope, error = exponent(fitted, values)
            low, high = slope - 2 * error, slope + 2 * error
            rows.append(Row("exponent", name, metric, slope, low, high))
            rows.append(Row("exponent", name, f"{metric}, at most", bound, bound, bound))
            if low > bound and not small:
                failed.append(
                    f"{name}: {metric} grows as rows^{slope:.2f}, and is to grow as {bound}: {step.why}"
                )
    bench.write(
        rows,
        command=f"python benchmarks/scale_steps.py{' --so-far' if so_far else ''}",
        seeds=list(SIZES),
        packages=["numpy", "scipy", "faiss-cpu"],
        note=NOTE,
    )
    if failed:
        print("\n".join(failed), file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    run_main(main)
