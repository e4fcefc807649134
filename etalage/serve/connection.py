"""One client's connection: how large a request's head may be, how long the client may keep us waiting, and
how many there are.

uvicorn would gather a head without end, and holds a client that sends half a request, an empty line after its
answer, or reads nothing of it, for as long as it likes (F26, F64).
"""

import asyncio
import fcntl
import ipaddress
import resource
import sys
import termios
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 1024
SILENT_SECONDS = 8.0
"""Nothing heard for so long, while a request is awaited or unfinished: closed. A head has as long in all,
drop by drop too. Nothing read of an answer for so long: cut off."""
REQUEST_SECONDS = 60.0
"""From the first byte of a request to its last; and so long an answer may be on its way."""
MAX_CONNECTIONS = 1000
RESERVED_FILES = 128
"""Descriptors that are left for the bundle, the online store, the log, and for saying no."""
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 47\r\n\r\n"
    b"There are too many connections; try again soon."
)


def most_connections(wanted: int = MAX_CONNECTIONS) -> int:
    """As many, or those that the process has descriptors for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if files == resource.RLIM_INFINITY else max(2, min(wanted, files - RESERVED_FILES))


def network_of(host: str) -> str:
    """What one client may choose its addresses from: `203.0.113.7`, but `2001:db8:1:2::/64`."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.split("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def _on_its_way(transport: asyncio.Transport) -> int:
    """Bytes that the system holds for the client: of megabytes it takes more only when many are gone, so that
    one who reads slowly would look like one who does not read."""
    try:
        found = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, AttributeError, ValueError):
        return 0
    return int.from_bytes(found, sys.byteorder)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on size and patience."""

    silent_seconds, request_seconds = SILENT_SECONDS, REQUEST_SECONDS
    max_connections = MAX_CONNECTIONS
    """Of all clients; of one address (IPv6: of one /64) half as many."""
    _receiving = True
    """Waiting for a request, or for the rest of one; False while it is answered."""
    _in_head = True
    _head = 0
    _began = 0.0
    _heard = 0.0
    network: str | None = None
    """Whose connection it is."""
    _unread = 0
    """Bytes of answers that the client had not read when we last looked."""
    _read = 0.0
    """When it last had read some."""
    _behind: float | None = None
    """Since when it has been behind."""
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()
        self._look()
        if self._too_many():
            transport.write(_FULL)
            transport.close()

    def _too_many(self) -> bool:
        """Whether there are, this one included: in all, or of its network."""
        self.network = network_of(self.client[0]) if self.client else None
        same = sum(getattr(one, "network", None) == self.network for one in self.connections)
        return len(self.connections) > self.max_connections or same > max(1, self.max_connections // 2)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._receiving and self.cycle.response_complete:
            self._begin()  # of the next request: an empty line is none of it

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._heard = time.monotonic()
        super().data_received(data)
        self._head = self._head + len(data) if self._in_head else 0
        if self._head > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def _begin(self) -> None:
        self._receiving = self._in_head = True
        self._head = 0
        self._began = self._heard = time.monotonic()

    def _look(self) -> None:
        """Close a client that was waited for long enough, cut off one that does not read, or look again when
        that may be so."""
        now = time.monotonic()
        if self._stalled(now):
            self.transport.abort()
            return
        since = self._began if self._in_head else self._heard
        end = min(since + self.silent_seconds, self._began + self.request_seconds)
        soon = now + self.silent_seconds / 16
        if not self._receiving or self._unread:  # the keep-alive of uvicorn minds the pause between requests
            end = soon if not self._receiving else min(end, soon)
        if now >= end:
            self.transport.close()  # once what was answered is read
            end = soon
        self._watch = self.loop.call_later(max(end - now, 0.001), self._look)

    def _stalled(self, now: float) -> bool:
        """Whether the client has read nothing of what is there for it for too long, or takes too long."""
        unread = self.transport.get_write_buffer_size() + _on_its_way(self.transport)
        if unread == 0 or self._behind is None:
            self._behind = now if unread else None
            self._read = now
        elif unread != self._unread:
            self._read = now
        self._unread = unread
        if self._behind is None:
            return False
        return now - self._read > self.silent_seconds or now - self._behind > self.request_seconds
