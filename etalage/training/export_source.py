"""What the export of a model of behaviour keeps of the data beside the model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from etalage.features.behaviour import BehaviourSet
from etalage.features.encoder import Encoder, Features
from etalage.features.vocabulary import Vocabulary
from etalage.runtime.export_files import ITEM_ENCODER, ITEMS, USER_ENCODER, USERS

if TYPE_CHECKING:
    from etalage.features.pairs import PairEncoder
    from etalage.features.table_encoder import TableEncoder


@dataclass(frozen=True)
class Source:
    """What an export keeps of the data beside the model: vocabularies, encoders, features of the items."""

    items: Vocabulary = field(default_factory=lambda: Vocabulary([]))
    users: Vocabulary = field(default_factory=lambda: Vocabulary([]))
    kinds: tuple[str, ...] = ()
    item_features: Features = field(default_factory=Features)
    user_features: Features = field(default_factory=Features)
    item_encoder: Encoder | None = None
    user_encoder: Encoder | None = None
    pairs: "PairEncoder | None" = None
    """For a ranker of pairs: what it knows of them."""
    table: "TableEncoder | None" = None
    """For a ranker of a table's rows: how they are encoded."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Of the sparse inputs of a ranker, by name."""
    feature_sources: dict[str, str] = field(default_factory=dict)
    """As in BehaviourSet."""

    @classmethod
    def of(
        cls, data: BehaviourSet, pairs: "PairEncoder | None" = None, sizes: dict[str, int] | None = None
    ) -> "Source":
        return cls(
            data.items,
            data.users,
            data.kinds,
            data.item_features,
            data.user_features,
            data.item_encoder,
            data.user_encoder,
            pairs,
            None,
            sizes or {"user": len(data.users), "item": len(data.items)},
            data.feature_sources,
        )


def write_ids(folder: Path, data: Source) -> None:
    """Its vocabularies and encoders."""
    data.items.save(folder / ITEMS)
    data.users.save(folder / USERS)
    for encoder, name in ((data.item_encoder, ITEM_ENCODER), (data.user_encoder, USER_ENCODER)):
        if encoder is not None:
            (folder / name).write_text(encoder.to_json(), encoding="utf-8")
