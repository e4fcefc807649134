"""What merchants call their categories: whole paths, a map, similar wording."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import InputUnreadable
from etalage.lake.category_text import (
    CategoryText,
    PathBook,
    folded,
    found_row,
    read_map,
    steps_of,
)
from etalage.lake.taxonomy import Taxonomy
from etalage.lake.taxonomy_files import localised, read_google, read_paths

ROWS = (
    ("1", -1, "Food"), ("10", 0, "Fruit"), ("11", 1, "Apples"), ("12", 1, "Grapefruits"), ("13", 0, "Bread"),
    ("2", -1, "Clothing"), ("20", 5, "Shoes"), ("21", 6, "Boots"), ("22", 6, "Sandals"),
    ("3", -1, "Hardware"), ("30", 9, "Boot Scrapers"), ("31", 9, "Accessories"), ("23", 5, "Accessories"),
)  # fmt: skip


@pytest.fixture(scope="module")
def tree() -> Taxonomy:
    """Ragged, with one name at two places."""
    return Taxonomy([id for id, _, _ in ROWS], [n for _, _, n in ROWS], np.array([up for _, up, _ in ROWS]))


def ids(tree: Taxonomy, rows: np.ndarray) -> list[str | None]:
    return [tree.ids[row] if row >= 0 else None for row in rows]


# -- whole paths -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["Food > Fruit > Apples", "food>fruit>APPLES", "  Food  >  Fruit > Apples ", "Food > Fruit > Apples"],
)
def test_a_path_is_known_whatever_its_case_and_spaces(tree: Taxonomy, text: str) -> None:
    assert PathBook(tree).row(text) == tree.row("11")


@pytest.mark.parametrize(
    "text", ["Apples", "Fruit > Apples", "Food > Fruit > Apple", "Food - Fruit - Apples", "/", ""]
)
def test_part_of_a_path_or_another_one_is_not(tree: Taxonomy, text: str) -> None:
    assert PathBook(tree).row(text) == -1


@pytest.mark.parametrize("between", ["/", " / ", "|", " » ", "::", " \\ ", ">"])
def test_a_merchants_separator_makes_no_other_path(tree: Taxonomy, between: str) -> None:
    book = PathBook(tree)
    book.add({"999": "Food > Tapes"})
    assert book.row(between.join(("Food", "Fruit", "Apples"))) == tree.row("11")
    assert book.row(between.join(("Food", "Apples", "Fruit"))) == -1
    assert book.retired(between.join(("food", "tapes")))


def test_a_name_with_a_separator_in_it_is_itself_before_it_is_two_steps() -> None:
    names = ["Discs", "CD/DVD", "CD", "DVD", "Cards", "I/O"]
    shelf = Taxonomy([f"d{n}" for n in range(6)], names, np.array([-1, 0, 0, 2, -1, 4]))
    book = PathBook(shelf)
    assert book.row("Discs > CD/DVD") == 1 and book.row("Discs > CD > DVD") == 3
    assert book.row("Discs/CD/DVD") == -1, "it may be either"
    assert book.row("Cards / I/O") == 5


def test_letters_are_equal_however_they_are_composed() -> None:
    assert folded("Gemüse > Rüben") == folded("Gemu\u0308se > RU\u0308BEN") != folded("Gemuse > Ruben")


def test_paths_in_another_language_lead_to_the_same_category(tree: Taxonomy) -> None:
    book = PathBook(tree)
    book.add({"1": "Essen", "11": "Essen > Obst > Äpfel"})
    assert book.row("essen > obst > äpfel") == tree.row("11")


def test_an_older_path_never_takes_the_place_of_todays(tree: Taxonomy) -> None:
    book = PathBook(tree)
    book.add({"13": "Food > Fruit", "10": "Food > Fruits"})
    assert book.row("Food > Fruit") == tree.row("10")
    assert book.row("Food > Fruits") == tree.row("10")


def test_a_path_that_one_file_gives_to_two_categories_is_none_of_them(tree: Taxonomy) -> None:
    book = PathBook(tree)
    book.add({"11": "Essen > Kerne", "12": "Essen > Kerne", "999": "Essen > Mehr", "13": "Essen > Mehr"})
    assert book.row("Essen > Kerne") == book.row("Essen > Mehr") == -1
    assert not book.retired("Essen > Mehr")


def test_a_path_that_only_older_files_have_is_retired(tree: Taxonomy) -> None:
    book = PathBook(tree)
    book.add({"999": "Food > Tapes", "998": "Food > Bread"})
    assert book.retired("food > TAPES")
    assert not book.retired("Food > Bread"), "it is in use again"
    assert not book.retired("Food > Cassettes")


@given(text=st.text(max_size=40))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert folded(folded(text)) == folded(text)


# -- a map -------------------------------------------------------------------------------------


def mapped(tmp_path: Path, rows: str, head: str = "merchant,category,id") -> Path:
    file = tmp_path / "map.csv"
    file.write_text(f"{head}\n{rows}", encoding="utf-8")
    return file


def test_a_merchants_own_line_counts_before_the_line_for_all(tree: Taxonomy, tmp_path: Path) -> None:
    file = mapped(tmp_path, "Ann,4100,11\n,4100,13\nBob,Schuhe / Stiefel,Clothing > Shoes > Boots\n")
    found = read_map(tree, file, PathBook(tree))
    assert found.row("Ann", "4100") == tree.row("11")
    assert found.row("Bob", "4100") == found.row(None, "4100") == tree.row("13")
    assert found.row("Bob", "SCHUHE / stiefel") == tree.row("21"), "a path may stand in place of an id"
    assert found.row("Ann", "Schuhe / Stiefel") is None


def test_a_line_without_an_id_is_still_to_be_looked_up_and_outside_is_said_so(
    tree: Taxonomy, tmp_path: Path
) -> None:
    found = read_map(tree, mapped(tmp_path, "Ann,Tiere,\nAnn,Kurse,Outside\n"), PathBook(tree))
    assert found.row("Ann", "Tiere") is None
    assert found.row("Ann", "Kurse") == -1


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("Ann,A,11\nAnn,B,777\n", "line 3: '777' is no id"),
        ("Ann,,11\n", "line 2: no category"),
        ("Ann,A,11\nBob,A,12\nAnn,a,13\n", "line 4: 'a' of Ann has another id"),
        (",A,11\n,A,outside\n", "line 3: 'A' of all merchants has another id"),
        ("Ann,A\n", "line 2: has 2 fields"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tree: Taxonomy, tmp_path: Path, rows: str, told: str) -> None:
    file = mapped(tmp_path, rows)
    with pytest.raises(InputUnreadable, match=re.escape(f"{file}: {told}")):
        read_map(tree, file, PathBook(tree))


def test_what_a_draft_says_besides_is_passed_over(tree: Taxonomy, tmp_path: Path) -> None:
    file = mapped(tmp_path, "0.8,Ann,3,A,11\n", head="similarity,merchant,items,category,id")
    assert read_map(tree, file, PathBook(tree)).row("Ann", "A") == tree.row("11")


def test_a_map_without_a_column_is_refused(tree: Taxonomy, tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="no column 'category'"):
        read_map(tree, mapped(tmp_path, "", head="merchant,text,id"), PathBook(tree))


def test_an_id_is_looked_for_before_a_path(tree: Taxonomy) -> None:
    book = PathBook(tree)
    assert found_row(tree, book, " 11 ") == tree.row("11")
    assert found_row(tree, book, "Food > Bread") == tree.row("13")
    assert found_row(tree, book, "0011") == -1


# -- similar wording ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("A > B", ["A", "B"]), ("A/B / C", ["A", "B", "C"]), ("A » B", ["A", "B"]), ("A|B", ["A", "B"]),
        (" A ", ["A"]), ("A-B & C", ["A-B & C"]), ("> A >", ["A"]), ("", []), (" / ", []),
    ],
)  # fmt: skip
def test_steps_are_told_apart_whatever_stands_between_them(text: str, steps: list[str]) -> None:
    assert steps_of(text) == steps


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("apple", "11"), ("Fresh fruit / apples", "11"), ("Grapefruit", "12"), ("Sandal", "22"),
        ("Shoes & Boots > Boots", "21"), ("Clothing / Accessories", "23"), ("Hardware / Accessories", "31"),
        ("Boot scraper", "30"),
    ],
)  # fmt: skip
def test_the_category_of_like_wording_is_found(tree: Taxonomy, text: str, id: str) -> None:
    rows, similar = CategoryText(tree).nearest([text])
    assert ids(tree, rows[:, 0]) == [id]
    assert 0 < similar[0, 0] <= 1


def test_every_category_is_most_similar_to_its_own_path(tree: Taxonomy) -> None:
    rows, similar = CategoryText(tree).nearest([tree.path(row) for row in range(len(tree))], count=2)
    assert rows[:, 0].tolist() == list(range(len(tree)))
    np.testing.assert_allclose(similar[:, 0], 1, atol=1e-6)
    assert (similar[:, 1] < similar[:, 0]).all()


def test_nothing_is_similar_to_what_shares_no_letters(tree: Taxonomy) -> None:
    rows, similar = CategoryText(tree).nearest(["1234 / zzz", "", "漢字"], count=2)
    assert rows.tolist() == [[-1, -1]] * 3
    assert not similar.any()


def test_no_texts_have_no_neighbours(tree: Taxonomy) -> None:
    rows, similar = CategoryText(tree).nearest([], count=3)
    assert rows.shape == similar.shape == (0, 3)


def test_the_similarity_is_the_cosine_worked_out_by_hand() -> None:
    # Two names of one word each, " ab " and " cd ": the grams " ab", "ab ", " ab " have equal weights.
    pair = Taxonomy(["1", "2"], ["ab", "cd"], np.array([-1, -1]))
    _, similar = CategoryText(pair).nearest(["ab cd", "ab xy", "ab"])
    np.testing.assert_allclose(similar[:, 0], [np.sqrt(0.5), 1, 1], atol=1e-6)


def test_the_best_of_all_languages_counts(tree: Taxonomy) -> None:
    german = tuple({"Apples": "Äpfel", "Boots": "Stiefel"}.get(name, name) for name in tree.names)
    found = CategoryText(tree, [german])
    rows, _ = found.nearest(["Obst / Äpfel", "Stiefel", "apples"])
    assert ids(tree, rows[:, 0]) == ["11", "21", "11"]


@given(texts=st.lists(st.text(max_size=20), max_size=4), count=st.integers(1, 20))
def test_any_text_has_similarities_from_nought_to_one_in_order(
    tree: Taxonomy, texts: list[str], count: int
) -> None:
    rows, similar = CategoryText(tree).nearest(texts, count)
    assert rows.shape == (len(texts), min(count, len(tree)))
    assert ((similar >= 0) & (similar <= 1)).all()
    assert (np.diff(similar, axis=1) <= 0).all()
    assert ((rows == -1) == (similar == 0)).all()
    for row in rows:
        known = row[row >= 0]
        assert len(set(known.tolist())) == len(known)


def test_ten_thousand_texts_against_googles_whole_taxonomy_take_seconds(shared_data: Path) -> None:
    folder = shared_data / "google-product-taxonomy"
    tree = read_google(folder / "taxonomy-with-ids.en-US.txt")
    texts = [f"shop {n} / {tree.names[n % len(tree)].lower()}" for n in range(10_000)]
    started = time.process_time()
    rows, _ = CategoryText(tree).nearest(texts)
    assert time.process_time() - started < 60, "about 3 s of processor time on an idle machine"
    assert (rows[:, 0] == np.arange(10_000) % len(tree)).mean() > 0.9


def test_german_wording_finds_googles_category_by_its_german_names(shared_data: Path) -> None:
    folder = shared_data / "google-product-taxonomy"
    tree = read_google(folder / "taxonomy-with-ids.en-US.txt")
    german = localised(tree, read_paths(folder / "2015-02-19" / "taxonomy-with-ids.de-DE.txt"))
    rows, _ = CategoryText(tree, [german]).nearest(["Obst / Äpfel", "Kaffeemaschinen"])
    assert ids(tree, rows[:, 0])[0] == "6566"
