"""`etalage classify`, typed."""

import shutil
from pathlib import Path

import pytest

from etalage.shop import Shop
from tests.category_exports import CLASSIFIER, LINES, classified_shop, coloured
from tests.shops import item_row, photo_row, rows_of
from tests.test_cli import quick, refuses, typed


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """24 items, see classified_shop; one of them is travel."""
    shop = classified_shop(tmp_path / "shop", photos=False)
    (shop.folder / "taxonomy.txt").write_text(LINES, encoding="utf-8")
    (shop.folder / "shop.toml").write_text('[taxonomy]\nfile = "taxonomy.txt"\n', encoding="utf-8")
    shop.lake.table("items").merge(rows_of("items", [item_row(1, category_id="Travel > Flights")]))
    return Shop(shop.folder)


def test_the_catalogue_is_classified_and_counted(shop: Shop) -> None:
    said = typed("classify", "--shop", shop.folder)
    assert said.status == 0, said.err
    assert said.lines[0].startswith("asked about 23 items by ")
    assert said.lines[0].endswith("changed 24 rows, removed 0; threshold 0.5")
    assert said.lines[1] == "classified 19, below_threshold 4, no_input 0, outside 1"
    assert [line.split(maxsplit=1) for line in said.lines[2:4]] == [
        ["items", "category"], ["6", "Clothing > Dresses"],
    ]  # fmt: skip
    assert len(said.lines) == 7
    again = quick("classify", "--shop", shop.folder, "--threshold", "0.9")
    assert again.lines[0].startswith("asked about 0 items") and "changed 1 rows" in again.lines[0]
    assert again.lines[1] == "classified 18, below_threshold 5, no_input 0, outside 1"
    assert quick("classify", "--shop", shop.folder, "--all").lines[0].startswith("asked about 23 items")


def test_photos_that_cannot_be_decoded_are_counted(shop: Shop) -> None:
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(2, b"no image")]))
    assert "photos that cannot be decoded: 1" in quick("classify", "--shop", shop.folder).lines


def test_one_photo_and_one_title_are_answered_without_writing(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "apple.png"
    file.write_bytes(coloured("21"))
    said = quick("classify", "--shop", shop.folder, "--photo", file)
    assert said.status == 0, said.err
    assert [line.split() for line in said.lines[:3]] == [
        ["confidence", "id", "category"], ["1.000", "1", "Food"], ["0.995", "21", "Apples"],
    ]  # fmt: skip
    assert said.lines[3].split(maxsplit=2)[2].startswith("or: Food > Drinks > Juice")
    titled = quick("classify", "--shop", shop.folder, "--title", "oat MILK", "--threshold", "0.99")
    assert titled.lines[0] == "not classified: 0.948 is below the threshold; the best guess:"
    both = quick("classify", "--shop", shop.folder, "--title", "oat milk", "--photo", file)
    assert both.status == 0 and "Milk" in both.out
    assert "classifications" not in shop.lake.versions()


def test_a_title_for_a_classifier_that_reads_none_is_said_so(tmp_path: Path) -> None:
    shop = classified_shop(tmp_path / "shop", 4, photos=False, text=False)
    said = quick("classify", "--shop", shop.folder, "--title", "milk")
    assert said.lines == ["nothing to look at: this classifier reads no titles; give --photo"]


def test_what_cannot_be_done_is_one_message(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("milk, bread")
    refuses(quick("classify", "--shop", shop.folder, "--photo", file), 12, f"{file}: not an image")
    refuses(quick("classify", "--shop", shop.folder, "--photo", tmp_path / "none.png"), 3, "No such file")
    refuses(quick("classify", "--shop", shop.folder, "--title", "x", "--all"), 2, "--all")
    refuses(quick("classify", "--shop", shop.folder, "--threshold", "nan"), 2, "--threshold")
    shutil.rmtree(shop.exports(CLASSIFIER))
    refuses(quick("classify", "--shop", shop.folder), 8, "etalage train item_category")


def test_publish_and_bundles_tell_of_the_classifier(shop: Shop) -> None:
    quick("classify", "--shop", shop.folder)
    said = quick("publish", "--shop", shop.folder)
    assert said.status == 0, said.err
    assert any(line.startswith("the classifier: item_category ") for line in said.lines)
    assert "classified: 19 of 24 items" in said.lines
    assert "item_category" in quick("bundles", "--shop", shop.folder).out
