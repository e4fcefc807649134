"""What a model of vectors learns from: those that another model makes of items, or rows of a file."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.config import suggestion
from etalage.errors import ConfigError, NothingToPublish
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.features.behaviour import BehaviourSet
    from etalage.features.stream import VectorStream
    from etalage.models.dssm import VectorRows

log = logging.getLogger(__name__)


def with_vectors(
    workspace: Workspace, data: "BehaviourSet", model: str, vectors: str
) -> "tuple[BehaviourSet, dict[str, str] | None]":
    """`data` with the dense feature `vectors` of items, and the hash of the model that made it, by name.

    What is a feature already (`photo`) stays as it is. Raises ConfigError: no such feature and no such model,
    one that was not trained, or on other data, or that keeps no vectors of items.
    """
    from etalage.runtime.export_files import newest_export, read_export, read_facts

    if vectors in data.item_features.dense:
        return data, None
    listed = workspace.models.listed()
    setting = f"[models.{model}] vectors = {vectors!r}"
    embedders = [
        name
        for name, one in listed.items()
        if one.data == "behaviour" and one.role == "embedder" and name != model
    ]
    dense = list(data.item_features.dense)
    if vectors not in embedders:
        if vectors == "photo":
            raise ConfigError(
                f"{setting}: items have no embeddings of photos: `etalage train image_similarity` first"
            )
        near = suggestion(vectors, [*dense, *embedders])
        raise ConfigError(f"{setting}: no feature of items and no model that embeds them; {near}")
    others = f"; or set vectors to one of {', '.join(dense)}" if dense else ""
    try:
        export = newest_export(workspace.exports(vectors))
    except NothingToPublish as error:
        raise ConfigError(
            f"{setting}: {model} learns from vectors of items, and {vectors}, which makes them, was not "
            f"trained: `etalage train {vectors}`, then `etalage train {model}`{others}"
        ) from error
    facts = read_facts(export)
    if facts.get("data") != data.fingerprint():
        raise ConfigError(
            f"{setting}: {vectors} was trained on other data than the tables hold now, which may have been "
            f"what {model} is to be judged by: `etalage train {vectors}` again, then `etalage train {model}`"
        )
    opened = read_export(export)
    name = "history_embeddings" if (export / "history_embeddings.npy").exists() else "item_embeddings"
    found = np.array(opened.array(name, 2), np.float32)
    found[0] = 0
    log.info("%s learns from the vectors of %s", model, export)
    features = data.item_features.plus(vectors, found)
    return replace(data, item_features=features), {vectors: str(facts["model_hash"])}


def rows_of_vectors(workspace: Workspace, config: Any, width: int) -> "tuple[VectorRows, dict[str, str]]":
    """The files that `rows` and `validation_rows` name, opened, and what tells each file from a later one.

    width: of the vectors of the shop's items. Raises InputUnreadable, TooLittleData, ConfigError: vectors of
    another width.
    """
    from etalage.models.dssm import VectorRows

    train, facts = _stream(workspace, config, config.rows)
    if train.sizes[1] != width:
        raise ConfigError(
            f"[models.dssm] rows = {config.rows!r}: vectors of {train.sizes[1]} numbers; those of the shop's "
            f"items, vectors = {config.vectors!r}, have {width}: they need to be of one making"
        )
    if config.validation_rows is None:
        return VectorRows(train), facts
    held, more = _stream(workspace, config, config.validation_rows)
    return VectorRows(train, held), {**facts, **more}


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
