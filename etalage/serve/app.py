"""The HTTP application: routes over one Window. No scoring in it, no state beyond it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from etalage import __version__
from etalage.config import ServeConfig
from etalage.errors import EtalageError
from etalage.serve import wire
from etalage.serve.gate import Gate
from etalage.serve.gauges import Gauges
from etalage.serve.limits import RETRY_AFTER_SECONDS, Scorer
from etalage.serve.openapi import described
from etalage.serve.reload import Window, watched
from etalage.serve.routes import health, v1


def create_app(bundles: Path, config: ServeConfig, key: str | None = None) -> FastAPI:
    """The server of the shop whose bundles/ folder is `bundles`; with `key`, only its bearer is served.

    Starts without a bundle too: /readyz then answers 503 until one is published.
    """
    scorer = Scorer(config.max_waiting)
    gauges = Gauges(waiting=lambda: scorer.waiting)
    window = Window(bundles, gauges, config.reload_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with watched(window):
            yield
        scorer.close()

    app = FastAPI(
        title="Etalage",
        version=__version__,
        description="What is like this? Every answer names the bundle that it came from.",
        lifespan=lifespan,
        docs_url=None,  # the usual pages fetch their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # an item_id may end in a slash
    )
    app.state.window, app.state.scorer, app.state.gauges, app.state.config = window, scorer, gauges, config
    app.include_router(health)
    app.include_router(v1)
    app.add_exception_handler(EtalageError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_middleware(Gate, window=window, gauges=gauges, key=key)
    app.openapi = lambda: described(app, needs_key=key is not None)  # type: ignore[method-assign]
    return app


def _bundle(request: Request) -> str | None:
    recommender = request.state.recommender
    return None if recommender is None else str(recommender.bundle)


async def _refused(request: Request, error: Any) -> Response:
    headers = {"retry-after": str(RETRY_AFTER_SECONDS)} if error.http_status == 503 else {}
    if error.http_status == 413:
        headers["connection"] = "close"  # or the rest of what is too large would still be read
    body = wire.error_answer(_bundle(request), error)
    return Response(body, error.http_status, headers, media_type="application/json")


async def _invalid(request: Request, error: Any) -> Response:
    body = wire.problem(_bundle(request), "Unprocessable", wire.explain(error.errors()))
    return Response(body, 422, media_type="application/json")


async def _unrouted(request: Request, error: Any) -> Response:
    name = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "RequestError")
    body = wire.problem(_bundle(request), name, f"{request.method}: {error.detail}")
    return Response(body, error.status_code, error.headers, media_type="application/json")
