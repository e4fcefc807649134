"""Does a sentence encoder help to find items that nobody touched? And how many texts does it read a second?

    OMP_NUM_THREADS=1 python benchmarks/text_encoders.py [--only MovieLens,groceries] [--seeds 3,4,5]

As benchmarks/cold_start.py asks it, of its two sets that have titles: cold_start on the words of the titles
alone, and with the feature source `text` by each encoder beside them. All acts on a tenth of the items become
the test; validation is what cold_start hides of the rest.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from cold_start import asked, groceries, hidden, learned, movielens  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.features.behaviour import BehaviourSet  # noqa: E402
from etalage.features.sources import TEXT, FeatureSource  # noqa: E402
from etalage.features.text_encoders import PACKAGES, TextEncoder, open_encoder, texts_of_items  # noqa: E402

WORDS = "words alone"
SPEED = 5000
NOTE = (
    "recall@20 of the hidden items among all that nobody is known to have taken; mean, lowest and highest of "
    "{seeds} draws (one alone: 95% bootstrap over the shoppers). `validation`: of the items that cold_start "
    "hides from itself. The draws of the test were looked at once; others were seen before, while this was "
    "written. Texts per second: of one processor, lowest and highest of three times {speed} texts of items."
)


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the data sets' folders.")] = None,
    only: Annotated[str, typer.Option(help="Sets.")] = "MovieLens,groceries",
    seeds: Annotated[str, typer.Option(help="Of what is hidden.")] = "3,4,5",
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("text_encoders", small, out)
    folder = bench.work(work)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(seed) for seed in ("3" if small else seeds).split(",")]
    encoders = {name: open_encoder(name, Path()) for name in PACKAGES}
    rows: list[Row] = []
    for name in only.split(","):
        behaviour, items = read(bench, data, name)
        if not rows:
            rows += speeds(encoders, texts_of_items(items), 100 if small else SPEED)
        for system, known in with_texts(behaviour, items, encoders).items():
            parts = []
            for seed in numbers:
                file = folder / f"{name}-{system}-{seed}.json"
                if not file.exists():
                    file.write_text(json.dumps(measured(known, seed), indent=1))
                parts.append(json.loads(file.read_text()))
                print(name, system, seed, parts[-1], flush=True)
            rows += rows_of(name, system, parts)
    bench.write(
        rows,
        command=f"OMP_NUM_THREADS=1 python benchmarks/text_encoders.py --only {only} --seeds {seeds}",
        seeds=numbers,
        packages=["torch", "numpy", "scipy", *(package for _, package in PACKAGES.values())],
        note=NOTE.format(seeds=len(numbers), speed=SPEED),
    )


def read(bench: Run, data: Path | None, name: str) -> tuple[BehaviourSet, pa.Table]:
    """Who took what, and what is written about the items, as the table `items` has it."""

    def folder(of: str, drawn: Callable[[Path], Path]) -> Path:
        return bench.data(None if data is None else data / of, of, drawn)

    if name == "MovieLens":
        where = folder("ml-latest-small", miniature.movielens)
        films = pyarrow.csv.read_csv(where / "movies.csv")
        genres = [one.replace("|", " > ") for one in films["genres"].to_pylist()]
        return movielens(where), described(films["movieId"], films["title"], genres)
    where = folder("complete-journey", miniature.journey)
    goods = pyarrow.parquet.read_table(where / "products.parquet")
    paths = zip(*(goods[one].to_pylist() for one in ("department", "product_category")), strict=True)
    joined = [" > ".join(str(step) for step in path if step is not None) for path in paths]
    return groceries(where), described(goods["product_id"], goods["product_type"], joined)


def described(ids: pa.ChunkedArray, titles: pa.ChunkedArray, categories: list[str]) -> pa.Table:
    nothing = pa.nulls(len(ids), pa.string())
    return pa.table({
        "item_id": ids.cast(pa.string()), "title": titles, "brand": nothing, "category_id": categories,
        "description": nothing,
    })  # fmt: skip


def with_texts(
    behaviour: BehaviourSet, items: pa.Table, encoders: dict[str, TextEncoder]
) -> dict[str, BehaviourSet]:
    """The same behaviour with the feature source `text` by each encoder, and without."""
    found = {WORDS: behaviour}
    texts, places = np.unique(texts_of_items(items), return_inverse=True)
    for name, encoder in encoders.items():
        made = encoder.encode(texts.tolist())[places]
        source = FeatureSource(items["item_id"].combine_chunks(), made, encoder.model_hash)
        found[f"words + {name}"] = behaviour.with_sources({TEXT: source})
    return found


def measured(data: BehaviourSet, seed: int) -> dict[str, list[float]]:
    held = hidden(data, seed)
    with tempfile.TemporaryDirectory() as folder:
        ours, said = learned(held, Path(folder))
        return {"test": asked(held, {"ours": ours})["ours"]} | {name: [one] for name, one in said.items()}


def rows_of(case: str, system: str, parts: list[dict[str, list[float]]]) -> list[Row]:
    rows = []
    for part, metric, unit in (
        ("validation", "recall@20, validation", ""),
        ("test", "recall@20, test", ""),
        ("seconds", "processor time of training", "s"),
    ):
        values = [one[part][0] for one in parts]
        ends = values if len(parts) > 1 else parts[0][part][1:] or values
        rows.append(Row(case, system, metric, float(np.mean(values)), min(ends), max(ends), unit))
    return rows


def speeds(encoders: dict[str, TextEncoder], texts: list[str], count: int) -> list[Row]:
    rows = []
    some = texts[:count]
    for name, encoder in encoders.items():
        encoder.encode(some[:1])  # opens what it opens at its first text
        found = []
        for _ in range(3):
            started = time.process_time()
            encoder.encode(some)
            found.append(len(some) / (time.process_time() - started))
        mean = float(np.mean(found))
        rows.append(Row("titles and categories", name, "texts", mean, min(found), max(found), "a second"))
    return rows


if __name__ == "__main__":
    run_main(main)
