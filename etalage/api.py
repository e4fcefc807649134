"""Defines what goes over the wire, once: the server answers with these classes, the client reads them.

Every class is one JSON object with the fields in this order. The OpenAPI document is made from the classes; a
field's docstring becomes its description. Requests are dictionaries here; the server checks them with the
models of serve/requests.py. This module imports nothing heavy, so that a client stays light.
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
"""Most places of a slate."""
MAX_PHOTOS = 64
"""Most photos to compare, or items to classify, in one request."""
MAX_PHOTOS_OF_ONE = 10
"""Most photos of one item to classify."""
MAX_ACTS = 1000
"""Most interactions in the history of a request."""
MAX_EVENTS = 1000
MAX_PAIRS = 1000
MAX_RANKED = 200
"""Most shoppers in one request to rank: the server looks each of them up separately."""


# -- items -------------------------------------------------------------------------------------


def photo_path(item_id: str) -> str:
    """The path of an item's photo on a server. Slashes and dots in the id cannot change the route."""
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
    """Where the photo is, on this server; null: the item has none."""


@dataclass(frozen=True)
class BrandCount:
    """A brand, and how many of the items that match are of it."""

    brand: str
    count: int


@dataclass(frozen=True)
class Items:
    """One page of the items that match."""

    bundle: str
    total: int
    """How many items match, on all pages together."""
    offset: int
    items: list[Item]
    degraded: str | None = None
    """What the answer lacks while the online store cannot be used; null: nothing."""
    instead: str | None = None
    """What was searched instead, because no item has some word of the request; only with `forgiving`."""
    brands: list[BrandCount] = field(default_factory=list)
    """The brands of the items that match, whatever brand was asked for, the most items first; only with
    `brands`."""
    proposed: str | None = None
    """A search that finds something, where this one finds nothing; only with `forgiving`."""


@dataclass(frozen=True)
class WholeItem:
    """All that the bundle knows of one item."""

    bundle: str
    item: dict[str, Any]
    """Its columns, including the shop's own attributes."""
    degraded: str | None = None
    """What the answer lacks while the online store cannot be used; null: nothing."""
    colour: str | None = None
    """Its colour, as its attributes say; null: they do not."""


@dataclass(frozen=True)
class Category:
    """A node of a category tree."""

    path: str
    count: int
    """How many items are at or beneath this node."""


@dataclass(frozen=True)
class CategoryTree:
    """Every node of the tree, parents before children."""

    bundle: str
    categories: list[Category]


@dataclass(frozen=True)
class BundleModel:
    """A model of the bundle, and whether it learned from all acts or from those that it was not judged by."""

    name: str
    role: str
    hash: str
    judged: str
    """The hash of the export that the verdict is about: another one, if it was trained again since."""
    trained_again: str | None = None
    """When it was trained again on everything, with the settings that were judged; null: it was not."""
    as_judged: str | None = None
    """Why it was not."""

    @property
    def told(self) -> str | None:
        """Which of the two, in a sentence; None: nothing is known of it."""
        if self.trained_again is not None:
            return (
                f"{self.name} was trained again on everything on {self.trained_again[:10]}, "
                f"with the settings judged as {self.judged[:8]}"
            )
        return None if self.as_judged is None else f"{self.name} is as it was judged: {self.as_judged}"


@dataclass(frozen=True)
class BundleFacts:
    """What the bundle holds and can answer, so that a page offers nothing that the shop does not have."""

    bundle: str
    items: int
    with_photo: int
    """How many items have a photo."""
    with_price: int
    with_stock: int
    """How many items say whether they are in stock."""
    acted_on: int
    """How many items shoppers acted on; 0: nobody did anything yet, and the most popular come in the order of
    their ids."""
    finds_by_photo: bool
    """Whether the bundle has a model of photos, which finds what is like one."""
    kinds: list[str]
    """The kinds of acts that the shop counts: `view`, `cart` and `buy` if it counts them, and those of
    its own."""
    models: list[BundleModel] = field(default_factory=list)


# -- slates ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One place of a slate."""

    rank: int
    score: float
    """The similarity, the ranker's score or, in a fallback, the popularity; higher is better."""


@dataclass(frozen=True)
class Slot(Item, Place):
    """An item at its place of a slate. (A dataclass has the fields of its last base first.)"""


@dataclass(frozen=True)
class ReasonedPlace(Place):
    """One place of a shopper's slate, and how its item got there."""

    why: str | None
    """The reason for the shopper, such as "because you bought …"; only with `explain`."""
    trace: dict[str, Any] | None
    """The trace for the shop: which retrievers found the item, each stage's score; only with `explain`."""


@dataclass(frozen=True)
class ReasonedSlot(Item, ReasonedPlace):
    """An item at its place of a shopper's slate."""


@dataclass(frozen=True)
class Answer:
    """What is similar to one query."""

    row: int
    """Position of the query in the request."""
    fallback: str | None
    """Why the slate is not of similar photos. `unknown_item`, `item_without_photo`: it has the most popular
    items. `by_text`: it has items with a similar text. `by_behaviour`: it has what the same shoppers want.
    null: it is of similar photos."""
    reason: str | None
    """Why the slate has fewer than k items; null: it has k."""
    slate: list[Slot]
    match: bool | None = None
    """Of a photo: whether the most similar item is so similar that the two show the same kind of thing, by
    the threshold that the evaluation calibrated. null: it calibrated none, or an item was asked about."""


@dataclass(frozen=True)
class Answers:
    """One answer per query, all from one bundle."""

    bundle: str
    answers: list[Answer]
    degraded: str | None = None
    """What the answer lacks while the online store cannot be used; null: nothing."""


@dataclass(frozen=True)
class Recommended:
    """The slate for one shopper."""

    bundle: str
    user_id: str | None
    tier: str
    """Which models answered: `deep`, `collaborative`, `photo` or `popular`."""
    known: bool
    """Whether anything is known of the shopper."""
    reason: str | None
    """Why the slate has fewer than k items; null: it has k."""
    slate: list[ReasonedSlot]
    trace: dict[str, Any] | None
    """What each stage did; only with `explain`."""
    degraded: str | None = None
    """What the answer lacks while the online store cannot be used; null: nothing."""


# -- pairs and shoppers ------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranked:
    """The score of one pair of a shopper and an item."""

    row: int
    """Position of the pair in the request, or of the item in the list of what a shopper likes."""
    user_id: str
    item_id: str
    score: float
    """Higher is better; compare only pairs of one shopper. 0 for an unknown item."""
    probability: float | None
    """The probability that the shopper likes the item; null if no ranker with probabilities knows both."""
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
    """What the answer lacks while the online store cannot be used; null: nothing."""


@dataclass(frozen=True)
class LikedItem(Ranked):
    """An item that a shopper probably likes."""

    item: Item


@dataclass(frozen=True)
class LikedItems:
    """The items that a shopper most probably likes and does not own yet, best first."""

    bundle: str
    user_id: str
    threshold: float
    liked: list[LikedItem]
    degraded: str | None = None
    """What the answer lacks while the online store cannot be used; null: nothing."""


@dataclass(frozen=True)
class NearUser:
    """A shopper, and how near they are to the item or shopper of the request."""

    user_id: str
    score: float
    """Higher is nearer."""


@dataclass(frozen=True)
class NearUsers:
    """The shoppers to tell about an item, or those similar to a shopper; the nearest first."""

    bundle: str
    users: list[NearUser]


@dataclass(frozen=True)
class KnownUsers:
    """Some shoppers: those who were active last."""

    bundle: str
    users: list[str]


# -- what shoppers do --------------------------------------------------------------------------


@dataclass(frozen=True)
class Act:
    """One thing that a shopper did."""

    item_id: str
    kind: str = "view"
    value: float | None = None
    """Stars, a count or an amount, depending on `kind`."""
    time: int | None = None
    """Microseconds since 1970, UTC; null: not known (an event without a time gets the time of its
    arrival)."""


@dataclass(frozen=True)
class PastAct(Act):
    """One thing that a shopper did, with its item."""

    item: Item | None = None
    """null: the item is not in this bundle."""


@dataclass(frozen=True)
class History:
    """What a shopper did, oldest first."""

    bundle: str
    user_id: str
    acts: list[PastAct]
    degraded: str | None = None
    """What the answer lacks while the online store cannot be used; null: nothing."""


@dataclass(frozen=True)
class Event:
    """An act that is sent to the server. The same `event_id` counts once, however often it is sent."""

    event_id: str
    user_id: str
    act: Act


@dataclass(frozen=True)
class EventsDone:
    """What the server did with the events of a request."""

    bundle: str | None
    accepted: int
    repeated: int
    quarantined: int
    """How many were set aside: before 1995, or more than five minutes ahead of the server's clock."""
    erased: int
    """How many were not stored: their shopper was erased after them, or they were erased and sent again."""
    reasons: list[str]
    """Why events were set aside."""
    unknown: int | None
    """How many of those sent are about an item that this bundle lacks, or of an unknown kind. They are
    stored, but no model learns from them until the shop's tables or settings know both. null: no bundle is
    served."""
    notes: list[str]
    """Which items and kinds are unknown."""


@dataclass(frozen=True)
class Erased:
    """A shopper's acts were erased."""

    bundle: str | None
    user_id: str
    acts: int
    """How many acts were deleted from the online store."""
    left: list[str]
    """Where traces are left; `etalage erase` deletes those in the tables."""


# -- what an item is ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ToClassify:
    """One product to classify: its photos (image files), its title, or both."""

    photos: Sequence[bytes] = ()
    title: str | None = None


@dataclass(frozen=True)
class Step:
    """One category of a path."""

    id: str
    name: str
    confidence: float
    """The sum over all leaves beneath it."""


@dataclass(frozen=True)
class Leaf:
    """Another category that the product may have."""

    id: str
    path: str
    confidence: float


@dataclass(frozen=True)
class StoredCategory:
    """The categories that the bundle stores for an item: the classified one and the merchant's own."""

    category_id: str | None
    path: str | None
    confidence: float | None
    own: str | None
    """The merchant's own category."""


@dataclass(frozen=True)
class Categorised:
    """The category of one product."""

    row: int
    """Position of the item in the request."""
    category_id: str | None
    """The leaf of the taxonomy; null: not classified."""
    path: str | None
    """From the root to the leaf, joined by ` > `."""
    confidence: float | None
    """The calibrated probability of the best leaf, also below the threshold."""
    reason: str | None
    """Why the product is not classified; null: it is."""
    steps: list[Step]
    """From the root to the best leaf, whether it is certain enough or not."""
    others: list[Leaf]
    """The next most probable leaves."""
    stored: StoredCategory | None
    """What the bundle stores; only for an item of the catalogue."""


@dataclass(frozen=True)
class Categories:
    """One answer per product, all from one bundle."""

    bundle: str
    model: str
    """Hash of the classifier."""
    answers: list[Categorised]


@dataclass(frozen=True)
class ValuedCategory:
    """A category with its row and column in the confusion matrix."""

    id: str
    path: str
    value: float
    """The category's value for the shop."""


@dataclass(frozen=True)
class Confusion:
    """How often the classifier took one category for another, in its evaluation."""

    bundle: str
    categories: list[ValuedCategory]
    """The most valuable first."""
    counts: list[list[int]]
    """Rows: predicted; columns: true."""
    elsewhere: list[int]
    """How many items of each category were taken for one that is not shown; empty: none."""

    @property
    def totals(self) -> list[int]:
        """How many items each category has."""
        shown = [sum(row[true] for row in self.counts) for true in range(len(self.categories))]
        return [here + away for here, away in zip(shown, self.elsewhere or [0] * len(shown), strict=True)]


# -- health and refusals -----------------------------------------------------------------------


@dataclass(frozen=True)
class Entrance:
    """What answers at an address, and where it says more."""

    what: str
    bundle: str | None
    """The bundle that is served; null: none yet."""
    openapi: str
    """Where every route is described, with all questions and answers."""
    health: str
    """Says that the process answers; `ready` that it has a bundle."""
    ready: str
    metrics: str
    page: str
    """The command that shows this shop to people, on a page."""


@dataclass(frozen=True)
class Alive:
    """The server's process answers."""

    status: str
    """`alive`."""
    bundle: str | None
    """The bundle that is served; null: none yet."""


@dataclass(frozen=True)
class Readiness(Alive):
    """Whether the server can answer. `status`: `ready`, `degraded` (it can, with less) or `not ready`."""

    problem: str | None
    """Why the last reload failed, while the old bundle is still served; null: it did not."""
    degraded: str | None
    """What the online store, or the vector database of an index, cannot do now; null: nothing."""


@dataclass(frozen=True)
class Problem:
    """Why the server refused a request."""

    class_: str = field(metadata={"alias": "class"})
    """A class of etalage.errors, or HTTP's name of the error."""
    message: str


@dataclass(frozen=True)
class Refusal:
    """The body of every answer that is an error."""

    bundle: str | None
    error: Problem

    def tree(self) -> dict[str, Any]:
        """The JSON object; in Python a field cannot be called `class`."""
        error = {"class": self.error.class_, "message": self.error.message}
        return {"bundle": self.bundle, "error": error}


# -- rows of the MLflow endpoint's tables ------------------------------------------------------


@dataclass(frozen=True)
class SimilarRow:
    """A row of the task `similar`."""

    row: int
    rank: int
    item_id: str
    score: float
    image: str
    """A PNG as base64, or float32 pixels as hex; empty: not requested."""


@dataclass(frozen=True)
class RecommendedRow:
    """A row of the task `recommend`."""

    row: int
    rank: int
    item_id: str
    score: float
    why: str


@dataclass(frozen=True)
class RankedRow:
    """A row of the task `rank`."""

    row: int
    score: float
    probability: float | None
    """NaN in the table and None when read: no ranker knows both."""


@dataclass(frozen=True)
class CategoryRow:
    """A row of the task `classify`. If not classified, the table has empty texts and NaN, which are read as
    None."""

    row: int
    category_id: str | None
    path: str | None
    confidence: float | None


# -- writing requests --------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(when: datetime) -> int:
    """Convert a time to the microseconds of `Act.time`; a time without a zone is UTC."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def act_body(act: Act) -> dict[str, Any]:
    """The JSON of one act in the history of a request to recommend."""
    body = {"item_id": act.item_id, "kind": act.kind, "value": act.value, "time": act.time}
    return {name: value for name, value in body.items() if value is not None}


def event_body(event: Event) -> dict[str, Any]:
    """The JSON of one event in a request to store events."""
    return {"event_id": event.event_id, "user_id": event.user_id, **act_body(event.act)}


def photo_body(photo: bytes) -> str:
    """The JSON of an image file: base64."""
    return base64.b64encode(photo).decode()


def classify_body(one: ToClassify) -> dict[str, Any]:
    """The JSON of one product in a request to classify."""
    return {"photos": [photo_body(photo) for photo in one.photos], "title": one.title}


# -- reading answers ---------------------------------------------------------------------------

T = TypeVar("T")
R = TypeVar("R")


def read(kind: type[T], tree: Any) -> T:
    """Make an answer of this class from parsed JSON; ignore fields that this version does not know.

    Raises ServeError that names a field which is missing or has the wrong type.
    """
    return _fitting(read_object, kind, tree)


def read_all(kind: type[T], trees: Any) -> list[T]:
    """Make a list of such answers. Raises as `read`."""
    return _fitting(read_list, kind, trees)


def _fitting(reader: Callable[[type[T], Any], R], kind: type[T], tree: Any) -> R:
    try:
        return reader(kind, tree)
    except Misfit as error:
        where = ".".join(("answer", *error.path))
        raise ServeError(
            f"{where}: {error.why}; is this a server of Etalage, and of the client's version?"
        ) from error
