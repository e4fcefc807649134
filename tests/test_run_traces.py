"""A network whose graph was traced before is exported as if it were traced anew; any other one is traced."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etalage.models.layers import L2Normalise, Normalise
from etalage.runtime.sessions import Session
from tests import run_traces

PHOTOS = torch.arange(12, dtype=torch.uint8).reshape(2, 2, 3, 1) * 20


class Outside(nn.Linear):
    """A layer of a module that may change."""


def network(seed: int, width: int = 5) -> nn.Sequential:
    """Its first layer has buffers that are not saved; the exporter turns the last one's weights around."""
    torch.manual_seed(seed)
    front = Normalise([seed / 10], [0.5])
    last = nn.Linear(width, 3, bias=False)
    return nn.Sequential(front, nn.Flatten(), nn.Linear(6, width), nn.ReLU(), last, L2Normalise()).eval()


def exported(network: nn.Module, file: Path) -> np.ndarray:
    """What the export of it answers."""
    torch.onnx.export(
        network, (PHOTOS,), str(file), input_names=["photos"], dynamo=True, external_data=False,
        verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    (found,) = Session.open(file).run({"photos": torch.cat([PHOTOS, PHOTOS + 9]).numpy()})
    return found


def answers(network: nn.Module) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(network(torch.cat([PHOTOS, PHOTOS + 9])))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Callable[[], int]]:
    """How many graphs were kept until now, in a folder of this test's own."""
    run_traces.trace_every_network()
    run_traces.share_traces(tmp_path / "traces")
    yield lambda: len(list((tmp_path / "traces").glob("*.onnx")))
    run_traces.trace_every_network()


def test_other_weights_are_exported_without_a_trace_and_answer_as_their_network(
    kept: Callable[[], int], tmp_path: Path
) -> None:
    first, second = network(1), network(2)
    assert np.allclose(exported(first, tmp_path / "1.onnx"), answers(first), atol=1e-6) and kept() == 1
    assert np.allclose(exported(second, tmp_path / "2.onnx"), answers(second), atol=1e-6) and kept() == 1
    assert not np.allclose(answers(first), answers(second), atol=0.1)
    run_traces.trace_every_network()
    assert np.array_equal(exported(second, tmp_path / "anew.onnx"), exported(second, tmp_path / "2.onnx"))


def key(network: nn.Module, photos: Tensor = PHOTOS, **asked: Any) -> str | None:
    return run_traces._key(network, (photos,), asked)


def test_what_decides_the_graph_decides_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = key(network(1))
    assert usual is not None and key(network(2)) == usual
    others = [
        key(network(1, width=4)), key(network(1), PHOTOS[:, :, :2]), key(network(1), PHOTOS.float()),
        key(network(1), input_names=["photos"]), key(network(1)[:3]), key(network(1).train()),
    ]  # fmt: skip
    with torch.inference_mode():
        others.append(key(network(1)))
    monkeypatch.setattr(L2Normalise, "forward", lambda self, rows: rows * 2)
    others.append(key(network(1)))
    assert None not in others and len({usual, *others}) == 9


def test_of_what_cannot_be_said_what_it_is_made_of_every_trace_is_new() -> None:
    hooked = network(1)
    hooked.register_forward_hook(lambda _, __, found: found * 2)
    assert key(hooked) is None and key(nn.Sequential(Outside(6, 3))) is None
