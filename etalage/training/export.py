"""Trained → ONNX + encoder: what evaluation, sync, publish, the server and MLflow open.

exports/<model>/0003-1a2b3c4d/   model.onnx  encoder.json  export.json
"""

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from etalage.errors import ExportDamaged, NothingToPublish
from etalage.features.photo import PhotoEncoder
from etalage.models.recipe import Role, Trained
from etalage.runtime.export_files import FACTS, FORMAT, ModelKind, hash_export, newest_export, read_facts
from etalage.runtime.photos import DECIDES, PhotoEmbedder

TOLERANCE = 2e-4
"""Largest difference of an embedding's component between torch and ONNX Runtime, both float32."""

_MADE_OF = ("model_hash", "data", "tables", "inputs", "config")
"""Facts of an export that say what its model is, of what it was made, and how."""


class ExportDraft:
    """A folder that becomes the next export of a model: its files are written, what is said of them is told,
    and when it was opened and compared it gets its name. What fails on the way leaves no export behind."""

    def __init__(
        self,
        trained: Trained[Any],
        folder: Path,
        role: Role,
        kind: ModelKind,
        hashed: Sequence[str] | None = None,
    ) -> None:
        """folder: of the model's exports. hashed: the files that decide an answer; None: all."""
        self._folder, self._hashed = folder, hashed
        self.path = folder / f".draft-{os.getpid()}"
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        self._facts: dict[str, Any] = {
            "format": FORMAT,
            "name": trained.recipe,
            "role": role,
            "kind": kind,
            "config": trained.config.model_dump(mode="json"),
            "metrics": trained.metrics,
            "history": trained.history,
            "seconds": round(trained.seconds, 3),
            "cpu_seconds": round(trained.cpu_seconds, 3),
            "run": trained.run.name,
            **trained.facts,
        }

    def __enter__(self) -> "ExportDraft":
        return self

    def __exit__(self, *raised: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def tell(self, **facts: Any) -> None:
        """Write export.json about the files as they are now, with these facts and those told before."""
        self._facts |= facts
        self._facts["model_hash"] = hash_export(self.path, self._hashed)
        (self.path / FACTS).write_text(json.dumps(self._facts, indent=1, sort_keys=True), encoding="utf-8")

    def named(self) -> Path:
        """The next `folder/NNNN-hash8`; or the newest export, if it is this very model."""
        if (same := _same_model(self._folder, self._facts)) is not None:
            return same
        target = self._folder / f"{_next_number(self._folder):04d}-{self._facts['model_hash'][:8]}"
        self.path.rename(target)
        return target


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


def _same_model(folder: Path, facts: Mapping[str, Any]) -> Path | None:
    """The newest export, if it is of this very model, made of the same by the same settings: its evaluation
    then still holds. Counts of other data may be the same numbers, and are judged on those."""
    try:
        newest = newest_export(folder)
    except NothingToPublish:
        return None
    known = read_facts(newest)
    return newest if all(known.get(n) == facts.get(n) for n in _MADE_OF) else None


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
