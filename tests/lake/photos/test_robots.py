"""What robots.txt and X-Robots-Tag say to us, and what they say to others."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.lake.photos.robots import AGENT, Fetched, Robots, parsed, tag_refusal
from etalage.lake.photos.states import Ended, State
from etalage.lake.photos.urls import Target, target


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ([], None),
        (["all"], None),
        (["noarchive, nosnippet"], None),
        (["noindex"], "noindex"),
        (["NOAI"], "noai"),
        (["nosnippet, noimageindex"], "noimageindex"),
        (["all", "noimageai"], "noimageai"),
        (["none"], "none"),
        (["otherbot: noindex"], None),
        (["otherbot: noindex, noai"], None),
        (["etalage: noai"], "noai"),
        (["otherbot: noindex, etalage: noindex"], "noindex"),
        (["*: noindex"], "noindex"),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noindex"], "noindex"),
        (["max-image-preview: none"], None),
    ],
)
def test_a_tag_is_for_everybody_or_for_the_one_it_names(headers: list[str], refused: str | None) -> None:
    assert tag_refusal(headers) == (None if refused is None else f"X-Robots-Tag: {refused}")


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_tag_is_read(headers: list[str]) -> None:
    tag_refusal(headers)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_robots_txt_is_read(text: str) -> None:
    rules = parsed(text)
    rules.can_fetch("http://shop.example/a.jpg", AGENT)
    rules.crawl_delay(AGENT)


def test_the_longest_rule_counts_and_wildcards_work() -> None:
    rules = parsed("User-agent: *\nDisallow: /*.gif$\nDisallow: /private/\nAllow: /private/photos/\n")
    assert rules.can_fetch("http://shop.example/a.jpg", AGENT)
    assert not rules.can_fetch("http://shop.example/a.gif", AGENT)
    assert not rules.can_fetch("http://shop.example/private/a.jpg", AGENT)
    assert rules.can_fetch("http://shop.example/private/photos/a.jpg", AGENT)


def test_links_that_ask_at_once_wait_for_one_answer_and_origins_are_apart() -> None:
    asked: list[str] = []

    async def fetch(wanted: Target) -> Fetched:
        asked.append(wanted.origin)
        await asyncio.sleep(0.01)
        return Fetched(200, "User-agent: *\nDisallow: /no\nCrawl-delay: 2")

    async def ask() -> list[float | None]:
        robots = Robots(fetch)
        links = ["http://a.example/1", "http://a.example/2", "https://a.example/1", "http://a.example:8080/1"]
        found = await asyncio.gather(*(robots.check(target(link)) for link in links))
        robots.forget("a.example")
        await robots.check(target("http://a.example/3"))
        return found

    assert asyncio.run(ask()) == [2.0] * 4
    assert sorted(asked[:3]) == ["http://a.example:80", "http://a.example:8080", "https://a.example:443"]
    assert asked[3:] == ["http://a.example:80"]


def test_a_host_that_failed_is_asked_again_and_a_refusal_is_not() -> None:
    answers: list[Fetched | Ended] = [Ended(State.timeout, "not in time", lasting=False), Fetched(503, "")]
    asked: list[str] = []

    async def fetch(wanted: Target) -> Fetched:
        asked.append(wanted.origin)
        answer = answers[min(len(asked), 2) - 1]
        if isinstance(answer, Ended):
            raise answer
        return answer

    async def ask() -> list[State]:
        robots, states = Robots(fetch), []
        for n in range(3):
            with pytest.raises(Ended) as ended:
                await robots.check(target(f"http://a.example/{n}"))
            states.append(ended.value.outcome.state)
        return states

    assert asyncio.run(ask()) == [State.timeout, State.refused_by_robots, State.refused_by_robots]
    assert len(asked) == 2
