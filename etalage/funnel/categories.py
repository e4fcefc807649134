"""What is this? Answered by the classifier of one bundle, of items of its catalogue and of others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from etalage.api import Categorised, StoredCategory
from etalage.errors import NotFound, Unprocessable
from etalage.funnel.catalogue import Catalogue
from etalage.runtime.classifier import Classified, ClassifierModel, Confusion
from etalage.runtime.steps import Steps, finish


class Categories:
    """One classifier of a bundle at work. Safe to share between threads; never changes."""

    def __init__(self, catalogue: Catalogue, model: ClassifierModel) -> None:
        self._catalogue = catalogue
        self.model = model

    @property
    def confusion(self) -> Confusion:
        """Raises NotFound: nothing was kept."""
        if self.model.confusion is None:
            raise NotFound(
                f"this bundle has no confusion matrix of {self.model.name}: `etalage evaluate "
                f"{self.model.name}`, publish"
            )
        return self.model.confusion

    def answers(
        self,
        photos: Sequence[Sequence[bytes]],
        titles: Sequence[str | None] | None,
        threshold: float | None,
        top: int | None,
    ) -> Steps[list[Categorised]]:
        """See Recommender.classify_photos."""
        return _classify_with(self.model, photos, titles or [None] * len(photos), threshold, top)

    def answer(
        self,
        item_id: str | None,
        photos: Sequence[Sequence[bytes]] | None,
        threshold: float | None,
        top: int | None,
    ) -> list[Categorised]:
        """See Recommender.classify: of an item of the catalogue."""
        if item_id is None or photos is not None:
            raise Unprocessable("give exactly one of item_id and photos")
        row, catalogue = self._catalogue.known_row(item_id), self._catalogue
        own = [catalogue.photo(row)] if catalogue.has_photo[row] else []
        (now,) = finish(_classify_with(self.model, [own], [catalogue.own_title(row)], threshold, top))
        stored = StoredCategory(*catalogue.classified(row), catalogue.category(row))
        return [replace(now, stored=stored)]

    def warm_up(self) -> None:
        """The first run of a network is the slowest."""
        model, encoder = self.model.classifier, self.model.classifier.encoder
        side, channels = (1, 1) if encoder is None else (encoder.size, encoder.channels)
        blank = np.zeros((1, side, side, channels), np.uint8)
        model.answers(model.features(blank), np.ones(1, bool), ["a title"])


def _classify_with(
    model: ClassifierModel,
    photos: Sequence[Sequence[bytes]],
    titles: Sequence[str | None],
    threshold: float | None,
    top: int | None,
) -> Steps[list[Categorised]]:
    settings = model.settings
    least = settings.threshold if threshold is None else threshold
    most = settings.top if top is None else top
    found = yield from model.classifier.classifying(photos, titles, least, most)
    return [
        Categorised(
            row,
            one.category_id,
            one.path,
            one.confidence,
            _reason(model, one, least),
            list(one.steps),
            list(one.others),
            stored=None,
        )
        for row, one in enumerate(found)
    ]


def _reason(model: ClassifierModel, found: Classified, threshold: float) -> str | None:
    if found.confidence is None:
        if not model.classifier.uses_photos:
            return "nothing to look at: no title (this classifier looks at no photos)"
        also = "and no title" if model.classifier.uses_text else "(this classifier reads no titles)"
        return f"nothing to look at: no photo {also}"
    if found.category_id is None:
        return f"the most probable category has a confidence of {found.confidence:.3f}, below {threshold:g}"
    return None
