"""The comparison grid: ranked by accuracy; what has random weights is timed alone."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etalage.evaluation.categories import CategoryMeasures, measure_categories
from etalage.evaluation.category_grid import Grid, Measured, grid
from tests.evaluation.trees import answers, ragged

TREE = ragged()
TRUTH = np.random.default_rng(3).integers(0, 7, 200)
NAMES = ("b3", "lite0", "v2_s")


@pytest.fixture(scope="module")
def measured() -> CategoryMeasures:
    systems = {
        name: answers(TRUTH, 7, skill, n)
        for n, (name, skill) in enumerate(zip(NAMES, (3, 6, 1), strict=True))
    }
    return measure_categories(TRUTH, systems, TREE, np.arange(1.0, 8), ks=(1, 3), bootstrap=100, simple=())


@pytest.fixture(scope="module")
def whole(measured: CategoryMeasures) -> Grid:
    times = {
        "b3": (31.5, 90.25, 60.0, 43.0),
        "lite0": (12.0, 14.0, 6.5, 18.0),
        "v2_s": (1234.5, 70, 50, 82.0),
    }
    models = [Measured(name, *times[name], random=name == "v2_s") for name in NAMES]
    return grid(measured, [*models, Measured("xception", None, 55.0, 40.0, 88.0, random=True)])


def column(whole: Grid, metric: str) -> list[str]:
    at = [one.metric for one in whole.columns].index(metric)
    return [row[at].text for row in whole.cells()]


def test_the_most_accurate_stands_first_and_random_weights_last(whole: Grid) -> None:
    assert [model.name for model in whole.models] == ["lite0", "b3", "xception", "v2_s"]


def test_every_column_of_the_request_is_there(whole: Grid) -> None:
    metrics = [one.metric for one in whole.columns]
    assert metrics == [
        "accuracy_level_1", "macro_f1_level_1",
        "accuracy_level_2", "top_3_level_2", "macro_f1_level_2",
        "accuracy", "top_3", "macro_f1",
        "value_true", "value_predicted", "severity", "calibration_error", "coverage_at_90",
        "minutes", "ms_1", "ms_64", "megabytes",
    ]  # fmt: skip


def test_random_weights_are_timed_and_not_ranked(whole: Grid, measured: CategoryMeasures) -> None:
    accuracy = [f"{measured.scores[name].intervals['accuracy'].value:.3f}" for name in ("lite0", "b3")]
    assert column(whole, "accuracy") == [*accuracy, "–", "–"]
    assert column(whole, "ms_64") == ["6.50", "60.00", "40.00", "50.00"]
    assert column(whole, "minutes") == ["12.0", "31.5", "–", "1,234.5"]
    kept = whole.to_json()
    assert [one["random"] for one in kept] == [False, False, True, True]
    assert kept[3]["accuracy"] is None and kept[3]["ms_1"]["value"] == 70


def test_the_best_of_a_column_is_marked_also_where_less_is_better(whole: Grid) -> None:
    for number, one in enumerate(whole.columns):
        cells = [row[number] for row in whole.cells()]
        there = [cell for cell in cells if cell.text != "–"]
        values = [float(cell.text.replace(",", "")) for cell in there]
        best = (min if one.lower else max)(values)
        assert all(
            (cell.best, cell.shade) == (True, 1.0)
            for cell, value in zip(there, values, strict=True)
            if value == best and cell.best
        )
        assert sum(cell.best for cell in cells) >= 1 and min(cell.shade for cell in cells) == 0


def test_the_markdown_is_a_table_with_a_row_a_model(whole: Grid) -> None:
    head, rule, *rows = whole.to_markdown().strip().splitlines()
    assert head.count("|") == rule.count("|") == len(whole.columns) + 2
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        "lite0", "b3", "xception (random weights)", "v2_s (random weights)",
    ]  # fmt: skip
    assert "**" in rows[0] and "mistakes edges ↓" in head


def test_the_html_is_escaped_and_shows_intervals(measured: CategoryMeasures) -> None:
    bad = "<script>alert(1)</script>"
    found = grid(measured, [Measured(bad, 1, 1, 1, 1, measured.scores["b3"].intervals)]).to_html()
    assert "<script>" not in found and "&lt;script&gt;" in found
    low = measured.scores["b3"].intervals["accuracy"].low
    assert re.search(rf"<small>{low:.3f} – ", found)


def test_the_picture_shows_the_figures(tmp_path: Path, whole: Grid, measured: CategoryMeasures) -> None:
    file = whole.draw(tmp_path / "new" / "grid.png")
    image = Image.open(file)
    assert image.width > 1500 and image.height > 250 and file.stat().st_size < 500_000
    other = grid(measured, [Measured("lite0", 1.0, 1, 1, 1)]).draw(tmp_path / "one.png")
    assert Image.open(other).height < image.height
    again = whole.draw(tmp_path / "again.png")
    assert again.read_bytes() == file.read_bytes()


def test_names_that_matplotlib_would_interpret_are_drawn(tmp_path: Path, measured: CategoryMeasures) -> None:
    assert grid(measured, [Measured("$\\frac{", 1, 1, 1, 1)]).draw(tmp_path / "g.png").is_file()
