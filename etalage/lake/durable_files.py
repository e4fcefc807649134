"""Files and names that are on the disk when a call returns, and small files that are replaced as a whole."""

import os
import secrets
from pathlib import Path


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
