"""What a training does with tables that are sharded over its workers: validation by rank 0, in which the
others look rows up; the best weights; a checkpoint of which each rank writes its part; and whole tables at
the end, for an export that is like any other.

A checkpoint has a folder `tables/` with one .npy file a shard and kind (the weights, row-wise Adagrad's sums,
the best weights). They are read by overlap, so a run may go on with another number of workers. The folder of
the run has to be one that all workers see.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from etalage.errors import CheckpointDamaged, LossNotFinite
from etalage.lake.durable_files import sync_folder
from etalage.models.sharded_tables import Piece, sharded_of
from etalage.training.checkpoint import TABLES
from etalage.training.context import Context

AT_ONCE = 1 << 18
"""Numbers that are copied at a time."""


class Shards:
    """Those of one network, in one rank. A network without any has nothing to do, and says so: `bool`."""

    def __init__(self, network: nn.Module, run: Path, context: Context) -> None:
        self.network, self.run, self.context = network, run, context
        self.modules = sharded_of(network)
        self.own = [(name, piece) for name, one in self.modules.items() for piece in one.pieces()]
        # In files that are mapped, not in memory: there is no room for a second copy of a table.
        self.best = [_mapped(run, piece.rows, piece.columns) for _, piece in self.own]
        if self:
            self.keep_best()

    def __bool__(self) -> bool:
        return bool(self.modules)

    # -- validation ------------------------------------------------------------------------------

    @contextmanager
    def followed(self) -> Iterator[None]:
        """In rank 0: meanwhile the others take part in what it looks up. Where that fails they are told
        nothing, since they may be in the midst of it: they end as this rank does."""
        places = {id(one): place for place, one in enumerate(self.modules.values())}
        for one in self.modules.values():
            one.announce = lambda asking: self._say(places[id(asking)])
        try:
            yield
        finally:
            for one in self.modules.values():
                one.announce = None
        if self:
            self._say(-1)

    def _say(self, place: int) -> None:
        self.context.broadcast_number(place)

    def follow(self) -> None:
        """In any other rank: until rank 0 has what it wants."""
        modules = list(self.modules.values())
        while self and (place := self.context.broadcast_number(-1)) >= 0:
            modules[place].follow()

    def keep_best(self) -> None:
        """The weights of now are the best."""
        for (_, piece), best in zip(self.own, self.best, strict=True):
            assert piece.weight is not None
            _copy(piece.weight, best)

    def restore_best(self) -> None:
        """The best weights are those of now."""
        for (_, piece), best in zip(self.own, self.best, strict=True):
            assert piece.weight is not None
            _copy(best, piece.weight)

    # -- checkpoints -----------------------------------------------------------------------------

    def write(self, draft: Path) -> dict[str, str]:
        """This rank's shards into the draft of a checkpoint, which rank 0 began; every rank has to call it.
        → SHA-256 of the files of all, by name. Raises LossNotFinite: a weight of any rank is not finite."""
        (draft / TABLES).mkdir(exist_ok=True)
        digests, finite = [], True
        for (module, piece), best in zip(self.own, self.best, strict=True):
            for kind, tensor in _kinds(piece, best):
                file = draft / TABLES / _name(module, piece, kind)
                into = open_memmap(file, "w+", np.float32, tuple(tensor.shape))
                for start, stop in _blocks(tensor):
                    into[start:stop] = part = tensor[start:stop].cpu().numpy()
                    finite = finite and bool(np.isfinite(part).all())
                into.flush()
                del into
                with file.open("rb") as opened:
                    digests.append(list(hashlib.file_digest(opened, "sha256").digest()))
        sync_folder(draft / TABLES)
        if self.context.sum(float(not finite)):
            raise LossNotFinite(
                f"{draft.name.removeprefix('.draft-')}: a sharded table is not finite after the optimiser's "
                f"step; lower table_rate or set clip_norm. The last finite checkpoint is in {draft.parent}"
            )
        told = torch.tensor(digests, dtype=torch.uint8, device=self.context.device).reshape(-1, 32)
        every = [bytes(row) for row in self.context.gather_rows(told).tolist()]
        return {name: digest.hex() for name, digest in zip(self._names(), every, strict=True)}

    def _names(self) -> list[str]:
        """Of the files of all ranks, in the order of ranks."""
        found = []
        for rank in range(self.context.world_size):
            for module, tables in self.modules.items():
                for piece in tables.kernels.pieces:
                    kinds = ["weight", "best", *(["sum"] if tables.sharding.adaptive else [])]
                    found += [_name(module, piece, kind) for kind in kinds if piece.rank == rank]
        return found

    def read(self, folder: Path) -> None:
        """Put what a checkpoint's files say into this rank's shards, whoever wrote them. Raises
        CheckpointDamaged: they are of other tables."""
        for (module, piece), best in zip(self.own, self.best, strict=True):
            for kind, tensor in _kinds(piece, best):
                found = 0
                for file in sorted((folder / TABLES).glob(f"{module}~{piece.table}~*~{kind}.npy")):
                    found += _overlay(piece, tensor, file)
                if found != tensor.numel():
                    raise CheckpointDamaged(
                        f"{folder / TABLES}: has {found:,} of the {tensor.numel():,} numbers of {module}, "
                        f"table {piece.table} ({kind}): tables of other sizes, or cut into other columns; "
                        "train with --fresh"
                    )

    # -- the end ---------------------------------------------------------------------------------

    def unshard(self) -> None:
        """In rank 0 the network gets whole tables in place of the shards; the others send theirs."""
        for name, tables in self.modules.items():
            rows = sum(tables.counts)
            weight = _mapped(self.run, rows, tables.dimension) if self.context.first else None
            whole = tables.unsharded(weight)
            if whole is not None:
                parent, _, last = name.rpartition(".")
                setattr(self.network.get_submodule(parent), last, whole)
        self.modules, self.own, self.best = {}, [], []


def _kinds(piece: Piece, best: Tensor) -> list[tuple[str, Tensor]]:
    assert piece.weight is not None
    found = [("weight", piece.weight), ("best", best)]
    return found if piece.sums is None else [*found, ("sum", piece.sums)]


def _name(module: str, piece: Piece, kind: str) -> str:
    return f"{module}~{piece.table}~{piece.row}~{piece.column}~{piece.columns}~{kind}.npy"


def _overlay(piece: Piece, tensor: Tensor, file: Path) -> int:
    """What the file has of the piece, into its tensor; → how many numbers."""
    _, _, row, column, columns, kind = file.name.removesuffix(".npy").split("~")
    saved = np.load(file, mmap_mode="r", allow_pickle=False)
    start, left = int(row), int(column)
    top, bottom = max(piece.row, start), min(piece.row + piece.rows, start + len(saved))
    if top >= bottom:
        return 0
    if kind == "sum":  # of the columns that it was made of, and no others
        if (left, int(columns)) != (piece.column, piece.columns):
            return 0
        tensor[top - piece.row : bottom - piece.row] = torch.from_numpy(
            np.array(saved[top - start : bottom - start])
        )
        return bottom - top
    first, last = max(piece.column, left), min(piece.column + piece.columns, left + int(columns))
    if first >= last:
        return 0
    into = tensor[top - piece.row : bottom - piece.row, first - piece.column : last - piece.column]
    given = saved[top - start : bottom - start, first - left : last - left]
    for begin, end in _blocks(into):
        into[begin:end] = torch.from_numpy(np.array(given[begin:end]))
    return (bottom - top) * (last - first)


def _blocks(tensor: Tensor) -> Iterator[tuple[int, int]]:
    step = max(1, AT_ONCE // max(1, tensor[:1].numel()))
    for start in range(0, len(tensor), step):
        yield start, min(start + step, len(tensor))


def _copy(given: Tensor, into: Tensor) -> None:
    for start, stop in _blocks(given):
        into[start:stop] = given[start:stop].to(into.device)


def _mapped(folder: Path, rows: int, columns: int) -> Tensor:
    """(rows, columns) float32 in a file without a name, which is gone with the tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".table-", dir=folder) as file:
        file.truncate(rows * columns * 4)
        whole = torch.from_file(file.name, shared=True, size=rows * columns, dtype=torch.float32)
    return whole.view(rows, columns)
