"""Finds what is similar to an item or a photo: by photos, by texts, by behaviour, else the most popular.

B queries   N items   D embedding dimension   k places
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from etalage.errors import Unprocessable
from etalage.funnel.catalogue import Catalogue, Filters, Stock
from etalage.funnel.funnel import Funnel
from etalage.index import Index
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.item_item import ItemItemScorer
from etalage.runtime.opening import OpenedModel
from etalage.runtime.photos import PhotoModel
from etalage.runtime.texts import TextModel

WIDER = 10
"""By behaviour: search this many times k items by inner product, then keep the k best by cosine."""


@dataclass(frozen=True)
class Alike:
    """What was found for one query: item rows with their scores, best first."""

    found: list[tuple[int, float]]
    fallback: str | None = None
    """`unknown_item`, `item_without_photo` (both: the most popular), `by_text`, `by_behaviour`."""
    reason: str | None = None
    match: bool | None = None
    """Whether the first is a match, by the calibrated threshold; None: nobody can say."""


@dataclass(frozen=True)
class Wanted:
    """What a request wants: how many items, and which may be shown."""

    k: int
    filters: Filters
    threshold: float | None
    stock: Stock
    by_behaviour: bool = False
    """Of an item: what the same shoppers want, whatever its photo."""


class SimilarItems:
    """Answers by one photo embedder. It never changes, and threads may share it."""

    def __init__(
        self,
        funnel: Funnel,
        photos: PhotoModel | None,
        models: Sequence[OpenedModel],
        texts: TextModel | None = None,
    ) -> None:
        """photos: the photo embedder that compares; None: the bundle has none. models: the funnel's embedders
        with their indexes. texts: what is compared of items without a photo."""
        self.catalogue: Catalogue = funnel.catalogue
        self._photos, self._texts = photos, texts
        self._indexed = self._rows_of(None if photos is None else photos.index)
        self._with_text = self._rows_of(None if texts is None else texts.index)
        self._model: EmbeddingScorer | None = next(iter(funnel.embedders), None)
        indexes = {one.name: one.index for one in models}
        self._index: Index | None = None if self._model is None else indexes[self._model.name]
        self._per_group = funnel.rules.funnel.order.per_group
        self._groups: np.ndarray | None = self.catalogue.group_codes if self._per_group else None
        behind = funnel.fallback_policy.behind
        counted = [one for one in funnel.models.values() if isinstance(one, ItemItemScorer)]
        self._counted = sorted(counted, key=lambda one: one.name in behind)
        """Models that count what shoppers act on together; those that lose to popularity last."""
        self._aligned = self._rows_of(self._index)

    def _rows_of(self, index: Index | None) -> np.ndarray:
        """(N + 1,) which items an index holds; None: none."""
        held = np.zeros(len(self.catalogue) + 1, dtype=bool)
        if index is not None:
            held[index.rows] = True
        return held

    def to_photos(self, queries_BD: np.ndarray, wanted: Wanted) -> list[Alike]:
        """The answers for (B, D) embeddings of photos. Raises Unprocessable: the bundle has no photo
        model."""
        if self._photos is None:
            raise Unprocessable("this bundle has no model of photos: ask with an item_id")
        return self._looking_alike(self._photos, queries_BD, None, wanted)

    def to_item(self, item_id: str, wanted: Wanted) -> Alike:
        """The answer for one item; the item itself is never in it."""
        row = self.catalogue.row(item_id)
        if row == 0:
            return self._popular("unknown_item", None, wanted)
        if self._photos is not None and self.catalogue.has_photo[row] and not wanted.by_behaviour:
            own = self._photos.embeddings[row : row + 1]
            return self._looking_alike(self._photos, own, row, wanted)[0]
        if self._texts is not None and self._with_text[row] and not wanted.by_behaviour:
            return self._by_text(self._texts, row, wanted)
        if self._model is not None and self._index is not None and self._aligned[row]:
            return self._by_behaviour(self._model, self._index, row, wanted)
        if wanted.by_behaviour:
            return self._acted_on_together(row, wanted)
        return self._popular("item_without_photo", row, wanted)

    def _looking_alike(
        self, photos: PhotoModel, queries_BD: np.ndarray, own: int | None, wanted: Wanted
    ) -> list[Alike]:
        kind = "with a photo" if photos.per_category is None else "in the index"
        match = photos.match if own is None else None
        return self._nearest(photos.index, self._indexed, kind, queries_BD, own, wanted, match)

    def _by_text(self, texts: TextModel, row: int, wanted: Wanted) -> Alike:
        """Items whose texts say something like this item's."""
        if wanted.threshold is not None:
            return Alike([], "by_text", _no_photo(wanted.threshold))
        own = np.asarray(texts.embeddings[row : row + 1], np.float32)
        (alike,) = self._nearest(texts.index, self._with_text, "with a text", own, row, wanted)
        return replace(alike, fallback="by_text")

    def _nearest(
        self,
        index: Index,
        among: np.ndarray,
        kind: str,
        queries_BD: np.ndarray,
        own: int | None,
        wanted: Wanted,
        match: float | None = None,
    ) -> list[Alike]:
        """For each query, what of the index is nearest. among: (N + 1,) what the index holds, which `kind`
        names; own: the item that is asked about; match: the similarity of a match."""
        allow = self.catalogue.mask(wanted.filters, wanted.stock)
        if own is not None:
            allow[own] = False
        count = int((allow & among).sum())
        whole = own is None and wanted.filters == Filters()
        # More than there are would only be padding: k may be far above a small shop's size.
        places = min(wanted.k, count)
        answers: list[Alike] = []
        while True:
            if places == 0:
                rows_BK = np.empty((len(queries_BD), 0), dtype=np.int64)
                scores_BK = np.empty((len(queries_BD), 0), dtype=np.float32)
            else:
                scores_BK, rows_BK = index.search(queries_BD, places, None if whole else allow)
            kept = [self._without_variants(rows[rows >= 0], own, wanted.k) for rows in rows_BK]
            # Variants took places: look further, until there are k products or no more photos.
            short = [len(keep) < wanted.k and bool((rows >= 0).all())
                     for (keep, _), rows in zip(kept, rows_BK, strict=True)]  # fmt: skip
            if places == count or not any(short):
                break
            places = min(WIDER * places, count)
        for scores, rows, (keep, variants) in zip(scores_BK, rows_BK, kept, strict=True):
            known = rows >= 0
            pairs = zip(rows[known][keep], scores[known][keep], strict=True)
            found = [(int(row), float(score)) for row, score in pairs]
            near = [pair for pair in found if wanted.threshold is None or pair[1] >= wanted.threshold]
            reason = None
            if wanted.threshold is not None and len(near) < len(found):
                reason = _below(wanted.threshold, len(near))
            elif len(found) < wanted.k:
                reason = self._short(len(found), variants, count, own, wanted, among, kind)
            answers.append(Alike(near, None, reason, _is_match(match, found)))
        return answers

    def _without_variants(self, rows: np.ndarray, own: int | None, k: int) -> tuple[np.ndarray, int]:
        """Which of item rows, best first, are shown: the places of k at most that [funnel.order] per_group
        lets stand, and how many variants of a product were passed over. The item that is asked about is one
        of its product's."""
        if self._groups is None:
            return np.arange(min(k, len(rows))), 0
        stand = {} if own is None else {int(self._groups[own]): 1}
        keep: list[int] = []
        for place, row in enumerate(rows):
            if len(keep) == k:
                break
            group = int(self._groups[row])
            if group >= 0:
                if stand.get(group, 0) >= self._per_group:
                    continue
                stand[group] = stand.get(group, 0) + 1
            keep.append(place)
        passed = (keep[-1] + 1 if len(keep) == k and k else len(rows)) - len(keep)
        return np.array(keep, np.int64), passed

    def _by_behaviour(self, model: EmbeddingScorer, index: Index, row: int, wanted: Wanted) -> Alike:
        """Items whose embeddings point in the direction of this item's: the same shoppers want them."""
        if wanted.threshold is not None:
            return Alike([], "by_behaviour", _no_photo(wanted.threshold))
        allow = self.catalogue.mask(wanted.filters, wanted.stock)
        allow[row] = False
        count = int((allow & self._aligned).sum())
        own = np.asarray(model.item_embeddings[row], np.float32)
        found: list[tuple[int, float]] = []
        variants = 0
        if count:
            rows = index.search(own[None, :], min(WIDER * wanted.k + 50, count), allow).rows[0]
            rows = rows[rows >= 0]
            theirs = np.asarray(model.item_embeddings[rows], np.float32)
            cosines = theirs @ own / np.maximum(np.linalg.norm(theirs, axis=1) * np.linalg.norm(own), 1e-12)
            best = np.lexsort((rows, -cosines))
            keep, variants = self._without_variants(rows[best], row, wanted.k)
            found = [(int(rows[n]), float(cosines[n])) for n in best[keep]]
        reason = None
        if len(found) < wanted.k:
            known = f"that {model.name} knows"
            reason = self._short(len(found), variants, count, row, wanted, self._aligned, known)
        return Alike(found, "by_behaviour", reason)

    def _acted_on_together(self, row: int, wanted: Wanted) -> Alike:
        """The items that the same shoppers acted on, as the first model counts them that knows this one."""
        if wanted.threshold is not None:
            return Alike([], "by_behaviour", _no_photo(wanted.threshold))
        known = next((one for one in self._counted if one.indptr[row + 1] > one.indptr[row]), None)
        if known is None:
            return Alike([], "by_behaviour", "no model of behaviour in this bundle knows the item")
        allow = self.catalogue.mask(wanted.filters, wanted.stock)
        allow[row] = False
        rows, weights = known.neighbours(row)
        rows, weights = rows[allow[rows]], weights[allow[rows]]
        keep, _ = self._without_variants(rows, row, wanted.k)
        found = [(int(rows[n]), float(weights[n])) for n in keep]
        reason = None if len(found) == wanted.k else f"{known.name} knows only {len(found)} that may be shown"
        return Alike(found, "by_behaviour", reason)

    def _popular(self, fallback: str, own: int | None, wanted: Wanted) -> Alike:
        """The most popular items that are not sold out; those of the same category first, where known."""
        if wanted.threshold is not None:  # "is there a match?" must not be answered with bestsellers
            return Alike([], fallback, _no_photo(wanted.threshold))
        if wanted.filters.in_stock is None:
            wanted = replace(wanted, filters=replace(wanted.filters, not_sold_out=True))
        allow = self.catalogue.mask(wanted.filters, wanted.stock)
        if own is not None:
            allow[own] = False
        count = int(allow.sum())
        order = self.catalogue.by_popularity
        rows = order[allow[order]]
        category = None if own is None else self.catalogue.category(own)
        if category is not None:
            kin = self.catalogue.mask(Filters(category=category))[rows]
            rows = np.concatenate([rows[kin], rows[~kin]])
        keep, variants = self._without_variants(rows, own, wanted.k)
        found = [(int(row), float(self.catalogue.popularity[row])) for row in rows[keep]]
        every = self.catalogue.every
        reason = None
        if len(found) < wanted.k:
            reason = self._short(len(found), variants, count, own, wanted, every, "in all")
        return Alike(found, fallback, reason)

    def _short(
        self, found: int, variants: int, count: int, own: int | None, wanted: Wanted, among: np.ndarray,
        kind: str,
    ) -> str:  # fmt: skip
        """Why there are only `found`: what each filter leaves of the items in `among`, and the `variants` of
        products that are shown already."""
        among = among.copy()
        if own is not None:
            among[own] = False
        if found + variants < count:
            said = f"the approximate index found {found + variants} of {count} candidates"
        else:
            said = too_few(self.catalogue, wanted.filters, wanted.stock, among, count, kind)
        return f"{said}; {variants} are variants of what is shown or asked about" if variants else said


def too_few(
    catalogue: Catalogue, filters: Filters, stock: Stock, among: np.ndarray, count: int, kind: str
) -> str:
    """Say, filter by filter, why only `count` of the items in `among` (N + 1,) bool could be shown."""
    total = int(among.sum())
    there = f"{total} {'item' if total == 1 else 'items'} {kind}"
    kept = catalogue.kept(filters, among, stock)
    if not kept:
        return f"only {there}"
    parts = ", ".join(f"{name} leaves {number}" for name, number in kept)
    amount = {0: "no item passes", 1: "only 1 passes"}.get(count, f"only {count} pass")
    return f"{amount} the filters: of {there}, {parts}"


def _is_match(threshold: float | None, found: list[tuple[int, float]]) -> bool | None:
    """Whether the best of item rows with their similarities is near enough; None: nobody knows how near that
    is, or there is nothing to be near."""
    return None if threshold is None or not found else found[0][1] >= threshold


def _no_photo(threshold: float) -> str:
    return f"{_below(threshold, 0)}: there is no photo to compare"


def _below(threshold: float, found: int) -> str:
    amount = "no item is" if found == 0 else f"only {found} items are" if found > 1 else "only 1 item is"
    return f"{amount} at least as similar as {threshold:g}"
