"""The HTTP application: routes over one Window. No scoring in it, no state beyond it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from etalage import __version__
from etalage.bundle.pointer import Bundles
from etalage.config import ServeConfig
from etalage.errors import EtalageError
from etalage.lake.erasures import Erasures
from etalage.online.marks import read_marks
from etalage.serve.answers import refused, refused_as
from etalage.serve.erased import followed
from etalage.serve.gate import Gate
from etalage.serve.gauges import Gauges
from etalage.serve.limits import RETRY_AFTER_SECONDS, Worker
from etalage.serve.online import Online
from etalage.serve.openapi import described
from etalage.serve.reload import BundleWatcher, watched
from etalage.serve.requests import explain
from etalage.serve.routes import classifiers, health, v1
from etalage.serve.shopper_routes import shoppers
from etalage.web.callers import Callers


@dataclass(frozen=True)
class ServedShop:
    """What of a shop its server knows."""

    bundles: Bundles
    live: Path
    """The folder of its online store, and of what it remembers of its stores."""
    erasures: Erasures

    @classmethod
    def beside(cls, bundles: Path) -> "ServedShop":
        """Of a shop all of which lies in the folder that `bundles` is in."""
        return cls(Bundles(bundles), bundles.parent / "live", Erasures(bundles.parent / "tables"))


ROUTERS = (health, v1, shoppers, classifiers)


def create_app(shop: Path | ServedShop, config: ServeConfig, key: str | None = None) -> FastAPI:
    """The server of a shop; with `key`, only its bearer is served. A path is the bundles/ folder of a shop
    that lies whole on this machine.

    Its online store is `config.live`, or a file in the shop: live/events.sqlite.

    Starts without a bundle too: /readyz then answers 503 until one is published. Raises ConfigError,
    ServeError: [serve] hosts and origins.
    """
    served = shop if isinstance(shop, ServedShop) else ServedShop.beside(shop)
    callers = Callers(config.host, config.hosts, config.origins, has_key=key is not None)
    gauges = Gauges(scoring=lambda: scorer.waiting, keeping=lambda: keeper.waiting)
    scorer = Worker(config.max_waiting, "scorer", gauges.dropped)
    keeper = Worker(config.max_waiting, "keeper", gauges.dropped)
    window = BundleWatcher(served.bundles, gauges, config.reload_seconds)
    online = _online(served, config, gauges)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        online.start()
        async with watched(window), followed(served.erasures):
            yield
        scorer.close()
        keeper.close()
        online.close()

    app = FastAPI(
        title="Etalage",
        version=__version__,
        description="What is this? What is like it? What would a shopper want? Answers name their bundle.",
        lifespan=lifespan,
        docs_url=None,  # the usual pages fetch their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # an item_id may end in a slash
    )
    app.state.window, app.state.gauges, app.state.config = window, gauges, config
    app.state.scorer, app.state.keeper, app.state.online = scorer, keeper, online
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(EtalageError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_middleware(Gate, window=window, gauges=gauges, callers=callers, key=key)
    app.openapi = lambda: described(app, needs_key=key is not None)  # type: ignore[method-assign]
    return app


def _online(served: ServedShop, config: ServeConfig, gauges: Gauges) -> Online:
    where = config.live or served.live / "events.sqlite"
    online = Online(where, lambda: read_marks(served.live).seeded, gauges.store_failed, served.erasures)
    gauges.watch_store(lambda: online.unreadable or online.emptied, lambda: online.unwritable)
    return online


def _bundle(request: Request) -> str | None:
    recommender = request.state.recommender
    return None if recommender is None else str(recommender.bundle)


async def _refused(request: Request, error: Any) -> Response:
    headers = {"retry-after": str(RETRY_AFTER_SECONDS)} if error.http_status == 503 else {}
    # After a 413 the connection stays: closed with the rest unread, it would be reset and the answer lost
    # (RFC 9112, 9.6). What still comes is thrown away, for as long as a request may take (connection.py).
    body = refused(_bundle(request), error)
    return Response(body, error.http_status, headers, media_type="application/json")


async def _invalid(request: Request, error: Any) -> Response:
    body = refused_as(_bundle(request), "Unprocessable", explain(error.errors()))
    return Response(body, 422, media_type="application/json")


async def _unrouted(request: Request, error: Any) -> Response:
    name = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "RequestError")
    body = refused_as(_bundle(request), name, f"{request.method}: {error.detail}")
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        headers["allow"] = _allowed(request.scope["path"]) or headers.get("allow", "")
    return Response(body, error.status_code, headers, media_type="application/json")


def _allowed(path: str) -> str:
    """Every method of a path: two routes may share one, and each knows only its own."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    first = next((route for route in routes if route.path_regex.match(path)), None)
    methods = {method for r in routes if first and r.path == first.path for method in r.methods or ()}
    return ", ".join(sorted(methods))
