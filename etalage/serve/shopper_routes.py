"""The routes about shoppers: what they would want, who they are like, what they do."""

from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from etalage.funnel.catalogue import Stock
from etalage.recommend import Recommender
from etalage.runtime.steps import Steps
from etalage.serve import shopper_wire as wire
from etalage.serve.limits import one_step
from etalage.serve.openapi import body_of, refusals
from etalage.serve.routes import (
    Deadline,
    current,
    done_by,
    exact_id,
    live_of,
    scored,
    scored_in_turns,
    tree_of,
)
from etalage.serve.wire import MAX_K, listed, to_filters

shoppers = APIRouter(prefix="/v1", tags=["shoppers"])
REFUSED = (400, 401, 413, 415, 422, 503)
LEFT_IN_TABLES = "the shop's tables, until `etalage erase` deletes the shopper's rows"
LEFT_IN_BUNDLES = "older bundles, until newer ones have replaced them"


async def _kept(request: Request, keep: Callable[[], bytes], deadline_ms: int | None = None) -> Response:
    """As `scored`, but by the keeper: what writes waits for a disk."""
    return await done_by(request.app.state.keeper, request, one_step(keep), deadline_ms)


@shoppers.post(
    "/recommend",
    response_model=wire.RecommendAnswer,
    responses=refusals(*REFUSED),
    openapi_extra={"requestBody": body_of(wire.RecommendToUser, wire.RecommendByHistory)},
)
async def recommend(request: Request, x_deadline_ms: Deadline = None) -> Response:
    """The k items that a shopper would want."""
    recommender, live = current(request), live_of(request)
    kinds: dict[str, type[wire.Recommend]] = {
        "user_id": wire.RecommendToUser,
        "history": wire.RecommendByHistory,
    }
    asked = wire.read_one_of(kinds, await tree_of(request))

    def score() -> bytes:
        about: dict[str, Any] = (
            {"history": wire.to_acts(asked.history)}
            if isinstance(asked, wire.RecommendByHistory)
            else {"user_id": asked.user_id}  # type: ignore[attr-defined]
        )
        found = recommender.recommend(
            **about, k=asked.k, filters=to_filters(asked.filters), explain=asked.explain, live=live
        )
        return wire.recommend_answer(recommender.bundle, found, asked.explain, live.degraded)

    return await scored(request, score, x_deadline_ms)


@shoppers.post(
    "/rank",
    response_model=wire.RankAnswer,
    responses=refusals(*REFUSED),
    openapi_extra={"requestBody": body_of(wire.Rank)},
)
async def rank(request: Request, x_deadline_ms: Deadline = None) -> Response:
    """The score of each pair, and whether the shopper likes the item."""
    recommender, live = current(request), live_of(request)
    asked = wire.read(wire.Rank, await tree_of(request))

    def score() -> Steps[bytes]:
        pairs = [(pair.user_id, pair.item_id) for pair in asked.pairs]
        found: list[dict[str, Any]] = [{}] * len(pairs)
        for of_one_shopper in recommender.ranked_by_shopper(pairs, asked.threshold, live):
            for one in of_one_shopper:
                found[one.row] = wire.ranked_body(one)
            yield
        told = {"bundle": recommender.bundle, "threshold": asked.threshold, "ranked": found}
        return orjson.dumps({**told, "degraded": live.degraded})

    return await scored_in_turns(request, score(), x_deadline_ms)


@shoppers.post(
    "/users",
    response_model=wire.UsersAnswer,
    responses=refusals(*REFUSED, 404),
    openapi_extra={"requestBody": body_of(wire.UsersForItem, wire.UsersLikeUser)},
)
async def users(request: Request, x_deadline_ms: Deadline = None) -> Response:
    """Shoppers to tell of an item, or like a shopper."""
    recommender = current(request)
    kinds: dict[str, type[wire.UsersForItem] | type[wire.UsersLikeUser]] = {
        "item_id": wire.UsersForItem,
        "user_id": wire.UsersLikeUser,
    }
    asked: Any = wire.read_one_of(kinds, await tree_of(request))

    def score() -> bytes:
        found = (
            recommender.users_for_item(asked.item_id, asked.k)
            if isinstance(asked, wire.UsersForItem)
            else recommender.users_like(asked.user_id, asked.k)
        )
        return wire.users_answer(recommender.bundle, found)

    return await scored(request, score, x_deadline_ms)


@shoppers.get("/users", response_model=wire.KnownUsers, responses=refusals(401, 422, 503))
async def known_users(request: Request, limit: Annotated[int, Query(ge=1, le=MAX_K)] = 50) -> Response:
    """Some shoppers: those who acted last."""
    recommender, live = current(request), live_of(request)

    def some() -> bytes:
        return orjson.dumps({"bundle": recommender.bundle, "users": live.users(limit)})

    return await scored(request, some)


@shoppers.get(
    "/users/{user_id:path}/liked",
    response_model=wire.LikedAnswer,
    responses=refusals(400, 401, 404, 422, 503),
)
async def liked(
    request: Request,
    user_id: str,
    k: Annotated[int, Query(ge=1, le=MAX_K)] = 50,
    threshold: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.5,
) -> Response:
    """What a shopper most probably likes of what they do not have."""
    recommender, live = current(request), live_of(request)
    asked = exact_id(request, "/v1/users/", "/liked", "user_id")

    def score() -> bytes:
        stock = recommender.stock(live)
        found = [
            {**wire.ranked_body(one), "item": _shown(recommender, one.item_id, stock)}
            for one in recommender.liked(asked, k, threshold, live)
        ]
        body = {"bundle": recommender.bundle, "user_id": asked, "threshold": threshold, "liked": found}
        return orjson.dumps({**body, "degraded": live.degraded})

    return await scored(request, score)


@shoppers.get(
    "/users/{user_id:path}/history", response_model=wire.HistoryAnswer, responses=refusals(400, 401, 422, 503)
)
async def history(
    request: Request, user_id: str, limit: Annotated[int, Query(ge=1, le=MAX_K)] = 50
) -> Response:
    """What a shopper did, oldest first; nothing for one that nobody knows."""
    recommender, live = current(request), live_of(request)
    asked = exact_id(request, "/v1/users/", "/history", "user_id")

    def read() -> bytes:
        stock = recommender.stock(live)
        acts = [
            {
                "item_id": act.item_id,
                "kind": act.kind,
                "value": act.value,
                "time": act.time,
                "item": _shown(recommender, act.item_id, stock),
            }
            for act in live.past(asked, limit)
        ]
        told = {"bundle": recommender.bundle, "user_id": asked, "acts": acts}
        return orjson.dumps({**told, "degraded": live.degraded})

    return await scored(request, read)


def _shown(recommender: Recommender, item_id: str, stock: Stock) -> dict[str, Any] | None:
    row = recommender.catalogue.row(item_id)
    return None if row == 0 else listed(recommender.catalogue.shown(row, stock))


@shoppers.delete("/users/{user_id:path}", response_model=wire.ErasedAnswer, responses=refusals(400, 401, 503))
async def erase(request: Request, user_id: str) -> Response:
    """Forget a shopper's acts in the online store; says what is left.

    An id that ends in `/history` or `/liked` is sent with that slash as %2F: nobody who takes these for
    something to be deleted may erase another shopper.
    """
    if request.scope.get("raw_path", b"").endswith((b"/history", b"/liked")):
        raise HTTPException(405, "Method Not Allowed", {"allow": "GET"})
    live, recommender = live_of(request), request.state.recommender
    asked = exact_id(request, "/v1/users/", "", "user_id")

    def forget() -> bytes:
        gone, bundle = live.erase(asked), _bundle(request)
        left = [LEFT_IN_TABLES, LEFT_IN_BUNDLES, *live.remains()]
        if recommender is not None and _learnt_from(recommender, asked):
            left.append(f"bundle {bundle}, which serves: its models learnt from the shopper; publish again")
        return orjson.dumps({"bundle": bundle, "user_id": asked, "acts": gone, "left": left})

    return await _kept(request, forget)


def _learnt_from(recommender: Recommender, user_id: str) -> bool:
    knowing = (recommender.users.ids, *(model.users for model in recommender.funnel.models.values()))
    return any(ids.row(user_id) > 0 for ids in knowing)


@shoppers.post(
    "/events",
    response_model=wire.EventsAnswer,
    responses=refusals(*REFUSED),
    openapi_extra={"requestBody": body_of(wire.Events)},
)
async def events(request: Request, x_deadline_ms: Deadline = None) -> Response:
    """What shoppers did; the next slate of each knows it. Durable when answered."""
    live, recommender = live_of(request), request.state.recommender
    asked = wire.read(wire.Events, await tree_of(request))

    def keep() -> bytes:
        sent = wire.to_events(asked)
        done = live.append(sent)
        unknown = None if recommender is None else recommender.unknown([event.act for event in sent])
        if unknown is not None:
            request.app.state.gauges.unknown_events(unknown.items, unknown.kinds)
        return orjson.dumps(
            {
                "bundle": _bundle(request),
                "accepted": done.accepted,
                "repeated": done.repeated,
                "quarantined": done.quarantined,
                "erased": done.erased,
                "reasons": done.reasons,
                "unknown": None if unknown is None else unknown.acts,
                "notes": [] if unknown is None else unknown.notes,
            }
        )

    return await _kept(request, keep, x_deadline_ms)


def _bundle(request: Request) -> str | None:
    recommender: Recommender | None = request.state.recommender
    return None if recommender is None else recommender.bundle
