"""Files and names that are on the disk when a call returns.

`replace_durably` is for small files that are replaced as a whole. Every byte of a bundle goes through
`write_file` or `seal_file`: a file is created new (never overwritten), hashed while it is written, flushed
and fsynced; a folder is fsynced after its entries. An error of the disk (no space, failed fsync) leaves as
the OSError that it is: the caller decides what it means.
"""

import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple

from etalage.errors import PublishError

if TYPE_CHECKING:
    from _typeshed import SupportsRead


def replace_durably(file: Path, content: bytes) -> None:
    """Put `content` in the place of `file`; on the disk when it returns. Raises OSError: nothing changed.

    After a crash the old or the new file is there, never a part.
    """
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        write_durably(draft, content, new=True)
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def write_durably(file: Path, content: bytes, new: bool = False) -> None:
    """Write a file, over what was there unless it must be `new`; its bytes are on the disk then. Raises
    OSError, FileExistsError."""
    with file.open("xb" if new else "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def sync_folder(folder: Path) -> None:
    """fsync a folder: the names in it are then on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


READ_ONLY = 0o444
_BLOCK = 1 << 20


class Written(NamedTuple):
    """What a file holds: SHA-256 (hex) and length in bytes."""

    sha256: str
    bytes: int


class _Hashing(io.BufferedIOBase):
    """A sink that hashes on its way through, so that what we meant is what the manifest says."""

    def __init__(self, sink: BinaryIO) -> None:
        self.sink, self.digest, self.count = sink, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self.count += len(view)
        self.sink.write(view)
        return len(view)


def write_file(path: Path, content: bytes | Callable[[BinaryIO], object]) -> Written:
    """Create `path` read-only with `content` (bytes, or a function that writes them), durably.

    Raises FileExistsError when the file is already there, OSError when the disk refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, READ_ONLY)
    with os.fdopen(descriptor, "wb", buffering=_BLOCK) as file:
        sink = _Hashing(file)
        if callable(content):
            content(sink)  # type: ignore[arg-type]
        else:
            sink.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Written(sink.digest.hexdigest(), sink.count)


def seal_file(path: Path) -> Written:
    """Make a file that a library wrote durable and read-only, and hash what is really in it."""
    with path.open("rb") as file:
        os.fchmod(file.fileno(), READ_ONLY)
        os.fsync(file.fileno())
    return hash_file(path)


def hash_file(path: Path) -> Written:
    """SHA-256 and length of a file, read in blocks; a symbolic link is not followed (OSError)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return hash_stream(file)


def hash_stream(opened: "SupportsRead[bytes]", out: IO[bytes] | None = None) -> Written:
    """SHA-256 and length of what is read, to its end; it is written into `out` too."""
    digest, count = hashlib.sha256(), 0
    while block := opened.read(_BLOCK):
        digest.update(block)
        count += len(block)
        if out is not None:
            out.write(block)
    return Written(digest.hexdigest(), count)


@contextmanager
def disk_errors(what: str, still: str) -> Iterator[None]:
    """Turn an OSError inside into a PublishError that says `what` failed and what is `still` true."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise PublishError(f"{what}: {error.strerror or error}{where}; {still}") from error
