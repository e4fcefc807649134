"""What every model with gradients keeps to on a device that is not the processor: all tensors of its loss are
made there. No such device is needed: torch follows a tensor's device without its numbers (device `meta`)."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

from tests.contracts.folder import stepped
from tests.contracts.shared_training import case

MODELS = stepped()
ENDS_EARLY = ("unsupported scalarType", "unknown device type for autocast")
"""Where torch cannot go on without numbers; what came before was followed."""


def elsewhere(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    return FakeTensor(mode, tensor.detach().to("meta"), torch.device("meta"))


def move(network: torch.nn.Module, mode: FakeTensorMode) -> None:
    """Parameters and buffers of the network, in place."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            module._parameters[name] = torch.nn.Parameter(elsewhere(mode, parameter), requires_grad=False)
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = elsewhere(mode, buffer)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_of_a_loss_is_on_the_networks_device(name: str) -> None:
    recipe, config, data = case(name)
    task: Any = recipe.bind(config, data)
    shapes = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=False)
    mode.allow_meta = True
    network = task.network().train()
    batch = {key: elsewhere(mode, tensor) for key, tensor in task.batch(0, 0).items()}
    move(network, mode)
    try:
        with mode, torch.no_grad():
            loss = task.loss(network, batch)
    except GuardOnDataDependentSymNode:
        return
    except RuntimeError as error:
        assert any(known in str(error) for known in ENDS_EARLY), error
        return
    assert loss.device.type == "meta"


def test_a_tensor_that_is_made_on_the_processor_is_found() -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=False)
    mode.allow_meta = True
    there = elsewhere(mode, torch.ones(3))
    with mode, pytest.raises((RuntimeError, AssertionError)):
        there + torch.ones(3)
