"""A network that is trained by steps, trained again on everything by the settings that were judged.

The judged training held back what it was judged by, and kept the epoch that validation liked best. This one
holds nothing back: it goes through all acts that often, on the schedule of the judged training, so that its
learning rate is where the judged one's was when its weights were kept. What other models embed of the items,
and the weights that it started from, are those that the judged training had.

It lands in the model's runs like any training: one that was stopped goes on at its checkpoint.
"""

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.errors import CheckpointDamaged, TrainingError
from etalage.features.sources import PHOTO, TEXT, FeatureSource
from etalage.models.recipe import TrainingConfig
from etalage.shop import photo_steps, text_steps
from etalage.shop.behaviour_steps import Behaviour
from etalage.shop.progress import meter_steps
from etalage.shop.refit_check import why_worse
from etalage.shop.transfer_steps import Start, find_start
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.features.behaviour import BehaviourSet
    from etalage.models.recipe import Recipe

log = logging.getLogger(__name__)
UNCHECKED = ".unchecked"
"""Folder of an export that nobody compared with the judged one yet."""


def best_epoch(facts: Mapping[str, Any]) -> int:
    """After how many epochs the judged training's weights were kept; an export has the figures of each."""
    history: list[Mapping[str, float]] = list(facts["history"])
    return history.index(facts["metrics"]) + 1 if facts.get("metrics") in history else len(history)


def again_config(config: TrainingConfig, facts: Mapping[str, Any], acts: int) -> TrainingConfig:
    """The judged config, so that it trains as long as the judged weights did. acts: to learn from now.

    A given number of steps is of the judged acts: it grows as they do, and an epoch stays what it was. An
    epoch of its own length is one pass over the data anyway.
    """
    epochs = best_epoch(facts)
    changed: dict[str, Any] = {"stop_after": epochs if epochs < config.epochs else None}
    before = facts.get("learned_from", {}).get("interactions")
    if config.steps_per_epoch is not None and before:
        changed["steps_per_epoch"] = math.ceil(config.steps_per_epoch * acts / before)
    return config.model_copy(update=changed)


@dataclass(frozen=True)
class Again:
    """What is trained once more."""

    recipe: "Recipe[Any]"
    config: TrainingConfig
    judged: Path
    """The export that the gate judged."""
    about: Mapping[str, Any]
    """What the new export says besides."""
    whole: Behaviour
    """Nothing of it is held back."""


def trained_again(workspace: Workspace, again: Again, folder: Path) -> Path:
    """The export of the training on everything, in `folder`.

    Raises TrainingError: on what the judged model was chosen by, it is worse than that one; and what training
    and exporting raise.
    """
    name, unchecked = again.recipe.name, folder / UNCHECKED
    shutil.rmtree(unchecked, ignore_errors=True)
    try:
        made = _train(workspace, again, unchecked, fresh=False)
    except CheckpointDamaged as error:
        log.warning("%s; the training of %s on everything begins anew", error, name)
        made = _train(workspace, again, unchecked, fresh=True)
    try:
        with workspace.bar(f"compare {name} on everything with the judged one", None):
            worse = why_worse(workspace, again.judged, made, again.whole.data)
        if worse is not None:
            raise TrainingError(worse)
        return _moved(made, folder)
    finally:
        shutil.rmtree(unchecked, ignore_errors=True)


def _train(workspace: Workspace, again: Again, exports: Path, fresh: bool) -> Path:
    from etalage.runtime.export_files import read_export
    from etalage.training.export_source import Source
    from etalage.training.run import train_behaviour

    recipe, config, whole = again.recipe, again.config, again.whole
    opened = read_export(again.judged)
    kept = Start(again.judged, str(opened.facts["model_hash"]), str(again.judged), opened)
    data = _with_kept_sources(workspace, whole.data, kept)
    inputs = dict(data.feature_sources)
    if (start := find_start(workspace, recipe, config)) is not None:
        config = config.model_copy(update={"pretrained": str(start.weights)})
        inputs["pretrained"] = start.model_hash
    title = f"train {recipe.name} again, on everything"
    with workspace.disk(), workspace.bar(title, None) as meter:
        return train_behaviour(
            recipe,
            config,
            data if whole.stream is None else whole.stream.with_data(data),
            runs=workspace.runs,
            exports=exports,
            source=Source.of(data),
            versions=whole.versions,
            learned=(whole.data.fingerprint(), inputs) if inputs else None,
            start=opened.facts.get("start"),
            behaviour=workspace.config.behaviour.model_dump(mode="json"),
            fresh=fresh,
            progress=meter_steps(meter, title),
            engine=workspace.engine,
            tracked=workspace.tracked,
            about=again.about,
        )[1]


def _with_kept_sources(workspace: Workspace, data: "BehaviourSet", judged: Start) -> "BehaviourSet":
    """With what the judged training knew of the items by other models: of a model of photos or an encoder of
    texts that is still the same, with the items that came since."""
    found = {name: _source(workspace, name, judged) for name in judged.made_by}
    return data.with_sources(found) if found else data


def _source(workspace: Workspace, name: str, judged: Start) -> FeatureSource:
    looks = [one for one, listed in workspace.models.listed().items() if listed.data == "photos"]
    fresh: FeatureSource | None = None
    if name == TEXT:
        fresh = text_steps.by_item(workspace)
    elif name == PHOTO or name in looks:
        fresh = photo_steps.by_item(workspace, None if name == PHOTO else name)
    if fresh is not None and fresh.model_hash == judged.made_by[name]:
        return fresh
    return judged.kept(name)


def _moved(made: Path, folder: Path) -> Path:
    """The export, under the next number of `folder`."""
    from etalage.training.export_draft import next_number

    target = folder / f"{next_number(folder):04d}-{made.name.partition('-')[2]}"
    made.rename(target)
    return target
