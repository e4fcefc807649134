"""Arrays that are written to a file some rows at a time, and mapped when they are whole."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np


class GrowingArray:
    """A `.npy` file of one dimension. It is whole, and can be opened, once it is closed."""

    def __init__(self, file: Path, dtype: Any) -> None:
        self.file, self._dtype, self._count = file, np.dtype(dtype), 0
        self._sink = file.open("wb")
        self._head()
        self._begin = self._sink.tell()

    def append(self, values: np.ndarray) -> None:
        """(n,) more."""
        self._sink.write(np.ascontiguousarray(values, self._dtype).data)
        self._count += len(values)

    def close(self) -> None:
        """Say in the file how many there are."""
        self._sink.seek(0)
        self._head()  # numpy leaves room in it for the count to grow
        assert self._sink.tell() == self._begin
        self._sink.close()

    def __enter__(self) -> "GrowingArray":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _head(self) -> None:
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count,)}
        np.lib.format.write_array_header_1_0(self._sink, described)


def mapped(file: Path) -> np.ndarray:
    """The array of a `.npy` file, read only and not in memory."""
    found: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return found
