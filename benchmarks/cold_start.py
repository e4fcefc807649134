"""Are items found that nobody touched? A tenth of them, hidden from training, asked for by who took them.

    OMP_NUM_THREADS=1 python benchmarks/cold_start.py [--only Beauty,MovieLens,groceries] [--seeds 0,1,2]

Three public sets: Amazon Beauty with the items' attributes, ml-latest-small with titles and genres, a quarter
of the households of Complete Journey with the products' types and brands. All acts on a tenth of the items,
drawn by the seed, become the test; whoever took one of them and anything else is asked, and everything that
nobody is known to have taken is ranked: the hidden items, and those that nobody ever took. Settings are the
defaults.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import typer
from scipy import sparse

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from acts import acts_of, instants  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.config import BehaviourConfig, EvaluateConfig  # noqa: E402
from etalage.datasets.published import sequences  # noqa: E402
from etalage.evaluation.measured import Chance, measure  # noqa: E402
from etalage.evaluation.names import COLD_ITEMS  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions, Queries  # noqa: E402
from etalage.features.behaviour_set import behaviour_set  # noqa: E402
from etalage.metrics import bootstrap  # noqa: E402
from etalage.models.cold_start import RECIPE, ColdStartTask, Content  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.runtime.scorer import ExportScorer  # noqa: E402
from etalage.training.behaviour_export import export_behaviour  # noqa: E402
from etalage.training.export_source import Source  # noqa: E402
from etalage.training.loop import fit  # noqa: E402

METRIC, SHARE = "recall_at_20", 0.1
QUARTER = 4
NOTE = (
    "recall@20 of the hidden items among all that nobody is known to have taken; mean, lowest and highest of "
    "{seeds} draws (one alone: 95% bootstrap over the shoppers). `cosine`: of the mean of what the "
    "shopper's items are and what an item is, words and categories weighing by how rare they are. Processor "
    "time: of training, without the export."
)


class Cosine(Chance):
    """How alike an item is to what the shopper took, by what they are."""

    name = "cosine"

    def __init__(self, data: BehaviourSet) -> None:
        super().__init__(data.items, data.users)
        self.items, self.users = data.items, data.users
        rows = Content.of(data.item_features).scaled
        self.content = sparse.hstack([rows.few_NC, rows.every_NE]).tocsr()

    def scores(self, queries: Queries) -> np.ndarray:
        """(B, N + 1) float32."""
        where = (queries.owners, queries.items)
        taken_BN = sparse.csr_matrix((np.ones(len(queries.items)), where), (len(queries), len(self.items)))
        found = np.asarray(((taken_BN @ self.content) @ self.content.T).todense(), np.float32)
        found[:, 0] = -np.inf
        return found


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets' folders.")] = None,
    only: Annotated[str, typer.Option(help="Sets.")] = "Beauty,MovieLens,groceries",
    seeds: Annotated[str, typer.Option(help="Of what is hidden.")] = "0,1,2",
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("cold_start", small, out)
    work = bench.work(work)
    numbers = [int(seed) for seed in ("0" if small else seeds).split(",")]
    rows: list[Row] = []
    for name, read in sets_of(bench, data).items():
        if name not in only.split(","):
            continue
        parts = []
        for seed in numbers:
            file = work / f"{name}-{seed}.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(measured(read(), seed), indent=1))
            parts.append(json.loads(file.read_text()))
            print(name, seed, parts[-1], flush=True)
        rows += rows_of(name, parts)
    bench.write(
        rows,
        command=f"OMP_NUM_THREADS=1 python benchmarks/cold_start.py --seeds {seeds}",
        seeds=numbers,
        packages=["numpy", "scipy", "torch", "onnxruntime"],
        note=NOTE.format(seeds=len(numbers)),
    )


def sets_of(bench: Run, data: Path | None) -> dict[str, Callable[[], BehaviourSet]]:
    def folder(name: str, drawn: Callable[[Path], Path]) -> Path:
        return bench.data(None if data is None else data / name, name, drawn)

    beauty = folder("s3rec-amazon-beauty", miniature.beauty)
    return {
        "Beauty": partial(sequences, beauty / "Beauty.txt", beauty / "Beauty_item2attributes.json"),
        "MovieLens": partial(movielens, folder("ml-latest-small", miniature.movielens)),
        "groceries": partial(groceries, folder("complete-journey", miniature.journey)),
    }


def movielens(folder: Path) -> BehaviourSet:
    """Titles' words, and each film's genres as one category."""
    ratings, films = (pyarrow.csv.read_csv(folder / f"{name}.csv") for name in ("ratings", "movies"))
    items = {
        "item_id": films["movieId"].cast(pa.string()),
        "title": films["title"],
        "category_id": films["genres"],
    }
    acts = acts_of(ratings["userId"], ratings["movieId"], instants(ratings["timestamp"]), "buy")
    return behaviour_set(acts, pa.table(items), None, BehaviourConfig(), whole=True)


def groceries(folder: Path) -> BehaviourSet:
    """A quarter of the households; a product's type is its title, its department's path its category."""
    sales = pyarrow.parquet.read_table(folder / "transactions.parquet")
    goods = pyarrow.parquet.read_table(folder / "products.parquet")
    homes = sales["household_id"].to_numpy()
    sales = sales.filter(pa.array(np.isin(homes, np.unique(homes)[::QUARTER])))
    paths = zip(*(goods[name].to_pylist() for name in ("department", "product_category")), strict=True)
    items = {
        "item_id": goods["product_id"].cast(pa.string()),
        "title": goods["product_type"],
        "brand": goods["brand"].cast(pa.string()),
        "category_id": [" > ".join(str(step) for step in path if step is not None) for path in paths],
    }
    times = sales["transaction_timestamp"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    acts = acts_of(sales["household_id"], sales["product_id"], times, "buy")
    return behaviour_set(acts, pa.table(items), None, BehaviourConfig(repeat=True), whole=True)


def hidden(data: BehaviourSet, seed: int) -> BehaviourSet:
    """The same with all acts on a share of the items as the test, and all others to learn from."""
    acts = Interactions.joined(*data.parts.values()).positive
    there = np.unique(acts.items)
    drawn = np.random.default_rng(seed).choice(there, int(len(there) * SHARE), replace=False)
    is_hidden = np.isin(acts.items, drawn)
    train, test = acts.take(~is_hidden), acts.take(is_hidden)
    nothing = Interactions.none()
    test = test.take(np.isin(test.users, train.users))
    return data.with_parts(train=train, rank=nothing, validation=nothing, test=test)


def learned(held: BehaviourSet, folder: Path) -> tuple[ExportScorer, dict[str, float]]:
    """cold_start as it answers, and what its training says: `seconds` of the processor, without the export,
    and `validation`."""
    started = time.process_time()
    config = RECIPE.config()
    trained = fit(RECIPE, RECIPE.bind(config, held), config, folder / "run")
    seconds = time.process_time() - started
    ours = open_scorer(export_behaviour(RECIPE, trained, Source.of(held), folder / "exports"))
    return ours, {"seconds": seconds, "validation": trained.metrics.get(ColdStartTask.metric, 0.0)}


def asked(held: BehaviourSet, systems: Mapping[str, ExportScorer | Chance]) -> dict[str, list[float]]:
    """System → its figure with the ends of its interval."""
    found = measure(held, dict(systems), "test", "embedder", EvaluateConfig(ks=(20,)), 0, None)
    values = found.values(COLD_ITEMS)
    return {name: list(bootstrap(values[name][METRIC])) for name in systems}


def measured(data: BehaviourSet, seed: int) -> dict[str, list[float]]:
    """System → its figure with the ends of its interval; `seconds`: of training."""
    held = hidden(data, seed)
    with tempfile.TemporaryDirectory() as folder:
        ours, said = learned(held, Path(folder))
        chance = Chance(held.items, held.users)
        found = asked(held, {"chance": chance, "cosine": Cosine(held), "cold_start": ours})
    return found | {"seconds": [said["seconds"]]}


def rows_of(name: str, parts: list[dict[str, list[float]]]) -> list[Row]:
    rows = []
    for system in ("chance", "cosine", "cold_start"):
        values = [part[system][0] for part in parts]
        ends = values if len(parts) > 1 else parts[0][system][1:]
        rows.append(Row(name, system, "recall@20", float(np.mean(values)), min(ends), max(ends)))
    seconds = [part["seconds"][0] for part in parts]
    mean = float(np.mean(seconds))
    return [*rows, Row(name, "cold_start", "processor time", mean, min(seconds), max(seconds), "s")]


if __name__ == "__main__":
    run_main(main)
