"""A step that is accumulated from parts, and gradients that are clipped over all weights: what is learned is
what whole batches teach."""

from pathlib import Path
from typing import Any

import pytest
import torch

from etalage.config import validated
from etalage.errors import ConfigError
from etalage.models import recipe as recipes
from etalage.models.embedding_tables import RowwiseTables
from etalage.training.loop import fit
from etalage.training.optim import clip_norm
from tests.contracts.shared_training import Step, case, certain, steps_noted

SHORT: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 2, "precision": "float32", "optimiser": "sgd"}
CASES: dict[str, dict[str, Any]] = {
    "dlrm": {"table_start": 1e-4},
    "two_tower": {
        "table_start": 1e-4, "full_up_to": 0, "shared_negatives": 20, "forget_user": 0.0, "forget_item": 0.0,
    },
    "item_category": {"text": "joint", "batch_size": 36},
    "image_similarity": {"multi_similarity_weight": 0.0},
    "matrix_factorisation": {"shared_negatives": 30},
    "item2vec": {},
    "neumf": {"spread": 0.3},
    "dssm": {"shared_negatives": 20},
}  # fmt: skip


def steps(name: str, run: Path, **changes: Any) -> tuple[list[Step], dict[str, torch.Tensor]]:
    recipe, config, data = case(name, **CASES[name], **SHORT, **changes)
    with certain(), steps_noted() as found:
        trained = fit(recipe, recipe.bind(config, data), config, run)
    assert trained.network is not None
    return found, trained.network.state_dict()


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_three_parts_is_that_of_the_whole_batch(name: str, tmp_path: Path) -> None:
    """Losses, gradients and weights, within 1e-4 of the largest: float32, added up in another order."""
    (whole, ours), (parts, theirs) = (
        steps(name, tmp_path / str(count), accumulate=count) for count in (1, 3)
    )
    for one, other in zip(whole, parts, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert one.gradients.keys() == other.gradients.keys()
        for key, gradient in one.gradients.items():
            assert (other.gradients[key] - gradient).abs().max() <= 1e-6 + 1e-4 * gradient.abs().max(), key
    for key, weight in ours.items():
        if weight.is_floating_point():
            assert torch.allclose(weight, theirs[key], rtol=1e-4, atol=1e-5), key


def test_a_loss_that_compares_all_rows_is_not_cut_into_parts(tmp_path: Path) -> None:
    config = recipes.find("image_similarity").config
    with pytest.raises(ConfigError, match="multi_similarity_weight = 0, as it compares all photos"):
        validated(config, {"accumulate": 2}, where="[models.image_similarity]")
    recipe, plain, data = case("image_similarity", **CASES["image_similarity"], accumulate=2)
    task = recipe.bind(plain, data)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(task), "gathers", "rows")
        with pytest.raises(ConfigError, match="accumulate = 2: this model's loss compares all rows"):
            fit(recipe, task, plain, tmp_path)


def test_more_parts_than_rows_are_refused() -> None:
    config = recipes.find("dlrm").config
    with pytest.raises(ConfigError, match="2 workers cannot cut a batch of 5 rows into 6 parts"):
        validated(config, {"accumulate": 3, "workers": 2, "batch_size": 5}, where="[models.dlrm]")


class Both(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = RowwiseTables([4], 3)
        self.head = torch.nn.Linear(3, 1)


def learned() -> tuple[Both, torch.Tensor]:
    """A network after backward, and the norm of all its gradients, counted by torch."""
    torch.manual_seed(0)
    network = Both()
    rows = torch.tensor([[1], [3], [1]])
    network.head(network.tables(rows)[:, 0]).square().sum().backward()
    dense = Both()
    dense.load_state_dict(network.state_dict())
    dense.eval()
    dense.head(dense.tables(rows)[:, 0]).square().sum().backward()
    norm = torch.cat([one.grad.flatten() for one in dense.parameters()]).norm()  # type: ignore[union-attr]
    return network, norm


def test_the_norm_is_of_tables_too_and_they_are_scaled_as_all_weights_are() -> None:
    network, norm = learned()
    before = network.head.weight.grad.clone(), network.tables.touched[0][1].grad.clone()
    assert float(clip_norm(network, None)) == pytest.approx(float(norm), rel=1e-5)
    assert torch.equal(network.head.weight.grad, before[0])
    limit = float(norm) / 4
    assert float(clip_norm(network, limit)) == pytest.approx(float(norm), rel=1e-5)
    for now, then in zip((network.head.weight.grad, network.tables.touched[0][1].grad), before, strict=True):
        torch.testing.assert_close(now, then / 4, rtol=1e-4, atol=0)
    assert float(clip_norm(network, None)) == pytest.approx(limit, rel=1e-4)
