"""An opened bundle answers questions with the classes of etalage.api, without HTTP.

The stages are in funnel/: candidates.py, funnel.py (retrieve, rank), ordering.py, explaining.py, similar.py.

    B queries   D embedding dimension   N items   U shoppers   k places
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from etalage.api import (
    Act,
    Answer,
    BundleFacts,
    Categorised,
    Confusion,
    Item,
    LikedItem,
    NearUser,
    Ranked,
    ReasonedSlot,
    Recommended,
    Slot,
    ValuedCategory,
)
from etalage.bundle import manifest as manifests
from etalage.bundle.opening import OpenedBundle
from etalage.bundle.selfcheck import check_consistency
from etalage.errors import (
    BundleDamaged,
    ExportDamaged,
    IndexMismatch,
    NotFound,
    PhotoRefused,
    Unprocessable,
)
from etalage.features.photo import claimed_pixels
from etalage.funnel.catalogue import Filters, Stock
from etalage.funnel.categories import Categories
from etalage.funnel.explaining import place_traces, sentences, trace
from etalage.funnel.funnel import Answered
from etalage.funnel.shoppers import LOOKED_BACK, Shopper
from etalage.funnel.similar import Alike, SimilarItems, Wanted, too_few
from etalage.funnel.unknown import Unknown
from etalage.kinds import KNOWN_KINDS
from etalage.lake.photo_facts import MAX_PIXELS
from etalage.online import LiveStore
from etalage.online.contract import clock
from etalage.runtime.classifier import ClassifierModel
from etalage.runtime.photos import PhotoEmbedder
from etalage.runtime.steps import Steps, finish

__all__ = ["Act", "Filters", "Recommender"]

MAX_NAMED_ROWS = 5
"""How many refused photos one error lists."""
PHOTOS_AT_ONCE = 4
"""Photos that are decoded and embedded in one step."""
LIKED_AMONG = 2000
"""In a shop with more items than this, `liked` looks only through this many candidates of each retriever."""


class Recommender:
    """Everything that one bundle can answer. It never changes, and threads may share it."""

    def __init__(self, parts: OpenedBundle, live: Callable[[], LiveStore | None] | None = None) -> None:
        """`live` opens the online store for questions that name none; the first such question opens it,
        once."""
        self.parts = parts
        self._opens, self._opening = live, Lock()
        self._opened: LiveStore | None = None
        self.manifest = parts.manifest
        self.bundle: str = parts.manifest.id
        self.catalogue = parts.catalogue
        self.funnel = parts.funnel
        self.users = parts.users
        self._similar = {
            name: SimilarItems(parts.funnel, model, parts.models, parts.texts)
            for name, model in [*parts.photo_models.items(), (None, parts.photos)]
        }
        self._categories = {
            name: Categories(parts.catalogue, model) for name, model in parts.classifiers.items()
        }
        self._stock: tuple[object, Stock] = (None, parts.catalogue.stock)

    def __repr__(self) -> str:
        models = ", ".join(one.name for one in self.manifest.models)
        return f"<Recommender of bundle {self.bundle}: {len(self.catalogue):,} items; {models}>"

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        threads: int = 1,
        verify: bool = True,
        live: Callable[[], LiveStore | None] | None = None,
    ) -> "Recommender":
        """Open the bundle in `folder`: check its files, repeat its recorded answers, warm up.

        `verify=False` does not check the files' hashes, for a caller that has just written them; it checks
        everything else. `live`: as for Recommender. Raises BundleDamaged: a file is missing or changed, parts
        do not belong together, or the answers differ from those recorded when it was published.
        """
        folder = Path(folder)
        manifest = manifests.verify(folder) if verify else manifests.read_manifest(folder)
        try:
            parts = check_consistency(folder, manifest, threads, verify=False)
        except (ExportDamaged, IndexMismatch, OSError) as error:
            raise BundleDamaged(f"bundle {manifest.id}: {error}") from error
        recommender = cls(parts)
        recommender._warm_up()
        recommender._opens = live  # behind the warming up, which asks of nobody
        return recommender

    def _store(self, live: LiveStore | None) -> LiveStore | None:
        """Return `live`, or else the store of this recommender. Raises DataError: it cannot be opened."""
        if live is not None or self._opens is None:
            return live
        with self._opening:
            if self._opened is None:
                self._opened = self._opens()
            return self._opened

    def _warm_up(self) -> None:
        """Run every network and index once: the first run is the slowest, and no shopper should wait for
        it."""
        for model in self.parts.photo_models.values():
            encoder = model.embedder.encoder
            blank = np.zeros((1, encoder.size, encoder.size, encoder.channels), dtype=np.uint8)
            model.index.search(model.embedder.embed_pixels(blank), 1)
        for classifier in self._categories.values():
            classifier.warm_up()
        self.recommend(user_id="nobody", k=1, now=0)  # makes what is looked up by user_id

    @property
    def embedder(self) -> PhotoEmbedder | None:
        """The photo embedder that answers if a question names none; None: the bundle has none."""
        return None if self.parts.photos is None else self.parts.photos.embedder

    def _embedder(self, model: str | None) -> PhotoEmbedder:
        """The photo embedder called `model`. Raises Unprocessable: the bundle has none; NotFound: no such
        one."""
        if not self.parts.photo_models:
            raise Unprocessable("this bundle has no model of photos: ask with an item_id")
        if model is None:
            assert self.parts.photos is not None
            return self.parts.photos.embedder
        _require_one_of(model, self.parts.photo_models, "photo embedder")
        return self.parts.photo_models[model].embedder

    @property
    def models(self) -> dict[str, str]:
        """The name of every model → the hash of its export."""
        return {one.name: one.hash for one in self.manifest.models}

    @cached_property
    def facts(self) -> BundleFacts:
        """What the bundle holds and can answer. Stock and prices: as when it was made."""
        catalogue, stock, rules = self.catalogue, self.catalogue.stock, self.funnel.rules
        kinds = ["view", "cart", "buy", *rules.behaviour.weights, *sorted(self.funnel.taught)]
        return BundleFacts(
            self.bundle,
            len(catalogue),
            with_photo=int(catalogue.has_photo.sum()),
            with_price=int(np.isfinite(stock.price).sum()),
            with_stock=int((stock.stocked | stock.sold_out).sum()),
            acted_on=int((catalogue.popularity > 0).sum()),
            finds_by_photo=bool(self.parts.photo_models),
            kinds=[kind for kind in dict.fromkeys(kinds) if rules.counts(kind)],
            models=[one.learned for one in self.manifest.models],
        )

    # -- items ---------------------------------------------------------------------------------

    def similar(
        self,
        *,
        item_id: str | None = None,
        photos: Sequence[bytes] | None = None,
        k: int = 10,
        filters: Filters | None = None,
        threshold: float | None = None,
        live: LiveStore | None = None,
        model: str | None = None,
        by_behaviour: bool = False,
        same_colour: bool = False,
    ) -> list[Answer]:
        """The k items most similar to an item, or to each of the photos (image files).

        `threshold` drops items that score lower. An item is never in its own slate. For an item that is
        unknown or has no photo, the answer comes from texts, from behaviour, or else is the most popular
        items, labelled as a fallback. `model`: the name of the photo embedder that compares; None: [funnel]
        photos.
        `by_behaviour`: the items that the same shoppers want, whatever the item's photo; `same_colour`: only
        items whose attributes name the same colour; both of an item alone. Raises PhotoRefused (names the
        photo), NotFound (no such model), Unprocessable (not exactly one query; k < 1; an item whose colour
        is not known).
        """
        if (item_id is None) == (photos is None):
            raise Unprocessable("give exactly one of item_id and photos")
        if photos is not None:
            return finish(
                self.similar_to_photos(
                    photos, k=k, filters=filters, threshold=threshold, live=live, model=model
                )
            )
        assert item_id is not None
        filters = filters or Filters()
        if same_colour:
            filters = self._of_same_colour(item_id, filters)
        wanted = Wanted(_at_least_one(k), filters, threshold, self.stock(live), by_behaviour)
        if model is not None:
            _require_one_of(model, self.parts.photo_models, "photo embedder")
        return [self._answer(0, self._similar[model].to_item(item_id, wanted), wanted.stock)]

    def _of_same_colour(self, item_id: str, filters: Filters) -> Filters:
        colour = self.catalogue.colour(self.catalogue.known_row(item_id))
        if colour is None:
            raise Unprocessable(f"item_id {item_id[:60]!r}: none of its attributes names a colour")
        return replace(filters, attributes={**(filters.attributes or {}), colour[0]: colour[1]})

    def similar_to_photos(
        self,
        photos: Sequence[bytes],
        *,
        k: int = 10,
        filters: Filters | None = None,
        threshold: float | None = None,
        live: LiveStore | None = None,
        model: str | None = None,
    ) -> Steps[list[Answer]]:
        """As `similar` for photos, in steps between which others have their turn."""
        wanted = Wanted(_at_least_one(k), filters or Filters(), threshold, self.stock(live))
        queries = yield from self._embedded(photos, self._embedder(model))
        answers = []
        for row, query in enumerate(queries):
            (alike,) = self._similar[model].to_photos(query[None], wanted)
            answers.append(self._answer(row, alike, wanted.stock))
            yield
        return answers

    def _answer(self, row: int, alike: Alike, stock: Stock) -> Answer:
        slate = [
            Slot(rank=rank, score=score, **self.catalogue.shown(at, stock))
            for rank, (at, score) in enumerate(alike.found, start=1)
        ]
        return Answer(row, alike.fallback, alike.reason, slate, alike.match)

    def item(self, item_id: str) -> dict[str, Any]:
        """Everything that the bundle knows about an item. Raises NotFound."""
        return self.catalogue.everything(self.catalogue.known_row(item_id))

    def shown(self, item_id: str, stock: Stock) -> Item | None:
        """What a slate shows of an item; None: there is no such item."""
        row = self.catalogue.row(item_id)
        return None if row == 0 else Item(**self.catalogue.shown(row, stock))

    def photo(self, item_id: str) -> bytes:
        """The item's image file, as it was ingested. Raises NotFound."""
        return self.catalogue.photo(self.catalogue.known_row(item_id))

    def embed(self, photos: Sequence[bytes], model: str | None = None) -> np.ndarray:
        """Embed (B,) image files → (B, D) float32. Raises PhotoRefused (names the bad photos),
        Unprocessable."""
        return finish(self._embedded(photos, self._embedder(model)))

    def _embedded(self, photos: Sequence[bytes], embedder: PhotoEmbedder) -> Steps[np.ndarray]:
        _not_too_much(photos)
        refused: list[str] = []
        found = [np.zeros((0, embedder.dimension), np.float32)]
        for start in range(0, len(photos), PHOTOS_AT_ONCE):
            pixels, _, reasons = embedder.encoder.decode_some(photos[start : start + PHOTOS_AT_ONCE])
            refused += [f"row {start + row}: {reason}" for row, reason in reasons.items()]
            if not refused:
                found.append(embedder.embed_pixels(pixels))
            yield
        if refused:
            more = len(refused) - MAX_NAMED_ROWS
            tail = [f"and {more} more"] if more > 0 else []
            raise PhotoRefused("; ".join(refused[:MAX_NAMED_ROWS] + tail))
        return np.concatenate(found)

    # -- categories ----------------------------------------------------------------------------

    def classify(
        self,
        *,
        item_id: str | None = None,
        photos: Sequence[Sequence[bytes]] | None = None,
        titles: Sequence[str | None] | None = None,
        threshold: float | None = None,
        top: int | None = None,
        model: str | None = None,
    ) -> list[Categorised]:
        """Classify an item of the catalogue, or products by their photos and titles.

        item_id: the item is classified by its title and its main photo, which is all that a bundle holds.
        photos: image files, any number for each product. threshold: below it a product is not classified.
        top: how many other leaves to list. model: the classifier's name; None: [funnel] classifier. None for
        threshold and top: as the bundle was published. Raises Unprocessable (no classifier; not exactly one
        question), NotFound (no such item, no such classifier), PhotoRefused.
        """
        if photos is not None and item_id is None:
            return finish(self.classify_photos(photos, titles, threshold=threshold, top=top, model=model))
        return self._classifier(model).answer(item_id, photos, threshold, top)

    def classify_photos(
        self,
        photos: Sequence[Sequence[bytes]],
        titles: Sequence[str | None] | None = None,
        *,
        threshold: float | None = None,
        top: int | None = None,
        model: str | None = None,
    ) -> Steps[list[Categorised]]:
        """As `classify` for products by photos and titles, in steps between which others have their turn."""
        _not_too_much([photo for some in photos for photo in some])
        return self._classifier(model).answers(photos, titles, threshold, top)

    def classifier(self, model: str | None = None) -> ClassifierModel:
        """The classifier that answers, with its settings. Raises Unprocessable: there is none."""
        return self._classifier(model).model

    def confusion(self, model: str | None = None) -> Confusion:
        """How often the classifier took one category for another in its evaluation. Raises NotFound: the
        bundle has no such matrix."""
        if not self._categories:
            raise NotFound(
                "this bundle has no confusion matrix: it has no classifier; `etalage train item_category`, "
                "`etalage evaluate item_category`, publish"
            )
        found = self._classifier(model).confusion
        categories = [ValuedCategory(one.id, one.path, one.value) for one in found.categories]
        return Confusion(self.bundle, categories, [list(row) for row in found.counts], list(found.elsewhere))

    def _classifier(self, model: str | None) -> Categories:
        if not self._categories:
            of_categories = [one.reason for one in self.manifest.refused if one.kind == "classifier"]
            why = of_categories[0] if of_categories else "`etalage train item_category`, evaluate it, publish"
            raise Unprocessable(f"this bundle has no classifier: {why}")
        if model is None:
            assert self.parts.classifier is not None
            return self._categories[self.parts.classifier.name]
        _require_one_of(model, self._categories, "classifier")
        return self._categories[model]

    # -- shoppers ------------------------------------------------------------------------------

    def recommend(
        self,
        *,
        user_id: str | None = None,
        history: Sequence[Act] | None = None,
        k: int = 10,
        filters: Filters | None = None,
        explain: bool = False,
        live: LiveStore | None = None,
        now: int | None = None,
    ) -> Recommended:
        """The k items for a shopper, from `history` (oldest first) or else from their history in the online
        store (`live`, or the one that this recommender was opened with).

        Stock and prices are those in the online store now. `explain` adds reasons and the trace. `now`:
        microseconds since 1970. Raises Unprocessable: k < 1.
        """
        filters, stock = filters or Filters(), self.stock(live)
        shopper = self._shopper(user_id, history, live, now)
        answered = self.funnel.answer(shopper, _at_least_one(k), filters, stock)
        reasons: list[str | None] = [None] * len(answered.rows)
        steps: list[dict[str, Any] | None] = [None] * len(answered.rows)
        stages: dict[str, Any] | None = None
        if explain:
            reasons = [*sentences(self.funnel, shopper, answered)]
            steps = [*place_traces(answered)]
            stages = trace(self.funnel, shopper, answered, filters, stock)
        places = zip(answered.rows.tolist(), answered.scores.tolist(), reasons, steps, strict=True)
        slate = [
            ReasonedSlot(rank=rank, score=score, why=why, trace=step, **self.catalogue.shown(row, stock))
            for rank, (row, score, why, step) in enumerate(places, start=1)
        ]
        reason = None if len(slate) == k else self._short(answered, filters, stock)
        known = shopper.known_acts > 0 or self._knows(user_id)
        return Recommended(self.bundle, user_id, answered.tier, known, reason, slate, stages)

    def rank(
        self, pairs: Sequence[tuple[str, str]], threshold: float = 0.5, live: LiveStore | None = None
    ) -> list[Ranked]:
        """Score each (user_id, item_id), and say whether the shopper likes the item: whether the probability
        is at least `threshold`. Pairs of unknown shoppers are scored by popularity, and labelled."""
        found = [one for some in self.ranked_by_shopper(pairs, threshold, live) for one in some]
        return sorted(found, key=lambda one: one.row)

    def ranked_by_shopper(
        self, pairs: Sequence[tuple[str, str]], threshold: float = 0.5, live: LiveStore | None = None
    ) -> Iterator[list[Ranked]]:
        """As `rank`, one shopper at a time, so that long work can stop in between."""
        places: dict[str, list[int]] = {}
        for place, (user_id, _) in enumerate(pairs):
            places.setdefault(user_id, []).append(place)
        for user_id, theirs in places.items():
            ids = [pairs[place][1] for place in theirs]
            ranked = self._ranked(self._shopper(user_id, None, live, None), ids, threshold)
            yield [Ranked(place, *one) for place, one in zip(theirs, ranked, strict=True)]

    def _ranked(self, shopper: Shopper, item_ids: list[str], threshold: float) -> list[tuple[Any, ...]]:
        """The fields of Ranked without `row`, for items of one shopper."""
        rows = self.catalogue.rows(item_ids)
        scores, probabilities, _ = self.funnel.score_pairs(shopper, rows)
        known_user = shopper.known_acts > 0 or self._knows(shopper.user_id)
        found: list[tuple[Any, ...]] = []
        for place, item_id in enumerate(item_ids):
            known = bool(rows[place] > 0)
            chance = float(probabilities[place]) if probabilities is not None and known else None
            liked = None if chance is None else chance >= threshold
            score = float(scores[place]) if known else 0.0
            found.append((shopper.user_id, item_id, score, chance, liked, known_user, known))
        return found

    def liked(
        self, user_id: str, k: int = 50, threshold: float = 0.5, live: LiveStore | None = None
    ) -> list[LikedItem]:
        """The k items that a shopper most probably likes and does not own yet, with a probability of at least
        `threshold`; without a ranker that gives probabilities, the k best. Raises NotFound, Unprocessable."""
        shopper = self._shopper(user_id, None, live, None)
        if not (shopper.known_acts > 0 or self._knows(user_id)):
            raise NotFound(f"user_id {user_id[:60]!r}: nothing is known of this shopper")
        _at_least_one(k)
        if len(self.catalogue) <= LIKED_AMONG:
            rows = np.setdiff1d(np.arange(1, len(self.catalogue) + 1), shopper.seen)
        else:
            answered = self.funnel.answer(shopper, LIKED_AMONG, Filters(), self.catalogue.stock)
            rows = answered.ranking.rows
        ranked = self._ranked(shopper, [self.catalogue.ids[row] for row in rows], threshold)
        good = sorted((one for one in ranked if one[4] is not False), key=lambda one: -one[2])
        stock, catalogue = self.stock(live), self.catalogue
        items = [Item(**catalogue.shown(catalogue.known_row(one[1]), stock)) for one in good[:k]]
        return [LikedItem(*(n, *good[n], item)) for n, item in enumerate(items)]

    def users_for_item(self, item_id: str, k: int) -> list[NearUser]:
        """The k shoppers to tell about an item, by inner product of embeddings. Raises NotFound,
        Unprocessable."""
        row = self.catalogue.known_row(item_id)
        embeddings, model = self._user_embeddings()
        item = np.asarray(self.funnel.models[model].item_embeddings[row], np.float32)  # type: ignore[attr-defined]
        return self._best_users(embeddings @ item, embeddings, None, k)

    def users_like(self, user_id: str, k: int) -> list[NearUser]:
        """The k shoppers most similar to this one, by cosine of embeddings. Raises NotFound,
        Unprocessable."""
        own = self.users.ids.row(user_id)
        if own == 0:
            raise NotFound(f"user_id {user_id[:60]!r}: no such shopper in this bundle")
        embeddings, _ = self._user_embeddings()
        lengths = np.maximum(np.linalg.norm(embeddings, axis=1), 1e-12)
        scores = embeddings @ embeddings[own - 1] / (lengths * lengths[own - 1])
        return self._best_users(scores, embeddings, own - 1, k)

    def _user_embeddings(self) -> tuple[np.ndarray, str]:
        if self.users.embeddings is None or self.users.model is None:
            raise Unprocessable(
                "this bundle has no embeddings of shoppers: publish one with a two-tower or ALS model"
            )
        return self.users.embeddings, self.users.model

    def _best_users(
        self, scores: np.ndarray, embeddings: np.ndarray, own: int | None, k: int
    ) -> list[NearUser]:
        scores = np.where(embeddings.any(axis=1), scores, -np.inf)  # zeros: the model does not know them
        if own is not None:
            scores[own] = -np.inf
        _at_least_one(k)
        if len(scores) == 0:
            return []
        best = np.argpartition(-scores, min(k, len(scores)) - 1)[:k]
        found = sorted((-float(scores[row]), int(row)) for row in best if np.isfinite(scores[row]))
        return [NearUser(self.users.ids.id(row + 1), -score) for score, row in found]

    # -- what is known now ---------------------------------------------------------------------

    def stock(self, live: LiveStore | None) -> Stock:
        """Stock and prices now; computed again only if the store has other changes."""
        live = self._store(live)
        if live is None:
            return self.catalogue.stock
        changes = live.items()
        seen, stock = self._stock
        if seen is not changes:
            stock = self.catalogue.stock_after(changes)
            self._stock = (changes, stock)
        return stock

    def _shopper(
        self, user_id: str | None, history: Sequence[Act] | None, live: LiveStore | None, now: int | None
    ) -> Shopper:
        acts, live = history, self._store(live)
        if acts is None and user_id is not None and live is not None:
            rules = self.funnel.rules
            acts = live.history(user_id, rules.funnel.history * LOOKED_BACK, rules.lasting)
        return Shopper.of(
            acts or (),
            self.catalogue,
            self.funnel.rules,
            user_id,
            clock() if now is None else now,
            self.users.attributes_of(user_id),
            in_order=history is not None,
            taught=self.funnel.taught,
        )

    def unknown(self, acts: Sequence[Act]) -> Unknown:
        """Which of these acts are about items that the bundle lacks, or of unknown kinds: known neither by
        name, nor by [behaviour], nor to the bundle's models."""
        return Unknown.among(
            acts,
            lambda act: self.catalogue.row(act.item_id) > 0,
            lambda act: self._knows_kind(act.kind),
            [*self.funnel.taught, *KNOWN_KINDS],
        )

    def _knows_kind(self, kind: str) -> bool:
        return kind in self.funnel.taught or self.funnel.rules.named(kind)

    def _knows(self, user_id: str | None) -> bool:
        if user_id is None:
            return False
        models = self.funnel.models.values()
        return self.users.ids.row(user_id) > 0 or any(one.users.row(user_id) > 0 for one in models)

    def _short(self, answered: Answered, filters: Filters, stock: Stock) -> str:
        """Why a slate has fewer items than requested."""
        among = self.catalogue.every
        among[answered.excluded.rows[0]] = False
        asked = Filters(**{**self.funnel.with_stock_rule(filters).__dict__, "exclude": ()})
        count = int((self.catalogue.mask(asked, stock) & among).sum())
        if len(answered.rows) < count:
            there = f"only {len(answered.rows)} of {count} items"
            return f"{there} keep to the caps per brand, category and item_group_id"
        kind = "in all" if answered.excluded.most == 0 else "that the shopper does not have"
        return too_few(self.catalogue, asked, stock, among, count, kind)


def _not_too_much(photos: Sequence[bytes]) -> None:
    """Raises PhotoRefused if the photos have too many pixels: one small body must not hold up everybody
    else."""
    claimed = sum(claimed_pixels(photo) for photo in photos) if len(photos) > 1 else 0
    if claimed > MAX_PIXELS:
        raise PhotoRefused(
            f"the {len(photos)} photos have {claimed:,} pixels together, more than {MAX_PIXELS:,}; "
            "send fewer at a time, or smaller ones"
        )


def _require_one_of(model: str, there: Collection[str], what: str) -> None:
    """Raises NotFound, which lists the known names."""
    if model not in there:
        known = ", ".join(sorted(there)) or "none"
        raise NotFound(f"model = {model[:60]!r}: this bundle has no such {what}; there are: {known}")


def _at_least_one(k: int) -> int:
    if k < 1:
        raise Unprocessable(f"k = {k}: at least 1")
    return k
