"""DLRM on a table that is read as a stream."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from etalage.features.example_stream import ExampleStream
from etalage.models import recipe as recipes
from etalage.models.dlrm import DlrmConfig
from etalage.models.dlrm_stream import DlrmStreamTask
from etalage.training.loop import fit
from tests.features.example_tables import drawn, stored, stream_of
from tests.models.resuming import killed_and_resumed

SETTINGS: dict[str, Any] = {
    "table": "clicks", "dimension": 4, "bottom": (8,), "top": (8,), "batch_size": 128, "epochs": 2,
    "precision": "float32",
}  # fmt: skip
RECIPE = recipes.find("dlrm")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> ExampleStream:
    return stream_of(stored(tmp_path_factory.mktemp("table") / "clicks", drawn()))


def trained(run: Path, data: Any, **settings: Any) -> Any:
    config = DlrmConfig(**{**SETTINGS, **settings})
    return fit(RECIPE, RECIPE.bind(config, data), config, run)


def test_it_learns_as_well_as_from_memory_and_starts_from_the_same_weights(
    tmp_path: Path, stream: ExampleStream
) -> None:
    config = DlrmConfig(**SETTINGS)
    streamed, held = RECIPE.bind(config, stream), RECIPE.bind(config, stream.whole())
    assert isinstance(streamed, DlrmStreamTask)
    starts = []
    for task in (streamed, held):
        torch.manual_seed(0)
        starts.append(task.network().state_dict())
    for name, tensor in starts[0].items():
        assert torch.allclose(tensor, starts[1][name], atol=1e-6), name
    ours, theirs = (trained(tmp_path / n, one) for n, one in (("s", stream), ("m", stream.whole())))
    assert ours.metrics["auroc"] > 0.75
    assert ours.metrics["auroc"] == pytest.approx(theirs.metrics["auroc"], abs=0.05)
    network = ours.network
    assert streamed.measure(network, "test") == pytest.approx(held.measure(network, "test"), rel=1e-5)


@pytest.mark.parametrize("least", [2, 60, 90])
def test_rare_values_are_unknown_as_they_are_in_memory(stream: ExampleStream, least: int) -> None:
    config = DlrmConfig(**SETTINGS, min_count=least)
    ours, theirs = (RECIPE.bind(config, one)._kept for one in (stream, stream.whole()))
    assert torch.equal(ours, theirs)
    assert least == 2 or not bool(ours.all())


def test_a_run_that_was_killed_in_an_epoch_ends_with_the_same_weights(
    tmp_path: Path, stream: ExampleStream
) -> None:
    whole = trained(tmp_path / "whole", stream)
    config = DlrmConfig(**SETTINGS, checkpoint_steps=7)

    class Killed(RuntimeError):
        pass

    def stop(done: int, total: int, line: str) -> None:
        if done == 24:
            raise Killed

    with pytest.raises(Killed):
        fit(RECIPE, RECIPE.bind(config, stream), config, tmp_path / "cut", progress=stop)
    again = fit(RECIPE, RECIPE.bind(config, stream), config, tmp_path / "cut")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


def test_how_long_steps_waited_for_data_is_a_figure_of_the_run(tmp_path: Path, stream: ExampleStream) -> None:
    told: list[dict[str, float]] = []

    class Tracker:
        def metrics(self, step: int, values: dict[str, float]) -> None:
            told.append(values)

    config = DlrmConfig(**SETTINGS)
    fit(RECIPE, RECIPE.bind(config, stream), config, tmp_path, tracker=Tracker())
    assert len(told) == 2
    assert all(0 < one["waited_for_data"] < 1 for one in told)


@pytest.mark.parametrize("later", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_of_one_worker_that_was_killed_goes_on_with_more_and_ends_the_same(
    tmp_path: Path, stream: ExampleStream, later: int
) -> None:
    whole = trained(tmp_path / "whole", stream)
    ended, steps, epoch = killed_and_resumed(
        RECIPE, partial(DlrmConfig, **SETTINGS), stream, tmp_path / "cut", at=10, every=5, workers=later
    )
    assert steps == list(range(6, 2 * epoch + 1))
    for name, tensor in whole.network.state_dict().items():
        assert torch.allclose(tensor, ended.network.state_dict()[name], atol=2e-4), name
    assert ended.metrics["auroc"] == pytest.approx(whole.metrics["auroc"], abs=1e-3)
