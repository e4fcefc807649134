"""What goes over the wire about categories: requests, answers."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, Field

from etalage.errors import RequestError
from etalage.recommend import Categorised, Confusion
from etalage.serve.wire import MAX_NAMED, MAX_PHOTOS, Base64Photo, Id, ModelName, Strict, whole

MAX_PHOTOS_OF_ONE = 10
MAX_TITLE = 1000
MAX_TOP = 100
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Title = Annotated[
    str, Field(max_length=MAX_TITLE, description="Of the item; used where the classifier reads titles.")
]


class Classify(Strict):
    top: Annotated[int, BeforeValidator(whole)] | None = Field(
        None, ge=0, le=MAX_TOP, description="So many other leaves are named; else as the shop has set it."
    )
    threshold: Share | None = Field(
        None, description="Less probable leaves are not given; else as the shop has set it."
    )
    model: ModelName | None = Field(
        None, description="The classifier that answers, of several; else as the shop has set it."
    )


class ClassifyItem(Classify):
    """An item of the catalogue: by its title and its main photo, beside what is stored of it."""

    item_id: Id


class ClassifyPhoto(Classify):
    """One photo, and a title where there is one."""

    photo: Base64Photo
    title: Title | None = None


class ItemToClassify(Strict):
    """Any number of photos of one item, its title, or both."""

    photos: list[Base64Photo] = Field([], max_length=MAX_PHOTOS_OF_ONE)
    title: Title | None = None


class ClassifyItems(Classify):
    """Several items; one answer for each, in their order."""

    items: list[ItemToClassify] = Field(min_length=1, max_length=MAX_PHOTOS)


# -- answers -----------------------------------------------------------------------------------


class StepBody(BaseModel):
    id: str
    name: str
    confidence: float = Field(description="That of all leaves beneath it together.")


class LeafBody(BaseModel):
    id: str
    path: str
    confidence: float


class StoredBody(BaseModel):
    category_id: str | None
    path: str | None
    confidence: float | None
    own: str | None = Field(description="The merchant's own category.")


class CategorisedBody(BaseModel):
    row: int = Field(description="Position of the item in the request.")
    category_id: str | None = Field(description="The leaf in the taxonomy; null: not classified.")
    path: str | None = Field(description="From the root to the leaf, joined by ` > `.")
    confidence: float | None = Field(description="Calibrated; of the best leaf, also below the threshold.")
    reason: str | None = Field(description="Why it is not classified.")
    steps: list[StepBody] = Field(description="From the root to the best leaf.")
    others: list[LeafBody] = Field(description="The next most probable leaves.")
    stored: StoredBody | None = Field(description="Of an item of the catalogue: what the bundle holds.")


class ClassifyAnswer(BaseModel):
    bundle: str
    model: str = Field(description="Hash of the classifier.")
    answers: list[CategorisedBody]


class ConfusionCategoryBody(BaseModel):
    id: str
    path: str
    value: float


class ConfusionAnswer(BaseModel):
    bundle: str
    categories: list[ConfusionCategoryBody] = Field(description="The most valuable first.")
    counts: list[list[int]] = Field(description="Rows: predicted; columns: true.")
    elsewhere: list[int] = Field(
        description="Items of each category that were taken for one not shown; empty: none were."
    )


# -- reading and writing -----------------------------------------------------------------------


def rows_of(asked: ClassifyPhoto | ClassifyItems) -> tuple[list[list[bytes]], list[str | None]]:
    """Photos and titles of each row. Raises RequestError: which rows and photos are not base64."""
    if isinstance(asked, ClassifyPhoto):
        given: list[tuple[list[str], str | None]] = [([asked.photo], asked.title)]
    else:
        given = [(item.photos, item.title) for item in asked.items]
    photos: list[list[bytes]] = []
    refused = []
    for row, (texts, _) in enumerate(given):
        photos.append([])
        for place, text in enumerate(texts):
            try:
                photos[row].append(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError) as error:
                named = f"row {row}" if len(texts) == 1 else f"row {row}, photo {place}"
                refused.append(f"{named}: not base64: {error}")
    if refused:
        raise RequestError("; ".join(refused[:MAX_NAMED]))
    return photos, [title for _, title in given]


def classify_answer(bundle: str, model: str, found: Sequence[Categorised]) -> bytes:
    """A ClassifyAnswer as JSON."""
    return orjson.dumps({"bundle": bundle, "model": model, "answers": [_answer(one) for one in found]})


def _answer(one: Categorised) -> dict[str, Any]:
    return {
        "row": one.row,
        "category_id": one.found.category_id,
        "path": one.found.path,
        "confidence": one.found.confidence,
        "reason": one.reason,
        "steps": one.found.steps,
        "others": [
            {"id": leaf, "path": path, "confidence": confidence}
            for leaf, path, confidence in one.found.others
        ],
        "stored": one.stored,
    }


def confusion_answer(bundle: str, confusion: Confusion) -> bytes:
    """A ConfusionAnswer as JSON."""
    return orjson.dumps({"bundle": bundle, **confusion.model_dump(mode="json")})
