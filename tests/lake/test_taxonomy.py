"""The laws of the tree, against a reference that walks it, on ragged trees in any order of rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import ExportDamaged
from etalage.lake.taxonomy import Taxonomy
from etalage.lake.taxonomy_files import read_google

#   0 pets                    4 clothes
#   ├── 1 cats                ├── 5 shoes
#   │   └── 2 litter          └── 6 hats
#   └── 3 dogs            7 gifts
NAMES = ("pets", "cats", "litter", "dogs", "clothes", "shoes", "hats", "gifts")
PARENTS = (-1, 0, 1, 0, -1, 4, 4, -1)


@pytest.fixture
def ragged() -> Taxonomy:
    return Taxonomy([f"c{row}" for row in range(len(NAMES))], NAMES, np.array(PARENTS))


@st.composite
def trees(draw: st.DrawFn) -> Taxonomy:
    """Any forest; a row's parent may stand behind it."""
    count = draw(st.integers(1, 24))
    above = [draw(st.integers(-1, row - 1)) for row in range(count)]
    place = draw(st.permutations(range(count)))
    parents = np.full(count, -1, dtype=np.int64)
    for row, parent in enumerate(above):
        parents[place[row]] = place[parent] if parent >= 0 else -1
    return Taxonomy([f"c{row}" for row in range(count)], [f"name {row}" for row in range(count)], parents)


def walked(tree: Taxonomy, row: int) -> list[int]:
    """The rows from the top to `row`, by the parents alone."""
    found = [row]
    while tree.parents_N[found[0]] >= 0:
        found.insert(0, int(tree.parents_N[found[0]]))
    return found


def edges(tree: Taxonomy, a: int, b: int) -> int:
    """The length of the way from `a` to `b`, breadth first over an undirected tree with a root."""
    root = len(tree)
    near: dict[int, set[int]] = {row: set() for row in range(root + 1)}
    for row, parent in enumerate(tree.parents_N.tolist()):
        parent = root if parent < 0 else parent
        near[row].add(parent)
        near[parent].add(row)
    reached, border, steps = {a}, {a}, 0
    while b not in reached:
        border = {other for row in border for other in near[row]} - reached
        reached |= border
        steps += 1
    return steps


# -- one category ------------------------------------------------------------------------------


def test_a_category_is_found_by_its_id_and_told_by_its_path(ragged: Taxonomy) -> None:
    assert ragged.path(ragged.row("c2")) == "pets > cats > litter"
    assert ragged.steps(2) == (0, 1, 2)
    assert ragged.row("c9") == -1
    assert ragged.steps(-1) == ()


def test_ids_are_text_and_01_is_not_1() -> None:
    tree = Taxonomy(["1", "01"], ["one", "another"], np.array([-1, 0]))
    assert (tree.row("1"), tree.row("01"), tree.row("001")) == (0, 1, -1)


def test_children_are_those_right_beneath(ragged: Taxonomy) -> None:
    assert ragged.children(0).tolist() == [1, 3]
    assert ragged.children(-1).tolist() == ragged.top.tolist() == [0, 4, 7]
    assert ragged.children(7).tolist() == []


def test_leaves_are_at_any_depth_in_the_order_of_the_file(ragged: Taxonomy) -> None:
    assert ragged.leaves_L.tolist() == [2, 3, 5, 6, 7]
    assert ragged.depths_N[ragged.leaves_L].tolist() == [3, 2, 2, 2, 1]
    assert ragged.depth == 3


@given(trees(), st.data())
def test_steps_and_ancestors_agree_with_a_walk_along_the_parents(tree: Taxonomy, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(tree) - 1))
    way = walked(tree, row)
    assert list(tree.steps(row)) == way
    assert tree.depths_N[row] == len(way)
    assert tree.path(row) == " > ".join(tree.names[step] for step in way)
    for depth in range(1, tree.depth + 3):
        assert tree.ancestor(row, depth) == way[min(depth, len(way)) - 1]


# -- levels and cuts ---------------------------------------------------------------------------


def test_a_level_holds_its_categories_and_the_leaves_above_it(ragged: Taxonomy) -> None:
    rows, places = ragged.at_level(2)
    assert rows.tolist() == [1, 3, 5, 6, 7]
    assert places.tolist() == [0, 1, 2, 3, 4]
    rows, places = ragged.at_level(1)
    assert rows.tolist() == [0, 4, 7]
    assert places.tolist() == [0, 0, 1, 1, 2]


@given(trees(), st.integers(1, 9))
def test_a_level_parts_the_leaves(tree: Taxonomy, level: int) -> None:
    rows, places = tree.at_level(level)
    leaves = set(tree.leaves_L.tolist())
    expected = {
        row
        for row in range(len(tree))
        if tree.depths_N[row] == min(level, tree.depth) or (row in leaves and tree.depths_N[row] < level)
    }
    assert rows.tolist() == sorted(expected)
    assert places.shape == tree.leaves_L.shape
    assert set(places.tolist()) == set(range(len(rows))), "no category of the level is empty"
    for leaf, place in zip(tree.leaves_L.tolist(), places.tolist(), strict=True):
        assert rows[place] in walked(tree, leaf)


@given(trees())
def test_the_deepest_level_is_the_leaves_themselves(tree: Taxonomy) -> None:
    rows, places = tree.at_level(tree.depth)
    assert rows.tolist() == tree.leaves_L.tolist()
    assert places.tolist() == list(range(len(rows)))


@given(trees(), st.integers(1, 9))
def test_a_cut_keeps_ids_paths_and_order_of_what_is_not_deeper(tree: Taxonomy, level: int) -> None:
    short = tree.cut(level)
    kept = [row for row in range(len(tree)) if tree.depths_N[row] <= level]
    assert list(short.ids) == [tree.ids[row] for row in kept]
    assert [short.path(row) for row in range(len(short))] == [tree.path(row) for row in kept]
    assert short.depth == min(level, tree.depth)
    assert short.cut(level) is short


@given(trees(), st.integers(1, 9))
def test_the_leaves_of_a_cut_are_the_level_that_it_was_cut_at(tree: Taxonomy, level: int) -> None:
    rows, _ = tree.at_level(level)
    short = tree.cut(level)
    assert [short.ids[row] for row in short.leaves_L] == [tree.ids[row] for row in rows]


@given(trees(), st.data())
def test_a_pruned_tree_has_what_was_asked_for_and_all_above_it(tree: Taxonomy, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(tree) - 1), min_size=1, max_size=5))
    less = tree.pruned(np.array(rows))
    expected = sorted({step for row in rows for step in walked(tree, row)})
    assert list(less.ids) == [tree.ids[row] for row in expected]
    assert [less.path(row) for row in range(len(less))] == [tree.path(row) for row in expected]


def test_a_cut_above_the_top_is_refused(ragged: Taxonomy) -> None:
    with pytest.raises(ValueError, match="level = 0"):
        ragged.cut(0)


# -- two categories ----------------------------------------------------------------------------


def test_distance_counts_edges_through_the_common_ancestor(ragged: Taxonomy) -> None:
    assert ragged.distance(2, 2) == 0
    assert ragged.distance(2, 1) == 1
    assert ragged.distance(2, 3) == 3
    assert ragged.distance(0, 4) == 2, "two top categories are joined by the root"
    assert ragged.distance(2, 5) == 5
    assert ragged.distance(7, 2) == 4
    assert ragged.common_ancestor(2, 3) == 0
    assert ragged.common_ancestor(2, 1) == 1
    assert ragged.common_ancestor(2, 5) == -1


@given(trees())
def test_distances_are_those_of_a_breadth_first_walk(tree: Taxonomy) -> None:
    every = np.arange(len(tree))
    others = every[:: max(1, len(tree) // 4)]
    found = tree.distances(every, others)
    assert found.dtype == np.int16
    assert found.tolist() == [[edges(tree, a, b) for b in others.tolist()] for a in every.tolist()]


@given(trees())
def test_distance_is_a_metric(tree: Taxonomy) -> None:
    every = np.arange(len(tree))
    found = tree.distances(every, every)
    assert (found == found.T).all()
    assert ((found == 0) == np.eye(len(tree), dtype=bool)).all()
    assert (found[:, None, :] <= found[:, :, None] + found[None, :, :]).all(), "no way round is shorter"


@given(trees(), st.data())
def test_the_common_ancestor_is_the_deepest_that_both_have(tree: Taxonomy, data: st.DataObject) -> None:
    a, b = (data.draw(st.integers(0, len(tree) - 1)) for _ in range(2))
    both = [row for row in walked(tree, a) if row in walked(tree, b)]
    assert tree.common_ancestor(a, b) == (both[-1] if both else -1)
    depth = tree.depths_N[both[-1]] if both else 0
    assert tree.distance(a, b) == tree.depths_N[a] + tree.depths_N[b] - 2 * depth


# -- what a taxonomy refuses, and its version --------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "names", "parents"),
    [
        ([], [], []),
        (["a", "a"], ["one", "two"], [-1, 0]),
        (["a", "b"], ["one"], [-1, 0]),
        (["a", "b"], ["one", "two"], [-1]),
        (["a", "b"], ["one", "two"], [-1, 2]),
        (["a", "b", "c"], ["one", "two", "three"], [-1, 2, 1]),
        (["a"], ["one"], [0]),
    ],
)
def test_what_is_no_tree_is_refused(ids: list[str], names: list[str], parents: list[int]) -> None:
    with pytest.raises(ValueError):
        Taxonomy(ids, names, np.array(parents, dtype=np.int64))


def test_the_version_tells_ids_names_parents_and_order_apart(ragged: Taxonomy) -> None:
    ids, parents = list(ragged.ids), np.array(PARENTS)
    same = Taxonomy(ids, NAMES, parents)
    renamed = Taxonomy(ids, (*NAMES[:-1], "presents"), parents)
    moved = Taxonomy(ids, NAMES, np.array([*PARENTS[:-1], 0]))
    other = Taxonomy([*ids[:-1], "c8"], NAMES, parents)
    assert same.version == ragged.version
    assert len({ragged.version, renamed.version, moved.version, other.version}) == 4
    assert len(ragged.version) == 12
    assert int(ragged.version, 16) >= 0


def test_a_taxonomy_does_not_change(ragged: Taxonomy) -> None:
    with pytest.raises(ValueError, match="read-only"):
        ragged.parents_N[1] = -1
    with pytest.raises(ValueError, match="read-only"):
        ragged.depths_N[1] = 7


@given(trees())
def test_json_keeps_everything(tree: Taxonomy) -> None:
    again = Taxonomy.from_json(tree.to_json(), "here")
    assert (again.ids, again.names, again.version) == (tree.ids, tree.names, tree.version)
    assert again.parents_N.tolist() == tree.parents_N.tolist()


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"ids": ["a"], "names": ["one"]}',
        '{"ids": ["a"], "names": ["one"], "parents": ["x"]}',
        '{"ids": ["a"], "names": ["one"], "parents": [0]}',
        '{"ids": ["a", "b"], "names": ["one", "two"], "parents": [-1, -2]}',
        '{"ids": ["a", "b"], "names": ["one", "two"], "parents": [-1]}',
        '{"ids": ["a"], "names": ["one"], "parents": [99999999999999999999]}',
        '{"ids": 7, "names": ["one"], "parents": [-1]}',
    ],
)
def test_a_damaged_taxonomy_is_refused_with_its_place(damaged: str) -> None:
    with pytest.raises(ExportDamaged, match=r"taxonomy\.json: not a taxonomy"):
        Taxonomy.from_json(damaged, "exports/taxonomy.json")


def test_the_arrays_that_it_is_made_of_stay_their_owners() -> None:
    parents = np.array([-1, 0])
    tree = Taxonomy(["a", "b"], ["one", "two"], parents)
    parents[1] = -1
    assert tree.parents_N.tolist() == [-1, 0] and not tree.parents_N.flags.writeable


@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(), lambda x: st.lists(x), max_leaves=5))
def test_any_json_is_a_taxonomy_or_refused(value: Any) -> None:
    text = json.dumps({"ids": value, "names": value, "parents": value})
    try:
        Taxonomy.from_json(text, "here")
    except ExportDamaged as error:
        assert str(error).startswith("here: ")


def test_googles_tree_cut_at_level_4_has_more_than_3000_leaves(shared_data: Path) -> None:
    tree = read_google(shared_data / "google-product-taxonomy" / "taxonomy-with-ids.en-US.txt")
    assert (len(tree), len(tree.top), tree.depth) == (5595, 21, 7)
    short = tree.cut(4)
    assert len(short.leaves_L) > 3000
    assert short.depths_N[short.leaves_L].min() < 4, "some leaves are shallower"
    apples = tree.row("6566")
    assert short.row("6566") == -1, "apples are on level 5"
    assert short.row(tree.ids[tree.ancestor(apples, 4)]) in short.leaves_L
