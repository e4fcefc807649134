"""Causal attention over a history, by each kind of block."""

import pytest
import torch

from etalage.models.history_encoder import BLOCKS, BlockName, HistoryEncoder


@pytest.fixture(params=BLOCKS)
def block(request: pytest.FixtureRequest) -> BlockName:
    name: BlockName = request.param
    return name


def encoder(block: BlockName, length: int = 6, kinds: int = 1) -> HistoryEncoder:
    torch.manual_seed(1)
    made = HistoryEncoder(
        8, length, kinds, layers=2, heads=2, dropout=0.0, attention_dropout=0.0, block=block
    ).eval()
    torch.nn.init.normal_(made.offsets)
    return made


def test_what_is_known_after_an_act_does_not_depend_on_later_ones(block: BlockName) -> None:
    layer, acts, mask = encoder(block), torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool)
    other = acts.clone()
    other[:, 4:] = torch.randn(2, 2, 8)
    before, after = layer(acts, mask), layer(other, mask)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(2).min() > 1e-3


def test_every_act_before_it_counts_and_so_does_their_order(block: BlockName) -> None:
    layer, acts, mask = encoder(block), torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool)
    for place in range(4):
        other = acts.clone()
        other[0, place] = torch.randn(8)
        assert (layer(other, mask)[:, -1] - layer(acts, mask)[:, -1]).abs().max() > 1e-3
    assert (layer(acts.flip(1), mask)[:, -1] - layer(acts, mask)[:, -1]).abs().max() > 1e-3


def test_padding_in_front_changes_nothing_and_may_hold_anything(block: BlockName) -> None:
    layer, acts = encoder(block), torch.randn(3, 2, 8)
    padded = torch.cat([torch.full((3, 4, 8), 1e3), acts], dim=1)
    mask = torch.tensor([[False] * 4 + [True] * 2]).expand(3, 6)
    torch.testing.assert_close(layer(padded, mask)[:, 4:], layer(acts, mask[:, 4:]))


def test_a_shopper_without_a_history_is_the_start_of_every_other_one(block: BlockName) -> None:
    layer, acts = encoder(block), torch.randn(2, 5, 8)
    nobody = layer(torch.zeros(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool))
    somebody = layer(acts, torch.ones(2, 5, dtype=torch.bool))
    assert torch.isfinite(nobody).all()
    torch.testing.assert_close(nobody[:, -1], somebody[:, 0])
    torch.testing.assert_close(nobody[:, -1], layer(acts[:, :0], torch.zeros(2, 0, dtype=torch.bool))[:, -1])


def test_the_kind_of_an_act_is_heard(block: BlockName) -> None:
    layer, acts, mask = encoder(block, kinds=3), torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    viewed, bought = (layer(acts, mask, torch.tensor([[1, 1, kind]]))[:, -1] for kind in (1, 2))
    assert (viewed - bought).abs().max() > 1e-3
