"""A photo network of 8-bit numbers: smaller, and nearly the same."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from etalage.models.backbones import Backbone, backbone
from etalage.runtime.sessions import Session
from etalage.training.category_export import write_trunk
from etalage.training.quantising import quantised
from tests.category_sets import SIDE, leaves, photos


def seen(trunk: Backbone) -> Backbone:
    """Its batch normalisation has seen photos: fresh, its means would be those of nothing."""
    trunk.train()
    with torch.no_grad():
        for _ in range(8):
            trunk(torch.from_numpy(photos(leaves(64))))
    return trunk.eval()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    file = tmp_path_factory.mktemp("trunk") / "trunk.onnx"
    write_trunk(seen(backbone("small")), SIDE, file)
    return file


def eight_bits(plain: Path, folder: Path, **changes: int) -> Path:
    file = folder / "trunk.onnx"
    file.write_bytes(plain.read_bytes())
    quantised(file, photos(leaves(60)), **changes)
    return file


def features(file: Path) -> np.ndarray:
    (found,) = Session.open(file).run({"photos": photos(leaves(50, seed=9), seed=8)})
    return found


def likeness(one_NF: np.ndarray, other_NF: np.ndarray) -> np.ndarray:
    """Cosine, row by row."""
    return (one_NF * other_NF).sum(1) / np.linalg.norm(one_NF, axis=1) / np.linalg.norm(other_NF, axis=1)


def test_int8_is_smaller_and_its_features_point_the_same_way(plain: Path, tmp_path: Path) -> None:
    file = eight_bits(plain, tmp_path)
    assert file.stat().st_size < 0.45 * plain.stat().st_size
    whole, small = features(plain), features(file)
    assert whole.shape == small.shape == (50, 128) and small.dtype == np.float32
    assert likeness(whole, small).min() > 0.98
    assert not np.array_equal(whole, small)
    # Near enough to tell which photo is which.
    centred = [one - whole.mean(axis=0) for one in (whole, small)]
    distances = np.linalg.norm(centred[0][:, None] - centred[1][None], axis=2)
    assert (distances.argmin(axis=0) == np.arange(50)).mean() > 0.9


def test_convolutions_are_in_whole_numbers_and_pixels_stay_as_they_are(plain: Path, tmp_path: Path) -> None:
    graph = onnx.load(eight_bits(plain, tmp_path)).graph
    weights = {one.name: one for one in graph.initializer}
    made_of = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 10
    assert all(node.input[1] in weights for node in convolutions[:2]), "the first two stay as they are"
    for node in convolutions[2:]:
        source = made_of[node.input[1]]
        assert source.op_type == "DequantizeLinear"
        assert weights[source.input[0]].data_type == onnx.TensorProto.INT8
        assert len(weights[source.input[1]].dims) == 1, "one scale for all channels"
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [one.name for one in (*graph.input, *graph.output)] == ["photos", "features"]


def test_a_channel_of_the_stem_with_a_wide_range_costs_the_others_nothing(tmp_path: Path) -> None:
    """As in every network that learned: one channel times 600, and its readers divided by 600."""
    torch.manual_seed(2)
    trunk = seen(backbone("small"))
    first, second = list(trunk.network.children())[:2]
    norm = next(module for module in first.modules() if isinstance(module, torch.nn.BatchNorm2d))
    reader = next(module for module in second.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        norm.weight[3] *= 600
        norm.bias[3] *= 600
        reader.weight[:, 3] /= 600
    file = tmp_path / "wide.onnx"
    write_trunk(trunk, SIDE, file)
    whole, small = features(file), features(eight_bits(file, tmp_path))
    assert likeness(whole - whole.mean(axis=0), small - whole.mean(axis=0)).mean() > 0.97


def test_the_same_photos_make_the_same_file_and_logging_is_as_before(plain: Path, tmp_path: Path) -> None:
    level = logging.getLogger().level
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = (eight_bits(plain, tmp_path / name, seed=3) for name in ("a", "b"))
    assert np.array_equal(features(one), features(other))
    assert logging.getLogger().level == level
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["trunk.onnx"]
