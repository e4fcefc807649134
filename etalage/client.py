"""Calls a server of Etalage, or its MLflow endpoint, from typed Python.

It needs httpx and, for the photos of an MLflow endpoint, numpy and Pillow. From Etalage it needs only
etalage.api, which defines what goes over the wire, and the errors.
"""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx

from etalage import api, errors
from etalage.api import act_body, classify_body, event_body, photo_body

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
TIMEOUT_SECONDS = 30.0
_PNG_BASE64 = "iVBORw0KGgo"
"""How every PNG begins in base64. `i` is not a hex digit, so the two encodings cannot be confused."""


@dataclass(frozen=True)
class TableRow:
    """One row of the MLflow endpoint's table. `image`: (H, W, C) float32 in 0…1; None if not sent."""

    row: int
    rank: int
    item_id: str
    score: float
    image: "np.ndarray | None"


class Client:
    """A connection to a server of Etalage. It raises the server's refusals as the classes of
    etalage.errors."""

    def __init__(self, url: str, key: str | None = None, timeout: float = TIMEOUT_SECONDS) -> None:
        """`url`: the address of `etalage serve`; `key`: its bearer key, if it has one; `timeout`: in
        seconds."""
        self.url, auth = _without_userinfo(url)
        """The address, without a name and password that it may have."""
        self._http = _http(self.url, auth, key, timeout)

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
        model: str | None = None,
        brand: str | None = None,
        by_behaviour: bool | None = None,
        same_colour: bool | None = None,
    ) -> api.Answers:
        """The k items most similar to one item, to one photo, or to each of several photos (image files).

        by_behaviour, same_colour: of an item: what the same shoppers want; only what has its colour.
        model: which photo embedder compares, if there are several; None: as the shop has set it.
        Raises RequestError and its subclasses (PhotoRefused names the row), NoBundle, ServeError.
        """
        filters = _given(
            category=category,
            min_price=min_price,
            max_price=max_price,
            in_stock=in_stock,
            classified=classified,
            min_confidence=min_confidence,
            brand=brand,
        )
        query = _given(
            by_behaviour=by_behaviour,
            same_colour=same_colour,
            threshold=threshold,
            model=model,
            item_id=item_id,
            photo=None if photo is None else photo_body(photo),
            photos=None if photos is None else [photo_body(one) for one in photos],
        )
        return self._ask(api.Answers, "POST", "/v1/similar", json={"k": k, "filters": filters, **query})

    def item(self, item_id: str) -> dict[str, Any]:
        """All that the bundle knows of an item. Raises NotFound."""
        return self.whole_item(item_id).item

    def whole_item(self, item_id: str) -> api.WholeItem:
        """The same, with the bundle and the item's colour. Raises NotFound."""
        return self._ask(api.WholeItem, "GET", f"/v1/items/{_escaped(item_id)}")

    def photo(self, item_id: str) -> bytes:
        """The item's image file. Raises NotFound."""
        return self.photo_and_bundle(item_id)[0]

    def photo_and_bundle(self, item_id: str) -> tuple[bytes, str | None]:
        """The item's image file, and the id of the bundle that it is from. Raises NotFound."""
        response = self._send("GET", api.photo_path(item_id))
        return response.content, response.headers.get("x-etalage-bundle")

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
        brand: str | None = None,
        sort: str | None = None,
        forgiving: bool = False,
        brands: bool = False,
    ) -> api.Items:
        """One page of the items that contain every word of `search`.

        sort: `price`, `-price` or `title`; None: the most popular first. forgiving: a word that no item has
        is read as the nearest that some have. brands: with how many items of each brand match.
        """
        asked = _given(
            search=search,
            category=category,
            in_stock=None if in_stock is None else str(in_stock).lower(),
            min_price=min_price,
            max_price=max_price,
            offset=offset,
            limit=limit,
            classified=classified,
            min_confidence=min_confidence,
            brand=brand,
            sort=sort,
            forgiving="true" if forgiving else None,
            brands="true" if brands else None,
        )
        return self._ask(api.Items, "GET", "/v1/items", params=asked)

    def categories(self, of: str = "merchants") -> list[api.Category]:
        """The nodes of the category tree, parents before children; of: `merchants` or `classified`."""
        return self._ask(api.CategoryTree, "GET", "/v1/categories", params={"of": of}).categories

    def facts(self) -> api.BundleFacts:
        """What the bundle that is served holds and can answer."""
        return self._ask(api.BundleFacts, "GET", "/v1/bundle")

    # -- categories ----------------------------------------------------------------------------

    def classify(
        self,
        items: Sequence[api.ToClassify],
        *,
        threshold: float | None = None,
        top: int | None = None,
        model: str | None = None,
    ) -> api.Categories:
        """Classify these products.

        threshold, top (how many other leaves to list), model (the classifier): None: as the shop has set
        them. Raises RequestError (names the row that is not a photo), Unprocessable: the bundle has no
        classifier.
        """
        bodies = [classify_body(one) for one in items]
        return self._classified({"items": bodies}, threshold, top, model)

    def classify_item(
        self,
        item_id: str,
        *,
        threshold: float | None = None,
        top: int | None = None,
        model: str | None = None,
    ) -> api.Categories:
        """Classify an item of the catalogue; the stored answer comes with it. Raises NotFound,
        Unprocessable."""
        return self._classified({"item_id": item_id}, threshold, top, model)

    def _classified(
        self, body: dict[str, Any], threshold: float | None, top: int | None, model: str | None
    ) -> api.Categories:
        asked = {**body, "threshold": threshold, "top": top, "model": model}
        return self._ask(api.Categories, "POST", "/v1/classify", json=asked)

    def confusion(self, model: str | None = None) -> api.Confusion:
        """How often the classifier took one category for another. Raises NotFound: the bundle has no such
        matrix."""
        return self._ask(api.Confusion, "GET", "/v1/confusion", params=_given(model=model))

    # -- shoppers ------------------------------------------------------------------------------

    def recommend(
        self,
        user_id: str | None = None,
        *,
        history: Sequence[api.Act] | None = None,
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
    ) -> api.Recommended:
        """The k items for a shopper, or for somebody with this `history` (oldest first).

        Raises RequestError and its subclasses, NoBundle, ServeError.
        """
        filters = _given(
            category=category,
            min_price=min_price,
            max_price=max_price,
            in_stock=in_stock,
            brand=brand,
            attributes=None if attributes is None else dict(attributes),
            exclude=list(exclude) or None,
            classified=classified,
            min_confidence=min_confidence,
        )
        who = _given(user_id=user_id, history=None if history is None else [act_body(act) for act in history])
        body = {"k": k, "explain": explain, "filters": filters, **who}
        return self._ask(api.Recommended, "POST", "/v1/recommend", json=body)

    def rank(self, pairs: Sequence[tuple[str, str]], threshold: float = 0.5) -> list[api.Ranked]:
        """Score each (user_id, item_id); an item is `liked` if its probability is at least `threshold`.

        Splits pairs of many shoppers into several requests.
        """
        ranked: list[api.Ranked] = []
        for some in _of_few_shoppers(pairs):
            asked = [{"user_id": user_id, "item_id": item_id} for user_id, item_id in some]
            body = {"pairs": asked, "threshold": threshold}
            found = self._ask(api.RankedPairs, "POST", "/v1/rank", json=body).ranked
            ranked += [replace(one, row=len(ranked) + n) for n, one in enumerate(found)]
        return ranked

    def liked(self, user_id: str, k: int = 50, threshold: float = 0.5) -> list[api.LikedItem]:
        """The items that a shopper most probably likes. Raises NotFound: nothing is known about the
        shopper."""
        asked = {"k": k, "threshold": threshold}
        return self._ask(api.LikedItems, "GET", f"/v1/users/{_escaped(user_id)}/liked", params=asked).liked

    def users_for_item(self, item_id: str, k: int = 10) -> list[api.NearUser]:
        """The shoppers to tell about an item. Raises NotFound; Unprocessable: the bundle has no model for
        it."""
        return self._ask(api.NearUsers, "POST", "/v1/users", json={"item_id": item_id, "k": k}).users

    def users_like(self, user_id: str, k: int = 10) -> list[api.NearUser]:
        """The shoppers most similar to this one. Raises NotFound, Unprocessable."""
        return self._ask(api.NearUsers, "POST", "/v1/users", json={"user_id": user_id, "k": k}).users

    def users(self, limit: int = 50) -> list[str]:
        """Some shoppers: those who were active last."""
        return self._ask(api.KnownUsers, "GET", "/v1/users", params={"limit": limit}).users

    def history(self, user_id: str, limit: int = 50) -> api.History:
        """A shopper's newest acts, oldest first; none for an unknown shopper."""
        path = f"/v1/users/{_escaped(user_id)}/history"
        return self._ask(api.History, "GET", path, params={"limit": limit})

    def send_events(self, events: Sequence[api.Event]) -> api.EventsDone:
        """Send events; they are durable when this returns. After a ServeError, send the same events again."""
        bodies = [event_body(event) for event in events]
        return self._ask(api.EventsDone, "POST", "/v1/events", json={"events": bodies})

    def erase(self, user_id: str) -> api.Erased:
        """Erase a shopper's acts from the online store."""
        return self._ask(api.Erased, "DELETE", f"/v1/users/{_escaped(user_id)}")

    def bundle(self) -> str | None:
        """The id of the bundle that is served; None if there is none yet."""
        return self._ask(api.Alive, "GET", "/healthz").bundle

    def _ask(self, kind: type[T], method: str, path: str, **content: Any) -> T:
        response = self._send(method, path, **content)
        return api.read(kind, _json(response))

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        return _sent(self._http, method, path, **content)


# -- the MLflow endpoint -----------------------------------------------------------------------


def mlflow_similar(
    url: str,
    photos: Sequence[bytes],
    k: int = 5,
    image: str = "png",
    *,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> list[TableRow]:
    """Ask an MLflow scoring server (`mlflow models serve`) for the k items most similar to each photo.

    `image`: how the answer encodes photos: `png`, `float32_hex` or `none`. Raises RequestError, ServeError.
    """
    body = {
        "dataframe_split": {
            "columns": ["input"],
            "data": [[photo_body(photo)] for photo in photos],
        },
        "params": {"k": k, "image": image},
    }
    return decode_table(_invoked(url, body, key, timeout))


def mlflow_recommend(
    url: str,
    shoppers: Sequence[str | Sequence[api.Act]],
    k: int = 10,
    *,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> list[api.RecommendedRow]:
    """Ask an MLflow scoring server of the task `recommend` for each shopper: a user_id, or a history.

    Raises RequestError, ServeError.
    """
    records = [
        {"user_id": one} if isinstance(one, str) else {"history": json.dumps([act_body(act) for act in one])}
        for one in shoppers
    ]
    asked = {"dataframe_records": records, "params": {"k": k}}
    return _rows(api.RecommendedRow, _invoked(url, asked, key, timeout))


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
    rows = _rows(api.RankedRow, _invoked(url, {"dataframe_split": split}, key, timeout))
    return [(row.score, _known_number(row.probability)) for row in rows]


def mlflow_classify(
    url: str,
    items: Sequence[tuple[bytes | None, str | None]],
    threshold: float | None = None,
    *,
    key: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> list[api.CategoryRow]:
    """Ask an MLflow scoring server of the task `classify` about each (photo, title); either may be None.

    Raises RequestError, ServeError.
    """
    records = [
        {"input": None if photo is None else photo_body(photo), "title": title} for photo, title in items
    ]
    given = {} if threshold is None else {"params": {"threshold": threshold}}
    rows = _rows(api.CategoryRow, _invoked(url, {"dataframe_records": records, **given}, key, timeout))
    return [
        api.CategoryRow(one.row, one.category_id or None, one.path or None, _known_number(one.confidence))
        for one in rows
    ]


def _rows(kind: type[T], answer: Any) -> list[T]:
    """The rows of the endpoint's table. Raises ServeError: the table is of another task."""
    return api.read_all(kind, answer.get("predictions") if isinstance(answer, Mapping) else answer)


def _of_few_shoppers(pairs: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Cut `pairs`, in their order, into parts that are small enough for one request."""
    parts: list[list[tuple[str, str]]] = [[]]
    shoppers: set[str] = set()
    for pair in pairs:
        if len(parts[-1]) == api.MAX_PAIRS or len(shoppers - {pair[0]}) == api.MAX_RANKED:
            parts.append([])
            shoppers = set()
        parts[-1].append(pair)
        shoppers.add(pair[0])
    return parts


def _known_number(value: float | None) -> float | None:
    """None for NaN, which MLflow's server writes where there is no number."""
    return None if value is None or math.isnan(value) else value


def _invoked(url: str, body: Mapping[str, Any], key: str | None, timeout: float) -> Any:
    with _http(*_without_userinfo(url), key, timeout) as http:
        return _json(_sent(http, "POST", "/invocations", json=body))


def decode_table(answer: Any) -> list[TableRow]:
    """Decode the MLflow endpoint's answer, `{"predictions": [...]}` or only its rows.

    Both encodings of an image give the same (H, W, C) float32 pixels in 0…1. Raises RequestError if the
    answer is not such a table.
    """
    rows: Any = answer.get("predictions") if isinstance(answer, Mapping) else answer
    try:
        return [
            TableRow(int(r["row"]), int(r["rank"]), str(r["item_id"]), float(r["score"]), _image(r["image"]))
            for r in rows
        ]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise errors.RequestError(f"not a table of row, rank, item_id, score, image: {error!r}") from error


def _image(text: str | None) -> "np.ndarray | None":
    if not text:
        return None
    import numpy as np
    from PIL import Image

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
    raise ValueError(f"{len(values)} pixels are not a square photo")


def _without_userinfo(url: str) -> tuple[str, tuple[str, str] | None]:
    """The address as messages, logs and pages may show it; name and password, if it has them."""
    whole = httpx.URL(url)
    if not whole.userinfo:
        return url.rstrip("/"), None
    return str(whole.copy_with(username="", password="")).rstrip("/"), (whole.username, whole.password)


def _http(url: str, auth: tuple[str, str] | None, key: str | None, timeout: float) -> httpx.Client:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    trusting = not _is_loopback(url)
    return httpx.Client(base_url=url, auth=auth, headers=headers, timeout=timeout, trust_env=trusting)


def _is_loopback(url: str) -> bool:
    """Whether the server is on this machine: a proxy from the environment must not see its key."""
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


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise errors.ServeError(
            f"{response.url}: the answer is not JSON ({response.text[:60]!r}); is this a server of Etalage?"
        ) from error


def _refusal(response: httpx.Response) -> errors.EtalageError:
    """The server's error as its class of etalage.errors or, if it names none, by its status."""
    name, message = "", f"status {response.status_code}: {response.text[:500]}"
    try:
        answer = response.json()
        if isinstance(answer.get("error"), dict):
            problem = api.read(api.Refusal, answer).error
            name, message = problem.class_, problem.message
        elif "message" in answer:  # MLflow's shape
            message = str(answer["message"]).split("\nError: ")[-1]
    except (ValueError, AttributeError, errors.ServeError):
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


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None; for the others the server has defaults."""
    return {name: value for name, value in fields.items() if value is not None}


def _escaped(name: str) -> str:
    """An id, escaped to be one step of a path."""
    return quote(name, safe="")
