"""The shop.toml that a new shop begins with: what most shops come to set, or, from the files that a shop has,
looked at, guessed, written with the reasons, tried.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etalage.config import MappingConfig, ShopConfig, validated
from etalage.errors import ConfigError, EtalageError
from etalage.lake.drafting.drafts import Draft
from etalage.lake.drafting.looking import Tried, draft_files, tried
from etalage.lake.drafting.writing import quoted, shop_toml

_USUAL = """
# A line that begins with # does nothing until the # is gone. docs/guide.md goes through these settings; an
# unknown one is an error that suggests the right one. `etalage new SHOP --from FILE` guesses a mapping.

# currency = "EUR"                          # of items that name none

# [ingest.items.columns]                    # our column = yours
# item_id = "sku"
# title = "name"
# in_stock = "stock"

# [ingest.interactions.columns]
# user_id = "customer"
# item_id = "sku"
# kind = "event"
# time = "when"

# [behaviour]
# positive_from = 4                         # of ratings: this many stars or more are a like
# targets = ["cart", "buy"]                 # what counts as a hit when models are judged

# [funnel]
# seen = "drop_bought"                      # what somebody has is not shown again; or "drop_all", "keep"

# [photos]
# contact = "photos@shop.example"           # told to the servers that photos are fetched from

# [serve]
# hosts = ["recommender.internal"]          # other names by which the server may be called
# origins = ["https://www.shop.example"]    # web pages that may ask it from a browser
"""


def starting_toml(name: str) -> str:
    """For a new shop that is called `name`."""
    return f"name = {quoted(name)}\n{_USUAL}"


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
    drafts = draft_files(files)
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
