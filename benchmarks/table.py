"""What every benchmark writes: results/NAME.json and the Markdown table made from it."""

import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


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


def hardware() -> str:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = f"{len(names)} cores, {names[0]}" if names else model
    return f"{platform.system()} {platform.machine()}, {model}"


def write(
    name: str, rows: list[Row], *, command: str, seeds: list[int], packages: list[str], note: str
) -> None:
    """Write results/NAME.json and results/NAME.md. command: what anyone types to get the same."""
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    if _git("status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    facts = {
        "name": name,
        "command": command,
        "commit": commit,
        "seeds": seeds,
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "note": note,
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(_markdown(facts, rows), encoding="utf-8")


def _digits(row: Row) -> int:
    """Behind the point: a share has four; a count none."""
    if row.unit in ("s", "%") or abs(row.value) >= 100:
        return 0 if all(float(end).is_integer() for end in (row.value, row.low, row.high)) else 1
    return 4


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, cwd=RESULTS.parent).stdout.strip()


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
