"""Runs one exported network with ONNX Runtime."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from etalage.errors import ExportDamaged


class Session:
    """An ONNX network with named inputs. Threads may share it."""

    def __init__(self, network: bytes, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning pool steals the core from whoever shares it, and gains nothing at our sizes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.inputs: tuple[str, ...] = tuple(one.name for one in self._session.get_inputs())

    @classmethod
    def open(cls, file: Path, threads: int = 1) -> "Session":
        """Raises ExportDamaged."""
        try:
            return cls(file.read_bytes(), threads)
        except Exception as error:  # onnxruntime's own classes share no root but Exception
            raise ExportDamaged(f"{file}: cannot be opened: {error}; export the model again") from error

    def run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the network on inputs by name; return every output."""
        found: list[np.ndarray] = self._session.run(None, dict(feed))
        return found

    def rows(
        self,
        given: np.ndarray,
        width: int,
        batch: int,
        what: str,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """(N, …) → (N, width) float32, for a network with one input and one output, `batch` rows at a time.

        Raises ExportDamaged: `what` has another shape. progress: called with the number of rows of each
        batch.
        """
        (name,) = self.inputs
        made = np.empty((len(given), width), dtype=np.float32)
        for start in range(0, len(given), batch):
            part = np.ascontiguousarray(given[start : start + batch])
            (found,) = self.run({name: part})
            if found.shape != (len(part), width):
                raise ExportDamaged(f"{what} of shape {found.shape}, expected {width} wide")
            made[start : start + len(part)] = found
            if progress is not None:
                progress(len(part))
        return made
