"""What is to be classified again, and what a threshold makes of an answer."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etalage.lake.classifications import decided, hash_inputs, joined, plan
from etalage.lake.item_photos import ItemPhotos
from etalage.lake.schema import TABLES

SCHEMA = TABLES["classifications"].schema


def stored(*rows: dict[str, Any]) -> pa.Table:
    whole = [{name: row.get(name) for name in SCHEMA.names} for row in rows]
    return pa.Table.from_pylist(whole, schema=SCHEMA)


def kept(
    item_id: str, input: str, status: str = "classified", model: str = "m1", **more: Any
) -> dict[str, Any]:
    return {"item_id": item_id, "input": input, "status": status, "model": model, **more}


def test_only_new_and_changed_items_are_asked_about() -> None:
    before = stored(
        kept("gone", "h0"), kept("same", "h1"), kept("changed", "old"), kept("quiet", "h4", "no_input")
    )
    ids = pa.array(["changed", "fresh", "quiet", "same"])
    made = plan(ids, ["h2", "h3", "h4", "h1"], np.zeros(4, bool), before, "m1")
    assert made.ask.tolist() == [0, 1]
    assert (made.keep.tolist(), made.stored.tolist()) == ([2, 3], [3, 1]), "where the answers stand"
    assert made.outside.tolist() == [] and made.gone["item_id"].to_pylist() == ["gone"]


def test_another_model_asks_about_all_and_so_does_whoever_wants_it() -> None:
    before = stored(kept("a", "h"), kept("b", "h"))
    for model, every in (("m2", False), ("m1", True)):
        made = plan(pa.array(["a", "b"]), ["h", "h"], np.zeros(2, bool), before, model, every)
        assert made.ask.tolist() == [0, 1] and made.keep.tolist() == []


def test_an_item_outside_is_left_alone_until_it_comes_inside() -> None:
    before = stored(kept("a", "h"), kept("b", "h", "outside"))
    made = plan(pa.array(["a", "b"]), ["h", "h"], np.array([True, False]), before, "m1")
    assert made.ask.tolist() == [1], "b was never looked at"
    assert made.outside.tolist() == [0] and made.keep.tolist() == []


def test_nothing_stored_means_all_are_new() -> None:
    made = plan(pa.chunked_array([["a"], ["b"]]), ["h", "i"], np.array([False, True]), stored(), "m1")
    assert made.ask.tolist() == [0] and made.outside.tolist() == [1] and made.gone.num_rows == 0


@pytest.mark.parametrize(
    ("threshold", "statuses"),
    [
        (0.7, ["classified", "classified", "no_input"]),
        (0.70001, ["below_threshold", "classified", "no_input"]),
        (1.0, ["below_threshold", "below_threshold", "no_input"]),
        (0.0, ["classified", "classified", "no_input"]),
    ],
)
def test_the_threshold_decides_and_the_best_leaf_stays(threshold: float, statuses: list[str]) -> None:
    best = [("7", "A > B", 0.7), ("8", "A > C", 0.95), (None, None, None)]
    rows = stored(
        *(
            {"item_id": str(n), "best_id": leaf, "best_path": path, "confidence": confidence}
            for n, (leaf, path, confidence) in enumerate(best)
        )
    )
    found = decided(rows, threshold)
    assert found.column_names == list(SCHEMA.names)
    assert found["status"].to_pylist() == statuses
    sure = [status == "classified" for status in statuses]
    assert found["category_id"].to_pylist() == [b[0] if s else None for b, s in zip(best, sure, strict=True)]
    assert found["path"].to_pylist() == [b[1] if s else None for b, s in zip(best, sure, strict=True)]
    assert [found[n].to_pylist() for n in ("best_id", "confidence")] == [
        [b[0] for b in best],
        [b[2] for b in best],
    ]


def test_inputs_are_equal_where_photos_their_order_and_the_title_are() -> None:
    def hashed(shas: list[str], title: str | None) -> str:
        photos = ItemPhotos(np.array([0, len(shas)]), np.arange(len(shas)), pa.array(shas, pa.string()))
        return hash_inputs(photos, [title])[0]

    one = hashed(["ab", "cd"], "Milk")
    assert one == hashed(["ab", "cd"], "Milk")
    others = [hashed(["cd", "ab"], "Milk"), hashed(["ab"], "Milk"), hashed(["ab", "cd"], None)]
    others += [
        hashed(["ab", "cd"], ""),
        hashed(["ab", "cd"], "milk"),
        hashed([], "abcdMilk"),
        hashed([], "\ud800"),
    ]
    assert len({one, *others}) == len(others) + 1


def test_what_is_not_classified_is_null_beside_the_items() -> None:
    rows = stored(
        kept("b", "h", category_id="7", path="A > B", confidence=0.9),
        kept("a", "h", "below_threshold", confidence=0.2, best_id="8"),
        kept("c", "h", category_id="9", path="A", confidence=0.5, model="m2"),
        kept("gone", "h", category_id="9", path="A", confidence=0.5),
    )
    found = joined(pa.chunked_array([["a", "b"], ["c", "d"]]), rows)
    assert found.category_id.to_pylist() == [None, "7", "9", None]
    assert found.path.to_pylist() == [None, "A > B", "A", None]
    assert found.confidence.to_pylist() == [None, 0.9, 0.5, None]
    assert found.by == {"m1": 1, "m2": 1}
