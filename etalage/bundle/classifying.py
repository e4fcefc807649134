"""The classifier of a bundle: laid beside its items at publish, opened and checked at load.

models/item_category/     the export, unchanged, and confusion.json: how its evaluation found it to err
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etalage.bundle.admission import PlacedModel, admitted
from etalage.bundle.catalogue import Catalogue
from etalage.bundle.durable import Written, write_file
from etalage.bundle.files import MODELS
from etalage.bundle.manifest import ClassifiedFacts, ClassifierFacts, RefusedFacts
from etalage.config import ClassifyConfig, Settings, validated
from etalage.errors import BundleDamaged, ConfigError, IndexMismatch, PhotoRefused
from etalage.lake.durable_files import sync_folder
from etalage.runtime.classifier import CLASSIFIER_FILES, Classified, ItemClassifier

CLASSIFIER = "item_category"
"""The model's name, and its folder among the exports."""
CONFUSION = "confusion.json"
MEASURES = "measures"
"""Under this name a verdict has all that the evaluation measured."""
ANSWERS = 5
"""Leaves of an item that the self-check keeps."""


class ConfusionCategory(Settings):
    """One row and column of the matrix. `value`: what the category is worth to the shop."""

    id: str
    path: str
    value: float


class Confusion(Settings):
    """How often which category was taken for which, the most valuable first.

    `counts[p][t]`: items of the true category t for which p was predicted.
    """

    categories: tuple[ConfusionCategory, ...]
    counts: tuple[tuple[int, ...], ...]
    elsewhere: tuple[int, ...] = ()
    """Items of each category that were taken for one that is not shown; (): none were."""


@dataclass(frozen=True)
class DraftedClassifier:
    """A classifier on its way into a bundle, and how it is to be asked there."""

    model: PlacedModel
    config: ClassifyConfig


@dataclass(frozen=True)
class OpenedClassifier:
    """The classifier of a bundle, ready to answer."""

    facts: ClassifierFacts
    classifier: ItemClassifier
    confusion: Confusion | None
    """None: its evaluation kept none."""


# -- publish -----------------------------------------------------------------------------------


def judged_classifier(
    draft: DraftedClassifier | None, force: bool
) -> tuple[DraftedClassifier | None, list[RefusedFacts]]:
    """The classifier if the gate lets it in, else why not. Raises NothingToPublish, ExportDamaged."""
    if draft is None:
        return None, []
    good, refused = admitted([draft.model], force)
    return (DraftedClassifier(good[0][0], draft.config) if good else None), refused


def stage_classifier(draft: DraftedClassifier, staging: Path) -> tuple[ClassifierFacts, dict[str, Written]]:
    """Write the classifier into the bundle at `staging`; → facts and files. Raises ExportDamaged, OSError."""
    export = draft.model.export
    classifier = ItemClassifier.open(export)
    folder = staging / MODELS / classifier.name
    folder.mkdir(parents=True)
    names = [*CLASSIFIER_FILES, "export.json", *([CONFUSION] if (export / CONFUSION).exists() else [])]
    written = {
        f"{MODELS}/{classifier.name}/{name}": write_file(folder / name, (export / name).read_bytes())
        for name in names
    }
    sync_folder(folder)
    sync_folder(staging / MODELS)
    facts = ClassifierFacts(
        name=classifier.name,
        hash=classifier.model_hash,
        taxonomy=classifier.taxonomy.version,
        leaves=len(classifier.taxonomy.leaves_L),
        text=classifier.uses_text,
        settings=draft.config,
        verdict=_verdict_alone(draft.model.verdict),
        forced=draft.model.forced,
    )
    return facts, written


def _verdict_alone(kept: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without the curves of the report, which would make up most of the manifest."""
    return None if kept is None else {name: value for name, value in kept.items() if name != MEASURES}


def classified_facts(by: dict[str, int], classifier: ClassifierFacts | None) -> ClassifiedFacts | None:
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


def open_classifier(folder: Path, facts: ClassifierFacts | None, threads: int = 1) -> OpenedClassifier | None:
    """The classifier of the bundle in `folder`. Raises ExportDamaged, IndexMismatch, BundleDamaged."""
    if facts is None:
        return None
    where = folder / MODELS / facts.name
    classifier = ItemClassifier.open(where, threads)
    if (classifier.name, classifier.model_hash) != (facts.name, facts.hash):
        raise IndexMismatch(
            f"{where}: classifier {classifier.name} {classifier.model_hash[:12]}; the manifest says "
            f"{facts.name} {facts.hash[:12]}; publish again"
        )
    return OpenedClassifier(facts, classifier, _confusion(where / CONFUSION))


def _confusion(file: Path) -> Confusion | None:
    if not file.exists():
        return None
    try:
        found = validated(Confusion, json.loads(file.read_bytes()), str(file))
    except (OSError, ValueError, TypeError, RecursionError, ConfigError) as error:
        raise BundleDamaged(f"{file} cannot be read: {error}; evaluate and publish again") from error
    side = len(found.categories)
    if [len(row) for row in found.counts] != [side] * side or len(found.elsewhere) not in (0, side):
        raise BundleDamaged(f"{file}: {side} categories, but not as many rows and columns; evaluate again")
    return found


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
