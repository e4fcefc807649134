"""The merchants' photo servers: virtual hosts of one HTTP server on loopback, which misbehave as planned.

python examples/universal_catalogue/server.py PLAN.json REQUESTS.jsonl

PLAN.json (feeds.py writes it): {"links": {url: {"how": ..., "file": ...}}, "robots": {host: text}}.
Prints one line, `listening PORT CLOSED`: its port, and one that is held and refuses every connection.
Each request is one line of REQUESTS.jsonl, so that a crawler's manners can be counted afterwards.
"""

import asyncio
import hashlib
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

PATIENCE = 120.0
"""Seconds after which a request that is never answered, or a body that drips, ends."""
HTML = b"<!doctype html><title>Welcome</title><h1>Welcome to our shop</h1><p>Fresh every day.</p>"
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
"""A transparent GIF of one pixel, as they count visits."""


@dataclass
class Request:
    """What came in, and how to answer it; `status` is what was sent."""

    host: str
    path: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int = 0

    async def answer(
        self, status: int, body: bytes = b"", kind: str = "text/html; charset=utf-8", **headers: str
    ) -> None:
        """A whole answer; `headers` by their names with _ for -."""
        self.head(status, len(body), kind, **headers)
        self.writer.write(body)
        await self.writer.drain()

    def head(self, status: int, length: int, kind: str, **headers: str) -> None:
        """Status line and headers alone."""
        self.status = status
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"Content-Length: {length}"]
        lines.append(f"Content-Type: {kind}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))


REASONS = {
    200: "OK",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    404: "Not Found",
    410: "Gone",
}


@dataclass
class Shops:
    """All hosts by the plan; counts what was asked, and how often at once."""

    links: dict[str, dict[str, Any]]
    robots: dict[str, str]
    log: TextIO
    asked: Counter[str] = field(default_factory=Counter)
    open_now: Counter[str] = field(default_factory=Counter)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive until either side ends it."""
        try:
            while request := await read(reader, writer):
                self.open_now[request.host] += 1
                begun = time.time()
                keep = False
                try:
                    keep = await self.route(request)
                finally:
                    self.note(request, begun)
                    self.open_now[request.host] -= 1
                if not keep or request.headers.get("connection") == "close":
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def note(self, request: Request, begun: float) -> None:
        """One line of the log: when it came, of whom it was asked, what was sent, how many at once."""
        line = {
            "time": begun,
            "host": request.host,
            "path": request.path,
            "status": request.status,
            "at_once": self.open_now[request.host],
            "agent": request.headers.get("user-agent", ""),
        }
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()

    async def route(self, request: Request) -> bool:
        """Answer; → may the connection be kept?"""
        url = f"http://{request.host}{request.path}"
        if request.path == "/robots.txt":
            await request.answer(200, self.robots.get(request.host, "").encode(), "text/plain")
            return True
        if request.path == "/":
            await request.answer(200, HTML)
            return True
        link = self.links.get(url)
        if link is None:
            await request.answer(404, b"no such page")
            return True
        self.asked[url] += 1
        return await ANSWERS[link["how"]](request, link, self.asked[url])


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request's head; None at the connection's end. Bodies are not expected and not read."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    _, path, _ = first.split(" ", 2)
    return Request(headers.get("host", "").partition(":")[0].lower(), path, headers, reader, writer)


# -- how a link may answer; each says whether the connection may be kept -----------------------


async def photo(request: Request, link: dict[str, Any], asked: int) -> bool:
    body = Path(link["file"]).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    if request.headers.get("if-none-match") == tag:
        await request.answer(304, b"", "image/jpeg", ETag=tag)
    else:
        await request.answer(200, body, "image/jpeg", ETag=tag, **link.get("headers", {}))
    return True


async def busy(request: Request, link: dict[str, Any], asked: int) -> bool:
    """429 at first, then fine."""
    if asked > 1:
        return await photo(request, link, asked)
    await request.answer(429, b"one after the other, please", Retry_After="1")
    return True


async def shaky(request: Request, link: dict[str, Any], asked: int) -> bool:
    """503 at first, then fine."""
    if asked > 1:
        return await photo(request, link, asked)
    await request.answer(503, b"back in a moment")
    return True


async def moved(request: Request, link: dict[str, Any], asked: int) -> bool:
    await request.answer(301, Location=link["to"])
    return True


async def home(request: Request, link: dict[str, Any], asked: int) -> bool:
    """What is sold out leads to the shop's front page."""
    await request.answer(302, Location=f"http://www.{request.host.partition('.')[2]}/")
    return True


async def loop(request: Request, link: dict[str, Any], asked: int) -> bool:
    await request.answer(302, Location=f"http://{request.host}{request.path}")
    return True


async def page(request: Request, link: dict[str, Any], asked: int) -> bool:
    """A page that says it is a JPEG."""
    await request.answer(200, HTML, "image/jpeg")
    return True


async def cut(request: Request, link: dict[str, Any], asked: int) -> bool:
    """Half a JPEG, honestly announced as so many bytes."""
    body = Path(link["file"]).read_bytes()
    await request.answer(200, body[: len(body) // 2], "image/jpeg")
    return True


async def short(request: Request, link: dict[str, Any], asked: int) -> bool:
    """A body that ends before its announced length."""
    body = Path(link["file"]).read_bytes()
    request.head(200, len(body), "image/jpeg")
    request.writer.write(body[: len(body) // 3])
    await request.writer.drain()
    return False


async def pixel(request: Request, link: dict[str, Any], asked: int) -> bool:
    await request.answer(200, PIXEL, "image/gif")
    return True


async def silent(request: Request, link: dict[str, Any], asked: int) -> bool:
    """Nothing, until the other side has had enough."""
    await until_left(request, b"")
    return False


async def drip(request: Request, link: dict[str, Any], asked: int) -> bool:
    """A body of which a byte comes now and then."""
    request.head(200, 100_000, "image/jpeg")
    await until_left(request, b"\xff")
    return False


async def until_left(request: Request, crumb: bytes) -> None:
    """Send a crumb now and then, until the other side ends the connection."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        request.writer.write(crumb)
        await request.writer.drain()
        with suppress(TimeoutError):
            await asyncio.wait_for(request.reader.read(1), 0.2)
            return


def status(code: int) -> Callable[[Request, dict[str, Any], int], Awaitable[bool]]:
    async def answer(request: Request, link: dict[str, Any], asked: int) -> bool:
        await request.answer(code, b"<p>No.</p>")
        return True

    return answer


ANSWERS: dict[str, Callable[[Request, dict[str, Any], int], Awaitable[bool]]] = {
    "photo": photo, "opted_out": photo, "fenced": photo, "busy": busy, "shaky": shaky, "moved": moved,
    "home": home, "page": page, "cut": cut, "short": short, "pixel": pixel, "silent": silent, "drip": drip,
    "missing": status(404), "gone": status(410), "forbidden": status(403), "error": status(500),
    "loop": loop,
}  # fmt: skip
"""`opted_out` (a header in the link) and `fenced` (robots.txt) would answer: who obeys does not take them."""


async def run(plan: Path, log: Path) -> None:
    """Serve `plan` until the process is ended."""
    whole = json.loads(plan.read_text(encoding="utf-8"))
    held = socket.socket()  # bound and never listening: whoever connects is refused
    held.bind(("127.0.0.1", 0))
    with log.open("a", encoding="utf-8") as lines:
        shops = Shops(whole["links"], whole["robots"], lines)
        server = await asyncio.start_server(shops.connected, "127.0.0.1", whole.get("port", 0))
        print("listening", server.sockets[0].getsockname()[1], held.getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit(0)
