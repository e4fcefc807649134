"""Several files of one table are loaded as if one came after the other, whoever reads them."""

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etalage.engine.local import LocalEngine
from etalage.errors import InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.ingest import Ingested, ingest, refused_rows
from etalage.lake.many_files import FileLoop, check_file, files_of
from etalage.lake.merging import Merging, Whole
from etalage.lake.notes import Notes
from etalage.lake.reading import Reading


def day(folder: Path, number: int, rows: int = 40) -> Path:
    """A day of interactions: every seventh row has no item, and one act of each day is that of the last."""
    file = folder / f"day-{number:02d}.csv"
    lines = [
        f"u{n % 5},{'' if n % 7 == 6 else f'i{n}'},view,{1_700_000_000 + number * 1000 + n}"
        for n in range(rows)
    ]
    lines.append("u1,i1,purchase,1700000077")
    file.write_text("user_id,item_id,kind,time\n" + "\n".join(lines) + "\n")
    return file


def days(folder: Path, count: int) -> list[Path]:
    return [day(folder, number) for number in range(count)]


def catalogue(folder: Path, name: str, rows: dict[str, str]) -> Path:
    file = folder / name
    lines = [f"{item},{title}" for item, title in rows.items()]
    file.write_text("item_id,title\n" + "\n".join(lines) + "\n")
    return file


def acts(lake: Lake) -> list[dict[str, Any]]:
    return sorted(lake.table("interactions").read().to_pylist(), key=str)


def refused(lake: Lake) -> list[dict[str, Any]]:
    return sorted(refused_rows(lake).drop_columns(["refused_at"]).to_pylist(), key=str)


def counts(done: Ingested) -> list[int]:
    return [done.read, done.inserted, done.unchanged, done.refused]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_several_files_are_loaded_as_one_after_the_other(lake: Lake, tmp_path: Path, workers: int) -> None:
    files = days(tmp_path, 4)
    one_by_one = Lake(tmp_path / "other")
    alone = [ingest(one_by_one, file, "interactions") for file in files]
    loop = FileLoop(LocalEngine(workers), tmp_path / "spool", saving=0)
    done = ingest(lake, files, "interactions", loop=loop)
    assert acts(lake) == acts(one_by_one)
    assert refused(lake) == refused(one_by_one) and len(refused(lake)) == 4 * 5
    assert (done.read, done.refused) == (sum(one.read for one in alone), sum(one.refused for one in alone))
    assert done.inserted == sum(one.inserted for one in alone) == lake.table("interactions").count()
    assert done.unreadable == [] and list((tmp_path / "spool").glob("*")) == []
    again = ingest(lake, files, "interactions", loop=loop)
    assert (again.inserted, again.updated) == (0, 0)


def test_a_later_file_says_more_of_an_item_than_an_earlier_one(lake: Lake, tmp_path: Path) -> None:
    one = catalogue(tmp_path, "a.csv", {"cap": "Cap", "hat": "Hat"})
    other = catalogue(tmp_path, "b.csv", {"hat": "Felt hat", "bag": ""})
    done = ingest(lake, [one, other], "items")
    titles = {row["item_id"]: row["title"] for row in lake.table("items").read().to_pylist()}
    assert titles == {"cap": "Cap", "hat": "Felt hat", "bag": None}
    assert (done.read, done.inserted, done.updated) == (4, 3, 1)


def test_what_cannot_be_read_is_named_and_keeps_no_other_file_from_it(lake: Lake, tmp_path: Path) -> None:
    files = [day(tmp_path, 0), tmp_path / "day-01.csv", day(tmp_path, 2)]
    files[1].write_text("who,what\n1,2\n")
    for loop in (FileLoop(), FileLoop(LocalEngine(2), tmp_path / "spool", saving=0)):
        done = ingest(lake, files, "interactions", loop=loop)
        (reason,) = done.unreadable
        assert "day-01.csv" in reason and done.read == 82
    with pytest.raises(InputUnreadable, match="none of 2 files can be read"):
        ingest(lake, [files[1], _renamed(files[1])], "interactions")


def _renamed(file: Path) -> Path:
    other = file.with_name("day-09.csv")
    other.write_bytes(file.read_bytes())
    return other


def test_a_whole_catalogue_may_lie_in_several_files(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, catalogue(tmp_path, "old.csv", {"cap": "Cap", "hat": "Hat", "bag": "Bag"}), "items")
    files = [catalogue(tmp_path, "a.csv", {"cap": "Cap"}), catalogue(tmp_path, "b.csv", {"hat": "Hat"})]
    broken = tmp_path / "c.csv"
    broken.write_text("what\n1\n")
    done = ingest(lake, [*files, broken], "items", whole=Whole())
    assert done.removed == 0 and any("no item left the catalogue" in str(note) for note in done.notes)
    assert ingest(lake, files, "items", whole=Whole()).removed == 1
    assert set(lake.table("items").read()["item_id"].to_pylist()) == {"cap", "hat"}


def test_examples_say_which_file_they_are_in(lake: Lake, tmp_path: Path) -> None:
    done = ingest(lake, days(tmp_path, 2), "interactions")
    (first,) = done.first_refused.values()
    assert first.startswith("day-00.csv, line 8: item_id")


def test_a_lost_worker_costs_nothing(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = days(tmp_path, 3)
    (tmp_path / "kill").touch()
    monkeypatch.setattr("etalage.lake.many_files.check_file", _dies_once)
    with caplog.at_level(logging.WARNING):
        done = ingest(
            lake, files, "interactions", loop=FileLoop(LocalEngine(2), tmp_path / "spool", saving=0)
        )
    assert "is run again" in caplog.text
    assert done.read == 3 * 41 and lake.table("interactions").count() == done.inserted


def _dies_once(reading: Any, folder: Path, shard: tuple[int, Path]) -> Any:
    kill = shard[1].parent / "kill"
    if shard[0] == 1 and kill.exists():
        kill.unlink()
        (folder / f"{shard[0]:08d}.parts").write_bytes(b"torn")
        os.kill(os.getpid(), signal.SIGKILL)
    return check_file(reading, folder, shard)


# -- which files ---------------------------------------------------------------------------------


def names(sources: Sequence[Path], format: str | None = None) -> list[str]:
    return [file.name for file in files_of(sources, format)]


def test_a_folder_of_tables_is_its_files_but_for_what_is_marked_as_no_data(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    (folder / "_temporary").mkdir(parents=True)
    for name in ("part-1.parquet", "part-0.parquet"):
        pq.write_table(pa.table({"item_id": [name]}), folder / name)
    for name in ("_SUCCESS", ".part-0.parquet.crc", "_temporary/part-9.parquet"):
        (folder / name).write_bytes(b"")
    assert names([folder]) == ["part-0.parquet", "part-1.parquet"]
    assert names([folder], "folder") == ["export"]
    (folder / "notes.txt").write_text("no table")
    assert names([folder]) == ["export"]


def test_a_pattern_is_the_files_that_it_finds_each_once(tmp_path: Path) -> None:
    files = days(tmp_path, 3)
    assert names([tmp_path / "day-*.csv", files[1]]) == ["day-00.csv", "day-01.csv", "day-02.csv"]
    with pytest.raises(InputUnreadable, match="no such file, nor any"):
        files_of([tmp_path / "week-*.csv"], None)


def test_a_delta_table_is_not_read_as_its_files(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, catalogue(tmp_path, "a.csv", {"cap": "Cap"}), "items")
    with pytest.raises(InputUnreadable, match="is a Delta table"):
        files_of([Path(lake.table("items").uri)], None)


def test_columns_that_only_folders_name_are_told(lake: Lake, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "acts" / f"day={number}").mkdir(parents=True)
        day(tmp_path / "acts" / f"day={number}", number)
    done = ingest(lake, tmp_path / "acts", "interactions")
    assert any(note.what.startswith("day: said by names of folders alone") for note in done.notes)
    assert done.read == 82


# -- merging ---------------------------------------------------------------------------------------


def test_merges_grow_with_the_table(lake: Lake, tmp_path: Path) -> None:
    """A merge looks through all that is stored: as many as there are chunks would cost its square."""
    file = tmp_path / "many.csv"
    file.write_text("item_id,title\n" + "".join(f"i{n},T\n" for n in range(4000)))
    ingest(lake, file, "items", chunk_rows=10)
    assert lake.table("items").count() == 4000
    # 40 rows in steps of 10, then a quarter more each time: 40 · 1.25^21 > 4000.
    assert lake.table("items").version() < 4 + 21 + 5


def test_rows_that_wait_are_merged_at_the_end_of_a_file_that_others_can_change(
    lake: Lake, tmp_path: Path
) -> None:
    work = Merging(lake, "items", "a", several=True)
    file = catalogue(tmp_path, "a.csv", {"cap": "Cap"})
    for part in Reading("items").read(file, Notes()):
        work.add(file, part)
    assert not lake.table("items").exists()
    work.end_file()
    assert lake.table("items").count() == 1
