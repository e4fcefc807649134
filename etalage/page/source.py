"""What the server answers, timed, with its photos: the page's one way to the shop."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etalage.api import (
    MAX_ACTS,
    Act,
    BrandCount,
    BundleFacts,
    Categorised,
    Confusion,
    Event,
    Item,
    PastAct,
    Recommended,
    ToClassify,
    WholeItem,
)
from etalage.client import Client
from etalage.errors import EtalageError, Unprocessable
from etalage.page.kept import KeptPhotos
from etalage.page.place import Place
from etalage.page.thumbnails import thumbnail
from etalage.page.wording import Branch, branches

PHOTOS_BYTES = 64 * 2**20
"""How much of the photos is kept for the next view."""
SEARCH_WORDS, SEARCH_LETTERS = 10, 200
"""So much of a search a server takes; whoever types more is still looking for something."""
EVERYTHING = BundleFacts("", 1, 1, 1, 1, 1, True, ["view", "cart", "buy"])
"""What is offered where no server said what it has."""
PATIENCE_SECONDS = 15.0
"""How long the page waits for the server: longer than the server lets a question wait."""


@dataclass(frozen=True)
class Shown:
    """What one view shows: items, of which bundle, and how long the answer took."""

    bundle: str
    seconds: float
    items: Sequence[Item]
    """Slots where they answer a question."""
    total: int
    fallback: str | None = None
    reason: str | None = None
    match: bool | None = None
    """Of a photo: whether the first is near enough; None: nobody knows how near that is."""
    instead: str | None = None
    proposed: str | None = None
    """A search that finds something, where this one finds nothing."""
    """What was searched in place of what was typed."""
    brands: Sequence[BrandCount] = ()


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


@dataclass(frozen=True)
class Photo:
    """An item's photo as it is sent; `lasting`: it is of the bundle that the address names."""

    content: bytes
    lasting: bool


class Source:
    """Shared by all visitors of the page; safe between threads."""

    def __init__(self, url: str, key: str | None) -> None:
        self.client = Client(url, key, PATIENCE_SECONDS)
        self._photos = KeptPhotos(PHOTOS_BYTES)
        self._trees: dict[str, tuple[str, list[tuple[str, int]]]] = {}
        self._facts = EVERYTHING

    def listing(self, place: Place, limit: int) -> Shown:
        """One page of the grid. Raises EtalageError and its kinds, as the methods below do."""
        started = time.perf_counter()
        offset = (place.page - 1) * limit
        found = self.client.items(
            " ".join(place.search.split()[:SEARCH_WORDS])[:SEARCH_LETTERS],
            **place.filters(),
            sort=place.sort,
            forgiving=True,
            brands=True,
            offset=offset,
            limit=limit,
        )
        seconds = time.perf_counter() - started
        return Shown(
            found.bundle, seconds, found.items, found.total, instead=found.instead, proposed=found.proposed,
            brands=found.brands,
        )  # fmt: skip

    def facts(self, bundle: str | None) -> BundleFacts:
        """What a bundle holds and can answer, asked once per bundle; `bundle` None: as was last said.

        EVERYTHING where the server does not say: an older one, or one that just stopped.
        """
        if bundle is not None and self._facts.bundle != bundle:
            try:
                self._facts = self.client.facts()
            except EtalageError:
                return EVERYTHING
        return self._facts

    def finds_by_photo(self) -> bool:
        """Whether the server finds what is like a photo. Raises EtalageError and its kinds."""
        return self.facts(self.client.bundle()).finds_by_photo

    def similar_to_item(self, item_id: str, k: int, same_colour: bool) -> Shown:
        """What is like an item of the catalogue."""
        return self._similar(item_id=item_id, k=k, same_colour=same_colour or None)

    def wanted_with(self, item_id: str, k: int) -> Shown:
        """What the shoppers want who want an item; nothing where no model knows."""
        return self._similar(item_id=item_id, k=k, by_behaviour=True)

    def similar_to_photo(self, photo: bytes, k: int, place: Place) -> Shown:
        """What is like an uploaded photo, within the filters of the place."""
        return self._similar(photo=photo, k=k, **place.filters())

    def _similar(self, **query: Any) -> Shown:
        started = time.perf_counter()
        found = self.client.similar(**query)
        seconds = time.perf_counter() - started
        answer = found.answers[0]
        return Shown(
            found.bundle,
            seconds,
            answer.slate,
            len(answer.slate),
            answer.fallback,
            answer.reason,
            answer.match,
        )

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

    def act(self, event_id: str, user_id: str, item_id: str, kind: str) -> None:
        """Tell the server what a shopper did just now; the same event counts once."""
        self.client.send_events([Event(event_id, user_id, Act(item_id, kind))])

    def item(self, item_id: str) -> WholeItem:
        """All that the server tells of an item. Raises NotFound."""
        return self.client.whole_item(item_id)

    def what_is(self, photo: bytes, others: int) -> Categorised | None:
        """What a photo shows, and `others` that it may be; None: the server's bundle has no classifier."""
        try:
            return self.client.classify([ToClassify([photo])], top=others).answers[0]
        except Unprocessable:
            return None

    def confusion(self) -> Mistakes:
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

    def photo(self, bundle: str, item_id: str, side: int) -> Photo:
        """An item's photo, at most side × side pixels where it is heavy. Raises NotFound."""
        name = (bundle, item_id, side)
        kept = self._photos.get(name)
        if kept is not None:
            return Photo(kept, True)
        content, answered_by = self.client.photo_and_bundle(item_id)
        small = thumbnail(content, side)
        # A newer bundle may have come meanwhile: its photo must not be kept under the older one's name.
        if answered_by == bundle:
            self._photos.keep(name, small)
        return Photo(small, answered_by == bundle)
