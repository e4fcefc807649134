"""The page of one shopper: what they did, what they see and why; real server, Streamlit and browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from etalage.api import Act, Event, Recommended
from etalage.client import Client
from tests.page.conftest import ATTACK, HOSTILE, KEY, TRICKS, PageProcess, Visit
from tests.page.test_storefront import (
    expect_ids,
    expect_part,
    expect_text,
    expect_texts,
    expect_that,
    unharmed,
)
from tests.serve.servers import ThreadServer
from tests.shops import behaviour_shop

SLATE = ".st-key-slate .slot"
PAST = ".st-key-past .card"
SHOWN = 12


def slate_of(found: Recommended) -> list[str]:
    return [slot.item_id for slot in found.slate]


def at(user_id: str) -> str:
    return f"?view=shopper&shopper={quote(user_id, safe='')}"


def expect_reasons(page: Any, found: Recommended) -> None:
    expect_ids(page, SLATE, slate_of(found))
    expect_texts(page, f"{SLATE} .why", [slot.why for slot in found.slate])


def test_a_shoppers_acts_change_their_slate(visit: Visit, client: Client) -> None:
    page = visit()
    page.get_by_role("button", name="For a shopper").click()
    expect_text(page, ".notice h2", "Who is shopping?")
    name = page.get_by_role("textbox", name="A shopper's id")
    name.fill("someone new")
    name.press("Enter")
    expect_reasons(page, client.recommend("someone new", k=SHOWN, explain=True))
    expect_that(lambda: page.url.endswith("?view=shopper&shopper=someone+new"))
    expect_text(page, ".st-key-shopper-title h2", "For someone new")
    expect_part(page, ".st-key-shopper-slate", "Nothing is known of this shopper yet")

    second = client.recommend("someone new", k=SHOWN).slate[1]
    page.locator(f"{SLATE}[data-item={second.item_id}] button.cart").click()
    expect_ids(page, PAST, [second.item_id])
    expect_text(page, f"{PAST} .did", "put in the cart")
    (past,) = client.history("someone new").acts
    assert (past.item_id, past.kind) == (second.item_id, "cart")
    after = client.recommend("someone new", k=SHOWN, explain=True)
    assert after.tier == "photo"
    expect_reasons(page, after)
    assert f"looks like {second.title}" in [slot.why for slot in after.slate]

    bought = after.slate[0].item_id
    page.locator(f"{SLATE} button.buy").first.click()
    expect_ids(page, PAST, [bought, second.item_id])
    slate = slate_of(client.recommend("someone new", k=SHOWN))
    assert bought not in slate
    expect_ids(page, SLATE, slate)


def test_shoppers_who_acted_last_can_be_chosen_and_an_item_opened_and_left(
    visit: Visit, client: Client
) -> None:
    client.send_events([Event("choose-1", "known one", Act("item-00012", "buy"))])
    page = visit("?view=shopper")
    page.locator("[data-shopper='known one']").click()
    expect_ids(page, PAST, ["item-00012"])
    expect_text(page, f"{PAST} .did", "bought")
    page.locator(f"{PAST}").first.click()
    expect_text(page, "article.item h1", "Piece 12")
    page.get_by_role("button", name="Back to the shopper").click()
    expect_ids(page, SLATE, slate_of(client.recommend("known one", k=SHOWN)))
    page.locator(".st-key-to-shop button").click()
    page.locator(".st-key-grid").wait_for()


def test_clicks_that_follow_each_other_at_once_are_each_heard_once(visit: Visit, client: Client) -> None:
    """The script is interrupted by the next click, whose message may still tell of the one before and of
    widgets that are gone."""
    client.send_events([Event("quick-1", "quick one", Act("item-00012", "buy"))])
    for _ in range(4):
        page = visit("?view=shopper")
        page.locator("[data-shopper='quick one']").click()
        page.locator(PAST).first.click()
        page.get_by_role("button", name="Back to the shopper").click()
        expect_ids(page, PAST, ["item-00012"])
        expect_ids(page, SLATE, slate_of(client.recommend("quick one", k=SHOWN)))


def test_the_trace_tells_what_each_stage_did(visit: Visit, client: Client) -> None:
    page = visit(at("traced"))
    found = client.recommend("traced", k=SHOWN, explain=True)
    page.get_by_text("How this slate came about").click()
    page.locator(".table.stages").wait_for()
    assert found.trace is not None
    stages = [stage["name"] for stage in found.trace["stages"]]
    expect_texts(page, ".table.stages tbody tr td:first-child", stages)
    page.locator(".table.places tbody tr").nth(SHOWN - 1).wait_for()
    places = page.locator(".table.places tbody tr").all_inner_texts()
    assert all(slot.item_id in row for slot, row in zip(found.slate, places, strict=True))


def test_f38_script_in_titles_reasons_and_ids_is_text(visit: Visit, client: Client) -> None:
    client.send_events([Event("attack", ATTACK, Act(HOSTILE, "view")), Event("gone", ATTACK, Act(ATTACK))])
    page = visit(at(ATTACK))
    expect_text(page, ".st-key-shopper-title h2", f"For {ATTACK}")
    expect_ids(page, PAST, [ATTACK, HOSTILE])
    expect_text(page, f"{PAST} .title >> nth=1", ATTACK + TRICKS)
    page.locator(f"{SLATE} .why").filter(has_text=ATTACK).first.wait_for()
    expect_text(page, ".st-key-people .chosen .label", ATTACK)
    page.get_by_text("How this slate came about").click()
    page.locator(".table.places").wait_for()
    assert unharmed(page)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThreadServer, ThreadServer]]:
    """Two servers of the same items: one asks all models, the other has the bestsellers alone."""
    folder = tmp_path_factory.mktemp("pair")
    _, one, _ = behaviour_shop(folder / "one", 40)
    _, other, _ = behaviour_shop(folder / "other", 40, models=("popularity",))
    with ThreadServer(one.folder, key=KEY) as first, ThreadServer(other.folder) as second:
        yield first, second


def test_two_servers_answer_side_by_side_about_the_same_acts(
    visit: Visit, pair: tuple[ThreadServer, ThreadServer], tmp_path: Path
) -> None:
    first, second = pair
    with (
        Client(first.url, KEY) as one,
        Client(second.url) as other,
        PageProcess(first.url, tmp_path / "log", KEY, compare=second.url) as storefront,
    ):
        one.send_events([Event(f"pair-{n}", "both", Act(f"item-{n:05d}", "buy")) for n in (10, 11, 16)])
        page = visit(at("both"), at=storefront)
        acts = one.history("both").acts
        left = one.recommend(history=acts, k=SHOWN, explain=True)
        right = other.recommend(history=acts, k=SHOWN, explain=True)
        assert slate_of(left) != slate_of(right)
        expect_ids(page, ".st-key-slate-one .slot", slate_of(left))
        expect_ids(page, ".st-key-slate-other .slot", slate_of(right))
        expect_texts(page, "[class*=st-key-shopper-slate-] .heading h2", [left.bundle, right.bundle])
        here = [i for i in slate_of(left) if i not in slate_of(right)]
        for item_id in here:
            mark = page.locator(f".st-key-slate-one .slot[data-item={item_id}] .mark")
            expect_that(lambda mark=mark: mark.inner_text() == "only here")
        assert page.locator(".st-key-slate-other button").count() == 0
        page.locator(".st-key-slate-one button.buy").first.click()
        bought = left.slate[0].item_id
        expect_ids(page, PAST, [bought, "item-00016", "item-00011", "item-00010"])
        acts = one.history("both").acts
        expect_ids(page, ".st-key-slate-other .slot", slate_of(other.recommend(history=acts, k=SHOWN)))
        assert other.history("both").acts == [], "the other server's store is its own"
    assert KEY not in (tmp_path / "log").read_text()
