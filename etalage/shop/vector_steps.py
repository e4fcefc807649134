"""Vectors of items and users for others to look up: in a vector database, a key-value store, a table."""

from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import TYPE_CHECKING

from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.index.milvus import Spread
    from etalage.index.milvus_collection import Block

BLOCKS_HERE = 20
"""Up to so many blocks are written by this process: to start others takes longer."""


def spread(workspace: Workspace) -> "Spread":
    """Who writes blocks of rows into a vector database: this process, or the engine where there are many."""

    def run(function: "Callable[[Block], int]", blocks: "Iterable[Block]") -> Iterable[int]:
        every = iter(blocks)
        first = list(islice(every, BLOCKS_HERE + 1))
        if len(first) <= BLOCKS_HERE:
            return map(function, first)
        return workspace.engine.map(function, chain(first, every))

    return run
