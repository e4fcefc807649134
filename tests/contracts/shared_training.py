"""What each model with gradients learns from in the contract of several workers, and what a rank does."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from etalage.engine.worker_spec import WorkerSpec
from etalage.models.recipe import Recipe, Trained
from etalage.training.context import Context, compute_init
from etalage.training.loop import fit
from tests import behaviours, category_sets
from tests.contracts import (
    test_behaviour_embedder_contract,
    test_classifier_contract,
    test_embedder_contract,
    test_ranker_contract,
)
from tests.contracts.folder import FOLDER

SMALL: dict[str, dict[str, Any]] = {
    "image_similarity": {"epochs": 2},
    "item_category": {"epochs": 2, "batch_size": 32},
    "two_tower": {"epochs": 2, "tables": "row_wise"},
    "dlrm": {"epochs": 2, "unknown": 0.1},
}
"""Beside the settings of the model's own contract; any other model runs two epochs of those."""


def case(name: str, **changes: Any) -> tuple[Recipe[Any], Any, Any]:
    """The recipe, a small config, and data for it."""
    recipe = FOLDER.find(name)
    settings: dict[str, Any]
    data: Any
    if recipe.role == "ranker":
        settings = test_ranker_contract.QUICK.get(name, {})
        examples = recipe.data == "examples"
        data = (test_ranker_contract.clicks() if examples else test_ranker_contract.tastes()).data
    elif recipe.role == "classifier":
        settings, data = test_classifier_contract.QUICK.get(name, {}), category_sets.category_set()
    elif recipe.data == "photos":
        settings, data = test_embedder_contract.QUICK.get(name, {}), test_embedder_contract.photo_set()
    else:
        settings, data = test_behaviour_embedder_contract.QUICK.get(name, {}), behaviours.behaviour()
    return recipe, recipe.config(**{**settings, **SMALL.get(name, {"epochs": 2}), **changes}), data


class Case(NamedTuple):
    """A model, and what is set of it beside its small settings."""

    name: str
    changes: dict[str, Any]


def train_all(cases: Mapping[str, Case], folder: Path, spec: WorkerSpec) -> dict[str, Trained[Any]]:
    """One rank of a training of each, one after the other, each with a group of its own; the weights go into
    a folder of the case's name."""
    found = {}
    for title, (name, changes) in cases.items():
        (folder / title).mkdir(exist_ok=True)
        met = replace(spec, init_method=f"file://{folder / title / 'met'}")
        found[title] = train(name, changes, folder / title, met)
    return found


def train(name: str, changes: dict[str, Any], folder: Path, spec: WorkerSpec) -> Trained[Any]:
    """One rank of the training; into `folder` go its weights at the end, and those that it had made by itself
    when rank 0 was about to send its own: at the second epoch's beginning, where there is one."""
    torch.set_num_threads(1)
    recipe, config, data = case(name, **changes)
    own: list[dict[str, torch.Tensor]] = []

    def noted(context: Context, network: torch.nn.Module) -> None:
        own.append({key: value.clone() for key, value in network.state_dict().items()})
        send(context, network)

    send = Context.broadcast_weights
    with patch.object(Context, "broadcast_weights", noted), compute_init(config, spec) as context:
        trained = fit(recipe, recipe.bind(config, data), config, folder / "run", context=context)
    assert trained.network is not None
    torch.save(trained.network.state_dict(), folder / f"rank-{spec.rank}.pt")
    torch.save(own[1], folder / f"own-{spec.rank}.pt")
    return trained
