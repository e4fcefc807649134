"""Rows `label, vector, vector` of a text file: where each line is, and the numbers of any of them.

R rows that can be taken   B rows asked for   D1, D2 numbers of the two vectors
"""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import InputUnreadable
from etalage.features.stream_files import Numbers, Refusing

_BLOCK = 256
"""Lines that are looked at together."""
_LONGEST = 2**24
"""Bytes of a line."""
_LARGEST = float(np.finfo(np.float32).max)
_SIDECAR = 1
"""The form of the sidecar: rows (file size, time of change), (D1, D2), (form, 0), then (offset, length)."""


class TextRows(Refusing):
    """Each line's offset and length, of those that can be taken."""

    def __init__(self, file: Path, sizes: tuple[int, int] | None, sidecar: Path | None) -> None:
        super().__init__(file)
        if file.suffix == ".gz":
            raise InputUnreadable(
                f"{file}: packed files cannot be read from the middle; unpack it: gunzip {file}"
            )
        try:
            self._handle = os.open(file, os.O_RDONLY)
            self._stamp = _stamp(os.fstat(self._handle))
            first = _first_line(file)
        except OSError as error:
            raise InputUnreadable(f"{file}: cannot be read: {error.strerror}") from error
        self._mark = next((mark for mark in (b",", b";") if mark in first), None)
        fields = len(self._split([first])[0])
        if sizes is None and (fields < 3 or fields % 2 == 0):
            raise InputUnreadable(
                f"{file}: the first line has {fields} fields; expected a label and two vectors of one size, "
                f"by comma, semicolon or blanks (say `sizes` when they differ)"
            )
        self.sizes = sizes or ((fields - 1) // 2, (fields - 1) // 2)
        self._places = self._kept(sidecar)
        self.count = len(self._places)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def shuffled(self, generator: np.random.Generator) -> np.ndarray:
        return generator.permutation(self.count)

    def read(self, rows: np.ndarray) -> Numbers:
        if _stamp(os.fstat(self._handle)) != self._stamp:
            raise InputUnreadable(f"{self.file}: was written to while it was read; open it again")
        lines = [os.pread(self._handle, int(length), int(at)) for at, length in self._places[rows]]
        numbers = self._numbers(lines)
        return numbers[:, 0], numbers[:, 1 : 1 + self.sizes[0]], numbers[:, 1 + self.sizes[0] :]

    def _kept(self, sidecar: Path | None) -> np.ndarray:
        """(R, 2) int64 offsets and lengths: the sidecar's, where it is of this very file.

        A file with refused rows gets none, so that they are told each time.
        """
        said = np.array([*self._stamp, *self.sizes, _SIDECAR, 0]).reshape(3, 2)
        if sidecar is not None and sidecar.is_file():
            try:
                kept: np.ndarray = np.load(sidecar, mmap_mode="r")
                if kept.ndim == 2 and np.array_equal(kept[:3], said):
                    return kept[3:]
            except (ValueError, OSError, EOFError):
                pass  # torn, or something else: it is made again
        places = self._found()
        if sidecar is not None and not self.refused_count:
            draft = sidecar.with_name(f".{sidecar.name}-{os.getpid()}")
            with draft.open("wb") as sink:
                np.save(sink, np.concatenate([said, places]))
            draft.replace(sidecar)
        return places

    def _found(self) -> np.ndarray:
        places = array("q")
        for block in _blocks(self.file):
            good = self._good(block)
            for (line, at, raw), taken in zip(block, good, strict=True):
                if taken:
                    places.extend((at, len(raw)))
                elif not (line == 1 and self._is_header(raw)):
                    self.refuse(line, self._reason(raw), raw[:200].decode("utf-8", "backslashreplace"))
        return np.frombuffer(places, np.int64).reshape(-1, 2)

    def _good(self, block: list[tuple[int, int, bytes]]) -> list[bool]:
        try:
            numbers = self._numbers([raw for _, _, raw in block])
            return list(np.isfinite(numbers).all(axis=1) & (numbers[:, 0] >= 0) & (numbers[:, 0] <= 1))
        except ValueError:
            if len(block) == 1:
                return [False]
        half = len(block) // 2
        return self._good(block[:half]) + self._good(block[half:])

    def _numbers(self, lines: list[bytes]) -> np.ndarray:
        """(B, 1 + D1 + D2) float32. Raises ValueError: a line is not so many numbers."""
        fields = self._split(lines)
        width = 1 + sum(self.sizes)
        if not pc.all(pc.equal(pc.list_value_length(fields), width)).as_py():
            raise ValueError(f"not {width} numbers")
        flat = pc.cast(pc.utf8_trim_whitespace(pc.list_flatten(fields)), pa.float32())
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(lines), width)

    def _split(self, lines: list[bytes]) -> pa.Array:
        texts = pa.array(lines, pa.string())
        if self._mark is None:
            return pc.ascii_split_whitespace(pc.ascii_trim_whitespace(texts))
        return pc.split_pattern(texts, self._mark.decode())

    def _is_header(self, raw: bytes) -> bool:
        return not any(_is_number(field) for field in raw.split(self._mark))

    def _reason(self, raw: bytes) -> str:
        if len(raw) >= _LONGEST:
            return f"longer than {_LONGEST} bytes"
        fields = raw.split(self._mark)
        if len(fields) != 1 + sum(self.sizes):
            return f"has {len(fields)} fields; expected a label and {self.sizes[0]} + {self.sizes[1]} numbers"
        for place, field in enumerate(fields, start=1):
            shown = repr(field[:40].decode("utf-8", "backslashreplace"))
            if not _is_number(field):
                return f"field {place}: {shown} is not a number"
            if not abs(float(field)) <= _LARGEST:
                return f"field {place}: {shown} is not a finite number"
        return f"the label {fields[0].decode()!r} is not from 0 to 1"


def _stamp(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_size, facts.st_mtime_ns


def _first_line(file: Path) -> bytes:
    with file.open("rb") as binary:
        while line := binary.readline(_LONGEST):
            if line.strip():
                return line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    return b""


def _blocks(file: Path) -> Iterator[list[tuple[int, int, bytes]]]:
    """Blocks of (line number, offset, line without its end) of the lines that are not blank."""
    with file.open("rb") as binary:
        block: list[tuple[int, int, bytes]] = []
        at = number = 0
        while line := binary.readline(_LONGEST):
            number += 1
            start, at = at, at + len(line)
            rest = line
            while len(rest) == _LONGEST and not rest.endswith(b"\n"):
                rest = binary.readline(_LONGEST)
                at += len(rest)
            mark = b"\xef\xbb\xbf" if number == 1 and line.startswith(b"\xef\xbb\xbf") else b""
            if line.strip():
                block.append((number, start + len(mark), line[len(mark) :].rstrip(b"\r\n")))
            if len(block) == _BLOCK:
                yield block
                block = []
        if block:
            yield block


def _is_number(field: bytes) -> bool:
    """As Arrow reads numbers: no `+1`, no `1_000`."""
    try:
        pc.cast(pa.array([field.strip()], pa.string()), pa.float32())
    except pa.ArrowInvalid:
        return False
    return True
