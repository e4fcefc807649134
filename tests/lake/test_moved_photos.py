"""The same photos from another folder do not double, and items that share one stay apart."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.lake.delta import Lake
from etalage.lake.ingest import Ingested, ingest
from tests.shops import drawn_photo


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def folder_of(where: Path, files: dict[str, int]) -> Path:
    for name, number in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(drawn_photo(number))
    return where


def photos(lake: Lake) -> list[tuple[str, str]]:
    rows = lake.table("photos").read(columns=["item_id", "url"])
    return sorted(zip(rows["item_id"].to_pylist(), rows["url"].to_pylist(), strict=True))


def main_photos(lake: Lake) -> dict[str, str]:
    rows = lake.table("items").read(columns=["item_id", "photo_url"])
    return dict(zip(rows["item_id"].to_pylist(), rows["photo_url"].to_pylist(), strict=True))


def notes(done: Ingested) -> str:
    return "\n".join(f"{one.count} x {one.what}, {one.example}" for one in done.notes)


FILES = {"Shoes/red.png": 1, "Shoes/blue.png": 2, "Bags/tote.png": 3}


def test_an_absolute_a_relative_and_a_moved_path_are_the_same_photos(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "photos", FILES)
    monkeypatch.chdir(tmp_path)
    assert ingest(lake, tmp_path / "photos", "photos").inserted == 3
    assert ingest(lake, "photos", "photos").unchanged == 3
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere")
    assert ingest(lake, "elsewhere/../elsewhere", "photos").unchanged == 3
    assert len(photos(lake)) == 3


def test_photos_that_moved_deeper_get_the_new_path_and_that_is_told(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, folder_of(tmp_path / "a", FILES), "photos")
    moved = folder_of(tmp_path / "b", {f"2026/{name}": number for name, number in FILES.items()})
    done = ingest(lake, moved, "photos")
    assert photos(lake) == [
        ("blue", "2026/Shoes/blue.png"),
        ("red", "2026/Shoes/red.png"),
        ("tote", "2026/Bags/tote.png"),
    ]
    assert set(main_photos(lake).values()) == {url for _, url in photos(lake)}
    assert "3 x photos that were stored under another path" in notes(done)
    assert "item tote: Bags/tote.png → 2026/Bags/tote.png" in notes(done)
    version = lake.table("photos").version()
    assert "another path" not in notes(ingest(lake, moved, "photos"))
    assert lake.table("photos").version() == version


def test_items_that_are_called_by_paths_keep_their_ids_under_another_root(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, folder_of(tmp_path / "a", FILES), "photos", ids="path")
    for root in ("2026", "2027/spring"):
        moved = folder_of(tmp_path / root, {f"{root}/{name}": number for name, number in FILES.items()})
        done = ingest(lake, moved, "photos", ids="path")
        assert "3 x items whose photo came from another folder" in notes(done)
        assert [item for item, _ in photos(lake)] == ["Bags/tote", "Shoes/blue", "Shoes/red"]
        assert lake.table("items").count() == 3
    assert ingest(lake, moved, "photos", ids="path").unchanged == 3


def test_items_that_are_called_by_paths_keep_their_ids_under_a_root_further_down(
    lake: Lake, tmp_path: Path
) -> None:
    folder_of(tmp_path / "a", {"photos/Shoes/red.png": 1, "photos/Shoes/blue.png": 2})
    ingest(lake, tmp_path / "a", "photos", ids="path")
    for again in (False, True):
        done = ingest(lake, tmp_path / "a" / "photos", "photos", ids="path")
        assert "2 x items whose photo came from another folder" in notes(done), again
        assert photos(lake) == [
            ("photos/Shoes/blue", "Shoes/blue.png"),
            ("photos/Shoes/red", "Shoes/red.png"),
        ]
        assert lake.table("items").count() == 2


def test_a_new_photo_of_an_item_is_its_own_also_if_an_item_of_another_folder_has_it(
    lake: Lake, tmp_path: Path
) -> None:
    ingest(lake, folder_of(tmp_path / "a", {"Shoes/red.png": 1}), "photos", ids="path")
    ingest(lake, folder_of(tmp_path / "b", {"old/Shoes/red.png": 2}), "photos", ids="path")
    done = ingest(lake, folder_of(tmp_path / "c", {"Shoes/red.png": 2}), "photos", ids="path")
    assert "came from another folder" not in notes(done)
    rows = lake.table("photos").read(columns=["item_id", "sha256"]).to_pylist()
    (old,) = (one["sha256"] for one in rows if one["item_id"] == "old/Shoes/red")
    assert {"item_id": "Shoes/red", "sha256": old} in rows


def test_another_way_of_naming_items_makes_other_items_and_says_that_they_share_photos(
    lake: Lake, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "a", FILES)
    ingest(lake, folder, "photos")
    done = ingest(lake, folder, "photos", ids="path")
    assert lake.table("items").count() == 6
    assert "3 x photos of new items that other items have too" in notes(done)


def test_items_that_share_a_photo_stay_apart(lake: Lake, tmp_path: Path) -> None:
    files = {"a/x.png": 1, "b/x.png": 1, "c/b/x.png": 1}
    for _ in range(2):
        ingest(lake, folder_of(tmp_path / "a", files), "photos", ids="path")
        assert photos(lake) == [("a/x", "a/x.png"), ("b/x", "b/x.png"), ("c/b/x", "c/b/x.png")]


def test_a_table_of_paths_points_the_items_to_the_new_ones(lake: Lake, tmp_path: Path) -> None:
    folder_of(tmp_path, {"old/red.png": 1, "old/more.png": 2, "new/red.png": 1, "new/more.png": 2})
    (tmp_path / "items.csv").write_text("item_id,title,photo_path\nred,Red,old/red.png\n")
    (tmp_path / "photos.csv").write_text(
        "item_id,photo_path\nred,new/red.png\nred,new/more.png\nred,old/more.png\n"
    )
    ingest(lake, tmp_path / "items.csv", "items")
    done = ingest(lake, tmp_path / "photos.csv", "photos")
    assert main_photos(lake) == {"red": "new/red.png"}
    assert photos(lake) == [("red", "new/more.png"), ("red", "new/red.png"), ("red", "old/more.png")]
    assert (done.inserted, done.updated) == (2, 1), (
        "one item may have one file under two paths, if both are told"
    )
    assert ingest(lake, tmp_path / "photos.csv", "photos").unchanged == 3


def test_links_are_sources_of_their_own(lake: Lake, tmp_path: Path) -> None:
    from tests.shops import photo_row, rows_of

    row = photo_row(1, item_id="red", url="https://shop.example/red.png")
    lake.table("photos").merge(rows_of("photos", [row]))
    ingest(lake, folder_of(tmp_path / "a", {"Shoes/red.png": 1}), "photos")
    assert photos(lake) == [("red", "Shoes/red.png"), ("red", "https://shop.example/red.png")]


NAMES = st.sampled_from(["a", "b", "c", "d"])
LAYOUTS = st.dictionaries(
    NAMES, st.tuples(st.sampled_from(["", "x/", "x/y/", "z/"]), st.integers(0, 2)), min_size=1
)


@settings(max_examples=12)
@given(layouts=st.lists(LAYOUTS, min_size=1, max_size=3), chunk=st.sampled_from([1, 2, 10]))
def test_whatever_moves_each_item_has_every_file_once(
    tmp_path_factory: pytest.TempPathFactory, layouts: list[dict[str, Any]], chunk: int
) -> None:
    """Files are moved and changed between ingests: an item has each content that it ever had once, the last
    one under the path that it has now, and its main photo is the one that lies there."""
    root = tmp_path_factory.mktemp("moved")
    lake, had = Lake(root / "tables"), dict[str, set[int]]()
    for number, layout in enumerate(layouts):
        files = {f"{where}{name}.png": content for name, (where, content) in layout.items()}
        for name, (_, content) in layout.items():
            had.setdefault(name, set()).add(content)
        folder = folder_of(root / str(number), files)
        for again in (False, True):
            ingest(lake, folder, "photos", chunk_rows=chunk)
            rows = lake.table("photos").read(columns=["item_id", "url", "sha256"]).to_pylist()
            assert len({(one["item_id"], one["sha256"]) for one in rows}) == len(rows), again
            main = main_photos(lake)
            for name, (where, _) in layout.items():
                assert main[name] == f"{where}{name}.png"
                assert (name, main[name]) in {(one["item_id"], one["url"]) for one in rows}
    for name, contents in had.items():
        assert sum(one["item_id"] == name for one in rows) <= len(contents)


def test_an_ingest_of_moved_photos_that_is_killed_is_run_again_and_none_is_there_twice(
    tmp_path: Path,
) -> None:
    from etalage.shop import Shop
    from tests.upkeep import every_kill

    shop = Shop.create(tmp_path / "shop", "Moved")
    ingest(shop.lake, folder_of(tmp_path / "a", FILES), "photos")
    moved = folder_of(tmp_path / "b", {f"2026/{name}": number for name, number in FILES.items()})
    for _ in every_kill(shop.folder / "tables", "ingest", shop.folder, moved, every=2):
        kept = photos(shop.lake)
        assert {item for item, _ in kept} == {"blue", "red", "tote"}
        named = {(item, url) for item, url in main_photos(shop.lake).items()}
        assert named <= set(kept), "the main photo is always one that is there"
    assert len(photos(shop.lake)) == 3
