"""What processes work in, and leave behind when killed: `etalage doctor` counts it, `vacuum` removes."""

from glob import glob
from pathlib import Path

from etalage.bundle.pointer import MOVING, REMOVING, STAGING
from etalage.bundle.stored import FETCHING

LEFTOVERS = (
    ("exports", "**/.draft-*"),
    ("runs", "yardsticks/**/.draft-*"),
    ("runs", "*/*/.handed-*"),
    ("runs", "*/*/*/.handed-*"),
    ("runs", "*/*/checkpoints/.draft-*"),
    ("runs", "behaviour/.draft-*"),
    ("runs", ".best"),
    ("runs", ".*/blocks-*"),
    ("runs", ".*/new-*"),
    ("runs", "etalage-*"),
)
"""Folder and pattern of what processes work in, and leave behind if they are killed."""
OF_BUNDLES = (STAGING, REMOVING, MOVING)
"""How the names of such folders in bundles/ begin."""
OF_CACHE = f"{FETCHING}*"
"""The pattern of those in cache/bundles/; the next process that fetches a bundle removes them."""


def leftovers(folder: Path) -> list[Path]:
    """What processes work in that are at work in a shop, or were killed; without bundles/ and cache/."""
    return sorted({left for inner, pattern in LEFTOVERS for left in _matching(folder / inner, pattern)})


def unfinished_bundles(folder: Path) -> list[Path]:
    """The same in the folder of bundles."""
    return sorted({left for begin in OF_BUNDLES for left in _matching(folder, f"{begin}*")})


def unfinished_cache(folder: Path) -> list[Path]:
    """The same in a shop's cache of bundles that lie elsewhere."""
    return _matching(folder / "cache" / "bundles", OF_CACHE)


def _matching(folder: Path, pattern: str) -> list[Path]:
    """As Path.glob finds them, but a folder that vanishes meanwhile is no error: a run goes on there."""
    found = glob(pattern, root_dir=folder, recursive=True, include_hidden=True)  # noqa: PTH207
    return [folder / name for name in sorted(found)]
