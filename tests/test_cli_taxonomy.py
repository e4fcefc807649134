"""`etalage taxonomy` as a user meets it."""

import csv
from pathlib import Path

import pytest

from etalage import console
from etalage.shop import Shop, taxonomy_steps
from tests.test_cli import Said, quick, refuses, typed
from tests.test_taxonomy_steps import TAXONOMY, filled, shop_of


@pytest.fixture(autouse=True)
def _as_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "_width", 1000)
    monkeypatch.delenv("ETALAGE_SHOP", raising=False)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return filled(shop_of(tmp_path / "shop")).folder


def table(said: Said, head: str) -> list[list[str]]:
    """The rows beneath a table's head, by cell."""
    at = next(n for n, line in enumerate(said.lines) if line.startswith(head))
    return [line.split() for line in said.lines[at + 1 :]]


def test_the_top_of_the_tree_is_shown(shop: Path) -> None:
    said = quick("taxonomy", "show", "--shop", shop)
    assert said.status == 0
    assert said.lines[0] == "11 categories, 5 leaves, depth 5"
    assert table(said, "id") == [["1", "Food", "4"], ["5", "Clothing", "1"]]


@pytest.mark.parametrize("category", ["300", "Food > Fruit > Apples", "essen > obst > äpfel"])
def test_a_category_is_shown_by_its_id_or_its_path_in_any_language(shop: Path, category: str) -> None:
    said = quick("taxonomy", "show", category, "--shop", shop)
    assert said.lines[:2] == ["300: Food > Fruit > Apples", "de-DE: Äpfel"]
    assert table(said, "id") == [["x-1", "Pink", "Lady"], ["x-2", "Golden"]]


def test_a_category_beneath_the_cut_says_what_it_counts_as(shop: Path) -> None:
    (shop / "shop.toml").write_text(f"{TAXONOMY}level = 2\n", encoding="utf-8")
    assert "beneath the cut: counts as Food > Fruit" in quick("taxonomy", "show", "x-4", "-s", shop).lines
    assert not any("cut" in line for line in quick("taxonomy", "show", "20", "-s", shop).lines)


def test_a_category_that_there_is_not_is_refused(shop: Path) -> None:
    refuses(quick("taxonomy", "show", "77", "-s", shop), 2, "'77'", "etalage taxonomy show")


def test_the_check_tells_counts_and_examples(shop: Path) -> None:
    said = quick("taxonomy", "check", "--shop", shop)
    assert said.lines == [
        "11 items: given 3, mapped 2, exact 1, ending 0, similar 0",
        "unknown id: 1 items",
        "  1 × x-9",
        "retired id: 1 items",
        "  1 × 77",
        "outside the taxonomy: 1 items",
        "  1 × Ann: Services > Delivery",
        "not mapped: 2 items",
        "  1 × Bob: 4100",
        "  1 × Bob: Fresh fruits / Citrus",
        "no category: 1 items",
    ]
    fewer = quick("taxonomy", "check", "--examples", "1", "--shop", shop)
    assert "  … and 1 others" in fewer.lines
    assert "  1 × Bob: Fresh fruits / Citrus" not in fewer.lines


def test_a_draft_of_a_map_can_be_used_once_it_was_looked_through(shop: Path) -> None:
    draft = shop / "draft.csv"
    said = quick("taxonomy", "map", "-o", draft, "-s", shop)
    assert said.status == 0 and "2 categories" in said.lines[0]
    with draft.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["category"], row["id"], row["items"]) for row in rows] == [
        ("4100", "", "2"), ("Fresh fruits / Citrus", "301", "2"),
    ]  # fmt: skip
    text = draft.read_text(encoding="utf-8").replace("Bob,4100,", "Bob,4100,21")
    draft.write_text(text, encoding="utf-8")
    (shop / "shop.toml").write_text(TAXONOMY.replace("map.csv", "draft.csv"), encoding="utf-8")
    done = taxonomy_steps.check(Shop(shop))
    assert done.how["mapped"] == 3, "Bob's 4100 and his citrus twice; Ann's map was put aside"


def test_without_a_file_the_draft_is_shown(shop: Path) -> None:
    rows = table(quick("taxonomy", "map", "-s", shop), "merchant")
    assert rows[0] == ["Bob", "4100", "0.000", "2"]
    assert rows[1][:5] == ["Bob", "Fresh", "fruits", "/", "Citrus"]


def test_a_file_that_is_there_is_never_written_over(shop: Path) -> None:
    before = (shop / "map.csv").read_text(encoding="utf-8")
    refuses(quick("taxonomy", "map", "-o", shop / "map.csv", "-s", shop), 2, "map.csv", "name a new file")
    assert (shop / "map.csv").read_text(encoding="utf-8") == before
    refuses(quick("taxonomy", "map", "-o", shop / "no" / "map.csv", "-s", shop), 2, "cannot be written")


def test_the_real_command_ends_with_the_error_of_a_broken_file(shop: Path) -> None:
    (shop / "more.csv").write_text("id,parent,name\nx-1,999,Pink\n", encoding="utf-8")
    refuses(typed("taxonomy", "check", "--shop", shop), 3, "more.csv: line 2: x-1 has the parent '999'")
