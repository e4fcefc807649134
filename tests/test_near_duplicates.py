"""The page on near-duplicates says what the benchmark found."""

import json
import re
from pathlib import Path


def test_every_figure_of_the_page_is_one_of_the_benchmark(project: Path) -> None:
    found = json.loads(
        (project / "benchmarks" / "results" / "near_duplicates.json").read_text(encoding="utf-8")
    )
    known = {f"{row[end]:.3f}" for row in found["rows"] for end in ("value", "low", "high")}
    known |= {f"{row['value']:.0f}" for row in found["rows"] if row["value"] > 1}
    page = (project / "docs" / "near_duplicates.md").read_text(encoding="utf-8")
    figures = re.findall(r"\d\.\d{3}", page)
    assert len(figures) > 25 and not [figure for figure in figures if figure not in known]
    counts = re.findall(r"(?:^\| 0\.8\d \| (\d+) )|(?:1 bit\s+(\d+))|(?:4 bits\s+(\d+))", page, re.MULTILINE)
    assert len(counts) == 5 and all(count in known for found in counts for count in found if count)


def test_the_page_tells_both_ways_and_the_difference(project: Path) -> None:
    found = json.loads(
        (project / "benchmarks" / "results" / "near_duplicates.json").read_text(encoding="utf-8")
    )
    value = {(row["case"], row["system"], row["metric"]): row["value"] for row in found["rows"]}
    case = "grouped from cosine 0.84"
    left_in, by_group = (
        value[case, "near-duplicates left in", "accuracy"],
        value[case, "by group", "accuracy"],
    )
    page = (project / "docs" / "near_duplicates.md").read_text(encoding="utf-8")
    assert f"photo by photo | {left_in:.3f}" in page and f"split by group | {by_group:.3f}" in page
    assert f"difference | {value['same photos', 'difference', 'accuracy']:.3f}" in page
