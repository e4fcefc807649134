"""What an answer says of an item, its stock and its currency; and whom a recommender knows."""

import shutil
from pathlib import Path

import pytest

from etalage.errors import ConfigError
from etalage.online import Act, Event
from etalage.recommend import Filters, Recommender
from etalage.shop import Shop
from tests.test_cli import quick, refuses

TOML = 'name = "Cups"\ncurrency = "SEK"\n[funnel]\nenough = 1\n'
STOCK = {"cup-0": "yes", "cup-1": "no"}
ITEMS = 12
"""cup-0 is in stock, cup-1 sold out, of the others the stock is not known; cup-2 is sold in dollars."""


def shopped(folder: Path, toml: str = TOML, kind: str = "buy") -> Path:
    """A shop of twelve cups and eight shoppers, each of whom has three cups in a row; published."""
    shop = Shop.create(folder, "Cups")
    (folder / "shop.toml").write_text(toml, encoding="utf-8")
    lines = ["item_id,title,price,currency,in_stock"]
    for n in range(ITEMS):
        lines.append(f"cup-{n},Cup {n},{n + 1}.5,{'USD' if n == 2 else ''},{STOCK.get(f'cup-{n}', '')}")
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    acts = ["user_id,item_id,kind,time"]
    for user in range(8):
        acts += [f"u{user},cup-{(user + n) % ITEMS},{kind},2026-03-0{1 + n}T1{user}:00:00Z" for n in range(3)]
    (folder / "acts.csv").write_text("\n".join(acts) + "\n")
    shop.ingest(folder / "items.csv", "items")
    shop.ingest(folder / "acts.csv", "interactions")
    for model in ("popularity", "item_knn"):
        shop.train(model)
    shop.publish()
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shopped(tmp_path_factory.mktemp("shops") / "cups")


@pytest.fixture
def shop(published: Path, tmp_path: Path) -> Shop:
    return Shop(shutil.copytree(published, tmp_path / "cups"))


@pytest.fixture
def recommender(published: Path) -> Recommender:
    return Shop(published).recommender()


def ids(found: object) -> set[str]:
    return {slot.item_id for slot in found.slate}  # type: ignore[attr-defined]


# -- what one has is not recommended -------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "[behaviour]\nweights = {purchase = 1, view = 0.1}\n",
        "[behaviour]\nweights = {watch = 1}\n",
        '[behaviour]\nhas = ["klick"]\nweights = {klick = 2}\n',
    ],
)
def test_what_one_had_is_not_recommended_whatever_the_kinds_are_called(tmp_path: Path, settings: str) -> None:
    kind = "buy" if not settings else settings.split("{")[-1].split(" ")[0]
    folder = shopped(tmp_path / "cups", TOML + settings, kind)
    said = quick("recommend", "--had", "cup-4", "--had", "cup-5", "-k", "20", "--shop", folder)
    assert said.status == 0
    shown = [line.split()[1] for line in said.lines if line.split() and line.split()[0].isdigit()]
    assert len(shown) == ITEMS - 3  # without the two, and without what is sold out
    assert not {"cup-4", "cup-5"} & set(shown)
    assert "nothing is known" not in said.out


def test_where_things_are_bought_again_what_one_had_may_come(tmp_path: Path) -> None:
    folder = shopped(tmp_path / "cups", TOML + "[behaviour]\nrepeat = true\n")
    assert " cup-4 " in quick("recommend", "--had", "cup-4", "-k", "20", "--shop", folder).out


# -- whom a recommender knows --------------------------------------------------------------------


def test_a_shops_recommender_knows_the_shoppers_history(shop: Shop) -> None:
    found = shop.recommender().recommend(user_id="u3", k=ITEMS)
    assert found.known and found.tier != "popular"
    assert not {"cup-3", "cup-4", "cup-5"} & ids(found)
    with shop.live_store() as live:
        explicit = shop.recommender().recommend(user_id="u3", k=ITEMS, live=live)
    assert [slot.item_id for slot in found.slate] == [slot.item_id for slot in explicit.slate]


def test_it_knows_what_came_in_while_it_was_open(shop: Shop) -> None:
    recommender = shop.recommender()
    assert not recommender.recommend(user_id="new", k=3).known
    with shop.live_store() as live:
        live.append([Event("e1", "new", Act("cup-7", "buy"))])
        live.set_items({"cup-8": {"in_stock": False}})
    found = recommender.recommend(user_id="new", k=ITEMS)
    assert found.known
    assert not {"cup-7", "cup-8"} & ids(found)
    assert recommender.liked("new", k=3) and recommender.rank([("new", "cup-1")])[0].known_user


def test_asking_where_no_online_store_was_made_makes_none(shop: Shop) -> None:
    shutil.rmtree(shop.folder / "live")
    assert not shop.recommender().recommend(user_id="stranger", k=3).known
    assert not (shop.folder / "live").exists()


# -- stock that is not known ---------------------------------------------------------------------


def test_unknown_stock_passes_neither_filter_and_is_shown_all_the_same(recommender: Recommender) -> None:
    every = recommender.recommend(k=ITEMS)
    assert ids(every) == {f"cup-{n}" for n in range(ITEMS) if n != 1}
    stock = {slot.item_id: slot.in_stock for slot in every.slate}
    assert stock["cup-0"] is True and stock["cup-2"] is None
    assert ids(recommender.recommend(k=ITEMS, filters=Filters(in_stock=True))) == {"cup-0"}
    assert ids(recommender.recommend(k=ITEMS, filters=Filters(in_stock=False))) == {"cup-1"}
    (alike,) = recommender.similar(item_id="cup-0", k=ITEMS)
    assert ids(alike) == {f"cup-{n}" for n in range(2, ITEMS)}


def test_why_a_slate_is_short_names_what_is_sold_out(recommender: Recommender) -> None:
    every = recommender.recommend(history=[], k=ITEMS, explain=True)
    assert every.reason == f"only 11 pass the filters: of {ITEMS} items in all, not sold out leaves 11"
    few = recommender.recommend(k=ITEMS, filters=Filters(in_stock=True))
    assert few.reason is not None and few.reason.endswith("in_stock true leaves 1")


def test_what_becomes_known_while_serving_counts(shop: Shop) -> None:
    recommender = shop.recommender()
    with shop.live_store() as live:
        live.set_items({"cup-5": {"in_stock": True}, "cup-6": {"in_stock": False}, "cup-0": {"price": 1.0}})
        assert ids(recommender.recommend(k=ITEMS, filters=Filters(in_stock=True))) == {"cup-0", "cup-5"}
        assert ids(recommender.recommend(k=ITEMS, filters=Filters(in_stock=False))) == {"cup-1", "cup-6"}
        live.set_items({"cup-5": {"in_stock": None}, "cup-6": {"in_stock": None}})
    assert ids(recommender.recommend(k=ITEMS, filters=Filters(in_stock=True))) == {"cup-0"}


def test_a_shop_may_show_what_is_sold_out(tmp_path: Path) -> None:
    folder = shopped(tmp_path / "cups", TOML + "in_stock = false\n")
    assert "cup-1" in ids(Shop(folder).recommender().recommend(k=ITEMS))


# -- the currency --------------------------------------------------------------------------------


def test_items_without_a_currency_have_the_shops(shop: Shop, recommender: Recommender) -> None:
    shown = {slot.item_id: slot.currency for slot in recommender.recommend(k=ITEMS).slate}
    assert shown["cup-2"] == "USD"
    assert {currency for item_id, currency in shown.items() if item_id != "cup-2"} == {"SEK"}
    assert recommender.item("cup-3")["currency"] == "SEK"
    said = quick("recommend", "-k", str(ITEMS), "--shop", shop.folder)
    assert "3.50 USD" in said.out and "4.50 SEK" in said.out
    assert "4.50 SEK" in quick("similar", "cup-0", "-k", "11", "--shop", shop.folder).out


def test_a_sync_keeps_the_currency(shop: Shop) -> None:
    (shop.folder / "new.csv").write_text("item_id,title,price\ncup-99,New cup,99.5\n")
    shop.ingest(shop.folder / "new.csv", "items")
    assert shop.sync().manifest is not None
    assert shop.recommender().item("cup-99")["currency"] == "SEK"


def test_a_shop_that_names_no_currency_has_none(tmp_path: Path) -> None:
    folder = shopped(tmp_path / "cups", 'name = "Cups"\n')
    assert Shop(folder).recommender().item("cup-3")["currency"] is None
    assert Shop(folder).recommender().item("cup-2")["currency"] == "USD"
    assert "4.50 " in quick("recommend", "-k", "20", "--shop", folder).out


@pytest.mark.parametrize("code", ["euro", "€", "eur", ""])
def test_a_currency_that_is_no_code_is_refused(tmp_path: Path, code: str) -> None:
    folder = Shop.create(tmp_path / "shop", "Shop").folder
    (folder / "shop.toml").write_text(f'currency = "{code}"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="currency"):
        _ = Shop(folder).config
    refuses(quick("publish", "--shop", folder), 2, "currency", "ISO 4217", "`EUR`")
