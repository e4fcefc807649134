"""The photos of a catalogue as a file of pixels, where they would not fit into memory.

    N photos   H W C pixels   n photos of a block

Batches that are balanced by class need photos of certain classes, wherever they lie in the table. So one pass
reads the table's row groups as a stream, each photo once, and writes its pixels at its place; training maps
the file. Batches, and what is learned, are the same as in memory.
"""

import fcntl
import hashlib
import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import SplitConfig
from etalage.errors import TableDamaged, TooLittleData
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_blocks import BLOCK_PHOTOS, Decode, PhotoLoop, wanted_blocks
from etalage.features.photo_set import PhotoSet, labelled
from etalage.lake.durable_files import sync_folder

log = logging.getLogger(__name__)


class MappedPixels(np.memmap):
    """(N, H, W, C) uint8 of a file, read only. Another process maps it too: nothing is copied."""

    @classmethod
    def open(cls, file: Path, shape: tuple[int, ...]) -> "MappedPixels":
        """Raises TableDamaged: it is not of this shape."""
        try:
            size = file.stat().st_size
        except OSError as error:
            raise TableDamaged(f"{file}: the pixels are gone ({error.strerror}); train again") from error
        if size != math.prod(shape):
            raise TableDamaged(f"{file}: has {size:,} bytes, not {math.prod(shape):,}; remove it")
        return cls(file, np.uint8, "r", shape=shape)

    def __reduce_ex__(self, protocol: Any) -> Any:
        file = None if self.filename is None else Path(self.filename)
        if file is None or self.nbytes != file.stat().st_size:  # rows that were taken out of it
            return np.asarray(self).__reduce_ex__(protocol)
        return MappedPixels.open, (file, self.shape)


@dataclass(frozen=True)
class PixelFile:
    """folder: where the file is kept, beside the runs; the next training of the same photos finds it there,
    and removes those of others."""

    folder: Path
    encoder: PhotoEncoder

    def photo_set(
        self,
        items: pa.Table,
        batches: Callable[[], Iterable[pa.RecordBatch]],
        split: SplitConfig,
        progress: Callable[[int], None] | None = None,
        loop: PhotoLoop | None = None,
    ) -> PhotoSet:
        """As photo_set.photo_set makes it, with the pixels in a file and no photo in memory.

        Arguments and errors are those of `pixels`; TooLittleData: no photo can be decoded.
        """
        items = items.filter(pc.is_valid(items["photo_sha256"]))
        pixels, good = self.pixels(items["photo_sha256"].to_pylist(), batches, progress, loop)
        if not len(good):
            raise TooLittleData("no item has a photo that can be decoded; ingest photos first")
        return labelled(items.take(pa.array(good)), [], pixels, split)

    def pixels(
        self,
        names: list[str],
        batches: Callable[[], Iterable[pa.RecordBatch]],
        progress: Callable[[int], None] | None = None,
        loop: PhotoLoop | None = None,
        lost: Literal["refused", "left out"] = "refused",
    ) -> tuple[np.ndarray, np.ndarray]:
        """→ (p, H, W, C) uint8 of those that can be decoded, a file that is mapped, and (p,) int64 which of
        the names they are, rising. Photos that cannot be decoded are left out, with a warning.

        names: SHA-256 of each photo; one may come again. batches: (sha256, bytes) of the table of photos, as
        a stream. lost: what becomes of a photo that the table has no bytes of. Raises TableDamaged.
        """
        shape = (self.encoder.size, self.encoder.size, self.encoder.channels)
        file = self.folder / f"{self._key(names)}.pixels"
        refused_file = file.with_suffix(".refused")
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if not refused_file.exists():
                self._make_room()
                refused = self._written(file, names, shape, batches(), progress, loop or PhotoLoop(), lost)
                for reason in refused.values():
                    log.warning("a photo is left out of training: %s", reason)
                # Written last: a pass that was killed is done again.
                refused_file.write_text("".join(f"{row}\n" for row in sorted(refused)), encoding="utf-8")
                sync_folder(self.folder)
            elif progress is not None:
                progress(len(names))
        left_out = {int(row) for row in refused_file.read_text(encoding="utf-8").split()}
        good = np.array([row for row in range(len(names)) if row not in left_out], np.int64)
        if not len(good):
            return np.empty((0, *shape), np.uint8), good
        return MappedPixels.open(file, (len(good), *shape)), good

    def _key(self, names: list[str]) -> str:
        digest = hashlib.sha256(repr(self.encoder).encode())
        digest.update("\n".join(names).encode())
        return digest.hexdigest()[:16]

    def _make_room(self) -> None:
        for left in (*self.folder.glob("*.pixels"), *self.folder.glob("*.refused")):
            left.unlink(missing_ok=True)

    def _written(
        self,
        file: Path,
        names: list[str],
        shape: tuple[int, ...],
        batches: Iterable[pa.RecordBatch],
        progress: Callable[[int], None] | None,
        loop: PhotoLoop,
        lost: Literal["refused", "left out"],
    ) -> dict[int, str]:
        """Every photo at the row of each of its items → the rows whose photo was refused, and why; they are
        closed up."""
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            rows_of[name].append(row)
        wanted, refused = set(rows_of), dict[int, str]()
        work = Decode(self.encoder)
        size = math.prod(shape)
        with file.open("w+b") as sink:
            sink.truncate(len(names) * size)
            blocks = wanted_blocks(batches, wanted, min(work.block, BLOCK_PHOTOS))
            for shas, looked in loop.run(work, blocks, len(rows_of)):
                for place, pixels in zip(looked.good, looked.values, strict=True):
                    for row in rows_of[shas[place]]:
                        os.pwrite(sink.fileno(), pixels.tobytes(), row * size)
                for place, reason in looked.refused.items():
                    refused |= dict.fromkeys(rows_of[shas[place]], reason)
                if progress is not None:
                    progress(sum(len(rows_of[sha]) for sha in shas))
            if wanted and lost == "refused":
                raise TableDamaged(
                    f"table photos: no bytes for the photo with SHA-256 {min(wanted)}; ingest it again"
                )
            for sha in sorted(wanted):
                refused |= dict.fromkeys(rows_of[sha], f"the table photos has no bytes of {sha}")
            _close_up(sink.fileno(), len(names), size, set(refused))
            os.fsync(sink.fileno())
        return refused


def _close_up(handle: int, rows: int, size: int, without: set[int]) -> None:
    """Move the rows behind those that are left out forward, and cut the file."""
    to = min(without, default=rows)
    for row in range(to, rows):
        if row not in without:
            os.pwrite(handle, os.pread(handle, size, row * size), to * size)
            to += 1
    os.ftruncate(handle, to * size)
