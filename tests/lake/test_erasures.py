"""F66: who was erased is brought back by no writer: neither by one that read before, nor by a file that is
ingested again, nor by an event that is sent again."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import TableDamaged
from etalage.lake.delta import Lake
from etalage.lake.erasures import FILE, Erasure, Erasures, Known, digest, without_erased
from etalage.lake.ingest import ingest
from etalage.lake.schema import TABLES

LONG_AGO = datetime(2024, 3, 10, tzinfo=UTC)


def acts(*rows: tuple[str, str, datetime | None]) -> pa.Table:
    """(user_id, item_id, time) → rows of the table interactions, one id each."""
    columns = {
        "interaction_id": [f"{user}-{item}-{time}" for user, item, time in rows],
        "user_id": [user for user, _, _ in rows],
        "item_id": [item for _, item, _ in rows],
        "kind": ["buy"] * len(rows),
        "value": [None] * len(rows),
        "time": [time for _, _, time in rows],
        "part": [None] * len(rows),
    }
    return pa.table(columns, schema=TABLES["interactions"].schema)


def users(*ids: str) -> pa.Table:
    return pa.table({"user_id": list(ids), "attributes": ["{}"] * len(ids)}, schema=TABLES["users"].schema)


def stored(lake: Lake, table: str = "interactions") -> list[str]:
    return sorted(lake.table(table).read(columns=["user_id"])["user_id"].to_pylist())


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=5)


def test_f66_a_writer_that_read_before_the_erasure_writes_nothing_of_them_after_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    held = acts(("ann", "hat", LONG_AGO), ("bob", "hat", LONG_AGO), ("ann", "cap", None))
    lake.erasures.remember("ann")
    merged = Lake(tmp_path).table("interactions").merge(held)
    assert (merged.inserted, merged.erased) == (1, 2)
    assert stored(lake) == ["bob"]


def test_f66_what_they_do_from_then_on_is_theirs_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.erasures.remember("ann")
    assert lake.table("users").merge(users("ann", "bob")).erased == 1
    merged = lake.table("interactions").merge(acts(("ann", "hat", soon()), ("ann", "cap", LONG_AGO)))
    assert (merged.inserted, merged.erased) == (1, 1)
    assert lake.table("users").merge(users("ann", "bob")).inserted == 1, "who has come back is a user again"
    assert stored(lake) == ["ann"] and stored(lake, "users") == ["ann", "bob"]
    lake.erasures.remember("ann")
    assert lake.table("users").merge(users("ann")).erased == 1, "until they are erased once more"


def test_f66_a_file_that_is_ingested_again_says_whom_it_left_out(tmp_path: Path) -> None:
    lake, file = Lake(tmp_path / "tables"), tmp_path / "acts.csv"
    file.write_text(
        "user_id,item_id,kind,time\nann,hat,buy,2024-03-10\nbob,hat,buy,2024-03-11\nann,cap,view,2024-03-12\n"
    )
    assert ingest(lake, file, "interactions").inserted == 3
    lake.erasures.remember("ann")
    lake.table("interactions").delete_matching(("user_id",), lambda rows: pa.array(
        [one == "ann" for one in rows["user_id"].to_pylist()]))  # fmt: skip
    done = ingest(lake, file, "interactions")
    assert (done.read, done.unchanged, done.erased, done.repeated) == (3, 1, 2, 0)
    assert any("erased" in str(note) and note.count == 2 for note in done.notes)
    assert stored(lake) == ["bob"]


def test_f66_a_row_that_comes_while_they_are_deleted_is_deleted_or_left_out(tmp_path: Path) -> None:
    """The rows to delete are looked for in the table's turn: another writer comes before it, or after."""
    lake, other = Lake(tmp_path), Lake(tmp_path)
    lake.table("interactions").merge(acts(("ann", "hat", LONG_AGO), ("bob", "hat", LONG_AGO)))
    other.table("interactions").merge(acts(("ann", "cap", LONG_AGO)))
    lake.erasures.remember("ann")
    asked = []

    def theirs(rows: pa.Table) -> pa.Array:
        asked.append(rows.num_rows)
        return pa.array([one == "ann" for one in rows["user_id"].to_pylist()])

    assert lake.table("interactions").delete_matching(("user_id",), theirs) == 2
    assert other.table("interactions").merge(acts(("ann", "bag", LONG_AGO))).erased == 1
    assert stored(lake) == ["bob"] and sum(asked) == 3


def test_f66_two_who_are_erased_at_once_are_both_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins when the first has read the list, and waits until it is written."""
    known, waited = Erasures.known, []
    second = threading.Thread(target=lambda: Erasures(tmp_path).remember("bob"))

    def between(self: Erasures) -> Known:
        found = known(self)
        monkeypatch.setattr(Erasures, "known", known)
        second.start()
        second.join(0.5)
        waited.append(second.is_alive())
        return found

    monkeypatch.setattr(Erasures, "known", between)
    Erasures(tmp_path).remember("ann")
    second.join(120)
    assert waited == [True] and set(Erasures(tmp_path).known()) == {digest("ann"), digest("bob")}


def test_f66_the_list_of_the_erased_does_not_name_them(tmp_path: Path) -> None:
    Erasures(tmp_path).remember("a-name-that-nobody-else-has")
    text = (tmp_path / FILE).read_text()
    assert "nobody" not in text and digest("a-name-that-nobody-else-has") in text


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', '{"a": {"at": "x", "back": false}}', "{"])
def test_f66_a_list_that_cannot_be_read_stops_every_writer_of_shoppers(tmp_path: Path, text: str) -> None:
    lake = Lake(tmp_path)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(TableDamaged, match=r"erased\.json: who was erased cannot be read"):
        lake.table("interactions").merge(acts(("ann", "hat", LONG_AGO)))


IDS = st.sampled_from(["a", "b", "c", "ü", "a b"])


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(IDS, st.none() | st.integers(0, 20)), max_size=12),
    gone=st.dictionaries(IDS, st.tuples(st.integers(0, 20), st.booleans()), max_size=3),
)
def test_f66_a_row_stays_exactly_where_its_shopper_was_not_erased_after_it(
    rows: list[tuple[str, int | None]], gone: dict[str, tuple[int, bool]]
) -> None:
    table = pa.table(
        {"user_id": pa.array([u for u, _ in rows], pa.string()),
         "time": pa.array([t for _, t in rows], pa.timestamp("us", tz="UTC"))}
    )  # fmt: skip
    known: Known = {digest(user): Erasure(at, back) for user, (at, back) in gone.items()}
    found = without_erased(table, TABLES["interactions"], known)
    right = [(u, t) for u, t in rows if u not in gone or (t is not None and t > gone[u][0])]
    times = found.rows["time"].cast(pa.int64()).to_pylist()
    assert list(zip(found.rows["user_id"].to_pylist(), times, strict=True)) == right
    assert found.left == len(rows) - len(right)
    assert found.back == {digest(u) for u, _ in right if u in gone and not gone[u][1]}
    there = without_erased(table.select(["user_id"]), TABLES["users"], known)
    assert there.rows["user_id"].to_pylist() == [u for u, _ in rows if u not in gone or gone[u][1]]
