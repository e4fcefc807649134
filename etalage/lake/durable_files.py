"""A small file that is replaced as a whole: after a crash the old or the new one is there, never a part."""

import os
import secrets
from pathlib import Path


def replace_durably(file: Path, content: bytes) -> None:
    """Put `content` in the place of `file`; on the disk when it returns. Raises OSError: nothing changed."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
