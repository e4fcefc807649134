"""What categories are worth, by a list and by what was bought."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import InputUnreadable
from etalage.lake.category_values import bought_values, leaf_values, read_values
from etalage.lake.taxonomy import Taxonomy

ROWS = (
    ("1", -1, "Food"), ("10", 0, "Fruit"), ("11", 1, "Apples"), ("12", 1, "Pears"), ("13", 1, "Plums"),
    ("14", 0, "Bread"), ("2", -1, "Tools"), ("110", 2, "Pink"), ("111", 2, "Green"),
)  # fmt: skip
"""Leaves: Pears 12, Plums 13, Bread 14, Tools 2, Pink 110, Green 111."""


@pytest.fixture(scope="module")
def tree() -> Taxonomy:
    return Taxonomy([id for id, _, _ in ROWS], [n for _, _, n in ROWS], np.array([up for _, up, _ in ROWS]))


def by_leaf(tree: Taxonomy, values_L: np.ndarray) -> dict[str, float]:
    return {tree.ids[leaf]: value for leaf, value in zip(tree.leaves_L, values_L.tolist(), strict=True)}


def listed(tmp_path: Path, rows: str, head: str = "category_id,value") -> Path:
    file = tmp_path / "values.csv"
    file.write_text(f"{head}\n{rows}", encoding="utf-8")
    return file


def test_values_stand_by_id_or_path(tree: Taxonomy, tmp_path: Path) -> None:
    values = read_values(tree, listed(tmp_path, "12,3.5\nFood > Bread,0.25\n"))
    assert values.tolist() == [0, 0, 0, 3.5, 0, 0.25, 0, 0, 0]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("12,1\n99,2\n", "line 3: '99' is no category"),
        (",2\n", "line 2: None is no category"),
        ("12,1\nFood > Fruit > Pears,2\n", "line 3: 'Food > Fruit > Pears' has a value in line 2"),
        ("12,dear\n", "line 2: value 'dear' is not a number"),
        ("12,-1\n", "line 2: value '-1' is negative"),
        ("12,inf\n", "line 2: value 'inf' is not a finite number"),
        ("12,\n", "line 2: '12' has no value"),
    ],
)
def test_a_line_that_is_wrong_is_named(tree: Taxonomy, tmp_path: Path, rows: str, told: str) -> None:
    file = listed(tmp_path, rows)
    with pytest.raises(InputUnreadable, match=re.escape(f"{file}: {told}")):
        read_values(tree, file)


def test_a_value_above_the_leaves_is_shared_out_evenly(tree: Taxonomy) -> None:
    values = np.zeros(len(tree))
    values[[tree.row("10"), tree.row("12"), tree.row("2")]] = 8, 1, 5
    assert by_leaf(tree, leaf_values(tree, tree, values)) == {
        "12": 3, "13": 2, "14": 0, "2": 5, "110": 2, "111": 2,
    }  # fmt: skip


def test_what_was_cut_off_counts_for_the_category_above_it(tree: Taxonomy) -> None:
    cut = tree.cut(3)
    values = np.zeros(len(tree))
    values[[tree.row("110"), tree.row("111"), tree.row("11"), tree.row("13")]] = 1, 2, 4, 8
    assert by_leaf(cut, leaf_values(cut, tree, values)) == {"11": 7, "12": 0, "13": 8, "14": 0, "2": 0}


def test_a_leaf_that_is_not_among_those_that_are_left_counts_for_none(tree: Taxonomy) -> None:
    some = tree.pruned(np.array([tree.row("110"), tree.row("14")]))
    values = np.zeros(len(tree))
    values[[tree.row("12"), tree.row("14"), tree.row("110"), tree.row("2")]] = 100, 3, 2, 50
    assert by_leaf(some, leaf_values(some, tree, values)) == {"110": 2, "14": 3}


@given(values=st.lists(st.floats(0, 1e6), min_size=9, max_size=9), level=st.integers(1, 4))
def test_nothing_is_lost_or_counted_twice_by_a_cut(tree: Taxonomy, values: list[float], level: int) -> None:
    shared = leaf_values(tree.cut(level), tree, np.array(values))
    assert shared.shape == tree.cut(level).leaves_L.shape
    assert shared.sum() == pytest.approx(sum(values))


def bought(*rows: tuple[str, float | None]) -> pa.Table:
    items, values = zip(*rows, strict=True) if rows else ((), ())
    return pa.table(
        {
            "item_id": pa.array(items, pa.string()),
            "value": pa.array(values, pa.float64()),
        }
    )


def test_purchases_count_their_value_or_one(tree: Taxonomy) -> None:
    rows = np.array([tree.row("12"), tree.row("10"), -1])
    found = bought_values(
        tree,
        rows,
        ["pear", "fruit", "thing"],
        bought(("pear", 2.5), ("pear", None), ("fruit", 0.0), ("thing", 9.0), ("gone", 9.0), ("fruit", 4.0)),
    )
    assert found.tolist() == [0, 5, 0, 3.5, 0, 0, 0, 0, 0]


def test_where_nothing_was_bought_nothing_is_worth_anything(tree: Taxonomy) -> None:
    assert bought_values(tree, np.array([3]), ["pear"], bought()).tolist() == [0] * 9
