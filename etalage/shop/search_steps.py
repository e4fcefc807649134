"""The settings of a closed-form model that nobody gave are searched on validation, before it is counted.

A counter's trial takes a second, and what the best settings are differs from shop to shop by more than one
model from another: a shop of sequences wants rules with direction, one of likes wants neighbours. The model's
file names the settings worth trying (RECIPE's `trials`). What is chosen is written into the export, with all
that was tried; it is fitted on everything by the same settings when it is published. A model that costs more
than a counter is compared `small`, each trial alike.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from etalage.errors import TooLittleData
from etalage.lake.durable_files import replace_durably
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.config import EvaluateConfig
    from etalage.features.array_blocks import ArrayLoop
    from etalage.features.behaviour import BehaviourSet
    from etalage.models.recipe import ClosedFormArrays, Recipe
    from etalage.training.export_source import Source

log = logging.getLogger(__name__)

FEWEST = 20
"""Shoppers of validation: fewer tell no settings from others."""
MOST = 2000
"""Shoppers that settings are compared by, at most."""
SURE = 2.0
"""The settings as they stand give way to others that gain more than so many standard errors: else chance
alone would change the model with every load."""
ACTS = 2_000_000
"""Of more acts, those of a draw of the shoppers are counted."""
Settings = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    settings: Settings
    """Beside those that were given."""
    value: float | None
    """Of the metric; None: it could not be counted."""
    why: str | None = None


@dataclass(frozen=True)
class Search:
    """What was tried, and what is used."""

    metric: str
    slice: str
    shoppers: int
    chosen: Settings
    attempts: tuple[Attempt, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Search":
        """As `asdict` wrote it. Raises KeyError, TypeError: it is another thing."""
        attempts = tuple(Attempt(**one) for one in facts["attempts"])
        return cls(**{**facts, "attempts": attempts})

    @property
    def told(self) -> str:
        """`similarity = "sequence" chosen of 8 by recall_at_20 of 2,000 shoppers (0.0475, now 0.0685)`."""
        by = f"{self.metric} of {self.shoppers:,} shoppers of validation"
        if self.slice != "all":
            by += f", on {self.slice}"
        before = self.attempts[0].value
        value = next(one.value for one in self.attempts if one.settings == self.chosen)
        if not self.chosen:
            return f"the settings as they stand, best of {len(self.attempts)} by {by} ({before:.4f})"
        named = ", ".join(f"{name} = {json.dumps(one)}" for name, one in self.chosen.items())
        was = "" if before is None else f"{before:.4f}, now "
        return f"{named}: best of {len(self.attempts)} by {by} ({was}{value:.4f})"


def searched(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    config: Any,
    data: "BehaviourSet",
    source: "Source",
) -> "tuple[Any, Search | None]":
    """The config with the best of the recipe's trials in it, and what was tried; the same one and None where
    there is nothing to try, or too little to tell by.

    A search of the same settings, data and metric is remembered in the model's runs.
    """
    given = {name: getattr(config, name) for name in config.model_fields_set}
    tries = attempts_of(recipe, given)
    if len(tries) < 2 or not getattr(config, "search", False):
        return config, None
    judge = Judge.of(workspace, recipe, data, source)
    try:
        require_shoppers(data)
        found = _search(workspace, recipe, given, tries, judge)
    except TooLittleData as error:
        log.info("%s: its settings as they stand, none searched: %s", recipe.name, error)
        return config, None
    return recipe.config(**{**given, **found.chosen}), found


def attempts_of(recipe: "Recipe[Any]", given: Mapping[str, Any]) -> list[Settings]:
    """What is to be tried beside what is given, nothing first. A trial that contradicts what is given, or
    that does nothing beside it, is not tried."""
    found: list[Settings] = [{}]
    for trial in recipe.trials:
        if any(name in given and given[name] != value for name, value in trial.items()):
            continue
        new = {name: value for name, value in trial.items() if name not in given}
        try:
            recipe.config(**{**given, **new})
        except ValidationError:
            continue
        if new not in found:
            found.append(new)
    return found


def _search(
    workspace: Workspace, recipe: "Recipe[Any]", given: Settings, tries: list[Settings], judge: "Judge"
) -> Search:
    """The one that is remembered, or made now. Raises TooLittleData: nothing could be counted."""
    settled = [_plain(given), _plain(tries), judge.data.fingerprint(), judge.metric, judge.slice]
    decides = json.dumps([recipe.name, *settled], sort_keys=True, default=str)
    name = hashlib.sha256(decides.encode()).hexdigest()[:12]
    file = workspace.runs / recipe.name / f"search-{name}.json"
    if (found := _remembered(file)) is None:
        found = _compared(workspace, recipe, given, tries, judge)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(file, json.dumps(asdict(found), indent=1, default=str).encode())
    return found


def _compared(
    workspace: Workspace, recipe: "Recipe[Any]", given: Settings, tries: list[Settings], judge: "Judge"
) -> Search:
    """Raises TooLittleData: nothing could be counted."""
    most = min(MOST, judge.evaluate.max_queries)
    evaluate = judge.evaluate.model_copy(update={"max_queries": most})
    judge = replace(judge, data=of_some_shoppers(judge.data), evaluate=evaluate)
    counter = Counter(recipe, judge.data, workspace.array_loop)
    tried: list[Attempt] = []
    values: list[np.ndarray | None] = []
    with workspace.disk(), workspace.bar(f"try settings of {recipe.name}", len(tries)) as meter:
        for settings in tries:
            config = recipe.config(**{**given, **settings})
            config = config.model_copy(
                update={name: min(most, getattr(config, name)) for name, most in recipe.small.items()}
            )
            try:
                with tempfile.TemporaryDirectory(prefix="etalage-") as folder:
                    of_shoppers = judge.values(recipe, config, counter.count(config), Path(folder))
            except TooLittleData as error:
                values.append(None)
                tried.append(Attempt(settings, None, str(error)))
            else:
                values.append(of_shoppers)
                tried.append(Attempt(settings, float(of_shoppers.mean())))
            meter(1)
    best = _best(values)
    if best is None:
        raise TooLittleData(tried[0].why or "nothing could be counted")
    counted = next(len(one) for one in values if one is not None)
    return Search(judge.metric, judge.slice, counted, tries[best], tuple(tried))


def _best(values: list[np.ndarray | None]) -> int | None:
    """The first one, unless another is surely better; None: there is none at all."""
    there = [number for number, one in enumerate(values) if one is not None]
    if not there:
        return None
    best = max(there, key=lambda number: float(values[number].mean()))  # type: ignore[union-attr]
    first = values[0]
    if first is None or best == 0:
        return best
    gains = values[best] - first
    error = float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else float("inf")
    return best if float(gains.mean()) > SURE * error else 0


def of_some_shoppers(data: "BehaviourSet", most: int = ACTS) -> "BehaviourSet":
    """The same, or, where train has more than `most` acts, a draw of its shoppers with about so many."""
    acts = len(data.part("train"))
    if acts <= most:
        return data
    users = np.arange(1, len(data.users))
    drawn = np.random.default_rng(0).permutation(users)[: max(1, round(len(users) * most / acts))]
    return data.of_shoppers(np.sort(drawn))


def require_shoppers(data: "BehaviourSet") -> None:
    """Raises TooLittleData: validation has too few shoppers to tell settings apart by."""
    there = len(np.unique(data.truth("validation").users)) if len(data.part("validation")) else 0
    if there < FEWEST:
        raise TooLittleData(f"{there} shoppers of validation to compare by, fewer than {FEWEST}")


class Counter:
    """Counts a model by different settings; those that only scoring reads are not counted anew."""

    def __init__(self, recipe: "Recipe[Any]", data: "BehaviourSet", loop: "ArrayLoop") -> None:
        self._recipe, self._data, self._loop = recipe, data, loop
        self._counted: tuple[str, ClosedFormArrays] | None = None

    def count(self, config: Any) -> "ClosedFormArrays":
        """Raises TooLittleData."""
        from etalage.models.recipe import count

        when_scoring = set(self._recipe.when_scoring)
        settled = config.model_dump(mode="json", exclude=when_scoring)
        key = json.dumps(settled, sort_keys=True)
        if self._counted is None or self._counted[0] != key:
            self._counted = None  # free before the next one is there
            self._counted = key, count(self._recipe.bind(config, self._data), self._loop)
        scoring = {name: getattr(config, name) for name in when_scoring}
        return replace(self._counted[1], settings={**self._counted[1].settings, **scoring})


@dataclass(frozen=True)
class Judge:
    """By what settings of a closed-form model are compared: the metric of what would be served by them."""

    data: "BehaviourSet"
    source: "Source"
    metric: str
    slice: str
    evaluate: "EvaluateConfig"

    @classmethod
    def of(
        cls, workspace: Workspace, recipe: "Recipe[Any]", data: "BehaviourSet", source: "Source"
    ) -> "Judge":
        """As [evaluate] judges this model."""
        evaluate = workspace.evaluating
        slice = evaluate.slices.get(recipe.name, "all")
        return cls(data, source, evaluate.retrieval_metric, slice, evaluate)

    def values(
        self, recipe: "Recipe[Any]", config: Any, counted: "ClosedFormArrays", folder: Path
    ) -> np.ndarray:
        """(Q,) float64: the metric of each shopper of validation. What was counted is exported into `folder`,
        opened and ranked. Raises TooLittleData: nobody asks for anything of the slice."""
        from etalage.evaluation.behaviour import ks_with
        from etalage.evaluation.measured import measure
        from etalage.models.recipe import Trained
        from etalage.runtime.opening import open_scorer
        from etalage.training.closed_form import export_closed_form

        trained = Trained(recipe.name, config, None, {}, [], 0.0, 0.0, folder, counted=counted)
        scorer = open_scorer(export_closed_form(recipe, trained, self.source, folder))
        evaluate = self.evaluate.model_copy(update={"ks": ks_with((), self.metric)})
        found = measure(self.data, {recipe.name: scorer}, "validation", scorer.role, evaluate, 0, None)
        if self.slice not in found.slices:
            raise TooLittleData(
                f"validation has no question of the slice {self.slice!r}, on which {recipe.name} is judged"
            )
        return np.asarray(found.values(self.slice)[recipe.name][self.metric])


def _remembered(file: Path) -> Search | None:
    try:
        return Search.of(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _plain(settings: Any) -> Any:
    return json.loads(json.dumps(settings, sort_keys=True, default=str))
