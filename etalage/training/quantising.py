"""A photo network in whole numbers of 8 bits: smaller, and cheaper where the processor multiplies them.

Static quantisation by ONNX Runtime, weights by channel, activations by what some training photos make of them
(B. Jacob et al., Quantization and Training of Neural Networks, CVPR 2018).
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

CALIBRATED_ON = 128
AT_ONCE = 8


def quantised(file: Path, pixels_PHWC: np.ndarray, seed: int = 0) -> None:
    """Replace the network `file`, of one input of (B, H, W, 3) uint8, by its int8 twin."""
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
        with TemporaryDirectory() as folder:
            plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
            quant_pre_process(str(file), str(plain), skip_symbolic_shape=True)
            quantize_static(
                str(plain),
                str(small),
                _Photos(pixels_PHWC, rows),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "GlobalAveragePool"],
            )
            file.write_bytes(small.read_bytes())
    finally:
        logger.setLevel(level)


class _Photos:
    """What onnxruntime calls a CalibrationDataReader: one feed after another, then None."""

    def __init__(self, pixels_PHWC: np.ndarray, rows: np.ndarray) -> None:
        self._feeds = self._made(pixels_PHWC, rows)

    def _made(self, pixels_PHWC: np.ndarray, rows: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(rows), AT_ONCE):
            yield {"photos": np.ascontiguousarray(pixels_PHWC[rows[start : start + AT_ONCE]])}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)
