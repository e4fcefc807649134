"""What goes over the wire about shoppers: requests, answers. Ids are taken exactly as they are."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator

from etalage.errors import Unprocessable
from etalage.online import Act, Event
from etalage.recommend import Near, Ranked, Recommended, Slot
from etalage.serve.moments import EventMoment, Moment
from etalage.serve.wire import (
    DEGRADED,
    MAX_K,
    FiltersBody,
    Id,
    ListedItem,
    Strict,
    check_id,
    explain,
    listed,
    whole,
)

MAX_ACTS = 1000
MAX_PAIRS = 1000
MAX_RANKED = 200
"""Shoppers of one request: each is looked up and asked about on their own."""
MAX_EVENTS = 1000
Count = Annotated[int, BeforeValidator(whole)]
Number = Annotated[float, Field(allow_inf_nan=False)]


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


# -- answers -----------------------------------------------------------------------------------


class ReasonedSlot(ListedItem):
    rank: int
    score: float
    why: str | None = Field(description="For the shopper; with `explain`.")
    trace: dict[str, Any] | None = Field(description="For the shop: retrievers and scores; with `explain`.")


class RecommendAnswer(BaseModel):
    bundle: str
    user_id: str | None
    rung: str = Field(description="Who spoke: `deep`, `collaborative`, `photo` or `popular`.")
    known: bool = Field(description="Whether anything is known of the shopper.")
    reason: str | None = Field(description="Why there are fewer than k.")
    slate: list[ReasonedSlot]
    trace: dict[str, Any] | None = Field(description="What each stage did; with `explain`.")
    degraded: str | None = Field(None, description=DEGRADED)


class RankedBody(BaseModel):
    row: int
    user_id: str
    item_id: str
    score: float
    probability: float | None
    liked: bool | None
    known_user: bool
    known_item: bool


class RankAnswer(BaseModel):
    bundle: str
    threshold: float
    ranked: list[RankedBody]
    degraded: str | None = Field(None, description=DEGRADED)


class LikedItem(RankedBody):
    item: ListedItem


class LikedAnswer(BaseModel):
    bundle: str
    user_id: str
    threshold: float
    liked: list[LikedItem]
    degraded: str | None = Field(None, description=DEGRADED)


class NearBody(BaseModel):
    user_id: str
    score: float


class UsersAnswer(BaseModel):
    bundle: str
    users: list[NearBody]


class KnownUsers(BaseModel):
    bundle: str
    users: list[str]


class HistoryItem(BaseModel):
    item_id: str
    kind: str
    value: float | None
    time: int | None = Field(description="Microseconds since 1970, UTC.")
    item: ListedItem | None = Field(description="None: not in this bundle.")


class HistoryAnswer(BaseModel):
    bundle: str
    user_id: str
    acts: list[HistoryItem]
    degraded: str | None = Field(None, description=DEGRADED)


class EventsAnswer(BaseModel):
    bundle: str | None
    accepted: int
    repeated: int
    quarantined: int = Field(
        description="Before 1995, or more than five minutes ahead of our clock; kept apart."
    )
    erased: int = Field(description="Of shoppers who were erased after them, or sent again: not kept.")
    reasons: list[str]
    unknown: int | None = Field(
        None,
        description="Of those sent: on an item that this bundle lacks, or of a kind that nobody knows. They "
        "are kept, and taught to no model until the shop's tables or settings know both. "
        "None: no bundle serves.",
    )
    notes: list[str] = Field(default_factory=list, description="Which items and kinds these are.")


class ErasedAnswer(BaseModel):
    bundle: str | None
    user_id: str
    acts: int = Field(description="How many acts are gone from the online store.")
    left: list[str] = Field(
        description="Where traces still are: `etalage erase` deletes those of the tables."
    )


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


# -- writing -----------------------------------------------------------------------------------


def recommend_answer(bundle: str, found: Recommended, explained: bool, degraded: str | None = None) -> bytes:
    """A RecommendAnswer as JSON."""
    return orjson.dumps(
        {
            "bundle": bundle,
            "user_id": found.user_id,
            "rung": found.rung,
            "known": found.known,
            "reason": found.reason,
            "slate": [_slot(slot) for slot in found.slate],
            "trace": found.trace if explained else None,
            "degraded": degraded,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def _slot(slot: Slot) -> dict[str, Any]:
    return {"rank": slot.rank, "score": slot.score, "why": slot.why, "trace": slot.trace, **listed(slot.item)}


def ranked_body(one: Ranked) -> dict[str, Any]:
    return {
        "row": one.row,
        "user_id": one.user_id,
        "item_id": one.item_id,
        "score": one.score,
        "probability": one.probability,
        "liked": one.liked,
        "known_user": one.known_user,
        "known_item": one.known_item,
    }


def users_answer(bundle: str, found: Sequence[Near]) -> bytes:
    """A UsersAnswer as JSON."""
    users = [{"user_id": near.user_id, "score": near.score} for near in found]
    return orjson.dumps({"bundle": bundle, "users": users})
