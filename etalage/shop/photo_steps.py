"""Training and judging the models that look at photos; and every photo's embedding, made once."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from etalage.errors import TooLittleData
from etalage.lake.schema import PHOTO_OK
from etalage.models.streaming import MEGABYTE, StreamedConfig
from etalage.shop.kept_embeddings import keeping, kept_rows
from etalage.shop.progress import Meter, meter_steps
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from etalage.bundle.contents import Embedded, Payload
    from etalage.evaluation.photos import PhotoEvaluator
    from etalage.features.photo import PhotoEncoder
    from etalage.features.photo_set import PhotoSet
    from etalage.features.pixel_file import PixelFile
    from etalage.features.sources import FeatureSource
    from etalage.models.recipe import Recipe, Trained
    from etalage.runtime.photos import PhotoEmbedder

log = logging.getLogger(__name__)


def require_photos(workspace: Workspace) -> None:
    """Raises TooLittleData before any work, where the shop has no photo that was read or downloaded."""
    photos, items = workspace.lake.table("photos"), workspace.lake.table("items")
    if photos.exists() and PHOTO_OK in photos.read(columns=["status"])["status"].unique().to_pylist():
        return
    urls = items.read(columns=["photo_url"])["photo_url"].drop_null() if items.exists() else ()
    raise TooLittleData(
        f"none of the {len(urls):,} items with a link has a photo yet: `etalage photos fetch` gets them"
        if len(urls)
        else "the shop has no photo: `etalage ingest FOLDER photos` loads a folder of them; or map the "
        "column that holds their links to photo_url, then `etalage photos fetch`"
    )


def payload(workspace: Workspace, files: bool = True) -> "Payload":
    """What a bundle holds of the catalogue, read from the tables as they are now; files: with the photos."""
    from etalage.bundle.contents import gather
    from etalage.features.history import BehaviourRule

    with workspace.bar("read the tables", None):
        return gather(
            workspace.lake,
            rules=BehaviourRule(workspace.config.behaviour, workspace.config.funnel),
            files=files,
        )


def photos(workspace: Workspace, whole: "Payload", encoder: "PhotoEncoder") -> "PhotoSet":
    """Every photo of the catalogue, decoded as the model wants it."""
    from etalage.features.photo_set import photo_set

    with workspace.bar("decode photos", whole.photos.num_rows) as meter:
        return photo_set(
            whole.items, whole.photos, encoder, workspace.config.split, meter, workspace.photo_loop
        )


def learned(workspace: Workspace, config: Any) -> "tuple[PhotoSet, dict[str, int]]":
    """What a model of photos learns from, and the versions of the tables: pixels in memory, or, where they
    are too many for its `buffer`, in a file that one pass over the table of photos writes."""
    from etalage.bundle.contents import find_photos, photo_batches
    from etalage.models.recipe import photo_encoder

    require_photos(workspace)
    whole = payload(workspace, files=False)
    encoder = photo_encoder(config)
    shas = whole.items["photo_sha256"].drop_null()
    where = pixel_file(workspace, config, encoder, len(shas))
    if where is None:
        with workspace.bar("read photos", None):
            files = find_photos(photo_batches(workspace.lake, whole.versions), pc.unique(shas))
        return photos(workspace, replace(whole, photos=files), encoder), whole.versions
    with workspace.disk(), workspace.bar("decode photos into a file", len(shas)) as meter:
        batches = partial(photo_batches, workspace.lake, whole.versions)
        split = workspace.config.split
        found = where.photo_set(whole.items, batches, split, meter, workspace.photo_loop)
    return found, whole.versions


def pixel_file(
    workspace: Workspace, config: Any, encoder: "PhotoEncoder", count: int, folder: str = ""
) -> "PixelFile | None":
    """Where the pixels of so many photos go, which are too many for the config's `buffer`, and says so; None:
    they stay in memory. folder: of the model, beneath those of all: a file is replaced by the next one there.
    """
    from etalage.features.pixel_file import PixelFile

    size = count * encoder.size**2 * encoder.channels
    if not isinstance(config, StreamedConfig) or not config.streams(size):
        return None
    where = PixelFile(workspace.runs / "pixels" / folder, encoder)
    log.warning(
        "%s photos of %d x %d pixels are %s MB: they are read as a stream, once, into a file in %s",
        f"{count:,}", encoder.size, encoder.size, f"{size / MEGABYTE:,.0f}", where.folder,
    )  # fmt: skip
    return where


def train(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    config: Any,
    fresh: bool,
    about: Mapping[str, Any] | None = None,
    pixels: "tuple[PhotoSet, dict[str, int]] | None" = None,
) -> "tuple[Trained[Any], Path]":
    """Train a network from pixels. about: what the export says of the training besides. pixels: what
    `learned` said, where it was asked already."""
    from etalage.training.run import run

    decoded, versions = pixels or learned(workspace, config)
    with workspace.disk(), workspace.bar(f"train {recipe.name}", None) as meter:
        return run(
            recipe,
            config,
            decoded,
            versions,
            runs=workspace.runs,
            exports=workspace.exports(recipe.name),
            fresh=fresh,
            progress=meter_steps(meter, f"train {recipe.name}"),
            engine=workspace.engine,
            about=about,
        )


def evaluator(workspace: Workspace, recipe: "Recipe[Any]", exported: "Path") -> "PhotoEvaluator":
    """Beside raw pixels and an untrained network; features of a backbone beside raw pixels and the same
    features without a head."""
    from etalage.evaluation.photos import PhotoEvaluator, untrained
    from etalage.runtime.export_files import read_facts
    from etalage.runtime.photos import PhotoEmbedder

    embedder, facts = PhotoEmbedder.open(exported, threads=os.cpu_count() or 1), read_facts(exported)
    whole = payload(workspace)
    if "features" in facts:
        return _frozen_evaluator(workspace, recipe.name, exported, whole, embedder)
    decoded = photos(workspace, whole, embedder.encoder)
    count = len(decoded.item_ids)
    with workspace.bar(f"embed with {exported.name}", count) as meter:
        ours = _embedded_pixels(workspace, whole, decoded, embedder, meter)
    with workspace.bar("embed with an untrained network", count) as meter:
        floor = untrained(recipe, recipe.config(**facts["config"]), decoded, meter)
    return PhotoEvaluator(
        decoded,
        {recipe.name: ours, "untrained network": floor},
        workspace.config.evaluate,
        export=exported,
        model_hash=embedder.model_hash,
        versions=whole.versions,
        request=lambda number: embedder.embed_pixels(decoded.pixels_NHWC[number % count][None]),
        compared=facts.get("compared"),
    )


def _frozen_evaluator(
    workspace: Workspace, name: str, exported: "Path", whole: "Payload", embedder: "PhotoEmbedder"
) -> "PhotoEvaluator":
    """Of a head over features: photos are decoded small, for raw pixels and the page, as what a backbone sees
    of a whole catalogue would not fit into memory."""
    from etalage.evaluation.photos import RAW_SIDE, PhotoEvaluator
    from etalage.features.photo import PhotoEncoder
    from etalage.models.feature_heads import plain_head
    from etalage.runtime.export_files import read_facts

    done = embedded(workspace, whole, embedder, f"embed with {exported.name}")
    decoded = photos(workspace, done.payload, PhotoEncoder(RAW_SIDE, embedder.encoder.channels))
    items = done.payload.items
    row_of = {item_id: row for row, item_id in enumerate(items["item_id"].to_pylist(), start=1)}
    systems = {name: done.embeddings[[row_of[item_id] for item_id in decoded.item_ids]]}
    facts = read_facts(exported)
    shas = dict(zip(items["item_id"].to_pylist(), items["photo_sha256"].to_pylist(), strict=True))
    plain = kept_rows(workspace, "photo", str(facts["features"]))
    if facts["config"]["head"] != "plain" and all(shas[one] in plain for one in decoded.item_ids):
        features = np.array([plain[shas[item_id]] for item_id in decoded.item_ids])
        systems["features without a head"] = plain_head(features.shape[1])(features)
    count = len(decoded.item_ids)
    return PhotoEvaluator(
        decoded,
        systems,
        workspace.config.evaluate,
        export=exported,
        model_hash=embedder.model_hash,
        versions=whole.versions,
        request=lambda number: embedder.embed([decoded.photos[number % count]]),
        compared=facts.get("compared"),
    )


def _embedded_pixels(
    workspace: Workspace, whole: "Payload", decoded: "PhotoSet", embedder: "PhotoEmbedder", meter: "Meter"
) -> np.ndarray:
    """(N, D) of photos that are decoded already; kept, so that publish embeds none of them again."""
    shas = dict(zip(whole.items["item_id"].to_pylist(), whole.items["photo_sha256"].to_pylist(), strict=True))
    names = [shas[item_id] for item_id in decoded.item_ids]
    rows = np.arange(len(names))
    return embedded_pixels(workspace, names, decoded.pixels_NHWC, rows, embedder, meter)[0]


def embedded_pixels(
    workspace: Workspace,
    names: Sequence[str],
    pixels_NHWC: np.ndarray,
    rows: np.ndarray,
    embedder: "PhotoEmbedder",
    meter: "Meter",
) -> tuple[np.ndarray, int]:
    """(N, D) float32 of photos that are decoded already, NaN but for the rows that are wanted; and how many
    had to be made. names: SHA-256 of the N photos; those that the table `embeddings` has are not looked at
    again, and what is made goes there."""
    from etalage.features.photo_blocks import pixel_blocks

    known = _known(workspace, embedder)
    found = np.full((len(names), embedder.dimension), np.nan, np.float32)
    fresh = np.array([row for row in rows.tolist() if names[row] not in known], np.int64)
    for row in rows.tolist():
        if names[row] in known:
            found[row] = known[names[row]]
    meter(len(rows) - len(fresh))
    if len(fresh):
        blocks = pixel_blocks(pixels_NHWC, fresh)
        loop = workspace.photo_loop.run(embedder.shared(), blocks, len(fresh), embedder.look)
        with keeping(workspace, "photo", embedder.model_hash) as keep:
            for some, looked in loop:
                found[some] = looked.values
                keep({names[row]: found[row] for row in some})
                meter(len(some))
    return found, len(fresh)


def embedded(
    workspace: Workspace, whole: "Payload", embedder: "PhotoEmbedder", title: str = "embed the catalogue"
) -> "Embedded":
    """Every photo of the payload embedded; those that the table `embeddings` has are not done again."""
    from etalage.bundle.contents import embed

    known = _known(workspace, embedder)
    count = whole.photos.num_rows
    with workspace.bar(title, count) as meter, keeping(workspace, "photo", embedder.model_hash) as keep:
        done = embed(whole, embedder, known, meter, workspace.photo_loop, keep)
    for sha256, reason in done.refused.items():
        log.warning("photo %s is left out: %s", sha256[:12], reason)
    return done


def _known(workspace: Workspace, embedder: "PhotoEmbedder") -> dict[str, np.ndarray]:
    """{sha256: (D,) embedding} of the photos that this very model embedded before."""
    found = kept_rows(workspace, "photo", embedder.model_hash)
    alike = all(len(one) == embedder.dimension for one in found.values())
    return found if alike else {}


def keep_embeddings(workspace: Workspace, embedder: "PhotoEmbedder", made: Mapping[str, np.ndarray]) -> None:
    """Write these embeddings {sha256: (D,)} of `embedder`, but for those that the table has."""
    known = _known(workspace, embedder)
    with keeping(workspace, "photo", embedder.model_hash) as keep:
        for sha256, one in made.items():
            if sha256 not in known:
                keep({sha256: one})


def newest_exports(workspace: Workspace, *data: str) -> "dict[str, Path]":
    """The newest export of each model that was trained on one of `data` ("photos", "categories",
    "behaviour", "examples"; none given: on any), by name, in the order of names."""
    from etalage.errors import NothingToPublish
    from etalage.runtime.export_files import newest_export

    found = {}
    for name, model in workspace.models.listed().items():
        if data and model.data not in data:
            continue
        with suppress(NothingToPublish):
            found[name] = newest_export(workspace.exports(name))
    return found


def speaking_photos(workspace: Workspace) -> str | None:
    """The name of the photo embedder whose embeddings are the source `photo`; None where none was trained."""
    from etalage.bundle.draft import speaking

    return speaking(list(newest_exports(workspace, "photos")), workspace.config.funnel.photos)


def by_item(workspace: Workspace, model: str | None = None) -> "FeatureSource | None":
    """What a photo embedder embeds of the items, by default the one that speaks; None where it was not
    trained, or no item has a photo."""
    from etalage.bundle.photo_entries import of_rows, photo_rows
    from etalage.features.sources import FeatureSource
    from etalage.runtime.photos import PhotoEmbedder

    exports = newest_exports(workspace, "photos")
    name = model or speaking_photos(workspace)
    if name is None or name not in exports:
        return None
    embedder = PhotoEmbedder.open(exports[name], threads=os.cpu_count() or 1)
    done = embedded(workspace, payload(workspace), embedder)
    rows = photo_rows(done.payload.items)
    if not len(rows):
        return None
    ids = of_rows(done.payload.items, rows)["item_id"].combine_chunks()
    return FeatureSource(ids, done.embeddings[rows], embedder.model_hash)
