"""Talk to a server of Etalage, or to its MLflow endpoint, in typed Python.

Needs httpx, numpy and Pillow; nothing of the rest of Etalage but its errors.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from PIL import Image

from etalage import errors

TIMEOUT_SECONDS = 30.0
MAX_PAIRS, MAX_RANKED = 1000, 200
"""Pairs that one request to rank may have, and shoppers among them."""
_PNG_BASE64 = "iVBORw0KGgo"
"""How every PNG begins in base64; `i` is no hex digit, so the two encodings cannot be mistaken."""


@dataclass(frozen=True)
class Item:
    """What the server shows of an item. `photo` is a path on the server, None without a photo."""

    item_id: str
    title: str | None
    brand: str | None
    price: float | None
    currency: str | None
    category_id: str | None
    in_stock: bool | None
    photo: str | None


@dataclass(frozen=True)
class Slot:
    """One place of a slate; score: similarity, or popularity in a fallback. Higher is better."""

    rank: int
    score: float
    item: Item


@dataclass(frozen=True)
class Answer:
    """The slate for one query; `fallback` and `reason` say when it is not what was asked."""

    row: int
    slate: list[Slot]
    fallback: str | None
    reason: str | None


@dataclass(frozen=True)
class Answers:
    """One answer per query, all of one bundle."""

    bundle: str
    answers: list[Answer]
    degraded: str | None = None
    """What they go without, while the server's online store cannot be used."""


@dataclass(frozen=True)
class Items:
    """One page of `total` items."""

    bundle: str
    total: int
    offset: int
    items: list[Item]


@dataclass(frozen=True)
class Category:
    """A node of the category tree and the number of items at or beneath it."""

    path: str
    count: int


@dataclass(frozen=True)
class Act:
    """One thing that a shopper did. `value`: stars, count or amount; `time`: microseconds since 1970 (so it
    comes back), or a datetime (without a zone: UTC)."""

    item_id: str
    kind: str = "view"
    value: float | None = None
    time: int | datetime | None = None


@dataclass(frozen=True)
class PastAct:
    """An act of a history. `item` is None when the bundle does not have it."""

    act: Act
    item: Item | None


@dataclass(frozen=True)
class History:
    """What a shopper did, oldest first."""

    bundle: str
    user_id: str
    acts: list[PastAct]


@dataclass(frozen=True)
class Event:
    """An act on its way in; the same `event_id` is counted once, however often it is sent."""

    event_id: str
    user_id: str
    act: Act


@dataclass(frozen=True)
class EventsDone:
    """What became of the events that were sent."""

    accepted: int
    repeated: int
    quarantined: int
    reasons: list[str]
    unknown: int | None
    """How many are on an item that the server's bundle lacks, or of a kind that nobody knows: kept, and
    taught to no model until both are known. None: no bundle serves."""
    notes: list[str]
    """Which items and kinds these are."""
    erased: int
    """Those of shoppers who were erased after them, or sent again: not kept."""


@dataclass(frozen=True)
class ReasonedSlot:
    """One place of a shopper's slate; `why` and `trace` where they were asked for."""

    rank: int
    score: float
    item: Item
    why: str | None
    trace: dict[str, Any] | None


@dataclass(frozen=True)
class Recommended:
    """The slate for one shopper. rung: who spoke (`deep`, `collaborative`, `photo`, `popular`)."""

    bundle: str
    user_id: str | None
    rung: str
    known: bool
    slate: list[ReasonedSlot]
    reason: str | None
    trace: dict[str, Any] | None
    degraded: str | None = None
    """What it goes without, while the server's online store cannot be used."""


@dataclass(frozen=True)
class Ranked:
    """The score of one pair. `probability` is None where no ranker knows both; `item` only in `liked`."""

    row: int
    user_id: str
    item_id: str
    score: float
    probability: float | None
    liked: bool | None
    known_user: bool
    known_item: bool
    item: Item | None = None


@dataclass(frozen=True)
class Near:
    """A shopper, and how near; higher is nearer."""

    user_id: str
    score: float


@dataclass(frozen=True)
class Erased:
    """How many acts are gone from the online store, and where traces still are."""

    user_id: str
    acts: int
    left: list[str]


# What an item is: `POST /v1/classify`, `GET /v1/confusion`.


@dataclass(frozen=True)
class Step:
    """One category of a path; its confidence is that of all leaves beneath it."""

    id: str
    name: str
    confidence: float


@dataclass(frozen=True)
class Leaf:
    """Another category that it may be."""

    id: str
    path: str
    confidence: float


@dataclass(frozen=True)
class StoredCategory:
    """What the bundle holds of an item; `own` is the merchant's category."""

    category_id: str | None
    path: str | None
    confidence: float | None
    own: str | None


@dataclass(frozen=True)
class Categorised:
    """What one thing is. `category_id` and `path` are None where it is not classified; `reason` says why."""

    row: int
    category_id: str | None
    path: str | None
    confidence: float | None
    reason: str | None
    steps: list[Step]
    """From the root to the best leaf, whether it is certain enough or not."""
    others: list[Leaf]
    stored: StoredCategory | None


@dataclass(frozen=True)
class Categories:
    """One answer an item, all of one bundle; `model` is the classifier's hash."""

    bundle: str
    model: str
    answers: list[Categorised]


@dataclass(frozen=True)
class ValuedCategory:
    """A row and column of the confusion matrix; `value`: what it is worth to the shop."""

    id: str
    path: str
    value: float


@dataclass(frozen=True)
class Confusion:
    """Which category is taken for which, the most valuable first. `counts[p][t]`: predicted p, true t."""

    bundle: str
    categories: list[ValuedCategory]
    counts: list[list[int]]
    elsewhere: list[int]
    """Items of each category that were taken for one that is not shown; empty: none were."""

    @property
    def totals(self) -> list[int]:
        """Items of each category."""
        shown = [sum(row[true] for row in self.counts) for true in range(len(self.categories))]
        return [here + away for here, away in zip(shown, self.elsewhere or [0] * len(shown), strict=True)]


@dataclass(frozen=True)
class ToClassify:
    """One thing: its photos (image files), its title, or both."""

    photos: Sequence[bytes] = ()
    title: str | None = None


@dataclass(frozen=True)
class TableRow:
    """One row of the MLflow endpoint's table. `image`: (H, W, C) float32 in 0…1; None if not sent."""

    row: int
    rank: int
    item_id: str
    score: float
    image: np.ndarray | None


class Client:
    """A server of Etalage. Refusals are raised as the classes of etalage.errors."""

    def __init__(self, url: str, key: str | None = None, timeout: float = TIMEOUT_SECONDS) -> None:
        """`url`: where `etalage serve` answers; `key`: its bearer key, if it has one."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, trust_env=not _is_loopback(url)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def similar(
        self,
        *,
        item_id: str | None = None,
        photo: bytes | None = None,
        photos: Sequence[bytes] | None = None,
        k: int = 10,
        category: str | None = None,
        min_price: float | None = None,
        max_price: float | None = None,
        in_stock: bool | None = None,
        threshold: float | None = None,
        classified: str | None = None,
        min_confidence: float | None = None,
    ) -> Answers:
        """The k most similar items to one item, one photo or each of several (image files).

        Raises RequestError and its kinds (PhotoRefused names the row), NoBundle, ServeError.
        """
        filters = {
            "category": category,
            "min_price": min_price,
            "max_price": max_price,
            "in_stock": in_stock,
            "classified": classified,
            "min_confidence": min_confidence,
        }
        body: dict[str, Any] = {"k": k, "filters": {n: v for n, v in filters.items() if v is not None}}
        if threshold is not None:
            body["threshold"] = threshold
        if item_id is not None:
            body["item_id"] = item_id
        if photo is not None:
            body["photo"] = base64.b64encode(photo).decode()
        if photos is not None:
            body["photos"] = [base64.b64encode(one).decode() for one in photos]
        found = self._send("POST", "/v1/similar", json=body).json()
        return Answers(
            found["bundle"], [_answer(answer) for answer in found["answers"]], found.get("degraded")
        )

    def item(self, item_id: str) -> dict[str, Any]:
        """All that the bundle knows of an item. Raises NotFound."""
        item: dict[str, Any] = self._send("GET", f"/v1/items/{quote(item_id, safe='')}").json()["item"]
        return item

    def photo(self, item_id: str) -> bytes:
        """The item's image file. Raises NotFound."""
        return self._send("GET", f"/v1/photos/{quote(item_id, safe='')}").content

    def items(
        self,
        search: str = "",
        *,
        category: str | None = None,
        in_stock: bool | None = None,
        min_price: float | None = None,
        max_price: float | None = None,
        offset: int = 0,
        limit: int = 50,
        classified: str | None = None,
        min_confidence: float | None = None,
    ) -> Items:
        """Items that hold every word of `search`, the most popular first."""
        asked: dict[str, Any] = {
            "search": search,
            "category": category,
            "in_stock": None if in_stock is None else str(in_stock).lower(),
            "min_price": min_price,
            "max_price": max_price,
            "offset": offset,
            "limit": limit,
            "classified": classified,
            "min_confidence": min_confidence,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        found = self._send("GET", "/v1/items", params=given).json()
        return Items(found["bundle"], found["total"], found["offset"], [_item(i) for i in found["items"]])

    def categories(self, of: str = "merchants") -> list[Category]:
        """The nodes of the category tree, parents before children; of: `merchants` or `classified`."""
        nodes = self._send("GET", "/v1/categories", params={"of": of}).json()["categories"]
        return [Category(node["path"], node["count"]) for node in nodes]

    # -- categories ----------------------------------------------------------------------------

    def classify(
        self, items: Sequence[ToClassify], *, threshold: float | None = None, top: int | None = None
    ) -> Categories:
        """What is each of these? None: threshold and number of other leaves as the shop has set them.

        Raises RequestError (names the row that is no photo), Unprocessable: the bundle has no classifier.
        """
        bodies = [
            {"photos": [base64.b64encode(photo).decode() for photo in one.photos], "title": one.title}
            for one in items
        ]
        return self._classified({"items": bodies}, threshold, top)

    def classify_item(
        self, item_id: str, *, threshold: float | None = None, top: int | None = None
    ) -> Categories:
        """What an item of the catalogue is, now, beside what is stored. Raises NotFound, Unprocessable."""
        return self._classified({"item_id": item_id}, threshold, top)

    def _classified(self, body: dict[str, Any], threshold: float | None, top: int | None) -> Categories:
        found = self._send("POST", "/v1/classify", json={**body, "threshold": threshold, "top": top}).json()
        return Categories(found["bundle"], found["model"], [_categorised(one) for one in found["answers"]])

    def confusion(self) -> Confusion:
        """Which category the classifier takes for which. Raises NotFound: the bundle holds no such matrix."""
        found = self._send("GET", "/v1/confusion").json()
        categories = [ValuedCategory(**one) for one in found["categories"]]
        return Confusion(found["bundle"], categories, found["counts"], found["elsewhere"])

    # -- shoppers ------------------------------------------------------------------------------

    def recommend(
        self,
        user_id: str | None = None,
        *,
        history: Sequence[Act] | None = None,
        k: int = 10,
        explain: bool = False,
        category: str | None = None,
        min_price: float | None = None,
        max_price: float | None = None,
        in_stock: bool | None = None,
        brand: str | None = None,
        attributes: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        classified: str | None = None,
        min_confidence: float | None = None,
    ) -> Recommended:
        """The k items for a shopper, or for who did what `history` says (oldest first).

        Raises RequestError and its kinds, NoBundle, ServeError.
        """
        filters: dict[str, Any] = {
            "category": category,
            "min_price": min_price,
            "max_price": max_price,
            "in_stock": in_stock,
            "brand": brand,
            "attributes": None if attributes is None else dict(attributes),
            "exclude": list(exclude) or None,
            "classified": classified,
            "min_confidence": min_confidence,
        }
        body: dict[str, Any] = {"k": k, "explain": explain}
        body["filters"] = {name: value for name, value in filters.items() if value is not None}
        if user_id is not None:
            body["user_id"] = user_id
        if history is not None:
            body["history"] = [_act_body(act) for act in history]
        found = self._send("POST", "/v1/recommend", json=body).json()
        slate = [
            ReasonedSlot(slot["rank"], slot["score"], _item(slot), slot["why"], slot["trace"])
            for slot in found["slate"]
        ]
        said = {name: found[name] for name in ("bundle", "user_id", "rung", "known", "reason", "trace")}
        said["degraded"] = found.get("degraded")
        return Recommended(**said, slate=slate)

    def rank(self, pairs: Sequence[tuple[str, str]], threshold: float = 0.5) -> list[Ranked]:
        """The score of each (user_id, item_id); `liked`: probability at least `threshold`.

        Pairs of many shoppers are asked for in several requests.
        """
        ranked: list[Ranked] = []
        for some in _of_few_shoppers(pairs):
            asked = [{"user_id": user_id, "item_id": item_id} for user_id, item_id in some]
            found = self._send("POST", "/v1/rank", json={"pairs": asked, "threshold": threshold}).json()
            ranked += [Ranked(**{**row, "row": len(ranked) + n}) for n, row in enumerate(found["ranked"])]
        return ranked

    def liked(self, user_id: str, k: int = 50, threshold: float = 0.5) -> list[Ranked]:
        """What a shopper most probably likes, with the items. Raises NotFound: nothing is known of them."""
        path = f"/v1/users/{quote(user_id, safe='')}/liked"
        found = self._send("GET", path, params={"k": k, "threshold": threshold}).json()["liked"]
        return [Ranked(**{**row, "item": _item(row["item"])}) for row in found]

    def users_for_item(self, item_id: str, k: int = 10) -> list[Near]:
        """The shoppers to tell of an item. Raises NotFound; Unprocessable: no model for it."""
        found = self._send("POST", "/v1/users", json={"item_id": item_id, "k": k}).json()
        return [Near(**near) for near in found["users"]]

    def users_like(self, user_id: str, k: int = 10) -> list[Near]:
        """The shoppers most like this one. Raises NotFound, Unprocessable."""
        found = self._send("POST", "/v1/users", json={"user_id": user_id, "k": k}).json()
        return [Near(**near) for near in found["users"]]

    def users(self, limit: int = 50) -> list[str]:
        """Some shoppers: those who acted last."""
        users: list[str] = self._send("GET", "/v1/users", params={"limit": limit}).json()["users"]
        return users

    def history(self, user_id: str, limit: int = 50) -> History:
        """The newest acts of a shopper, oldest first; none for one that nobody knows."""
        path = f"/v1/users/{quote(user_id, safe='')}/history"
        found = self._send("GET", path, params={"limit": limit}).json()
        acts = [
            PastAct(
                Act(act["item_id"], act["kind"], act["value"], act["time"]),
                None if act["item"] is None else _item(act["item"]),
            )
            for act in found["acts"]
        ]
        return History(found["bundle"], found["user_id"], acts)

    def send_events(self, events: Sequence[Event]) -> EventsDone:
        """Tell what shoppers did; durable when it returns. To be sent again, as it is, after a ServeError."""
        bodies = [
            {"event_id": event.event_id, "user_id": event.user_id, **_act_body(event.act)} for event in events
        ]
        done = self._send("POST", "/v1/events", json={"events": bodies}).json()
        return EventsDone(**{name: done[name] for name in EventsDone.__dataclass_fields__})

    def erase(self, user_id: str) -> Erased:
        """Forget a shopper's acts in the online store."""
        done = self._send("DELETE", f"/v1/users/{quote(user_id, safe='')}").json()
        return Erased(done["user_id"], done["acts"], done["left"])

    def bundle(self) -> str | None:
        """The id of the bundle that serves; None when there is none yet."""
        bundle: str | None = self._send("GET", "/healthz").json()["bundle"]
        return bundle

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        return _sent(self._http, method, path, **content)


def mlflow_similar(
    url: str,
    photos: Sequence[bytes],
    k: int = 5,
    image: str = "png",
    *,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> list[TableRow]:
    """Ask an MLflow scoring server (`mlflow models serve`) for the k most similar to each photo.

    `image`: how photos travel back, `png`, `float32_hex` or `none`. Raises RequestError, ServeError.
    """
    body = {
        "dataframe_split": {
            "columns": ["input"],
            "data": [[base64.b64encode(photo).decode()] for photo in photos],
        },
        "params": {"k": k, "image": image},
    }
    return decode_table(_invoked(url, body, key, timeout))


@dataclass(frozen=True)
class RecommendedRow:
    """One row of the MLflow endpoint's table of slates."""

    row: int
    rank: int
    item_id: str
    score: float
    why: str


def mlflow_recommend(
    url: str,
    shoppers: Sequence[str | Sequence[Act]],
    k: int = 10,
    *,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> list[RecommendedRow]:
    """Ask an MLflow scoring server of the task `recommend` for each shopper: a user_id, or a history.

    Raises RequestError, ServeError.
    """
    records = [
        {"user_id": one} if isinstance(one, str) else {"history": json.dumps([_act_body(act) for act in one])}
        for one in shoppers
    ]
    rows = _invoked(url, {"dataframe_records": records, "params": {"k": k}}, key, timeout)
    return [RecommendedRow(**row) for row in rows["predictions"]]


def mlflow_rank(
    url: str,
    pairs: Sequence[tuple[str, str]],
    *,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> list[tuple[float, float | None]]:
    """Ask an MLflow scoring server of the task `rank`: (score, probability) of each (user_id, item_id).

    Raises RequestError, ServeError.
    """
    split = {"columns": ["user_id", "item_id"], "data": [list(pair) for pair in pairs]}
    rows = _invoked(url, {"dataframe_split": split}, key, timeout)["predictions"]
    return [(row["score"], row["probability"]) for row in rows]


@dataclass(frozen=True)
class CategoryRow:
    """One row of the MLflow endpoint's table of categories; None where it is not classified."""

    row: int
    category_id: str | None
    path: str | None
    confidence: float | None


def mlflow_classify(
    url: str,
    items: Sequence[tuple[bytes | None, str | None]],
    threshold: float | None = None,
    *,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> list[CategoryRow]:
    """Ask an MLflow scoring server of the task `classify` about each (photo, title); either may be None.

    Raises RequestError, ServeError.
    """
    records = [
        {"input": None if photo is None else base64.b64encode(photo).decode(), "title": title}
        for photo, title in items
    ]
    given = {} if threshold is None else {"params": {"threshold": threshold}}
    rows = _invoked(url, {"dataframe_records": records, **given}, key, timeout)["predictions"]
    return [
        CategoryRow(
            row["row"], row["category_id"] or None, row["path"] or None, _known_number(row["confidence"])
        )
        for row in rows
    ]


def _of_few_shoppers(pairs: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """`pairs` in their order, cut where one request would have too many."""
    parts: list[list[tuple[str, str]]] = [[]]
    shoppers: set[str] = set()
    for pair in pairs:
        if len(parts[-1]) == MAX_PAIRS or len(shoppers - {pair[0]}) == MAX_RANKED:
            parts.append([])
            shoppers = set()
        parts[-1].append(pair)
        shoppers.add(pair[0])
    return parts


def _known_number(value: float | None) -> float | None:
    """MLflow's server writes NaN, which JSON does not have, where there is no number."""
    return None if value is None or math.isnan(value) else value


def _invoked(url: str, body: Mapping[str, Any], key: str | None, timeout: float) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    trusting = not _is_loopback(url)
    with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout, trust_env=trusting) as http:
        return _sent(http, "POST", "/invocations", json=body).json()


def decode_table(answer: Any) -> list[TableRow]:
    """The MLflow endpoint's answer, `{"predictions": [...]}` or its rows alone, decoded.

    Both encodings of an image give the same (H, W, C) float32 pixels in 0…1. Raises RequestError
    when it is not such a table.
    """
    rows: Any = answer.get("predictions") if isinstance(answer, Mapping) else answer
    try:
        return [
            TableRow(int(r["row"]), int(r["rank"]), str(r["item_id"]), float(r["score"]), _image(r["image"]))
            for r in rows
        ]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise errors.RequestError(f"not a table of row, rank, item_id, score, image: {error!r}") from error


def _image(text: str | None) -> np.ndarray | None:
    if not text:
        return None
    if text.startswith(_PNG_BASE64):
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=("PNG",)) as opened:
            pixels = np.asarray(opened)
        return pixels.reshape(*pixels.shape[:2], -1).astype(np.float32) / np.float32(255)
    values = np.frombuffer(bytes.fromhex(text), dtype="<f4")
    # Square photos of 1 or 3 channels: one of the two counts is a square number, never both.
    for channels in (1, 3):
        size = round((len(values) / channels) ** 0.5)
        if size * size * channels == len(values):
            return values.reshape(size, size, channels)
    raise ValueError(f"{len(values)} pixels are no square photo")


def _is_loopback(url: str) -> bool:
    """A proxy of the environment must not see the key of a server on this machine."""
    host = httpx.URL(url).host
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _sent(http: httpx.Client, method: str, path: str, **content: Any) -> httpx.Response:
    try:
        response = http.request(method, path, **content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise errors.ServeError(f"{http.base_url}: no answer: {error}; is the server running?") from error
    if response.is_success:
        return response
    raise _refusal(response)


def _refusal(response: httpx.Response) -> errors.EtalageError:
    """The error that the server answered, as its class; by its status when it names none of ours."""
    name, message = "", f"status {response.status_code}: {response.text[:500]}"
    try:
        answer = response.json()
        if isinstance(answer.get("error"), dict):
            name, message = str(answer["error"]["class"]), str(answer["error"]["message"])
        elif "message" in answer:  # MLflow's shape
            message = str(answer["message"]).split("\nError: ")[-1]
    except (ValueError, KeyError, AttributeError):
        pass  # not from us: the status and the text must do
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.EtalageError)):
        kind = _by_status(response.status_code)
    return kind(message)


def _by_status(status: int) -> type[errors.EtalageError]:
    for kind in errors.RequestError.__subclasses__():
        if kind.http_status == status and kind is not errors.PhotoRefused:
            return kind
    return errors.RequestError if 400 <= status < 500 else errors.ServeError


def _act_body(act: Act) -> dict[str, Any]:
    body: dict[str, Any] = {"item_id": act.item_id, "kind": act.kind}
    time = act.time.isoformat() if isinstance(act.time, datetime) else act.time
    return body | {name: value for name, value in (("value", act.value), ("time", time)) if value is not None}


def _item(shown: Mapping[str, Any]) -> Item:
    return Item(**{name: shown[name] for name in Item.__dataclass_fields__})


def _categorised(one: Mapping[str, Any]) -> Categorised:
    lists = {
        "steps": [Step(**step) for step in one["steps"]],
        "others": [Leaf(**leaf) for leaf in one["others"]],
        "stored": None if one["stored"] is None else StoredCategory(**one["stored"]),
    }
    return Categorised(**{**one, **lists})


def _answer(answer: Mapping[str, Any]) -> Answer:
    slate = [Slot(slot["rank"], slot["score"], _item(slot)) for slot in answer["slate"]]
    return Answer(answer["row"], slate, answer["fallback"], answer["reason"])
