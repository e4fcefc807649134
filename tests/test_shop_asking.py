"""A question with a wrong name fails: which folders are shops, and which items and shoppers there are."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.api import Slot
from etalage.cli.serving import _show_slate
from etalage.console import out
from etalage.errors import ConfigError, NothingToPublish, TooLittleData
from etalage.lake.delta import Lake
from etalage.nearest import LOOKED_THROUGH, nearest
from etalage.shop import Shop
from tests.exports import tiny_export
from tests.shops import act_rows, fill, item_row, rows_of, small_shop
from tests.test_cli import quick, refuses

WITHOUT_PHOTO = 5


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of 20 items, one of them without a photo."""
    folder = tmp_path_factory.mktemp("shops") / "shoes"
    small_shop(folder, 20, without_photo=[WITHOUT_PHOTO])
    (folder / "shop.toml").write_text('name = "Shoes"\n')
    return folder


@pytest.fixture
def shop(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "shoes"))


# -- which folder is a shop ----------------------------------------------------------------------

EVERY = [
    ["tables"], ["refused"], ["collect"], ["erase", "u"], ["train"], ["evaluate"], ["compare"], ["publish"],
    ["sync"], ["bundles"], ["rollback"], ["register"], ["similar", "x"], ["recommend", "u"], ["serve"],
    ["classify"], ["photos", "probe"], ["photos", "fetch"], ["taxonomy", "check"], ["taxonomy", "show"],
    ["taxonomy", "map"],
]  # fmt: skip


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_a_command_in_a_folder_that_is_no_shop_fails_and_leaves_it_empty(
    tmp_path: Path, command: list[str]
) -> None:
    said = quick(*command, "--shop", tmp_path)
    refuses(said, 2, f"{tmp_path}: is no shop", f"`etalage new {tmp_path}` makes one")
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_loading_into_a_folder_that_is_no_shop_makes_none(tmp_path: Path) -> None:
    (tmp_path / "feed.csv").write_text("item_id,title\n1,One\n")
    (tmp_path / "else").mkdir()
    refuses(quick("ingest", tmp_path / "feed.csv", "--shop", tmp_path / "else"), 2, "is no shop")
    refuses(quick("ingest", tmp_path / "feed.csv", "--shop", tmp_path / "els"), 2, "no such folder")
    assert list((tmp_path / "else").iterdir()) == [] and not (tmp_path / "els").exists()


def test_the_shop_that_was_meant_is_named(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = f"did you mean `--shop {published}`?"
    refuses(quick("tables", "--shop", published.with_name("shose")), 2, near)
    refuses(quick("tables", "--shop", published / "tables"), 2, f"the shop is `--shop {published}`")
    monkeypatch.chdir(published.parent)
    refuses(quick("tables"), 2, "did you mean `--shop shoes`?")
    monkeypatch.chdir(tmp_path)
    assert "did you mean" not in quick("tables", "--shop", "far_from_any").err


def test_a_shop_toml_or_filled_tables_make_a_folder_a_shop(tmp_path: Path) -> None:
    Shop.create(tmp_path / "new", "New")
    assert quick("tables", "--shop", tmp_path / "new").lines[-1].startswith("no table has rows yet")
    fill(Lake(tmp_path / "copied" / "tables"), range(3), [])
    assert Shop(tmp_path / "copied").lake.table("items").count() == 3
    (tmp_path / "office" / "tables").mkdir(parents=True)
    (tmp_path / "office" / "tables" / "chairs.csv").write_text("chair\n")
    with pytest.raises(ConfigError, match="is no shop"):
        Shop(tmp_path / "office")


# -- which items and shoppers there are ----------------------------------------------------------


def test_asking_what_is_like_an_item_that_nobody_knows_fails_with_the_nearest(shop: Path) -> None:
    refuses(quick("similar", "nosuch", "--shop", shop), 12, "NotFound", "'nosuch'", "'item-00000'")
    refuses(quick("similar", "item00007", "--shop", shop), 12, "did you mean 'item-00007'?")
    refuses(quick("similar", " ITEM-00007", "--shop", shop), 12, "did you mean 'item-00007'?")
    refuses(quick("similar", shop / "shop.toml", "--shop", shop), 12, "etalage similar --photo ", "shop.toml")
    assert quick("similar", "item-00007", "--shop", shop).status == 0


def test_an_item_that_only_the_tables_have_asks_for_a_sync(shop: Path) -> None:
    Lake(shop / "tables").table("items").merge(rows_of("items", [item_row(77)]))
    refuses(quick("similar", "item-00077", "--shop", shop), 12, "the table items has it", "`etalage sync")
    refuses(quick("recommend", "--had", "item-00077", "--shop", shop), 12, "`etalage sync")


def test_an_item_without_a_photo_is_answered_and_labelled(shop: Path) -> None:
    said = quick("similar", f"item-{WITHOUT_PHOTO:05d}", "--shop", shop)
    assert said.status == 0
    assert said.lines[-1] == "no photo of it: the most popular of its category, then of the shop"


def test_a_history_of_items_that_nobody_knows_fails(shop: Path) -> None:
    refuses(quick("recommend", "--had", "nosuch", "--shop", shop), 12, "--had 'nosuch'", "no such item")
    both = ("recommend", "--had", "item-00001", "--had", "item-1", "--shop", shop)
    refuses(quick(*both), 12, "--had 'item-1'")
    refuses(quick("recommend", "user-1", "--had", "item-00001", "--shop", shop), 12, "not both")
    assert quick("recommend", "--had", "item-00001", "--shop", shop).status == 0


def test_a_shopper_that_nobody_knows_is_answered_as_a_newcomer_and_it_is_said(shop: Path) -> None:
    said = quick("recommend", "nobody", "--shop", shop)
    assert said.status == 0
    assert said.lines[-1] == ("nothing is known of shopper 'nobody': what is popular now, and not all alike.")
    assert quick("erase", "nobody", "--shop", shop).lines[-2].startswith("no row has user_id 'nobody'")


# -- photos of a shop that has none --------------------------------------------------------------


def test_judging_photos_in_a_shop_without_any_fails_with_how_they_come(tmp_path: Path) -> None:
    folder = Shop.create(tmp_path / "shop", "Bare").folder
    refuses(quick("evaluate", "image_similarity", "--shop", folder), 6, "no photo", "etalage ingest FOLDER")
    bare = [item_row(n, photo_url=None) for n in range(30)]
    Lake(folder / "tables").table("items").merge(rows_of("items", bare))
    tiny_export(folder / "exports" / "image_similarity" / "0001-tiny", 28, 1, 16, 0)
    for command in ("train", "evaluate"):
        with pytest.raises(TooLittleData, match="the shop has no photo"):
            getattr(Shop(folder), command)("image_similarity")
    (tmp_path / "links.csv").write_text("item_id,photo_url\nitem-00001,https://shop.test/1.jpg\n")
    assert quick("ingest", tmp_path / "links.csv", "--shop", folder).status == 0
    refuses(quick("train", "--shop", folder), 6, "none of the 1 items with a link", "`etalage photos fetch`")


def test_photos_that_no_model_was_trained_on_ask_for_training(shop: Path) -> None:
    shutil.rmtree(shop / "exports")
    with pytest.raises(NothingToPublish, match="etalage train image_similarity"):
        Shop(shop).evaluate("image_similarity")


# -- the nearest name ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("3.0", "3"),
        ("0003", "3"),
        ("'3", "3"),
        (" 3", "3"),
        ("ab-12", "AB-12"),
        ("AB-21", "AB-12"),
        ("zzzzz", None),
    ],
)
def test_a_name_written_otherwise_is_found_first(asked: str, meant: str | None) -> None:
    assert nearest(asked, ["30", "3", "AB-12", "33"]) == meant


@pytest.mark.parametrize(("asked", "meant"), [("u001", "u0001"), ("sku 7/2", "sku 07/02")])
def test_zeros_in_front_of_any_number_of_a_name_make_no_other_name(asked: str, meant: str) -> None:
    assert nearest(asked, ["u0201", "sku 07/2a", "sku 07/02", "u0001"]) == meant


def test_among_many_names_those_are_compared_that_begin_or_end_alike() -> None:
    many = [f"{n:07d}" for n in range(1, LOOKED_THROUGH * 2)]
    found = nearest("002345", many)
    assert found == "0002345"
    assert nearest("00123x5", many) is not None


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=20))
def test_the_nearest_name_is_a_known_one_and_itself_when_known(name: str, known: list[str]) -> None:
    found = nearest(name, known)
    assert found is None or found in known


# -- what a slate shows --------------------------------------------------------------------------


def shown(columns: list[str], **given: list[Any]) -> list[str]:
    """The lines of a slate of items that have these fields."""
    slots = [
        Slot(**({"title": None, "brand": None, "price": None, "currency": None, "category_id": None,
                 "in_stock": None, "photo": None, "item_id": f"i{n}", "rank": n + 1, "score": 0.5}
                | {name: values[n] for name, values in given.items()}))  # type: ignore[arg-type]
        for n in range(2)
    ]  # fmt: skip
    with out.capture() as told:
        _show_slate(slots, columns)
    return [" ".join(line.split()) for line in told.get().splitlines()]


def test_a_slate_leaves_out_columns_that_no_item_fills() -> None:
    lines = shown([], title=["Mug", "Cup"], brand=["Kolm", "Kolm"], category_id=["Home", "Home"])
    assert lines == ["rank item score title", "1 i0 0.5000 Mug", "2 i1 0.5000 Cup"]


def test_an_item_without_a_title_is_shown_by_brand_and_category() -> None:
    lines = shown([], title=["Mug", None], brand=["Kolm", "Nordhem"], category_id=["Home", "Cups"])
    assert lines == ["rank item score title brand category", "1 i0 0.5000 Mug", "2 i1 0.5000 Nordhem Cups"]
    assert shown(["category"], category_id=["Home", "Cups"])[0] == "rank item score category"


def test_publishing_names_a_shopper_to_ask_for(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "S")
    acts = act_rows([(f"user-{n}", item, "buy") for n in range(6) for item in range(n % 3, 9, 2)])
    fill(shop.lake, range(9), [])
    shop.lake.table("interactions").merge(rows_of("interactions", acts))
    shop.train("popularity")
    said = quick("publish", "--shop", shop.folder, "--force")
    assert said.status == 0, said.err
    (line,) = [line for line in said.lines if line.startswith("next: ")]
    whom = line.split("`")[1].split()[2]
    assert quick("recommend", whom, "--shop", shop.folder).status == 0
    assert whom in {f"user-{n}" for n in range(6)} and f"`etalage serve --shop {shop.folder}`" in line
