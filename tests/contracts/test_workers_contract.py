"""What every model with gradients keeps to when several workers train it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from etalage.engine import local
from etalage.training.loop import fit
from tests.conftest import PROJECT
from tests.contracts.folder import LISTED
from tests.contracts.shared_training import Case, case, train_all

MODELS = [name for name, found in LISTED.items() if found.role != "closed_form"]


@dataclass(frozen=True)
class ByTwo:
    """What rank 0 trained, the weights of both at the end, and those after an epoch, before rank 0 sends its
    own."""

    trained: Any
    weights: list[dict[str, torch.Tensor]]
    own: list[dict[str, torch.Tensor]]


EXACT: dict[str, dict[str, Any]] = {
    "dlrm": {"unknown": 0.0, "table_optimiser": "sgd", "table_start": 1e-7},
    "neumf": {"forget": 0.0, "hidden": 0.0, "loss": "bpr"},
}
"""Settings with which nothing is drawn."""
# Adam would make a whole step of the last digit of a gradient that is nothing.
SHORT: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 3, "precision": "float32", "optimiser": "sgd"}


def weights_of(folder: Path, what: str) -> list[dict[str, torch.Tensor]]:
    return [torch.load(folder / f"{what}-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ByTwo]]:
    """Every model as two workers train it, and those of EXACT as `NAME, exactly`; the same two all the time:
    a fresh process takes longer to import torch than to train."""
    cases = {name: Case(name, {}) for name in MODELS}
    cases |= {f"{name}, exactly": Case(name, {**changes, **SHORT}) for name, changes in EXACT.items()}
    folder = tmp_path_factory.mktemp("by-two")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(PROJECT))
        with local.launch(partial(train_all, cases, folder), 2) as spec:
            trained = train_all(cases, folder, spec)
    torch.set_num_threads(threads)
    yield {
        name: ByTwo(one, weights_of(folder / name, "rank"), weights_of(folder / name, "own"))
        for name, one in trained.items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_two_workers_end_with_equal_weights_tables_included(name: str, by_two: dict[str, ByTwo]) -> None:
    trained, (one, other) = by_two[name].trained, by_two[name].weights
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key
    for key, ours in by_two[name].own[0].items():
        if "running_" not in key:  # batch normalisation learns from its rank's rows
            assert torch.equal(ours, by_two[name].own[1][key]), f"{key}: each went its own way"
    recipe, config, data = case(name)
    torch.manual_seed(config.seed)
    fresh = recipe.bind(config, data).network().state_dict()
    moved = [key for key in one if one[key].is_floating_point() and not torch.equal(one[key], fresh[key])]
    assert moved, "nothing was learned"
    assert all(value == value for figures in trained.history for value in figures.values())


@pytest.mark.parametrize("name", MODELS)
def test_the_ranks_of_a_batch_have_its_rows_between_them(name: str) -> None:
    recipe, config, data = case(name)
    task = recipe.bind(config, data)
    for step in (0, task.steps - 1):
        whole = sorted(task.batch(0, step)["rows"].tolist())
        assert whole == sorted(task.batch(0, step, 0, 1)["rows"].tolist())
        parts = [task.batch(0, step, rank, 2)["rows"].tolist() for rank in (0, 1)]
        assert sorted(parts[0] + parts[1]) == whole
        assert parts[0] != whole


@pytest.mark.parametrize("name", EXACT)
def test_two_workers_learn_what_one_does_where_nothing_is_drawn(
    name: str, by_two: dict[str, ByTwo], tmp_path: Path
) -> None:
    shared, _ = by_two[f"{name}, exactly"].weights
    recipe, config, data = case(name, **EXACT[name], **SHORT)
    alone = fit(recipe, recipe.bind(config, data), config, tmp_path / "alone").network
    assert alone is not None
    weights = alone.state_dict()
    torch.manual_seed(config.seed)
    fresh = recipe.bind(config, data).network().state_dict()
    for key, ours in shared.items():
        if ours.is_floating_point():
            step = float((weights[key] - fresh[key]).abs().max())
            apart = float((ours - weights[key]).abs().max())
            assert apart <= 1e-6 + 5e-3 * step, key
