"""The files of a bundle, by name, and how they are written and read: Arrow IPC and npy, no pickle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from etalage.errors import BundleDamaged

ITEMS, PHOTOS, EMBEDDINGS, SELF_CHECK = "items.arrow", "photos.arrow", "embeddings.npy", "selfcheck.json"
MODELS = "models"
FUNNEL, INDEXES, USERS, USER_EMBEDDINGS = "funnel.json", "indexes", "users.arrow", "users.npy"


def write_arrow(table: pa.Table) -> Callable[[BinaryIO], None]:
    """A writer of one Arrow IPC file with one record batch, so that readers can map it whole."""

    def write(sink: BinaryIO) -> None:
        whole = table.combine_chunks()
        with pa.ipc.new_file(sink, whole.schema) as file:
            file.write_table(whole, max_chunksize=max(1, whole.num_rows))

    return write


def write_npy(array: np.ndarray) -> Callable[[BinaryIO], None]:
    """A writer of one npy file, little-endian float32, no pickle."""
    plain = np.ascontiguousarray(array, dtype="<f4")
    return lambda sink: np.lib.format.write_array(sink, plain, allow_pickle=False)


def read_arrow(file: Path) -> pa.Table:
    """Map an Arrow file of the bundle and check it. Raises BundleDamaged."""
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate()
    except (OSError, pa.ArrowException) as error:
        raise BundleDamaged(f"{file} cannot be read: {error}; publish again") from error
    return table


def read_embeddings(folder: Path, name: str = EMBEDDINGS) -> np.ndarray:
    """Map the (N, D) float32 embeddings of the bundle in `folder`. Raises BundleDamaged."""
    file = folder / name
    try:
        array: Any = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        try:  # an array without elements cannot be mapped
            array = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BundleDamaged(f"{file} cannot be read: {error}; publish again") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype != np.dtype("<f4"):
        raise BundleDamaged(f"{file} is no (N, D) float32 array; publish again")
    return np.asarray(array)
