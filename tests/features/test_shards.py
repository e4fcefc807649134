"""The row groups of a Delta version, or of Parquet files."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, WriterProperties, write_deltalake

from etalage.errors import InputUnreadable, TableDamaged
from etalage.features.shards import Shards


def written(folder: Path, files: int = 3, rows: int = 25, **options: object) -> str:
    """A Delta table of the numbers 0 …, `rows` a file in row groups of 10."""
    for n in range(files):
        numbers = np.arange(n * rows, (n + 1) * rows)
        table = pa.table({"number": numbers, "half": [("a" if k % 2 else "b ö") for k in numbers]})
        small = WriterProperties(max_row_group_size=10)
        write_deltalake(str(folder), table, mode="append", writer_properties=small, **options)
    return str(folder)


def all_of(shards: Shards, *columns: str) -> pa.Table:
    batches = [batch for n in range(len(shards)) for batch in shards.batches(n, columns, rows=4)]
    return pa.Table.from_batches(batches)


def test_every_row_group_of_the_version_is_a_shard(tmp_path: Path) -> None:
    uri = written(tmp_path / "t")
    shards = Shards(uri)
    assert (len(shards), shards.count, shards.version) == (9, 75, 2)
    assert shards.rows.tolist() == [10, 10, 5] * 3
    assert [shard.first for shard in shards.shards] == np.cumsum([0, *shards.rows[:-1]]).tolist()
    assert sorted(all_of(shards, "number")["number"].to_pylist()) == list(range(75))
    assert Shards(uri, 0).count == 25


def test_files_that_a_later_version_left_behind_are_not_read(tmp_path: Path) -> None:
    uri = written(tmp_path / "t")
    DeltaTable(uri).delete("number < 60")
    assert sorted(all_of(Shards(uri), "number")["number"].to_pylist()) == list(range(60, 75))
    assert Shards(uri, 2).count == 75


def test_a_column_that_the_table_is_partitioned_by_and_one_that_came_later_are_there(tmp_path: Path) -> None:
    uri = written(tmp_path / "t", partition_by=["half"])
    later = pa.table({"number": [75], "half": ["c"], "more": [1.5]})
    write_deltalake(uri, later, mode="append", schema_mode="merge")
    found = all_of(Shards(uri), "half", "more", "number").to_pylist()
    assert len(found) == 76
    assert all(row["half"] == ("a" if row["number"] % 2 else "b ö") for row in found if row["number"] < 75)
    assert [row["more"] for row in found if row["more"] is not None] == [1.5]


def test_plain_parquet_is_read_too_a_file_or_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for n in range(2):
        pq.write_table(
            pa.table({"number": range(n * 5, n * 5 + 5)}), folder / f"{n}.parquet", row_group_size=3
        )
    assert sorted(all_of(Shards(str(folder)), "number")["number"].to_pylist()) == list(range(10))
    assert Shards(str(folder / "1.parquet")).rows.tolist() == [3, 2]


def test_a_damaged_row_group_names_its_file(tmp_path: Path) -> None:
    shards = Shards(written(tmp_path / "t"))
    broken = shards.shards[4]
    file = Path(broken.path)
    content = bytearray(file.read_bytes())
    start = pq.read_metadata(file).row_group(broken.group).column(0).data_page_offset
    content[start : start + 40] = b"\xff" * 40
    file.write_bytes(content)
    with pytest.raises(TableDamaged, match=f"{file.name}, row group {broken.group}: cannot be read"):
        list(shards.batches(4, ["number"]))


def test_a_file_that_was_cut_is_named_when_the_table_is_opened(tmp_path: Path) -> None:
    uri = written(tmp_path / "t", files=1)
    file = next((tmp_path / "t").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TableDamaged, match=file.name):
        Shards(uri)


def test_where_no_table_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="does not exist"):
        Shards(str(tmp_path / "nothing"))
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputUnreadable, match="neither a Delta table nor Parquet"):
        Shards(str(tmp_path / "text.csv"))


def test_another_process_opens_the_same_version(tmp_path: Path) -> None:
    uri = written(tmp_path / "t")
    kept = pickle.dumps(Shards(uri))
    written(tmp_path / "t", files=1)
    assert pickle.loads(kept).count == 75  # noqa: S301


def test_plain_files_that_changed_meanwhile_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "one.parquet"
    pq.write_table(pa.table({"number": [1, 2]}), file)
    kept = pickle.dumps(Shards(str(file)))
    pq.write_table(pa.table({"number": [1, 2, 3]}), file)
    with pytest.raises(InputUnreadable, match="was written to"):
        pickle.loads(kept)  # noqa: S301
