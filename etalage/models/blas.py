"""BLAS with one thread, for results that depend on no number of threads."""

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Within it, BLAS has one thread, here as in a worker."""
    return _threads().limit(limits=1)
