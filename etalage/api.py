"""What goes over the wire, defined once: the server answers with these, the client reads them.

Every class is one JSON object with the fields in this order, and the OpenAPI document is made from them: a
field's docstring is its description. Requests are dictionaries here, which the server checks by the models of
serve/requests.py. Imports nothing heavy: a client stays light.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from etalage.errors import ServeError
from etalage.typed_json import Misfit, read_list, read_object

MAX_K = 1000
"""Places of a slate."""
MAX_PHOTOS = 64
"""Photos to be compared, or items to be classified, of one request."""
MAX_PHOTOS_OF_ONE = 10
"""Photos of one item to be classified."""
MAX_ACTS = 1000
"""Of a history."""
MAX_EVENTS = 1000
MAX_PAIRS = 1000
MAX_RANKED = 200
"""Shoppers of one request to rank: each is looked up and asked about on their own."""


# -- items -------------------------------------------------------------------------------------


def photo_path(item_id: str) -> str:
    """Where a server has the photo of an item. Slashes and dots of the id cannot change the route."""
    return f"/v1/photos/{quote(item_id, safe='')}"


@dataclass(frozen=True)
class Item:
    """What is shown of an item."""

    item_id: str
    title: str | None
    brand: str | None
    price: float | None
    currency: str | None
    category_id: str | None
    in_stock: bool | None
    photo: str | None
    """Where the photo is, on this server; null: there is none."""


@dataclass(frozen=True)
class Items:
    """One page of the items that match."""

    bundle: str
    total: int
    """Items that match, beyond this page too."""
    offset: int
    items: list[Item]
    degraded: str | None = None
    """What the answer goes without, while the online store cannot be used."""


@dataclass(frozen=True)
class WholeItem:
    """All that the bundle knows of one item."""

    bundle: str
    item: dict[str, Any]
    """Its columns, the shop's own too."""
    degraded: str | None = None
    """What the answer goes without, while the online store cannot be used."""


@dataclass(frozen=True)
class Category:
    """A node of a category tree."""

    path: str
    count: int
    """Items at or beneath this node."""


@dataclass(frozen=True)
class CategoryTree:
    """Every node, parents before children."""

    bundle: str
    categories: list[Category]


# -- slates ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One place of a slate."""

    rank: int
    score: float
    """Similarity, the ranker's score, or the popularity in a fallback; higher is better."""


@dataclass(frozen=True)
class Slot(Item, Place):
    """An item at its place of a slate. (A dataclass has the fields of its last base first.)"""


@dataclass(frozen=True)
class ReasonedPlace(Place):
    """One place of a shopper's slate, and how it came about."""

    why: str | None
    """For the shopper: "because you bought …"; with `explain`."""
    trace: dict[str, Any] | None
    """For the shop: which retrievers found it, each stage's score; with `explain`."""


@dataclass(frozen=True)
class ReasonedSlot(Item, ReasonedPlace):
    """An item at its place of a shopper's slate."""


@dataclass(frozen=True)
class Answer:
    """What is similar to one query."""

    row: int
    """Position of the query in the request."""
    fallback: str | None
    """`unknown_item` or `item_without_photo`: the most popular, not the most similar. `by_behaviour`:
    without photos to compare, what the same shoppers want."""
    reason: str | None
    """Why there are fewer than k."""
    slate: list[Slot]


@dataclass(frozen=True)
class Answers:
    """One answer per query, all of one bundle."""

    bundle: str
    answers: list[Answer]
    degraded: str | None = None
    """What the answer goes without, while the online store cannot be used."""


@dataclass(frozen=True)
class Recommended:
    """The slate for one shopper."""

    bundle: str
    user_id: str | None
    tier: str
    """Who spoke: `deep`, `collaborative`, `photo` or `popular`."""
    known: bool
    """Whether anything is known of the shopper."""
    reason: str | None
    """Why there are fewer than k."""
    slate: list[ReasonedSlot]
    trace: dict[str, Any] | None
    """What each stage did; with `explain`."""
    degraded: str | None = None
    """What the answer goes without, while the online store cannot be used."""


# -- pairs and shoppers ------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranked:
    """The score of one pair of a shopper and an item."""

    row: int
    """Position of the pair in the request, or of the item in a list of what a shopper likes."""
    user_id: str
    item_id: str
    score: float
    """Higher is better, among pairs of one shopper; 0 for an unknown item."""
    probability: float | None
    """That the shopper likes it; null where no ranker that gives probabilities knows both."""
    liked: bool | None
    """Whether the probability is at least the threshold."""
    known_user: bool
    known_item: bool


@dataclass(frozen=True)
class RankedPairs:
    """The score of each pair, in the order of the request."""

    bundle: str
    threshold: float
    ranked: list[Ranked]
    degraded: str | None = None
    """What the answer goes without, while the online store cannot be used."""


@dataclass(frozen=True)
class LikedItem(Ranked):
    """An item that a shopper probably likes."""

    item: Item


@dataclass(frozen=True)
class LikedItems:
    """What a shopper most probably likes of what they do not have, best first."""

    bundle: str
    user_id: str
    threshold: float
    liked: list[LikedItem]
    degraded: str | None = None
    """What the answer goes without, while the online store cannot be used."""


@dataclass(frozen=True)
class NearUser:
    """A shopper, and how near to what was asked about."""

    user_id: str
    score: float
    """Higher is nearer."""


@dataclass(frozen=True)
class NearUsers:
    """Shoppers to tell of an item, or like a shopper; the nearest first."""

    bundle: str
    users: list[NearUser]


@dataclass(frozen=True)
class KnownUsers:
    """Some shoppers: those who acted last."""

    bundle: str
    users: list[str]


# -- what shoppers do --------------------------------------------------------------------------


@dataclass(frozen=True)
class Act:
    """One thing that a shopper did."""

    item_id: str
    kind: str = "view"
    value: float | None = None
    """Stars, count or amount, as `kind` means it."""
    time: int | None = None
    """Microseconds since 1970, UTC; null: not known (an event without a time gets that of its arrival)."""


@dataclass(frozen=True)
class PastAct(Act):
    """An act of a history, and its item."""

    item: Item | None = None
    """null: not in this bundle."""


@dataclass(frozen=True)
class History:
    """What a shopper did, oldest first."""

    bundle: str
    user_id: str
    acts: list[PastAct]
    degraded: str | None = None
    """What the answer goes without, while the online store cannot be used."""


@dataclass(frozen=True)
class Event:
    """An act on its way in. The same `event_id` is counted once, however often it is sent."""

    event_id: str
    user_id: str
    act: Act


@dataclass(frozen=True)
class EventsDone:
    """What became of the events that were sent."""

    bundle: str | None
    accepted: int
    repeated: int
    quarantined: int
    """Before 1995, or more than five minutes ahead of our clock; kept apart."""
    erased: int
    """Of shoppers who were erased after them, or sent again: not kept."""
    reasons: list[str]
    """Why events were quarantined."""
    unknown: int | None
    """Of those sent: on an item that this bundle lacks, or of a kind that nobody knows. They are kept, and
    taught to no model until the shop's tables or settings know both. null: no bundle serves."""
    notes: list[str]
    """Which items and kinds these are."""


@dataclass(frozen=True)
class Erased:
    """A shopper's acts were forgotten."""

    bundle: str | None
    user_id: str
    acts: int
    """How many acts are gone from the online store."""
    left: list[str]
    """Where traces still are: `etalage erase` deletes those of the tables."""


# -- what an item is ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ToClassify:
    """One thing to be classified: its photos (image files), its title, or both."""

    photos: Sequence[bytes] = ()
    title: str | None = None


@dataclass(frozen=True)
class Step:
    """One category of a path."""

    id: str
    name: str
    confidence: float
    """That of all leaves beneath it together."""


@dataclass(frozen=True)
class Leaf:
    """Another category that it may be."""

    id: str
    path: str
    confidence: float


@dataclass(frozen=True)
class StoredCategory:
    """What the bundle holds of an item of its catalogue: as it was classified, and as it came."""

    category_id: str | None
    path: str | None
    confidence: float | None
    own: str | None
    """The merchant's own category."""


@dataclass(frozen=True)
class Categorised:
    """What one item is."""

    row: int
    """Position of the item in the request."""
    category_id: str | None
    """The leaf in the taxonomy; null: not classified."""
    path: str | None
    """From the root to the leaf, joined by ` > `."""
    confidence: float | None
    """Calibrated; of the best leaf, also below the threshold."""
    reason: str | None
    """Why it is not classified; null: it is."""
    steps: list[Step]
    """From the root to the best leaf, whether it is certain enough or not."""
    others: list[Leaf]
    """The next most probable leaves."""
    stored: StoredCategory | None
    """Of an item of the catalogue."""


@dataclass(frozen=True)
class Categories:
    """One answer an item, all of one bundle."""

    bundle: str
    model: str
    """Hash of the classifier."""
    answers: list[Categorised]


@dataclass(frozen=True)
class ValuedCategory:
    """A row and column of the confusion matrix."""

    id: str
    path: str
    value: float
    """What the category is worth to the shop."""


@dataclass(frozen=True)
class Confusion:
    """Which category the classifier takes for which, by its evaluation."""

    bundle: str
    categories: list[ValuedCategory]
    """The most valuable first."""
    counts: list[list[int]]
    """Rows: predicted; columns: true."""
    elsewhere: list[int]
    """Items of each category that were taken for one that is not shown; empty: none were."""

    @property
    def totals(self) -> list[int]:
        """Items of each category."""
        shown = [sum(row[true] for row in self.counts) for true in range(len(self.categories))]
        return [here + away for here, away in zip(shown, self.elsewhere or [0] * len(shown), strict=True)]


# -- health and refusals -----------------------------------------------------------------------


@dataclass(frozen=True)
class Alive:
    """The process answers."""

    status: str
    """`alive`."""
    bundle: str | None
    """The one that serves; null: none yet."""


@dataclass(frozen=True)
class Readiness(Alive):
    """Whether slates are answered. `status`: `ready`, `degraded` (slates go on) or `not ready`."""

    problem: str | None
    """Why the last reload failed; the old bundle serves."""
    degraded: str | None
    """What the online store cannot do now."""


@dataclass(frozen=True)
class Problem:
    """Why a request was refused."""

    class_: str = field(metadata={"alias": "class"})
    """A class of etalage.errors, or what HTTP calls it."""
    message: str


@dataclass(frozen=True)
class Refusal:
    """The body of every answer that is an error."""

    bundle: str | None
    error: Problem

    def tree(self) -> dict[str, Any]:
        """As JSON has it: `class` cannot be a name in Python."""
        error = {"class": self.error.class_, "message": self.error.message}
        return {"bundle": self.bundle, "error": error}


# -- rows of the MLflow endpoint's tables ------------------------------------------------------


@dataclass(frozen=True)
class SimilarRow:
    """Of the task `similar`."""

    row: int
    rank: int
    item_id: str
    score: float
    image: str
    """PNG as base64, or float32 pixels as hex; empty: not asked for."""


@dataclass(frozen=True)
class RecommendedRow:
    """Of the task `recommend`."""

    row: int
    rank: int
    item_id: str
    score: float
    why: str


@dataclass(frozen=True)
class RankedRow:
    """Of the task `rank`."""

    row: int
    score: float
    probability: float | None
    """NaN in the table, None where it is read: no ranker knows both."""


@dataclass(frozen=True)
class CategoryRow:
    """Of the task `classify`. Empty texts and NaN in the table are None where it is read: not classified."""

    row: int
    category_id: str | None
    path: str | None
    confidence: float | None


# -- writing requests --------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(when: datetime) -> int:
    """A time as `Act.time` has it; without a zone: UTC."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def act_body(act: Act) -> dict[str, Any]:
    """An act of a history, of a request to recommend."""
    body = {"item_id": act.item_id, "kind": act.kind, "value": act.value, "time": act.time}
    return {name: value for name, value in body.items() if value is not None}


def event_body(event: Event) -> dict[str, Any]:
    """An event of a request to keep some."""
    return {"event_id": event.event_id, "user_id": event.user_id, **act_body(event.act)}


def photo_body(photo: bytes) -> str:
    """An image file, wherever a request holds one."""
    return base64.b64encode(photo).decode()


def classify_body(one: ToClassify) -> dict[str, Any]:
    """An item of a request to classify some."""
    return {"photos": [photo_body(photo) for photo in one.photos], "title": one.title}


# -- reading answers ---------------------------------------------------------------------------

T = TypeVar("T")
R = TypeVar("R")


def read(kind: type[T], tree: Any) -> T:
    """An answer of this kind out of parsed JSON; fields that this version does not know are passed over.

    Raises ServeError that names the field which is missing or of another shape.
    """
    return _fitting(read_object, kind, tree)


def read_all(kind: type[T], trees: Any) -> list[T]:
    """A list of them. Raises as `read`."""
    return _fitting(read_list, kind, trees)


def _fitting(reader: Callable[[type[T], Any], R], kind: type[T], tree: Any) -> R:
    try:
        return reader(kind, tree)
    except Misfit as error:
        where = ".".join(("answer", *error.path))
        raise ServeError(
            f"{where}: {error.why}; is this a server of Etalage, and of the client's version?"
        ) from error
