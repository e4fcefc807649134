"""What may be published, what it costs, and what to change in shop.toml for it: for `etalage evaluate`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.evaluation.decision import Contender, Cost
    from etalage.evaluation.slices import Questions
    from etalage.evaluation.whole_funnel import WholeFunnel
    from etalage.runtime.scorer import ExportScorer, Scorer

ALONE = 200
"""The quota of a retriever that is published alone."""


def cost_of(export: Path, milliseconds: float | None = None, photos: bool = False) -> "Cost":
    """What an export says of its training, and how large it is."""
    from etalage.evaluation.decision import Cost
    from etalage.runtime.export_files import read_facts

    facts = read_facts(export)
    seconds = facts.get("seconds")
    size = sum(file.stat().st_size for file in export.rglob("*") if file.is_file()) / 2**20
    seen = photos or "photo" in facts.get("feature_sources", {})
    return Cost(None if seconds is None else float(seconds), size, milliseconds, seen)


def summed(costs: "Sequence[Cost]", milliseconds: float | None) -> "Cost":
    """Of a funnel made of models with these costs; what is not known of one of them is not known of all."""
    from etalage.evaluation.decision import Cost

    def added(values: list[float | None]) -> float | None:
        known = [one for one in values if one is not None]
        return sum(known) if known and len(known) == len(values) else None

    return Cost(
        added([one.seconds for one in costs]),
        added([one.megabytes for one in costs]),
        milliseconds,
        any(one.photos for one in costs),
    )


def behaviour_contenders(
    workspace: Workspace,
    systems: "Mapping[str, Scorer]",
    rankers: "Mapping[str, ExportScorer]",
    exports: Mapping[str, Path],
    funnels: "Mapping[str, WholeFunnel]",
    popularity: np.ndarray,
    asked: "Questions",
) -> "list[Contender]":
    """Every retriever alone, the funnel, the funnel without its ranker, and chance; rankers only where the
    gate refuses them, to say why. systems: all that retrieves, by name; exports: of those that were trained.
    """
    from etalage.bundle.admission import CHANCE
    from etalage.evaluation.decision import Contender, Cost
    from etalage.evaluation.timing import request_milliseconds
    from etalage.evaluation.whole_funnel import FUNNEL

    refused = _refused(workspace, exports)
    # What was not trained is counted at evaluation and publishing, and takes no room to speak of.
    costs = {name: cost_of(exports[name]) if name in exports else Cost(megabytes=0.0) for name in systems}
    costs |= {name: cost_of(export) for name, export in exports.items()}
    found = [Contender(CHANCE, comparison=True)]
    whole = funnels.get(FUNNEL)
    for name, scorer in systems.items():
        alone = _alone(workspace, scorer, popularity)
        cost = summed([costs[name]], request_milliseconds(alone, asked, 20))
        network = int(scorer.role != "closed_form")
        settings = "" if whole is not None and whole.names == [name] else _settings(workspace, name, exports)
        found.append(Contender(name, cost, network, 1, (), settings, refused.get(name)))
    for name, funnel in funnels.items():
        if funnel.names == [funnel.fallback_policy.prior.name]:
            continue  # it is the prior, which stands there already
        mine = {**systems, **rankers}
        networks = sum(mine[one].role != "closed_form" for one in funnel.names if one in mine)
        cost = summed(
            [costs[one] for one in funnel.names if one in costs], request_milliseconds(funnel, asked, 20)
        )
        settings = "" if name == FUNNEL else _without_ranker(workspace)
        found.append(Contender(name, cost, networks, len(funnel.names), tuple(funnel.names), settings))
    found += [Contender(name, refused=refused[name]) for name in rankers if name in refused]
    return found


def _refused(workspace: Workspace, exports: Mapping[str, Path]) -> dict[str, str]:
    """Model → why the gate keeps it out, each by itself."""
    from etalage.bundle.admission import admitted
    from etalage.bundle.draft import DraftedModel
    from etalage.runtime.export_files import read_verdict

    slices, found = workspace.evaluating.slices, {}
    for name, export in exports.items():
        _, out = admitted([DraftedModel(export, read_verdict(export), slices.get(name))], force=False)
        if out:
            found[name] = out[0].reason
    return found


def _alone(workspace: Workspace, scorer: "Any", popularity: np.ndarray) -> "WholeFunnel":
    """The funnel that has this retriever alone."""
    from etalage.evaluation.whole_funnel import WholeFunnel
    from etalage.features.history import BehaviourRule
    from etalage.runtime.scorer import ExportScorer

    config = workspace.config
    funnel = config.funnel.model_copy(update={"retrievers": {scorer.name: ALONE}, "ranker": None})
    models = [(scorer, False)] if isinstance(scorer, ExportScorer) else []
    return WholeFunnel(models, BehaviourRule(config.behaviour, funnel), popularity)


def _settings(workspace: Workspace, name: str, exports: Mapping[str, Path]) -> str:
    """What to change, so that this retriever answers alone."""
    from etalage.bundle.admission import FLOOR

    funnel = workspace.config.funnel
    train = f"`etalage train {FLOOR}`, and " if name == FLOOR and FLOOR not in exports else ""
    if name == FLOOR and not set(exports) - {FLOOR}:
        return train.removesuffix(", and ")
    ranker = "" if funnel.ranker is None else f', and take `ranker = "{funnel.ranker}"` out'
    if dict(funnel.retrievers) == {name: funnel.retrievers.get(name)} and not ranker:
        return train.removesuffix(", and ")
    return f"{train}let [funnel] of shop.toml say `retrievers = {{{name} = {ALONE}}}`{ranker}"


def _without_ranker(workspace: Workspace) -> str:
    return f'take `ranker = "{workspace.config.funnel.ranker}"` out of [funnel] in shop.toml'
