"""An opened bundle: query → candidates → filter → slate. No HTTP in it.

B queries   D embedding dimension   N items
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from etalage.bundle import manifest as manifests
from etalage.bundle.catalogue import Catalogue, Filters, Kept
from etalage.bundle.files import INDEX, MODELS, read_embeddings
from etalage.bundle.manifest import Manifest
from etalage.bundle.runtime import PhotoEmbedder
from etalage.bundle.selfcheck import check_consistency
from etalage.errors import BundleDamaged, ExportDamaged, IndexMismatch, PhotoRefused, Unprocessable
from etalage.features.photo import claimed_pixels
from etalage.index import Index, open_index
from etalage.lake.photo_facts import MAX_PIXELS

__all__ = ["Answer", "Filters", "Recommender", "Slot"]

MAX_NAMED_ROWS = 5
"""How many refused photos one error names."""


@dataclass(frozen=True)
class Slot:
    """One place of a slate. `item` is what is shown: title, brand, price, …"""

    rank: int
    item_id: str
    score: float
    """Inner product with the query; the item's popularity in a fallback."""
    item: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The slate for one query, and how it came about."""

    row: int
    """Position of the query in the request."""
    slate: list[Slot]
    fallback: str | None = None
    """`unknown_item` or `item_without_photo`: the slate is the most popular, not the most similar."""
    reason: str | None = None
    """Why the slate is shorter than asked."""
    trace: dict[str, Any] = field(default_factory=dict)


class Recommender:
    """Everything that one bundle can answer. Safe to share between threads; never changes."""

    def __init__(
        self,
        manifest: Manifest,
        catalogue: Catalogue,
        embedder: PhotoEmbedder,
        index: Index,
        embeddings: np.ndarray,
    ) -> None:
        self.manifest = manifest
        self.bundle: str = manifest.id
        self.catalogue = catalogue
        self.embedder = embedder
        self._index = index
        self._indexed = np.zeros(len(catalogue), dtype=bool)
        self._indexed[index.rows] = True
        self._embeddings = embeddings

    @classmethod
    def open(cls, folder: Path, *, threads: int = 1, verify: bool = True) -> "Recommender":
        """Open the bundle in `folder`: check its files, warm up, repeat its recorded answers.

        `verify=False` skips the files' hashes, for who has just written them; the rest is checked.
        Raises BundleDamaged: a file missing or changed, parts that do not belong together, answers
        other than those recorded when it was published.
        """
        folder = Path(folder)
        manifest = manifests.verify(folder) if verify else manifests.read_manifest(folder)
        try:
            check_consistency(folder, manifest)  # opens, searches and embeds: nothing is cold afterwards
            embedder = PhotoEmbedder.open(folder / MODELS / manifest.model.name, threads)
            index = open_index(folder / INDEX, threads, model_hash=manifest.model.hash)
            embeddings = read_embeddings(folder)
        except (ExportDamaged, IndexMismatch, OSError) as error:
            raise BundleDamaged(f"bundle {manifest.id}: {error}") from error
        recommender = cls(manifest, Catalogue.open(folder), embedder, index, embeddings)
        recommender._warm_up()
        return recommender

    def _warm_up(self) -> None:
        """The first run of a network and of an index is the slowest: it is not a shopper's."""
        encoder = self.embedder.encoder
        blank = np.zeros((1, encoder.size, encoder.size, encoder.channels), dtype=np.uint8)
        self._index.search(self.embedder.embed_pixels(blank), 1)

    def similar(
        self,
        *,
        item_id: str | None = None,
        photos: Sequence[bytes] | None = None,
        k: int = 10,
        filters: Filters | None = None,
        threshold: float | None = None,
    ) -> list[Answer]:
        """The k items most similar to an item, or to each of the photos (image files).

        `threshold` drops what scores lower. An item is never in its own slate. An item that is
        unknown or has no photo is answered by the most popular ones, labelled as a fallback.
        Raises PhotoRefused (names the photo), Unprocessable (not exactly one query; k < 1).
        """
        if (item_id is None) == (photos is None):
            raise Unprocessable("give exactly one of item_id and photos")
        if k < 1:
            raise Unprocessable(f"k = {k}: at least 1")
        filters = filters or Filters()
        if photos is not None:
            return self._nearest(self.embed(photos), None, k, filters, threshold)
        assert item_id is not None
        row = self.catalogue.row(item_id)
        if row is None:
            return [self._popular("unknown_item", None, k, filters, threshold)]
        if not self.catalogue.has_photo[row]:
            return [self._popular("item_without_photo", row, k, filters, threshold)]
        return self._nearest(self._embeddings[row : row + 1], row, k, filters, threshold)

    def item(self, item_id: str) -> dict[str, Any]:
        """All that the bundle knows of an item. Raises NotFound."""
        return self.catalogue.everything(self.catalogue.known_row(item_id))

    def photo(self, item_id: str) -> bytes:
        """The item's image file, as it was ingested. Raises NotFound."""
        return self.catalogue.photo(self.catalogue.known_row(item_id))

    def embed(self, photos: Sequence[bytes]) -> np.ndarray:
        """(B,) image files → (B, D) float32. Raises PhotoRefused that names every bad photo."""
        claimed = sum(claimed_pixels(photo) for photo in photos) if len(photos) > 1 else 0
        if claimed > MAX_PIXELS:  # one small body must not keep everybody else waiting
            raise PhotoRefused(
                f"the {len(photos)} photos have {claimed:,} pixels together, more than {MAX_PIXELS:,}; "
                "send fewer at a time, or smaller ones"
            )
        pixels, _, reasons = self.embedder.encoder.decode_some(photos)
        refused = [f"row {row}: {reason}" for row, reason in reasons.items()]
        if refused:
            more = len(refused) - MAX_NAMED_ROWS
            tail = [f"and {more} more"] if more > 0 else []
            raise PhotoRefused("; ".join(refused[:MAX_NAMED_ROWS] + tail))
        return self.embedder.embed_pixels(pixels)

    def _nearest(
        self, queries_BD: np.ndarray, own: int | None, k: int, filters: Filters, threshold: float | None
    ) -> list[Answer]:
        allow = self.catalogue.mask(filters)
        if own is not None:
            allow[own] = False
        indexed = self._indexed
        count = int((allow & indexed).sum())
        kind = "with a photo" if self.manifest.index.per_category is None else "in the index"
        whole = own is None and filters == Filters()
        # More than there are would only be padding: k may be far above a small shop's size.
        wanted = min(k, count)
        if wanted == 0:
            rows_BK = np.empty((len(queries_BD), 0), dtype=np.int64)
            scores_BK = np.empty((len(queries_BD), 0), dtype=np.float32)
        else:
            scores_BK, rows_BK = self._index.search(queries_BD, wanted, None if whole else allow)
        answers = []
        for position, (scores, rows) in enumerate(zip(scores_BK, rows_BK, strict=True)):
            found = [(int(r), float(s)) for r, s in zip(rows, scores, strict=True) if r >= 0]
            near = [pair for pair in found if threshold is None or pair[1] >= threshold]
            reason = None
            if len(near) < len(found):
                reason = _below(threshold, len(near))
            elif len(found) < k:
                reason = self._short(len(found), count, own, filters, indexed, kind)
            trace = {"retriever": "index", "model": self.embedder.model_hash, "candidates": count}
            answers.append(Answer(position, self._slate(near), None, reason, trace))
        return answers

    def _popular(
        self, fallback: str, own: int | None, k: int, filters: Filters, threshold: float | None
    ) -> Answer:
        """The most popular items in stock; those of the same category first, where it is known."""
        trace: dict[str, Any] = {"retriever": "popularity"}
        if threshold is not None:  # "is there a match?" must not be answered with bestsellers
            return Answer(0, [], fallback, f"{_below(threshold, 0)}: there is no photo to compare", trace)
        if filters.in_stock is None:
            filters = Filters(filters.category, filters.min_price, filters.max_price, in_stock=True)
        allow = self.catalogue.mask(filters)
        if own is not None:
            allow[own] = False
        count = int(allow.sum())
        order = self.catalogue.by_popularity
        rows = order[allow[order]]
        category = None if own is None else self.catalogue.category(own)
        if category is not None:
            kin = self.catalogue.mask(Filters(category=category))[rows]
            rows = np.concatenate([rows[kin], rows[~kin]])
        found = [(int(row), float(self.catalogue.popularity[row])) for row in rows[:k]]
        every = np.ones(len(self.catalogue), dtype=bool)
        reason = None if len(found) == k else self._short(len(found), count, own, filters, every, "in all")
        return Answer(0, self._slate(found), fallback, reason, {**trace, "candidates": count})

    def _slate(self, found: list[tuple[int, float]]) -> list[Slot]:
        return [
            Slot(rank, self.catalogue.ids[row], score, self.catalogue.shown(row))
            for rank, (row, score) in enumerate(found, start=1)
        ]

    def _short(
        self, found: int, count: int, own: int | None, filters: Filters, among: np.ndarray, kind: str
    ) -> str:
        """Why a slate has `found` places: what each filter leaves of the items in `among`."""
        among = among.copy()
        if own is not None:
            among[own] = False
        total = int(among.sum())
        kept: list[Kept] = self.catalogue.kept(filters, among)
        if found < count:
            return f"the approximate index found {found} of {count} candidates"
        if not kept:
            return f"only {total} items {kind}"
        parts = ", ".join(f"{name} leaves {number}" for name, number in kept)
        amount = "no item passes" if count == 0 else f"only {count} pass"
        return f"{amount} the filters: of {total} items {kind}, {parts}"


def _below(threshold: float | None, found: int) -> str:
    amount = "no item is" if found == 0 else f"only {found} items are" if found > 1 else "only 1 item is"
    return f"{amount} at least as similar as {threshold:g}"
