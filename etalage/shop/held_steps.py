"""Events of the API whose item or kind nobody knows: held back from the table interactions, counted, told.

An event is held back while its item is not in the table items (of a shop that has one), or while nothing
says what its kind means: neither its name (etalage/kinds.py) nor [behaviour], and no row of interactions has
it. It waits in the table `held`, from which no model learns and nothing counts. Every `collect` looks at what
waits again: an item that came into the catalogue meanwhile, or a kind that [behaviour] names by now, lets it
through.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from etalage.features.history import BehaviourRule
from etalage.kinds import KNOWN_KINDS
from etalage.lake.shown import shown
from etalage.nearest import nearest
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.lake.delta import Lake, Table

_AT_ONCE = 1 << 18
_EXAMPLES = 3


@dataclass(frozen=True)
class Collected:
    """What a collection did with the events of the online store."""

    new: int = 0
    """Rows that came into the table interactions, those that had waited included."""
    held: int = 0
    """Events that came in this time and are held back."""
    released: int = 0
    """Events that had been held back, and are known now."""
    waiting: int = 0
    """Rows of the table `held` afterwards."""
    notes: tuple[str, ...] = ()
    """What is held back, and what lets it through."""


class KnownActs:
    """What the shop knows of items and kinds, by its tables and settings; read when it is asked for first."""

    def __init__(self, workspace: Workspace) -> None:
        self.rule = BehaviourRule(workspace.config.behaviour, workspace.config.funnel)
        self._lake = workspace.lake

    @cached_property
    def items(self) -> pa.Array | None:
        """The ids of the catalogue; None: there is none, so that nothing is known to be wrong with an id."""
        items = self._lake.table("items")
        return items.read(columns=["item_id"])["item_id"].combine_chunks() if items.exists() else None

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Those of the table interactions: they are looked for where neither a name nor a setting says what a
        kind means."""
        acts = self._lake.table("interactions")
        kinds: set[str] = set()
        for batch in acts.batches(columns=["kind"], rows=_AT_ONCE) if acts.exists() else ():
            kinds.update(one or "" for one in batch["kind"].unique().to_pylist())
        return frozenset(kinds)

    def without(self, rows: pa.Table) -> tuple[pa.Array, pa.Array]:
        """Of rows with item_id and kind, (rows,) bool each: is the item unknown, is the kind?"""
        names = pa.array([one for one in pc.unique(rows["kind"]).to_pylist() if not self._says(one)])
        kind = pc.is_in(rows["kind"], value_set=names.cast(pa.string()))
        item = (
            pa.array([False] * rows.num_rows, pa.bool_())
            if self.items is None
            else pc.invert(pc.is_in(rows["item_id"], value_set=self.items))
        )
        return _one(item), _one(kind)

    def _says(self, kind: str | None) -> bool:
        return self.rule.named(kind) or (kind or "") in self.kinds


@dataclass
class HeldBack:
    """Sorts events of one collection into the tables `interactions` and `held`."""

    lake: "Lake"
    known: KnownActs
    held: int = 0
    """Rows that came into the table `held` so far."""

    @property
    def table(self) -> "Table":
        """Where they wait."""
        return self.lake.table("held")

    def merge(self, rows: pa.Table) -> int:
        """Put rows of interactions where they belong; how many are new in interactions.

        What is in interactions stays there: an item may have left the catalogue since.
        """
        item, kind = self.known.without(rows)
        doubtful = pc.or_(item, kind)
        if pc.any(doubtful).as_py():
            there = _stored(self.lake.table("interactions"), rows.filter(doubtful)["interaction_id"])
            doubtful = pc.and_(doubtful, pc.invert(pc.is_in(rows["interaction_id"], value_set=there)))
            waiting = rows.filter(doubtful)
            reasons = [_reason(*both) for both in zip(item.filter(_one(doubtful)).to_pylist(),
                                                      kind.filter(_one(doubtful)).to_pylist(),
                                                      strict=True)]  # fmt: skip
            self.held += self.table.merge(waiting.append_column("reason", pa.array(reasons))).inserted
        good = rows.filter(pc.invert(doubtful))
        return self.lake.table("interactions").merge(good).inserted if good.num_rows else 0

    def release(self) -> int:
        """Let through what waits and is known by now; how many rows are new in interactions."""
        if not self.table.exists():
            return 0
        rows = self.table.read(columns=[*self.lake.table("interactions").spec.names])
        item, kind = self.known.without(rows)
        good = rows.filter(pc.invert(pc.or_(item, kind)))
        if not good.num_rows:
            return 0
        added = self.lake.table("interactions").merge(good).inserted
        self.table.delete(good)  # behind the merge: after a kill it is merged again, which changes nothing
        return added

    def notes(self) -> tuple[str, ...]:
        """What waits, and what lets it through."""
        if not self.table.exists():
            return ()
        rows = self.table.read(columns=["item_id", "kind"])
        item, kind = self.known.without(rows)
        items = Counter(rows["item_id"].filter(item).to_pylist())
        kinds = Counter(rows["kind"].filter(kind).to_pylist())
        told = []
        if items:
            told.append(
                f"{items.total():,} events wait on {len(items):,} item_ids that the catalogue lacks: "
                f"{_examples(items, self.known.items)}; they are taken when the items are"
            )
        if kinds:
            told.append(
                f"{kinds.total():,} events wait whose kind nobody knows: {_examples(kinds, KNOWN_KINDS)}; "
                "name it in [behaviour] kinds (or weights, or has) of shop.toml, and collect again"
            )
        return tuple(told)


def _examples(counts: Counter[str], known: "Sequence[str] | dict[str, object] | pa.Array | None") -> str:
    ids = () if known is None else known.to_pylist() if isinstance(known, pa.Array) else known
    listed = []
    for one, count in counts.most_common(_EXAMPLES):
        near = nearest(one, ids) if len(ids) < _AT_ONCE else None
        listed.append(f"{shown(one)} ({count:,}{f'; did you mean {shown(near)}?' if near else ''})")
    return ", ".join(listed) + (", …" if len(counts) > _EXAMPLES else "")


def _reason(item: bool, kind: bool) -> str:
    what = "item and kind are" if item and kind else "item is" if item else "kind is"
    return f"its {what} not known"


def _stored(table: "Table", ids: pa.ChunkedArray) -> pa.Array:
    """Those of the ids that the table has."""
    found = []
    for batch in table.batches(columns=["interaction_id"], rows=_AT_ONCE) if table.exists() else ():
        column = batch["interaction_id"]
        found.append(column.filter(pc.is_in(column, value_set=_one(ids))))
    return pa.concat_arrays(found) if found else pa.array([], pa.string())


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
