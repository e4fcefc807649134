"""What upkeep is about: which tables, what stays; and files and folders as it looks at them: how large, how
old, whether a process has them open."""

import os
import time
from contextlib import suppress
from pathlib import Path

RESET = ("items", "photos", "users", "interactions", "held", "classifications", "recommendations", "links",
         "refused", "embeddings")  # fmt: skip
UNDONE = ("items", "photos", "users", "interactions", "held", "classifications", "recommendations", "links")
"""Not `refused` and `embeddings`, in which rows of an erased shopper cannot be told from others; both are
made again."""
DAYS, EXPORTS = 7.0, 3
"""What a vacuum leaves unless told otherwise: versions that are younger, the newest exports of a model."""


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links, and what vanishes meanwhile, count as nothing."""
    if path.is_symlink():
        return 0
    files = [path, *(Path(at) / name for at, _, names in os.walk(path) for name in names)]
    size = 0
    for one in files:
        with suppress(OSError):
            if one.is_file() and not one.is_symlink():
                size += one.stat().st_size
    return size


def age(path: Path) -> float:
    """Seconds since anything in it was last written."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return time.time() - max(one.lstat().st_mtime for one in files)


def held_open(folder: Path) -> bool:
    """Whether a process of this machine that we may look at has a file of `folder` open or mapped."""
    beneath = f"{folder.resolve()}{os.sep}"
    return any(_uses(process, beneath) for process in Path("/proc").glob("[0-9]*"))


def _uses(process: Path, beneath: str) -> bool:
    try:
        if beneath in (process / "maps").read_text(encoding="utf-8", errors="replace"):
            return True
        return any(str(one.readlink()).startswith(beneath) for one in (process / "fd").iterdir())
    except OSError:  # it has ended, or is somebody else's
        return False
