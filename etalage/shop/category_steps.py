"""Training and judging the model that says what an item is."""

import logging
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etalage.errors import ConfigError, TableMissing, TooLittleData
from etalage.lake.labelling import WEAK
from etalage.shop import photo_steps, taxonomy_steps
from etalage.shop.progress import meter_steps
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.evaluation.category_evaluation import CategoryEvaluator
    from etalage.features.category_set import CategorySet
    from etalage.features.golden import Golden
    from etalage.features.photo import PhotoEncoder
    from etalage.lake.item_photos import ItemPhotos
    from etalage.lake.taxonomy import Taxonomy
    from etalage.models.backbones import Looks
    from etalage.models.recipe import Recipe, Trained
    from etalage.runtime.classifier import ItemClassifier

log = logging.getLogger(__name__)
TABLES = ("items", "photos")
FACTS = ("item_id", "url", "status", "sha256", "phash")
GOLDEN = "golden.json"
LAYOUT_SIDE = 96
"""Pixels a side of the photos that near-duplicates and bursts are told by."""
LEARNED = ("train", "validation")
ASIDE = "aside"
"""The part of what would be `test` by today's split and is not in the golden set: neither learned from nor
judged on."""


@dataclass(frozen=True)
class Labelled:
    """The catalogue as a classifier learns it, and what tells its photos and products apart."""

    data: "CategorySet"
    sha256_P: list[str]
    phashes_P: np.ndarray
    keys_N: list[str | None]
    """Of the product, across merchants."""
    groups_N: np.ndarray
    """(N,) int64: what shows the same thing has the same number."""
    versions: dict[str, int]


def labelled(workspace: Workspace, encoder: "PhotoEncoder | None", config: Any = None) -> Labelled:
    """Read it, decode its photos, split it. encoder: None for a model that looks at no photos. config: of the
    model that learns from it, which says when pixels are too many for memory; None: they stay there.

    Once there is a golden set, its items are the part `test`, with the categories that stand in it, and what
    shows the same thing as one of them is learned from no more.
    Raises TableMissing, ConfigError, TooLittleData, GoldenChanged.
    """
    from etalage.bundle.contents import in_order
    from etalage.features.category_set import CategorySet
    from etalage.features.split_items import SeenPhotos, grouped, parts_of_groups, product_keys
    from etalage.lake.item_photos import photos_of

    at = {name: version for name, version in workspace.lake.versions().items() if name in TABLES}
    if "items" not in at:
        raise TableMissing("there are no items: `etalage ingest FILE items` first")
    with workspace.bar("read the tables", None):
        items = in_order(workspace.lake.table("items").read(at["items"]))
        taxonomy_steps.require_attributes(workspace.config.taxonomy, items)
        labels = taxonomy_steps.labels(workspace, items)
        facts = _facts(workspace, at)
        found = photos_of(items, facts, workspace.config.classify.photos)
    golden = _golden(workspace)
    rows_N, weak_N = _as_laid(golden, items, labels, taxonomy_steps.taxonomy(workspace))
    if not (rows_N >= 0).any():
        raise TooLittleData("no item has a category of the taxonomy: see `etalage taxonomy check`")
    phashes = np.asarray(facts["phash"].take(pa.array(found.places)).fill_null(0).to_numpy(), np.int64)
    urls: list[str] = facts["url"].take(pa.array(found.places)).to_pylist()
    taxonomy, labels_N = _pruned_to_shop(taxonomy_steps.taxonomy(workspace), rows_N)
    leaves = set(taxonomy.leaves_L.tolist())  # a label above them is of many products
    classes = [row if row in leaves else None for row in labels_N.tolist()]
    shas: list[str] = found.sha256.to_pylist()
    seen = SeenPhotos(found.owners, phashes, _layouts(workspace, found, at), urls, shas, classes)
    groups_N = grouped(items, workspace.config.split, seen)
    item_ids = items["item_id"].to_pylist()
    data = CategorySet(
        item_ids=item_ids,
        taxonomy=taxonomy,
        labels_N=labels_N,
        parts_N=_pinned(golden, item_ids, groups_N, parts_of_groups(items, workspace.config.split, groups_N)),
        titles=items["title"].to_pylist(),
        owners_P=found.owners,
        weak_N=weak_N,
    )
    keys = product_keys(items, workspace.config.split.product)
    whole = Labelled(data, shas, phashes, keys, groups_N, at)
    _refuse_leaks(whole, golden, workspace.config.split.phash_distance)  # before minutes of decoding
    if encoder is None:
        return whole
    pixels, kept = _pixels(workspace, found, at, encoder, config)
    return replace(
        whole,
        data=replace(data, owners_P=found.owners[kept], pixels_PHWC=pixels),
        sha256_P=[whole.sha256_P[photo] for photo in kept],
        phashes_P=phashes[kept],
    )


def _pixels(
    workspace: Workspace, found: "ItemPhotos", at: dict[str, int], encoder: "PhotoEncoder", config: Any
) -> tuple[np.ndarray, np.ndarray]:
    """As `decoded`: in memory, or in a file that one pass over the table of photos writes."""
    from etalage.bundle.contents import photo_batches
    from etalage.features.catalogue_photos import decoded

    count, batches = len(found.sha256), partial(photo_batches, workspace.lake, at)
    where = photo_steps.pixel_file(workspace, config, encoder, count, "categories")
    if where is None:
        with workspace.bar("decode photos", count) as meter:
            return decoded(found, batches(), encoder, meter, workspace.photo_loop)
    with workspace.disk(), workspace.bar("decode photos into a file", count) as meter:
        return where.pixels(found.sha256.to_pylist(), batches, meter, workspace.photo_loop, "left out")


def _refuse_leaks(whole: Labelled, golden: "Golden | None", phash_distance: int) -> None:
    """Raises LeakageFound: what is to be learned from stands in the golden set, or would in the one that this
    split makes."""
    from etalage.features.golden import check_golden, make_golden

    if golden is None:
        test = whole.data.rows("test", leaf=True)
        if not len(test):
            return
        golden = make_golden(*_rows(whole, test), phash_distance=phash_distance)
    check_golden(golden, *_rows(whole, whole.data.rows(*LEARNED))[:4])


def _golden(workspace: Workspace) -> "Golden | None":
    from etalage.features.golden import read_golden

    file = workspace.folder / GOLDEN
    return read_golden(file) if file.exists() else None


def _as_laid(
    golden: "Golden | None", items: pa.Table, labels: "taxonomy_steps.Labels", taxonomy: "Taxonomy"
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64 row of each item's category, and (N,) bool whether it is a weak label: those of the golden
    set as they were when it was made, whatever was changed since."""
    rows_N = labels.rows_N.copy()
    weak_N = np.array([how in WEAK for how in labels.how], dtype=bool)
    if golden is not None:
        categories = {row.item_id: row.category_id for row in golden.rows}
        for number, item_id in enumerate(items["item_id"].to_pylist()):
            if item_id in categories:
                rows_N[number] = taxonomy.row(categories.pop(item_id) or "")
                weak_N[number] = False
        if categories:
            log.warning("%d items of %s are in the catalogue no more", len(categories), GOLDEN)
    return rows_N, weak_N


def _pinned(
    golden: "Golden | None", item_ids: list[str], groups_N: np.ndarray, parts_N: np.ndarray
) -> np.ndarray:
    """(N,) parts where the golden set is `test`, all of it and nothing else."""
    if golden is None:
        return parts_N
    laid_N = np.array([item_id in golden.item_ids for item_id in item_ids], dtype=bool)
    pinned_N = parts_N.astype("<U10")
    pinned_N[np.isin(groups_N, groups_N[laid_N]) | (parts_N == "test")] = ASIDE
    pinned_N[laid_N] = "test"
    return pinned_N


def _pruned_to_shop(whole: "Taxonomy", labels_N: np.ndarray) -> "tuple[Taxonomy, np.ndarray]":
    """The part of the taxonomy that this shop has items of, in whichever part; and the labels there."""
    taxonomy = whole.pruned(np.unique(labels_N[labels_N >= 0]))
    rows = np.array([taxonomy.row(id) for id in whole.ids] + [-1], dtype=np.int64)
    return taxonomy, rows[labels_N]


def _facts(workspace: Workspace, at: dict[str, int]) -> pa.Table:
    if "photos" not in at:
        from etalage.lake.schema import TABLES as SPECS

        return pa.schema([SPECS["photos"].schema.field(name) for name in FACTS]).empty_table()
    return workspace.lake.table("photos").read(at["photos"], columns=list(FACTS))


def train(
    workspace: Workspace, recipe: "Recipe[Any]", config: Any, fresh: bool
) -> "tuple[Trained[Any], Path]":
    """Train and export. The first training of a shop makes its golden set, out of the part `test`.

    Raises LeakageFound where what is to be learned from stands in the golden set, ConfigError: the model is
    not written as a classifier.
    """
    from etalage.models.recipe import ClassifierConfig
    from etalage.training.run import train_categories

    if not isinstance(config, ClassifierConfig):
        raise ConfigError(
            f"{recipe.name}: {type(config).__name__} is no config of a classifier: let it extend "
            "ClassifierConfig of etalage.models.recipe, and say what the model looks at"
        )
    whole = labelled(workspace, config.photo_encoder(), config)
    golden = ensure_golden_set(workspace, whole)
    data, told = _with_kept_features(workspace, config, whole)
    with workspace.disk(), workspace.bar(f"train {recipe.name}", None) as meter:
        return train_categories(
            recipe,
            config,
            data,
            runs=workspace.runs,
            exports=workspace.exports(recipe.name),
            versions=whole.versions,
            golden=None if golden is None else golden.hash,
            fresh=fresh,
            progress=meter_steps(meter, f"train {recipe.name}"),
            engine=workspace.engine,
            about={"told": told} if told else None,
        )


def _with_kept_features(
    workspace: Workspace, config: Any, whole: Labelled
) -> "tuple[CategorySet, list[str]]":
    """The data with what the backbone makes of the photos that are learned from, where it stays as its
    weights came for some epochs: made by ONNX Runtime, once for all models. And what there is to say of
    that."""
    from etalage.training.frozen import frozen_backbone

    data = whole.data
    stays = getattr(config, "frozen_epochs", 0) and getattr(config, "weights", None)
    if not stays or data.pixels_PHWC is None:
        return data, []
    with workspace.disk(), workspace.bar(f"open {config.backbone}", None):
        encoder = config.photo_encoder()
        looks: Looks = getattr(config, "features", "last")
        at = workspace.runs / "backbones"
        backbone = frozen_backbone(at, config.backbone, config.weights, encoder, looks)
    photos = data.photos_of(data.rows(*LEARNED))
    with workspace.bar(f"features of {config.backbone}", len(photos)) as meter:
        features_PF, made = photo_steps.embedded_pixels(
            workspace, whole.sha256_P, data.pixels_PHWC, photos, backbone, meter
        )
    said = f"{len(photos) - made:,} of {len(photos):,} photos had their features already"
    return replace(data, frozen_PF=features_PF), [said]


def evaluator(workspace: Workspace, recipe: "Recipe[Any]", exported: Path) -> "CategoryEvaluator":
    """Beside the commonest category, raw pixels and the words of titles; figures are of the golden set.

    Raises TooLittleData, ConfigError (other categories than it learned), LeakageFound, GoldenChanged.
    """
    from etalage.evaluation.category_evaluation import CategoryEvaluator, JudgedItems
    from etalage.runtime.classifier import ItemClassifier

    classifier = ItemClassifier.open(exported, threads=os.cpu_count() or 1)
    whole = labelled(workspace, classifier.encoder)
    golden = ensure_golden_set(workspace, whole)
    features = photo_features(workspace, whole, classifier, exported, ("validation", "test"))
    values = leaf_values(workspace, whole.data.taxonomy)
    looked = JudgedItems(
        whole.data, features, whole.groups_N, values, whole.versions, None if golden is None else golden.hash
    )
    return CategoryEvaluator(looked, classifier, workspace.config.evaluate, exported)


def photo_features(
    workspace: Workspace,
    whole: Labelled,
    classifier: "ItemClassifier",
    exported: Path,
    parts: tuple[str, ...],
) -> np.ndarray:
    """(P, F) float32 of the photos of the items of these parts that have a sure leaf; zeros elsewhere. (P, 0)
    for a model that looks at none."""
    from etalage.features.photo_blocks import pixel_blocks

    data = whole.data
    if data.pixels_PHWC is None:
        return np.zeros((len(data.owners_P), 0), np.float32)
    photos = data.photos_of(data.rows(*parts, leaf=True))
    features = np.zeros((len(data.owners_P), classifier.dimension), np.float32)
    with workspace.bar(f"look with {exported.name}", len(photos)) as meter:
        blocks = pixel_blocks(data.pixels_PHWC, photos)
        loop = workspace.photo_loop.run(classifier.shared(), blocks, len(photos), classifier.look)
        for some, looked in loop:
            features[some] = looked.values
            meter(len(some))
    return features


def leaf_values(workspace: Workspace, taxonomy: "Taxonomy") -> np.ndarray:
    """(L,) float64 value of each leaf; all alike where nothing is known of it."""
    values = taxonomy_steps.values(workspace, taxonomy)
    if not values.any():
        log.warning("no category is worth anything (no [taxonomy] values, no purchases): all count alike")
        values = np.ones_like(values)
    return values


def ensure_golden_set(workspace: Workspace, whole: Labelled) -> "Golden | None":
    """The shop's golden set, made now where it has none; nothing that is learned from is in it.

    None: the part `test` is empty. Raises LeakageFound, GoldenChanged.
    """
    from etalage.features.golden import check_golden, make_golden, write_golden

    learned = _rows(whole, whole.data.rows(*LEARNED))[:4]
    golden = _golden(workspace)
    if golden is None:
        test = whole.data.rows("test", leaf=True)
        if not len(test):
            log.warning("the part `test` is empty: there is no golden set, and figures will be of validation")
            return None
        golden = make_golden(*_rows(whole, test), phash_distance=workspace.config.split.phash_distance)
        check_golden(golden, *learned)  # one that would refuse every training is not laid aside
        with workspace.disk():
            write_golden(golden, workspace.folder / GOLDEN)
        return golden
    check_golden(golden, *learned)
    return golden


def _rows(whole: Labelled, rows: np.ndarray) -> tuple[list[Any], list[Any], list[int], list[Any], list[Any]]:
    """Item, SHA-256, perceptual hash, product and category of each photo of these items; an item without a
    photo has a row too."""
    data = whole.data
    photos = data.photos_of(rows)
    bare = rows[~data.has_photo_N[rows]]
    owners = [*data.owners_P[photos].tolist(), *bare.tolist()]
    return (
        [data.item_ids[row] for row in owners],
        [*(whole.sha256_P[photo] for photo in photos), *[None] * len(bare)],
        [*whole.phashes_P[photos].tolist(), *[0] * len(bare)],
        [whole.keys_N[row] for row in owners],
        [None if (label := data.labels_N[row]) < 0 else data.taxonomy.ids[label] for row in owners],
    )


def _layouts(workspace: Workspace, found: "ItemPhotos", at: dict[str, int]) -> np.ndarray | None:
    """(P, D) what near-duplicates and bursts are told by beside their hashes, where [split] asks for it; of
    those that cannot be decoded zeros.

    Of photos as one encoder decodes them, whatever the model's own is: the split must not depend on it.
    """
    from etalage.bundle.contents import photo_batches
    from etalage.features.catalogue_photos import layouts
    from etalage.features.photo import PhotoEncoder

    split = workspace.config.split
    if not ((split.near_duplicates and split.similarity is not None) or split.burst is not None):
        return None
    seen_by = PhotoEncoder(LAYOUT_SIDE, 3, "crop", "bicubic")  # as benchmarks/near_duplicates.py measured it
    with workspace.bar("decode photos, to group them", len(found.sha256)) as meter:
        batches = photo_batches(workspace.lake, at)
        return layouts(found, batches, seen_by, meter, workspace.photo_loop)
