"""Rows `label, vector, vector` out of files larger than memory."""

import copy
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ConfigError, InputUnreadable, TooLittleData
from etalage.features.stream import VectorBatch, VectorStream

FIRST, SECOND = 3, 3


def numbers(count: int, first: int = FIRST, second: int = SECOND) -> np.ndarray:
    """(R, 1 + D1 + D2): the first number of a row's vectors tells which it is."""
    rng = np.random.default_rng(count)
    rows = rng.normal(size=(count, 1 + first + second)).round(4).astype(np.float32)
    rows[:, 0] = np.arange(count) % 3 == 0
    rows[:, 1] = np.arange(count)
    return rows


def text(rows: np.ndarray, by: str = ",") -> str:
    return "".join(by.join(f"{number:.6g}" for number in row) + "\n" for row in rows)


def written(folder: Path, rows: np.ndarray, form: str, group: int = 7) -> Path:
    if form == "parquet":
        columns = (rows[:, 0], list(rows[:, 1 : 1 + FIRST]), list(rows[:, 1 + FIRST :]))
        kinds = (pa.int8(), pa.list_(pa.float64()), pa.list_(pa.float32(), rows.shape[1] - 1 - FIRST))
        arrays = [pa.array(column).cast(kind) for column, kind in zip(columns, kinds, strict=True)]
        pq.write_table(
            pa.table(arrays, ["label", "user", "item"]), folder / "x.parquet", row_group_size=group
        )
        return folder / "x.parquet"
    file = folder / f"x.{form}"
    file.write_text(text(rows, {"csv": ",", "txt": "  ", "tsv": "\t", "ssv": ";"}[form]))
    return file


def joined(batch: VectorBatch) -> np.ndarray:
    return np.concatenate([batch.labels[:, None], batch.first, batch.second], axis=1)


def epoch(stream: VectorStream, number: int = 0) -> np.ndarray:
    return np.concatenate([joined(stream.batch(number, step)) for step in range(stream.steps)])


FORMS = ("csv", "txt", "tsv", "ssv", "parquet")


@pytest.mark.parametrize("form", FORMS)
def test_an_epoch_is_every_row_once_and_the_last_batch_is_kept(tmp_path: Path, form: str) -> None:
    rows = numbers(45)
    stream = VectorStream(written(tmp_path, rows, form), batch=8, pool=2)
    assert (stream.count, stream.steps, stream.sizes) == (45, 6, (3, 3))
    assert [len(stream.batch(0, step)) for step in range(6)] == [8, 8, 8, 8, 8, 5]
    found = epoch(stream)
    assert found.dtype == np.float32
    assert found[:, 1].tolist() != rows[:, 1].tolist()
    np.testing.assert_array_equal(found[np.argsort(found[:, 1])], rows)
    plain = VectorStream(written(tmp_path, rows, form), batch=8, shuffle=False)
    np.testing.assert_array_equal(epoch(plain, 3), rows)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_batch_is_a_pure_function_of_seed_epoch_and_step(tmp_path: Path, form: str) -> None:
    file = written(tmp_path, numbers(60), form)
    one = VectorStream(file, 16, seed=4)
    expected = joined(one.batch(2, 3))
    for _ in range(2):
        one.batch(1, 0)
        np.testing.assert_array_equal(joined(one.batch(2, 3)), expected)
        np.testing.assert_array_equal(joined(VectorStream(file, 16, seed=4).batch(2, 3)), expected)
    for other in (one.batch(1, 3), VectorStream(file, 16, seed=5).batch(2, 3)):
        assert joined(other)[:, 1].tolist() != expected[:, 1].tolist()


@pytest.mark.parametrize("form", ["csv", "parquet"])
@settings(deadline=None, max_examples=15)
@given(count=st.integers(1, 40), batch=st.integers(1, 9), world=st.integers(1, 5))
def test_readers_share_every_batch(
    tmp_path_factory: pytest.TempPathFactory, form: str, count: int, batch: int, world: int
) -> None:
    file = written(tmp_path_factory.mktemp("s"), numbers(count), form)
    stream = VectorStream(file, batch, seed=1)
    for step in range(stream.steps):
        whole = stream.batch(2, step)
        shares = [stream.batch(2, step, rank, world) for rank in range(world)]
        assert sorted(row for share in shares for row in share.rows) == sorted(whole.rows)
        together, expected = np.concatenate([joined(share) for share in shares]), joined(whole)
        np.testing.assert_array_equal(
            together[np.argsort(together[:, 1])], expected[np.argsort(expected[:, 1])]
        )


def test_parquet_is_shuffled_within_pools_of_its_row_groups(tmp_path: Path) -> None:
    stream = VectorStream(written(tmp_path, numbers(120), "parquet", group=10), 20, pool=2)
    orders = [epoch(stream, number)[:, 1].astype(int) for number in range(3)]
    for order in orders:
        for step in range(6):
            assert len({row // 10 for row in order[step * 20 : step * 20 + 20]}) == 2
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_vectors_of_two_sizes_are_said(tmp_path: Path) -> None:
    rows = numbers(9, 3, 5)
    file = written(tmp_path, rows, "csv")
    stream = VectorStream(file, 4, sizes=(3, 5), shuffle=False)
    assert stream.batch(0, 0).first.shape == (4, 3) and stream.batch(0, 0).second.shape == (4, 5)
    np.testing.assert_array_equal(epoch(stream), rows)
    of_lists = VectorStream(written(tmp_path, rows, "parquet"), 4, shuffle=False)
    assert of_lists.sizes == (3, 5)
    np.testing.assert_array_equal(epoch(of_lists), rows)


BAD_LINES = [
    ("1,2,3", "has 3 fields; expected a label and 3 + 3 numbers"),
    ("1,2,3,4,5,6,x", "field 7: 'x' is not a number"),
    ("1,2,3,,5,6,7", "field 4: '' is not a number"),
    ("1,2,3,4,nan,6,7", "field 5: 'nan' is not a finite number"),
    ("1,2,3,4,5,6,1e99", "field 7: '1e99' is not a finite number"),
    ("2,2,3,4,5,6,7", "the label '2' is not from 0 to 1"),
    ("1,2,3,4,5,6,\xff", "field 7"),
    ("1,2,3,4,5,6,1_0", "field 7: '1_0' is not a number"),
]


@pytest.mark.parametrize("place", [2, 400, 777])
@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_malformed_line_is_refused_with_its_number_and_the_reason(
    tmp_path: Path, place: int, line: str, reason: str
) -> None:
    rows = numbers(776)
    lines = text(rows).encode().splitlines(keepends=True)
    lines.insert(place - 1, line.encode("latin-1") + b"\r\n")
    file = tmp_path / "x.csv"
    file.write_bytes(b"".join(lines))
    stream = VectorStream(file, 100, shuffle=False)
    assert stream.count == 776 and stream.refused_count == 1
    assert (stream.refused[0].line, reason in stream.refused[0].reason) == (place, True), stream.refused
    np.testing.assert_array_equal(epoch(stream), rows)


def test_blank_lines_a_header_a_byte_order_mark_and_no_last_newline_do_no_harm(tmp_path: Path) -> None:
    rows = numbers(6)
    file = tmp_path / "x.csv"
    body = text(rows).replace(",", ", ").replace("\n", "\r\n\r\n").rstrip()
    for head in ("", "label,a,b,c,d,e,f\n"):
        file.write_bytes(("\ufeff" + head + body).encode())
        stream = VectorStream(file, 4, shuffle=False)
        assert stream.refused_count == 0
        np.testing.assert_array_equal(epoch(stream), rows)


def test_a_malformed_row_of_parquet_is_refused_with_its_number(tmp_path: Path) -> None:
    labels = [1.0, 0.0, None, 1.0, 7.0, 0.5]
    users = [[1.0, 2.0], [3.0], [1.0, 1.0], None, [1.0, 1.0], [4.0, 5.0]]
    items = [[1.0], [1.0], [1.0], [1.0], [1.0], [6.0]]
    pq.write_table(pa.table({"y": labels, "u": users, "i": items}), tmp_path / "x.pq", row_group_size=4)
    stream = VectorStream(tmp_path / "x.pq", 4, shuffle=False)
    assert joined(stream.batch(0, 0)).tolist() == [[1, 1, 2, 1], [0.5, 4, 5, 6]]
    assert [(refusal.line, refusal.reason) for refusal in stream.refused] == [
        (3, "the label is not a number from 0 to 1"),
        (2, "the first vector is not 2 finite numbers"),
        (4, "the first vector is not 2 finite numbers"),
        (5, "the label is not a number from 0 to 1"),
    ]


def test_places_are_kept_beside_the_file_until_it_changes(tmp_path: Path) -> None:
    file, sidecar = written(tmp_path, numbers(30), "csv"), tmp_path / "places.npy"
    VectorStream(file, 4, sidecar=sidecar)
    before = sidecar.stat().st_mtime_ns
    np.testing.assert_array_equal(
        epoch(VectorStream(file, 4, sidecar=sidecar, seed=2)), epoch(VectorStream(file, 4, seed=2))
    )
    assert sidecar.stat().st_mtime_ns == before
    written(tmp_path, numbers(31), "csv")
    assert VectorStream(file, 4, sidecar=sidecar).count == 31
    whole = sidecar.read_bytes()
    for torn in (b"", b"rubbish", whole[: len(whole) // 2]):
        sidecar.write_bytes(torn)
        assert VectorStream(file, 4, sidecar=sidecar).count == 31
    assert sidecar.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = written(tmp_path, numbers(30), "csv")
    stream = VectorStream(file, 4)
    stream.batch(0, 0)
    with file.open("a") as sink:
        sink.write("1,2,3,4,5,6,7\n")
    with pytest.raises(InputUnreadable, match="written to"):
        stream.batch(0, 1)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("x.csv", "", InputUnreadable, "0 fields|1 fields"),
        ("x.csv", "1,2,3,4\n", InputUnreadable, "4 fields"),
        ("x.csv", "1,2,x\n0,y,3\n", TooLittleData, "line 1: field 3: 'x'"),
        ("x.csv.gz", "1,2,3\n", InputUnreadable, "gunzip"),
        ("x.parquet", "1,2,3\n", InputUnreadable, "not a Parquet file"),
        ("gone.csv", None, InputUnreadable, "No such file"),
        ("gone.parquet", None, InputUnreadable, "not a Parquet file|No such file"),
    ],
)
def test_what_is_no_such_file_is_told(
    tmp_path: Path, name: str, content: str | None, error: Any, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=words):
        VectorStream(tmp_path / name, 4)


def test_parquet_of_other_columns_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [1.0], "u": ["x"], "i": [[1.0]]}), tmp_path / "x.parquet")
    with pytest.raises(InputUnreadable, match=r"u \(string\)"):
        VectorStream(tmp_path / "x.parquet", 4)


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, numbers(4), "csv")
    with pytest.raises(ConfigError):
        VectorStream(file, 0)
    with pytest.raises(IndexError):
        VectorStream(file, 2).batch(0, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set through Linux's RLIMIT_AS")
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_larger_than_the_memory_it_may_take_is_read_whole(tmp_path: Path, form: str) -> None:
    """The reader may take 48 MiB more than its imports; the file has about 90."""
    block = numbers(1024, 128, 128)
    count, file = {"csv": 50, "parquet": 90}[form], tmp_path / f"big.{form}"
    if form == "csv":
        said = text(block[:, :]).encode()
        with file.open("wb") as sink:
            for _ in range(count):
                sink.write(said)
    else:
        kind = pa.list_(pa.float32())
        columns = [block[:, 0], *(pa.array(list(part), kind) for part in (block[:, 1:129], block[:, 129:]))]
        table = pa.table(columns, ["label", "first", "second"])
        with pq.ParquetWriter(file, table.schema, compression="none", use_dictionary=False) as writer:
            for _ in range(count):
                writer.write_table(table)
    assert file.stat().st_size > 85 * 2**20
    program = f"""
        import resource
        from pathlib import Path
        import numpy as np
        import pyarrow as pa
        from etalage.features.stream import VectorStream
        warm = VectorStream(Path("{written(tmp_path, numbers(50), form)}"), 8)
        [warm.batch(0, step) for step in range(warm.steps)]
        with open("/proc/self/statm") as facts:
            have = int(facts.read().split()[0]) * resource.getpagesize()
        limit = have + 48 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            np.ones(60 * 2**20, np.uint8)
            raise SystemExit("the limit does not hold")
        except MemoryError:
            pass
        stream = VectorStream(Path("{file}"), 512, pool=4)
        total = sum(len(stream.batch(0, step)) for step in range(0, stream.steps, 3))
        assert stream.count == {1024 * count} and total == 512 * -(-stream.steps // 3), total
        print("read")
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "read\n", done.stderr[-2000:]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_another_process_reads_the_same_batches(tmp_path: Path, form: str) -> None:
    """A copy is made as pickle makes it elsewhere: the file is opened anew."""
    stream = VectorStream(written(tmp_path, numbers(30), form), 8, seed=3, pool=2)
    np.testing.assert_array_equal(joined(copy.copy(stream).batch(1, 2)), joined(stream.batch(1, 2)))
    written(tmp_path, numbers(29), form)
    with pytest.raises(InputUnreadable, match="has 29 rows, and had 30"):
        copy.copy(stream)
