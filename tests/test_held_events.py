"""Events of the API that nobody knows, by item or by kind: kept apart, counted, told, let through later."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etalage.cli import app
from etalage.lake.delta import Table
from etalage.online import Act, Event
from etalage.online.marks import FILE
from etalage.shop import Shop
from tests.shops import item_row, rows_of

BEGIN = 1_700_000_000_000_000


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop.create(tmp_path / "shop", "Held")
    shop.lake.table("items").merge(rows_of("items", [item_row(n, item_id=f"item-{n}") for n in range(3)]))
    return shop


def send(shop: Shop, *acts: tuple[str, str, str]) -> None:
    """Events (event_id, item_id, kind) that the API took."""
    events = [Event(one, "ann", Act(item, kind, None, BEGIN + n)) for n, (one, item, kind) in enumerate(acts)]
    with shop.live_store() as store:
        store.append(events)


def rows(shop: Shop, table: str) -> list[str]:
    stored = shop.lake.table(table)
    if not stored.exists():
        return []
    return sorted(stored.read(columns=["interaction_id"])["interaction_id"].to_pylist())


def settings(shop: Shop, text: str) -> Shop:
    (shop.folder / "shop.toml").write_text(text, encoding="utf-8")
    return Shop(shop.folder)


def told(notes: Sequence[str]) -> str:
    return "\n".join(notes)


def test_what_nobody_knows_is_held_back_counted_and_told(shop: Shop) -> None:
    send(shop, ("a", "item-1", "view"), ("b", "item-9", "view"), ("c", "item-1", "vieww"),
         ("d", "item-9", "vieww"), ("e", "item-2", "AddToCart"))  # fmt: skip
    done = shop.collect()
    assert (done.new, done.held, done.waiting, done.released) == (2, 3, 3, 0)
    assert rows(shop, "interactions") == ["event:a", "event:e"]
    assert rows(shop, "held") == ["event:b", "event:c", "event:d"]
    reasons = shop.lake.table("held").read(columns=["interaction_id", "reason"]).to_pylist()
    assert {row["interaction_id"][-1]: row["reason"] for row in reasons} == {
        "b": "its item is not known",
        "c": "its kind is not known",
        "d": "its item and kind are not known",
    }
    assert "2 events wait on 1 item_ids that the catalogue lacks" in told(done.notes)
    assert "2 events wait whose kind nobody knows" in told(done.notes)
    assert "did you mean" in told(done.notes)


def test_an_item_that_comes_later_lets_its_events_through(shop: Shop) -> None:
    send(shop, ("a", "item-9", "buy"))
    assert shop.collect().waiting == 1
    shop.lake.table("items").merge(rows_of("items", [item_row(9, item_id="item-9")]))
    done = shop.collect()
    assert (done.new, done.released, done.waiting, done.notes) == (1, 1, 0, ())
    assert rows(shop, "interactions") == ["event:a"]
    assert shop.lake.table("held").count() == 0


@pytest.mark.parametrize("named", ["kinds = ['taste']", "has = ['taste']", "weights = {taste = 2}"])
def test_a_kind_that_the_shop_names_is_let_through(shop: Shop, named: str) -> None:
    send(shop, ("a", "item-1", "taste"))
    assert shop.collect().waiting == 1
    shop = settings(shop, f"[behaviour]\n{named}\n")
    assert shop.collect().released == 1
    assert rows(shop, "interactions") == ["event:a"]


def test_a_kind_of_the_shops_own_files_is_known(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "acts.csv"
    file.write_text("user_id,item_id,kind\nbob,item-0,taste\n", encoding="utf-8")
    shop.ingest(file, "interactions")
    send(shop, ("a", "item-1", "taste"))
    assert shop.collect().new == 1
    assert rows(shop, "held") == []


def test_a_shop_without_a_catalogue_holds_no_items_back(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "Acts alone")
    send(shop, ("a", "item-1", "view"))
    assert (done := shop.collect()).new == 1 and done.waiting == 0


def test_what_was_collected_stays_when_its_item_leaves(shop: Shop) -> None:
    send(shop, ("a", "item-1", "view"))
    shop.collect()
    shop.delete_items(["item-1"], force=True)
    (shop.folder / "live" / FILE).unlink()  # all is read again
    done = shop.collect()
    assert (done.new, done.waiting) == (0, 0)
    assert rows(shop, "interactions") == ["event:a"]


def test_collecting_twice_changes_nothing(shop: Shop) -> None:
    send(shop, ("a", "item-9", "vieww"))
    assert shop.collect().held == 1
    done = shop.collect()
    assert (done.new, done.held, done.waiting) == (0, 0, 1)


def test_an_erased_shopper_is_not_held_either(shop: Shop) -> None:
    send(shop, ("a", "item-9", "view"))
    shop.collect()
    assert shop.erase("ann").rows["held"] == 1
    shop.lake.table("items").merge(rows_of("items", [item_row(9, item_id="item-9")]))
    assert shop.collect().new == 0
    assert rows(shop, "interactions") == []


def test_a_collection_that_dies_while_it_lets_events_through_loses_none(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(shop, ("a", "item-9", "buy"))
    assert shop.collect().waiting == 1
    shop.lake.table("items").merge(rows_of("items", [item_row(9, item_id="item-9")]))

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(Table, "merge", dies)
        shop.collect()
    assert rows(shop, "held") == ["event:a"]
    assert shop.collect().released == 1 and (rows(shop, "interactions"), rows(shop, "held")) == (
        ["event:a"],
        [],
    )


def test_the_command_says_what_waits_and_what_lets_it_through(shop: Shop) -> None:
    send(shop, ("a", "item-1", "view"), ("b", "item-9", "vieww"))
    done = CliRunner().invoke(app, ["collect", "--shop", str(shop.folder)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "1 act is new in the table" in said
    assert "1 event was held back; 1 waits in the table held" in said
    assert "[behaviour] kinds" in said
    assert "held" in CliRunner().invoke(app, ["tables", "--shop", str(shop.folder)]).output


def test_no_model_learns_from_what_is_held(shop: Shop) -> None:
    send(shop, ("a", "item-1", "view"), ("b", "item-1", "vieww"))
    shop.collect()
    assert [one.kind for one in shop.kinds()] == ["view"]
