"""What goes over the wire: requests, answers, errors.

The models describe the wire (OpenAPI) and check requests; answers are built as plain dicts and
written by orjson, because a model's construction costs more than the search itself.
"""

import base64
import binascii
import contextlib
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from etalage.errors import EtalageError, RequestError, Unprocessable
from etalage.recommend import Answer, Filters, Slot

MAX_K = 1000
MAX_PHOTOS = 64
MAX_ID_BYTES = 512
MAX_EXCLUDED = 1000
MAX_ATTRIBUTES = 20
MAX_WORDS = 10
"""Of a search; each is looked for in the text of every item."""
MAX_TEXT = 1000
"""Characters of a category's path, of a brand, of an attribute's name or value."""
MAX_NAMED = 5
"""How many refused rows one error names."""
_STARTS = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
DEGRADED = "What the answer goes without, while the online store cannot be used."
QUERIES = ("item_id", "photo", "photos")


def whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


ModelName = Annotated[str, Field(min_length=1, max_length=100)]
Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_ID_BYTES,
        pattern=r"^[^\x00]+$",
        description=f"Any text of at most {MAX_ID_BYTES} bytes in UTF-8, without NUL; taken as it is.",
    ),
]
Base64Photo = Annotated[
    str,
    Field(min_length=1, description="An image file, base64.", json_schema_extra={"format": "base64-photo"}),
]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Price = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FiltersBody(Strict):
    """What an item must be, to be shown."""

    category: Text | None = Field(
        None, description="This category path, as the merchant has it, and everything beneath it."
    )
    min_price: Price | None = None
    max_price: Price | None = None
    in_stock: bool | None = Field(
        None, description="What is known to be so; an item of unknown stock passes neither true nor false."
    )
    brand: Text | None = None
    attributes: Annotated[dict[Text, Text], Field(max_length=MAX_ATTRIBUTES)] | None = Field(
        None, description="Every one of these must be just so."
    )
    exclude: list[Id] = Field([], max_length=MAX_EXCLUDED, description="Items that must not come.")
    classified: Text | None = Field(
        None, description="This path of the taxonomy and everything beneath it, as the classifier told it."
    )
    min_confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="Classified with at least this confidence."
    )


class Similar(Strict):
    k: Annotated[int, BeforeValidator(whole)] = Field(10, ge=1, le=MAX_K)
    filters: FiltersBody | None = None
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None, description="Leave out what is less similar; an empty slate then means: no match."
    )
    model: ModelName | None = Field(
        None, description="The photo embedder that compares, of several; else as the shop has set it."
    )


class SimilarToItem(Similar):
    """Like an item of the catalogue; the item itself is never in the slate."""

    item_id: Id


class SimilarToPhoto(Similar):
    """Like one photo."""

    photo: Base64Photo


class SimilarToPhotos(Similar):
    """Like each of several photos; one answer for each, in their order."""

    photos: list[Base64Photo] = Field(min_length=1, max_length=MAX_PHOTOS)


class ListedItem(BaseModel):
    item_id: str
    title: str | None
    brand: str | None
    price: float | None
    currency: str | None
    category_id: str | None
    in_stock: bool | None
    photo: str | None = Field(description="Where the photo is, on this server.")


class SlotBody(ListedItem):
    rank: int
    score: float = Field(description="Similarity, higher is better; the popularity in a fallback.")


class AnswerBody(BaseModel):
    row: int = Field(description="Position of the query in the request.")
    fallback: str | None = Field(description="`unknown_item` or `item_without_photo`: most popular instead.")
    reason: str | None = Field(description="Why there are fewer than k.")
    slate: list[SlotBody]


class SimilarAnswer(BaseModel):
    bundle: str
    answers: list[AnswerBody]
    degraded: str | None = Field(None, description=DEGRADED)


class ItemBody(BaseModel):
    """All that the bundle knows of an item; a shop's own columns come on top."""

    model_config = ConfigDict(extra="allow")

    item_id: str
    photo: str | None
    popularity: float
    classified_id: str | None = Field(None, description="The leaf in the taxonomy; null: not classified.")
    classified_path: str | None = None
    classified_confidence: float | None = None


class ItemAnswer(BaseModel):
    bundle: str
    item: ItemBody
    degraded: str | None = Field(None, description=DEGRADED)


class ItemsAnswer(BaseModel):
    bundle: str
    total: int = Field(description="Items that match, beyond this page too.")
    offset: int
    items: list[ListedItem]
    degraded: str | None = Field(None, description=DEGRADED)


class CategoryBody(BaseModel):
    path: str
    count: int = Field(description="Items at or beneath this node.")


class CategoriesAnswer(BaseModel):
    bundle: str
    categories: list[CategoryBody]


class State(BaseModel):
    status: str = Field(description="`alive`; `ready`, `degraded` (slates go on) or `not ready`.")
    bundle: str | None
    problem: str | None = Field(None, description="Why the last reload failed; the old bundle serves.")
    degraded: str | None = Field(None, description="What the online store cannot do now.")


class Problem(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    class_: str = Field(alias="class", description="A class of etalage.errors.")
    message: str


class ErrorAnswer(BaseModel):
    bundle: str | None
    error: Problem


# -- requests ----------------------------------------------------------------------------------


def read_similar(tree: Any) -> SimilarToItem | SimilarToPhoto | SimilarToPhotos:
    """Check a parsed body. Raises Unprocessable that names the field, RequestError for a bad id."""
    if not isinstance(tree, dict):
        raise Unprocessable("body: a JSON object is needed")
    given = [name for name in QUERIES if name in tree]
    if len(given) != 1:
        raise Unprocessable(f"body: give exactly one of {', '.join(QUERIES)}; given: {given or 'none'}")
    kinds: dict[str, type[SimilarToItem | SimilarToPhoto | SimilarToPhotos]] = {
        "item_id": SimilarToItem,
        "photo": SimilarToPhoto,
        "photos": SimilarToPhotos,
    }
    if isinstance(tree.get("item_id"), str):
        check_id(tree["item_id"])
    try:
        return kinds[given[0]].model_validate(tree)
    except ValidationError as error:
        raise Unprocessable(explain(error.errors())) from error


def explain(errors: Any) -> str:
    """Pydantic's errors in one line: field, value, what is wrong."""
    parts = []
    for error in errors[:5]:
        where = ".".join(str(step)[:40] for step in error["loc"]) or "body"
        value = repr(error.get("input"))
        shown = value if len(value) <= 60 else value[:59] + "…"
        parts.append(f"{where} = {shown}: {error['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)


def check_id(item_id: str, name: str = "item_id") -> str:
    """An id exactly as it is. Raises RequestError that names it: empty, NUL, too long, not text."""
    try:
        size = len(item_id.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise RequestError(f"{name}: half of a surrogate pair is not text") from error
    if not 1 <= size <= MAX_ID_BYTES:
        raise RequestError(f"{name}: {size} bytes; an id has 1 to {MAX_ID_BYTES}")
    if "\0" in item_id:
        raise RequestError(f"{name}: NUL cannot be part of an id")
    return item_id


def check_search(text: str) -> str:
    """The same. Raises ValueError: more words than one search may have."""
    words = len(set(text.split()))
    if words > MAX_WORDS:
        raise ValueError(f"{words} words; at most {MAX_WORDS} in one search")
    return text


def decode_photos(photos: list[str]) -> list[bytes]:
    """Base64 → image files. Raises RequestError that names every bad row."""
    decoded, refused = [], []
    for row, text in enumerate(photos):
        try:
            decoded.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError) as error:
            refused.append(f"row {row}: not base64: {error}")
    if refused:
        raise RequestError("; ".join(refused[:MAX_NAMED]))
    return decoded


def photos_of(asked: SimilarToPhoto | SimilarToPhotos) -> list[str]:
    return asked.photos if isinstance(asked, SimilarToPhotos) else [asked.photo]


def to_filters(body: FiltersBody | None) -> Filters:
    if body is None:
        return Filters()
    return Filters(
        body.category,
        body.min_price,
        body.max_price,
        body.in_stock,
        body.brand,
        body.attributes,
        tuple(body.exclude),
        body.classified,
        body.min_confidence,
    )


# -- answers -----------------------------------------------------------------------------------


def photo_path(item_id: str) -> str:
    """Where the photo of an item is served. Slashes and dots of the id cannot change the route."""
    return f"/v1/photos/{quote(item_id, safe='')}"


def media_type(photo: bytes) -> str:
    """The media type of an image file, by its first bytes; never one that a browser would run."""
    for start, name in _STARTS:
        if photo.startswith(start):
            return name
    return "image/webp" if photo[:4] == b"RIFF" and photo[8:12] == b"WEBP" else "application/octet-stream"


def similar_answer(bundle: str, answers: list[Answer], degraded: str | None = None) -> bytes:
    """A SimilarAnswer as JSON."""
    return orjson.dumps(
        {
            "bundle": bundle,
            "answers": [_answer(answer) for answer in answers],
            "degraded": degraded,
        }
    )


def _answer(answer: Answer) -> dict[str, Any]:
    slate = [_slot(slot) for slot in answer.slate]
    return {"row": answer.row, "fallback": answer.fallback, "reason": answer.reason, "slate": slate}


def _slot(slot: Slot) -> dict[str, Any]:
    return {"rank": slot.rank, "score": slot.score, **listed(slot.item)}


def listed(shown: Mapping[str, Any]) -> dict[str, Any]:
    """A ListedItem from what the catalogue shows of an item."""
    item = dict(shown)
    item["photo"] = photo_path(item["item_id"]) if item.pop("has_photo") else None
    return item


def item_answer(bundle: str, everything: Mapping[str, Any], degraded: str | None = None) -> bytes:
    """An ItemAnswer as JSON; `attributes` becomes an object."""
    item = listed(everything)
    if isinstance(item.get("attributes"), str):
        with contextlib.suppress(orjson.JSONDecodeError):  # else shown as the text that it is
            item["attributes"] = orjson.loads(item["attributes"])
    return orjson.dumps({"bundle": bundle, "item": item, "degraded": degraded})


def error_answer(bundle: str | None, error: EtalageError) -> bytes:
    """An ErrorAnswer as JSON."""
    return problem(bundle, type(error).__name__, str(error))


def problem(bundle: str | None, name: str, message: str) -> bytes:
    """An ErrorAnswer as JSON, for a `name` that need not be a class of ours."""
    return orjson.dumps({"bundle": bundle, "error": {"class": name, "message": message}})
