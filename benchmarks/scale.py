"""What would it cost at the size of the original: 36 million products once, 25 billion a day; a billion
interactions of 300 million shoppers, on 100 million items?

    python benchmarks/scale.py

Multiplies what category_inference.json and photos_fetch.json measured on one core, and carries on the growth
that scale_steps.json found; measures nothing itself.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent)]
from table import RESULTS, Out, Row, Run, Small, run_main  # noqa: E402

SIZES = {"36 million": 36e6, "25 billion": 25e9}
DAY_HOURS = 24.0
STEPS = {
    "1 billion interactions": (1e9, ("ingest", "item_knn", "item_knn, sequence", "ials", "evaluation")),
    "100 million items": (1e8, ("publish", "sync", "index, exact", "index, ivf_flat")),
}
"""How large, and what of scale_steps.json is carried on to there."""
NOTE = (
    "Core hours: photos over photos a second of one core, measured here; cores: so many do it in a day. "
    "`fetch` is asking, downloading, decoding, resizing and storing at 256 pixels (photos_fetch.json); "
    "`decode` and the networks are of category_inference.json, at batch 64. Linear, which hosts are not: of "
    "a merchant with one host and a request every 0.25 s no cluster fetches more than 345,600 photos a day. "
    "Interactions and items: what the largest size of scale_steps.json took, times (rows over its rows) to "
    "the exponent that was fitted there, its interval two standard errors wide: a factor of a thousand away "
    "from what was measured, and so a rough guess. Memory is that of one process that does all of it. "
    "Measured while other work ran on the machine."
)


def main(small: Small = False, out: Out = None) -> None:
    run = Run.of("scale", small, out)
    rates = {**_inference(), **_fetching()}
    rows = []
    for size, count in SIZES.items():
        for stage, (value, low, high) in rates.items():
            hours = [count / rate / 3600 for rate in (value, high, low)]
            rows.append(Row(size, stage, "core hours", *hours, "h"))
            rows.append(Row(size, stage, "cores for one day", *(one / DAY_HOURS for one in hours)))
    for size, (count, steps) in STEPS.items():
        for step in steps:
            rows += _carried_on(size, count, step)
    run.write(rows, command="python benchmarks/scale.py", seeds=[], packages=["numpy"], note=NOTE)


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def _carried_on(size: str, count: float, step: str) -> list[Row]:
    """A step at `count` rows, by what it took at its largest size and by how it grew; none where too few
    sizes were measured to say."""
    found = [row for row in _rows("scale_steps") if row["system"] == step]
    done = []
    for what, metric, unit, scale in (
        ("time", "processor seconds", "h", 3600), ("memory", "peak MiB", "GiB", 1024)
    ):  # fmt: skip
        grew = next((r for r in found if r["case"] == "exponent" and r["metric"] == what), None)
        sized = [r for r in found if r["metric"] == metric]
        if grew is None or not sized:
            continue
        largest = max(sized, key=lambda row: _size_of(row["case"]))
        factor = count / _size_of(largest["case"])
        low, value, high = (
            largest["value"] * factor ** grew[end] / scale for end in ("low", "value", "high")
        )
        name = "core hours" if what == "time" else "memory of one process"
        done.append(Row(size, step, name, value, low, high, unit))
    return done


def _size_of(case: str) -> int:
    return int(case.partition(" ")[0].replace(",", ""))


def _inference() -> dict[str, tuple[float, float, float]]:
    """Stage → photos a second of one core, with its range."""
    found = {}
    for row in _rows("category_inference"):
        backbone = row["case"].partition(",")[0]
        rate = row["value"], row["low"], row["high"]
        if row["system"] == "decode" and backbone == "tf_efficientnet_lite0":
            found["decode"] = rate
        if row["system"] in ("onnx", "int8") and row["metric"] == "photos a second, batch 64":
            found[f"{backbone}, {row['system']}"] = rate
    return found


def _fetching() -> dict[str, tuple[float, float, float]]:
    for row in _rows("photos_fetch"):
        if row["system"] == "fetch" and row["metric"] == "photos a second per core":
            return {"fetch": (row["value"], row["low"], row["high"])}
    raise KeyError("photos_fetch.json has no photos a second per core of fetch")


if __name__ == "__main__":
    run_main(main)
