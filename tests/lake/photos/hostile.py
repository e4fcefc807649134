"""A server that misbehaves in every way that we know of, on loopback; and one that answers as it should.

It speaks raw bytes over asyncio's sockets: an HTTP server would not let it lie. What it does is decided by
the path; `/photo/7.jpg` is a photo, always the same one for the same number.
"""

import asyncio
import gzip
import io
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

from etalage.config import PhotosConfig

HTML = b"<!DOCTYPE html><html><body>Sold out</body></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>'
GIGABYTE_OF_ZEROS = 2**30
TLS_HANDSHAKE = b"\x16"


def jpeg(number: int, width: int = 96, height: int = 64, quality: int = 90) -> bytes:
    """A photo of smooth patches, wider than high."""
    small = np.random.default_rng(number).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return sink.getvalue()


@dataclass(frozen=True)
class Questions:
    """One request as it came."""

    host: str
    path: str
    headers: dict[str, str]
    when: float
    connection: int


@dataclass
class Hostile:
    """Use as a `with`. `robots`: host → status and text of its robots.txt; others have none (404)."""

    tls: ssl.SSLContext | None = None
    robots: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """Path → what lies there now, with an ETag."""
    asked: list[Questions] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)
    port: int = 0
    open_now: Counter[str] = field(default_factory=Counter)
    open_most: Counter[str] = field(default_factory=Counter)
    delay: float = 0.0
    """Seconds before each answer."""
    gate: Callable[[str], None] | None = None
    """Told each path before it is answered."""

    def __enter__(self) -> "Hostile":
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def start() -> None:
            self._connections = 0
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
            self.port = self._server.sockets[0].getsockname()[1]
            ready.set()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(start())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(120)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def stop() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(120)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(120)

    def config(self, **changed: Any) -> PhotosConfig:
        """Settings for asking this server, at every name of *.test: quick, and patient with a busy one."""
        quick = {
            "hosts": {"*.test": f"127.0.0.1:{self.port}"},
            "allow_networks": ("127.0.0.0/8",),
            "workers": 1,
            "spacing": 0.0,
            "backoff": 0.01,
            "tries": 1,
            "deadline": 240.0,
            "patience": 2.0,
            "decode_seconds": 60.0,
            "connect_seconds": 120.0,
            "max_bytes": 2**20,
        }
        return PhotosConfig(**quick | changed)

    def paths(self, host: str | None = None, robots: bool = False) -> list[str]:
        """What was asked for, in order."""
        mine = [one for one in self.asked if host in (None, one.host)]
        return [one.path for one in mine if robots or one.path != "/robots.txt"]

    # -- serving -------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            while request := await self._request(reader, number):
                self.open_now[request.host] += 1
                self.open_most[request.host] = max(self.open_most[request.host], self.open_now[request.host])
                try:
                    await asyncio.sleep(self.delay)
                    if not await self._answer(request, Out(writer)):
                        return
                finally:
                    self.open_now[request.host] -= 1
        except ConnectionError as error:
            if "https" in str(error):
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        except (asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, number: int) -> Questions | None:
        try:
            first = await reader.readexactly(1)
            if first == TLS_HANDSHAKE:
                raise ConnectionError("somebody means https")
            head = first + await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        request_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        split = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in split}
        path = request_line.split(" ")[1]
        asked = Questions(headers["host"].partition(":")[0], path, headers, time.monotonic(), number)
        self.asked.append(asked)
        self.times[path] += 1
        if self.gate is not None:
            self.gate(path)
        return asked

    async def _answer(self, asked: Questions, out: "Out") -> bool:
        """→ whether the connection stays open."""
        parts = urlsplit(asked.path)
        path, query = unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}
        if path == "/robots.txt":
            status, text = self.robots.get(asked.host, (404, b""))
            return await out.send(status, text, {"Content-Type": "text/plain"})
        if path in self.files:
            return await self._file(asked, self.files[path], out)
        if path.startswith("/photo/"):
            return await out.send(200, jpeg(int(path[7:].removesuffix(".jpg"))))
        act: Callable[..., Coroutine[Any, Any, bool]] | None = getattr(
            self, "_" + path.strip("/").split("/")[0].replace("-", "_").replace(".", "_"), None
        )
        return await (act(asked, out, query) if act else out.send(404, b"nothing here"))

    async def _file(self, asked: Questions, content: bytes, out: "Out") -> bool:
        tag = f'"{hash(content) & 0xFFFFFFFF:x}"'
        if asked.headers.get("if-none-match") == tag:
            return await out.send(304, b"", {"ETag": tag})
        kind = {"Content-Type": "text/html"} if content.startswith(b"<") else {}
        return await out.send(200, content, {"ETag": tag, **kind})

    # -- what it does, by the first step of the path ----------------------------------------------

    async def _status(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """/status?code=418&header=Name: value"""
        extra = dict([query["header"].split(": ", 1)]) if "header" in query else {}
        body = b"" if query["code"] in ("204", "304") else b"as you like"
        return await out.send(int(query["code"]), body, extra)

    async def _to(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """/to?where=http://…"""
        return await out.send(int(query.get("code", 302)), b"", {"Location": query["where"]})

    async def _nowhere(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        return await out.send(302, b"")

    async def _chain(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """/chain/3 → /chain/2 → /chain/1 → a photo."""
        left = int(asked.path.rpartition("/")[2])
        return await out.send(302, b"", {"Location": f"/chain/{left - 1}" if left > 1 else "/photo/1.jpg"})

    async def _loop_a(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        return await out.send(301, b"", {"Location": "/loop-b"})

    async def _loop_b(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        return await out.send(301, b"", {"Location": "/loop-a"})

    async def _file_of_type(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        content = {"html": HTML, "svg": SVG, "photo": jpeg(3), "nothing": b"", "noise": bytes(range(256)) * 9}
        return await out.send(200, content[query["content"]], {"Content-Type": query["type"]})

    async def _tagged(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        return await out.send(200, jpeg(4), {"X-Robots-Tag": query["tag"]})

    async def _recovering(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """Fails `fails` times, then a photo."""
        if self.times[asked.path] <= int(query["fails"]):
            return await out.send(int(query["code"]), b"later")
        return await out.send(200, jpeg(5))

    async def _later(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """429 once, with Retry-After in seconds or as a date; then a photo."""
        if self.times[asked.path] > 1:
            return await out.send(200, jpeg(6))
        after = query["after"]
        if query.get("as") == "date":
            after = format_datetime(datetime.now(UTC) + timedelta(seconds=float(after)), usegmt=True)
        return await out.send(429, b"", {"Retry-After": after})

    async def _silent(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        await asyncio.sleep(3600)
        return False

    async def _hang_up(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        return False

    async def _garbage(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        await out.raw(b"220 mail.example ESMTP\r\n\r\n")
        return False

    async def _drip(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """A byte every 50 ms: no pause is ever long."""
        await out.raw(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await out.raw(b"\xff")
            await asyncio.sleep(0.05)

    async def _drip_head(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        await out.raw(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            await out.raw(b"x")
            await asyncio.sleep(0.05)

    async def _endless(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        await out.raw(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await out.raw(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    async def _endless_head(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        await out.raw(b"HTTP/1.1 200 OK\r\n")
        while True:
            await out.raw(b"X-More: and more\r\n" * 1000)

    async def _short(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """Promises more than it sends."""
        await out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + jpeg(7)[:200])
        return False

    async def _promise(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """Promises a terabyte, and begins."""
        await out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + jpeg(7))
        await asyncio.sleep(3600)
        return False

    async def _inflating(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """A megabyte on the wire, a gigabyte when inflated."""
        packed = _zeros()
        return await out.send(200, packed, {"Content-Encoding": "gzip"})

    async def _packed(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """A photo, sent packed although nobody asked for that."""
        return await out.send(200, gzip.compress(jpeg(8)), {"Content-Encoding": query["as"]})

    async def _cut(self, asked: Questions, out: "Out", query: dict[str, str]) -> bool:
        """Whole by its Content-Length, but half of a photo."""
        whole = jpeg(9, 400, 300)
        return await out.send(200, whole[: len(whole) // 2])


_ZEROS: list[bytes] = []


def _zeros() -> bytes:
    if not _ZEROS:
        _ZEROS.append(gzip.compress(bytes(GIGABYTE_OF_ZEROS), 1))
    return _ZEROS[0]


@dataclass(frozen=True)
class Out:
    """The way back."""

    writer: asyncio.StreamWriter

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> bool:
        told = {"Content-Type": "image/jpeg"} | (headers or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        head = f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
        await self.raw(head + (b"" if status == 304 else body))
        return True


def certificate(folder: Path, name: str, days: int = 1) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for `name`, which ends in so many days, and the server's side of it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
