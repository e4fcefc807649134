"""Trained → ONNX + encoder: what evaluation, sync, publish, the server and MLflow open.

exports/<model>/0003-1a2b3c4d/   model.onnx  encoder.json  export.json
"""

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from etalage.errors import ExportDamaged, NothingToPublish
from etalage.features.photo import PhotoEncoder
from etalage.models.recipe import Trained
from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.photos import FORMAT, PhotoEmbedder, hash_model

TOLERANCE = 2e-4
"""Largest difference of an embedding's component between torch and ONNX Runtime, both float32."""

_MADE_OF = ("data", "tables", "inputs", "config")
"""Facts of an export that say of what, and how, its model was made."""


def export(trained: Trained[Any], encoder: PhotoEncoder, folder: Path) -> Path:
    """Write the next `folder/NNNN-hash8`, opened and compared with the network before it gets its name.

    Raises ExportDamaged when ONNX Runtime's embeddings are not the network's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".draft-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    assert trained.network is not None
    network = trained.network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    _write_onnx(network, encoder, draft / "model.onnx")
    (draft / "encoder.json").write_text(encoder.to_json(), encoding="utf-8")
    facts = {
        "format": FORMAT,
        "name": trained.recipe,
        "role": "embedder",
        "dimension": int(trained.config.dimension),
        "model_hash": hash_model(draft),
        "config": trained.config.model_dump(mode="json"),
        "metrics": trained.metrics,
        "seconds": round(trained.seconds, 3),
        "run": trained.run.name,
        **trained.facts,
    }
    (draft / "export.json").write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
    _compare(network, draft, encoder)
    return named(draft, folder, str(facts["model_hash"]))


def named(draft: Path, folder: Path, model_hash: str) -> Path:
    """A finished export under its name, the next `folder/NNNN-hash8`; or the newest, if it is this model."""
    if (same := _same_model(folder, model_hash, read_facts(draft))) is not None:
        shutil.rmtree(draft)
        return same
    target = folder / f"{_next_number(folder):04d}-{model_hash[:8]}"
    draft.rename(target)
    return target


def _same_model(folder: Path, model_hash: str, facts: Mapping[str, Any]) -> Path | None:
    """The newest export, if it is of this very model, made of the same by the same settings: its evaluation
    then still holds. Counts of other data may be the same numbers, and are judged on those."""
    try:
        newest = newest_export(folder)
    except NothingToPublish:
        return None
    known = read_facts(newest)
    same = known.get("model_hash") == model_hash and all(known.get(n) == facts.get(n) for n in _MADE_OF)
    return newest if same else None


def _next_number(folder: Path) -> int:
    taken = [int(m[1]) for p in folder.iterdir() if (m := re.match(r"(\d+)-", p.name))]
    return max(taken, default=0) + 1


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
