"""The routes. Each takes the request's bundle once and works with nothing else."""

import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Header, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AfterValidator
from starlette.responses import Response

from etalage import api
from etalage.errors import NoBundle, NotFound, RequestError
from etalage.funnel.browsing import Sort, Wish, browse
from etalage.funnel.catalogue import Whose
from etalage.recommend import Filters, Recommender
from etalage.runtime.steps import Steps
from etalage.serve import requests
from etalage.serve.answers import media_type, whole_item, written
from etalage.serve.limits import CLIENT_GONE, DEADLINE_SECONDS, Abandoned, Worker, one_step
from etalage.serve.online import UNWRITABLE, View
from etalage.serve.openapi import answer_of, answers_of, body_of, refusals
from etalage.serve.strict_json import parse, read_body

health = APIRouter(tags=["health"])
v1 = APIRouter(prefix="/v1", tags=["v1"])
classifiers = APIRouter(prefix="/v1", tags=["categories"])
log = logging.getLogger("etalage.serve")

MAX_PAGE = 200
MAX_OFFSET = 2**31

Deadline = Annotated[
    int | None, Header(ge=1, le=60_000, description="Milliseconds to wait for the scorer; else 10,000.")
]


def json_response(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def live_of(request: Request) -> View:
    """The online store, as this request sees it."""
    view: View = request.app.state.online.view()
    return view


async def scored(request: Request, score: Callable[[], bytes], deadline_ms: int | None = None) -> Response:
    """What `score` makes, in its turn. Raises Overloaded."""
    return await scored_in_turns(request, one_step(score), deadline_ms)


async def scored_in_turns(request: Request, steps: Steps[bytes], deadline_ms: int | None = None) -> Response:
    """The same of long work, between whose steps others have their turn."""
    return await done_by(request.app.state.scorer, request, steps, deadline_ms)


async def done_by(
    worker: Worker, request: Request, steps: Steps[bytes], deadline_ms: int | None = None
) -> Response:
    """What a worker makes of `steps`. Raises Overloaded."""
    seconds = DEADLINE_SECONDS if deadline_ms is None else deadline_ms / 1000

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    began = worker.clock()
    try:
        body = await worker.do_in_turns(steps, seconds, gone)
    except Abandoned as error:
        log.info("%s %s: the client went away %s", request.method, request.scope["route"].path, error)
        return Response(status_code=CLIENT_GONE)
    if worker.clock() - began > seconds:
        request.app.state.gauges.late()
    return json_response(body)


async def tree_of(request: Request) -> Any:
    """The body, parsed. Raises RequestError, BodyTooLarge, UnsupportedMedia."""
    return parse(await read_body(request, request.app.state.config.max_body_bytes))


def current(request: Request) -> Recommender:
    recommender: Recommender | None = request.state.recommender
    if recommender is None:
        raise request.app.state.window.problem or NoBundle("the first bundle is being opened")
    return recommender


def exact_id(request: Request, before: str, after: str = "", name: str = "item_id") -> str:
    """What stands between `before` and `after` in the path, percent-decoded once.

    From the raw path: the decoded one has already lost the bytes that are not UTF-8. Raises RequestError;
    NotFound for `after` whose slash is an escaped one: that belongs to an id.
    """
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    if not raw.endswith(after.encode()):
        raise NotFound(f"{request.method}: there is nothing at this path")
    try:
        found = unquote_to_bytes(raw[len(before) : len(raw) - len(after)]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{name}: not UTF-8 at byte {error.start}") from error
    return requests.check_id(found, name)


# -- health ------------------------------------------------------------------------------------


@health.get("/", responses=answers_of(api.Entrance))
async def entrance(request: Request) -> Response:
    """What answers here, and where it says more."""
    recommender: Recommender | None = request.state.recommender
    address = str(request.base_url).rstrip("/")
    found = api.Entrance(
        "a server of Etalage: what is like an item or a photo, what a shopper would want, what a product is",
        None if recommender is None else recommender.bundle,
        openapi="/openapi.json",
        health="/healthz",
        ready="/readyz",
        metrics="/metrics",
        page=f"etalage page --url {address}",
    )
    return json_response(written(found))


@health.get("/healthz", responses=answers_of(api.Alive))
async def healthz(request: Request) -> Response:
    """The process answers."""
    recommender: Recommender | None = request.state.recommender
    bundle = None if recommender is None else recommender.bundle
    return json_response(written(api.Alive("alive", bundle)))


@health.get("/readyz", responses={**answers_of(api.Readiness), 503: answer_of(api.Readiness)})
async def readyz(request: Request) -> Response:
    """A bundle is open. `problem` says why a newer one could not take its place.

    The status is `degraded` where the online store fails, or the vector database of an index: slates are
    answered all the same.
    """
    recommender: Recommender | None = request.state.recommender
    problem, online = request.app.state.window.problem, request.app.state.online
    wrong = [online.degraded, UNWRITABLE if online.unwritable else None]
    if recommender is not None and recommender.parts.problems:
        wrong.append("the vector database does not answer, and embeddings are searched here: see the log")
    degraded = "; ".join(filter(None, wrong)) or None
    ready = "ready" if degraded is None else "degraded"
    state = api.Readiness(
        status=ready if recommender else "not ready",
        bundle=recommender.bundle if recommender else None,
        problem=None if problem is None else f"{type(problem).__name__}: see the server's log",
        degraded=degraded,
    )
    return json_response(written(state), 200 if recommender else 503)


@health.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refusals(401)},
)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(request.app.state.gauges.text(), headers={"content-type": CONTENT_TYPE_LATEST})


# -- v1 ----------------------------------------------------------------------------------------


@v1.post(
    "/similar",
    responses=answers_of(api.Answers, 400, 401, 404, 413, 415, 422, 503),
    openapi_extra={"requestBody": body_of(*requests.SIMILAR.values())},
)
async def similar(request: Request, x_deadline_ms: Deadline = None) -> Response:
    """The k items most similar to an item or to photos."""
    recommender, live = current(request), live_of(request)
    asked = requests.read_one_of(requests.SIMILAR, await tree_of(request))

    def score() -> Steps[bytes]:
        wanted: dict[str, Any] = {
            "k": asked.k,
            "filters": requests.to_filters(asked.filters),
            "threshold": asked.threshold,
            "live": live,
            "model": asked.model,
        }
        if isinstance(asked, requests.SimilarToItem):
            wanted |= {"by_behaviour": asked.by_behaviour, "same_colour": asked.same_colour}
            answers = recommender.similar(item_id=asked.item_id, **wanted)
        else:
            photos = requests.decode_photos(requests.photos_of(asked))
            answers = yield from recommender.similar_to_photos(photos, **wanted)
        return written(api.Answers(recommender.bundle, answers, live.degraded))

    return await scored_in_turns(request, score(), x_deadline_ms)


@v1.get("/items", responses=answers_of(api.Items, 401, 422, 503))
async def items(
    request: Request,
    search: Annotated[
        str,
        AfterValidator(requests.check_search),
        Query(max_length=200, description=f"At most {requests.MAX_WORDS} words of title, brand, category."),
    ] = "",
    category: Annotated[
        str | None, Query(max_length=requests.MAX_TEXT, description="This path and everything beneath it.")
    ] = None,
    in_stock: Annotated[Literal["true", "false"] | None, Query()] = None,
    min_price: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    max_price: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    classified: Annotated[
        str | None,
        Query(max_length=requests.MAX_TEXT, description="A path of the taxonomy, and all beneath it."),
    ] = None,
    min_confidence: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
    brand: Annotated[str | None, Query(max_length=requests.MAX_TEXT)] = None,
    sort: Annotated[
        Sort, Query(description="`-price`: the highest first. What has no price, or no title, comes last.")
    ] = "popular",
    forgiving: Annotated[
        Literal["true", "false"],
        Query(description="Read a word that no item has as the nearest one that some have: `instead`."),
    ] = "false",
    brands: Annotated[
        Literal["true", "false"], Query(description="Count the matching items of each brand: `brands`.")
    ] = "false",
) -> Response:
    """Browse the items, the most popular first."""
    recommender, live = current(request), live_of(request)
    stocked = None if in_stock is None else in_stock == "true"
    filters = Filters(
        category,
        min_price,
        max_price,
        stocked,
        brand,
        classified=classified,
        min_confidence=min_confidence,
    )
    wish = Wish(search, filters, sort, forgiving == "true")

    def page() -> bytes:
        catalogue, stock = recommender.catalogue, recommender.stock(live)
        found = browse(catalogue, wish, offset, limit, stock, brands=brands == "true")
        shown = [api.Item(**catalogue.shown(int(row), stock)) for row in found.rows]
        counted = [api.BrandCount(*one) for one in found.brands]
        answer = api.Items(
            recommender.bundle,
            found.total,
            offset,
            shown,
            live.degraded,
            found.instead,
            counted,
            found.proposed,
        )
        return written(answer)

    return await scored(request, page)


@v1.get("/bundle", responses=answers_of(api.BundleFacts, 401, 503))
async def bundle_facts(request: Request) -> Response:
    """What the bundle holds and can answer: whether it finds by photo, has prices, knows of acts."""
    recommender = current(request)
    return await scored(request, lambda: written(recommender.facts))


@v1.get("/categories", responses=answers_of(api.CategoryTree, 401, 422, 503))
async def categories(
    request: Request,
    of: Annotated[Whose, Query(description="As the items came, or as the classifier told.")] = "merchants",
) -> Response:
    """Every node of the category tree."""
    recommender = current(request)

    def tree() -> bytes:
        nodes = [api.Category(path, count) for path, count in recommender.catalogue.categories(of)]
        return written(api.CategoryTree(recommender.bundle, nodes))

    return await scored(request, tree)


@v1.get(
    "/items/{item_id:path}",
    responses=answers_of(api.WholeItem, 400, 401, 404, 503),
)
async def item(request: Request, item_id: str) -> Response:
    """All that the bundle knows of one item. An id's slashes may be sent as %2F or as they are."""
    recommender, live = current(request), live_of(request)
    asked = exact_id(request, "/v1/items/")

    def read() -> bytes:
        found = recommender.item(asked)
        row = recommender.catalogue.known_row(asked)
        shown = recommender.catalogue.shown(row, recommender.stock(live))
        colour = recommender.catalogue.colour(row)
        named = None if colour is None else colour[1]
        return written(whole_item(recommender.bundle, {**found, **shown}, live.degraded, named))

    return await scored(request, read)


@v1.get(
    "/photos/{item_id:path}",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, **refusals(400, 401, 404, 503)},
)
async def photo(request: Request, item_id: str) -> Response:
    """The item's photo, the file as it was ingested."""
    recommender = current(request)
    content = recommender.photo(exact_id(request, "/v1/photos/"))
    headers = {"content-type": media_type(content), "x-content-type-options": "nosniff"}
    return Response(content, headers=headers)


@classifiers.post(
    "/classify",
    responses=answers_of(api.Categories, 400, 401, 404, 413, 415, 422, 503),
    openapi_extra={"requestBody": body_of(*requests.CLASSIFY.values())},
)
async def classify(request: Request, x_deadline_ms: Deadline = None) -> Response:
    """The category of an item, of a photo or of several items, each with its confidence."""
    recommender = current(request)
    asked = requests.read_one_of(requests.CLASSIFY, await tree_of(request))

    def score() -> Steps[bytes]:
        how: dict[str, Any] = {"threshold": asked.threshold, "top": asked.top, "model": asked.model}
        if isinstance(asked, requests.ClassifyItem):
            found = recommender.classify(item_id=asked.item_id, **how)
        else:
            photos, titles = requests.rows_of(asked)
            found = yield from recommender.classify_photos(photos, titles, **how)
        by = recommender.classifier(asked.model).classifier.model_hash
        return written(api.Categories(recommender.bundle, by, found))

    return await scored_in_turns(request, score(), x_deadline_ms)


@classifiers.get("/confusion", responses=answers_of(api.Confusion, 401, 404, 503))
async def confusion(request: Request, model: str | None = None) -> Response:
    """Which categories the classifier takes for which, by its evaluation; the most valuable ones."""
    recommender = current(request)
    return await scored(request, lambda: written(recommender.confusion(model)))
