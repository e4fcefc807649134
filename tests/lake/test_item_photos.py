"""Which photos an item is seen by, against a loop that says it slowly."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.item_photos import photos_of

FACTS = pa.schema([(name, pa.string()) for name in ("item_id", "url", "status", "sha256")])
ITEMS = pa.schema([("item_id", pa.string()), ("photo_url", pa.string())])


def test_the_main_photo_comes_first_then_by_url_and_each_file_once() -> None:
    items = pa.table({"item_id": ["b", "a", "c"], "photo_url": ["u2", None, "u1"]}, schema=ITEMS)
    facts = pa.table(
        {
            "item_id": ["a", "b", "b", "gone", "b", "a", "b", "c", "a"],
            "url": ["u9", "u1", "u2", "u0", "u3", "u1", "u0", "u1", "u0"],
            "status": ["ok", "ok", "ok", "ok", "ok", "ok", "ok", "dead", None],
            "sha256": ["s1", "s2", "s3", "s4", "s3", "s5", "s6", "s7", "s8"],
        },
        schema=FACTS,
    )
    found = photos_of(items, facts)
    assert found.starts.tolist() == [0, 3, 5, 5]
    assert found.sha256.to_pylist() == ["s3", "s6", "s2", "s5", "s1"], "s3 is b's twice"
    assert found.places.tolist() == [2, 6, 1, 5, 0]
    assert found.owners.tolist() == [0, 0, 0, 1, 1] and found.counts.tolist() == [3, 2, 0]
    assert found.main().to_pylist() == ["s3", "s5", None]
    two = photos_of(items, facts, most=2)
    assert two.sha256.to_pylist() == ["s3", "s6", "s5", "s1"] and two.starts.tolist() == [0, 2, 4, 4]


def test_without_items_or_photos_there_is_nothing() -> None:
    items = pa.table({"item_id": ["b"], "photo_url": ["u"]}, schema=ITEMS)
    assert photos_of(items, FACTS.empty_table()).main().to_pylist() == [None]
    assert photos_of(ITEMS.empty_table(), FACTS.empty_table()).main().to_pylist() == []


few = st.sampled_from
rows = st.tuples(few("abcz"), few(["u1", "u2", "u3"]), few(["ok", "dead", None]), few(["s1", "s2", None]))


@given(st.lists(few("abc"), unique=True), st.lists(rows, max_size=12, unique_by=lambda row: row[:2]))
def test_any_table_is_read_as_by_a_loop(ids: list[str], photos: list[tuple[str | None, ...]]) -> None:
    items = pa.table({"item_id": ids, "photo_url": ["u2"] * len(ids)}, schema=ITEMS)
    columns = dict(zip(FACTS.names, zip(*photos, strict=True), strict=True)) if photos else {}
    facts = pa.table({name: list(columns.get(name, ())) for name in FACTS.names}, schema=FACTS)
    expected = []
    for item in ids:
        usable = [(url != "u2", url, sha) for id, url, ok, sha in photos if id == item and ok == "ok" and sha]
        expected.append(list(dict.fromkeys(sha for _, _, sha in sorted(usable))))
    found = photos_of(items, facts)
    assert found.sha256.to_pylist() == [sha for some in expected for sha in some]
    np.testing.assert_array_equal(found.counts, [len(some) for some in expected])
