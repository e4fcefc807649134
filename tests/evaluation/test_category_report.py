"""The page of categories, the confusion of the most valuable ones and the costliest mistakes."""

import csv
import io
import json
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from etalage.evaluation.categories import Answers, CategoryMeasures, measure_categories
from etalage.evaluation.category_confusion import (
    ELSEWHERE,
    most_valuable,
    short_names,
    worst_mistakes,
)
from etalage.evaluation.category_sections import category_metrics, category_sections, words_of
from etalage.evaluation.drawing import draw_confusion
from etalage.evaluation.gate import Verdict
from etalage.evaluation.report import write_report
from etalage.evaluation.sections import Training
from etalage.lake.taxonomy import Taxonomy
from tests.evaluation.test_report import Page, photo
from tests.evaluation.trees import answers, ragged, wide

TREE = ragged()
LEAVES = len(TREE.leaves_L)
RNG = np.random.default_rng(9)
TRUTH = RNG.choice(LEAVES, 300, p=[0.3, 0.2, 0.05, 0.1, 0.15, 0.2, 0.0])  # no gift was judged
VALUES = np.array([10.0, 1, 70, 50, 3, 3, 500])
SYSTEMS = {"model": answers(TRUTH, LEAVES, 4), "simple": answers(TRUTH, LEAVES, 1, 1)}
DECIDED = SYSTEMS["model"].probabilities_NL.argmax(axis=1)


@pytest.fixture(scope="module")
def measured() -> CategoryMeasures:
    return measure_categories(TRUTH, SYSTEMS, TREE, VALUES, bootstrap=100)


def written(
    tmp_path: Path,
    measured: CategoryMeasures,
    *,
    title: str = "model",
    gate: Verdict | None = None,
    history: list[dict[str, float]] | None = None,
    taxonomy: Taxonomy = TREE,
    facts: dict[str, str] | None = None,
    **changes: object,
) -> Page:
    content: dict[str, object] = {"photos": lambda row: photo("RGB", (40, 30 + row % 7))}
    sections = category_sections(measured, taxonomy, **(content | changes))  # type: ignore[arg-type]
    files = write_report(
        tmp_path / "new" / "r.html",
        title,
        [*sections, Training(history or [])],
        facts=facts or {"Seed": "17"},
        verdict=gate or measured.verdict,
    )
    assert all(file.is_file() for file in files)
    return Page(files[0])


def test_the_matrix_has_the_most_valuable_top_left_predicted_down_and_true_across() -> None:
    found = most_valuable(TRUTH, DECIDED, VALUES, TREE, most=4)
    order = [2, 3, 0, 4]  # by value; of the two saws, of equal value, the first in the file
    assert found.ids == tuple(TREE.ids[TREE.leaves_L[place]] for place in order)
    assert found.values_C.tolist() == [70, 50, 10, 3]
    theirs = confusion_matrix(TRUTH, DECIDED, labels=range(LEAVES))  # true down, predicted across
    assert np.array_equal(found.counts_CC, theirs[np.ix_(order, order)].T)
    away = [place for place in range(LEAVES) if place not in order]
    assert found.elsewhere_C.tolist() == theirs[np.ix_(order, away)].sum(axis=1).tolist()
    sums = found.shares_CC.sum(axis=0) + found.elsewhere_C / np.bincount(TRUTH)[order]
    assert np.allclose(sums, 1)


def test_the_matrix_as_csv_and_json_is_the_matrix() -> None:
    found = most_valuable(TRUTH, DECIDED, VALUES, TREE)
    head, *rows = csv.reader(io.StringIO(found.to_csv()))
    assert head[1:] == list(found.paths) and [row[0] for row in rows] == [*found.paths, ELSEWHERE]
    assert np.array_equal(np.array([row[1:] for row in rows[:-1]], int), found.counts_CC)
    kept = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert kept["counts"] == found.counts_CC.tolist() and kept["rows"] == "predicted"
    assert kept["categories"][0]["path"] == "Food > Fruit > Plum"


def test_the_costliest_mistakes_are_counted_and_their_rows_are_theirs() -> None:
    confidence = SYSTEMS["model"].probabilities_NL.max(axis=1)
    found = worst_mistakes(TRUTH, DECIDED, confidence, VALUES, TREE, most=5, photos=3)
    lost = {}
    for true, predicted in zip(TRUTH[TRUTH != DECIDED], DECIDED[TRUTH != DECIDED], strict=True):
        lost[true, predicted] = lost.get((true, predicted), 0.0) + VALUES[true] / VALUES[TRUTH].sum()
    assert [one.lost for one in found] == pytest.approx(sorted(lost.values(), reverse=True)[:5])
    paths = [TREE.path(int(row)) for row in TREE.leaves_L]
    for one in found:
        true, predicted = paths.index(one.true), paths.index(one.predicted)
        own = (true == TRUTH) & (predicted == DECIDED)
        assert one.count == own.sum() and one.of == np.count_nonzero(true == TRUTH) and 0 < len(one.rows) <= 3
        assert own[list(one.rows)].all() and list(one.rows) == sorted(
            one.rows, key=lambda row: -confidence[row]
        )
        assert confidence[one.rows[0]] == confidence[own].max()
        assert all(TRUTH[row] == DECIDED[row] == predicted for row in one.alike)
        assert one.edges == TREE.distance(int(TREE.leaves_L[true]), int(TREE.leaves_L[predicted])) > 0
    assert worst_mistakes(TRUTH, TRUTH, confidence, VALUES, TREE) == []


def test_the_page_shows_every_figure_and_needs_no_other_file(
    tmp_path: Path, measured: CategoryMeasures
) -> None:
    page = written(tmp_path, measured, title="A model", history=[{"leaf_accuracy": 0.5, "loss": 2.0}] * 3)
    for system, scores in measured.scores.items():
        assert system in page.text
        for name, interval in scores.intervals.items():
            assert words_of(name).partition(", level")[0] in page.text, name
            for value in interval:
                assert f"{value:.3f}" in page.text, name
    assert "model beats the best simple system, simple" in page.text and "A model" in page.text
    assert "Food > Fruit > Plum" in page.text and "Seed" in page.text and "300 items" in page.text
    links = [
        value or "" for _, every in page.tags for name, value in every.items() if name in ("src", "href")
    ]
    assert links and all(link.startswith("data:image/") for link in links)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    for image in page.images():
        image.load()
    folder = tmp_path / "new" / "r"
    names = [
        "confusion.csv",
        "confusion.json",
        "confusion.png",
        "coverage.png",
        "epochs.png",
        "levels.png",
        "reliability.png",
    ]
    assert sorted(file.name for file in folder.iterdir()) == names


def test_a_loss_is_red_and_a_gain_green_also_where_less_is_better(tmp_path: Path) -> None:
    turned = {"m": SYSTEMS["simple"], "s": SYSTEMS["model"]}
    for systems, ahead, behind in ((SYSTEMS, "better", "worse"), (turned, "worse", "better")):
        found = measure_categories(TRUTH, systems, TREE, VALUES, bootstrap=100)
        sure = {row.name: row.sure for row in category_metrics(found).rows}
        for name in ("accuracy", "top_3", "macro_f1", "value_true", "severity", "risk_area"):
            assert sure[name] == ahead, name
        assert sum(attributes.get("class") == ahead for _, attributes in written(tmp_path, found).tags) >= 6
        gains = found.scores[next(iter(systems))].gains
        assert all(sure[name] == "" for name in sure if gains[name].low <= 0 <= gains[name].high)
        assert behind not in [sure[name] for name in sure if not name.startswith("calibration")]


def test_the_verdict_may_be_of_other_items(tmp_path: Path, measured: CategoryMeasures) -> None:
    gate = measure_categories(
        TRUTH[:15],
        {n: Answers(one.probabilities_NL[:15]) for n, one in SYSTEMS.items()},
        TREE,
        VALUES,
        bootstrap=100,
    ).verdict
    page = written(tmp_path, measured, gate=gate)
    assert "15 questions are too few to tell" in page.text


def test_f38_script_in_any_text_stays_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    names = [f"{name} {bad}" for name in TREE.names]
    tree = Taxonomy(TREE.ids, names, TREE.parents_N)
    found = measure_categories(TRUTH, {bad: SYSTEMS["simple"]}, tree, VALUES, bootstrap=100)
    page = written(
        tmp_path, found, taxonomy=tree, facts={bad: bad}, title=bad, titles=[bad] * 300, value_words=bad,
        photos=lambda row: photo(),
    )  # fmt: skip
    assert "script" not in {tag for tag, _ in page.tags}
    assert all((a["src"] or "").startswith("data:") for tag, a in page.tags if tag == "img")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(bad) > 20


def test_photos_that_are_missing_or_broken_are_said_to_be(tmp_path: Path, measured: CategoryMeasures) -> None:
    page = written(tmp_path, measured, photos=lambda row: (None, b"", b"no image")[row % 3])
    assert page.text.count("no photo") > 10 and len(page.images()) == 4
    assert "no photo" in written(tmp_path, measured, photos=None).text


def test_a_model_without_a_mistake_or_a_rival_has_a_page_too(tmp_path: Path) -> None:
    sure = Answers(np.eye(LEAVES, dtype=np.float32)[TRUTH])
    page = written(tmp_path, measure_categories(TRUTH, {"m": sure}, TREE, VALUES, bootstrap=100))
    assert "costliest" not in page.text and "gain" not in page.text


def test_names_that_are_alike_are_told_apart() -> None:
    names = ["A > Food > Milk", "B > Drinks > Milk", "B > Cream"]
    assert short_names(names) == ["A > Food > Milk", "B > Drinks > Milk", "Cream"]
    long = ["Arla ecological medium fat milk of the north", "Garant ecological medium fat milk of the north"]
    assert len(set(short_names(long))) == 2 and max(map(len, short_names(long))) <= 34
    assert short_names(["$\\frac{"]) == ["$\\frac{"], "draw_confusion makes it plain"


def test_the_drawing_follows_the_counts(tmp_path: Path) -> None:
    found = most_valuable(TRUTH, DECIDED, VALUES, TREE)
    again = most_valuable(TRUTH, TRUTH, VALUES, TREE)
    assert draw_confusion(found) == draw_confusion(found) != draw_confusion(again)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_3_000_leaves_and_50_000_items_make_a_page_in_little_memory(tmp_path: Path) -> None:
    tree = wide()
    leaves = len(tree.leaves_L)
    rng = np.random.default_rng(0)
    truth = (rng.pareto(1.0, 50_000) * 40).astype(int) % leaves
    given = rng.random((50_000, leaves), dtype=np.float32)
    given[np.arange(50_000), truth] += rng.random(50_000, dtype=np.float32)
    given /= given.sum(axis=1, keepdims=True)
    systems = {
        "model": Answers(given),
        "other": Answers(given, (truth + rng.integers(0, 2, 50_000)) % leaves),
    }
    values = rng.lognormal(3, 2, leaves)
    tracemalloc.start()
    start = time.perf_counter()
    found = measure_categories(truth, systems, tree, values, bootstrap=50, groups_N=np.arange(50_000) // 2)
    between, peak = time.perf_counter(), tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    sections = category_sections(found, tree, photos=lambda row: photo())
    file = write_report(tmp_path / "r.html", "wide", sections, verdict=found.verdict)[0]
    drawn = time.perf_counter() - between
    sys.stderr.write(
        f"\n50,000 items, {leaves:,} leaves, 2 systems, 50 resamples: measured in {between - start:.1f} s, "
        f"drawn in {drawn:.1f} s, {peak:.0f} MiB beside {given.nbytes / 2**20:.0f} MiB of probabilities\n"
    )
    assert peak < given.nbytes / 2**20 / 2
    assert file.stat().st_size < 5_000_000
    matrix = Image.open(tmp_path / "r" / "confusion.png")
    assert matrix.width < 3000 and matrix.height < 3000
    assert len(json.dumps(found.to_json())) < 200_000
