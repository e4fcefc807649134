"""Networks traced for ONNX once a run: tracing a small one takes two seconds of processor time, and most
tests that train one ask about something else.

Two networks that differ in their weights alone have the same graph. The first one's is kept in a folder of
the run as it was traced, before the exporter computes with its constants; the others' weights are put into
it, and the exporter does the rest, as ever. All else must be alike: the code of the layers, every setting,
the shapes, the inputs, what the exporter is asked. Who exports compares what comes out with the network, so a
graph that were another's would not pass. Files about the export trace every network:
`pytestmark = pytest.mark.traces`.
"""

import hashlib
import io
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

LAYERS = ("etalage.", "torch.", "timm.")
"""Packages that stay as they are during a run; a shop's own models do not."""


def share_traces(folder: Path) -> None:
    """From now on `torch.onnx.export` looks into `folder` first. Does nothing until somebody has imported
    torch."""
    torch = sys.modules.get("torch")
    if torch is None or hasattr(torch.onnx.export, "traces"):
        return
    traces = torch.onnx.export

    def export(
        network: Any, inputs: tuple[Any, ...], file: str, *, external_data: bool, **asked: Any
    ) -> None:
        key = _key(network, inputs, asked)
        if key is None:
            traces(network, inputs, file, external_data=external_data, **asked)
            return
        kept = folder / f"{key}.onnx"
        if not kept.exists():
            program = traces(network, inputs, optimize=False, **asked)
            _keep(program.model_proto, kept)
        program = _read(kept)
        program.apply_weights(
            {name: w for name, w in _weights(network).items() if name in program.model.graph.initializers}
        )
        program.optimize()
        program.save(file, external_data=external_data)

    export.traces = traces  # type: ignore[attr-defined]
    torch.onnx.export = export


def trace_every_network() -> None:
    """Take `share_traces` back."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.onnx.export = getattr(torch.onnx.export, "traces", torch.onnx.export)


def _weights(network: Any) -> dict[str, Any]:
    """By name; what has several names stands under each."""
    return {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }


def _keep(model: Any, kept: Path) -> None:
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")  # whoever is first: they are all alike
    part.write_bytes(model.SerializeToString())
    part.rename(kept)


def _read(kept: Path) -> Any:
    import onnx_ir
    import torch

    return torch.onnx.ONNXProgram(onnx_ir.load(kept), None)


# -- is it the same graph? ---------------------------------------------------------------------------------


class _WithoutWeights(pickle.Pickler):
    """Writes all that a network holds, but of its weights only what they look like."""

    def __init__(self, sink: io.BytesIO, weights: dict[int, tuple[Any, ...]]) -> None:
        super().__init__(sink, protocol=5)
        self._weights = weights

    def persistent_id(self, held: Any) -> tuple[Any, ...] | None:
        return self._weights.get(id(held))


def _key(network: Any, inputs: tuple[Any, ...], asked: dict[str, Any]) -> str | None:
    """What decides the graph, hashed; None: that cannot be said of this network."""
    import torch

    weights = {id(weight): (name, _form(weight)) for name, weight in _weights(network).items()}
    sink = io.BytesIO()
    for layer in {type(part): None for part in network.modules()}:
        if not layer.__module__.startswith(LAYERS):
            return None
        _write_code(layer, sink)
    try:
        _WithoutWeights(sink, weights).dump(network)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None  # hooks, functions of a function
    forms = [_form(one) for one in inputs]
    sink.write(repr((forms, sorted(asked.items()), torch.is_inference_mode_enabled())).encode())
    return hashlib.sha256(sink.getvalue()).hexdigest()[:24]


def _form(tensor: Any) -> tuple[Any, ...]:
    return tuple(tensor.shape), str(tensor.dtype), tensor.stride(), tensor.requires_grad


def _write_code(layer: type, sink: io.BytesIO) -> None:
    """What the layer computes, as it is at this moment: tests put other methods into classes."""
    sink.write(f"{layer.__module__}.{layer.__qualname__}".encode())
    for above in layer.__mro__:
        if above.__module__.startswith(LAYERS[0]):
            for name, value in sorted(vars(above).items()):
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                if code is not None:
                    sink.write(repr((name, list(_instructions(code)))).encode())


def _instructions(code: CodeType) -> Iterator[Any]:
    yield code.co_code, code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:
            yield constant
