"""One client's connection: how large a request's head may be, and how long the client may keep us waiting.

uvicorn would gather a head without end, and holds a client that sends half a request for as long as it likes.
"""

import asyncio
import time

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 1024
SILENT_SECONDS = 8.0
"""Nothing heard for so long, while a request is awaited or unfinished: closed. A head has as long in all,
drop by drop too."""
REQUEST_SECONDS = 60.0
"""From the first byte of a request to its last."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits on size and patience."""

    silent_seconds, request_seconds = SILENT_SECONDS, REQUEST_SECONDS
    _receiving = True
    """Waiting for a request, or for the rest of one; False while it is answered."""
    _in_head = True
    _head = 0
    _began = 0.0
    _heard = 0.0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()
        self._look()

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

    def data_received(self, data: bytes) -> None:
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
        """Close a client that was waited for long enough, or look again when that may be so."""
        now = time.monotonic()
        since = self._began if self._in_head else self._heard
        end = min(since + self.silent_seconds, self._began + self.request_seconds)
        if not self._receiving:  # the keep-alive of uvicorn minds the pause between two requests
            end = now + self.silent_seconds / 8
        elif now >= end:
            self.transport.close()
            return
        self._watch = self.loop.call_later(max(end - now, 0.001), self._look)
