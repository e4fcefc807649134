"""What a host does not want: robots.txt (RFC 9309), fetched once an origin, and the header X-Robots-Tag."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from etalage.lake.photos.states import Ended, State
from etalage.lake.photos.urls import Target

AGENT = "Etalage"
"""The product token: what robots.txt calls us."""
LARGEST = 500 * 1024
"""Bytes of a robots.txt that are read, as RFC 9309 asks for."""
_OPT_OUTS = frozenset({"none", "noindex", "noimageindex", "noai", "noimageai"})
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Rules(Protocol):
    """What protego makes of a robots.txt."""

    def can_fetch(self, url: str, user_agent: str) -> bool: ...
    def crawl_delay(self, user_agent: str) -> float | None: ...


@dataclass(frozen=True)
class Fetched:
    """A robots.txt as its host answered: `status` of the last hop, and the text where that is 200."""

    status: int
    text: str


Fetch = Callable[[Target], Awaitable[Fetched]]
"""Asks for `<origin>/robots.txt`, redirects followed. Raises Ended: the host does not answer."""


class Robots:
    """The robots.txt of each origin. Two links that ask at once wait for the same one."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._known: dict[str, asyncio.Task[Rules | Ended]] = {}

    async def check(self, target: Target) -> float | None:
        """→ Crawl-delay in seconds. Raises Ended: this is not wanted, or the host does not answer."""
        task = self._known.get(target.origin)
        if task is None:
            task = self._known[target.origin] = asyncio.create_task(self._rules(target))
        rules = await asyncio.shield(task)
        if isinstance(rules, Ended):
            if rules.outcome.state is not State.refused_by_robots:
                # The host failed, not its robots.txt: the next link asks again, in its turn.
                self._known.pop(target.origin, None)
            raise rules.again()
        if not rules.can_fetch(target.url, AGENT):
            raise Ended(State.refused_by_robots, "robots.txt does not want it")
        return rules.crawl_delay(AGENT)

    def forget(self, host: str) -> None:
        """Nothing more is asked of this host."""
        for origin in [
            o for o in self._known if o.partition("://")[2].rpartition(":")[0].strip("[]") == host
        ]:
            del self._known[origin]

    async def _rules(self, target: Target) -> "Rules | Ended":
        try:
            fetched = await self._fetch(target)
        except Ended as ended:
            return ended
        if fetched.status >= 500 or fetched.status == 429:
            why = f"robots.txt answers {fetched.status}, which means: nothing at all"
            return Ended(State.refused_by_robots, why, lasting=False)
        return parsed(fetched.text if fetched.status == 200 else "")


def parsed(text: str) -> Rules:
    from protego import Protego

    rules: Rules = Protego.parse(text)
    return rules


def tag_refusal(headers: Iterable[str]) -> str | None:
    """Why X-Robots-Tag headers do not want a photo stored; None: they do not say so.

    A header may begin with the name of the robot that it is for: `otherbot: noindex` is not for us.
    """
    for header in headers:
        for_us = True
        for part in header.split(","):
            name, colon, rest = part.strip().partition(":")
            directive = name.strip().lower()
            if colon and directive not in _VALUED:
                for_us = directive in (AGENT.lower(), "*")
                directive = rest.strip().lower()
            if for_us and directive in _OPT_OUTS:
                return f"X-Robots-Tag: {directive}"
    return None
