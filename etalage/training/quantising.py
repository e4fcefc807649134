"""A photo network in whole numbers of 8 bits: smaller, and cheaper where the processor multiplies them.

Static quantisation by ONNX Runtime, weights by channel, activations by what some training photos make of them
(B. Jacob et al., Quantization and Training of Neural Networks, CVPR 2018). An activation's range leaves out
the outermost thousandth at either end: one far value would take the steps from all others (H. Wu et al.,
Integer Quantization for Deep Learning Inference, 2020). The first two convolutions stay in float32: their
channels' ranges differ most, they are a small part of the work, and nothing after them brings back what they
lose.
"""

import contextlib
import io
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

CALIBRATED_ON = 64
AT_ONCE = 8
LEFT_AS_THEY_ARE = 2
"""Convolutions, counted from the photo."""
FURTHEST = 99.9
"""Percentile that ends an activation's range; 100 less it begins it."""


def quantised(file: Path, pixels_PHWC: np.ndarray, seed: int = 0) -> None:
    """Replace the network `file`, of one input of (B, H, W, 3) uint8, by its int8 twin."""
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(pixels_PHWC), min(CALIBRATED_ON, len(pixels_PHWC)), replace=False))
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells of every operator that it leaves as it is
    try:
        with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
            quant_pre_process(str(file), str(plain), skip_symbolic_shape=True)
            quantize_static(
                str(plain),
                str(small),
                _Photos(pixels_PHWC, rows),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Weights of 7 bits: pairs of products then fit the 16 bits in which processors without VNNI
                # add them, and the answers are the same on all.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "GlobalAveragePool"],
                nodes_to_exclude=_first(onnx.load(plain)),
                # One batch at a time, or it holds every activation of every photo: 3 GB.
                extra_options={"CalibPercentile": FURTHEST, "CalibStridedMinMax": 1},
            )
            file.write_bytes(small.read_bytes())
    finally:
        logger.setLevel(level)


def _first(model: "onnx.ModelProto") -> list[str]:
    """The nodes up to the last convolution that stays as it is."""
    nodes = list(model.graph.node)
    stay = [at for at, node in enumerate(nodes) if node.op_type == "Conv"][:LEFT_AS_THEY_ARE]
    return [node.name for node in nodes[: stay[-1] + 1]] if stay else []


class _Photos:
    """What onnxruntime calls a CalibrationDataReader: one feed after another, then None; `set_range` says
    which come next."""

    def __init__(self, pixels_PHWC: np.ndarray, rows: np.ndarray) -> None:
        self._pixels_PHWC = pixels_PHWC
        self._rows = np.array_split(rows, -(-len(rows) // AT_ONCE))
        self._feeds = iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._feeds = iter(self._rows[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        rows = next(self._feeds, None)
        return None if rows is None else {"photos": np.ascontiguousarray(self._pixels_PHWC[rows])}
