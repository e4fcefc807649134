"""What every model with gradients keeps to when several workers train it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from etalage.engine import local
from etalage.models.ranks import counts_of
from tests.conftest import PROJECT
from tests.contracts.folder import stepped
from tests.contracts.shared_training import Case, case, train_all

MODELS = stepped()


@dataclass(frozen=True)
class ByTwo:
    """What rank 0 trained, the weights of all ranks at the end, and those after an epoch, before rank 0 sends
    its own."""

    trained: Any
    weights: list[dict[str, torch.Tensor]]
    own: list[dict[str, torch.Tensor]]
    steps: list[list[dict[str, Any]]]
    """Losses and gradients of each step, by rank."""


EXACT: dict[str, Case] = {
    "image_similarity": Case("image_similarity", {"flip": True}),
    "item_category": Case("item_category", {"text": "joint", "batch_size": 36}),
    "two_tower": Case("two_tower", {"full_up_to": 0, "shared_negatives": 20}),
    "two_tower, all items": Case("two_tower", {}),
    "two_tower, dense tables": Case("two_tower", {"full_up_to": 0, "embeddings": "dense"}),
    "two_tower, drawn negatives": Case("two_tower", {"objective": "binary"}),
    "two_tower, several actions": Case("two_tower", {"full_up_to": 0, "actions": {"view": 1, "buy": 2}}),
    "sequence_transformer": Case("sequence_transformer", {}),
    "sequence_transformer, drawn": Case("sequence_transformer", {"full_up_to": 0, "shared_negatives": 20}),
    "sequence_transformer, gbce": Case("sequence_transformer", {"loss": "gbce", "shared_negatives": 20}),
    "dlrm": Case("dlrm", {"table_start": 1e-4}),
    "matrix_factorisation": Case("matrix_factorisation", {"shared_negatives": 30}),
    "matrix_factorisation, deep": Case("matrix_factorisation", {"network": "deep", "loss": "bce"}),
    "dssm": Case("dssm", {"shared_negatives": 20}),
    "dssm, pairs": Case("dssm", {"loss": "bce"}),
    "item2vec": Case("item2vec", {}),
    "neumf": Case("neumf", {"spread": 0.3}),
    "neumf, one of many": Case("neumf", {"spread": 0.3, "loss": "softmax", "user_by": "acts"}),
}
"""Every model of this folder, and what else of it computes its loss in another way."""
SURE: dict[str, dict[str, Any]] = {
    "two_tower": {"forget_user": 0.0, "forget_item": 0.0, "table_start": 1e-4},
    "sequence_transformer": {"forget_item": 0.0},
}
# Adam would make a whole step of the last digit of a gradient that is nothing.
SHORT: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 3, "precision": "float32", "optimiser": "sgd"}
TOLERANCE = 1e-4
"""Of the largest number of a gradient, or of a weight's largest step: float32, added up in another order."""


def counts_for(title: str) -> tuple[int, ...]:
    """By how many workers it is trained: what is not a model's usual way, by three alone."""
    return (1, 3) if "," in title else (1, 2, 3)


def exactly(case: Case, workers: int) -> Case:
    settings = {**SURE.get(case.name, {}), **case.changes, **SHORT}
    if case.changes.get("embeddings") == "dense":
        settings.pop("table_start")
    if case.changes.get("network") == "deep":
        settings["learning_rate"] = 0.1
    return Case(case.name, settings, workers, certain=True)


OWN = [name for name in MODELS if name not in {case.name for case in EXACT.values()}]
"""Models of a shop's own: what they draw is theirs to say."""


def saved(folder: Path, what: str) -> list[Any]:
    """By rank."""
    files = sorted(folder.glob(f"{what}-*.pt"))
    return [torch.load(file, weights_only=True) for file in files]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ByTwo]]:
    """Every model as two workers train it, and those of EXACT as `TITLE, by COUNT` train them; the same three
    processes all the time: a fresh one takes longer to import torch than to train."""
    cases = {name: Case(name, {}) for name in MODELS}
    cases |= {
        f"{title}, by {count}": exactly(case, count)
        for title, case in EXACT.items()
        for count in counts_for(title)
        if case.name in MODELS
    }
    folder = tmp_path_factory.mktemp("by-two")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(PROJECT))
        with local.launch(partial(train_all, cases, folder), 3) as spec:
            trained = train_all(cases, folder, spec)
    torch.set_num_threads(threads)
    yield {
        name: ByTwo(
            one,
            saved(folder / name, "rank"),
            saved(folder / name, "own"),
            saved(folder / name, "steps"),
        )
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


@pytest.mark.parametrize(
    ("title", "workers"), [(title, workers) for title in EXACT for workers in counts_for(title)[1:]]
)
def test_several_workers_have_the_losses_gradients_and_weights_of_one(
    title: str, workers: int, by_two: dict[str, ByTwo]
) -> None:
    if EXACT[title].name not in MODELS:
        pytest.skip("another folder's models are run")
    alone, shared = by_two[f"{title}, by 1"], by_two[f"{title}, by {workers}"]
    assert len(shared.steps) == workers
    for ours, theirs in zip(shared.steps[-1], alone.steps[0], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=TOLERANCE)
        assert ours["gradients"].keys() == theirs["gradients"].keys()
        for name, gradient in theirs["gradients"].items():
            apart = (ours["gradients"][name] - gradient).abs().max()
            assert apart <= 1e-6 + TOLERANCE * gradient.abs().max(), name
        assert any(bool(gradient.any()) for gradient in theirs["gradients"].values())
    fresh = fresh_weights(EXACT[title])
    for name, weight in alone.weights[0].items():
        if weight.is_floating_point():
            apart = (shared.weights[-1][name] - weight).abs().max()
            assert apart <= 1e-6 + TOLERANCE * (weight - fresh[name]).abs().max(), name


def fresh_weights(exact: Case) -> dict[str, torch.Tensor]:
    recipe, config, data = case(exact.name, **exactly(exact, 1).changes)
    torch.manual_seed(config.seed)
    weights: dict[str, torch.Tensor] = recipe.bind(config, data).network().state_dict()
    return weights


@pytest.mark.parametrize("title", EXACT)
def test_the_parts_of_a_batch_add_up_to_it(title: str) -> None:
    """The rows, and the loss of a fresh network: however many parts there are, one of them empty."""
    if EXACT[title].name not in MODELS:
        pytest.skip("another folder's models are run")
    recipe, config, data = case(EXACT[title].name, **exactly(EXACT[title], 1).changes)
    task = recipe.bind(config, data)
    for step in (0, task.steps - 1):
        whole = task.batch(0, step)
        rows = whole["rows"].tolist()
        for count in (2, 3, len(rows) + 1):
            if task.gathers == "nothing" or count < 4:
                parts = [task.batch(0, step, rank, count) for rank in range(count)]
                assert sorted(row for part in parts for row in part["rows"].tolist()) == sorted(rows)
                for name in counts_of(whole):
                    assert float(sum(part[name] for part in parts)) == pytest.approx(float(whole[name]), 1e-5)
