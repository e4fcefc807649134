"""What may be asked: each request as a model that checks it, and what the rest of the house makes of it.

The models describe the requests in the OpenAPI document too; answers are the dataclasses of etalage.api. Ids
are taken exactly as they are.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from etalage.api import (
    MAX_ACTS,
    MAX_EVENTS,
    MAX_K,
    MAX_PAIRS,
    MAX_PHOTOS,
    MAX_PHOTOS_OF_ONE,
    MAX_RANKED,
    Act,
    Event,
)
from etalage.errors import RequestError, Unprocessable
from etalage.recommend import Filters
from etalage.serve.moments import EventMoment, Moment

MAX_ID_BYTES = 512
MAX_EXCLUDED = 1000
MAX_ATTRIBUTES = 20
MAX_WORDS = 10
"""Of a search; each is looked for in the text of every item."""
MAX_TEXT = 1000
"""Characters of a category's path, of a brand, of an attribute's name or value."""
MAX_TITLE = 1000
MAX_TOP = 100
"""Other leaves that an answer names."""
MAX_NAMED = 5
"""How many refused rows one error names."""


def whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(whole)]
Title = Annotated[
    str, Field(max_length=MAX_TITLE, description="Of the item; used where the classifier reads titles.")
]
ModelName = Annotated[str, Field(min_length=1, max_length=100)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# -- items -------------------------------------------------------------------------------------


class FiltersBody(Strict):
    """What an item must be, to be shown."""

    category: Text | None = Field(
        None, description="This category path, as the merchant has it, and everything beneath it."
    )
    min_price: Number | None = None
    max_price: Number | None = None
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
    min_confidence: Share | None = Field(None, description="Classified with at least this confidence.")


class Similar(Strict):
    k: Count = Field(10, ge=1, le=MAX_K)
    filters: FiltersBody | None = None
    threshold: Number | None = Field(
        None, description="Leave out what is less similar; an empty slate then means: no match."
    )
    model: ModelName | None = Field(
        None, description="The photo embedder that compares, of several; else as the shop has set it."
    )


class SimilarToItem(Similar):
    """Like an item of the catalogue; the item itself is never in the slate."""

    item_id: Id
    by_behaviour: bool = Field(
        False, description="What the same shoppers want, in place of what looks alike; empty: nobody knows."
    )
    same_colour: bool = Field(
        False, description="Only items whose attributes name the item's own colour; 422: they name none."
    )


class SimilarToPhoto(Similar):
    """Like one photo."""

    photo: Base64Photo


class SimilarToPhotos(Similar):
    """Like each of several photos; one answer for each, in their order."""

    photos: list[Base64Photo] = Field(min_length=1, max_length=MAX_PHOTOS)


# -- shoppers ----------------------------------------------------------------------------------


class ActBody(Strict):
    item_id: Id
    kind: str = Field("view", min_length=1, max_length=64, description="`view`, `cart`, `buy`, `rating`, …")
    value: Number | None = Field(None, description="Stars, count or amount, as `kind` means it.")
    time: Moment | None = None


class Recommend(Strict):
    k: Count = Field(10, ge=1, le=MAX_K)
    filters: FiltersBody | None = None
    explain: bool = Field(False, description="Reasons for the shopper, and what each stage did.")


class RecommendToUser(Recommend):
    """By what the shop knows of a shopper, up to this moment."""

    user_id: Id


class RecommendByHistory(Recommend):
    """By what the request says that a shopper did, oldest first."""

    history: list[ActBody] = Field(max_length=MAX_ACTS)


class PairBody(Strict):
    user_id: Id
    item_id: Id


class Rank(Strict):
    pairs: list[PairBody] = Field(
        min_length=1, max_length=MAX_PAIRS, description=f"Of at most {MAX_RANKED} shoppers."
    )
    threshold: Number = Field(0.5, ge=0, le=1, description="The probability from which an item is liked.")

    @field_validator("pairs")
    @classmethod
    def _few_shoppers(cls, pairs: list[PairBody]) -> list[PairBody]:
        shoppers = len({pair.user_id for pair in pairs})
        if shoppers > MAX_RANKED:
            raise ValueError(f"pairs of {shoppers} shoppers; at most {MAX_RANKED} in one request")
        return pairs


class UsersForItem(Strict):
    """Shoppers to tell of an item."""

    item_id: Id
    k: Count = Field(10, ge=1, le=MAX_K)


class UsersLikeUser(Strict):
    """Shoppers like a shopper."""

    user_id: Id
    k: Count = Field(10, ge=1, le=MAX_K)


class EventBody(ActBody):
    event_id: Id = Field(description="Yours; the same one is counted once, however often it is sent.")
    user_id: Id
    time: EventMoment | None = None


class Events(Strict):
    events: list[EventBody] = Field(min_length=1, max_length=MAX_EVENTS)


# -- categories --------------------------------------------------------------------------------


class Classify(Strict):
    top: Annotated[int, Field(ge=0, le=MAX_TOP), BeforeValidator(whole)] | None = Field(
        None, description="So many other leaves are named; else as the shop has set it."
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


# -- one of several ----------------------------------------------------------------------------

SIMILAR: Mapping[str, type[SimilarToItem | SimilarToPhoto | SimilarToPhotos]] = {
    "item_id": SimilarToItem,
    "photo": SimilarToPhoto,
    "photos": SimilarToPhotos,
}
"""The key that says which of them a body is; so for the others."""
RECOMMEND: Mapping[str, type[RecommendToUser | RecommendByHistory]] = {
    "user_id": RecommendToUser,
    "history": RecommendByHistory,
}
USERS: Mapping[str, type[UsersForItem | UsersLikeUser]] = {"item_id": UsersForItem, "user_id": UsersLikeUser}
CLASSIFY: Mapping[str, type[ClassifyItem | ClassifyPhoto | ClassifyItems]] = {
    "item_id": ClassifyItem,
    "photo": ClassifyPhoto,
    "items": ClassifyItems,
}


# -- reading -----------------------------------------------------------------------------------


S = TypeVar("S", bound=Strict)


def read(kind: type[S], tree: Any) -> S:
    """Check a parsed body. Raises Unprocessable that names the field, RequestError for a bad id."""
    if not isinstance(tree, dict):
        raise Unprocessable("body: a JSON object is needed")
    for name, value in _texts(tree):
        check_id(value, name)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise Unprocessable(explain(error.errors())) from error


def read_one_of(kinds: Mapping[str, type[S]], tree: Any) -> S:
    """The kind whose key is in the body; exactly one of them is to be. Raises as `read`."""
    if not isinstance(tree, dict):
        raise Unprocessable("body: a JSON object is needed")
    given = [name for name in kinds if name in tree]
    if len(given) != 1:
        raise Unprocessable(f"body: give exactly one of {', '.join(kinds)}; given: {given or 'none'}")
    return read(kinds[given[0]], tree)


def _texts(tree: dict[str, Any]) -> list[tuple[str, str]]:
    """Every id in the body, with its name."""
    rows = [("", tree)]
    for name in ("history", "pairs", "events"):
        listed_rows = tree.get(name)
        if isinstance(listed_rows, list):
            rows += [(f"{name}.{n}.", row) for n, row in enumerate(listed_rows) if isinstance(row, dict)]
    return [
        (f"{where}{key}", row[key])
        for where, row in rows
        for key in ("user_id", "item_id", "event_id")
        if isinstance(row.get(key), str)
    ]


def to_acts(bodies: Sequence[ActBody]) -> list[Act]:
    return [Act(body.item_id, body.kind, body.value, body.time) for body in bodies]


def to_events(body: Events) -> list[Event]:
    return [Event(one.event_id, one.user_id, to_acts([one])[0]) for one in body.events]


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
