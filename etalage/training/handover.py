"""What the first worker hands to the others: by a file that all of them map, so that a gigabyte of photos
lies in memory once more, however many they are.

Pickle 5 with its buffers beside it (PEP 574). The files are of this run alone and are gone when it ends.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

_ALIGNED = 64


def hand_over(given: Any, folder: Path) -> None:
    """Write `given` to two files in `folder`, the large arrays as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    (folder / "handed.pickle").write_bytes(pickle.dumps(given, protocol=5, buffer_callback=buffers.append))
    sizes = []
    with (folder / "handed.bin").open("wb") as file:
        for buffer in buffers:
            with buffer.raw() as raw:
                file.write(raw)
                file.write(b"\0" * (-raw.nbytes % _ALIGNED))
                sizes.append(raw.nbytes)
    np.save(folder / "handed.npy", np.array(sizes, dtype=np.int64))


def handed(folder: Path) -> Any:
    """What was handed over, a moment ago by our own; writing to its arrays changes nobody else's."""
    sizes = np.load(folder / "handed.npy")
    file = folder / "handed.bin"
    whole = np.memmap(file, np.uint8, "c") if file.stat().st_size else np.empty(0, np.uint8)
    ends = np.cumsum(sizes + -sizes % _ALIGNED)
    buffers = [whole[end - size - -size % _ALIGNED :][:size] for end, size in zip(ends, sizes, strict=True)]
    return pickle.loads((folder / "handed.pickle").read_bytes(), buffers=buffers)  # noqa: S301
