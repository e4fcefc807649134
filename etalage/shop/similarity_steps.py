"""Training `image_similarity`: features of a backbone or the small network, and which of them finds more."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.errors import ConfigError, TooLittleData
from etalage.models.recipe import photo_encoder
from etalage.shop import photo_steps
from etalage.shop.progress import meter_steps
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.features.photo_set import FeatureSet, PhotoSet
    from etalage.models.class_choice import Compared, Found, HeldOut
    from etalage.models.feature_heads import Head
    from etalage.models.image_similarity import ImageSimilarityConfig
    from etalage.models.recipe import Recipe, Trained
    from etalage.runtime.photos import PhotoEmbedder

AFFORDED = 150
"""Megapixels that the small network may look at in all its steps, for it to be compared: beyond that, about a
minute of one thread, `backbone = "small"` says that it is wanted. A count, and not a time, so that every
machine takes the same model."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """Features of the shop's photos by one backbone."""

    backbone: "PhotoEmbedder"
    features: "FeatureSet"
    versions: dict[str, int]
    made: int
    """How many were made now; the others were kept from before."""

    @property
    def sentence(self) -> str:
        """For the end of a training."""
        count = len(self.features.sha256_N)
        return f"{count - self.made:,} of {count:,} photos had their features already"


def train(
    workspace: Workspace, recipe: "Recipe[Any]", config: Any, fresh: bool
) -> "tuple[Trained[Any], Path]":
    """Train what `backbone` says; `auto`: what finds more. Raises ConfigError, TooLittleData."""
    from etalage.models.backbones import LITE0, SMALL
    from etalage.models.image_similarity import AUTO

    if config.backbone == SMALL:
        return photo_steps.train(workspace, recipe, config, fresh)
    named = config.with_backbone(LITE0) if config.backbone == AUTO else config
    try:
        kept = kept_features(workspace, named)
    except ConfigError as error:
        if config.backbone != AUTO:
            raise
        why = f"features of {LITE0} were not compared: {error}; the small network is trained"
        log.warning("%s", why)
        small = config.with_backbone(SMALL)
        return photo_steps.train(workspace, recipe, small, fresh, about={"told": [why]})
    compared, pixels = _compare(workspace, recipe, config, named, kept)
    if compared is None:
        taken = "within_class" if named.head == "auto" else named.head
        told = [
            f"nothing was compared, as no validation photo has a category ([split] validation): {taken} "
            f"features of {named.backbone} were taken"
        ]
    else:
        taken = compared.best()
        told = compared.sentences(taken)
    about: dict[str, Any] = {"told": [kept.sentence, *told]}
    if compared is not None:
        about["compared"] = compared.facts(taken)
    if taken == SMALL:
        small = config.with_backbone(SMALL)
        return photo_steps.train(workspace, recipe, small, fresh, about=about, pixels=pixels)
    solved = named.with_backbone(named.backbone, head=taken)
    return _solved(workspace, recipe, solved, kept, fresh, about)


def kept_features(workspace: Workspace, config: Any) -> Kept:
    """Features of every photo of the catalogue; those that the table `embeddings` has are not made again.

    Raises ConfigError: no such backbone, no weights; TooLittleData: no photo.
    """
    from etalage.bundle.photo_entries import of_rows, photo_rows
    from etalage.features.photo_set import FeatureSet
    from etalage.training.frozen import frozen_backbone

    photo_steps.require_photos(workspace)
    encoder = photo_encoder(config)
    with workspace.disk(), workspace.bar(f"open {config.backbone}", None):
        backbone = frozen_backbone(workspace.runs / "backbones", config.backbone, config.weights, encoder)
    whole = photo_steps.payload(workspace)
    done = photo_steps.embedded(workspace, whole, backbone, f"features of {config.backbone}")
    rows = photo_rows(done.payload.items)
    if not len(rows):
        raise TooLittleData("no item has a photo that can be decoded; ingest photos first")
    items = of_rows(done.payload.items, rows)
    features = FeatureSet.of(items, done.embeddings[rows], workspace.config.split)
    return Kept(backbone, features, whole.versions, done.embedded)


def _solved(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    config: "ImageSimilarityConfig",
    kept: Kept,
    fresh: bool,
    about: dict[str, Any],
) -> "tuple[Trained[Any], Path]":
    from etalage.training.run import train_frozen

    with workspace.disk(), workspace.bar(f"train {recipe.name}", None):
        trained, exported = train_frozen(
            recipe,
            config,
            kept.features,
            kept.backbone,
            kept.versions,
            runs=workspace.runs,
            exports=workspace.exports(recipe.name),
            fresh=fresh,
            about=about,
        )
    _keep_embeddings(workspace, kept.features, exported)
    return trained, exported


def _keep_embeddings(workspace: Workspace, features: "FeatureSet", exported: Path) -> None:
    """What the new model makes of the photos follows from their features: nobody looks at them again."""
    from etalage.runtime.photos import PhotoEmbedder
    from etalage.training.frozen import head_of

    embedder = PhotoEmbedder.open(exported)
    made_NF = head_of(exported)(features.features_NF)
    photo_steps.keep_embeddings(workspace, embedder, dict(zip(features.sha256_N, made_NF, strict=True)))


# -- what finds more -----------------------------------------------------------------------------

Learned = tuple["PhotoSet", dict[str, int]]


def _compare(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    config: "ImageSimilarityConfig",
    named: "ImageSimilarityConfig",
    kept: Kept,
) -> "tuple[Compared | None, Learned | None]":
    """Every way that `config` leaves open, each learning without some categories; and the pixels, where they
    were decoded for that. None: nobody can be asked."""
    from etalage.models.backbones import SMALL
    from etalage.models.class_choice import Compared, held_out

    held = held_out(kept.features.photos, config.held_out, config.seed)
    learned = held.photos.rows("train")
    if not len(learned) or not len(held.seen) + len(held.new):
        return None, None
    systems: dict[str, Found] = {}
    left_out: dict[str, str] = {}
    pixels: Learned | None = None
    if config.backbone != named.backbone:
        small = config.with_backbone(SMALL)
        if (why := _too_much(kept.features.photos, small)) is None:
            pixels = photo_steps.learned(workspace, small)
            try:
                systems[SMALL] = _small_network(workspace, recipe, small, pixels[0], config.held_out)
            except TooLittleData as error:
                why = str(error)
        if why is not None:
            left_out["the small network"] = why
    with workspace.bar("compare heads over the features", None):
        for head in _heads(named):
            systems[head] = _judged_head(kept.features, named, head, held)
    return Compared.of(held, systems, left_out), pixels


def _heads(named: "ImageSimilarityConfig") -> "tuple[Head, ...]":
    from etalage.models.feature_heads import HEADS

    return HEADS if named.head == "auto" else (named.head,)


def _judged_head(
    features: "FeatureSet", named: "ImageSimilarityConfig", head: "Head", held: "HeldOut"
) -> "Found":
    from etalage.models.class_choice import judged
    from etalage.models.feature_heads import solve_head

    rows, found_NF = held.photos.rows("train"), features.features_NF
    solved = solve_head(head, found_NF[rows], held.photos.labels_N[rows], named.components, named.shrink)
    return judged(held, solved(found_NF))


def _too_much(photos: "PhotoSet", small: "ImageSimilarityConfig") -> str | None:
    """Why the small network is not compared: it would look at too many pixels."""
    batch = small.classes_per_batch * small.examples_per_class
    looks = small.epochs * (small.steps_per_epoch or -(-len(photos.rows("train")) // batch)) * batch
    megapixels = looks * small.size**2 / 1e6
    if megapixels <= AFFORDED:
        return None
    return (
        f"its training looks at {megapixels:,.0f} megapixels, more than {AFFORDED}; train it by "
        "`--set backbone=small`, and compare with `etalage evaluate`"
    )


def _small_network(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    small: "ImageSimilarityConfig",
    photos: "PhotoSet",
    share: float,
) -> "Found":
    """Trained without the categories held out, in a folder that the same comparison finds again."""
    import torch

    from etalage.features.photo_set import fingerprint
    from etalage.models.class_choice import held_out, judged
    from etalage.training.loop import fit

    held = held_out(photos, share, small.seed)
    made_of = json.dumps([small.model_dump(mode="json"), fingerprint(held.photos)], sort_keys=True)
    name = hashlib.sha256(made_of.encode()).hexdigest()[:12]
    folder = workspace.runs / "yardsticks" / f"{recipe.name}-{name}"
    title = f"train {recipe.name} without {len(held.categories)} categories, to compare"
    alone = small.model_copy(update={"workers": 1})
    task = recipe.bind(alone, held.photos)
    with workspace.disk(), workspace.bar(title, None) as meter:
        folder.mkdir(parents=True, exist_ok=True)
        trained = fit(recipe, task, alone, folder, progress=meter_steps(meter, title))
        assert trained.network is not None
        with torch.inference_mode():
            found = task.embed(trained.network.eval(), np.arange(len(photos.item_ids)))
    return judged(held, found.cpu().numpy())
