"""A shop.toml out of the files that a shop has: looked at, guessed, written with the reasons, tried."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etalage.config import MappingConfig, ShopConfig, validated
from etalage.errors import ConfigError, EtalageError
from etalage.lake.drafting.drafts import Draft
from etalage.lake.drafting.looking import Tried, looked_through, tried
from etalage.lake.drafting.writing import shop_toml


@dataclass(frozen=True)
class DraftedShop:
    """`text` of the shop.toml, what each file was taken for, and what became of its first rows by it, or why
    nothing can."""

    text: str
    drafts: tuple[Draft, ...]
    trials: tuple[Tried | str, ...]
    options: tuple[tuple[str, ...], ...]
    """What has to be said of each file besides, since another one of its table is written otherwise."""


def draft_shop(name: str, files: Sequence[Path]) -> DraftedShop:
    """A shop.toml for `files`; nothing is written. Raises InputUnreadable: one of them makes no sense."""
    drafts = looked_through(files)
    text = shop_toml(name, drafts)
    config = validated(ShopConfig, tomllib.loads(text), "the draft")
    trials: list[Tried | str] = []
    for draft in drafts:
        try:
            trials.append(tried(draft, getattr(config.ingest, draft.table)))
        except EtalageError as error:
            trials.append(str(error))
    options = [_options(draft, getattr(config.ingest, draft.table)) for draft in drafts]
    return DraftedShop(text, tuple(drafts), tuple(trials), tuple(options))


def _options(draft: Draft, mapping: MappingConfig) -> tuple[str, ...]:
    said: list[str] = []
    for name in ("delimiter", "encoding"):
        own = getattr(draft.head.style, name)
        said += [f"--{name}", own] if own is not None and own != getattr(mapping, name) else []
    return tuple(said)


def write_draft(folder: Path, drafted: DraftedShop) -> Path:
    """Write the draft into a new shop's folder. Raises ConfigError: a shop.toml is there, and stays."""
    file = folder / "shop.toml"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(drafted.text)
    except FileExistsError:
        raise ConfigError(
            f"{file}: is there already, and stays as it is; above is what --from would write: copy what you "
            "want of it, or name a new folder"
        ) from None
    return file
