"""How much memory a worker may have, and what holds it to that."""

import sys

from etalage.errors import ConfigError


def require_enforceable() -> None:
    """Raises ConfigError where nothing would hold a process to its memory."""
    if sys.platform != "linux":
        raise ConfigError(
            f"[engine] memory: {sys.platform} holds no process to a limit of its memory, as Linux does; "
            "remove the setting"
        )


def limit_memory(size: int | None) -> None:
    """From now on this process gets a MemoryError where it would hold more than `size` bytes; None:
    as many as its system lets it.

    RLIMIT_DATA counts what is private and written; files that are mapped, and libraries, are not.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if size is None or hard != resource.RLIM_INFINITY:
        size = hard if size is None else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
