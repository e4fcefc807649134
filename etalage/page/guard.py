"""Who may use the page, and what a browser may do with it; the outermost layer of the application.

F59, F60: the page answers to its own names only, and takes no form that another site's page sends. A link
from elsewhere may lead here, as to any shop. F38: whatever a catalogue has in it, no script but the page's
own file runs.
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from etalage.errors import RequestError
from etalage.web.callers import Advice, Callers

SAFE = frozenset({"GET", "HEAD"})
ADVICE = Advice(
    "open the address that `etalage page` prints, or name it there: --hosts {}",
    "the page takes forms from its own pages alone",
)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Guard:
    """Lets in whom `callers` knows, and says to browsers what the page may do."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """`hosts`: names that the page has beside loopback's. Raises ConfigError: one is no name; ServeError:
        it is `*`."""
        self._app = app
        self._callers = Callers("127.0.0.1", hosts, (), has_key=False, advice=ADVICE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            if scope["method"] in SAFE:
                self._callers.check_host(scope)
            else:
                self._callers.check(scope)
        except RequestError as error:
            await _refuse(error, guarded)
        else:
            await self._app(scope, receive, guarded)


async def _refuse(error: RequestError, send: Send) -> None:
    """Plain text: whoever called by another name gets nothing of the page."""
    body = f"{error}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
