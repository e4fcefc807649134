"""What comes next, with the settings that a user gets: networks that read the order beside what is counted.

    OMP_NUM_THREADS=1 python benchmarks/sequences.py [--only Beauty,MovieLens] [--seeds 0,1,2]

The sets and the protocol of out_of_the_box.py: settings and epochs are chosen on the validation part, the
model is fitted on everything before the test with as many epochs, and the whole catalogue is ranked, less
what the shopper has. The test part is looked at once. `gain`: over `item_knn` as a training makes it, by the
same shoppers. Each part (one set, one model, one seed) is kept under build/.
"""

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
from out_of_the_box import METRICS, ranked, sets_of  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.evaluation.ranking import rank_all  # noqa: E402
from etalage.evaluation.slices import ask  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.metrics import bootstrap, paired_bootstrap  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.shop import Shop  # noqa: E402
from etalage.shop.search_steps import searched  # noqa: E402
from etalage.training.behaviour_export import export_behaviour  # noqa: E402
from etalage.training.export_source import Source  # noqa: E402
from etalage.training.loop import fit  # noqa: E402

NETWORKS = ("two_tower", "sequence_transformer")
YARDSTICK = "item_knn"
NOTE = (
    "All with the settings that a user gets; `item_knn` compares its own on validation. Fitted on everything "
    "before the test, the networks with as many epochs as were best on validation. Intervals: 95% bootstrap "
    "over the shoppers of the test, of the mean over the seeds; `gain`: paired, over `item_knn`. Processor "
    "time: of the training that is validated."
)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets' folders.")] = None,
    only: Annotated[str, typer.Option(help="Sets.")] = "Beauty,lastfm,AMusic,MovieLens",
    models: Annotated[str, typer.Option(help="Networks.")] = ",".join(NETWORKS),
    seeds: Annotated[str, typer.Option(help="Of the networks.")] = "0,1,2",
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("sequences", small, out)
    work = bench.work(work)
    numbers = [0] if small else [int(seed) for seed in seeds.split(",")]
    rows: list[Row] = []
    for name, read in sets_of(bench, data).items():
        if name not in only.split(",") or (small and name != "Beauty"):
            continue
        found = read()
        simple = [_part(work, name, YARDSTICK, found, 0, small)]
        rows += _rows(name, YARDSTICK, simple, simple)
        for model in models.split(","):
            parts = [_part(work, name, model, found, seed, small) for seed in numbers]
            rows += _rows(name, model, parts, simple)
    asked = f"--only {only} --models {models} --seeds {seeds}"
    command = f"OMP_NUM_THREADS=1 python benchmarks/sequences.py {asked}"
    bench.write(rows, command=command, seeds=numbers, packages=["numpy", "torch"], note=NOTE)


def _part(work: Path, name: str, model: str, data: BehaviourSet, seed: int, small: bool) -> dict[str, Any]:
    recipe = recipes.find(model)
    settings = {} if model == YARDSTICK else {"seed": seed, **({"epochs": 1} if small else {})}
    config = recipe.config(**settings)
    decides = json.dumps([name, model, config.model_dump(mode="json"), str(recipe.trials)])
    file = work / f"{name}-{model}-{hashlib.sha256(decides.encode()).hexdigest()[:8]}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        asked = ask(data, "test", len(data.users))
        before = data.with_parts(train=data.before("test"), validation=Interactions.none())
        source, started = Source.of(data), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            if model == YARDSTICK:
                (place / "shop.toml").write_text("", encoding="utf-8")
                config, _ = searched(Shop(place), recipe, config, data, source)
                seconds, epochs = time.process_time() - started, 0
                found = ranked(before, recipe, config, source, asked)
            else:
                judged = fit(recipe, recipe.bind(config, data), config, place / "judged")
                seconds = judged.cpu_seconds or time.process_time() - started
                epochs = 1 + int(np.argmax([epoch.get("ndcg_at_10", 0.0) for epoch in judged.history]))
                stop = epochs if epochs < config.epochs else None
                again = judged.config.model_copy(update={"stop_after": stop})
                trained = fit(recipe, recipe.bind(again, before), again, place / "again")
                scorer = open_scorer(export_behaviour(recipe, trained, source, place / "exports"))
                found = rank_all(scorer, asked.queries, asked.truth, ks=(10, 20), exclude=asked.seen)
        kept = {metric: np.asarray(found.per_query[metric]).tolist() for metric in METRICS}
        file.write_text(json.dumps({"seconds": seconds, "epochs": epochs, "per_query": kept}))
        print(
            name, model, seed, {metric: round(float(np.mean(v)), 4) for metric, v in kept.items()}, flush=True
        )
    whole: dict[str, Any] = json.loads(file.read_text())
    return whole


def _rows(name: str, model: str, parts: list[dict[str, Any]], simple: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for metric, shown in METRICS.items():
        mine, theirs = (np.mean([p["per_query"][metric] for p in of], axis=0) for of in (parts, simple))
        rows.append(Row(name, model, shown, *bootstrap(mine)))
        if len(parts) > 1:
            seeds = [float(np.mean(part["per_query"][metric])) for part in parts]
            rows.append(Row(name, f"{model}, by seed", shown, float(np.mean(mine)), min(seeds), max(seeds)))
        if model != YARDSTICK:
            rows.append(Row(name, f"{model}, gain", shown, *paired_bootstrap(mine, theirs)))
    seconds = [part["seconds"] for part in parts]
    rows.append(Row(name, model, "processor time", float(np.mean(seconds)), min(seconds), max(seconds), "s"))
    return rows


if __name__ == "__main__":
    run_main(main)
