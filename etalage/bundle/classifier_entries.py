"""The classifiers of a bundle: laid beside its items at publish, opened and checked at load.

models/<name>/     the export, unchanged, and confusion.json: how its evaluation found it to err
"""

from pathlib import Path
from typing import Any

from etalage.bundle.draft import DraftedModel
from etalage.bundle.files import MODELS
from etalage.bundle.manifest import ClassifiedFacts, ClassifierFacts, ModelEntry
from etalage.bundle.staging import Staging
from etalage.errors import IndexMismatch, PhotoRefused
from etalage.funnel.catalogue import Catalogue
from etalage.runtime.classifier import (
    CONFUSION,
    Classified,
    ClassifierModel,
    ItemClassifier,
    read_confusion,
)

MEASURES = "measures"
"""Under this name a verdict has all that the evaluation measured."""
ANSWERS = 5
"""Leaves of an item that the self-check keeps."""


# -- publish -----------------------------------------------------------------------------------


def stage(model: DraftedModel, staging: Staging) -> ModelEntry:
    """Write the classifier into the bundle, with what its evaluation found it to err. Raises ExportDamaged,
    OSError."""
    export = model.export
    classifier = ItemClassifier.open(export)
    folder = staging.model_folder(classifier.name)
    names = [*classifier.files, "export.json", *([CONFUSION] if (export / CONFUSION).exists() else [])]
    staging.copy_export(export, names, folder)
    staging.seal(folder)
    return ModelEntry(
        name=classifier.name,
        kind="classifier",
        role="classifier",
        hash=classifier.model_hash,
        aligned=classifier.model_hash,
        dir=f"{MODELS}/{classifier.name}",
        verdict=_verdict_alone(model.verdict),
        forced=model.forced,
        classifier=ClassifierFacts(
            taxonomy=classifier.taxonomy.version,
            leaves=len(classifier.taxonomy.leaves_L),
            text=classifier.uses_text,
            photos=classifier.uses_photos,
            settings=staging.classify,
        ),
    )


def _verdict_alone(kept: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without the curves of the report, which would make up most of the manifest."""
    return None if kept is None else {name: value for name, value in kept.items() if name != MEASURES}


def classified_facts(by: dict[str, int], classifier: ModelEntry | None) -> ClassifiedFacts | None:
    """Who classified the bundle's items; None: nobody did."""
    if not by:
        return None
    total = sum(by.values())
    note = None
    if classifier is None:
        note = "the bundle has no classifier: these categories are by a model that does not travel with it"
    elif others := {model: count for model, count in by.items() if model != classifier.hash}:
        names = ", ".join(sorted(model[:12] for model in others))
        note = (
            f"{sum(others.values())} of {total} items were classified by {names}, not by the bundle's own "
            f"classifier {classifier.hash[:12]}: `etalage classify`, then `etalage sync`"
        )
    return ClassifiedFacts(items=total, by=dict(sorted(by.items())), note=note)


# -- load --------------------------------------------------------------------------------------


def open_classifier(folder: Path, entry: ModelEntry, threads: int = 1) -> ClassifierModel:
    """The classifier `entry` of the bundle in `folder`.

    Raises ExportDamaged, IndexMismatch, BundleDamaged.
    """
    where = folder / entry.dir
    classifier = ItemClassifier.open(where, threads)
    if (classifier.name, classifier.model_hash) != (entry.name, entry.hash) or entry.classifier is None:
        raise IndexMismatch(
            f"{where}: classifier {classifier.name} {classifier.model_hash[:12]}; the manifest says "
            f"{entry.name} {entry.hash[:12]}; publish again"
        )
    return ClassifierModel(classifier, entry.classifier.settings, read_confusion(where / CONFUSION))


# -- self-check --------------------------------------------------------------------------------


def recorded_answers(
    classifier: ItemClassifier, catalogue: Catalogue, rows: list[int]
) -> list[dict[str, Any]]:
    """What the classifier says of these items, for selfcheck.json; those that it cannot look at left out."""
    said = []
    for row in rows:
        photos = [catalogue.photo(row)] if catalogue.has_photo[row] else []
        try:
            (answer,) = classifier.classify([photos], [catalogue.own_title(row)], 0.0, ANSWERS)
        except PhotoRefused:  # of a shop without a model of photos: nobody looked at it until now
            continue
        if answer.steps:
            said.append({"item_id": catalogue.ids[row], "answers": ranked_leaves(answer)})
    return said


def ranked_leaves(answer: Classified) -> list[tuple[str, float]]:
    """The decided leaf and the others with their confidence, the most probable first."""
    leaves = [(answer.steps[-1].id, answer.steps[-1].confidence)]
    leaves += [(leaf.id, leaf.confidence) for leaf in answer.others]
    return sorted(leaves, key=lambda pair: (-pair[1], pair[0]))
