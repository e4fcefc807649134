"""CSV, JSONL, Parquet, IDX: what is a row, where it starts, and what is refused."""

import csv
import gzip
import io
import json
import struct
import zlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from etalage.errors import InputUnreadable
from etalage.lake.availability import can_be_bought
from etalage.lake.casting import attributes, identity, instant, links, number, price, text
from etalage.lake.image_sources import idx_rows
from etalage.lake.photo_facts import (
    MAX_PIXELS,
    difference_hash,
    difference_hashes,
    photo_facts,
    pixels_as_png,
)
from etalage.lake.raw import RawChunk
from etalage.lake.readers import open_table
from etalage.lake.shown import legible, shortened

ANY_FIXTURE = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(
    file: Path, format: str, rows: int = 1000
) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str]]]:
    """([(line, row)], [(line, reason)]) of the whole file."""
    chunks: list[RawChunk] = list(open_table(file, format, rows).chunks())
    taken = [(line, chunk.row(n)) for chunk in chunks for n, line in enumerate(chunk.lines)]
    return taken, [(r.line or 0, r.reason) for chunk in chunks for r in chunk.refused]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


# --- CSV


def test_csv_rows_carry_the_physical_line_where_they_start(tmp_path: Path) -> None:
    file = written(
        tmp_path, "a.csv", 'id,text\r\n1,"two\r\nlines, here"\r\n\r\n2,plain\r\n"3","say ""x"""\r\n'
    )
    taken, refused = read(file, "csv")
    assert taken == [
        (2, {"id": "1", "text": "two\r\nlines, here"}),
        (5, {"id": "2", "text": "plain"}),
        (6, {"id": "3", "text": 'say "x"'}),
    ]
    assert refused == []


def test_csv_rows_with_other_numbers_of_fields_are_refused_with_their_line(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "id,text\n1,a\n2\n3,b,c\n4,d\n")
    taken, refused = read(file, "csv")
    assert [line for line, _ in taken] == [2, 5]
    assert refused == [(3, "has 1 fields, the header has 2"), (4, "has 3 fields, the header has 2")]


def test_an_unclosed_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    body = "".join(f'{n},"row {n}"\n' for n in range(3, 3000))
    file = written(tmp_path, "a.csv", f'id,text\n1,"open\n2,fine\n{body}')
    taken, refused = read(file, "csv")
    assert [line for line, _ in refused] == [2]
    assert refused[0][1].startswith("not CSV")
    assert [row["id"] for _, row in taken] == [str(n) for n in range(2, 3000)]
    assert [line for line, _ in taken] == list(range(3, 3001))


def test_an_unclosed_quote_at_the_end_is_refused_and_the_lines_after_it_are_read(tmp_path: Path) -> None:
    taken, refused = read(written(tmp_path, "a.csv", 'id,t\n1,a\n2,"b\n3,c\n'), "csv")
    assert [row["id"] for _, row in taken] == ["1", "3"]
    assert [line for line, _ in refused] == [3]


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", b"id,text\n1,ok\n2,caf\xe9\n3,caf\xc3\xa9\n")
    taken, refused = read(file, "csv")
    assert [(line, row["text"]) for line, row in taken] == [(2, "ok"), (4, "caf\u00e9")]
    assert [line for line, _ in refused] == [3]
    assert refused[0][1].startswith("not UTF-8; say which encoding it is")


def test_csv_is_read_with_its_byte_order_mark_its_delimiter_and_gzipped(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfid;text\n1;a,b\n2;\n"
    plain, packed = written(tmp_path, "a.csv", content), written(tmp_path, "b.csv.gz", gzip.compress(content))
    expected = [(2, {"id": "1", "text": "a,b"}), (3, {"id": "2", "text": None})]
    assert read(plain, "csv") == (expected, [])
    assert read(packed, "csv") == (expected, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04\x14\x00\x06\x00,\n", "is an Excel workbook.*save it as CSV"),
        (b"<!DOCTYPE html>\n<html></html>\n", "is a web page, no table"),
        (b"id,t\xe9xt\n1,a\n", "header is not UTF-8; say which encoding"),
        ("id,text\n1,a\n".encode("utf-16-le"), "UTF-16 without its mark; .*--encoding utf-16-le"),
        ("id,text\n1,a\n".encode("utf-16-be"), "UTF-16 without its mark; .*--encoding utf-16-be"),
    ],
)
def test_a_file_without_a_usable_header_is_unreadable(tmp_path: Path, content: bytes, said: str) -> None:
    file = written(tmp_path, "bad.csv", content)
    with pytest.raises(InputUnreadable, match=f"bad.csv.*{said}"):
        read(file, "csv")


def test_broken_gzip_is_unreadable(tmp_path: Path) -> None:
    packed = gzip.compress(b"id,text\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(20_000)))
    with pytest.raises(InputUnreadable, match="gzip data is broken"):
        read(written(tmp_path, "cut.csv.gz", packed[: len(packed) // 2]), "csv")
    with pytest.raises(InputUnreadable, match="gzip data is broken"):
        read(written(tmp_path, "not.csv.gz", b"id,text\n1,2\n"), "csv")


@ANY_FIXTURE
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=12
    ),
    chunk=st.integers(1, 5),
)
def test_any_rows_that_a_csv_writer_wrote_come_back(
    tmp_path: Path, rows: list[list[str]], chunk: int
) -> None:
    buffer = io.StringIO(newline="")
    # A number in front: a text whose lines are rows of this very file is the one thing that is refused.
    rows = [[str(n), *row] for n, row in enumerate(rows)]
    csv.writer(buffer).writerows([["n", "id", "text"], *rows])
    taken, refused = read(written(tmp_path, "a.csv", buffer.getvalue()), "csv", chunk)
    assert [reason for _, reason in refused if "rows by themselves" not in reason] == []
    if not refused:
        assert [[row["n"], row["id"] or "", row["text"] or ""] for _, row in taken] == rows


@ANY_FIXTURE
@given(body=st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r\n", b"\xff", b"\x00", b"1,b\n"])))
def test_no_bytes_stop_csv_and_no_line_is_lost(tmp_path: Path, body: list[bytes]) -> None:
    content = b"".join(body)
    taken, refused = read(written(tmp_path, "a.csv", b"id,text\n" + content + b"\nlast,row\n"), "csv", 3)
    lines = [line for line, _ in taken] + [line for line, _ in refused]
    assert len(set(lines)) == len(lines)
    # Whatever came before, a last line of its own is read, unless a quote that was closed holds it.
    assert (taken and taken[-1][1] == {"id": "last", "text": "row"}) or b'"' in content


# --- JSONL


def test_broken_jsonl_lines_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        b'{"id": 1}',
        b"{",
        b"[1]",
        b"",
        b'{"id": "\xff"}',
        b'{"id": 2, "x": null}',
        b"[" * 100_000,
        b"nul",
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"id": 3}',
    ]
    taken, refused = read(written(tmp_path, "a.jsonl", b"\n".join(lines)), "jsonl")
    assert [(line, row["id"]) for line, row in taken] == [(1, 1), (6, 2), (10, 3)]
    assert [line for line, _ in refused] == [2, 3, 5, 7, 8, 9]
    assert refused[1][1] == "not a JSON object but list"
    assert "byte 8" in refused[2][1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@ANY_FIXTURE
@given(
    values=st.lists(json_values | st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=12)
)
def test_every_jsonl_line_is_a_row_or_refused(tmp_path: Path, values: list[Any]) -> None:
    lines = [b"{}", *(v if isinstance(v, bytes) else json.dumps(v).encode() for v in values)]
    taken, refused = read(written(tmp_path, "a.jsonl", b"\n".join(lines)), "jsonl", 4)
    assert len(taken) + len(refused) == sum(1 for line in lines if line.strip())
    objects = [n for n, v in enumerate(values, 2) if isinstance(v, dict)]
    assert set(objects) <= {line for line, _ in taken}


# --- Parquet


def test_parquet_rows_are_numbered_from_one(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    columns = {"id": pa.array([7, None, 9]), "when": pa.array([1, 2, 3], pa.timestamp("ns"))}
    pq.write_table(pa.table(columns | {"kind": pa.array(["x", "y", "x"]).dictionary_encode()}), file)
    taken, refused = read(file, "parquet", 2)
    assert [line for line, _ in taken] == [1, 2, 3]
    assert [(row["id"], row["kind"]) for _, row in taken] == [(7, "x"), (None, "y"), (9, "x")]
    assert refused == []


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())])
def test_binary_texts_of_parquet_are_read_as_the_utf_8_that_they_are_and_told(
    tmp_path: Path, kind: pa.DataType
) -> None:
    file = tmp_path / "a.parquet"
    ids = pa.array([b"a1", "é".encode(), None]).cast(kind)
    nested = pa.array([[{"sku": b"x"}], [], None])
    pq.write_table(pa.table({"item_id": ids, "lines": nested, "title": ["A", "B", "C"]}), file)
    (chunk,) = open_table(file, "parquet", 10).chunks()
    assert chunk.columns["item_id"] == ["a1", "é", None]
    assert chunk.columns["lines"] == [[{"sku": "x"}], [], None]
    assert [str(note) for note in chunk.notes] == [
        "item_id: is binary in the file, and read as the UTF-8 that it is",
        "lines: is binary in the file, and read as the UTF-8 that it is",
    ]


def test_binary_values_of_parquet_that_are_no_text_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    columns = {"item_id": [b"a1", b"\xff\xd8"], "hash": [b"a\0", b"b"], "photo": [b"abc", b"def"]}
    pq.write_table(pa.table(columns), file)
    (chunk,) = open_table(file, "parquet", 10).chunks()
    assert chunk.columns == columns
    assert chunk.notes == []


def test_a_torn_parquet_file_is_unreadable(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": list(range(1000))}), file)
    content = file.read_bytes()
    for cut in (content[: len(content) // 2], b"", b"PAR1 but not really"):
        with pytest.raises(InputUnreadable, match=r"a\.parquet"):
            read(written(tmp_path, "a.parquet", cut), "parquet")


# --- IDX


def idx(dimensions: tuple[int, ...], body: bytes, magic: int | None = None) -> bytes:
    magic = 0x0800 + len(dimensions) if magic is None else magic
    return struct.pack(f">I{len(dimensions)}I", magic, *dimensions) + body


def pair(folder: Path, images: bytes, labels: bytes, suffix: str = "") -> Path:
    pack = gzip.compress if suffix else bytes
    written(folder, f"toy-labels-idx1-ubyte{suffix}", pack(labels))
    return written(folder, f"toy-images-idx3-ubyte{suffix}", pack(images))


PIXELS = bytes(range(24))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (idx((4, 2, 3), PIXELS[:-1]), idx((4,), b"\0\1\0\1"), "4 x 2 x 3 = 24 bytes, the file holds 23"),
        (idx((4, 2, 3), PIXELS + b"x"), idx((4,), b"\0\1\0\1"), "= 24 bytes, the file holds 25"),
        (idx((4, 2, 3), PIXELS), idx((4,), b"\0\1\0"), "4 = 4 bytes, the file holds 3"),
        (idx((4, 2, 3), PIXELS), idx((3,), b"\0\1\0"), "holds 4 images, .* holds 3 labels"),
        (idx((4, 2, 3), PIXELS, 0x0D03), idx((4,), b"\0\1\0\1"), "begins with 0x00000d03"),
        (idx((4, 2, 3), PIXELS)[:9], idx((4,), b"\0\1\0\1"), "header ends after 9 bytes of 16"),
        (idx((2**31, 2**31, 2**31), PIXELS), idx((4,), b"\0\1\0\1"), "the file holds 24"),
        (b"", idx((4,), b"\0\1\0\1"), "begins with 0x,"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_sizes_that_do_not_agree_are_refused_with_the_numbers(
    tmp_path: Path, images: bytes, labels: bytes, said: str, suffix: str
) -> None:
    with pytest.raises(InputUnreadable, match=said):
        list(idx_rows(pair(tmp_path, images, labels, suffix), None, None, 10))


def test_broken_gzip_of_an_idx_file_is_unreadable(tmp_path: Path) -> None:
    file = pair(tmp_path, idx((4, 2, 3), PIXELS), idx((4,), b"\0\1\0\1"), ".gz")
    content = bytearray(file.read_bytes())
    content[-6] ^= 0x40  # in the checksum
    file.write_bytes(content)
    with pytest.raises(InputUnreadable, match="gzip data is broken"):
        list(idx_rows(file, None, None, 10))


def test_an_idx_file_without_its_labels_names_what_it_looked_for(tmp_path: Path) -> None:
    file = written(tmp_path, "toy-images-idx3-ubyte", idx((4, 2, 3), PIXELS))
    with pytest.raises(InputUnreadable, match=r"no labels file .*toy-labels-idx1-ubyte"):
        list(idx_rows(file, None, None, 10))


@ANY_FIXTURE
@given(header=st.binary(max_size=20), body=st.binary(max_size=40))
def test_no_bytes_crash_the_idx_reader(tmp_path: Path, header: bytes, body: bytes) -> None:
    file = pair(tmp_path, header + body, idx((4,), b"\0\1\0\1"))
    with pytest.raises(InputUnreadable):
        list(idx_rows(file, None, None, 10))


@ANY_FIXTURE
@given(
    count=st.integers(0, 7),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    chunk=st.integers(1, 4),
    names=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_every_idx_image_is_stored_or_refused(
    tmp_path: Path, count: int, height: int, width: int, chunk: int, names: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, height, width)).astype(np.uint8)
    labels = generator.integers(0, 3, count).astype(np.uint8)
    file = pair(tmp_path, idx((count, height, width), pixels.tobytes()), idx((count,), labels.tobytes()))
    class_names = [f"class {n}" for n in range(names)]
    loaded = list(idx_rows(file, class_names, None, chunk))
    assert sum(part.read for part in loaded) == count
    stored = [row for part in loaded if part.tables for row in part.tables["photos"].to_pylist()]
    refused = [r.line for part in loaded for r in part.refused]
    assert refused == [n + 1 for n in range(count) if labels[n] >= names]
    good = [n for n in range(count) if labels[n] < names]
    for n, row in zip(good, stored, strict=True):
        assert row["item_id"] == f"toy-{n:06d}"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["bytes"]))), pixels[n])


# --- photo facts


def test_png_by_hand_is_what_pillow_reads(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for shape in ((28, 28), (1, 1), (5, 3), (7, 11, 3)):
        pixels = generator.integers(0, 256, shape).astype(np.uint8)
        image = Image.open(io.BytesIO(pixels_as_png(pixels)))
        image.load()
        assert np.array_equal(np.asarray(image), pixels)


def test_the_difference_hash_is_the_same_alone_and_among_others() -> None:
    generator = np.random.default_rng(2)
    for shape in ((6, 28, 28), (5, 3, 2), (4, 200, 31), (3, 20, 30, 3)):
        pixels = generator.integers(0, 256, shape).astype(np.uint8)
        assert difference_hashes(pixels) == [difference_hash(Image.fromarray(p).convert("L")) for p in pixels]


def test_the_difference_hash_survives_resizing_and_tells_photos_apart() -> None:
    """The definition by hand: brighter to the right is a one, row by row, highest bit first."""
    ramp = np.tile(np.arange(0, 252, 28, dtype=np.uint8), (8, 1))
    ramp[0] = ramp[0, ::-1]
    assert difference_hash(Image.fromarray(ramp)) == 0x00FFFFFFFFFFFFFF
    assert difference_hash(Image.fromarray(np.flipud(ramp).copy())) == -256
    large = Image.fromarray(ramp).resize((900, 800), Image.Resampling.NEAREST)
    assert difference_hash(large) == 0x00FFFFFFFFFFFFFF


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_photos_of_every_kind_have_facts_and_what_is_no_photo_has_a_reason() -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60, 3)).astype(np.uint8))
    for data in (
        encoded(image, "PNG"),
        encoded(image, "JPEG"),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image.convert("P"), "GIF"),
        encoded(image, "WEBP"),
        encoded(image.convert("I;16"), "PNG"),
    ):
        facts = photo_facts(data)
        assert (facts.width, facts.height, len(facts.sha256)) == (60, 40, 64)
    for data, said in (
        (b"", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (encoded(image, "PNG")[:2000], "broken image"),
        (encoded(image, "JPEG")[:-900], "broken image"),
        (pixels_as_png(np.zeros((2, 3), np.uint8))[:40], "broken image|not an image"),
    ):
        with pytest.raises(ValueError, match=said):
            photo_facts(data)


def test_f45_a_photo_of_too_many_pixels_is_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 65_000, 65_000, 8, 0, 0, 0, 0)

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", header)
        + part(b"IDAT", zlib.compress(b"\0" * 10))
        + part(b"IEND", b"")
    )
    with pytest.raises(ValueError, match=f"too many pixels, at most {MAX_PIXELS}"):
        photo_facts(bomb)


# --- values


def test_ids_are_taken_exactly_or_refused() -> None:
    for exact in ("a", " a ", "e\u0301", "\u00e9", "\u202ex", "0", "a\nb", "x" * 512):
        assert identity(exact) == exact
    assert identity(12) == identity(12.0) == "12"
    for bad, said in (
        (None, "missing"),
        ("", "missing"),
        ("  \t", "missing: blanks"),
        ("\u00a0", "missing: blanks"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogate"),
        ("\u00e9" * 257, "514 bytes"),
        (True, "true/false"),
        (float("nan"), "missing"),
        (1.5, "number"),
        (2.0**53, "number"),
        ([], "list"),
        (10**5000, "digits"),
    ):
        with pytest.raises(ValueError, match=said):
            identity(bad)


def test_numbers_words_and_times() -> None:
    assert [number(v) for v in ("1.5", 2, None, "", "-3e2")] == [1.5, 2.0, None, None, -300.0]
    assert [can_be_bought(v) for v in ("TRUE", "in_stock", 0, "No", None, "", True)] == [
        True,
        True,
        False,
        False,
        None,
        None,
        True,
    ]
    for bad in ("1_000", "nan", "inf", "cheap", True, [1], 10**400):
        with pytest.raises(ValueError):
            number(bad)
    with pytest.raises(ValueError, match="negative"):
        price("-0.01")
    with pytest.raises(ValueError, match="neither yes nor no"):
        can_be_bought("perhaps")


def test_times_of_every_kind_become_utc_and_future_ones_are_refused() -> None:
    now = datetime(2024, 6, 1, 12, tzinfo=UTC)
    convert = instant(now)
    moment = datetime(2024, 5, 4, 10, 30, tzinfo=UTC)
    for value in (
        "2024-05-04T10:30:00Z",
        "2024-05-04 12:30+02:00",
        "2024-05-04T10:30",
        moment.timestamp(),
        str(int(moment.timestamp())),
        int(moment.timestamp() * 1000),
        int(moment.timestamp() * 1e6),
        moment,
    ):
        assert convert(value) == moment, value
    assert convert("20240504") == convert(date(2024, 5, 4)) == datetime(2024, 5, 4, tzinfo=UTC)
    assert convert(now + timedelta(minutes=4)) is not None
    for bad, said in (
        ("2024-06-01T12:06:00Z", "future"),
        ("2024-13-01", "not a time"),
        ("soon", "not a time"),
        (float("nan"), "not a time"),
        (True, "not a time"),
        ("1e300", "not a time"),
    ):
        with pytest.raises(ValueError, match=said):
            convert(bad)


@settings(max_examples=200, deadline=None)
@given(json_values | st.binary() | st.text(st.characters()))
def test_no_value_crashes_a_converter(value: Any) -> None:
    moment = instant(datetime.now(UTC))
    for convert in (identity, text, number, price, can_be_bought, attributes, moment, links):
        try:
            result = convert(value)
        except ValueError as error:
            legible(str(error)).encode()
        else:
            assert result is None or isinstance(result, str | float | bool | dict | list | datetime)
            if isinstance(result, str):
                result.encode()
    shortened({"x": value}).encode()
