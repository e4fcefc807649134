"""Opens an exported model: ONNX Runtime and numpy, no torch.

Evaluation, publish, sync, the server and the MLflow endpoint all embed through this class, so what
is measured is what is served.

    B batch   D embedding dimension   H W height and width in pixels   C channels
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_blocks import Given, Looked
from etalage.index import Index
from etalage.runtime.export_files import LookBy, check_format, check_hash, hash_export
from etalage.runtime.retrieving import Excluded, Hits, cosines, searched
from etalage.runtime.sessions import Session

DECIDES = ("encoder.json", "model.onnx")
"""What decides an embedding, and is hashed."""
FILES = (*DECIDES, "export.json")
BATCH, BATCH_PIXELS = 256, 2**21
"""Photos of a batch, at most, and their pixels: a wide network's activations of 256 large ones take
gigabytes."""


def _hash_of_format_1(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("model.onnx", "encoder.json"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


class PhotoEmbedder:
    """An embedder role's export: image files or pixels → embeddings."""

    def __init__(
        self,
        name: str,
        dimension: int,
        model_hash: str,
        encoder: PhotoEncoder,
        network: bytes,
        threads: int,
        folder: Path,
    ) -> None:
        self.name = name
        self.dimension = dimension
        self.model_hash = model_hash
        self.encoder = encoder
        self.folder = folder
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
        check_format(folder, version)
        found = _hash_of_format_1(folder) if version == 1 else hash_export(folder, DECIDES)
        check_hash(folder, found, kept)
        encoder = PhotoEncoder.from_json(
            (folder / "encoder.json").read_text(encoding="utf-8"), where=str(folder / "encoder.json")
        )
        try:
            return cls(name, dimension, found, encoder, (folder / "model.onnx").read_bytes(), threads, folder)
        except Exception as error:  # onnxruntime's own classes share no root but Exception
            raise ExportDamaged(f"{folder / 'model.onnx'}: cannot be opened: {error}") from error

    def embed(self, photos: Sequence[bytes]) -> np.ndarray:
        """(B,) image files → (B, D) float32, L2-normalised. Raises PhotoRefused with the position."""
        return self.embed_pixels(self.encoder.decode_all(photos))

    def embed_pixels(
        self, pixels_BHWC: np.ndarray, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """(B, H, W, C) uint8 → (B, D) float32, L2-normalised; works in batches."""
        what = f"model {self.name}: embeddings"
        batch = max(1, min(BATCH, BATCH_PIXELS // self.encoder.size**2))
        return self._session.rows(pixels_BHWC, self.dimension, batch, what, progress)

    def look(self, photos: Given) -> Looked:
        """The embeddings of some photos, files or pixels."""
        if isinstance(photos, np.ndarray):
            return Looked(self.embed_pixels(photos), np.arange(len(photos)), {})
        pixels, good, refused = self.encoder.decode_some(photos)
        return Looked(self.embed_pixels(pixels), good, refused)

    def shared(self) -> "LookBy":
        """`look`, as a worker does it."""
        return LookBy(PhotoEmbedder.open, self.folder.resolve(), self.model_hash)


@dataclass(frozen=True)
class PhotoModel:
    """A photo embedder of a bundle, what it made of the catalogue's photos, and the index of that."""

    embedder: PhotoEmbedder
    embeddings: np.ndarray
    """(N + 1, D) float32 of the bundle's items, zeros without a photo and for row 0."""
    index: Index
    per_category: int | None = None
    """How many items of each category are in the index; None: all that have a photo."""
    match: float | None = None
    """From this similarity on, two photos show the same kind of thing, says the evaluation; None: it
    calibrated no threshold."""

    @property
    def name(self) -> str:
        return self.embedder.name


class LookAlikeRetriever:
    """Photos like those of the items that the shopper acted on last."""

    RECENT = 5

    def __init__(self, model: PhotoModel) -> None:
        self.name = model.name
        self.embeddings = model.embeddings
        self.index = model.index
        self._there = np.zeros(len(model.embeddings), bool)
        self._there[model.index.rows] = True

    def knows(self, queries: Queries) -> np.ndarray:
        return np.bincount(queries.owners[self._there[queries.items]], minlength=len(queries)) > 0

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Hits:
        means = np.zeros((len(queries), self.embeddings.shape[1]), np.float32)
        for query in range(len(queries)):
            rows = queries.items[queries.starts[query] : queries.starts[query + 1]]
            rows = rows[self._there[rows]][-self.RECENT :]
            if len(rows):
                mean = np.asarray(self.embeddings[rows]).sum(axis=0)
                means[query] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        found = searched(self.index, self.embeddings, means, quota, allow, excluded)
        silent = ~self.knows(queries)
        found.rows[silent], found.scores[silent] = 0, -np.inf
        return found

    def votes(self, acts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(K, H) the cosine of the photos of an item and of an act's item."""
        return cosines(self.embeddings, rows, acts)
