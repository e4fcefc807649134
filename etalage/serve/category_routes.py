"""The routes about categories: what is this, and how often is the answer a wrong one."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from etalage.runtime.steps import Steps
from etalage.serve import category_wire as wire
from etalage.serve.openapi import body_of, refusals
from etalage.serve.routes import Deadline, current, scored, scored_in_turns, tree_of
from etalage.serve.shopper_wire import read_one_of

categories = APIRouter(prefix="/v1", tags=["categories"])


@categories.post(
    "/classify",
    response_model=wire.ClassifyAnswer,
    responses=refusals(400, 401, 404, 413, 415, 422, 503),
    openapi_extra={"requestBody": body_of(wire.ClassifyItem, wire.ClassifyPhoto, wire.ClassifyItems)},
)
async def classify(request: Request, x_deadline_ms: Deadline = None) -> Response:
    """The category of an item, of a photo or of several items, each with its confidence."""
    recommender = current(request)
    kinds: dict[str, type[wire.Classify]] = {
        "item_id": wire.ClassifyItem,
        "photo": wire.ClassifyPhoto,
        "items": wire.ClassifyItems,
    }
    asked: Any = read_one_of(kinds, await tree_of(request))

    def score() -> Steps[bytes]:
        how: dict[str, Any] = {"threshold": asked.threshold, "top": asked.top, "model": asked.model}
        if isinstance(asked, wire.ClassifyItem):
            found = recommender.classify(item_id=asked.item_id, **how)
        else:
            photos, titles = wire.rows_of(asked)
            found = yield from recommender.classify_photos(photos, titles, **how)
        return wire.classify_answer(
            recommender.bundle, recommender.classifier(asked.model).classifier.model_hash, found
        )

    return await scored_in_turns(request, score(), x_deadline_ms)


@categories.get("/confusion", response_model=wire.ConfusionAnswer, responses=refusals(401, 404, 503))
async def confusion(request: Request, model: str | None = None) -> Response:
    """Which categories the classifier takes for which, by its evaluation; the most valuable ones."""
    recommender = current(request)

    def answer() -> bytes:
        return wire.confusion_answer(recommender.bundle, recommender.confusion(model))

    return await scored(request, answer)
