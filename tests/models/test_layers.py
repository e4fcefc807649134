"""The first layer takes raw pixels, the last gives unit length, the blocks keep shape and memory order."""

import numpy as np
import pytest
import torch

from etalage.models.layers import (
    ConvNormRelu,
    FeatureSum,
    L2Normalise,
    Normalise,
    Residual,
    mlp,
    table,
)


def test_normalise_divides_by_255_once_and_uses_each_channels_own_mean_and_deviation() -> None:
    pixels_BHWC = torch.tensor([[[[255, 51, 0]], [[0, 255, 102]]]], dtype=torch.uint8)
    planes_BCHW = Normalise([0.5, 0.2, 0.1], [0.25, 0.4, 2.0])(pixels_BHWC)
    expected = torch.tensor([[[[2.0], [-2.0]], [[0.0], [2.0]], [[-0.05], [0.15]]]])
    assert planes_BCHW.dtype == torch.float32
    torch.testing.assert_close(planes_BCHW, expected)


def test_normalise_turns_rows_columns_channels_into_planes() -> None:
    pixels_BHWC = torch.from_numpy(np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3))
    planes_BCHW = Normalise([0.0] * 3, [1.0] * 3)(pixels_BHWC)
    assert planes_BCHW.shape == (2, 3, 4, 5)
    torch.testing.assert_close(planes_BCHW[1, 2, 3, 4], pixels_BHWC[1, 3, 4, 2] / 255)


def test_normalise_stays_exact_under_autocast() -> None:
    pixels_BHWC = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    layer = Normalise([0.286], [0.353])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(pixels_BHWC), layer(pixels_BHWC.clone()).float())
        assert len(layer(pixels_BHWC).unique()) == 256, "bfloat16 could not tell 256 levels apart"


def test_normalise_saves_no_weights() -> None:
    assert not Normalise([0.1], [0.2]).state_dict()


def test_l2_normalise_gives_unit_rows_in_float32_and_keeps_their_direction() -> None:
    rows_BD = torch.tensor([[3.0, 4.0], [-0.5, 0.0], [1e-3, 1e-3]], dtype=torch.bfloat16)
    unit_BD = L2Normalise()(rows_BD)
    assert unit_BD.dtype == torch.float32
    torch.testing.assert_close(unit_BD, torch.tensor([[0.6, 0.8], [-1.0, 0.0], [0.5**0.5, 0.5**0.5]]))


def test_l2_normalise_leaves_a_row_of_zeros_finite() -> None:
    assert torch.equal(L2Normalise()(torch.zeros(1, 3)), torch.zeros(1, 3))


@pytest.mark.parametrize(("stride", "side"), [(1, 7), (2, 4)])
def test_conv_norm_relu_halves_the_side_rounding_up(stride: int, side: int) -> None:
    planes_BCHW = ConvNormRelu(3, 5, stride=stride)(torch.randn(4, 3, 7, 7))
    assert planes_BCHW.shape == (4, 5, side, side)
    assert planes_BCHW.min() == 0 and planes_BCHW.max() > 0


def test_conv_norm_without_relu_has_both_signs_around_zero() -> None:
    torch.manual_seed(3)
    planes_BCHW = ConvNormRelu(2, 6, relu=False)(5 + torch.randn(8, 2, 9, 9))
    torch.testing.assert_close(planes_BCHW.mean((0, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)
    assert planes_BCHW.min() < -0.5


def test_a_residual_block_whose_second_norm_is_zero_is_the_relu_of_its_input() -> None:
    block = Residual(4)
    torch.nn.init.zeros_(block.second[1].weight)  # type: ignore[arg-type]
    planes_BCHW = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(planes_BCHW), planes_BCHW.relu())


def test_a_residual_block_keeps_channels_last() -> None:
    block = Residual(8).to(memory_format=torch.channels_last)
    planes_BCHW = torch.randn(3, 8, 6, 5).to(memory_format=torch.channels_last)
    answer = block(planes_BCHW)
    assert answer.shape == planes_BCHW.shape
    assert answer.is_contiguous(memory_format=torch.channels_last)


def test_a_perceptron_ends_without_relu_so_that_scores_may_be_negative() -> None:
    torch.manual_seed(0)
    found = mlp((4, 8, 3))(torch.randn(50, 4))
    assert found.shape == (50, 3) and found.min() < 0 < found.max()
    assert torch.equal(mlp((4,))(torch.ones(2, 4)), torch.ones(2, 4)), "one width alone: the identity"


def test_a_feature_sum_adds_one_part_a_feature() -> None:
    content = FeatureSum({"brand": 5}, {"title": 9}, {"price": 2}, width=3)
    assert content.names == ("brand", "title", "price")
    brand, title, price = (part.weight for part in content.parts)
    rows = [torch.tensor([4, 0]), torch.tensor([[8, 2, 0], [0, 0, 0]]), torch.tensor([[1.0, -2.0], [0, 0]])]
    expected = torch.stack(
        [brand[4] + (title[8] + title[2]) / 2 + price @ torch.tensor([1.0, -2.0]), brand[0]]
    )
    torch.testing.assert_close(content(rows), expected)


def test_padding_of_a_bag_learns_nothing() -> None:
    content = FeatureSum({}, {"title": 6}, {}, width=2)
    content([torch.tensor([[3, 0, 0], [0, 0, 0]])]).sum().backward()
    slope = content.parts[0].weight.grad
    assert slope is not None
    assert slope[3].abs().sum() > 0 and slope[0].abs().sum() == 0


def test_a_table_looks_up_the_same_rows_in_an_export() -> None:
    rows = torch.tensor([[0, 4], [2, 2]])
    layer = table(5, 3, spread=0.5)
    exported = torch.export.export(layer, (rows,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(exported.module()(rows), layer(rows))
    assert 0.2 < float(table(2000, 8, spread=0.5).weight.detach().std()) < 0.8
