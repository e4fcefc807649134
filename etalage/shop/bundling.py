"""Exports → a bundle: which models are in it, and whom it knows."""

import logging
import os
from typing import TYPE_CHECKING

from etalage.errors import NothingToPublish, StoreUnavailable
from etalage.shop import (
    judging_steps,
    live_steps,
    photo_steps,
    refit_steps,
    source_steps,
    text_steps,
    vector_steps,
)
from etalage.shop.known_names import require_values
from etalage.shop.settings_steps import outdated
from etalage.shop.trust_steps import orphan_exports
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etalage.bundle.draft import Draft, DraftedModel
    from etalage.bundle.manifest import Manifest

log = logging.getLogger(__name__)


def publish(workspace: Workspace, force: bool, as_judged: bool = False) -> "Manifest":
    """The newest export of each model of photos, of behaviour and of categories as one bundle; made current.

    A model that its gate refused, of whatever kind, is left out and named in the manifest; the closed-form
    ones, which were there to be beaten, take the place of a network of behaviour. The online store learns the
    histories that the tables hold. Raises PublishError and its kinds; the bundle that was current then still
    is.
    """
    from etalage.bundle.publish import publish as written
    from etalage.lake.unknown_ids import unknown_in_tables

    _require_what_is_named(workspace)
    content = [*drafted(workspace, "photos"), *drafted(workspace, "categories")]
    judged = judging_steps.judged(workspace, drafted_behaviour(workspace))
    models = refit_steps.refitted(workspace, judged, force, as_judged)
    if not content and not models:
        gone = "".join(f"; {one.sentence}" for one in orphan_exports(workspace))
        raise NothingToPublish(
            f"{workspace.folder / 'exports'}: no trained model; run `etalage train image_similarity`, or "
            f"train a model of behaviour, first{gone}"
        )
    # The whole of it is one publisher's turn: a second one is refused before any work.
    with workspace.bundles.publishing():
        texts = text_steps.TextReader(workspace)
        draft = _draft(workspace, content, models, force, texts)
        with workspace.bar("index, measure recall, write the bundle", None) as meter:
            manifest = written(
                workspace.bundles,
                draft,
                config=workspace.config.publish,
                index_config=workspace.config.index,
                force=force,
                progress=meter,
                blocks=workspace.array_loop,
                spread=vector_steps.spread(workspace),
            )
    refit_steps.forget_unpublished(workspace)
    for orphan in orphan_exports(workspace):
        log.warning("%s", orphan.sentence)
    for one in manifest.refused:
        log.warning("%s is not in the bundle: %s", one.name, one.reason)
    for line in _who_answers(workspace, manifest):
        log.warning("%s", line)
    for line in unknown_in_tables(workspace.lake, draft.tables.get("interactions")) if models else ():
        log.warning("%s", line)
    for line in source_steps.stale_sources(workspace, models):
        log.warning("%s", line)
    texts.tell_others(manifest)
    # The export that was judged stays too, and may know them where the one on everything does not.
    for line in dict.fromkeys(live_steps.erased_but_known(workspace, (*models, *judged))):
        log.warning("%s", line)
    if draft.user_histories is not None:
        try:
            live_steps.seed(workspace, draft.user_histories.without_erased(workspace.lake.erasures.known()))
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"bundle {manifest.id} is current, but the online store was not filled with its histories: "
                f"{error}. Run `etalage publish` again when it is back"
            ) from error
    return manifest


def _who_answers(workspace: Workspace, manifest: "Manifest") -> "Iterator[str]":
    """Which of several photo embedders, or classifiers, answers, where [funnel] does not say it."""
    funnel = workspace.config.funnel
    for setting, wanted, entries in (
        ("photos", funnel.photos, manifest.photo_models),
        ("classifier", funnel.classifier, manifest.classifiers),
    ):
        names = [entry.name for entry in entries]
        if names and wanted is not None and wanted not in names:
            yield f"[funnel] {setting} names {wanted}, which is not in the bundle: {names[0]} answers"
        elif wanted is None and len(names) > 1:
            yield (
                f"{', '.join(names)} are in the bundle, and {names[0]} answers: [funnel] {setting} names "
                "another one, and so may a request"
            )


_TAUGHT = ("split", "negatives", "last_n", "validation", "test", "rank", "seed", "min_user", "min_item")
"""Settings of [behaviour] that say what is learned, and nothing about what is served."""


def tell_kept_rules(workspace: Workspace) -> None:
    """Say which settings of shop.toml the current bundle does not have, and a sync does not bring."""
    from etalage.bundle.files import FUNNEL
    from etalage.bundle.opening import read_rules

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


def _draft(
    workspace: Workspace,
    content: "list[DraftedModel]",
    models: "tuple[DraftedModel, ...]",
    force: bool,
    texts: text_steps.TextReader,
) -> "Draft":
    """The draft, with every photo embedded by each photo embedder that the gate will let in."""
    from etalage.bundle.admission import admitted
    from etalage.bundle.draft import assemble
    from etalage.features.history import BehaviourRule
    from etalage.runtime.export_files import export_kind, read_facts
    from etalage.runtime.photos import PhotoEmbedder

    # Opened before the gate is asked: a damaged export is told as such.
    opened = {
        model.export: PhotoEmbedder.open(model.export, threads=os.cpu_count() or 1)
        for model in content
        if export_kind(read_facts(model.export)) == "photos"
    }
    embedders = [opened[model.export] for model, _ in admitted(content, force)[0] if model.export in opened]
    return assemble(
        workspace.lake,
        photo_steps.payload(workspace),
        [*models, *content],
        embedders,
        lambda payload, embedder: photo_steps.embedded(workspace, payload, embedder),
        BehaviourRule(workspace.config.behaviour, workspace.config.funnel),
        behaviour=bool(models),
        classify=workspace.config.classify,
        currency=workspace.config.currency,
        reading=lambda: workspace.bar("read the shoppers", None),
        texts=texts,
    ).draft


def _require_what_is_named(workspace: Workspace) -> None:
    """Before any work. Raises NothingToPublish: [funnel] names a model of photos or of categories that was
    not trained; ConfigError: no item has what the order is by."""
    funnel = workspace.config.funnel
    looks = [name for name, model in workspace.models.listed().items() if model.data == "photos"]
    named = [("retrievers", name, "photos") for name in funnel.retrievers if name in looks]
    named += [("photos", funnel.photos, "photos")] if funnel.photos else []
    named += [("classifier", funnel.classifier, "categories")] if funnel.classifier else []
    for setting, name, data in named:
        if name not in photo_steps.newest_exports(workspace, data):
            raise NothingToPublish(
                f"[funnel] {setting} names {name}, which was not trained: `etalage train {name}` first"
            )
    table = workspace.lake.table("items")
    if funnel.order.value and table.exists():
        require_values(funnel.order, table.read(columns=["attributes", "price"]))


def drafted(workspace: Workspace, data: str) -> "list[DraftedModel]":
    """The newest export of each model of `data` ("photos" or "categories") that was trained, with its
    verdict."""
    from etalage.bundle.draft import DraftedModel
    from etalage.runtime.export_files import read_verdict

    exports = photo_steps.newest_exports(workspace, data).values()
    return [DraftedModel(export, read_verdict(export)) for export in exports]


def drafted_behaviour(workspace: Workspace) -> "tuple[DraftedModel, ...]":
    """The newest export of each model of the funnel with its verdict: those that [funnel] names and the
    closed-form models that were trained besides (none where it names popularity alone), or, where it names
    none, all that were trained; and the ranker.

    Raises NothingToPublish: [funnel] names one that was not trained. ConfigError: one whose file is gone.
    """
    from etalage.bundle.admission import FLOOR
    from etalage.bundle.draft import DraftedModel
    from etalage.runtime.export_files import newest_export, read_verdict

    funnel, slices = workspace.config.funnel, workspace.evaluating.slices
    found: list[DraftedModel] = []
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
        if set(funnel.retrievers) == {FLOOR} and not named:
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
        old = outdated(export, workspace.config.behaviour)
        found.append(DraftedModel(export, read_verdict(export), slices.get(name), outdated=old))
    return tuple(found)
