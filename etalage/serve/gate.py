"""What every request passes, whatever its route: who calls, the key, the bundle's name, the count.

Plain ASGI: it costs microseconds and sees every answer, errors and 404 included.
"""

import hashlib
import hmac
import logging
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etalage.errors import KeyRefused, RequestError
from etalage.serve.answers import refused, refused_as
from etalage.serve.gauges import Gauges
from etalage.serve.limits import CLIENT_GONE
from etalage.serve.reload import BundleWatcher
from etalage.web.callers import Callers, Headers

log = logging.getLogger("etalage.serve")

OPEN = frozenset({"/", "/healthz", "/readyz"})
"""Answered without a key: a supervisor has none, and who looks for the description does not know it yet."""

BUNDLE_HEADER = b"x-etalage-bundle"
JSON = (b"content-type", b"application/json")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""Others are counted as OTHER: a label's values must not be a stranger's to choose."""


class Gate:
    """Outermost middleware. Takes the bundle once per request, for all parts of the answer."""

    def __init__(
        self, app: ASGIApp, window: BundleWatcher, gauges: Gauges, callers: Callers, key: str | None
    ) -> None:
        self._app = app
        self._window = window
        self._gauges = gauges
        self._callers = callers
        # Digests, so that the comparison's time tells nothing, not even the key's length.
        self._key = None if key is None else _digest(b"Bearer " + key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        recommender = self._window.current
        scope.setdefault("state", {})["recommender"] = recommender
        bundle = None if recommender is None else recommender.bundle
        status = 0
        extra = [] if bundle is None else [(BUNDLE_HEADER, bundle.encode())]

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            self._callers.check(scope)
            extra += self._callers.cors(scope)
            if (told := self._callers.preflight(scope)) is not None:  # a browser asks that without the key
                await _answer(named, 204, b"", told)
            elif self._admits(scope):
                await self._app(scope, receive, named)
            else:
                error = KeyRefused("a key is needed: send the header `Authorization: Bearer KEY`")
                realm = (b"www-authenticate", b'Bearer realm="etalage"')
                await _answer(named, 401, refused(bundle, error), [JSON, realm])
        except RequestError as error:
            if status != 0:
                raise
            await _answer(named, error.http_status, refused(bundle, error), [JSON])
        except ClientDisconnect:  # or it was closed, as it let us wait for the rest (connection.py)
            status = status or CLIENT_GONE
            self._gauges.dropped("gone", False)
            path = getattr(scope.get("route"), "path", "?")
            log.info("%s %s: the client went away before all of its request was there", scope["method"], path)
        except Exception:
            log.exception("%s %s failed", scope["method"], getattr(scope.get("route"), "path", "?"))
            if status == 0:
                await _answer(named, 500, refused_as(bundle, "InternalError", "see the server's log"), [JSON])
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            self._gauges.answered(method, route, status, time.perf_counter() - began)

    def _admits(self, scope: Scope) -> bool:
        if self._key is None or scope["path"] in OPEN:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(_digest(_scheme(given[0])), self._key)


def _scheme(value: bytes) -> bytes:
    """`bearer KEY` → `Bearer KEY`: the scheme's case does not matter, the key's does."""
    return b"Bearer " + value[7:].strip() if value[:7].lower() == b"bearer " else value


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


async def _answer(send: Any, status: int, body: bytes, headers: Headers) -> None:
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
    headers = [*headers, *length]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
