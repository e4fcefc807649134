"""What is this? Answered by the classifier of one bundle, of items of its catalogue and of others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from etalage.api import Categorised, StoredCategory
from etalage.bundle.classifying import CLASSIFIER, Confusion, OpenedClassifier
from etalage.bundle.parts import Parts
from etalage.errors import NotFound, Unprocessable
from etalage.runtime.classifier import Classified
from etalage.runtime.steps import Steps, finish


class Categories:
    """Safe to share between threads; never changes."""

    def __init__(self, parts: Parts) -> None:
        self._catalogue = parts.catalogue
        self._opened = parts.classifier
        self._refused = [one.reason for one in parts.manifest.refused if one.name == CLASSIFIER]

    @property
    def opened(self) -> OpenedClassifier:
        """Raises Unprocessable: the bundle has no classifier; says why."""
        if self._opened is None:
            why = self._refused[0] if self._refused else f"`etalage train {CLASSIFIER}`, evaluate it, publish"
            raise Unprocessable(f"this bundle has no classifier: {why}")
        return self._opened

    @property
    def confusion(self) -> Confusion:
        """Raises NotFound: nothing was kept."""
        if self._opened is None or self._opened.confusion is None:
            raise NotFound(f"this bundle has no confusion matrix: `etalage evaluate {CLASSIFIER}`, publish")
        return self._opened.confusion

    def answers(
        self,
        photos: Sequence[Sequence[bytes]],
        titles: Sequence[str | None] | None,
        threshold: float | None,
        top: int | None,
    ) -> Steps[list[Categorised]]:
        """See Recommender.classify_photos."""
        return _asked(self.opened, photos, titles or [None] * len(photos), threshold, top)

    def answer(
        self,
        item_id: str | None,
        photos: Sequence[Sequence[bytes]] | None,
        threshold: float | None,
        top: int | None,
    ) -> list[Categorised]:
        """See Recommender.classify: of an item of the catalogue."""
        opened = self.opened
        if item_id is None or photos is not None:
            raise Unprocessable("give exactly one of item_id and photos")
        row, catalogue = self._catalogue.known_row(item_id), self._catalogue
        own = [catalogue.photo(row)] if catalogue.has_photo[row] else []
        (now,) = finish(_asked(opened, [own], [catalogue.own_title(row)], threshold, top))
        stored = StoredCategory(*catalogue.classified(row), catalogue.category(row))
        return [replace(now, stored=stored)]

    def warm_up(self) -> None:
        """The first run of a network is the slowest."""
        if self._opened is not None:
            model = self._opened.classifier
            blank = np.zeros((1, model.encoder.size, model.encoder.size, model.encoder.channels), np.uint8)
            model.answers(model.features(blank), np.ones(1, bool), ["a title"])


def _asked(
    opened: OpenedClassifier,
    photos: Sequence[Sequence[bytes]],
    titles: Sequence[str | None],
    threshold: float | None,
    top: int | None,
) -> Steps[list[Categorised]]:
    settings = opened.facts.settings
    least = settings.threshold if threshold is None else threshold
    most = settings.top if top is None else top
    found = yield from opened.classifier.classifying(photos, titles, least, most)
    return [
        Categorised(
            row,
            one.category_id,
            one.path,
            one.confidence,
            _reason(opened, one, least),
            list(one.steps),
            list(one.others),
            stored=None,
        )
        for row, one in enumerate(found)
    ]


def _reason(opened: OpenedClassifier, found: Classified, threshold: float) -> str | None:
    if found.confidence is None:
        also = "and no title" if opened.facts.text else "(this classifier reads no titles)"
        return f"nothing to look at: no photo {also}"
    if found.category_id is None:
        return f"the most probable category has a confidence of {found.confidence:.3f}, below {threshold:g}"
    return None
