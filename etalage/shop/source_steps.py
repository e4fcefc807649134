"""What a model learns from beside the tables: what other models embed of the items, or rows of a file."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.config import suggestion
from etalage.errors import ConfigError, NothingToPublish
from etalage.features.sources import PHOTO, TEXT
from etalage.models import MODEL
from etalage.shop import photo_steps, text_steps
from etalage.shop.transfer_steps import require_same_photos, require_same_texts, taken_source
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.draft import DraftedModel
    from etalage.features.behaviour import BehaviourSet
    from etalage.features.sources import FeatureSource
    from etalage.features.stream import VectorStream
    from etalage.models.dssm import VectorRows
    from etalage.shop.transfer_steps import Taken

log = logging.getLogger(__name__)


def with_sources(
    workspace: Workspace, data: "BehaviourSet", model: str, config: Any, taken: "Taken | None" = None
) -> "BehaviourSet":
    """`data` with the features that `config` says other models make of the items. taken: of a training that
    starts from another one's weights, what it brings.

    Raises ConfigError: no such model, or one that embeds no items, was not trained, or on other data.
    """
    names = config.feature_sources
    if names is None:
        there = {PHOTO: photo_steps.by_item(workspace), TEXT: text_steps.by_item(workspace)}
        return data.with_sources({name: one for name, one in there.items() if one is not None})
    return data.with_sources({name: _source(workspace, data, model, name, taken) for name in names})


def _source(
    workspace: Workspace, data: "BehaviourSet", model: str, name: str, taken: "Taken | None"
) -> "FeatureSource":
    from etalage.runtime.export_files import newest_export, read_facts

    setting = f"[models.{model}] feature_sources names {name!r}"
    looks = [one for one, listed in workspace.models.listed().items() if listed.data == "photos"]
    if name == PHOTO or name in looks:
        photo = photo_steps.by_item(workspace, None if name == PHOTO else name)
        if photo is None:
            trained = "image_similarity" if name == PHOTO else name
            raise ConfigError(
                f"{setting}: items have no embeddings of photos by it: `etalage train {trained}` first"
            )
        if taken is not None:
            require_same_photos(taken.start, name, photo)
        return photo
    if name == TEXT:
        return _texts(workspace, setting, taken)
    there = workspace.models.feature_sources(model)
    if name not in there:
        near = suggestion(name, [PHOTO, TEXT, *there])
        raise ConfigError(f"{setting}: no feature of items and no model that embeds them; {near}")
    try:
        export = newest_export(workspace.exports(name))
    except NothingToPublish as error:
        if taken is not None and (source := taken_source(taken, data, name, None)) is not None:
            return source
        raise ConfigError(
            f"{setting}: {model} learns from what {name} embeds of the items, and {name} was not trained: "
            f"`etalage train {name}`, then `etalage train {model}`"
        ) from error
    own = str(read_facts(export)["model_hash"])
    if taken is not None and (source := taken_source(taken, data, name, own)) is not None:
        return source
    if read_facts(export).get("data") != data.fingerprint():
        raise ConfigError(
            f"{setting}: {name} was trained on other data than the tables hold now, which may have been "
            f"what {model} is to be judged by: `etalage train {name}` again, then `etalage train {model}`"
        )
    log.info("%s learns from what %s embeds of the items", model, export)
    for one in _behind(workspace, read_facts(export)):
        log.warning(
            "%s learns from what %s embeds of the items as it is; %s; to take the new one: %s, then "
            "`etalage train %s`",
            model, name, one.describe(), one.remedy(), model,
        )  # fmt: skip
    return embedded_items(export)


def _texts(workspace: Workspace, setting: str, taken: "Taken | None") -> "FeatureSource":
    text = text_steps.by_item(workspace)
    if text is None and workspace.config.text.encoder is None:
        raise ConfigError(
            f"{setting}, and [text] names no encoder: set encoder to `use`, `wordllama` or an ONNX file there"
        )
    if text is None:
        raise ConfigError(f"{setting}: no item has a title, brand, category or description to read")
    if taken is not None:
        require_same_texts(taken.start, text)
    return text


def embedded_items(export: Path) -> "FeatureSource":
    """What an export embeds of its items, as features: what stands for an item in a history, where the model
    tells that from the item as it is found. Raises ExportDamaged."""
    from etalage.features.sources import FeatureSource
    from etalage.runtime.export_files import read_export

    opened = read_export(export)
    name = "history_embeddings" if (export / "history_embeddings.npy").exists() else "item_embeddings"
    embeddings = np.asarray(opened.array(name, 2)[1:], np.float32)
    return FeatureSource(opened.items.ids, embeddings, str(opened.facts["model_hash"]))


@dataclass(frozen=True)
class _Behind:
    """A model learned from an export of another one that has a newer export since."""

    chain: tuple[str, ...]
    """Who learned from whom: the last one is the model that is behind."""
    maker: str
    learned: str
    newest: str
    """Hashes of the export that it learned from, and of the newest one."""

    def describe(self) -> str:
        """In words, from the first of the chain on."""
        steps = [f"{a} learned from what {b} embeds" for a, b in itertools.pairwise(self.chain)]
        return " and ".join([
            *steps,
            f"{self.chain[-1]} learned from what {self.maker} {self.learned[:8]} embeds of the items, and "
            f"{self.maker} was trained again since ({self.newest[:8]})",
        ])  # fmt: skip

    def remedy(self) -> str:
        """What to train, the last of the chain first."""
        return ", then ".join(f"`etalage train {name}`" for name in reversed(self.chain))


def _behind(workspace: Workspace, facts: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[_Behind]:
    """What is behind in the model that an export's `facts` are of, and in the newest exports of those that it
    learned from, and so on. above: the models whose sources this is about already."""
    from etalage.runtime.export_files import newest_export, read_facts

    chain = (*above, str(facts["name"]))
    elsewhere = facts.get("start", {}).get("items_known", {})
    for name, made_by in facts.get("feature_sources", {}).items():
        if name in elsewhere:
            continue
        maker = (photo_steps.speaking_photos(workspace) or MODEL) if name == PHOTO else name
        try:
            newest = read_facts(newest_export(workspace.exports(maker)))
        except NothingToPublish:
            continue
        if newest["model_hash"] != made_by:
            yield _Behind(chain, maker, made_by, str(newest["model_hash"]))
        if maker not in chain:
            yield from _behind(workspace, newest, chain)


def stale_sources(workspace: Workspace, models: "Sequence[DraftedModel]") -> list[str]:
    """A line for each model that learned from an export of another one that has a newer export since, or from
    one that did so itself."""
    from etalage.runtime.export_files import read_facts

    lines = []
    for drafted in models:
        for one in _behind(workspace, read_facts(drafted.export)):
            model = one.chain[0]
            kept = f"{model} is published with what it learned from"
            kept += ", which knows no later items" if len(one.chain) == 1 else ""
            takes = "takes" if len(one.chain) == 1 else "take"
            lines.append(f"{one.describe()}: {kept}; {one.remedy()} {takes} the new one")
    return lines


def rows_of_vectors(
    workspace: Workspace, config: Any, widths: tuple[int, ...]
) -> "tuple[VectorRows, dict[str, str]]":
    """The files that `rows` and `validation_rows` name, opened, and what tells each file from a later one.

    widths: of what each source embeds of the shop's items. Raises InputUnreadable, TooLittleData,
    ConfigError: vectors of another width.
    """
    from etalage.models.dssm import VectorRows

    train, facts = _stream(workspace, config, config.rows)
    if train.sizes[1] != sum(widths):
        raise ConfigError(
            f"[models.dssm] rows = {config.rows!r}: vectors of {train.sizes[1]} numbers; those of the shop's "
            f"items, feature_sources = {list(config.feature_sources)}, have {sum(widths)}: they need to be "
            "of one making"
        )
    if config.validation_rows is None:
        return VectorRows(train, widths=widths), facts
    held, more = _stream(workspace, config, config.validation_rows)
    return VectorRows(train, held, widths), {**facts, **more}


def _stream(workspace: Workspace, config: Any, name: str) -> "tuple[VectorStream, dict[str, str]]":
    """One file of rows; the places of its lines are kept in runs/rows, so that the next run need not look."""
    from etalage.features.stream import VectorStream

    file = workspace.folder / name
    sidecar = workspace.runs / "rows" / f"{Path(name).name}.places"
    sidecar.parent.mkdir(parents=True, exist_ok=True)
    stream = VectorStream(file, config.batch_size, config.seed, sidecar=sidecar)
    if stream.refused_count:
        first = stream.refused[0]
        log.warning(
            "%s: %s rows are left out; line %s: %s",
            file,
            f"{stream.refused_count:,}",
            first.line,
            first.reason,
        )
    stamp = file.stat()
    return stream, {Path(name).name: f"{stream.count} rows, {stamp.st_size} bytes, {stamp.st_mtime_ns}"}
