"""Opens an exported model: ONNX Runtime and numpy, no torch.

Evaluation, publish, sync, the server and the MLflow endpoint all embed through this class, so what
is measured is what is served.

    B batch   D embedding dimension   H W height and width in pixels   C channels
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from etalage.bundle.exports import check_format, check_hash
from etalage.bundle.sessions import Session
from etalage.errors import ExportDamaged
from etalage.features.photo import PhotoEncoder

FILES = ("model.onnx", "encoder.json", "export.json")
FORMAT = 1
BATCH = 256


def hash_model(folder: Path) -> str:
    """SHA-256 over network and encoder: two models with the same hash embed alike."""
    digest = hashlib.sha256()
    for name in ("model.onnx", "encoder.json"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


class PhotoEmbedder:
    """An embedder role's export: image files or pixels → embeddings."""

    def __init__(
        self, name: str, dimension: int, model_hash: str, encoder: PhotoEncoder, network: bytes, threads: int
    ) -> None:
        self.name = name
        self.dimension = dimension
        self.model_hash = model_hash
        self.encoder = encoder
        self._session = Session(network, threads)
        (_,) = self._session.inputs  # a network of several is no embedder of photos

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> "PhotoEmbedder":
        """Raises ExportDamaged: a file is missing, unreadable, or not the one that was exported."""
        for name in FILES:
            if not (folder / name).is_file():
                raise ExportDamaged(f"{folder}: {name} is missing; export the model again")
        try:
            facts = json.loads((folder / "export.json").read_text(encoding="utf-8"))
            name, dimension = str(facts["name"]), int(facts["dimension"])
            kept, version = str(facts["model_hash"]), int(facts["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise ExportDamaged(f"{folder / 'export.json'}: {error!r}; export the model again") from error
        check_format(folder, version, FORMAT)
        found = hash_model(folder)
        check_hash(folder, found, kept)
        encoder = PhotoEncoder.from_json(
            (folder / "encoder.json").read_text(encoding="utf-8"), where=str(folder / "encoder.json")
        )
        try:
            return cls(name, dimension, found, encoder, (folder / "model.onnx").read_bytes(), threads)
        except Exception as error:  # onnxruntime's own classes share no root but Exception
            raise ExportDamaged(f"{folder / 'model.onnx'}: cannot be opened: {error}") from error

    def embed(self, photos: Sequence[bytes]) -> np.ndarray:
        """(B,) image files → (B, D) float32, L2-normalised. Raises PhotoRefused with the position."""
        return self.embed_pixels(self.encoder.decode_all(photos))

    def embed_pixels(
        self, pixels_BHWC: np.ndarray, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """(B, H, W, C) uint8 → (B, D) float32, L2-normalised; works in batches of BATCH."""
        what = f"model {self.name}: embeddings"
        return self._session.rows(pixels_BHWC, self.dimension, BATCH, what, progress)
