"""Trained → ONNX + encoder: what evaluation, sync, publish, the server and MLflow open.

exports/<model>/0003-1a2b3c4d/   model.onnx  encoder.json  export.json
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from etalage.errors import ExportDamaged
from etalage.features.photo import PhotoEncoder
from etalage.models.recipe import Trained
from etalage.runtime.photos import DECIDES, PhotoEmbedder
from etalage.training.export_draft import ExportDraft

TOLERANCE = 2e-4
"""Largest difference of an embedding's component between torch and ONNX Runtime, both float32."""


def export(trained: Trained[Any], encoder: PhotoEncoder, folder: Path) -> Path:
    """Write the next `folder/NNNN-hash8` of a photo embedder, compared with the network before it gets its
    name.

    Raises ExportDamaged when ONNX Runtime's embeddings are not the network's.
    """
    assert trained.network is not None
    network = trained.network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with ExportDraft(trained, folder, "embedder", "photos", DECIDES) as draft:
        _write_onnx(network, encoder, draft.path / "model.onnx")
        (draft.path / "encoder.json").write_text(encoder.to_json(), encoding="utf-8")
        draft.tell(dimension=int(trained.config.dimension))
        _compare(network, draft.path, encoder)
        return draft.named()


def _sample(encoder: PhotoEncoder, count: int) -> np.ndarray:
    shape = (count, encoder.size, encoder.size, encoder.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _write_onnx(network: torch.nn.Module, encoder: PhotoEncoder, file: Path) -> None:
    with quiet():
        torch.onnx.export(
            network,
            (torch.from_numpy(_sample(encoder, 2)),),
            str(file),
            input_names=["photos"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _compare(network: torch.nn.Module, folder: Path, encoder: PhotoEncoder) -> None:
    pixels = _sample(encoder, 5)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    found = PhotoEmbedder.open(folder).embed_pixels(pixels)
    worst = float(np.abs(found - expected).max())
    if not worst < TOLERANCE:
        raise ExportDamaged(
            f"{folder}: the export's embeddings differ from the network's by {worst:.2e}, "
            f"allowed {TOLERANCE:.0e}; nothing was exported"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter tells at length of operators that we do not use."""
    names = ("torch.onnx", "onnxscript", "onnx_ir")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    for logger, _ in before:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
