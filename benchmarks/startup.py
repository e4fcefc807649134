"""What does a command cost before it has done anything?

    OMP_NUM_THREADS=1 python benchmarks/startup.py [--rounds 5] [--interactions 20000]

Processor seconds (user and system, of the command and all processes that it waits for) of the help of every
command, and of the commands that do little: those that look, and the counting of a model. Beside each, in the
same run and in turn: `python -c "import pyarrow, deltalake"`, which every command that opens a table has to
pay.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/startup.py"
ARROW = [sys.executable, "-c", "import pyarrow, deltalake"]
ETALAGE = [sys.executable, "-m", "etalage.cli"]
CHEAP = {
    "--version": ["--version"],
    "status": ["status"],
    "tables": ["tables"],
    "models": ["models"],
    "bundles": ["bundles"],
    "doctor": ["doctor"],
    "train popularity, a new shop": ["train", "popularity"],
    "train popularity, again": ["train", "popularity"],
    "evaluate popularity": ["evaluate", "popularity"],
    "publish": ["publish"],
    "recommend": ["recommend", "u00001"],
}
"""Case → what is typed, in this order: the first training makes the store of runs, and publish needs it."""
NOTE = (
    "Processor seconds, user and system, of a command and of all processes that it waits for; median of "
    "{rounds} rounds in turn, and their lowest and highest. `ratio`: over the median of `import pyarrow, "
    "deltalake` of the same run. A shop of {interactions} drawn interactions and {items} items; its first "
    "training is measured with a new folder each round."
)


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    interactions: Annotated[int, typer.Option(min=100)] = 20_000,
    small: Small = False,
    out: Out = None,
) -> None:
    run = Run.of("startup", small, out)
    rounds, interactions = (1, 500) if small else (rounds, interactions)
    items = min(3_000, interactions // 5)
    helps = {f"{name} --help".strip(): [*name.split(), "--help"] for name in _help_of(small)}
    took: dict[str, list[float]] = {}
    cpu_seconds(ARROW, Path())  # what is read for the first time is waited for
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            shop = made_shop(Path(folder), interactions, items)
            took.setdefault("import pyarrow, deltalake", []).append(cpu_seconds(ARROW, shop))
            for case, words in (helps | CHEAP).items():
                took.setdefault(case, []).append(cpu_seconds([*ETALAGE, *words], shop))
                print(f"{case}: {took[case][-1]:.2f} s", flush=True)
    rows = list(_rows(took))
    note = NOTE.format(rounds=rounds, interactions=f"{interactions:,}", items=f"{items:,}")
    packages = ["etalage", "typer", "pydantic", "pyarrow", "deltalake", "numpy", "mlflow"]
    given = f"{COMMAND} --rounds {rounds} --interactions {interactions}"
    run.write(rows, command=given, seeds=[0], packages=packages, note=note)


def _help_of(small: bool) -> Iterator[str]:
    """Every command whose help is measured: all of them, or a few."""
    from etalage.cli import app

    yield ""
    top: Any = get_command(app)
    for name, command in top.commands.items():
        if not small or name in ("status", "train"):
            beneath = getattr(command, "commands", {})
            yield from [f"{name} {inner}" for inner in beneath] or [name]


def made_shop(folder: Path, interactions: int, items: int) -> Path:
    """A shop that has loaded its items and interactions; nothing was trained."""
    rng = random.Random(0)
    with (folder / "items.csv").open("w", encoding="utf-8") as file:
        file.write("item_id,title,price\n")
        file.writelines(f"i{n:05d},Item {n},{n % 90 + 1}.5\n" for n in range(items))
    with (folder / "acts.csv").open("w", encoding="utf-8") as file:
        file.write("user_id,item_id,kind,time\n")
        for n in range(interactions):
            item = int(rng.paretovariate(0.8)) % items
            file.write(f"u{rng.randrange(interactions // 10):05d},i{item:05d},buy,{1_700_000_000 + n * 60}\n")
    (folder / "shop.toml").write_text('name = "A shop"\n', encoding="utf-8")
    for words in (["items.csv", "items"], ["acts.csv", "interactions"]):
        cpu_seconds([*ETALAGE, "ingest", *words], folder)
    return folder


def cpu_seconds(command: list[str], folder: Path) -> float:
    """User and system seconds of a command and of all that it waited for. Raises RuntimeError: it failed."""
    with tempfile.TemporaryFile() as said:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):  # doctor may find a warning, or a problem
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read().decode()[-2000:]}")
    return used.ru_utime + used.ru_stime


def _rows(took: dict[str, list[float]]) -> Iterator[Row]:
    arrow = statistics.median(took["import pyarrow, deltalake"])
    for case, seconds in took.items():
        system = "python" if case.startswith("import") else "etalage"
        middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
        yield Row(case, system, "processor seconds", middle, low, high)
        yield Row(case, system, "ratio", middle / arrow, low / arrow, high / arrow)


if __name__ == "__main__":
    run_main(main)
