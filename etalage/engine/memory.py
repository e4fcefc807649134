"""How much memory a worker may have, what holds it to that, and how much there is for this process."""

import sys
from collections.abc import Iterator
from pathlib import Path

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


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take: what the machine has free, its control groups leave it, and its
    own limits allow. None: the system does not say.

    root: where `proc` and `sys` are, for tests.
    """
    return min([*_of_machine(root), *_of_groups(root), *_of_limits(root)], default=None)


def _of_machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) << 10


def _of_groups(root: Path) -> Iterator[int]:
    """What the groups of this process, and all above them, leave; files in the cache are given up."""
    groups = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            place, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            place = groups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        top = place
        place = place / path.strip("/")
        while True:
            limit, used = (_number(place / name) for name in names[:2])
            if limit is not None and used is not None:
                stat = dict(line.split()[:2] for line in _lines(place / "memory.stat"))
                yield max(0, limit - used + int(stat.get(names[2], 0)))
            if place == top:
                break
            place = place.parent


def _of_limits(root: Path) -> Iterator[int]:
    """What the limits of the process itself leave: of its data, and of its addresses."""
    try:
        import resource
    except ModuleNotFoundError:  # there is none on Windows
        return
    status = {
        name: int(value.split()[0]) << 10
        for name, _, value in (line.partition(":") for line in _lines(root / "proc/self/status"))
        if name in ("VmData", "VmSize")
    }
    for name, kind in (("VmData", resource.RLIMIT_DATA), ("VmSize", resource.RLIMIT_AS)):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and name in status:
            yield max(0, limit - status[name])


def _number(file: Path) -> int | None:
    """None: there is none, or it says `max`."""
    text = "".join(_lines(file)).strip()
    return int(text) if text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
