"""Which folder is a shop, and which shop somebody meant by a folder that is none."""

import shlex
from pathlib import Path

from etalage.errors import ConfigError
from etalage.nearest import nearest

LOOKED_AT = 200
"""Entries of a folder that are looked at for shops."""


def is_shop(folder: Path) -> bool:
    """A folder is a shop by its `shop.toml`, or by a Delta table in its `tables/`."""
    return (folder / "shop.toml").is_file() or any(folder.glob("tables/*/_delta_log"))


def require_shop(folder: Path) -> None:
    """Raises ConfigError: `folder` is no shop; names those that lie near, and how one is made."""
    if is_shop(folder):
        return
    what = "it holds neither shop.toml nor tables" if folder.is_dir() else "no such folder"
    typed = shlex.quote(str(folder))
    raise ConfigError(f"{folder}: is no shop: {what}; {_meant(folder)}`etalage new {typed}` makes one")


def _meant(folder: Path) -> str:
    """The shop that was meant, where one can be told: one above, within, or beside with a name like this."""
    whole = folder.absolute()
    for above in whole.parents[:2]:
        if is_shop(above) and folder.is_dir():
            return f"the shop is `--shop {shlex.quote(str(above))}`; "
    within = _shops_in(folder)
    if within:
        names = " or ".join(f"`--shop {shlex.quote(str(one))}`" for one in within[:3])
        return f"did you mean {names}? "
    beside = {one.name: one for one in _shops_in(folder.parent)}
    near = nearest(folder.name, beside)
    return f"did you mean `--shop {shlex.quote(str(beside[near]))}`? " if near is not None else ""


def _shops_in(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())[:LOOKED_AT]
        return [entry for entry in entries if entry.is_dir() and is_shop(entry)]
    except OSError:
        return []
