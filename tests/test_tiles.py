"""`etalage demo --files` writes what the guide reads; a flat folder of photos meets the same tree."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from etalage.cli import app
from etalage.demo.tiles import TEXTS, write_files
from etalage.errors import DataError
from etalage.shop import Shop, taxonomy_steps


def test_the_command_writes_the_guides_files_and_nothing_else(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--files", str(tmp_path / "tiles")])
    assert done.exit_code == 0, done.output
    made = {one.name for one in (tmp_path / "tiles").iterdir()}
    assert made == {"photos", "photo.png", "acts.csv", *TEXTS}
    assert [one.name for one in tmp_path.iterdir()] == ["tiles"]
    assert all(name in done.output for name in made)


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="not empty"):
        write_files(tmp_path, 7)
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("flat", [False, True])
def test_every_tile_carries_a_category_of_the_tree(tmp_path: Path, flat: bool) -> None:
    write_files(tmp_path / "tiles", 14)
    photos = tmp_path / "tiles" / "photos"
    if flat:
        for slope in list(photos.rglob("Slope *")):
            slope.rename(tmp_path / "tiles" / slope.name)
        photos = tmp_path / "flat"
        photos.mkdir()
        for slope in (tmp_path / "tiles").glob("Slope *"):
            slope.rename(photos / slope.name)
    shop = Shop.create(tmp_path / "shop", "Tiles")
    for name, target in (("settings.toml", "shop.toml"), ("tree.csv", "tree.csv")):
        (shop.folder / target).write_text(TEXTS[name], encoding="utf-8")
    shop = Shop(shop.folder)
    shop.ingest(photos, "items")
    done = taxonomy_steps.check(shop)
    assert (done.items, done.how["ending" if flat else "exact"], done.findings) == (14, 14, [])
