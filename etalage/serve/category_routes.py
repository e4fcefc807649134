"""The routes about categories: what is this, and how often is the answer a wrong one."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from etalage import api
from etalage.runtime.steps import Steps
from etalage.serve import requests
from etalage.serve.answers import written
from etalage.serve.openapi import answers_of, body_of
from etalage.serve.routes import Deadline, current, scored, scored_in_turns, tree_of

categories = APIRouter(prefix="/v1", tags=["categories"])


@categories.post(
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


@categories.get("/confusion", responses=answers_of(api.Confusion, 401, 404, 503))
async def confusion(request: Request, model: str | None = None) -> Response:
    """Which categories the classifier takes for which, by its evaluation; the most valuable ones."""
    recommender = current(request)
    return await scored(request, lambda: written(recommender.confusion(model)))
