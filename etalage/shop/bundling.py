"""Exports → a bundle: which models are in it, and whom it knows."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from etalage.errors import NothingToPublish, StoreUnavailable
from etalage.shop import judging_steps, live_steps, photo_steps, refit_steps
from etalage.shop.known_names import require_values
from etalage.shop.photo_steps import MODEL
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.admission import PlacedModel
    from etalage.bundle.classifying import DraftedClassifier
    from etalage.bundle.manifest import Manifest
    from etalage.bundle.refusals import Draft

log = logging.getLogger(__name__)


def publish(workspace: Workspace, force: bool) -> "Manifest":
    """The newest export of the model of photos, of each model of the funnel and of the classifier, as one
    bundle; made current.

    A model of behaviour (or the classifier) that its gate refused is left out and named in the manifest; the
    counters, which
    were there to be beaten, take its place. The online store learns the histories that the tables hold.
    Raises PublishError and its kinds; the bundle that was current then still is.
    """
    from etalage.bundle.publish import publish as written
    from etalage.lake.unknown_ids import unknown_in_tables

    photos, classifier = _of_photos(workspace), _classifier(workspace)
    _require_what_is_named(workspace, photos)
    models = refit_steps.refitted(workspace, judging_steps.judged(workspace, placed(workspace)), force)
    if photos is None and not models and classifier is None:
        raise NothingToPublish(
            f"{workspace.folder / 'exports'}: no trained model; run `etalage train image_similarity`, or "
            "train a model of behaviour, first"
        )
    # The whole of it is one publisher's turn: a second one is refused before any work.
    with workspace.bundles.publishing():
        draft = replace(_draft(workspace, photos, models), classifier=classifier)
        with workspace.bar("index, measure recall, write the bundle", None) as meter:
            manifest = written(
                workspace.bundles,
                draft,
                config=workspace.config.publish,
                index_config=workspace.config.index,
                force=force,
                progress=meter,
            )
    refit_steps.forget_unpublished(workspace)
    for one in manifest.refused:
        log.warning("%s is not in the bundle: %s", one.name, one.reason)
    for line in unknown_in_tables(workspace.lake, draft.tables.get("interactions")) if models else ():
        log.warning("%s", line)
    for line in live_steps.erased_but_known(workspace, models):
        log.warning("%s", line)
    if draft.crowd is not None:
        try:
            live_steps.seed(workspace, draft.crowd.without_erased(workspace.lake.erasures.known()))
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"bundle {manifest.id} is current, but the online store was not filled with its histories: "
                f"{error}. Run `etalage publish` again when it is back"
            ) from error
    return manifest


_TAUGHT = ("split", "negatives", "last_n", "validation", "test", "rank", "seed", "min_user", "min_item")
"""Settings of [behaviour] that say what is learned, and nothing about what is served."""


def tell_kept_rules(workspace: Workspace) -> None:
    """Say which settings of shop.toml the current bundle does not have, and a sync does not bring."""
    from etalage.bundle.files import FUNNEL
    from etalage.bundle.parts import read_rules

    folder = workspace.bundles.path(workspace.bundles.current_id())
    if not (folder / FUNNEL).exists():
        return
    published, now = read_rules(folder), workspace.config
    changed = [
        f"[{table}] {name}"
        for table, before, after in (
            ("behaviour", published.behaviour, now.behaviour),
            ("funnel", published.funnel, now.funnel),
        )
        for name in type(after).model_fields
        if name not in _TAUGHT and getattr(before, name) != getattr(after, name)
    ]
    if changed:
        log.warning(
            "%s changed in shop.toml since bundle %s was published, and a sync keeps those of the bundle: "
            "`etalage publish` takes the new ones", ", ".join(changed), folder.name,
        )  # fmt: skip


def _draft(workspace: Workspace, photos: Path | None, models: "tuple[PlacedModel, ...]") -> "Draft":
    from etalage.bundle.contents import gather_crowd
    from etalage.bundle.refusals import Draft
    from etalage.features.history import BehaviourRule
    from etalage.runtime.export_files import read_verdict
    from etalage.runtime.photos import PhotoEmbedder

    payload = photo_steps.payload(workspace)
    embeddings, verdict = None, None
    if photos is not None:
        embedder: PhotoEmbedder = PhotoEmbedder.open(photos, threads=os.cpu_count() or 1)
        done = photo_steps.embedded(workspace, payload, embedder)
        payload, embeddings, verdict = done.payload, done.embeddings, read_verdict(photos)
    rules = BehaviourRule(workspace.config.behaviour, workspace.config.funnel)
    crowd = None
    if models:
        with workspace.bar("read the shoppers", None):
            crowd = gather_crowd(workspace.lake, workspace.lake.versions(), rules)
    return Draft(
        payload.items,
        payload.photos,
        embeddings,
        photos,
        payload.versions,
        verdict,
        placed=models,
        rules=rules,
        crowd=crowd,
        classified_by=payload.classified_by,
        currency=workspace.config.currency,
        erasures=workspace.lake.erasures,
        moments=payload.moments,
    )


def _require_what_is_named(workspace: Workspace, photos: Path | None) -> None:
    """Before any work. Raises NothingToPublish: the model of photos is named, and was not trained;
    ConfigError: no item has what the order is by."""
    if photos is None and MODEL in workspace.config.funnel.retrievers:
        raise NothingToPublish(
            f"[funnel] retrievers names {MODEL}, which was not trained: `etalage train {MODEL}` first"
        )
    table = workspace.lake.table("items")
    if workspace.config.funnel.order.value and table.exists():
        require_values(workspace.config.funnel.order, table.read(columns=["attributes", "price"]))


def _of_photos(workspace: Workspace) -> Path | None:
    """The newest export of the model of photos; None where there is none."""
    from etalage.runtime.export_files import newest_export

    try:
        return newest_export(workspace.exports(MODEL))
    except NothingToPublish:
        return None


def _classifier(workspace: Workspace) -> "DraftedClassifier | None":
    """The newest classifier with its verdict; None where none was trained."""
    from etalage.bundle.admission import PlacedModel
    from etalage.bundle.classifying import CLASSIFIER, DraftedClassifier
    from etalage.runtime.export_files import newest_export, read_verdict

    try:
        export = newest_export(workspace.exports(CLASSIFIER))
    except NothingToPublish:
        return None
    return DraftedClassifier(PlacedModel(export, read_verdict(export)), workspace.config.classify)


def placed(workspace: Workspace) -> "tuple[PlacedModel, ...]":
    """The newest export of each model of the funnel with its verdict: those that [funnel] names, the counters
    that were trained besides, or, where it names none, all that were trained; and the ranker.

    Raises NothingToPublish: [funnel] names one that was not trained. ConfigError: one whose file is gone.
    """
    from etalage.bundle.admission import PlacedModel
    from etalage.runtime.export_files import newest_export, read_verdict

    funnel, slices = workspace.config.funnel, workspace.config.evaluate.slices
    found: list[PlacedModel] = []
    models = workspace.models.listed()
    for name in (*funnel.retrievers, *(() if funnel.ranker is None else (funnel.ranker,))):
        workspace.models.known(name, where="[funnel]")
    for name, model in models.items():
        if model.data in ("photos", "categories"):
            continue
        named = name in funnel.retrievers or name == funnel.ranker
        if model.role == "ranker" and not named:
            continue
        if funnel.retrievers and model.role == "embedder" and not named:
            continue
        try:
            export = newest_export(workspace.exports(name))
        except NothingToPublish as error:
            if named:
                where = "ranker" if name == funnel.ranker else "retrievers"
                raise NothingToPublish(
                    f"[funnel] {where} names {name}, which was not trained: `etalage train {name}` and "
                    f"`etalage evaluate {name}` first, or take it out of shop.toml"
                ) from error
            continue
        found.append(PlacedModel(export, read_verdict(export), slices.get(name)))
    return tuple(found)
