"""The shop.toml that a new shop begins with: what most shops come to set, or, from the files that a shop has,
looked at, guessed, written with the reasons, tried.
"""

import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from etalage.config import MappingConfig, ShopConfig, validated
from etalage.config.reference import commented, sections
from etalage.errors import ConfigError, EtalageError
from etalage.lake.drafting.behaviour import behaviour_settings
from etalage.lake.drafting.drafts import Draft, Setting
from etalage.lake.drafting.looking import Tried, draft_files, tried
from etalage.lake.drafting.pictures import PictureFolder, pictures_in
from etalage.lake.drafting.writing import mappings_toml, quoted, setting_line
from etalage.shop.progress import Bar, silent

_HEAD = """
# A line that begins with # does nothing until the # is gone; above each setting stands what it does. These
# are those that shops come to set, at their defaults or with an example; docs/reference/ has all of them. An
# unknown setting is an error that suggests the right one. `etalage new SHOP --from FILE` guesses a mapping.
"""
_MAPPINGS = """
## Which column of a file fills which of Etalage's: ours = yours (docs/files.md).
# [ingest.items.columns]
# item_id = "sku"
# title = "name"
# in_stock = "stock"

# [ingest.interactions.columns]
# user_id = "customer"
# item_id = "sku"
# kind = "event"
# time = "when"
"""
_MODELS = """
## The settings of one model; `etalage tune NAME --write` finds and writes them (docs/reference/models.md).
# [models.item_knn]
# similarity = "bm25"
"""
USUAL: dict[str, tuple[str, ...]] = {
    "": ("currency",),
    "photos": ("contact", "merchant", "spacing", "side"),
    "split": ("published", "group", "product"),
    "behaviour": ("weights", "targets", "positive_from", "split", "repeat"),
    "funnel": ("retrievers", "ranker", "seen", "in_stock"),
    "funnel.order": ("value", "value_of", "diversity", "per_brand"),
    "index": ("kind", "per_category"),
    "publish": ("max_shrink", "keep"),
    "evaluate": ("retrieval_metric", "ks"),
    "classify": ("threshold",),
    "taxonomy": ("file", "level", "map"),
    "serve": ("host", "port", "hosts", "origins", "live"),
    "engine": ("kind", "master", "workers"),
    "storage": ("tables", "bundles", "region"),
}
"""Section → what a new shop.toml shows of it."""


def starting_toml(name: str, mappings: str | None = None, behaviour: Sequence[Setting] = ()) -> str:
    """For a new shop that is called `name`: nothing set but that, its `mappings` and these settings of
    [behaviour], and every section in place as comments."""
    given = {"behaviour": {one.name: setting_line(one) for one in behaviour}}
    top, *parts = [
        commented(section, USUAL[section.name], given.get(section.name))
        for section in sections()
        if section.name in USUAL
    ]
    return "".join([f"name = {quoted(name)}\n", _HEAD, top, mappings or _MAPPINGS, *parts, _MODELS])


@dataclass(frozen=True)
class DraftedShop:
    """`text` of the shop.toml and `mappings` in it, what each file was taken for, and what became of its
    first rows by it, or why nothing can; and what folders of pictures will become."""

    text: str
    mappings: str
    drafts: tuple[Draft, ...]
    trials: tuple[Tried | str, ...]
    options: tuple[tuple[str, ...], ...]
    """What has to be said of each file besides, since another one of its table is written otherwise."""
    pictures: tuple[PictureFolder, ...] = ()
    behaviour: tuple[Setting, ...] = ()
    """What [behaviour] is set to, by the acts in the files."""


def draft_shop(name: str, files: Sequence[Path], bar: Bar = silent) -> DraftedShop:
    """A shop.toml for `files`, folders of pictures among them; nothing is written. Raises InputUnreadable:
    one of them makes no sense."""
    pictures = tuple(pictures_in(file) for file in files if file.is_dir())
    drafts = draft_files([file for file in files if not file.is_dir()])
    mappings = mappings_toml(drafts)
    ingest = validated(ShopConfig, tomllib.loads(mappings), "the draft").ingest
    with bar("count what was taken again", None) as meter:
        behaviour = tuple(behaviour_settings(drafts, ingest, meter))
    text = starting_toml(name, f"\n{mappings}" if mappings else None, behaviour)
    config = validated(ShopConfig, tomllib.loads(text), "the draft")
    trials: list[Tried | str] = []
    for draft in drafts:
        try:
            trials.append(tried(draft, getattr(config.ingest, draft.table)))
        except EtalageError as error:
            trials.append(str(error))
    options = [_options(draft, getattr(config.ingest, draft.table)) for draft in drafts]
    return DraftedShop(text, mappings, tuple(drafts), tuple(trials), tuple(options), pictures, behaviour)


def require_items(file: Path) -> None:
    """Raises ConfigError: the file, of which nobody said the table, is surely of another one than items."""
    if not file.is_file():
        return
    try:
        (draft,) = draft_files([file])
    except EtalageError:
        return  # loading it says why
    if draft.sure and draft.table != "items":
        typed = shlex.quote(str(file))
        raise ConfigError(
            f"{file}: is {draft.title}, as {draft.why}: `etalage ingest {typed} {draft.table}` loads it. If "
            f"it is of items all the same, say so: `etalage ingest {typed} items`"
        )


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
