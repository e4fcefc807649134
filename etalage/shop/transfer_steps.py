"""A training that starts from another one's weights: `etalage train dssm --from OTHER_SHOP`, or `pretrained`.

What is learned where behaviour is plentiful is tuned where it is sparse. The towers mean something on the
embeddings that they learned from alone, so the items are embedded by those here too: of a source that has no
content to look at (`item2vec`), the other export's own copy, by item_id.
"""

import hashlib
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.config import read_config
from etalage.errors import ConfigError, NothingToPublish
from etalage.features.sources import PHOTO, TEXT, FeatureSource, unknown_items
from etalage.shop.workspace import Workspace, is_shop

if TYPE_CHECKING:
    from etalage.features.behaviour import BehaviourSet
    from etalage.models.recipe import Listed, Recipe
    from etalage.runtime.export_files import ExportFiles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a training starts from."""

    weights: Path
    """A file, or the folder of an export or of a checkpoint."""
    model_hash: str
    """Of the export; of the file of weights, where there is no export to it."""
    name: str
    """For messages: the export's folder, and of which shop it is."""
    export: "ExportFiles | None" = None
    """None: weights alone, of which nothing else is known."""
    shop: str | None = None

    @property
    def made_by(self) -> dict[str, str]:
        """Feature source → the hash of the export that made what the weights learned from."""
        found: dict[str, str] = {} if self.export is None else self.export.facts.get("feature_sources", {})
        return found

    def kept(self, name: str) -> FeatureSource:
        """What its training knew of the items by one source."""
        from etalage.runtime.export_files import FEATURE_SOURCES

        assert self.export is not None
        rows = np.asarray(self.export.array(f"{FEATURE_SOURCES}/{name}", 2), np.float32)
        return FeatureSource(self.export.items.ids, rows[1:], self.made_by[name])


@dataclass
class Taken:
    """What a training takes over beside the weights, for its export's facts."""

    start: Start
    items_known: dict[str, int] = field(default_factory=dict)
    """Source that comes from there → how many of the items here it knows."""
    shared_users: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        start = self.start
        return {
            "shop": start.shop,
            "export": start.weights.name,
            "model_hash": start.model_hash,
            "items_known": self.items_known,
            "shared_users": self.shared_users,
        }


def require_transfers(workspace: Workspace, model: "Listed | Recipe[Any]", start: str | Path) -> None:
    """Raises ConfigError: this model starts from no other training."""
    if not model.transfers:
        able = ", ".join(name for name, one in workspace.models.listed().items() if one.transfers)
        raise ConfigError(
            f"--from {start}: {model.name} starts from no other training, its weights are of one shop's own "
            f"items and photos; leave --from out. Models that do: {able}"
        )


def starting_from(
    workspace: Workspace, recipe: "Recipe[Any]", start: str | Path, settings: Mapping[str, str]
) -> dict[str, str]:
    """`settings` with `start`, a path as the caller sees it. Raises ConfigError: this model starts from no
    other training, or `pretrained` says another one."""
    require_transfers(workspace, recipe, start)
    if "pretrained" in settings:
        raise ConfigError(f"--from {start} and --set pretrained={settings['pretrained']}: say one of them")
    return {**settings, "pretrained": str(Path(start).absolute())}


def find_start(workspace: Workspace, recipe: "Recipe[Any]", config: Any) -> Start | None:
    """What `pretrained` of the config means; None: it says nothing.

    Raises ConfigError: a shop without such a model, an export of another model or of a network of another
    shape. ExportDamaged.
    """
    if getattr(config, "pretrained", None) is None:
        return None
    path = workspace.folder / config.pretrained
    if is_shop(path):
        path = _newest(path, recipe.name)
    if not (path / "export.json").is_file():
        return Start(path, _hash_of_weights(path), str(path))
    start = _of_export(path)
    _require_same_network(recipe, config, start)
    return start


def _newest(shop: Path, model: str) -> Path:
    from etalage.runtime.export_files import newest_export

    try:
        return newest_export(shop / "exports" / model)
    except NothingToPublish as error:
        raise ConfigError(
            f"{shop}: no {model} was trained there, to start from: `etalage train {model} --shop "
            f"{shlex.quote(str(shop))}` first"
        ) from error


def _hash_of_weights(path: Path) -> str:
    from etalage.models.dssm import WEIGHTS_OF

    files = [path, *(path / name for name in WEIGHTS_OF)]
    file = next((one for one in files if one.is_file()), None)
    return "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


def _of_export(path: Path) -> Start:
    from etalage.runtime.export_files import read_export

    opened = read_export(path)
    folder, name = path.resolve().parent.parent.parent, None
    if is_shop(folder):
        try:
            name = read_config(folder / "shop.toml").name
        except ConfigError:
            name = folder.name
    said = f"{opened.facts['name']} {path.name}{'' if name is None else f' of {name!r}'}"
    return Start(path, str(opened.facts["model_hash"]), said, opened, name)


def _require_same_network(recipe: "Recipe[Any]", config: Any, start: Start) -> None:
    assert start.export is not None
    facts = start.export.facts
    if facts["name"] != recipe.name:
        raise ConfigError(
            f"{start.weights}: an export of {facts['name']}; {recipe.name} starts from one of {recipe.name}"
        )
    ours, theirs = config.model_dump(mode="json"), dict(facts["config"])
    if "vectors" in theirs:  # of an export that was written when there was one source
        theirs["feature_sources"] = [theirs["vectors"]]
    other = [name for name in config.decides_shape if ours[name] != theirs.get(name, ours[name])]
    if other:
        here = ", ".join(f"{name} = {_toml(ours[name])}" for name in other)
        there = ", ".join(f"{name} = {_toml(theirs[name])}" for name in other)
        raise ConfigError(
            f"[models.{recipe.name}] {here}: {start.name} is of {there}, and its weights fit no other "
            f"network; set {there} here too, or train it there with {here}"
        )


def _toml(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def taken_source(taken: Taken, data: "BehaviourSet", name: str, own: str | None) -> FeatureSource | None:
    """The source `name` as the weights know it, where this shop's own is of another making; None: take the
    own one.

    own: the hash of the shop's own export, None where there is none. Raises ConfigError: it knows no item
    here.
    """
    start = taken.start
    made_by = start.made_by.get(name)
    if made_by is None or made_by == own:
        return None
    source = start.kept(name)
    known = len(data.items) - 1 - unknown_items(source.by_row(data.items))
    if not known:
        raise ConfigError(
            f"{start.name} learned from what {name} embeds of its own items, and none of the "
            f"{len(data.items) - 1:,} items here is among them; items of other ids have in common what can "
            f'be seen of them: feature_sources = ["{PHOTO}"], there and here'
        )
    taken.items_known[name] = known
    instead = f", in place of this shop's own ({own[:8]})" if own else ""
    log.warning(
        "items are embedded by the %s of %s%s, which its weights learned from; it knows %s of the %s items",
        name, start.name, instead, f"{known:,}", f"{len(data.items) - 1:,}",
    )  # fmt: skip
    return source


def require_same_photos(start: Start, name: str, photo: FeatureSource) -> None:
    """The photo's embedding is made here, of this shop's photos. Raises ConfigError: of another width than
    the weights learned from; warns where another training made it."""
    made_by = start.made_by.get(name)
    if made_by is None or made_by == photo.model_hash:
        return
    there, here = start.kept(name).embeddings.shape[1], photo.embeddings.shape[1]
    if there != here:
        raise ConfigError(
            f"{start.name} learned from photos in {there} numbers, those here have {here}: set [models."
            f"image_similarity] dimension = {there} (components, of a backbone) and train it and this model "
            "again"
        )
    log.warning(
        "%s learned from the photos as image_similarity %s embeds them, this shop's is %s: the same numbers "
        "mean other things there; copy that shop's exports/image_similarity here, to start from what it "
        "learned",
        start.name, made_by[:8], photo.model_hash[:8],
    )  # fmt: skip


def require_same_texts(start: Start, text: FeatureSource) -> None:
    """Texts are read here, by this shop's encoder. Raises ConfigError: the weights learned from another one's
    numbers."""
    made_by = start.made_by.get(TEXT)
    if made_by is not None and made_by != text.model_hash:
        raise ConfigError(
            f"{start.name} learned from texts as the encoder {made_by[:8]} reads them, this shop's is "
            f"{text.model_hash[:8]}: the same numbers mean other things there; set [text] encoder as it is "
            "in that shop, here too"
        )


def tell_shared_users(taken: Taken, data: "BehaviourSet") -> None:
    """Count the shoppers whom the other training knows too, and say so: it may know what they did later."""
    export = taken.start.export
    if export is None or export.facts.get("data") == data.fingerprint():
        return
    taken.shared_users = int((export.users.rows(data.users.ids) > 0).sum())
    if taken.shared_users:
        log.warning(
            "%s knows %s of the %s shoppers here: it may have learned from what this training is judged by",
            taken.start.name, f"{taken.shared_users:,}", f"{len(data.users) - 1:,}",
        )  # fmt: skip
