"""What every benchmark shares: where its data lie, where its results go, and the table made from them.

`--small` runs a script tiny, on miniature data that it draws (miniature.py), in seconds: `make bench-small`
runs all of them so. Nothing of that ever goes into benchmarks/results.
"""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from etalage.errors import EtalageError

Answer = TypeVar("Answer")
ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("ETALAGE_DATA", ROOT.parent / "shared" / "data"))
"""Where the public data sets lie, a folder each, unless a script is told otherwise."""
Small = Annotated[
    bool,
    typer.Option("--small", help="Tiny, on drawn data: seconds, and figures that mean nothing."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the results; default: benchmarks/results, a new one for --small."),
]


def run_main(main: Callable[..., Any]) -> None:
    """Run a script's `main` by its command line; an error of ours is one message and its exit code."""
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@dataclass(frozen=True)
class Row:
    """One figure: `low` and `high` are the ends of its interval, which the table's note explains."""

    case: str
    system: str
    metric: str
    value: float
    low: float
    high: float
    unit: str = ""


@dataclass(frozen=True)
class Run:
    """One run of one script: whether it is a small one, and where it writes."""

    name: str
    small: bool
    out: Path

    @classmethod
    def of(cls, name: str, small: bool, out: Path | None) -> "Run":
        """Raises typer.BadParameter: small results are to go among the real ones."""
        if small and out is not None and out.resolve() == RESULTS.resolve():
            raise typer.BadParameter(f"--small does not write into {RESULTS}: name another folder")
        if out is None:
            out = Path(tempfile.mkdtemp(prefix=f"bench-{name}-")) if small else RESULTS
        return cls(name, small, out.resolve())  # what a script starts may stand in another folder

    def data(self, given: Path | None, name: str, drawn: Callable[[Path], Path]) -> Path:
        """A data set: what was `given`, else the file or folder `name` in DATA; `drawn` when small.

        Raises typer.BadParameter: there is none.
        """
        if self.small:
            folder = self.out / "data" / drawn.__name__
            return folder if folder.exists() else drawn(folder)
        found = (DATA / name if given is None else given).resolve()
        if not found.exists():
            raise typer.BadParameter(f"no data at {found}: name it, or set ETALAGE_DATA to a folder of them")
        return found

    def work(self, given: Path | None = None) -> Path:
        """Where finished parts are kept, so that a benchmark that was stopped goes on."""
        if given is not None:
            return given
        return self.out / "work" if self.small else ROOT / "build" / f"benchmark-{self.name}"

    def alone(self, work: Callable[..., Answer], *given: Any) -> Answer:
        """`work` in a process of its own, so that its peak of memory is its own; when small, in this one."""
        if self.small:
            return work(*given)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(work, *given).result()

    def write(
        self, rows: list[Row], *, command: str, seeds: list[int], packages: list[str], note: str
    ) -> None:
        """Write NAME.json and NAME.md, and print the table. command: what anyone types to get the same."""
        commit = _git("rev-parse", "--short", "HEAD") or "unknown"
        if _git("status", "--porcelain", "--untracked-files=no"):
            commit += " with changes"
        facts = {
            "name": self.name,
            "command": f"{command} --small" if self.small else command,
            "commit": commit,
            "seeds": seeds,
            "hardware": hardware(),
            "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
            "note": note,
            "rows": [asdict(row) for row in rows],
        }
        self.out.mkdir(parents=True, exist_ok=True)
        table = _markdown(facts, rows)
        (self.out / f"{self.name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        (self.out / f"{self.name}.md").write_text(table, encoding="utf-8")
        print(table)
        if self.small:
            print(f"small: these figures mean nothing; they are in {self.out}")


def hardware() -> str:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = f"{len(names)} cores, {names[0]}" if names else model
    return f"{platform.system()} {platform.machine()}, {model}"


def _digits(row: Row) -> int:
    """Behind the point: a share has four; a count none."""
    if row.unit in ("s", "%") or abs(row.value) >= 100:
        return 0 if all(float(end).is_integer() for end in (row.value, row.low, row.high)) else 1
    return 4


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, cwd=ROOT).stdout.strip()


def _markdown(facts: dict[str, object], rows: list[Row]) -> str:
    lines = [
        f"# {facts['name']}",
        "",
        f"`{facts['command']}` at commit {facts['commit']}, {facts['hardware']}.",
    ]
    lines += [
        "",
        str(facts["note"]),
        "",
        "| case | system | metric | value | interval |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        digits = _digits(row)
        interval = f"{row.low:.{digits}f} – {row.high:.{digits}f}"
        value = f"{row.value:.{digits}f} {row.unit}".strip()
        lines.append(f"| {row.case} | {row.system} | {row.metric} | {value} | {interval} |")
    return "\n".join([*lines, ""])
