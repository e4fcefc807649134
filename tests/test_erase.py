"""F66: erasing while something else is at work. One of the two comes first, as a whole: then the shopper is
nowhere, or `erase` says where."""

import json
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etalage.bundle import publish as publishing
from etalage.errors import StoreUnavailable
from etalage.lake.delta import Table
from etalage.lake.live import Act, Event
from etalage.shop import Shop
from tests.shops import act_rows, fill, rows_of


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Twelve items, eight shoppers, and two counters that were trained."""
    shop = Shop.create(tmp_path / "shop", "Erased")
    fill(shop.lake, range(12), [])
    acts = [(f"user-{user}", item, "buy") for user in range(8) for item in range(user % 4, 12, 2)]
    shop.lake.table("interactions").merge(rows_of("interactions", act_rows(acts)))
    shop.lake.table("users").merge(
        rows_of("users", [{"user_id": f"user-{user}", "attributes": "{}"} for user in range(8)])
    )
    shop.train("popularity")
    shop.train("item_knn")
    return shop


def append(shop: Shop, *events: tuple[str, str]) -> None:
    with shop.live_store() as store:
        store.append([Event(name, user, Act("item-00003", "buy")) for name, user in events])


def traces(shop: Shop, user: str, *beneath: str) -> list[str]:
    """Files beneath these folders that hold the id."""
    files = [file for name in beneath for file in (shop.folder / name).rglob("*") if file.is_file()]
    return sorted(file.name for file in files if user.encode() in file.read_bytes())


def rows(shop: Shop, user: str) -> int:
    tables = (shop.lake.table(name) for name in ("users", "interactions"))
    return sum(t.read(columns=["user_id"])["user_id"].to_pylist().count(user) for t in tables)


def history(shop: Shop, user: str) -> list[Act]:
    with shop.live_store() as store:
        return store.history(user, 9)


def before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, hook: Callable[[], object]) -> None:
    """`hook` runs once, before owner.name does."""
    known = getattr(owner, name)

    def hooked(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(owner, name, known)
        hook()
        return known(*arguments, **options)

    monkeypatch.setattr(owner, name, hooked)


def test_f66_erased_while_collect_holds_their_events(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    append(shop, ("a", "user-3"), ("b", "user-4"), ("c", "newcomer"))
    other = Shop(shop.folder)
    before(monkeypatch, Table, "merge", lambda: [other.erase(name) for name in ("user-3", "newcomer")])
    assert shop.collect().new == 1
    assert rows(shop, "user-3") == rows(shop, "newcomer") == 0 and rows(shop, "user-4") > 0
    assert shop.collect().new == 0, "what was left out is not brought the next time"


def test_f66_an_event_that_is_sent_again_does_not_bring_them_back(shop: Shop) -> None:
    append(shop, ("a", "user-3"))
    shop.collect()
    shop.erase("user-3")
    append(shop, ("a", "user-3"))
    assert shop.collect().new == 0 and history(shop, "user-3") == [] and rows(shop, "user-3") == 0


def test_f66_who_comes_back_later_is_a_new_shopper(shop: Shop) -> None:
    shop.erase("user-3")
    append(shop, ("new", "user-3"))
    assert shop.collect().new == 1 and rows(shop, "user-3") == 1
    assert [act.item_id for act in history(shop, "user-3")] == ["item-00003"]


def test_f66_erased_while_publish_has_read_the_shoppers(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the crowd was read, before the bundle is finished: neither it nor the online store knows them."""
    other = Shop(shop.folder)
    before(monkeypatch, publishing, "_stage_payload", lambda: other.erase("user-3"))
    manifest = shop.publish(force=True)
    assert manifest.users == 7
    assert traces(shop, "user-3", f"bundles/{manifest.id}", "live") == []
    assert history(shop, "user-3") == [] and history(shop, "user-4") != []


def test_f66_erased_while_publish_finishes_waits_and_says_that_the_bundle_knows_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, done = Shop(shop.folder), []
    erasing = threading.Thread(target=lambda: done.append(other.erase("user-3")))

    def begin() -> None:
        erasing.start()
        erasing.join(0.5)
        assert erasing.is_alive(), "it waits until the bundle is current"

    before(monkeypatch, publishing, "_release", begin)
    manifest = shop.publish(force=True)
    erasing.join(30)
    (erased,) = done
    assert any(manifest.id in line and "`etalage publish`" in line for line in erased.left)
    assert history(shop, "user-3") == [], "whatever was first: seeded, or erased"
    again = shop.publish(force=True)
    assert again.users == 7 and traces(shop, "user-3", f"bundles/{again.id}", "live") == []


def test_f66_of_a_model_that_was_trained_before_the_bundle_has_no_id_and_the_export_is_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Erased while it was trained: `erase` could not name an export that was not there yet."""
    from etalage.training import behaviour_export

    other = Shop(shop.folder)
    before(monkeypatch, behaviour_export, "_write_ids", lambda: other.erase("user-3"))
    shop.train("two_tower", {"epochs": "1", "steps_per_epoch": "1", "width": "4"})
    manifest = shop.publish(force=True)
    assert {one.name for one in manifest.models} >= {"two_tower", "item_knn"}
    assert traces(shop, "user-3", f"bundles/{manifest.id}", "live") == []
    assert "export of two_tower was made before 1 of its shoppers were erased" in caplog.text
    assert "`etalage train two_tower`" in caplog.text
    with shop.live_store() as live:
        recommender = shop.recommender()
        assert not recommender.recommend(user_id="user-3", k=3, live=live).known
        assert recommender.recommend(user_id="user-4", k=3, live=live).known


def test_f57_raw_rows_that_were_refused_are_theirs_too(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(
        "user_id,item_id,kind,time\nuser-3,item-00001,buy,never\nuser-33,item-00001,buy,never\n"
        "user-4,user-3 said so,buy,never\n"
    )
    shop.ingest(file, "interactions")
    assert shop.erase("user-3").rows["refused"] == 1
    left = [json.loads(row)["user_id"] for row in shop.lake.table("refused").read()["row"].to_pylist()]
    assert sorted(left) == ["user-33", "user-4"]


def test_f66_where_the_online_store_is_away_the_tables_are_done_and_that_is_said(shop: Shop) -> None:
    file = shop.folder / "live" / "events.sqlite"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"torn" * 4096)
    with pytest.raises(StoreUnavailable, match=r"the tables are done, the online store is not.*again"):
        shop.erase("user-3")
    assert rows(shop, "user-3") == 0
    file.unlink()
    assert shop.erase("user-3").rows["online store"] == 0


def test_f66_what_is_said_of_older_versions_can_be_done_and_leaves_no_trace_of_them(shop: Shop) -> None:
    (said,) = [line for line in shop.erase("user-3").left if line.startswith("older versions")]
    assert "users, interactions;" in said and traces(shop, "user-3", "tables")
    for folder in (shop.folder / "tables").glob("*/_change_data"):
        shutil.rmtree(folder)
    typed = said.split("while nothing writes: ")[1]
    subprocess.run(shlex.split(typed.replace("python", sys.executable, 1)), check=True)
    assert traces(shop, "user-3", "tables") == []
    assert shop.train("popularity")[1].exists() and rows(shop, "user-4") > 0
    shop.publish(force=True)


def test_f57_a_report_that_shows_them_is_named(shop: Shop) -> None:
    report = shop.folder / "reports" / "item_knn-0001.html"
    report.parent.mkdir(exist_ok=True)
    report.write_text("<td>user-3</td><td>a &amp; b</td>", encoding="utf-8")
    assert any("reports/item_knn-0001.html" in line for line in shop.erase("user-3").left)
    assert any("reports/item_knn-0001.html" in line for line in shop.erase("a & b").left)
    assert not any("reports" in line for line in shop.erase("user-4").left)


def test_f66_what_is_held_back_of_an_erased_shopper_is_gone_and_does_not_come_again(shop: Shop) -> None:
    def send() -> None:
        with shop.live_store() as store:
            store.append([Event("held", "user-3", Act("no-such-item", "buy", None, 1_700_000_000_000_000))])

    def held() -> list[str]:
        table = shop.lake.table("held")
        return table.read(columns=["user_id"])["user_id"].to_pylist() if table.exists() else []

    send()
    assert shop.collect().waiting == 1
    assert held() == ["user-3"]
    shop.erase("user-3")
    assert held() == []
    send()
    assert shop.collect().waiting == 0
    assert held() == []


def test_a_user_id_of_whom_no_row_is_is_told_with_the_nearest(shop: Shop) -> None:
    done = shop.erase("User-3")
    assert not any(done.rows.values())
    assert done.near == "user-3"
    assert rows(shop, "user-3")
    assert shop.erase("user-3").near is None
