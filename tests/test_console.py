"""Progress without a terminal, times in words, and tables that are cut on a terminal alone."""

import io

import pytest
from rich.console import Console

from etalage.console import PLAIN, Lines, add_row, bar, duration, err, roughly, speak, speaking, table_of


def test_a_step_is_named_when_it_goes_on_and_then_tells_what_is_new() -> None:
    lines = Lines("read the tables", None, now=0.0)
    assert lines.due(2.0) == "read the tables …"
    assert lines.due(12.0) is None, "nothing is new"
    lines(500, now=13.0)
    assert lines.due(22.0) == "read the tables: 500"
    assert lines.last(23.0) == "read the tables: 500/500 23 s"


def test_a_training_tells_about_how_long_it_will_take() -> None:
    lines = Lines("train", None, now=0.0)
    lines.say("train: epoch 1, loss 0.5000", 1000)
    lines(1, now=10.0)
    lines(99, now=19.0)
    assert lines.due(20.0) == "train: epoch 1, loss 0.5000: 100/1,000 (10%), about 91 s left"


def test_what_a_run_that_goes_on_has_from_before_makes_it_no_faster() -> None:
    lines = Lines("train", 1000, now=0.0)
    lines(900, now=10.0)
    lines(10, now=20.0)
    assert lines.due(20.0) == "train: 910/1,000 (91%), about 90 s left"


def test_a_step_that_is_done_is_not_estimated() -> None:
    lines = Lines("count", 10, now=0.0)
    lines(4, now=1.0)
    lines(6, now=2.0)
    assert lines.due(3.0) == "count: 10/10 (100%)"


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (0.04, "0.0 s", "1 s"),
        (9.94, "9.9 s", "10 s"),
        (75, "75 s", "75 s"),
        (200, "3 min 20 s", "3 min"),
        (7500, "2 h 5 min", "2.1 h"),
    ],
)
def test_times_are_told_in_units_that_one_thinks_in(seconds: float, exact: str, rough: str) -> None:
    assert (duration(seconds), roughly(seconds)) == (exact, rough)


def test_quiet_and_json_show_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ({"quiet": True}, {"json": True}, {}):
        with speaking():
            speak(**given)
            with bar("count", 2) as meter:
                meter(2)
        shown = capsys.readouterr().err
        assert ("count: 2/2" in shown) == (not given)


def test_a_bar_fits_a_terminal_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(err, "_force_terminal", True)
    monkeypatch.setattr(err, "_width", 80)
    monkeypatch.setattr(err, "_file", screen)
    with bar("measure " + ", ".join(f"model_{n}" for n in range(20)), 3) as meter:
        meter(3)
    shown = [line for line in screen.getvalue().splitlines() if "measure" in line]
    assert len(shown) == 1 and "…" in shown[0] and "3/3" in shown[0], "the title is cut, the count is not"


def test_a_table_is_cut_with_an_ellipsis_on_a_terminal_and_whole_elsewhere() -> None:
    table = table_of("rank", "title", "price")
    add_row(table, 1, "A very long title " * 10, "12.50 EUR")
    for width, whole in ((80, False), (100_000, True)):
        shown = io.StringIO()
        Console(**PLAIN, width=width, file=shown).print(table)
        line = shown.getvalue().splitlines()[1].rstrip()
        assert line.endswith("12.50 EUR") and ("…" not in line) == whole
        assert len(shown.getvalue().splitlines()) == 2, "a row is a line"


def test_a_table_breaks_no_word_and_is_paragraphs_where_its_words_do_not_fit() -> None:
    table = table_of("system", "metric", "value", "over", "")
    add_row(
        table, "item_knn", "recall_at_20", "0.1234 [0.1200, 0.1300]", "popularity", "gains on all of them"
    )
    add_row(table, "a-model-of-the-shop-" * 8, None, "0.1 [0.1, 0.2]", None, "refused")
    lines = {}
    for width in (70, 50):
        shown = io.StringIO()
        Console(**PLAIN, width=width, file=shown).print(table)
        lines[width] = [line.rstrip() for line in shown.getvalue().splitlines()]
    words = {word for line in lines[70] for word in line.split()}
    assert {"recall_at_20", "[0.1200,", "0.1300]", "popularity", "gains"} <= words
    assert max(map(len, lines[70])) <= 70 and lines[70][0].split()[0] == "system"
    assert lines[50] == [
        "item_knn", "  metric: recall_at_20", "  value: 0.1234 [0.1200, 0.1300]", "  over: popularity",
        "  gains on all of them", "a-model-of-the-shop-" * 8, "  value: 0.1 [0.1, 0.2]", "  refused",
    ]  # fmt: skip
