"""The page of one shopper: what they did, what they see and why."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from etalage.api import Act, Event, Recommended
from etalage.client import Client
from tests.page.conftest import ATTACK, HOSTILE, KEY, TRICKS, Visitor, opened, shown
from tests.page.reading import Element
from tests.page.test_grid import unharmed
from tests.serve.servers import ThreadServer
from tests.shops import behaviour_shop

SHOWN = 12


def slate_of(found: Recommended) -> list[str]:
    return [slot.item_id for slot in found.slate]


def at(user_id: str) -> str:
    return f"/?view=shopper&shopper={quote(user_id, safe='')}"


def acted(visitor: Visitor, page: Element, item_id: str, kind: str) -> Element:
    """The page after a button of an item's form."""
    form = page.one(f"#slate [data-item={item_id}] form")
    sent = {one["name"]: one["value"] for one in form.all("input")}
    after, address = visitor.post("/act", data={**sent, "kind": kind})
    assert address == f"/?view=shopper&shopper={sent['shopper'].replace(' ', '+')}"
    return after


def strip(page: Element) -> list[str]:
    return [card["data-item"] for card in page.all("#past .card")]


def reasons(page: Element, found: Recommended) -> bool:
    assert shown(page, "slate") == slate_of(found)
    return page.texts("#slate .why") == [slot.why for slot in found.slate]


def test_a_shoppers_acts_change_their_slate(visitor: Visitor, client: Client) -> None:
    page = visitor.get(visitor.get().all(".ways a")[0]["href"])
    assert page.one(".notice h2").text == "Who is shopping?"
    page = visitor.get(at("someone new"))
    assert reasons(page, client.recommend("someone new", k=SHOWN, explain=True))
    assert page.one("h1").text == "For someone new"
    assert "Nothing is known of this shopper yet" in page.one("#slate .tier").text

    second = client.recommend("someone new", k=SHOWN).slate[1]
    page = acted(visitor, page, second.item_id, "cart")
    assert strip(page) == [second.item_id]
    assert page.texts("#past .did") == ["put in the cart"]
    (past,) = client.history("someone new").acts
    assert (past.item_id, past.kind) == (second.item_id, "cart")
    after = client.recommend("someone new", k=SHOWN, explain=True)
    assert after.tier == "photo"
    assert reasons(page, after)
    assert f"looks like {second.title}" in [slot.why for slot in after.slate]

    bought = after.slate[0].item_id
    page = acted(visitor, page, bought, "buy")
    assert strip(page) == [bought, second.item_id]
    assert bought not in shown(page, "slate")
    assert shown(page, "slate") == slate_of(client.recommend("someone new", k=SHOWN))


def test_a_form_that_is_sent_twice_counts_once(visitor: Visitor, client: Client) -> None:
    page = visitor.get(at("hasty"))
    item = shown(page, "slate")[0]
    acted(visitor, page, item, "view")
    acted(visitor, page, item, "view")
    assert len(client.history("hasty").acts) == 1
    acted(visitor, page, item, "buy")
    assert [act.kind for act in client.history("hasty").acts] == ["view", "buy"]


def test_an_act_that_the_server_refuses_is_said_and_the_page_stays(visitor: Visitor) -> None:
    sent = {"shopper": "someone", "item": "", "once": "x", "kind": "view"}
    page, _ = visitor.post("/act", data=sent)
    assert page.one(".notice h2").text == "That was not noted"
    assert len(shown(page, "slate")) == SHOWN


def test_a_form_that_is_too_large_is_no_act(visitor: Visitor) -> None:
    page, _ = visitor.post("/act", 413, data={"shopper": "x" * 70_000, "item": "item-00001", "kind": "buy"})
    assert page.all(".notice h1")


def test_shoppers_who_acted_last_can_be_chosen_and_an_item_opened_and_left(
    visitor: Visitor, client: Client
) -> None:
    client.send_events([Event("choose-1", "known one", Act("item-00012", "buy"))])
    page = visitor.get("/?view=shopper")
    assert "open" in page.one(".people").attributes
    page = visitor.get(page.one("#people a[data-shopper=known one]")["href"])
    assert strip(page) == ["item-00012"] and page.texts("#past .did") == ["bought"]
    assert page.one("#people [aria-current]").text == "known one"
    assert "open" not in page.one(".people").attributes, "the slate comes before the list on a phone"
    item = visitor.get(page.one("#past a")["href"])
    assert item.one("h1").text == "Piece 12"
    assert item.one(".back").text == "Back to the shopper"
    page = visitor.get(item.one(".back a")["href"])
    assert shown(page, "slate") == slate_of(client.recommend("known one", k=SHOWN))
    assert page.all(".ways a")[0]["href"] == "/"


def test_how_a_slate_came_about_is_told_in_words(visitor: Visitor, client: Client) -> None:
    page = visitor.get(at("traced"))
    found = client.recommend("traced", k=SHOWN, explain=True)
    assert found.trace is not None
    rows = [row.texts("td") for row in page.all(".stages tbody tr")]
    assert [row[0] for row in rows] == [stage["name"] for stage in found.trace["stages"]]
    places = [row.texts("td") for row in page.all(".places tbody tr")]
    assert [row[0] for row in places] == [str(slot.rank) for slot in found.slate]
    assert all(slot.item_id in row[1] for slot, row in zip(found.slate, places, strict=True))
    assert all(
        row[2] == ", ".join(slot.trace["retrievers"])
        for slot, row in zip(found.slate, places, strict=True)
        if slot.trace
    )


def test_f38_script_in_titles_reasons_and_ids_is_text(visitor: Visitor, client: Client) -> None:
    client.send_events([Event("attack", ATTACK, Act(HOSTILE, "view")), Event("gone", ATTACK, Act(ATTACK))])
    page = visitor.get(at(ATTACK))
    assert page.one("h1").text == f"For {ATTACK}"
    assert strip(page) == [ATTACK, HOSTILE]
    assert page.texts("#past .title")[1] == " ".join((ATTACK + TRICKS).split())
    assert [why for why in page.texts("#slate .why") if ATTACK in why]
    assert page.one("#people [aria-current]").text == ATTACK
    assert unharmed(page)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThreadServer, ThreadServer]]:
    """Two servers of the same items: one asks all models, the other has the bestsellers alone."""
    folder = tmp_path_factory.mktemp("pair")
    _, one, _ = behaviour_shop(folder / "one", 40, photos=True)
    _, other, _ = behaviour_shop(folder / "other", 40, photos=True, models=("popularity",))
    with ThreadServer(one.folder, key=KEY) as first, ThreadServer(other.folder) as second:
        yield first, second


def test_two_servers_answer_side_by_side_about_the_same_acts(pair: tuple[ThreadServer, ThreadServer]) -> None:
    first, second = pair
    visitor = opened(first.url, compare_url=second.url)
    with Client(first.url, KEY) as one, Client(second.url) as other:
        one.send_events([Event(f"pair-{n}", "both", Act(f"item-{n:05d}", "buy")) for n in (10, 11, 16)])
        page = visitor.get(at("both"))
        acts = one.history("both").acts
        left = one.recommend(history=acts, k=SHOWN, explain=True)
        right = other.recommend(history=acts, k=SHOWN, explain=True)
        assert slate_of(left) != slate_of(right)
        assert shown(page, "slate-one") == slate_of(left)
        assert shown(page, "slate-other") == slate_of(right)
        assert page.texts(".slate h2") == [left.bundle, right.bundle]
        for item_id in set(slate_of(left)) - set(slate_of(right)):
            assert page.one(f"#slate-one [data-item={item_id}] .mark").text == "only here"
        assert page.all("#slate-other button") == [] and page.all("#slate-other a") == []
        for name, of in (("one", "shop"), ("other", "other")):
            photo = page.all(f"#slate-{name} img")[0]["src"]
            assert photo.startswith(f"/photos/{of}/")
            assert visitor.http.get(photo).headers["content-type"] == "image/png"
        form = page.all("#slate-one form")[0]
        sent = {one["name"]: one["value"] for one in form.all("input")}
        page, _ = visitor.post("/act", data={**sent, "kind": "buy"})
        assert strip(page) == [sent["item"], "item-00016", "item-00011", "item-00010"]
        assert other.history("both").acts == [], "the other server's store is its own"


def test_what_is_wanted_with_an_item_stands_beside_what_looks_like_it(
    pair: tuple[ThreadServer, ThreadServer],
) -> None:
    first, second = pair
    with Client(first.url, KEY) as client:
        wanted = client.similar(item_id="item-00010", k=6, by_behaviour=True).answers[0]
        alike = client.similar(item_id="item-00010", k=12).answers[0]
    assert wanted.fallback == "by_behaviour" and alike.fallback is None
    page = opened(first.url).get("/?item=item-00010")
    assert page.texts(".shelf h2") == ["Similar items", "Wanted with it"]
    assert shown(page, "like-wanted") == [slot.item_id for slot in wanted.slate]
    assert shown(page, "like-similar") == [slot.item_id for slot in alike.slate]
    page = opened(second.url, key=None).get("/?item=item-00010")
    assert page.texts(".shelf h2") == ["Similar items"], "the bestsellers know of nothing that goes with it"
