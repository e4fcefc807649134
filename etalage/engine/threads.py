"""How many threads the numeric libraries use, and how they wait: said before any of them is imported."""

import os


def configure_threads(threads: int | None = None) -> None:
    """The one OpenMP policy, to be called before numpy, torch, faiss or onnxruntime are imported.

    threads: what BLAS and OpenMP may use; servers take one, so that requests do not wait for each
    other's threads. None: what there is.

    Waiting threads sleep instead of spinning: with another busy process on the machine, spinning made
    small training steps many times slower (docs/decisions/threads.md). What the user set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
