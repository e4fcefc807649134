"""What a bundle is made of, put together in one place for publish and sync.

N items   D embedding dimension
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etalage.bundle.contents import Embedded, Payload, gather_user_histories
from etalage.bundle.manifest import RefusedFacts
from etalage.config import BehaviourConfig, ClassifyConfig
from etalage.features.history import BehaviourRule
from etalage.features.sources import PHOTO, TEXT, FeatureSource
from etalage.funnel.shoppers import UserHistories
from etalage.lake.erasures import Erasures
from etalage.lake.ledger import Moment
from etalage.runtime.photos import PhotoEmbedder

if TYPE_CHECKING:
    from etalage.lake.delta import Lake

Embedding = Callable[[Payload, PhotoEmbedder], Embedded]
"""How the photos of a payload are embedded: whose embeddings are kept from before is the caller's to know."""
Reading = Callable[[pa.Table], FeatureSource | None]
"""What the shop's sentence encoder makes of the texts of items; None: the shop has none."""


@dataclass(frozen=True)
class DraftedModel:
    """A model on its way into a bundle."""

    export: Path
    """Its export (not aligned)."""
    verdict: dict[str, Any] | None = None
    """The gate's; None: it was not judged."""
    slice: str | None = None
    """What part of the shoppers or items the verdict is about; None: all."""
    forced: bool = False
    """A person decided about it already."""
    behind: bool = False
    """It loses to popularity, and is there for a ranker alone."""
    unjudged: str | None = None
    """Why a closed-form model has no verdict, where that is known."""
    outdated: str | None = None
    """That it was trained by other settings than the shop has, and which."""
    as_judged: str | None = None
    """Why a model of behaviour did not learn once more from everything; None: it did, or none does."""


@dataclass(frozen=True)
class Draft:
    """What a bundle is made of.

    `items` (N rows) and `photos` as in contents.Payload; `tables` their versions, `moments` what those can be
    known again by; `classified_by` as in contents.Payload. `models` of every kind: those of behaviour in the
    order of the funnel. `embeddings`: of each photo embedder by name, (N + 1, D) float32, zeros where an item
    has no photo, and in row 0. `rules`: how the funnel asks, `classify`: how classifiers are asked; `crowd`:
    the shoppers that the bundle is to know.
    """

    items: pa.Table
    photos: pa.Table
    tables: dict[str, int]
    models: tuple[DraftedModel, ...] = ()
    embeddings: Mapping[str, np.ndarray] = field(default_factory=dict)
    rules: BehaviourRule = field(default_factory=lambda: BehaviourRule(BehaviourConfig()))
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    user_histories: UserHistories | None = None
    classified_by: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[RefusedFacts, ...] = ()
    """Models that a gate kept out before: of a sync, those of the bundle that it carries on from."""
    currency: str | None = None
    """Of items that name none."""
    erasures: Erasures = field(default_factory=lambda: Erasures(None))
    """Who was erased since their histories were read is asked when the bundle is finished."""
    moments: Mapping[str, Moment] = field(default_factory=dict)
    synced_from: str | None = None
    """The bundle that a sync carries on from."""
    embedders: Mapping[str, PhotoEmbedder] = field(default_factory=dict)
    """Those that made `embeddings`, by name, open as they are: nobody opens them again."""
    texts: FeatureSource | None = None
    """What the shop's sentence encoder makes of the items."""

    def sources(self, made_by: Mapping[str, str]) -> dict[str, FeatureSource]:
        """What each photo embedder makes of the items, for models that learned from it: by its name, and as
        `photo` that of the one that speaks; as `text` what the encoder of texts makes. made_by: the hash of
        each embedder."""
        there = np.flatnonzero(self.items["photo_sha256"].is_valid().to_numpy())
        ids = self.items["item_id"].combine_chunks().take(pa.array(there))
        found = {
            name: FeatureSource(ids, self.embeddings[name][there + 1], model_hash)
            for name, model_hash in made_by.items()
        }
        name = speaking(list(found), self.rules.funnel.photos)
        if self.texts is not None:
            found[TEXT] = self.texts
        return found if name is None else {**found, PHOTO: found[name]}


@dataclass(frozen=True)
class Assembled:
    """A draft, and what became of the photos on the way."""

    draft: Draft
    embedded: int
    """Photos that an embedder looked at now; the others were known."""
    refused: dict[str, str]
    """{sha256: reason} of photos that could not be decoded: their items stay, without a photo."""


def assemble(
    lake: "Lake",
    payload: Payload,
    models: Sequence[DraftedModel],
    embedders: Sequence[PhotoEmbedder],
    embed: Embedding,
    rules: BehaviourRule,
    *,
    behaviour: bool,
    classify: ClassifyConfig,
    currency: str | None,
    left_out: tuple[RefusedFacts, ...] = (),
    synced_from: str | None = None,
    reading: Callable[[], AbstractContextManager[object]] = nullcontext,
    texts: Reading | None = None,
) -> Assembled:
    """The draft of a bundle of `payload`: every photo embedded by each of the `embedders`, and, where models
    of behaviour are among the `models`, the shoppers as `rules` see them.

    reading: what the shoppers are read within. texts: how the items' texts are embedded; None: not at all.
    Raises TableDamaged.
    """
    embeddings: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    count = 0
    for embedder in embedders:
        done = embed(payload, embedder)
        payload, count = done.payload, count + done.embedded
        embeddings[embedder.name] = done.embeddings
        refused |= done.refused
    user_histories = None
    if behaviour:
        with reading():
            user_histories = gather_user_histories(lake, lake.versions(), rules)
    draft = Draft(
        payload.items,
        payload.photos,
        payload.versions,
        tuple(models),
        embeddings,
        rules,
        classify,
        user_histories,
        classified_by=payload.classified_by,
        left_out=left_out,
        currency=currency,
        erasures=lake.erasures,
        moments=payload.moments,
        synced_from=synced_from,
        embedders={embedder.name: embedder for embedder in embedders},
        texts=None if texts is None else texts(payload.items),
    )
    return Assembled(draft, count, refused)


def without_erased(draft: Draft) -> Draft:
    """The same without the shoppers who were erased since they were read."""
    known = draft.erasures.known()
    return replace(draft, user_histories=draft.user_histories and draft.user_histories.without_erased(known))


def speaking(names: Sequence[str], wanted: str | None) -> str | None:
    """Which of several models of one kind answers where nobody names one: the `wanted`, else the first."""
    return wanted if wanted in names else next(iter(names), None)
