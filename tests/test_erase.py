"""F66: erasing while something else is at work. One of the two comes first, as a whole: then the shopper is
nowhere, or `erase` says where."""

import json
import re
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
from etalage.online import Act, Event
from etalage.shop import Shop
from tests.redis_server import running_redis
from tests.shops import act_rows, fill, rows_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve items, eight shoppers, and two closed-form models that were trained."""
    shop = Shop.create(tmp_path_factory.mktemp("trained") / "shop", "Erased")
    fill(shop.lake, range(12), [])
    acts = [(f"user-{user}", item, "buy") for user in range(8) for item in range(user % 4, 12, 2)]
    shop.lake.table("interactions").merge(rows_of("interactions", act_rows(acts)))
    shop.lake.table("users").merge(
        rows_of("users", [{"user_id": f"user-{user}", "attributes": "{}"} for user in range(8)])
    )
    shop.train("popularity")
    shop.train("item_knn")
    return shop.folder


@pytest.fixture
def shop(trained: Path, tmp_path: Path) -> Shop:
    shutil.copytree(trained, tmp_path / "shop")
    return Shop(tmp_path / "shop")


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


@pytest.mark.parametrize("how", ["moved away", "put back"])
def test_f66_a_store_that_was_replaced_is_told_who_was_erased(shop: Shop, tmp_path: Path, how: str) -> None:
    """A new file knows of nobody; one of an earlier day still has what they did."""
    append(shop, ("a", "newcomer"))
    live = shop.folder / "live"
    shutil.copytree(live, tmp_path / "copy")
    assert shop.erase("newcomer").rows["online store"] == 1
    shutil.rmtree(live)
    if how == "put back":
        shutil.copytree(tmp_path / "copy", live)
    assert history(shop, "newcomer") == []
    long_ago = Act("item-00003", "buy", None, 1_700_000_000_000_000)
    with shop.live_store() as store:
        assert store.append([Event("b", "newcomer", long_ago)]).erased == 1
        assert store.append([Event("c", "newcomer", Act("item-00004", "buy"))]).accepted == 1, "back again"
    assert [act.item_id for act in history(shop, "newcomer")] == ["item-00004"]


def test_f66_who_is_erased_is_gone_from_the_file_that_was_the_store_before(
    shop: Shop, tmp_path: Path
) -> None:
    append(shop, ("a", "newcomer"), ("b", "user-4"))
    with running_redis(tmp_path) as redis:
        (shop.folder / "shop.toml").write_text(f'[serve]\nlive = "{redis.uri}"\n', encoding="utf-8")
        moved = Shop(shop.folder)
        append(moved, ("c", "newcomer"))
        assert moved.erase("newcomer").rows["online store"] == 2
        assert history(moved, "newcomer") == [] and traces(shop, "newcomer", "live") == []
    (shop.folder / "shop.toml").write_text("", encoding="utf-8")
    assert history(Shop(shop.folder), "newcomer") == [] and history(Shop(shop.folder), "user-4") != []


def test_f66_from_redis_and_back_the_store_that_was_away_is_told(shop: Shop, tmp_path: Path) -> None:
    with running_redis(tmp_path) as redis:
        settings = f'[serve]\nlive = "{redis.uri}"\n'
        (shop.folder / "shop.toml").write_text(settings, encoding="utf-8")
        append(Shop(shop.folder), ("a", "newcomer"))
        (shop.folder / "shop.toml").write_text("", encoding="utf-8")
        Shop(shop.folder).erase("newcomer")
        (shop.folder / "shop.toml").write_text(settings, encoding="utf-8")
        assert history(Shop(shop.folder), "newcomer") == []


def test_f66_a_copy_of_the_store_that_lies_beside_it_is_named(shop: Shop) -> None:
    append(shop, ("a", "newcomer"))
    file = shop.folder / "live" / "events.sqlite"
    shutil.copy(file, file.with_name("events.sqlite.damaged"))
    assert [line for line in shop.erase("newcomer").left if "live/events.sqlite.damaged" in line]


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
    erasing.join(120)
    (erased,) = done
    assert any(manifest.id in line and "`etalage publish`" in line for line in erased.left)
    assert history(shop, "user-3") == [], "whatever was first: seeded, or erased"
    again = shop.publish(force=True)
    assert again.users == 7 and traces(shop, "user-3", f"bundles/{again.id}", "live") == []


def test_f66_a_rollback_to_a_bundle_that_knows_who_was_erased_says_so(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    first = shop.publish(force=True)
    shop.erase("user-3")
    second = shop.publish(force=True)
    shop.rollback(first.id)
    (told,) = [one.getMessage() for one in caplog.records if "were erased since" in one.getMessage()]
    assert f"{first.id} knows 1 of the shoppers" in told and "`etalage publish`" in told
    caplog.clear()
    shop.rollback(second.id)
    assert "were erased since" not in caplog.text


def test_f66_of_a_model_that_was_trained_before_the_bundle_has_no_id_and_the_export_is_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Erased while it was trained: `erase` could not name an export that was not there yet."""
    from etalage.training import behaviour_export

    other = Shop(shop.folder)
    before(monkeypatch, behaviour_export, "write_ids", lambda: other.erase("user-3"))
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
    fill(shop.lake, [12], [])
    synced = shop.sync(force=True).manifest
    assert synced is not None and synced.synced_from == manifest.id
    assert traces(shop, "user-3", f"bundles/{synced.id}", "live") == []


def test_f57_stored_embeddings_of_theirs_go_and_those_of_an_item_of_that_name_stay(shop: Shop) -> None:
    table = shop.lake.table("embeddings")
    row = {"id": "user-3", "model": "m", "embedding": [0.0, 1.0]}
    table.merge(rows_of("embeddings", [{**row, "owner": owner} for owner in ("user", "item")]))
    assert shop.erase("user-3").rows["embeddings"] == 1
    assert table.read()["owner"].to_pylist() == ["item"]


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


def test_f66_a_file_that_is_read_again_brings_no_refused_row_of_theirs_back(
    shop: Shop, tmp_path: Path
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(
        "user_id,item_id,kind,time\nuser-3,item-00001,buy,never\nuser-33,item-00001,buy,never\n"
        'user-4,item-00001,buy,2026-03-01,more,"user-3"\n'
    )
    users = tmp_path / "users.jsonl"
    users.write_text('{"user_id": "user-3", "attributes": "{bad"}\n{"user_id": "user-3", "attributes": \n')
    for path, table in ((file, "interactions"), (users, "users")):
        shop.ingest(path, table)  # type: ignore[arg-type]
    shop.erase("user-3")
    for path, table in ((file, "interactions"), (users, "users")):
        shop.ingest(path, table)  # type: ignore[arg-type]
    told = shop.lake.table("refused").read().select(["line", "reason", "row", "key"]).to_pylist()
    assert "user-3" not in str(told).replace("user-33", "")
    assert len([one for one in told if one["row"] is None and one["reason"]]) >= 3, "where and why is kept"


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
    assert "users, interactions," in said and traces(shop, "user-3", "tables", "runs")
    typed = shlex.split(re.findall("`(.*?)`", said)[0])
    subprocess.run([sys.executable, "-m", "etalage.cli", *typed[1:]], check=True)
    assert traces(shop, "user-3", "tables", "runs") == []
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
