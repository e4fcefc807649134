"""What lies beneath IvfFlatIndex: centroids trained, masks in faiss' form, files read and checked."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from etalage.errors import IndexMismatch
from etalage.index.contract import Header


class Selector:
    """An allow-mask in faiss' form; keeps the bits alive as long as faiss looks at them."""

    def __init__(self, allow: np.ndarray) -> None:
        self._bits = np.packbits(allow, bitorder="little")
        self.inner = faiss.IDSelectorBitmap(len(self._bits), faiss.swig_ptr(self._bits))


def train_centroids(embeddings: np.ndarray, lists: int, seed: int) -> np.ndarray:
    """(lists, D) float32 centroids of unit length, by k-means on inner products."""
    count, dimension = embeddings.shape
    if count == 0:
        return np.zeros((lists, dimension), np.float32)
    if lists == 1:
        return embeddings[:1].copy()
    settings = faiss.ClusteringParameters()
    settings.spherical = True
    settings.seed = seed
    settings.niter = 10
    settings.min_points_per_centroid = 1  # the caller decides; faiss would print a warning
    settings.max_points_per_centroid = 64
    training = faiss.Clustering(dimension, lists, settings)
    training.train(embeddings, faiss.IndexFlatIP(dimension))
    return np.asarray(faiss.vector_to_array(training.centroids)).reshape(lists, dimension)


def read_inner(file: Path, header: Header) -> Any:
    """faiss' own index in `file`. Raises IndexMismatch: unreadable, or not what the header says."""
    try:
        inner: Any = faiss.read_index(str(file))  # comes back as its own class
    except (RuntimeError, MemoryError) as error:  # faiss raises these two for whatever it cannot read
        reason = str(error).splitlines()[-1] if str(error) else "out of memory"
        raise IndexMismatch(f"{file}: cannot be read ({reason}); publish again") from error
    is_ours = isinstance(inner, faiss.IndexIVFFlat) and inner.metric_type == faiss.METRIC_INNER_PRODUCT
    if not is_ours or not isinstance(faiss.downcast_index(inner.quantizer), faiss.IndexFlat):
        raise IndexMismatch(f"{file}: not an IVF-Flat index of inner products; publish again")
    real = {"dimension": inner.d, "rows": inner.ntotal, "lists": inner.nlist}
    for name, value in real.items():
        if getattr(header, name) != value:
            raise IndexMismatch(
                f"{file}: {name} is {value}, but index.json says {getattr(header, name)}; publish again"
            )
    if inner.quantizer.ntotal != inner.nlist or inner.quantizer.d != inner.d:
        raise IndexMismatch(f"{file}: its centroids do not fit its lists; publish again")
    return inner


def list_content(inner: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(M,) rows and (M, D) embeddings of one list, copied."""
    size = inner.invlists.list_size(number)
    if size == 0:
        return np.empty(0, np.int64), np.empty((0, inner.d), np.float32)
    ids = faiss.rev_swig_ptr(inner.invlists.get_ids(number), size).copy()
    codes = faiss.rev_swig_ptr(inner.invlists.get_codes(number), size * inner.code_size)
    return ids, codes.view(np.float32).reshape(size, inner.d).copy()
