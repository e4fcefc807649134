"""The hostile server, and asking it for one link."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from etalage.lake.photos.links import Link
from etalage.lake.photos.states import Outcome
from etalage.lake.photos.visiting import Visitor
from tests.lake.photos.hostile import Hostile

Visits = Callable[..., list[Outcome]]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture
def visits(hostile: Hostile) -> Visits:
    """`visits(["http://a.test/x"], tries=2)`: what came of each link, asked for one after the other."""

    def ask(links: Sequence[str | Link], look_up: Any = None, **changed: Any) -> list[Outcome]:
        async def run() -> list[Outcome]:
            async with Visitor(hostile.config(**changed), look_up=look_up) as visitor:
                return [await visitor.visit(link if isinstance(link, Link) else Link(link)) for link in links]

        return asyncio.run(run())

    return ask


@pytest.fixture
def visit(visits: Visits) -> Callable[..., Outcome]:
    """As `visits`, of one link: a path is one of shop.test."""

    def ask(link: str | Link, **changed: Any) -> Outcome:
        if isinstance(link, str) and link.startswith("/"):
            link = f"http://shop.test{link}"
        return visits([link], **changed)[0]

    return ask
