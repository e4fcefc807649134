"""gather and embed: which photo is an item's, what is popular, which rows come out."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etalage.bundle.contents import count_popularity, embed, find_photos, gather, main_photos
from etalage.config import BehaviourConfig
from etalage.errors import TableDamaged, TableMissing
from etalage.features.history import BehaviourRule
from etalage.lake.delta import Lake
from etalage.runtime.photos import PhotoEmbedder
from tests.exports import tiny_export
from tests.shops import drawn_photo, fill, interact, item_row, photo_row, rows_of


def test_the_main_photo_is_the_named_one_else_the_first_by_url_among_the_usable() -> None:
    items = pa.table(
        {
            "item_id": ["a", "b", "c", "d", "e"],
            "photo_url": ["u9", "missing", None, "u1", "u1"],
        }
    )
    photos = [
        ("a", "u1", "ok", "a1"),
        ("a", "u9", "ok", "a9"),
        ("b", "u7", "ok", "b7"),
        ("b", "u2", "ok", "b2"),
        ("c", "u5", "ok", "c5"),
        ("c", "u4", "404", "c4"),
        ("d", "u1", "404", None),
        ("d", "u3", "ok", "d3"),
        ("x", "u1", "ok", "x1"),
        ("e", "u1", "ok", None),
    ]
    facts = pa.table(
        dict(zip(("item_id", "url", "status", "sha256"), zip(*photos, strict=True), strict=True))
    )
    for order in (list(range(10)), list(range(9, -1, -1)), [3, 9, 1, 7, 0, 8, 2, 6, 5, 4]):
        assert main_photos(items, facts.take(order)).to_pylist() == ["a9", "b2", "c5", "d3", None]
    assert main_photos(items, facts.slice(0, 0)).to_pylist() == [None] * 5
    assert main_photos(items.slice(0, 0), facts).to_pylist() == []


def _acts(rows: list[tuple[str, str, str | None, float | None]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True))
    kinds, values = pa.array(columns[2], pa.string()), pa.array(columns[3], pa.float64())
    times = pa.array(range(len(rows)), pa.timestamp("us", tz="UTC"))
    ids = {"user_id": list(columns[0]), "item_id": list(columns[1])}
    return pa.record_batch({**ids, "kind": kinds, "value": values, "time": times})


def test_popularity_counts_each_shopper_once_an_item_by_what_weighs_most_over_all_batches() -> None:
    rules = BehaviourRule(BehaviourConfig(weights={"view": 1.0, "cart": 3.0, "buy": 5.0, "dislike": -1.0}))
    batches = [
        _acts([("u", "b", "view", None), ("u", "a", "cart", 2.0), ("u", "z", "buy", 1.0),
               ("v", "b", "buy", None)]),
        _acts([("u", "b", "buy", 1.0), ("u", "c", "wish", None), ("w", "b", "view", None),
               ("u", "c", None, None), ("v", "a", "dislike", None)]),
    ]  # fmt: skip
    items = pa.array(["a", "b", "c", "d"])
    assert count_popularity(batches, items, rules).tolist() == [3.0, 11.0, 0.0, 0.0]
    assert count_popularity(batches, items).tolist() == [1.0, 3.0, 1.0, 0.0]


def test_a_crawler_and_low_stars_make_nothing_popular() -> None:
    rules = BehaviourRule(BehaviourConfig(max_user=3, positive_from=4))
    crawled = [("bot", item, "view", None) for item in "abcd"]
    rated = [("u", "a", "rating", 5.0), ("v", "b", "rating", 3.0), ("w", "c", "buy", 1.0)]
    assert count_popularity([_acts([*crawled, *rated])], pa.array(list("abcd")), rules).tolist() == [
        1,
        0,
        1,
        0,
    ]


def test_what_was_taken_back_makes_nothing_popular_in_whichever_batch_it_is() -> None:
    bought = [(user, "a", "buy", None) for user in "uvw"]
    undone = [("u", "a", "refund", None), ("v", "b", "like", None), ("v", "b", "dislike", None)]
    found = count_popularity([_acts(bought), _acts([*undone[:1] * 4, *undone])], pa.array(["a", "b"]))
    assert found.tolist() == [2, 0]


@pytest.mark.parametrize(("taken", "left"), [("order", 5.0), ("buy", 1.0)])
def test_of_purchases_of_one_time_their_ids_say_which_was_taken_back_in_whatever_order_they_lie(
    taken: str, left: float
) -> None:
    rules = BehaviourRule(BehaviourConfig(weights={"buy": 5.0, "order": 1.0}))
    kinds = sorted(["buy", "order"], key=lambda kind: kind == taken)  # the newest is taken back
    acts = pa.table(
        {
            "interaction_id": ["1", "2", "3"],
            "user_id": ["u"] * 3,
            "item_id": ["a"] * 3,
            "kind": [*kinds, "refund"],
            "value": [1.0] * 3,
            "time": pa.array([7, 7, 8], pa.timestamp("us", tz="UTC")),
        }
    )
    for order in itertools.permutations(range(3)):
        (batch,) = acts.take(list(order)).combine_chunks().to_batches()
        assert count_popularity([batch], pa.array(["a"]), rules).tolist() == [left], order
        for cut in (1, 2):
            parts = [batch.slice(0, cut), batch.slice(cut)]
            assert count_popularity(parts, pa.array(["a"]), rules).tolist() == [left], (order, cut)


def test_popularity_is_the_same_number_in_whatever_order_the_table_is() -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1."""
    rules = BehaviourRule(BehaviourConfig(weights={"view": 0.1, "cart": 0.2, "buy": 0.3}))
    rows = [("u", "a", "view", None), ("v", "a", "cart", None), ("w", "a", "buy", None)]
    found = {
        float(count_popularity([_acts(list(order))], pa.array(["a"]), rules)[0])
        for order in itertools.permutations(rows)
    }
    assert len(found) == 1 and found.pop() == pytest.approx(0.6)


def test_photos_are_found_once_sorted_and_a_missing_one_is_named() -> None:
    batches = [
        pa.record_batch({"sha256": ["f", "b", "b"], "bytes": [b"F", None, b"B"]}),
        pa.record_batch({"sha256": ["a", "b", None], "bytes": [b"A", b"other", b"none"]}),
    ]
    found = find_photos(batches, pa.array(["f", "a", "b"]))
    assert found.to_pydict() == {"sha256": ["a", "b", "f"], "bytes": [b"A", b"B", b"F"]}
    assert find_photos(batches, pa.array([], pa.string())).num_rows == 0
    with pytest.raises(TableDamaged, match="SHA-256 q"):
        find_photos(batches, pa.array(["a", "q"]))


def test_a_payload_is_of_the_versions_that_were_asked_for(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with pytest.raises(TableMissing, match="etalage ingest"):
        gather(lake)
    fill(lake, [5, 2, 9])
    old = lake.versions()
    lake.table("items").merge(rows_of("items", [item_row(2, price=1.0), item_row(1)]))
    interact(lake, [(9, "buy")])
    then, now = gather(lake, old), gather(lake)
    assert then.items["item_id"].to_pylist() == ["item-00002", "item-00005", "item-00009"]
    assert then.items["price"].to_pylist()[0] == 7.5
    assert then.items["popularity"].to_pylist() == [0.0, 0.0, 0.0]
    assert now.items["item_id"].to_pylist() == ["item-00001", "item-00002", "item-00005", "item-00009"]
    assert now.items["price"].to_pylist()[1] == 1.0
    assert now.items["popularity"].to_pylist() == [0.0, 0.0, 0.0, 1.0]
    assert now.items["photo_sha256"].null_count == 1
    assert then.versions == old
    assert now.versions == lake.versions()


def test_items_that_share_a_photo_share_its_bytes_and_its_embedding(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "tables")
    fill(lake, range(6), photos=[0, 1, 2])
    lake.table("photos").merge(rows_of("photos", [photo_row(4, drawn_photo(1)), photo_row(3, b"no image")]))
    payload = gather(lake)
    assert payload.photos.num_rows == 4
    embedder = PhotoEmbedder.open(tiny_export(tmp_path / "export"))
    told: list[int] = []
    done = embed(payload, embedder, progress=told.append)
    assert (done.embedded, len(done.refused), sum(told)) == (3, 1, 4)
    assert done.payload.photos.num_rows == 3
    np.testing.assert_array_equal(done.embeddings[5], done.embeddings[2])
    expected = embedder.embed([drawn_photo(n) for n in (0, 1, 2)])
    np.testing.assert_allclose(done.embeddings[1:4], expected, atol=1e-6)
    assert not done.embeddings[[0, 4, 6]].any()
    assert done.payload.items["photo_sha256"].is_valid().to_pylist() == [True] * 3 + [False, True, False]
    given = np.full(16, 0.25, np.float32)
    again = embed(payload, embedder, {hashlib.sha256(drawn_photo(1)).hexdigest(): given})
    assert again.embedded == 2
    np.testing.assert_array_equal(again.embeddings[[2, 5]], [given, given])
