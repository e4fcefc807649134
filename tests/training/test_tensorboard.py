"""What TensorBoard shows of a training: how weights and gradients are spread, pictures, the graph."""

from pathlib import Path

import onnx
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from etalage.training.tracking import PICTURED, SPREAD_OF, Run


def shown(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), {"histograms": 0})
    found.Reload()
    return found


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, PICTURED + 1, bias=False))
    network(torch.ones(2, 3)).sum().backward()
    return network


def test_weights_and_gradients_are_shown_for_each_epoch(tmp_path: Path, network: nn.Sequential) -> None:
    with Run(tmp_path, "towers", "first") as run:
        run.weights(1, network)
        with torch.no_grad():
            network[0].bias.fill_(2.0)
        run.weights(2, network)
    found = shown(tmp_path / "towers" / "first" / "tensorboard")
    names = {"0.weight", "0.bias", "2.weight"}
    assert set(found.Tags()["histograms"]) == {
        f"{what}/{n}" for what in ("weights", "gradients") for n in names
    }
    before, after = found.Histograms("weights/0.bias")
    assert (before.step, after.step) == (
        1,
        2,
    ) and after.histogram_value.min == 2.0 != before.histogram_value.min
    assert found.Tags()["images"] == ["pictures/0.weight"], "neither a vector nor a large matrix"


def test_a_large_table_costs_no_more_than_a_small_one(tmp_path: Path) -> None:
    table = nn.Embedding(50_000, 4, sparse=True)
    table(torch.tensor([3, 3, 7])).sum().backward()
    with Run(tmp_path, "towers", "large") as run:
        run.weights(1, table)
    found = shown(tmp_path / "towers" / "large" / "tensorboard")
    assert found.Histograms("weights/weight")[0].histogram_value.num <= SPREAD_OF
    assert found.Histograms("gradients/weight")[0].histogram_value.num == 8, "the rows of the batch"


def one_layer() -> onnx.ModelProto:
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 3]) for name in "xy"]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "towers", ends[:1], ends[1:]))


def test_the_graph_of_each_network_of_an_export_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = tmp_path / "export"
    exported.mkdir()
    for name in ("query", "item"):
        onnx.save(one_layer(), exported / f"{name}.onnx")
    with Run(tmp_path, "towers", "drawn") as run:
        run.graph(exported)
    assert capsys.readouterr().out == "", "no names of its nodes"
    for name in ("query", "item"):
        assert shown(tmp_path / "towers" / "drawn" / "tensorboard" / name).Tags()["graph"], name


def test_a_run_without_steps_writes_no_events(tmp_path: Path) -> None:
    with Run(tmp_path, "popularity", "counted") as run:
        run.parameters({"count": "shoppers"})
    assert not (tmp_path / "popularity").exists()
