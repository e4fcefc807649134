"""Files of categories: what is taken, and which line is at fault in what is not."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import InputUnreadable
from etalage.lake.taxonomy import Taxonomy
from etalage.lake.taxonomy_files import (
    localised,
    read_csv,
    read_extension,
    read_google,
    read_paths,
    read_taxonomy,
)

GOOGLE = """# Google_Product_Taxonomy_Version: 2021-09-21
1 - Pets
3 - Pets > Cats
20 - Pets > Cats > Litter & Sand
4 - Pets > Dogs
5 - Hats - Caps
"""
TREE = "id,parent,name\nf,,Food\na,f,Apples\ng,a,Granny Smith\nd,,Drinks\n"


def written(folder: Path, text: str | bytes, name: str = "taxonomy.txt") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def paths(taxonomy: Taxonomy) -> dict[str, str]:
    return {id: taxonomy.path(row) for row, id in enumerate(taxonomy.ids)}


# -- Google's format ---------------------------------------------------------------------------


def test_googles_lines_become_a_tree(tmp_path: Path) -> None:
    tree = read_google(written(tmp_path, GOOGLE))
    assert tree.ids == ("1", "3", "20", "4", "5")
    assert tree.parents_N.tolist() == [-1, 0, 1, 0, -1]
    assert tree.path(2) == "Pets > Cats > Litter & Sand"
    assert tree.names[4] == "Hats - Caps", "a dash in a name is none of the line's"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOGLE.encode(),
        GOOGLE.replace("\n", "\r\n").encode(),
        GOOGLE.replace("\n", "\n\n# a remark\n").encode(),
        GOOGLE.rstrip("\n").encode(),
        GOOGLE.replace(" > ", ">").encode(),
    ],
    ids=["a byte order mark", "CRLF", "comments and empty lines", "no end of line", "no space at the >"],
)
def test_the_same_tree_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    plain = read_google(written(tmp_path, GOOGLE))
    assert read_google(written(tmp_path, content)).version == plain.version


def test_a_parent_may_come_after_its_children(tmp_path: Path) -> None:
    lines = GOOGLE.splitlines()[1:]
    tree = read_google(written(tmp_path, "\n".join(reversed(lines))))
    assert paths(tree) == paths(read_google(written(tmp_path, GOOGLE)))
    assert tree.ids[0] == "5", "rows are in the order of the file"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Pets > Birds", "line 7: no id"),
        ("7 -", "line 7: no id"),
        ("7: Birds", "line 7: no id"),
        ("7 8 - Birds", "line 7: no id"),
        ("7 - ", "line 7: no id"),
        ("7 - Pets >  > Budgies", "line 7: 7 has a step without a name"),
        ("7 - Pets > ", "line 7: 7 has a step without a name"),
        ("7 - > Birds", "line 7: 7 has a step without a name"),
        ("7 - Pets > Birds > Budgies", "line 7: 7: its parent 'Pets > Birds' has no line"),
        ("3 - Pets > Birds", "line 7: the id 3 stands in line 3 already"),
        ("7 - Pets > Cats", "line 7: 7: the id 3 has the same path"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = written(tmp_path, GOOGLE + line + "\n")
    with pytest.raises(InputUnreadable, match=re.escape(f"{file}: {told}")):
        read_google(file)


def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, GOOGLE.encode() + "7 - Vögel\n".encode("latin-1"))
    with pytest.raises(InputUnreadable, match=r"line 7: not UTF-8.*iconv"):
        read_google(file)


@pytest.mark.parametrize("content", ["", "# only a remark\n", "\n\n"])
def test_a_file_without_a_category_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputUnreadable, match="no category"):
        read_google(written(tmp_path, content))


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    for file in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputUnreadable, match="cannot be opened"):
            read_google(file)


def test_lines_can_be_left_out_and_told_with_all_beneath_them(tmp_path: Path) -> None:
    wrong = (
        "7 - Pets > Birds > Budgies\n8 - Pets > Birds > Budgies > Blue\n3 - Pets > Mice\n9 - Pets > Cats\n"
    )
    told: list[str] = []
    tree = read_google(written(tmp_path, GOOGLE + wrong), told)
    assert paths(tree) == paths(read_google(written(tmp_path, GOOGLE, "plain.txt")))
    assert [line.partition(":")[0] for line in told] == ["line 7", "line 8", "line 9", "line 10"]


letters = st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"), blacklist_characters=">")
names = st.text(letters, min_size=1, max_size=8).map(str.strip).filter(bool)


@st.composite
def listed(draw: st.DrawFn) -> list[tuple[str, tuple[str, ...]]]:
    """(id, steps) of a ragged tree, in any order, no path twice."""
    all_paths: list[tuple[str, ...]] = []
    for _ in range(draw(st.integers(1, 15))):
        above = draw(st.sampled_from([(), *all_paths]))
        path = (*above, draw(names))
        if path not in all_paths:
            all_paths.append(path)
    ids = draw(
        st.lists(
            st.integers(0, 10**7).map(str), min_size=len(all_paths), max_size=len(all_paths), unique=True
        )
    )
    return draw(st.permutations(list(zip(ids, all_paths, strict=True))))


@given(lines=listed(), end=st.sampled_from(["\n", "\r\n"]))
def test_any_tree_written_as_google_does_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, tuple[str, ...]]], end: str
) -> None:
    text = end.join(f"{id} - {' > '.join(steps)}" for id, steps in lines)
    tree = read_google(written(tmp_path_factory.mktemp("trees"), text))
    assert paths(tree) == {id: " > ".join(steps) for id, steps in lines}
    assert list(tree.ids) == [id for id, _ in lines]


@given(content=st.binary(max_size=200) | st.text("19 ->A\n\r#", max_size=60).map(str.encode))
def test_any_bytes_are_a_taxonomy_or_refused_with_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for name, read in (("t.txt", read_google), ("t.csv", read_csv)):
        file = written(folder, content, name)
        try:
            tree = read(file)
        except InputUnreadable as error:
            assert str(error).startswith(str(file))
        else:
            assert len(tree) >= 1


# -- CSV ---------------------------------------------------------------------------------------


def test_rows_of_a_csv_become_a_tree_whatever_their_order(tmp_path: Path) -> None:
    head, *rows = TREE.splitlines()
    tree = read_csv(written(tmp_path, "\n".join([head, *reversed(rows)]), "tree.csv"))
    assert paths(tree) == {
        "d": "Drinks", "g": "Food > Apples > Granny Smith", "a": "Food > Apples", "f": "Food",
    }  # fmt: skip
    assert tree.ids == ("d", "g", "a", "f")


def test_other_columns_delimiters_and_a_mark_do_not_matter(tmp_path: Path) -> None:
    text = "\ufeffname;note;id;parent\r\nFood;x;f;\r\nApples;;a;f\r\n"
    assert paths(read_csv(written(tmp_path, text, "t.csv"))) == {"f": "Food", "a": "Food > Apples"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a,f,Pears\n", "line 6: the id a stands in line 3 already"),
        ("x,q,Pears\n", "line 6: x has the parent 'q', which there is not"),
        ("x,f,\n", "line 6: x has no name"),
        (",f,Pears\n", "line 6: id "),
        ("x,f,Apples\n", "line 6: x and a have one path"),
        ("x,,Food\n", "line 6: x and f have one path"),
        ("x,f,Pears > Kaiser\n", "line 6: 'Pears > Kaiser'"),
        ("x,f\n", "line 6: has 2 fields"),
        ("x,y,Pears\ny,x,Kaiser\n", "line 6: x stands above itself"),
        ("x,x,Pears\n", "line 6: x stands above itself"),
        ("p,x,Pips\nx,y,Pears\ny,x,Kaiser\n", "line 7: x stands above itself"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, rows: str, told: str) -> None:
    file = written(tmp_path, TREE + rows, "tree.csv")
    with pytest.raises(InputUnreadable, match=re.escape(f"{file}: {told}")):
        read_csv(file)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="no column 'parent'"):
        read_csv(written(tmp_path, "id,above,name\nf,,Food\n", "t.csv"))


def test_more_categories_stand_behind_those_that_they_extend(tmp_path: Path) -> None:
    base = read_google(written(tmp_path, GOOGLE))
    more = written(tmp_path, "id,parent,name\nm-2,m-1,Manx\nm-1,3,Tailless\n", "more.csv")
    tree = read_extension(base, more)
    assert tree.ids == (*base.ids, "m-2", "m-1")
    assert tree.path(tree.row("m-2")) == "Pets > Cats > Tailless > Manx"
    assert tree.version != base.version


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("20,4,Collars", "line 2: the id 20 is the taxonomy's own"),
        ("x,,Birds", "line 2: x has no parent"),
        ("x,99,Birds", "line 2: x has the parent '99'"),
        ("x,1,Cats", "line 2: x and 3 have one path"),
    ],
)
def test_an_extension_that_does_not_fit_is_refused(tmp_path: Path, row: str, told: str) -> None:
    base = read_google(written(tmp_path, GOOGLE))
    with pytest.raises(InputUnreadable, match=re.escape(told)):
        read_extension(base, written(tmp_path, f"id,parent,name\n{row}\n", "more.csv"))


def test_the_suffix_tells_the_format(tmp_path: Path) -> None:
    assert read_taxonomy(written(tmp_path, TREE, "TREE.CSV")).ids == ("f", "a", "g", "d")
    assert read_taxonomy(written(tmp_path, GOOGLE)).ids[0] == "1"


# -- names and older files ---------------------------------------------------------------------


def test_names_in_another_language_fall_back_to_the_taxonomys_own(tmp_path: Path) -> None:
    tree = read_google(written(tmp_path, GOOGLE))
    german = written(tmp_path, "1 - Tiere\n3 - Tiere > Katzen\n77 - Tiere > Mäuse\n", "de.txt")
    assert localised(tree, read_paths(german)) == ("Tiere", "Katzen", "Litter & Sand", "Dogs", "Hats - Caps")


def test_paths_are_read_from_a_file_with_holes(tmp_path: Path) -> None:
    file = written(tmp_path, "9 - Pets > Birds > Budgies\n9 - Pets > Budgies\n8 - Pets > Birds > Budgies\n")
    assert read_paths(file) == {"9": "Pets > Birds > Budgies", "8": "Pets > Birds > Budgies"}


def test_paths_are_read_from_a_csv(tmp_path: Path) -> None:
    assert read_paths(written(tmp_path, TREE, "t.csv"))["g"] == "Food > Apples > Granny Smith"


# -- Google's own files ------------------------------------------------------------------------


def test_every_id_of_2015_is_still_there_and_168_are_new(shared_data: Path) -> None:
    folder = shared_data / "google-product-taxonomy"
    now = read_google(folder / "taxonomy-with-ids.en-US.txt")
    for language in ("en-US", "de-DE", "fr-FR"):
        older = read_paths(folder / "2015-02-19" / f"taxonomy-with-ids.{language}.txt")
        assert len(older) == 5427
        assert set(older) <= set(now.ids)
    assert len(now) - len(older) == 168


def test_names_of_2015_are_found_by_id_in_todays_tree(shared_data: Path) -> None:
    folder = shared_data / "google-product-taxonomy"
    now = read_google(folder / "taxonomy-with-ids.en-US.txt")
    german = localised(now, read_paths(folder / "2015-02-19" / "taxonomy-with-ids.de-DE.txt"))
    assert german[now.row("6566")] == "Äpfel"
    assert german[now.row("166")] == "Bekleidung & Accessoires"
    assert german[now.row("543530")] == "Distilled Water", "younger than the translation"


def test_the_file_of_2012_is_refused_or_read_without_its_14_broken_lines(shared_data: Path) -> None:
    file = shared_data / "google-product-taxonomy" / "2012-01-13" / "taxonomy-with-ids.zh-CN.txt"
    with pytest.raises(InputUnreadable, match="line 293: 4633: the id 3725 has the same path"):
        read_google(file)
    told: list[str] = []
    assert len(read_google(file, told)) == 4586 - 14
    assert sum("has no line of its own" in line for line in told) == 8
    assert sum("has the same path" in line for line in told) == 6
    assert len(read_paths(file)) == 4586
