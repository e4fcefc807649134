"""Items, photos and whole tables are deleted, told before, and brought back."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from etalage.cli import app
from etalage.errors import CatalogueShrank, ConfigError, NothingToPublish, TableMissing
from etalage.online import Act, Event
from etalage.shop import Shop
from etalage.shop.upkeep_files import RESET, UNDONE
from tests.shops import fill, rows_of, small_shop
from tests.upkeep import answers, copied, every_kill


@pytest.fixture
def shop(upkept: Shop, tmp_path: Path) -> Shop:
    return copied(upkept, tmp_path / "shop")


def ids(shop: Shop) -> list[str]:
    return sorted(shop.lake.table("items").read(columns=["item_id"])["item_id"].to_pylist())


def typed(shop: Shop, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--shop", str(shop.folder)])


def refused(said: Result) -> str:
    """What it said, as an error of ours."""
    assert said.exit_code == ConfigError.exit_code, said.output
    return said.stderr


def test_a_dry_run_tells_what_goes_and_what_stays_and_changes_nothing(shop: Shop) -> None:
    before = shop.lake.versions()
    plan = shop.delete_items(["item-00001", "item-0000l", "nobody"], dry=True)
    assert (plan.done, plan.rows, plan.of) == (False, {"items": 1}, 12)
    assert plan.unknown == ("item-0000l", "nobody") and "item-0000l" in plan.near
    assert any("rows of interactions about these items (2)" in line for line in plan.stays)
    assert any("rows of photos about these items (1)" in line for line in plan.stays)
    assert shop.lake.versions() == before


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        (["category=Bags"], [3, 7, 11]),
        (["category=Clothing"], [0, 1, 4, 5, 8, 9]),
        (["category=Clothing > Dresses", "brand=Bellamy"], [4]),
        (["in_stock=false"], [0, 5, 10]),
        (["split=train", "brand=Corvo"], [2, 5, 8, 11]),
        (["category=Cloth"], []),
    ],
)
def test_items_are_deleted_by_what_is_true_of_them(
    shop: Shop, where: Sequence[str], numbers: list[int]
) -> None:
    plan = shop.delete_items(where=where, force=True)
    assert plan.rows == ({"items": len(numbers)} if numbers else {})
    assert ids(shop) == [f"item-{n:05d}" for n in range(12) if n not in numbers]


@pytest.mark.parametrize("where", ["category", "=Bags", "price=5", "in_stock=maybe", "brand="])
def test_a_condition_that_says_nothing_is_refused(shop: Shop, where: str) -> None:
    with pytest.raises(ConfigError, match="--where"):
        shop.delete_items(where=[where])
    assert len(ids(shop)) == 12


def test_too_many_go_by_force_alone(shop: Shop) -> None:
    with pytest.raises(CatalogueShrank, match="none did"):
        shop.delete_items(where=["category=Clothing"])
    assert len(ids(shop)) == 12


def test_deleted_items_leave_bundle_and_slates_and_what_shoppers_did_with_them_breaks_nothing(
    shop: Shop,
) -> None:
    with shop.live_store() as store:
        acts = [Act("item-00002", "view"), Act("item-00001", "view"), Act("item-00002", "buy")]
        store.append([Event(f"e{n}", "newcomer", act) for n, act in enumerate(acts)])
    shop.delete_items(["item-00002"])
    manifest = shop.sync().manifest
    assert manifest is not None and manifest.items == 11
    with shop.live_store() as live:
        recommender = shop.recommender()
        for user in ("newcomer", *(f"user-{n}" for n in range(8))):
            slate = recommender.recommend(user_id=user, k=11, live=live).slate
            assert slate and "item-00002" not in [slot.item_id for slot in slate]
        live.append([Event("late", "newcomer", Act("item-00002", "cart"))])
        assert recommender.recommend(user_id="newcomer", k=3, live=live).slate
    assert shop.collect().waiting >= 1, "events about an item that is gone wait until it is back"
    shop.undo("items", shop.lake.table("items").version() - 1)
    back = shop.sync().manifest
    assert back is not None and back.items == 12
    assert shop.collect().waiting == 0


def test_photos_go_by_path_hash_and_item_and_leave_the_index(tmp_path: Path) -> None:
    lake, _, first = small_shop(tmp_path / "shop", 12, size=8, dimension=4)
    shop = Shop(tmp_path / "shop")
    sha = lake.table("photos").read(columns=["url", "sha256"]).to_pylist()
    by_url = {one["url"]: one["sha256"] for one in sha}
    plan = shop.delete_photos(["drawn://0", by_url["drawn://1"][:12], "drawn://99"], of=["item-00002", "x"])
    assert plan.rows == {"photos": 3} and set(plan.unknown) == {"drawn://99", "x"} and plan.near
    assert lake.table("photos").count() == 9 and lake.table("items").count() == 12
    manifest = shop.sync(force=True).manifest
    assert manifest is not None and manifest.items == 12
    (index,) = [one.index for one in manifest.photo_models]
    (before,) = [one.index for one in first.photo_models]
    assert index is not None and before is not None and (before.indexed, index.indexed) == (12, 9)
    shop.undo("photos", lake.table("photos").version() - 1)
    assert lake.table("photos").count() == 12
    assert shop.delete_photos(every=True).rows == {"photos": 12}
    assert shop.delete_photos(every=True).rows == {}
    with pytest.raises(ConfigError, match="name the photos"):
        shop.delete_photos()


@pytest.mark.parametrize("name", ["items", "photos", "users", "interactions"])
def test_a_table_is_reset_and_restored(shop: Shop, name: str) -> None:
    table = shop.lake.table(name)
    version, rows = table.version(), table.read().num_rows
    assert shop.reset(name, dry=True).rows == {name: rows} and table.version() == version
    done = shop.reset(name)
    assert done.done and table.count() == 0 and done.undo
    again = shop.reset(name)
    assert not again.done and again.rows == {} and table.version() == version + 1
    restored = shop.undo(name, version)
    assert (restored.done, restored.rows_now, restored.rows_then) == (True, 0, rows)
    assert table.read().sort_by(table.spec.key[0]).equals(table.read(version).sort_by(table.spec.key[0]))
    changes = table.changes(version)
    assert changes.upserted.num_rows == changes.deleted.num_rows == 0, "in all nothing has changed"


def test_publish_and_sync_go_on_after_each(shop: Shop) -> None:
    before = shop.bundles.current_id()
    shop.reset("interactions")
    assert shop.sync(force=True).manifest is not None
    shop.reset("items")
    for step in (shop.sync, shop.publish):
        with pytest.raises(NothingToPublish, match="the items table is empty"):
            step()
    assert answers(shop), "what is published is served on"
    fill(shop.lake, range(3), [])
    with pytest.raises(CatalogueShrank, match="--force"):
        shop.sync()
    manifest = shop.sync(force=True).manifest
    assert manifest is not None and manifest.items == 3 and manifest.id != before


def test_what_is_not_there_cannot_be_reset_or_undone(shop: Shop) -> None:
    with pytest.raises(TableMissing):
        shop.reset("held")
    with pytest.raises(TableMissing, match="no version 99"):
        shop.undo("items", 99)
    with pytest.raises(ConfigError, match="is the version that table items has"):
        shop.undo("items", shop.lake.table("items").version())
    assert set(UNDONE) < set(RESET)


def test_a_killed_delete_is_whole_or_nothing_in_each_table_and_goes_on(upkept: Shop, tmp_path: Path) -> None:
    shop = copied(upkept, tmp_path / "shop")
    links = [{"item_id": f"item-{n:05d}", "url": f"https://h/{n}.jpg", "status": "pending"} for n in range(4)]
    shop.lake.table("photos").merge(rows_of("photos", links), only_new=True)
    seen = set()
    for _ in every_kill(shop.folder, "delete_items", shop.folder, "item-00000", "item-00001", "item-00002"):
        items, photos = (Shop(shop.folder).lake.table(name).read() for name in ("items", "photos"))
        assert items.num_rows in (9, 12) and photos.num_rows in (7, 10)
        seen.add((items.num_rows, photos.num_rows))
    assert len(ids(shop)) == 9 and shop.lake.table("photos").count() == 7
    assert (12, 10) in seen


# -- the command line ----------------------------------------------------------------------------


def test_nothing_is_deleted_before_somebody_says_yes(shop: Shop) -> None:
    for words in (["delete", "items", "item-00001"], ["delete", "photos", "--all"], ["reset", "users"]):
        done = typed(shop, *words)
        assert done.exit_code == 1 and "nothing was changed: add --yes" in done.output, done.output
        done = typed(shop, *words, "--json")
        assert done.exit_code == 1 and json.loads(done.stdout)["done"] is False
        assert json.loads(done.stderr.splitlines()[-1]) == {
            "class": "ConfigError", "message": "nothing was changed: add --yes", "exit_code": 1,
        }  # fmt: skip
    assert len(ids(shop)) == 12 and shop.lake.table("photos").count() == 6
    done = typed(shop, "delete", "items", "item-00001", "nobody", "--yes")
    assert done.exit_code == 0 and "goes: items, 1 row of 12: item-00001" in done.output, done.output
    assert "not there: nobody" in done.output and len(ids(shop)) == 11
    told = done.output.partition("etalage undo ")[2].split()
    assert typed(shop, "undo", *told[:3], "--yes").exit_code == 0
    assert len(ids(shop)) == 12


def test_undo_lists_the_versions(shop: Shop) -> None:
    shop.reset("users")
    listed = typed(shop, "undo", "users").output
    assert "delete" in listed and " 8 " in listed.replace("\n", " ") + " "


def test_undo_with_yes_and_no_version_is_refused(shop: Shop) -> None:
    assert "to which version?" in refused(typed(shop, "undo", "items", "--yes"))


def test_options_of_the_other_table_are_refused(shop: Shop) -> None:
    for words in (["items", "--all"], ["photos", "--where", "brand=x"], ["items"], ["photos"]):
        assert "ConfigError: " in refused(typed(shop, "delete", *words))
    assert "item: no such table here" in refused(typed(shop, "reset", "item"))
    assert "embeddings: no such table here" in refused(typed(shop, "undo", "embeddings"))
