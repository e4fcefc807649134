"""How long is it from the wheel to a shop's own slate?

    python benchmarks/first_hour.py [--environment DIR] [--pip-options TEXT]

Twice, as somebody would type it who has never seen Etalage: a year of a grocer's receipts (a table of
products, a table of lines of receipts), and a folder of photos. The wheel is built from these sources and
installed into an empty environment; each command is the one that the command before it named. Nothing is set
by hand but what a command told to set.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import ROOT, Out, Row, Run, Small, run_main  # noqa: E402

COMMAND = "python benchmarks/first_hour.py"
NOTE = (
    "From the wheel to a slate: by the clock, on the machine as it was, and in processor seconds of the "
    "command and of all that it started. `install`: the wheel with the extra `train` and all that it needs, "
    "into an empty environment, from a package index near by (torch's CPU build); your line decides there. "
    "Receipts: {receipts}. Photos: {photos}. What is trained is what the commands suggested; `repeat = true` "
    "was written by `new --from`, which saw that shoppers buy the same again. {environment}"
)


@dataclass(frozen=True)
class Step:
    """A command of a walk: what the table calls it, and what is typed."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Took:
    wall: float
    cpu: float


def main(
    environment: Annotated[
        Path | None, typer.Option(help="An environment with Etalage in it; nothing is installed then.")
    ] = None,
    pip_options: Annotated[str, typer.Option(help="More options for pip, such as an index.")] = "",
    small: Small = False,
    out: Out = None,
) -> None:
    run = Run.of("first_hour", small, out)
    receipts = run.data(None, "complete-journey", miniature.journey)
    photos = run.data(None, "grocery-store", miniature.grocery) / "dataset" / "train"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if small:
            environment = Path(sys.prefix)  # where it is installed from these sources
        if environment is None:
            environment, installed = install(folder, shlex.split(pip_options))
            rows += figures("both", [("install", installed)])
        binary = environment / "bin" / "etalage"
        rows += walk_receipts(binary, folder, receipts)
        rows += walk_photos(binary, folder, photos, small)
    kept = "" if rows[0].case == "both" else "Etalage was installed before."
    note = NOTE.format(receipts=counted(receipts), photos=f"{sum(1 for _ in photos.rglob('*.jpg')):,} photos",
                       environment=kept)  # fmt: skip
    run.write(rows, command=COMMAND, seeds=[0], packages=["torch", "deltalake", "mlflow"], note=note)


def install(folder: Path, options: list[str]) -> tuple[Path, Took]:
    """The wheel of these sources in an empty environment; building it is not counted."""
    wheels = folder / "wheels"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(wheels),
        str(ROOT),
    ]
    subprocess.run(pip, check=True)
    (wheel,) = wheels.glob("*.whl")
    place = folder / "environment"
    command = f"{sys.executable} -m venv {place} && {place}/bin/pip install --quiet {shlex.join(options)}"
    whole = (
        f"{command} torch==2.13.0 && {place}/bin/pip install --quiet {shlex.join(options)} '{wheel}[train]'"
    )
    return place, timed(["bash", "-c", whole], folder)


def walk_receipts(binary: Path, folder: Path, data: Path) -> list[Row]:
    """From two tables to a household's slate."""
    products, lines = str(data / "products.parquet"), str(data / "transactions.parquet")
    took = [
        walked(
            binary, folder, Step("look at the files", ("new", "shop", "--from", products, "--from", lines))
        ),
        walked(binary, folder, Step("load products", ("ingest", products, "items", "--shop", "shop"))),
        walked(binary, folder, Step("load receipts", ("ingest", lines, "interactions", "--shop", "shop"))),
    ]
    for name in ("popularity", "buy_again", "item_knn"):
        took.append(walked(binary, folder, Step(f"train {name}", ("train", name, "--shop", "shop"))))
    took.append(walked(binary, folder, Step("publish", ("publish", "--shop", "shop"))))
    took.append(walked(binary, folder, Step("a slate", ("recommend", household(data), "--shop", "shop"))))
    return figures("receipts", took)


def walk_photos(binary: Path, folder: Path, photos: Path, small: bool) -> list[Row]:
    """From a folder of photos to what is like one of them."""
    settings = ("--set", "epochs=1", "--set", "classes_per_batch=2") if small else ()
    first = sorted(photos.rglob("*.jpg"))[0]
    force = ("--force",) if small else ()
    took = [
        walked(binary, folder, Step("look at the folder", ("new", "gallery", "--from", str(photos)))),
        walked(binary, folder, Step("load photos", ("ingest", str(photos), "items", "--shop", "gallery"))),
        walked(binary, folder, Step("train image_similarity",
                                    ("train", "image_similarity", *settings, "--shop", "gallery"))),
        walked(binary, folder, Step("evaluate", ("evaluate", "image_similarity", "--shop", "gallery"))),
        walked(binary, folder, Step("publish", ("publish", *force, "--shop", "gallery"))),
        walked(binary, folder, Step("a slate", ("similar", "--photo", str(first), "--shop", "gallery"))),
    ]  # fmt: skip
    return figures("photos", took)


def walked(binary: Path, folder: Path, step: Step) -> tuple[str, Took]:
    """Type it. Raises CalledProcessError: it failed; what it said is printed."""
    took = timed([str(binary), *step.words], folder)
    print(f"{step.name}: {took.wall:.1f} s ({took.cpu:.1f} s)", flush=True)
    return step.name, took


def timed(command: list[str], folder: Path) -> Took:
    before = os.times()
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=plain(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wall = time.monotonic() - began
    after = os.times()
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(wall, used)


def plain() -> dict[str, str]:
    """The environment of somebody who has no checkout: one that is found first would pass for installed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def figures(case: str, took: list[tuple[str, Took]]) -> list[Row]:
    """Two rows for each step, and for all of them where there are several."""
    rows = []
    for name, one in [*took, ("all of it", Took(sum(t.wall for _, t in took), sum(t.cpu for _, t in took)))]:
        for metric, value in (("by the clock", one.wall), ("processor", one.cpu)):
            if len(took) > 1 or name != "all of it":
                rows.append(Row(case, name, metric, value, value, value, unit="s"))
    return rows


def household(data: Path) -> str:
    """Who stands in the first line of the receipts."""
    first = next(pq.ParquetFile(data / "transactions.parquet").iter_batches(1, columns=["household_id"]))
    return str(first["household_id"][0])


def counted(data: Path) -> str:
    lines = pq.read_metadata(data / "transactions.parquet").num_rows
    products = pq.read_metadata(data / "products.parquet").num_rows
    return f"{lines:,} lines of receipts, {products:,} products"


if __name__ == "__main__":
    run_main(main)
