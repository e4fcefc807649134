"""What could not be taken stands in `refused`, until it is mended."""

from pathlib import Path

import pytest

from etalage.config import MappingConfig
from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest, refused_rows


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def csv(folder: Path, text: str, name: str = "feed.csv") -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def standing(lake: Lake) -> list[tuple[int, str | None, str | None]]:
    return [(row["line"], row["key"], row["field"]) for row in refused_rows(lake).to_pylist()]


def test_a_row_that_is_mended_leaves(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, csv(tmp_path, "item_id,price\n,5\nb,oops\nc,bad\nd\n"), "items")
    assert standing(lake) == [(2, None, None), (3, "b", "price"), (4, "c", "price"), (5, None, None)]
    ingest(lake, csv(tmp_path, "item_id,price\na,5\nb,6\nc,bad\nd\n"), "items")
    assert standing(lake) == [(4, "c", "price"), (5, None, None)]


def test_a_value_is_mended_by_a_row_of_another_file_that_has_it(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, csv(tmp_path, "item_id,price,in_stock\na,oops,perhaps\n"), "items")
    ingest(lake, csv(tmp_path, "item_id,title\na,Mug\n", "titles.csv"), "items")
    assert sorted(field or "" for _, _, field in standing(lake)) == ["in_stock", "price"]
    ingest(lake, csv(tmp_path, "item_id,price\na,5\n", "prices.csv"), "items")
    assert standing(lake) == [(2, "a", "in_stock")]


def test_another_row_on_the_same_line_mends_nothing_of_a_known_id(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, csv(tmp_path, "item_id,price\na,oops\n"), "items")
    ingest(lake, csv(tmp_path, "item_id,price\nb,5\n"), "items")
    assert standing(lake) == [(2, "a", "price")]


def test_acts_without_ids_are_mended_by_their_line(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path, "user_id,item_id,time\nu,a,03/04/2025\nu,b,soon\n")
    assert ingest(lake, file, "interactions").refused == 2
    ingest(lake, file, "interactions", MappingConfig(dates="dmy"))
    assert standing(lake) == [(3, None, None)]
    ingest(
        lake,
        csv(tmp_path, "user_id,item_id,time\nv,a,2025-01-01\nv,b,2025-01-01\n", "other.csv"),
        "interactions",
    )
    assert standing(lake) == [(3, None, None)], "another file's lines are others"


def test_the_same_refusals_again_write_nothing(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, csv(tmp_path, "item_id,price\n,5\n"), "items")
    version = lake.table("refused").version()
    ingest(lake, tmp_path / "feed.csv", "items")
    assert lake.table("refused").version() == version
