"""The shop's answers as Python and notebooks take them: slates and tables, as frames and as something to look
at. What goes over the wire stays in api.py, which needs no Arrow: a slate holds its answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import pyarrow as pa

from etalage.api import Answer, ReasonedSlot, Recommended, Slot
from etalage.errors import NotFound
from etalage.tabular import Tabular, framed, table_html, table_of_rows

if TYPE_CHECKING:
    from etalage.lake.delta import Table
    from etalage.recommend import Recommender

A = TypeVar("A", bound=Answer | Recommended)
S = TypeVar("S", bound=Slot | ReasonedSlot)
_SHOWN = 10


def _no_photo(item_id: str) -> bytes | None:
    return None


@dataclass(frozen=True, repr=False)
class Slate(Tabular, Generic[A, S]):
    """What is shown: the slots, best first, and the `answer` that they come from.

    Behaves as a sequence of its slots (`slate[0].title`); its frame has a row a slot. It is no `Sequence`, of
    which polars would make other columns. `photo`: item_id → image file.
    """

    title: str
    answer: A
    slots: list[S]
    kind: type[S]
    photo: Callable[[str], bytes | None] = field(default=_no_photo, compare=False)

    @overload
    def __getitem__(self, place: int) -> S: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[S]: ...
    def __getitem__(self, place: int | slice) -> S | Sequence[S]:
        return self.slots[place]

    def __len__(self) -> int:
        return len(self.slots)

    def __iter__(self) -> Iterator[S]:
        return iter(self.slots)

    def __repr__(self) -> str:
        said = f"; {self.answer.reason}" if self.answer.reason else ""
        return f"<{self.title}: {len(self)} items{said}>"

    def to_arrow(self) -> pa.Table:
        """rank, score, item_id, title, brand, price, currency, category_id, in_stock; of a shopper's slate
        `why` too, filled where it was asked to explain."""
        return table_of_rows(self.slots, self.kind, without=("photo", "trace"))

    def _repr_html_(self) -> str:
        from etalage.shop.showing import slate_html

        beside = [getattr(slot, "why", None) or f"{slot.score:.3g}" for slot in self.slots]
        return slate_html(repr(self), self.slots, self.photo, beside)


Alike = Slate[Answer, Slot]
"""What is like an item or a photo."""
Wanted = Slate[Recommended, ReasonedSlot]
"""What a shopper would want."""


def alike(answer: Answer, to: str, recommender: "Recommender") -> Alike:
    """The slate of what is like an item or a photo, which `to` names."""
    said = f" ({answer.fallback})" if answer.fallback else ""
    return Slate(f"like {to}{said}", answer, answer.slate, Slot, _photos(recommender))


def wanted(answer: Recommended, whom: str, recommender: "Recommender") -> Wanted:
    """The slate of one shopper, whom `whom` names."""
    return Slate(f"for {whom}, {answer.tier}", answer, answer.slate, ReasonedSlot, _photos(recommender))


def _photos(recommender: "Recommender") -> Callable[[str], bytes | None]:
    def photo(item_id: str) -> bytes | None:
        try:
            return recommender.photo(item_id)
        except NotFound:
            return None

    return photo


class TableFrame(Tabular):
    """A table of the shop at one version, as a frame; nothing is read before somebody asks."""

    def __init__(self, table: "Table", version: int | None = None) -> None:
        """version: None: the newest. Raises TableMissing."""
        self._table = table
        self.name = table.name
        self.version = table.version() if version is None else version

    def __repr__(self) -> str:
        columns = ", ".join(self._table.spec.names)
        return f"<table {self.name}, version {self.version}: {len(self):,} rows of {columns}>"

    def __len__(self) -> int:
        return self._table.count(self.version)

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """columns: those alone; None: all, photos with their bytes."""
        return self._table.read(self.version, columns=columns)

    def head(self, rows: int = _SHOWN) -> pa.Table:
        """The first rows, without reading the others."""
        schema = self._table.spec.schema
        for batch in self._table.batches(self.version, columns=None, rows=rows):
            return pa.Table.from_batches([batch]).slice(0, rows)
        return schema.empty_table()

    def _repr_html_(self) -> str:
        more = len(self) - _SHOWN
        rest = f'<p class="low">… and {more:,} more rows</p>' if more > 0 else ""
        return framed(repr(self), table_html(self.head(_SHOWN)) + rest)
