"""The shop's behaviour as arrays in files, where it would not fit into memory.

What `behaviour_set` makes of tables in memory, to the last bit, is made here of blocks of shoppers one after
the other (shopper_blocks.py). In memory are one block, the catalogue, and what is known of each shopper and
item: never all acts.

    M acts   N items   U shoppers
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.errors import TooLittleData
from etalage.features.behaviour import NEVER, PARTS, BehaviourSet, Interactions
from etalage.features.behaviour_set import (
    assembled,
    both_ids,
    codes_of_targets,
    nothing_left,
    require_positives,
)
from etalage.features.counted_acts import POSITIVE, KindCounts, SaidParts, counted, kind_facts, require_kinds
from etalage.features.growing_array import GrowingArray, mapped
from etalage.features.history import BehaviourRule
from etalage.features.shopper_blocks import Read, ShopperBlocks, census
from etalage.features.split_interactions import Shopwide, as_published, cuts_of, parted
from etalage.features.vocabulary import Vocabulary

BLOCK_ROWS = 1 << 17
"""Acts of a block; while it is judged, each takes about 400 bytes."""
COLUMNS = {"users": np.int64, "items": np.int64, "kinds": np.int64, "values": np.float32, "times": np.int64,
           "labels": np.float32}  # fmt: skip


def behaviour_on_disk(
    read: Read,
    items: pa.Table | None,
    users: pa.Table | None,
    config: BehaviourConfig,
    folder: Path,
    *,
    funnel: FunnelConfig | None = None,
    more_items: Sequence[str] = (),
    rows: int = BLOCK_ROWS,
    whole: bool = False,
) -> BehaviourSet:
    """As `behaviour_set`, which says what the arguments are; the acts of its parts lie in files of `folder`,
    which is there and empty. read: the table of interactions. rows: acts of a block, about.

    Raises what `behaviour_set` raises.
    """
    making = _Making(read, items, users, config, folder, funnel, more_items, rows, whole)
    making.count()
    making.thin_out()
    return making.divide()


@dataclass(frozen=True)
class _Block:
    """Acts of some shoppers by provisional rows: of all shoppers, items and kinds of the table."""

    acts: Interactions
    parts: np.ndarray
    """(m,) int8 places in PARTS; of a published split."""
    held: Interactions

    def only(self, keep: np.ndarray) -> "_Block":
        return _Block(self.acts.take(keep), self.parts[keep], self.held)

    def save(self, file: Path) -> None:
        both = (("acts", self.acts), ("held", self.held))
        arrays = {f"{name}.{c}": getattr(acts, c) for name, acts in both for c in COLUMNS}
        np.savez(file, parts=self.parts, **arrays)

    @classmethod
    def open(cls, file: Path) -> "_Block":
        with np.load(file, allow_pickle=False) as found:
            acts, held = (
                Interactions(*(found[f"{name}.{column}"] for column in COLUMNS)) for name in ("acts", "held")
            )
            return cls(acts, found["parts"], held)


class _Making:
    def __init__(
        self,
        read: Read,
        items: pa.Table | None,
        users: pa.Table | None,
        config: BehaviourConfig,
        folder: Path,
        funnel: FunnelConfig | None,
        more_items: Sequence[str],
        rows: int,
        whole: bool,
    ) -> None:
        self.items, self.users, self.config, self.folder, self.funnel = items, users, config, folder, funnel
        self.more_items, self.whole = more_items, whole
        self.rule = BehaviourRule(config, funnel or FunnelConfig())
        self.census = census(read)
        self.facts: dict[str, Any] = {
            "read": self.census.read, "repeat": config.repeat, "split": config.split}  # fmt: skip
        require_kinds(config, [kind for kind in self.census.kinds if kind])
        self.blocks = ShopperBlocks(read, self.census, folder, rows)
        self.catalogue = self.census.items if items is None else Vocabulary.fit(items["item_id"])
        """Provisional where there is no table of items."""
        self.touched = np.zeros(len(self.catalogue), bool)
        self.kept_users = np.ones(len(self.census.users), bool)
        self.kept_items = np.ones(len(self.catalogue), bool)

    # -- which acts count ----------------------------------------------------------------------

    def count(self) -> None:
        """Judge each block by the rule, and write it again as arrays."""
        kinds: dict[str | None, KindCounts] = {}
        sums = dict.fromkeys(("idle", "taken_back", "of_unknown_items", "of_crawlers"), 0)
        published = self.config.split == "published" and not self.whole
        said, unused, crawlers = SaidParts(), 0, list[str]()
        for number in range(len(self.blocks)):
            found = counted(self.blocks.acts(number), self.rule)
            for kind, seen in found.kinds.items():
                kinds[kind] = kinds.get(kind, KindCounts()) + seen
            sums["idle"] += found.idle
            sums["taken_back"] += found.taken_back
            acts = said.of(found.acts) if published else found.acts
            unused += acts.num_rows - acts["part"].null_count
            block = self._coded(number, acts, found.held)
            self.touched[block.acts.items] = True
            known = block.acts.items > 0
            sums["of_unknown_items"] += len(known) - int(known.sum())
            block = block.only(known)
            heavy = _heavy(block.acts, self.config.max_user)
            if len(heavy):
                crawls = np.isin(block.acts.users, heavy)
                sums["of_crawlers"] += int(crawls.sum())
                crawlers = [*crawlers, *map(self.census.users.id, heavy.tolist())][:10]
                block = block.only(~crawls)
            block.save(self._file(number))
        self.blocks.remove()
        self.facts |= kind_facts(self.rule, kinds, self.census.read)
        self.facts |= {**sums, "crawlers": crawlers}
        if published:
            said.require_train()
            self.facts["without_part"] = said.without
        elif not self.whole:
            self.facts["parts_unused"] = unused

    def _coded(self, number: int, acts: pa.Table, held: pa.Table) -> _Block:
        """Sorted by shopper and time. Acts on items that the catalogue lacks have item row 0."""
        first, own = self.blocks.users(number)
        order: list[np.ndarray] = []

        def columns(table: pa.Table) -> Interactions:
            users = own.rows(table["user_id"]) + first
            times = pc.fill_null(table["time"].cast(pa.int64()), NEVER).to_numpy(zero_copy_only=False)
            order.append(np.lexsort((np.arange(len(users)), times, users)))
            found = Interactions(
                users,
                self.catalogue.rows(table["item_id"]),
                Vocabulary(list(self.census.kinds)).rows(table["kind"]),
                table["value"].to_numpy(zero_copy_only=False).astype(np.float32),
                times,
                table[POSITIVE].to_numpy().astype(np.float32),
            )
            return found.take(order[-1])

        coded = columns(acts)
        parts = Vocabulary(list(PARTS)).rows(acts["part"])[order[0]] - 1
        return _Block(coded, parts.astype(np.int8), columns(held))

    # -- which of them are left ----------------------------------------------------------------

    def thin_out(self) -> None:
        """Leave out shoppers and items with too few acts, again and again until none has."""
        least = (self.config.min_user, self.config.min_item)
        alive = (self.kept_users, self.kept_items)
        before, left = -1, self._left()
        whole = left
        while max(least) > 1 and left != before:
            before = left
            for side in (0, 1):
                counts = np.zeros(len(alive[side]), np.int64)
                for block in self._kept():
                    owners = (block.acts.users, block.acts.items)[side]
                    counts += np.bincount(owners, minlength=len(counts))
                alive[side][:] &= counts >= least[side]
            left = self._left()
        self.facts["of_rare"] = whole - left
        if not left:
            raise TooLittleData(nothing_left(self.facts))

    def _left(self) -> int:
        return sum(len(block.acts) for block in self._kept())

    def _kept(self) -> Iterator[_Block]:
        for number in range(len(self.blocks)):
            block = _Block.open(self._file(number))
            yield block.only(self.kept_users[block.acts.users] & self.kept_items[block.acts.items])

    # -- parts ---------------------------------------------------------------------------------

    def divide(self) -> BehaviourSet:
        """Split each block, and write its acts behind those of the blocks before it."""
        shoppers, catalogue, kinds, renumbered = self._final()
        targets = codes_of_targets(self.config, kinds)
        shop = self._shopwide()
        learned = np.zeros(len(catalogue), bool), np.zeros(len(shoppers), bool)
        count = positives = 0
        names = (*PARTS, "held")
        with ExitStack() as opened:
            files = {
                (name, column): opened.enter_context(GrowingArray(self.folder / f"{name}-{column}.npy", kind))
                for name in names
                for column, kind in COLUMNS.items()
            }
            for block in self._kept():
                acts, held = renumbered(block.acts), renumbered(block.held)
                count += len(acts)
                parts = self._parts(acts, block.parts, targets, shop)
                held = held.take((held.users > 0) & (held.items > 0))
                learned[0][parts["train"].items] = True
                learned[1][parts["train"].users] = True
                positives += int((parts["train"].labels > 0).sum())
                for name, some in (*parts.items(), ("held", held)):
                    for column in COLUMNS:
                        files[name, column].append(getattr(some, column))
        for number in range(len(self.blocks)):
            self._file(number).unlink()
        found = {
            name: Interactions(*(mapped(self.folder / f"{name}-{column}.npy") for column in COLUMNS))
            for name in names
        }
        whole = {name: found[name] for name in PARTS}
        require_positives(positives, len(whole["train"]), count)
        self.facts["repeated"] = count - sum(map(len, whole.values()))
        return assembled(
            shoppers, catalogue, kinds, whole, found["held"], self.facts, self.rule, self.items, self.users,
            self.funnel, (np.flatnonzero(learned[0]), np.flatnonzero(learned[1])),
        )  # fmt: skip

    def _final(self) -> tuple[Vocabulary, Vocabulary, tuple[str, ...], "_Renumber"]:
        """The vocabularies of what is left, the kinds, and the way there from provisional rows."""
        acting, of_kind = np.zeros(len(self.census.users), bool), np.zeros(len(self.census.kinds) + 1, bool)
        for block in self._kept():
            acting[block.acts.users] = True
            of_kind[block.acts.kinds] = True
        ids = pa.chunked_array([self.census.users.ids.filter(pa.array(acting[1:]))])
        shoppers = Vocabulary.fit(both_ids(ids, self.users))
        catalogue, item_rows = self.catalogue, np.arange(len(self.catalogue))
        if self.items is None:
            there = self.catalogue.ids.filter(pa.array(self.touched[1:]))
            catalogue = Vocabulary.fit(pa.chunked_array([there, pa.array(self.more_items, pa.string())]))
            item_rows = np.append(0, catalogue.rows(self.catalogue.ids))
        kinds = tuple(kind for kind, left in zip(self.census.kinds, of_kind[1:], strict=True) if left)
        codes = np.append(0, Vocabulary(list(kinds)).rows(list(self.census.kinds)))
        user_rows = np.append(0, shoppers.rows(self.census.users.ids))
        return shoppers, catalogue, kinds, _Renumber(user_rows, item_rows, codes)

    def _parts(
        self, acts: Interactions, parts: np.ndarray, targets: tuple[int, ...], shop: Shopwide
    ) -> dict[str, Interactions]:
        if self.whole:
            return {"train": acts, **{name: Interactions.none() for name in PARTS[1:]}}
        if self.config.split != "published":
            return parted(acts, self.config, targets, shop)
        each = {name: acts.take(parts == number) for number, name in enumerate(PARTS)}
        return as_published(each, self.config.rank, self.config.seed, shop)

    def _shopwide(self) -> Shopwide:
        config = self.config
        shop = Shopwide(np.random.default_rng(config.seed))
        if self.whole:
            return shop
        if config.split == "time":
            return replace(shop, cuts=self._cuts())
        if config.split == "published":
            there, timed = set[str](), False
            for block in self._kept():
                there |= {PARTS[number] for number in np.unique(block.parts)}
                timed |= bool((block.acts.times[block.parts == 0] != NEVER).any())
            return replace(shop, timed=timed, there=frozenset(there))
        return shop

    def _cuts(self) -> tuple[int, ...]:
        """Sorted in a file: 8 bytes of each act."""
        file = self.folder / "times.npy"
        with GrowingArray(file, np.int64) as times:
            for block in self._kept():
                times.append(block.acts.times)
        every = np.load(file, mmap_mode="r+")
        every.sort()
        config = self.config
        found = cuts_of(every, config.rank, config.validation, config.test)
        file.unlink()
        return found

    def _file(self, number: int) -> Path:
        return self.folder / f"block-{number:04d}.npz"


@dataclass(frozen=True)
class _Renumber:
    """Provisional rows → final ones, 0 = none. All rise, so that what was sorted stays so."""

    users: np.ndarray
    items: np.ndarray
    kinds: np.ndarray

    def __call__(self, acts: Interactions) -> Interactions:
        rows = (self.users[acts.users], self.items[acts.items], self.kinds[acts.kinds])
        return Interactions(*rows, acts.values, acts.times, acts.labels)


def _heavy(acts: Interactions, most: int) -> np.ndarray:
    """Shoppers who touched more than `most` different items; 0: nobody."""
    if not most or not len(acts):
        return np.empty(0, np.int64)
    owners, touched = np.unique(np.unique(acts.keys) >> 32, return_counts=True)
    return owners[touched > most]
