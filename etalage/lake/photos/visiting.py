"""One link → its outcome, over HTTP: every hop is resolved, checked, and asked in its turn."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any

from yarl import URL

from etalage.config import PhotosConfig
from etalage.lake.photos.addresses import Guard, Hosts, LookUp, literal, networks
from etalage.lake.photos.body import Counter, read_body, read_start
from etalage.lake.photos.connecting import FAILURES, ended_by, session
from etalage.lake.photos.decoder import Decoder
from etalage.lake.photos.links import Link, keeping_of
from etalage.lake.photos.pacing import Manners, Pace, retry_after
from etalage.lake.photos.robots import AGENT, LARGEST, Fetched, Robots, tag_refusal
from etalage.lake.photos.states import Ended, Outcome, State
from etalage.lake.photos.urls import Target, redirected, target

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_ROBOTS_HOPS = 5
_NOT_AT_ONCE = frozenset({State.bad_certificate, State.refused_by_robots})
"""Worth asking for again, but not in this run."""
_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_NO_PHOTOS = _PAGES | {"image/svg+xml"}


@dataclass(frozen=True)
class Sent:
    """A photo as it came; `source` None: it has not changed."""

    source: bytes | None
    etag: str | None
    last_modified: str | None


@dataclass
class Trip:
    """One try of one link: where it is, and what it cost so far."""

    deadline: float
    hop: Target | None = None
    status: int | None = None
    read: Counter = field(default_factory=Counter)
    seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        return {
            "http_status": self.status,
            "final_url": self.hop.url if self.hop else None,
            "downloaded": self.read.bytes,
            "seconds": self.seconds,
        }


def user_agent(contact: str | None) -> str:
    """Who asks, and where to complain."""
    name = f"{AGENT}/{version('etalage')}"
    return name if contact is None else f"{name} (+{contact})"


class Visitor:
    """Asks for links, politely. Use as an `async with`; one of it a worker.

    workers: how many of them there are. A host that is not its own by `owns` (a redirect led there) is asked
    at that part of its rate, so that all of them together keep to it; one that has links of its own as well
    is asked at less than twice its rate.
    """

    def __init__(
        self,
        config: PhotosConfig,
        *,
        workers: int = 1,
        owns: Callable[[str], bool] = lambda host: True,
        look_up: LookUp | None = None,
    ) -> None:
        self.config = config
        hosts, allowed = Hosts(config.hosts), networks(config.allow_networks)
        self._guard = Guard(hosts, allowed, config.contact is None, look_up)
        self._workers, self._owns = workers, owns
        self._paces: dict[str, Pace] = {}
        self._slots = asyncio.Semaphore(config.connections)
        self._robots = Robots(self._fetch_robots)
        self.decoder = Decoder(keeping_of(config), config.decode_seconds, config.decode_megabytes)
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> "Visitor":
        agent = user_agent(self.config.contact)
        self._session = await self._opened.enter_async_context(session(self.config, self._guard, agent))
        await self._opened.enter_async_context(self.decoder)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def visit(self, link: Link) -> Outcome:
        """What comes of this link, tried again as [photos] tries says where that may help."""
        outcome = await self._try(link)
        for _ in range(self.config.tries - 1):
            host = target(outcome.final_url).host if outcome.final_url else None
            gone = host is not None and self._pace(host).closed is not None
            if outcome.lasting or outcome.state in _NOT_AT_ONCE or gone:
                break
            outcome = await self._try(link)
        return outcome

    def forget(self, host: str) -> None:
        """All links of this host were visited. One that is left alone stays so: a redirect may lead there."""
        self._robots.forget(host)
        if (pace := self._paces.get(host)) is not None and pace.closed is None:
            del self._paces[host]

    # -- hops ----------------------------------------------------------------------------------

    async def _try(self, link: Link) -> Outcome:
        trip = Trip(self.config.deadline)
        try:
            outcome = await self._walk(link, trip)
        except Ended as ended:
            outcome = ended.outcome
        return replace(outcome, **trip.facts())

    async def _walk(self, link: Link, trip: Trip) -> Outcome:
        """From hop to hop, to a photo. Raises Ended."""
        first = hop = trip.hop = target(link.url)
        seen = {hop.url}
        while True:
            pace = self._pace(hop.host)
            if pace.closed is not None:
                raise pace.closed.again()
            delay = await self._wanted(hop, trip)
            if delay is not None and delay * pace.manners.share > pace.spacing:
                pace.slow_to(delay)
            async with self._turn(pace):
                found = await self._ask(link, trip, hop, pace)
                if isinstance(found, Sent):
                    return await self._kept(link, found)
            hop = trip.hop = found
            await self._check_hop(first, hop, seen)

    async def _wanted(self, hop: Target, trip: Trip) -> float | None:
        """The Crawl-delay. A host that does not answer about its robots.txt costs its links that time."""
        began = asyncio.get_running_loop().time()
        try:
            return await self._robots.check(hop)
        except Ended:
            trip.seconds += asyncio.get_running_loop().time() - began
            raise

    async def _check_hop(self, first: Target, hop: Target, seen: set[str]) -> None:
        if hop.url in seen:
            raise Ended(State.too_many_redirects, "a circle")
        if len(seen) > self.config.redirects:
            raise Ended(State.too_many_redirects, f"more than {self.config.redirects}")
        seen.add(hop.url)
        if hop.is_home and not first.is_root:
            await self._guarded(hop)  # somebody's private home page is not one
            raise Ended(State.redirected_home, f"to {hop.url}")

    async def _guarded(self, hop: Target) -> None:
        try:
            await self._guard.places(hop.host, hop.port)
        except OSError as error:
            raise Ended(State.host_down, f"DNS does not answer: {error}", lasting=False) from error

    async def _ask(self, link: Link, trip: Trip, hop: Target, pace: Pace) -> Target | Sent:
        """Where this hop leads, or the photo that it is. Raises Ended."""
        conditions = link.conditions(hop.url)
        async with self._answer(trip, hop, pace, conditions) as answer:
            if answer.status in _REDIRECTS:
                return redirected(hop, answer.headers.get("Location"))
            headers = answer.headers
            validators = headers.get("ETag"), headers.get("Last-Modified")
            if answer.status == 304 and conditions:
                return Sent(None, validators[0] or link.etag, validators[1] or link.last_modified)
            check_status(answer)
            if refused := tag_refusal(headers.getall("X-Robots-Tag", [])):
                raise Ended(State.refused_by_robots, refused)
            if answer.content_type in _PAGES and hop.may_be_home and hop.url != target(link.url).url:
                raise Ended(State.redirected_home, f"to {hop.url}")
            if answer.content_type in _NO_PHOTOS:
                raise Ended(State.not_an_image, f"is {answer.content_type}")
            encoding, most = headers.get("Content-Encoding"), self.config.max_bytes
            body = await read_body(answer.content, answer.content_length, encoding, most, trip.read)
            return Sent(body, *validators)

    async def _kept(self, link: Link, sent: Sent) -> Outcome:
        sha256 = link.source_sha256 if sent.source is None else hashlib.sha256(sent.source).hexdigest()
        ok = Outcome(
            State.ok, etag=sent.etag, last_modified=sent.last_modified, source_sha256=sha256, unchanged=True
        )
        if sent.source is None or sha256 == link.source_sha256:
            return ok
        photo, facts = await self.decoder.kept(sent.source)
        return replace(ok, unchanged=False, photo=photo, facts=facts)

    async def _fetch_robots(self, wanted: Target) -> Fetched:
        hop = target(f"{wanted.origin}/robots.txt")
        trip = Trip(self.config.deadline)
        for _ in range(_ROBOTS_HOPS + 1):
            pace = self._pace(hop.host)
            async with self._turn(pace), self._answer(trip, hop, pace, {}) as answer:
                if answer.status == 200:
                    encoding = answer.headers.get("Content-Encoding")
                    text = await read_start(answer.content, encoding, LARGEST, trip.read)
                    return Fetched(200, text.decode("utf-8", "replace"))
                if answer.status not in _REDIRECTS:
                    return Fetched(answer.status, "")
                try:
                    hop = redirected(hop, answer.headers.get("Location"))
                except Ended:
                    break
        return Fetched(404, "")  # RFC 9309: one that cannot be got to is none

    # -- one request ---------------------------------------------------------------------------

    def _pace(self, host: str) -> Pace:
        if host not in self._paces:
            share = 1 if self._owns(host) else self._workers
            self._paces[host] = Pace(Manners.of(self.config, share))
        return self._paces[host]

    @asynccontextmanager
    async def _turn(self, pace: Pace) -> AsyncIterator[None]:
        """One of the host's connections and of the worker's, when it is the host's turn."""
        async with pace.connections:
            while True:
                await pace.wait()
                async with self._slots:
                    if pace.take():
                        yield
                        return

    @asynccontextmanager
    async def _answer(
        self, trip: Trip, hop: Target, pace: Pace, headers: dict[str, str]
    ) -> "AsyncIterator[ClientResponse]":
        """The answer to a GET, within what is left of the deadline; tells the pace how the host did."""
        began = asyncio.get_running_loop().time()
        trip.status = None
        try:
            async with asyncio.timeout(max(trip.deadline - trip.seconds, 0.0)):
                if literal(hop.host) is not None:  # aiohttp asks its resolver about names alone
                    await self._guard.places(hop.host, hop.port)
                where = URL(hop.url, encoded=True)
                async with self._session.get(where, headers=headers, allow_redirects=False) as answer:
                    trip.status = answer.status
                    tell(pace, answer)
                    yield answer
        except Ended as ended:
            if trip.status is None:
                pace.failed(ended.outcome, for_good=True)  # no such name, or one that may not be asked
            raise
        except FAILURES as error:
            failure = ended_by(error)
            pace.failed(failure.outcome)
            raise failure from error
        finally:
            trip.seconds += asyncio.get_running_loop().time() - began


def tell(pace: Pace, answer: "ClientResponse") -> None:
    """How the host did, by its status: one that refuses or is overloaded is asked less."""
    status = answer.status
    if status in (403, 429) or status >= 500:
        state = State.throttled if status == 429 else State.http_error
        asked = retry_after(answer.headers.get("Retry-After"))
        pace.failed(Outcome(state, f"answers {status}", again_after=asked))
    else:
        pace.worked()


def check_status(answer: "ClientResponse") -> None:
    """Raises Ended unless there is a photo in the answer."""
    status = answer.status
    if status == 200:
        return
    asked = retry_after(answer.headers.get("Retry-After"))
    if status in _GONE:
        raise Ended(State.dead, f"answers {status}")
    if status == 429 or (status == 503 and asked is not None):
        raise Ended(State.throttled, f"answers {status}", lasting=False, again_after=asked)
    raise Ended(State.http_error, f"answers {status}", lasting=status < 500, again_after=asked)
