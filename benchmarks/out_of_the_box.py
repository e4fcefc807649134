"""What a shop gets that sets nothing: the simple models as `etalage train` makes them, beside their defaults.

    OMP_NUM_THREADS=1 python benchmarks/out_of_the_box.py [--only Beauty,lastfm] [--models item_knn,ials]

Five public sets whose shoppers differ: the last item of Beauty's (S3-Rec's split), the held-out item of
DeepCF's lastfm and AMusic, the ten latest ratings of ml-latest-small, a fifth of LightGCN's Last.fm. Settings
are chosen on the validation part as a training does; the model is then fitted on everything before the test,
as when it is published, and the whole catalogue is ranked, less what the shopper has. The test part is looked
at once. Each part (one set, one model) is kept under build/, so that a benchmark that was stopped goes on.
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.csv
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from acts import acts_of, instants  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.config import BehaviourConfig  # noqa: E402
from etalage.datasets.published import ncf, sequences  # noqa: E402
from etalage.evaluation.ranking import Ranked, rank_all  # noqa: E402
from etalage.evaluation.slices import ask  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.features.behaviour_set import behaviour_set  # noqa: E402
from etalage.metrics import bootstrap, paired_bootstrap  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.models.recipe import Recipe  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.shop import Shop  # noqa: E402
from etalage.shop.search_steps import searched  # noqa: E402
from etalage.training.closed_form import export_closed_form, solve  # noqa: E402
from etalage.training.export_source import Source  # noqa: E402

METRICS = {"ndcg_at_10": "nDCG@10", "recall_at_20": "recall@20"}
MODELS = ("popularity", "item_knn", "ease", "ials")
HELD_OUT = 10
NOTE = (
    "`as trained`: with the settings that the training chose on validation; `defaults`: `search = false`. "
    "Both are fitted on everything before the test. "
    "Intervals: 95% bootstrap over the shoppers of the test; `gain`: as trained less defaults, paired. "
    "Processor time: of one training as `etalage train` does it, its search included, without the last fit. "
    "Chosen: {chosen}."
)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets' folders.")] = None,
    only: Annotated[str, typer.Option(help="Sets.")] = "Beauty,lastfm,AMusic,MovieLens,Last.fm",
    models: Annotated[str, typer.Option(help="Models.")] = ",".join(MODELS),
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("out_of_the_box", small, out)
    work = bench.work(work)
    rows: list[Row] = []
    chosen: list[str] = []
    for name, read in sets_of(bench, data).items():
        if name not in only.split(","):
            continue
        found: BehaviourSet | None = None
        for model in models.split(","):
            recipe = recipes.find(model)
            decides = json.dumps([name, model, recipe.config().model_dump(mode="json"), str(recipe.trials)])
            file = work / f"{name}-{model}-{hashlib.sha256(decides.encode()).hexdigest()[:8]}.json"
            if not file.exists():
                found = read() if found is None else found
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(measured(found, recipe), indent=1))
            kept = json.loads(file.read_text())
            settings = ", ".join(f"{key} {value}" for key, value in kept["chosen"].items()) or "the defaults"
            chosen.append(f"{name} {model}: {settings}")
            print(chosen[-1], flush=True)
            rows += [Row(name, f"{model}, {one}", *figure) for one, figure in kept["figures"]]
    bench.write(
        rows,
        command="OMP_NUM_THREADS=1 python benchmarks/out_of_the_box.py",
        seeds=[0],
        packages=["numpy", "scipy"],
        note=NOTE.format(chosen="; ".join(chosen)),
    )


def sets_of(bench: Run, data: Path | None) -> dict[str, Callable[[], BehaviourSet]]:
    def folder(name: str, drawn: Callable[[Path], Path]) -> Path:
        return bench.data(None if data is None else data / name, name, drawn)

    beauty, deepcf = (
        folder("s3rec-amazon-beauty", miniature.beauty),
        folder("deepcf-amusic-lastfm", miniature.deepcf),
    )
    films = folder("ml-latest-small", miniature.movielens)
    found = {
        "Beauty": partial(sequences, beauty / "Beauty.txt"),
        "lastfm": partial(ncf, deepcf, "lastfm", validation="leave_one_out"),
        "AMusic": partial(ncf, deepcf, "AMusic", validation="leave_one_out"),
        "MovieLens": partial(movielens, films),
    }
    if not bench.small:
        found["Last.fm"] = partial(lightgcn, folder("lightgcn-lastfm", miniature.movielens))
    return found


def movielens(folder: Path) -> BehaviourSet:
    """The ten latest ratings of each user are `test`, the latest tenth of the rest `validation`."""
    ratings = pyarrow.csv.read_csv(folder / "ratings.csv")
    acts = acts_of(ratings["userId"], ratings["movieId"], instants(ratings["timestamp"]), "view")
    return behaviour_set(acts, None, None, BehaviourConfig(split="last_n", last_n=HELD_OUT))


def lightgcn(folder: Path) -> BehaviourSet:
    """The published parts; one act of each user of train is `validation`."""
    options = pyarrow.csv.ReadOptions(column_names=["user", "item", "count"])
    parse = pyarrow.csv.ParseOptions(delimiter="\t")
    parts = [
        pyarrow.csv.read_csv(folder / file, options, parse).append_column("part", pa.array([part] * rows))
        for file, part, rows in (("data1.txt", "train", 42_135), ("test1.txt", "test", 10_533))
    ]
    both = pa.concat_tables(parts)
    times = pa.nulls(both.num_rows, pa.timestamp("us", "UTC"))
    acts = acts_of(both["user"], both["item"], times, "view")
    config = BehaviourConfig(split="published")
    return behaviour_set(acts.append_column("part", both["part"]), None, None, config)


def measured(data: BehaviourSet, recipe: Recipe[Any]) -> dict[str, Any]:
    """`chosen`: the settings; `figures`: (system, metric and its figure) for each."""
    source = Source.of(data)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shop.toml").write_text("", encoding="utf-8")
        config, search = searched(Shop(Path(folder)), recipe, recipe.config(), data, source)
    solve(recipe, recipe.bind(config, data), config, Path())
    seconds = time.process_time() - started
    asked = ask(data, "test", len(data.users))
    before = data.with_parts(train=data.before("test"), validation=Interactions.none())
    ours = ranked(before, recipe, config, source, asked)
    plain = ranked(before, recipe, recipe.config(search=False), source, asked) if search else ours
    figures: list[tuple[str, tuple[Any, ...]]] = []
    for metric, shown in METRICS.items():
        mine, theirs = ours.per_query[metric], plain.per_query[metric]
        figures += [
            ("as trained", (shown, *bootstrap(mine))),
            ("defaults", (shown, *bootstrap(theirs))),
            ("gain", (shown, *paired_bootstrap(mine, theirs))),
        ]
    figures.append(("as trained", ("processor time", seconds, seconds, seconds, "s")))
    return {"chosen": {} if search is None else search.chosen, "figures": figures}


def ranked(data: BehaviourSet, recipe: Recipe[Any], config: Any, source: Source, asked: Any) -> Ranked:
    with tempfile.TemporaryDirectory() as name:
        trained = solve(recipe, recipe.bind(config, data), config, Path(name))
        scorer = open_scorer(export_closed_form(recipe, trained, source, Path(name) / "exports"))
        return rank_all(scorer, asked.queries, asked.truth, ks=(10, 20), exclude=asked.seen)


if __name__ == "__main__":
    run_main(main)
