"""Tables whose steps touch only what a batch names; compared with torch's own optimisers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from etalage.errors import LossNotFinite
from etalage.models.embedding_tables import RowwiseAdagrad, RowwiseTables
from etalage.training import checkpoint
from etalage.training.checkpoint import Checkpoint

SIZES = (3, 5, 2)
ROWS = torch.tensor([[0, 4, 1], [2, 4, 1], [2, 1, 0], [0, 0, 0]])


class Small(nn.Module):
    def __init__(self, kept: torch.Tensor | None = None) -> None:
        super().__init__()
        self.tables = RowwiseTables(SIZES, 4, kept)
        self.head = nn.Linear(12, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.tables(rows).flatten(1))[:, 0]


def made(**settings: object) -> tuple[Small, RowwiseAdagrad]:
    torch.manual_seed(3)
    network = Small()
    dense = torch.optim.Adam(network.head.parameters(), lr=0.01)
    return network, RowwiseAdagrad([network.tables], dense, lr=0.1, **settings)  # type: ignore[arg-type]


def step(network: nn.Module, optimiser: torch.optim.Optimizer, rows: torch.Tensor = ROWS) -> None:
    loss = (network(rows) - torch.arange(len(rows))).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def test_training_and_evaluating_look_up_the_same_rows() -> None:
    network, _ = made()
    first = np.cumsum([0, *SIZES[:-1]])
    wanted = network.tables.weight.detach()[ROWS + torch.from_numpy(first)]
    assert torch.equal(network.tables.train()(ROWS).detach(), wanted)
    assert torch.equal(network.tables.eval()(ROWS), wanted)


def test_the_unknown_row_of_each_table_starts_at_zero_and_no_other() -> None:
    weight = made()[0].tables.weight.detach()
    zero = (weight == 0).all(dim=1)
    assert zero.nonzero()[:, 0].tolist() == [0, 3, 8]
    for part, size in zip(weight.split(SIZES), SIZES, strict=True):
        assert part.abs().max() <= size**-0.5


def test_a_row_outside_its_table_is_unknown_and_never_another_tables() -> None:
    network = made()[0].eval()
    strange = torch.tensor([[3, -1, 2]])
    assert torch.equal(network.tables(strange), network.tables(torch.tensor([[0, 0, 0]])))


def test_rows_that_are_not_kept_are_unknown_and_take_no_memory() -> None:
    kept = torch.tensor([0, 1, 0, 0, 0, 1, 0, 1, 0, 0], dtype=torch.bool)
    tables = Small(kept).tables.eval()
    assert len(tables.weight) == 2 + 3 + 1
    found = tables(torch.tensor([[1, 2, 1], [2, 4, 0], [0, 3, 1]]))
    weight = tables.weight.detach()
    assert torch.equal(found[0], weight[[1, 3, 5]])
    assert torch.equal(found[1], weight[[0, 4, 5]])
    assert torch.equal(found[2], weight[[0, 2, 5]])


def test_a_step_moves_the_rows_of_its_batch_and_no_others() -> None:
    network, optimiser = made()
    before = network.tables.weight.detach().clone()
    step(network, optimiser)
    moved = (network.tables.weight.detach() != before).any(dim=1).nonzero()[:, 0].tolist()
    assert moved == [0, 2, 3, 4, 7, 8, 9]
    assert network.tables.weight.grad is None
    assert optimiser.state[network.tables.weight]["sum"].nonzero()[:, 0].tolist() == moved


def test_it_is_row_wise_adagrad_as_it_is_written_down() -> None:
    network, optimiser = made(start=0.5, decay=0.25)
    reference = Small()
    reference.load_state_dict(network.state_dict())
    total = torch.full((10, 1), 0.5)
    dense = torch.optim.Adam(reference.head.parameters(), lr=0.01)
    for rows in (ROWS, ROWS[:2], ROWS):
        step(network, optimiser, rows)
        reference.zero_grad()
        reference.eval()  # the plain lookup, whose weights get a dense gradient
        (reference(rows) - torch.arange(len(rows))).square().mean().backward()
        weight = reference.tables.weight
        with torch.no_grad():
            named = (rows + torch.tensor([0, 3, 8])).unique()
            gradient = torch.zeros_like(weight)
            gradient[named] = (weight.grad + 0.25 * weight)[named]
            total += gradient.square().mean(dim=1, keepdim=True)
            weight -= 0.1 * gradient / (total.sqrt() + 1e-8)
        dense.step()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_without_the_sum_it_is_gradient_descent() -> None:
    network, optimiser = made(adaptive=False)
    reference = Small().eval()
    reference.load_state_dict(network.state_dict())
    plain = torch.optim.SGD([reference.tables.weight], lr=0.1)
    step(network, optimiser)
    step(reference, plain)
    assert torch.allclose(network.tables.weight, reference.tables.weight, atol=1e-7)
    assert optimiser.state.get(network.tables.weight, {}) == {}


def test_a_lower_rate_of_the_group_is_followed() -> None:
    network, optimiser = made()
    before = network.tables.weight.detach().clone()
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    step(network, optimiser)
    assert torch.equal(network.tables.weight, before)


def test_a_lookup_whose_backward_never_came_moves_nothing() -> None:
    network, optimiser = made()
    before = network.tables.weight.detach().clone()
    network(ROWS)
    optimiser.step()
    assert torch.equal(network.tables.weight, before)
    assert network.tables.touched == []


def test_f53_a_gradient_that_is_not_finite_moves_nothing() -> None:
    network, optimiser = made()
    before = network.tables.weight.detach().clone()
    (network(ROWS).sum() * float("inf")).backward()
    with pytest.raises(LossNotFinite, match="embedding table"):
        optimiser.step()
    assert torch.equal(network.tables.weight, before)


def test_a_checkpoint_brings_back_sums_and_dense_state(tmp_path: Path) -> None:
    network, optimiser = made(start=0.1)
    step(network, optimiser)
    slots, rest = checkpoint.pack_optimiser(optimiser)
    weights = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint.write(tmp_path, 1, Checkpoint({**slots, **weights}, {"optimiser": rest}))
    step(network, optimiser, ROWS[1:])

    again, other = made(start=0.1)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    again.load_state_dict(
        {name.removeprefix("network/"): t for name, t in found.tensors.items() if "network/" in name}
    )
    checkpoint.unpack_optimiser(other, found.tensors, found.state["optimiser"])
    step(again, other, ROWS[1:])
    for one, two in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_bytes_that_a_step_makes_do_not_grow_with_the_tables() -> None:
    """The gradient of a table of a million rows would be 16 MB; a step of four rows makes none of it."""
    tables = RowwiseTables((1_000_000,), 4)
    optimiser = RowwiseAdagrad([tables], torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), lr=0.1)
    tables(torch.tensor([[5], [999_999], [5], [7]])).square().sum().backward()
    assert tables.weight.grad is None
    assert [tuple(copies.grad.shape) for _, copies in tables.touched if copies.grad is not None] == [(3, 4)]
    optimiser.step()


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_the_gradients_of_ranks_become_those_of_the_whole_batch(cut: int) -> None:
    """Of any cut: rank 0 has the first rows, rank 1 the others, or none."""
    whole, expected = made()
    learned(whole, slice(None))
    expected.step()
    ranks = [made() for _ in range(2)]
    for (network, _), part in zip(ranks, (slice(0, cut), slice(cut, len(ROWS))), strict=True):
        learned(network, part)
    touched = [network.tables.touched for network, _ in ranks]
    told = [
        (
            torch.cat([torch.empty(0, dtype=torch.int64), *(rows for rows, _ in one)]),
            torch.cat([torch.empty(0, 4), *(copies.grad for _, copies in one)]),
        )
        for one in touched
    ]
    for network, optimiser in ranks:
        both = iter([torch.cat([rows for rows, _ in told]), torch.cat([gradients for _, gradients in told])])
        network.tables.sum_gradients(lambda _, both=both: next(both))
        optimiser.step()
    for network, _ in ranks:
        moved = network.tables.weight.detach() - made()[0].tables.weight.detach()
        ours = whole.tables.weight.detach() - made()[0].tables.weight.detach()
        torch.testing.assert_close(moved, ours, rtol=1e-4, atol=1e-6)
    assert torch.equal(ranks[0][0].tables.weight, ranks[1][0].tables.weight)


def learned(network: Small, part: slice) -> None:
    """The gradient of these rows' share of the loss of ROWS."""
    if len(ROWS[part]):
        wanted = torch.arange(len(ROWS)).float()[part]
        ((network(ROWS[part]) - wanted).square().sum() / len(ROWS)).backward()


def test_several_lookups_before_a_step_are_one() -> None:
    """A row that several parts of a batch look up moves once, by the sum of its gradients."""
    whole, expected = made(start=0.3)
    parts, optimiser = made(start=0.3)
    learned(whole, slice(None))
    for part in (slice(0, 1), slice(1, 3), slice(3, 4)):
        learned(parts, part)
    assert len(parts.tables.touched) == 3
    for network in (whole, parts):
        network.tables.sum_gradients(lambda rows: rows)
    assert len(parts.tables.touched) == 1
    torch.testing.assert_close(parts.tables.squared_norm(), whole.tables.squared_norm())
    expected.step()
    optimiser.step()
    torch.testing.assert_close(parts.tables.weight, whole.tables.weight)
