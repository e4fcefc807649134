"""What is no longer sold leaves the catalogue, and nothing else does."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import MappingConfig
from etalage.errors import CatalogueShrank, DataError, InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.ingest import Whole, ingest
from etalage.lake.removal import Present, ids_of, item_ids, remove_items


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def csv(folder: Path, text: str, name: str = "feed.csv") -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def filled(lake: Lake, folder: Path, ids: str = "abcdef") -> Lake:
    ingest(lake, csv(folder, "item_id,title,price\n" + "".join(f"{i},T{i},5\n" for i in ids)), "items")
    return lake


def test_what_a_whole_file_does_not_have_leaves(lake: Lake, tmp_path: Path) -> None:
    filled(lake, tmp_path)
    since = lake.table("items").version()
    done = ingest(lake, csv(tmp_path, "item_id,price\na,5\nb,6\nc,5\nd,5\ng,1\n"), "items", whole=Whole())
    assert (done.inserted, done.updated, done.removed) == (1, 1, 2)
    assert item_ids(lake) == list("abcdg")
    assert sorted(lake.table("items").changes(since).deleted["item_id"].to_pylist()) == ["e", "f"]
    assert "left the catalogue: 2 (e, f)" in str(done.notes[-1])
    again = ingest(lake, tmp_path / "feed.csv", "items", whole=Whole())
    assert (again.removed, again.notes) == (0, [])


def test_of_a_whole_file_an_empty_cell_is_empty_and_a_column_it_lacks_stays(
    lake: Lake, tmp_path: Path
) -> None:
    filled(lake, tmp_path, "ab")
    ingest(lake, csv(tmp_path, "item_id,price\na,\nb,7\n"), "items", whole=Whole())
    rows = {row["item_id"]: row for row in lake.table("items").read().to_pylist()}
    assert [(rows[i]["title"], rows[i]["price"]) for i in "ab"] == [("Ta", None), ("Tb", 7.0)]


def test_f52_too_much_leaves_by_force_alone(lake: Lake, tmp_path: Path) -> None:
    filled(lake, tmp_path)
    half = csv(tmp_path, "item_id,price\na,9\nb,9\nc,9\n")
    with pytest.raises(CatalogueShrank, match=r"3 of 6 items .*50%.*--force"):
        ingest(lake, half, "items", whole=Whole(max_shrink=0.5))
    assert item_ids(lake) == list("abcdef")
    assert ingest(lake, half, "items", whole=Whole(max_shrink=0.6)).removed == 3
    with pytest.raises(CatalogueShrank):
        ingest(lake, csv(tmp_path, "item_id,price\n"), "items", whole=Whole(max_shrink=1.0))
    assert ingest(lake, tmp_path / "feed.csv", "items", whole=Whole(force=True)).removed == 3
    assert item_ids(lake) == []


def test_new_ids_do_not_hide_how_many_old_ones_would_leave(lake: Lake, tmp_path: Path) -> None:
    filled(lake, tmp_path)
    renamed = csv(tmp_path, "item_id,price\n" + "".join(f"new-{i},5\n" for i in "abcdef"))
    with pytest.raises(CatalogueShrank, match="6 of 6 items"):
        ingest(lake, renamed, "items", whole=Whole())


def test_an_item_whose_row_is_refused_stays_and_a_row_without_an_id_keeps_all(
    lake: Lake, tmp_path: Path
) -> None:
    filled(lake, tmp_path)
    bad = csv(tmp_path, "item_id,price\na,5\nb,oops\nc,5\nd,5\n,5\n")
    with pytest.raises(DataError, match=r"1 refused rows have no id.*\(e, f\).*--force"):
        ingest(lake, bad, "items", whole=Whole())
    assert item_ids(lake) == list("abcdef")
    assert ingest(lake, bad, "items", whole=Whole(force=True)).removed == 2
    assert item_ids(lake) == list("abcd")


def test_a_file_that_looks_whole_says_what_it_lacks_and_a_price_list_does_not(
    lake: Lake, tmp_path: Path
) -> None:
    filled(lake, tmp_path)
    done = ingest(lake, csv(tmp_path, "item_id,price\na,5\nb,5\nc,5\n"), "items")
    assert "3 items of the catalogue are not in this file (d, e, f)" in str(done.notes[0])
    assert ingest(lake, csv(tmp_path, "item_id,price\na,5\nb,5\n"), "items").notes == []
    assert (
        ingest(lake, csv(tmp_path, "item_id,price\n" + "".join(f"{i},5\n" for i in "abcdef")), "items").notes
        == []
    )


def test_only_a_catalogue_can_be_whole(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="never replaced"):
        ingest(lake, csv(tmp_path, "user_id\nu\n"), "users", whole=Whole())


def test_links_that_nobody_has_asked_for_leave_with_their_item(lake: Lake, tmp_path: Path) -> None:
    cell = '"http://x.test/1.jpg,http://x.test/2.jpg"'
    ingest(lake, csv(tmp_path, f"item_id,photo_url\na,{cell}\nb,{cell}\nc,\n"), "items")
    done = remove_items(lake, ["a", "nowhere", " b"], max_shrink=0.5)
    assert (done.items, done.unknown, done.near) == (["a"], ["nowhere", " b"], {" b": "b"})
    assert lake.table("photos").read(columns=["item_id"])["item_id"].to_pylist() == ["b"]


def test_ids_are_typed_or_stand_in_files(tmp_path: Path) -> None:
    lines = csv(tmp_path, "a\nb c\n\n", "gone.txt")
    table = csv(tmp_path, "sku,name\nd,Mug\ne,Rug\n", "gone.csv")
    mapping = MappingConfig(columns={"item_id": "sku"})
    assert list(ids_of(["x", str(lines), str(table)], mapping)) == ["x", "a", "b c", "d", "e"]
    csv(tmp_path, "sku,name\nd,Mug\n,Rug\n", "gone.csv")
    with pytest.raises(InputUnreadable, match="line 3: item_id: is missing; nothing was deleted"):
        list(ids_of([str(table)], mapping))


@pytest.mark.parametrize("word", ["nosuch.txt", "nosuch.CSV", "gone/ids", "items.csv.gz", "."])
def test_a_word_that_is_called_as_a_file_and_is_none_is_a_missing_file(word: str) -> None:
    with pytest.raises(InputUnreadable, match=r"no such item; nothing was deleted"):
        list(ids_of(["x", word], MappingConfig()))
    assert list(ids_of(["x", word], MappingConfig(), {word})) == ["x", word]


def test_an_id_that_is_not_there_is_told_with_the_nearest_that_is(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, csv(tmp_path, "item_id\nlamp-red\nlamp-blue\nitem-00001\n"), "items")
    done = remove_items(lake, ["lamp-rde", "item-001", "zzz"], max_shrink=0.5)
    assert done.near == {"lamp-rde": "lamp-red", "item-001": "item-00001"}


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=3), unique=True), st.data())
def test_what_was_not_remembered_is_missing(ids: list[str], data: st.DataObject) -> None:
    there = data.draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
    present = Present()
    for part in (there[::2], there[1::2]):
        present.add(part)
    assert present.missing(ids) == [one for one in ids if one not in there]
