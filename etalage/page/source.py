"""What the server answers, timed, with its photos: the page's one way to the shop."""

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from etalage.api import MAX_ACTS, Act, Categorised, Confusion, Event, Item, PastAct, Recommended, ToClassify
from etalage.client import Client
from etalage.errors import NotFound, Unprocessable
from etalage.page.place import Place
from etalage.page.thumbnails import thumbnail
from etalage.page.wording import Branch, branches

PHOTOS_AT_ONCE = 8
PHOTOS_BYTES = 64 * 2**20
"""How much of the photos is kept for the next view."""


@dataclass(frozen=True)
class Shown:
    """What one view shows: items, of which bundle, and how long the answer took."""

    bundle: str
    seconds: float
    items: Sequence[Item]
    """Slots, with their scores, where they answer a question."""
    total: int
    fallback: str | None = None
    reason: str | None = None

    @property
    def with_photo(self) -> list[str]:
        """The item_ids of those that have a photo."""
        return [item.item_id for item in self.items if item.photo is not None]


@dataclass(frozen=True)
class ForShopper:
    """What one shopper did, and what they would want now."""

    seconds: float
    acts: list[PastAct]
    """Oldest first."""
    answer: Recommended

    @property
    def bundle(self) -> str:
        return self.answer.bundle


@dataclass(frozen=True)
class Mistakes:
    """The confusion matrix of the classifier that answers."""

    seconds: float
    matrix: Confusion

    @property
    def bundle(self) -> str:
        return self.matrix.bundle


class Source:
    """Shared by all sessions of the page; safe between threads."""

    def __init__(self, url: str, key: str | None) -> None:
        self.client = Client(url, key)
        self._pool = ThreadPoolExecutor(PHOTOS_AT_ONCE, thread_name_prefix="photos")
        self._photos: OrderedDict[tuple[str, str, int], bytes | None] = OrderedDict()
        self._kept = 0
        self._lock = threading.Lock()
        self._trees: dict[str, tuple[str, list[tuple[str, int]]]] = {}

    def listing(self, place: Place, limit: int) -> Shown:
        """One page of the grid. Raises EtalageError and its kinds, as the methods below do."""
        started = time.perf_counter()
        offset = (place.page - 1) * limit
        found = self.client.items(place.search[:200], **place.filters(), offset=offset, limit=limit)
        return Shown(found.bundle, time.perf_counter() - started, found.items, found.total)

    def similar_to_item(self, item_id: str, k: int) -> Shown:
        """What is like an item of the catalogue."""
        return self._similar(item_id=item_id, k=k)

    def similar_to_photo(self, photo: bytes, k: int, place: Place) -> Shown:
        """What is like an uploaded photo, within the filters of the place."""
        return self._similar(photo=photo, k=k, **place.filters())

    def _similar(self, **query: Any) -> Shown:
        started = time.perf_counter()
        found = self.client.similar(**query)
        seconds = time.perf_counter() - started
        answer = found.answers[0]
        return Shown(found.bundle, seconds, answer.slate, len(answer.slate), answer.fallback, answer.reason)

    def shoppers(self, limit: int) -> list[str]:
        """Some shoppers: those who acted last."""
        return self.client.users(limit)

    def for_shopper(self, user_id: str, k: int) -> ForShopper:
        """What a shopper did, and their slate with its reasons."""
        acts = self.client.history(user_id, MAX_ACTS).acts
        started = time.perf_counter()
        answer = self.client.recommend(user_id, k=k, explain=True)
        return ForShopper(time.perf_counter() - started, acts, answer)

    def for_acts(self, acts: Sequence[Act], k: int) -> Recommended:
        """The slate for whoever did this: what two servers can be asked alike."""
        return self.client.recommend(history=acts, k=k, explain=True)

    def act(self, user_id: str, item_id: str, kind: str) -> None:
        """Tell the server what a shopper did just now."""
        self.client.send_events([Event(uuid.uuid4().hex, user_id, Act(item_id, kind))])

    def item(self, item_id: str) -> dict[str, Any]:
        """All that the server tells of an item. Raises NotFound."""
        return self.client.item(item_id)

    def what_is(self, photo: bytes, others: int) -> Categorised | None:
        """What a photo shows, and `others` that it may be; None: the server's bundle has no classifier."""
        try:
            return self.client.classify([ToClassify([photo])], top=others).answers[0]
        except Unprocessable:
            return None

    def confusion(self) -> "Mistakes":
        """Which category is taken for which. Raises NotFound: the server's bundle cannot say."""
        started = time.perf_counter()
        found = self.client.confusion()
        return Mistakes(time.perf_counter() - started, found)

    def tree(self, bundle: str, selected: str | None, of: str = "merchants") -> list[Branch]:
        """The category tree, open at the selected one; asked once per bundle. of: see Client.categories."""
        known, tree = self._trees.get(of, ("", []))
        if known != bundle:
            tree = [(node.path, node.count) for node in self.client.categories(of)]
            self._trees[of] = (bundle, tree)
        return branches(tree, selected)

    def photos(self, bundle: str, wanted: Sequence[str], side: int) -> dict[str, bytes]:
        """Photos of these item_ids, at most side × side pixels where they are heavy."""
        photos = self._pool.map(lambda item_id: self._photo(bundle, item_id, side), wanted)
        return {item_id: photo for item_id, photo in zip(wanted, photos, strict=True) if photo is not None}

    def _photo(self, bundle: str, item_id: str, side: int) -> bytes | None:
        name = (bundle, item_id, side)
        with self._lock:
            if name in self._photos:
                self._photos.move_to_end(name)
                return self._photos[name]
        try:
            photo: bytes | None = thumbnail(self.client.photo(item_id), side)
        except NotFound:  # a newer bundle has come meanwhile, without this item
            photo = None
        with self._lock:
            if name not in self._photos:
                self._photos[name] = photo
                self._kept += len(photo or b"")
            while self._kept > PHOTOS_BYTES and len(self._photos) > 1:
                _, dropped = self._photos.popitem(last=False)
                self._kept -= len(dropped or b"")
        return photo
