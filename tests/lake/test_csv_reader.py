"""CSV of unknown make: its delimiter, its encoding, quotation marks that are never closed, lines without
end."""

import csv
import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import EtalageError, InputUnreadable
from etalage.lake.csv_dialect import DELIMITERS, delimiter_of
from etalage.lake.raw import LONGEST_VALUE
from etalage.lake.readers import open_table
from etalage.lake.text_files import AS_FOUND, FileStyle
from tests.lake.raw_files import ANY_FIXTURE, Rows, read_as


def read(
    folder: Path, content: str | bytes, style: FileStyle = AS_FOUND
) -> tuple[Rows, list[tuple[int, str]], list[str]]:
    """([(line, row)], [(line, reason)], notes) of `content` as a file."""
    return read_as("csv", folder, content, style)


def columns_of(folder: Path, content: str) -> list[str]:
    """The names of the columns of `content` as a file of some rows."""
    file = folder / "a.csv"
    file.write_text(content)
    (chunk,) = open_table(file, "csv", 10).chunks()
    return list(chunk.columns)


# --- the delimiter


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("SKU (empty, if new, needed);Name (max. 100, needed)\n0012;Lamp\n", ";"),
        ("id;title;price\n1;Lamp, red, large;2,50\n2;Cup, blue, small;3,50\n", ";"),
        ("id,title;subtitle,price\n1,Lamp,2\n2,Cup,3\n", ","),
        ("id\ttitle, or name, or label, or text\n1\tLamp\n", "\t"),
        ('id|text\n1|"a|b,c,d"\n2|"x;y"\n', "|"),
        ("id,tags|labels,price\n1,a|b,2\n2,c|d,3\n", ","),
        ("id;title\n", ";"),
        ("id\n1\n2\n", ","),
        ("id,title\n1\n2,a,b\n", ","),
        ("id\ttitle\n1\t\"Cup, never closed\n2\tJug, blue\n", "\t"),
    ],
)  # fmt: skip
def test_the_delimiter_is_the_one_by_which_the_rows_agree_with_the_header(
    content: str, delimiter: str
) -> None:
    assert delimiter_of(content.splitlines(keepends=True)) == delimiter


def test_a_delimiter_that_is_said_is_taken(tmp_path: Path) -> None:
    taken, _, _ = read(tmp_path, "id,a;b,c\n1,2;3,4\n", FileStyle(delimiter=";"))
    assert taken == [(2, {"id,a": "1,2", "b,c": "3,4"})]
    assert read(tmp_path, "id^a\n1^2\n", FileStyle(delimiter="^"))[0] == [(2, {"id": "1", "a": "2"})]


texts = st.text(st.characters(exclude_categories=["Cs"]))


@ANY_FIXTURE
@given(
    rows=st.lists(st.lists(texts, min_size=3, max_size=3), max_size=12),
    delimiter=st.sampled_from(DELIMITERS),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    said=st.booleans(),
)
def test_any_rows_that_a_writer_wrote_by_any_delimiter_come_back(
    tmp_path: Path, rows: list[list[str]], delimiter: str, quoting: Any, encoding: str, said: bool
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting)
    writer.writerow(["id", "text", "more"])
    # A number in front: a text that looks like rows of this very file is the one thing that is refused.
    writer.writerows([[str(n), *row[1:]] for n, row in enumerate(rows)])
    style = FileStyle(delimiter if said else None)
    taken, refused, _ = read(tmp_path, buffer.getvalue().encode(encoding), style)
    assert [reason for _, reason in refused if "rows by themselves" not in reason] == []
    expected = [{"id": str(n), "text": r[1] or None, "more": r[2] or None} for n, r in enumerate(rows)]
    if not refused:
        assert [row for _, row in taken] == expected


@ANY_FIXTURE
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(["a", "1", ",", ";", "\t", '"', "\n", "\r\n", "id", "\0", "é", " "])).map(
            lambda parts: "".join(parts).encode()
        ),
    ),
    delimiter=st.sampled_from([None, *DELIMITERS]),
    encoding=st.sampled_from([None, "utf-8", "utf-16", "utf-16-le", "cp1252", "shift_jis", "utf-7"]),
    format=st.sampled_from(["csv", "jsonl"]),
)
def test_no_bytes_raise_anything_but_our_own_errors(
    tmp_path: Path, content: bytes, delimiter: str | None, encoding: str | None, format: str
) -> None:
    file = tmp_path / "any"
    file.write_bytes(content)
    try:
        for chunk in open_table(file, format, 3, FileStyle(delimiter, encoding)).chunks():
            assert all(len(values) == len(chunk.lines) for values in chunk.columns.values())
    except EtalageError as error:
        assert str(file) in str(error)


# --- the encoding


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding_whatever_the_settings_say(tmp_path: Path, encoding: str) -> None:
    content = "id;title\n1;Café – 東京\n".encode(encoding)
    for said in (None, "cp1252"):
        taken, refused, _ = read(tmp_path, content, FileStyle(encoding=said))
        assert (taken, refused) == ([(2, {"id": "1", "title": "Café – 東京"})], [])


def test_an_encoding_that_is_said_is_taken_and_its_broken_bytes_are_refused(tmp_path: Path) -> None:
    content = "id;title\n1;Café – x\n".encode("cp1252")
    taken, refused, _ = read(tmp_path, content, FileStyle(encoding="cp1252"))
    assert (taken, refused) == ([(2, {"id": "1", "title": "Café – x"})], [])
    taken, refused, _ = read(tmp_path, content + b"2;\x81\n3;b\n", FileStyle(encoding="cp1252"))
    assert [row["id"] for _, row in taken] == ["1", "3"]
    assert refused[0][0] == 3 and refused[0][1].startswith("not cp1252; say which encoding")


@pytest.mark.parametrize("said", ["latin-1", "iso-8859-1", "ISO8859-1"])
def test_who_says_latin_1_means_that_of_windows(tmp_path: Path, said: str) -> None:
    content = "id,price\n1,5 €\n".encode("cp1252")
    assert read(tmp_path, content, FileStyle(encoding=said))[0] == [(2, {"id": "1", "price": "5 €"})]


def test_json_lines_in_another_encoding_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = '{"id": 1, "t": "é"}\n\n{"id": 2, "t": "日"}\n'
    for encoding, said in (("utf-16", None), ("utf-8-sig", None), ("shift_jis", "shift_jis")):
        file.write_bytes(lines.replace("é", "e" if said else "é").encode(encoding))
        (chunk,) = open_table(file, "jsonl", 10, FileStyle(encoding=said)).chunks()
        assert (chunk.lines, chunk.columns["id"], chunk.columns["t"][1]) == ([1, 3], [1, 2], "日")


# --- quotation marks


def feed(delimiter: str, rows: int, quote: int, inches: int) -> str:
    """A feed of `rows` rows: in one a quotation mark whose end was cut off, in a later one inches."""
    lines = [delimiter.join(("item_id", "title", "description", "price"))]
    for n in range(1, rows + 1):
        text = '"Best cup ever' if n == quote else 'Frame 24"' if n == inches else f"Plain {n}"
        lines.append(delimiter.join((f"s{n}", f"Cup {n}", text, f"{n}.00")))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("rows", "quote", "inches"), [(4, 2, 4), (200, 10, 150), (5, 1, 5), (3, 2, 3)])
def test_a_quotation_mark_without_its_pair_is_a_character_in_a_file_by_tab(
    tmp_path: Path, rows: int, quote: int, inches: int
) -> None:
    taken, refused, notes = read(tmp_path, feed("\t", rows, quote, inches))
    assert refused == []
    assert [row["price"] for _, row in taken] == [f"{n}.00" for n in range(1, rows + 1)]
    assert [line for line, _ in taken] == list(range(2, rows + 2))
    assert taken[quote - 1][1]["description"] == '"Best cup ever'
    assert taken[inches - 1][1]["description"] == 'Frame 24"'
    assert f"a character of the text, such as line {quote + 1}" in notes[0]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize(("rows", "quote", "inches"), [(4, 2, 4), (200, 10, 150), (5, 1, 5)])
def test_a_quotation_mark_without_its_pair_costs_its_row_alone(
    tmp_path: Path, delimiter: str, rows: int, quote: int, inches: int
) -> None:
    taken, refused, _ = read(tmp_path, feed(delimiter, rows, quote, inches))
    assert [row["price"] for _, row in taken] == [f"{n}.00" for n in range(1, rows + 1) if n != quote]
    ((line, why),) = refused
    assert line == quote + 1
    assert f"opens in line {quote + 1} would close in line {inches + 1}" in why


def test_a_cut_quotation_that_closes_at_the_end_of_a_later_row_costs_its_row_alone(tmp_path: Path) -> None:
    content = 'id,name,text\n1,a,plain\n2,b,"cut\n3,c,plain\n4,d,24"\n5,e,plain\n'
    taken, refused, _ = read(tmp_path, content)
    assert [row["id"] for _, row in taken] == ["1", "3", "4", "5"]
    assert [line for line, _ in refused] == [3]


def test_a_quoted_row_by_tab_keeps_its_quotes_out_of_the_ids(tmp_path: Path) -> None:
    content = 'id\ttext\tprice\n"1"\t"say ""x"""\t"1"\n"2"\t"never closed\t"2"\n"3"\t"a\tb"\t"3"\n'
    taken, refused, _ = read(tmp_path, content)
    assert [list(row.values()) for _, row in taken] == [
        ["1", 'say "x"', "1"],
        ["2", '"never closed', "2"],
        ["3", "a\tb", "3"],
    ]
    assert refused == []


TEXTS = (
    "Soft, warm\nand red, too",
    "Size table:\nS,36,38\nM,40,42\nL,44,46",
    "one,two,three,four\nfive,six,seven,eight",
    "<p>Oak, beech,\nash</p>\n\n<ul>\n<li>a, b, c</li>\n</ul>",
    'He said "yes, no, maybe",\nand left, alone, at noon',
    "\n\n\n",
    "a\r\nb, c, d, e, f, g\r\nh",
)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_text_over_several_lines_is_one_value_however_many_delimiters_it_holds(
    tmp_path: Path, delimiter: str
) -> None:
    texts = [text.replace(",", delimiter) for text in TEXTS]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["item_id", "title", "description", "price"])
    writer.writerows([f"P-{n}", f"Cup {n}", texts[n % len(texts)], f"{n}.50"] for n in range(60))
    taken, refused, notes = read(tmp_path, buffer.getvalue())
    assert refused == []
    assert [row["description"] for _, row in taken] == [texts[n % len(texts)] for n in range(60)]
    assert "holds the delimiter as often as a row does; it is taken for one text" in notes[0]


# --- lines without end


STARTS = ("", '2,"', '{"a": "')
BOMBS = [(form, start, code) for form in ("csv", "jsonl") for start in STARTS for code in ("utf-8", "utf-16")]


@pytest.mark.parametrize(
    ("format", "start", "encoding"),
    # Every format with every start, in either encoding; the other six are slow.
    [pytest.param(*one, marks=[pytest.mark.slow] if n % 2 == n // 6 else []) for n, one in enumerate(BOMBS)],
)
def test_f65_a_line_without_end_is_refused_in_bounded_memory(
    tmp_path: Path, format: str, start: str, encoding: str
) -> None:
    """300 MB in one line of some 300 KB gzip; the reader may hold a few times LONGEST_VALUE."""
    file = tmp_path / "bomb.gz"
    good = '{"id": "1", "text": "a"}' if format == "jsonl" else "1,a"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        packed.write(("id,text\n" if format == "csv" else good + "\n").encode(encoding))
        unmarked = "utf-16-le" if encoding == "utf-16" else encoding
        packed.write(f"{good}\n{start}".encode(unmarked))
        block = ("x" * 2**20).encode(unmarked)
        for _ in range(300 * 2**20 // len(block)):
            packed.write(block)
        packed.write(f'"\n{good}\n'.encode(unmarked))
    tracemalloc.start()
    try:
        chunks = list(open_table(file, format, 100).chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    refused = [refusal for chunk in chunks for refusal in chunk.refused]
    assert [refusal.line for refusal in refused] == [3]
    assert "longer than 33,554,432" in refused[0].reason
    assert [line for chunk in chunks for line in chunk.lines] == ([1, 2, 4] if format == "jsonl" else [2, 4])
    assert peak < 8 * LONGEST_VALUE


def test_f65_many_long_lines_are_several_chunks(tmp_path: Path) -> None:
    long = "x" * (12 * 2**20)
    taken = "".join(f"{n},{long}\n" for n in range(7))
    (tmp_path / "a.csv").write_text("id,text\n" + taken)
    chunks = [len(chunk.lines) for chunk in open_table(tmp_path / "a.csv", "csv", 100).chunks()]
    assert chunks == [3, 3, 1]
    objects = "".join(f'{{"id": {n}, "text": "{long}"}}\n' for n in range(7))
    (tmp_path / "a.jsonl").write_text(objects)
    chunks = [len(chunk.lines) for chunk in open_table(tmp_path / "a.jsonl", "jsonl", 100).chunks()]
    assert chunks == [3, 3, 1]


def test_f65_a_quotation_without_end_over_long_lines_is_given_up(tmp_path: Path) -> None:
    content = 'id,text\n1,"open\n' + "".join(f"{n},{'x' * 2**20}\n" for n in range(2, 40))
    taken, refused, _ = read(tmp_path, content)
    assert [line for line, _ in refused] == [2]
    assert len(taken) == 38


def test_a_header_without_end_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match=r"a\.csv: the first line is no header: .*longer than"):
        read(tmp_path, b"x" * (LONGEST_VALUE + 2) + b"\n1\n")


# --- what spreadsheets, databases and joined files do


def test_a_first_line_may_tell_the_delimiter_as_spreadsheets_want_it(tmp_path: Path) -> None:
    for mark in ("sep=;", '"sep=;"', "SEP=;;"):
        taken, refused, _ = read(tmp_path, f"{mark}\r\nid;price\r\n1;2,50\r\n2;x,y\r\n")
        assert (taken, refused) == ([(3, {"id": "1", "price": "2,50"}), (4, {"id": "2", "price": "x,y"})], [])


def test_empty_fields_behind_a_row_are_left_out_and_told(tmp_path: Path) -> None:
    taken, refused, notes = read(tmp_path, "id,price\n1,2,\n2,3,,,\n3,4,x\n")
    assert taken == [(2, {"id": "1", "price": "2"}), (3, {"id": "2", "price": "3"})]
    assert refused == [(4, "has 3 fields, the header has 2")]
    assert notes == ["2 × more delimiters at the end of a row than the header has: left out, such as line 2"]


def test_column_names_in_the_middle_are_no_row(tmp_path: Path) -> None:
    taken, refused, notes = read(tmp_path, "id,price\n1,2\nid,price\n2,3\nid,price\n")
    assert (taken, refused) == ([(2, {"id": "1", "price": "2"}), (4, {"id": "2", "price": "3"})], [])
    assert notes == [
        "2 × a line of column names again, as where files were joined: passed over, such as line 3"
    ]


def test_a_mark_of_utf_8_before_the_names_a_second_time_is_no_part_of_them(tmp_path: Path) -> None:
    taken, _, told = read(tmp_path, "\ufeff\ufeffid,title\n1,Mug\n\ufeffid,title\n2,Cup\n")
    assert taken == [(2, {"id": "1", "title": "Mug"}), (4, {"id": "2", "title": "Cup"})]
    assert len(told) == 1 and "column names again" in told[0]


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    taken, _, notes = read(tmp_path, "id,name,name,,\n1,a,b,,c\n")
    assert taken == [(2, {"id": "1", "name": "a", "name (2)": "b", "column 4": None, "column 5": "c"})]
    assert notes == ["the header has 'name' more than once: the one in column 3 is called 'name (2)'"]


def test_quotation_marks_behind_backslashes_are_read_as_databases_write_them(tmp_path: Path) -> None:
    text = 'id,title,price\n1,"a \\"big\\" one, red",2\n2,"5\\" pipe",3\n3,"pipe 5\\"",4\n4,plain,5\n'
    taken, refused, notes = read(tmp_path, text)
    assert [(row["title"], row["price"]) for _, row in taken] == [
        ('a "big" one, red', "2"), ('5" pipe', "3"), ('pipe 5"', "4"), ("plain", "5")
    ]  # fmt: skip
    assert refused == []
    assert "3 × quotation marks with a backslash before them" in notes[0]


def test_gzip_is_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    assert read(tmp_path, gzip.compress(b"id,a\n1,2\n"))[0] == [(2, {"id": "1", "a": "2"})]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("# made by a shop\nid,title\n1,Mug\n", ["id", "title"]),
        ("# a; b\n#\nid;title\n1;Mug\n", ["id", "title"]),
        ("#id,title\n1,Mug\n", ["#id", "title"]),  # a header, as it has as many fields as the rows
        ("#\n", ["#"]),
    ],
)
def test_lines_with_a_hash_before_the_names_are_comments_unless_they_are_the_names(
    tmp_path: Path, content: str, names: list[str]
) -> None:
    assert columns_of(tmp_path, content) == names


# --- lines above the column names, and totals below the rows

TABLE = "SKU;Name;Price\n1;Lamp;2,50\n2;Cup;3,50\n"


@pytest.mark.parametrize(
    "title",
    [
        "Product report\n",
        "Product report\nGenerated: 2026-01-01;by X\n\n",
        "\n\nProducts\n",
        "Inventory\n",
        "Product report;;\nGenerated: 2026-01-01;;\n;;\n",
        "Date range;2024-01-01 to 2024-01-31\nShop:;Holm, Lamps\n\n",
        '"Product report,\nall of it"\n',
        "# Items\n# of January\n\n",
        '"All amounts in EUR; unless specified"\n"Definitions:"\n"Sales: see help"\n',
    ],
)
@pytest.mark.parametrize("said", [None, ";"])
def test_title_lines_above_the_column_names_are_passed_over_and_told(
    tmp_path: Path, title: str, said: str | None
) -> None:
    taken, refused, notes = read(tmp_path, title + TABLE, FileStyle(said))
    above = title.count("\n")
    assert taken == [
        (above + 2, {"SKU": "1", "Name": "Lamp", "Price": "2,50"}),
        (above + 3, {"SKU": "2", "Name": "Cup", "Price": "3,50"}),
    ]
    assert refused == []
    assert len(notes) == 1 and "passed over" in notes[0]


def test_title_lines_are_told_with_their_lines(tmp_path: Path) -> None:
    assert read(tmp_path, "Product report\n" + TABLE)[2] == [
        "line 1 is above the column names: passed over, such as 'Product report'"
    ]
    assert read(tmp_path, "\nProduct report\n\n" + TABLE)[2] == [
        "lines 1–3 are above the column names: passed over, such as 'Product report'"
    ]


def test_a_statement_of_two_cells_above_two_names_is_no_header(tmp_path: Path) -> None:
    content = "Date range,2024-01-01 to 2024-01-31\nsku,price\nA,1\nB,2\n"
    assert [row for _, row in read(tmp_path, content)[0]] == [
        {"sku": "A", "price": "1"}, {"sku": "B", "price": "2"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("sku\nA1\nA2\n", ["sku"]),
        ("what\nA1\nA2\nA3\n", ["what"]),
        ("title\nLamp, red\nLight, label\nCup, blue\n", ["title"]),
        ("things\nLamp, red\nCup, blue\nPlate, green\n", ["things"]),
        ("id,price\n1,2,\n2,3,,,\n3,4,x\n", ["id", "price"]),
        ("user,item\nanna,lamp,x\nbert,cup,y\n", ["user", "item"]),
        ("id;title\n1;2,50\n2;3,50\n", ["id", "title"]),
        ("c1,c2,c3\nlamp,red,id\ncup,blue,id\n", ["c1", "c2", "c3"]),
        ("from,to\nname,title\nmaker,brand\n", ["from", "to"]),
        ("id,title,note\n1\n2\n3,a,b\n", ["id", "title", "note"]),
        ("id,,\n1,a,b\n2,c,d\n", ["id", "column 2", "column 3"]),
        ("1,31,2.5\n1,29,3.0\n", ["1", "31", "2.5"]),
    ],
)
def test_a_first_line_stays_the_header_where_nothing_below_is_more_like_names(
    tmp_path: Path, content: str, names: list[str]
) -> None:
    assert columns_of(tmp_path, content) == names


@pytest.mark.parametrize("last", ["Total;;6,00", "Total:;;", "Summe;6,00", ";Grand total;6,00", "Gesamt"])
def test_a_line_of_totals_at_the_end_is_no_row_and_is_told(tmp_path: Path, last: str) -> None:
    taken, refused, notes = read(tmp_path, TABLE + last + "\n\n")
    assert [row["SKU"] for _, row in taken] == ["1", "2"]
    assert refused == []
    assert len(notes) == 1 and "a line of totals at the end: passed over, such as line 4" in notes[0]


def test_rows_of_empty_cells_are_passed_over_and_told(tmp_path: Path) -> None:
    taken, refused, notes = read(tmp_path, TABLE + ";;\n3;Jug;4\n ; ;\n;;\n")
    assert [row["SKU"] for _, row in taken] == ["1", "2", "3"]
    assert refused == []
    assert notes == ["3 × rows of empty cells: passed over, such as line 4"]


def test_what_begins_as_a_total_and_has_all_that_rows_have_is_a_row(tmp_path: Path) -> None:
    taken, _, notes = read(tmp_path, TABLE + "Total;Motor oil;6,00\n")
    assert [row["SKU"] for _, row in taken] == ["1", "2", "Total"]
    assert notes == []


def test_a_total_with_rows_behind_it_is_a_row_that_is_told(tmp_path: Path) -> None:
    taken, _, notes = read(tmp_path, TABLE + "Total;;6,00\n3;Jug;4,00\n")
    assert [row["SKU"] for _, row in taken] == ["1", "2", "Total", "3"]
    assert "looks like a line of totals, and is taken for a row as rows follow it, such as line 4" in notes[0]
