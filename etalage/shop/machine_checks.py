"""What `etalage doctor` finds of the machine: Python, packages, cores, memory, disk."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from etalage.engine.memory import available_memory
from etalage.errors import installing
from etalage.shop.findings import Finding

GIGABYTE = 2**30
LITTLE_MEMORY, LITTLE_DISK, NO_DISK = 2 * GIGABYTE, 2 * GIGABYTE, GIGABYTE // 10
"""Bytes beneath which there is a warning, or a problem."""
CORE = "core"
IMPORTED = {"numpy": "numpy", "pyarrow": "pyarrow", "deltalake": "deltalake", "onnxruntime": "onnxruntime",
            "faiss-cpu": "faiss", "torch": "torch"}  # fmt: skip
"""Packages with compiled parts, and what they are imported as."""
_REQUIREMENT = re.compile(r"^([\w.-]+)\s*(?:\[[^]]*\])?\s*([^;]*)(?:;(.*))?$")


def machine_findings(folder: Path, thorough: bool) -> Iterator[Finding]:
    """folder: where the shop is, or would be. thorough: import what has compiled parts."""
    on = f"{platform.system()} {platform.machine()}"
    yield Finding("python", "ok", f"Python {platform.python_version()}, {on}")
    yield from _packages()
    if thorough:
        yield from _imports()
    yield _cores()
    yield _memory()
    yield _disk("disk of the shop", folder)
    yield _disk("disk for temporary files", Path(tempfile.gettempdir()))


def _packages() -> Iterator[Finding]:
    """What Etalage itself needs, and each extra: complete, in part, or not there."""
    for extra, needed in _requirements().items():
        found = {name: _version(name) for name, _ in needed}
        missing = [name for name, there in found.items() if there is None]
        old = [
            f"{name} {found[name]} (needs {least})"
            for name, least in needed
            if found[name] is not None and _numbers(str(found[name])) < _numbers(least)
        ]
        subject = "packages" if extra == CORE else f"extra {extra}"
        said = ", ".join(f"{name} {there}" for name, there in found.items() if there is not None)
        how = "`pip install .` in the folder of Etalage's sources" if extra == CORE else installing(extra)
        if missing and (extra == CORE or len(missing) < len(found)):
            lacks = f"{', '.join(missing)} missing; {said}"
            yield Finding(subject, "problem" if extra == CORE else "warning", lacks, how)
        elif missing:
            yield Finding(subject, "ok", "not installed: only what needs it is missing", how)
        elif old:
            yield Finding(subject, "warning", f"too old: {', '.join(old)}", how)
        else:
            yield Finding(subject, "ok", said)


def _requirements() -> dict[str, list[tuple[str, str]]]:
    """Extra → the packages that it needs, and the least version of each."""
    found: dict[str, list[tuple[str, str]]] = {CORE: []}
    for line in requires("etalage") or ():
        matched = _REQUIREMENT.match(line)
        if matched is None or ("sys_platform" in (matched[3] or "") and sys.platform == "win32"):
            continue
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", matched[3] or "")
        least = re.search(r"[>=]=\s*([\w.]+)", matched[2])
        found.setdefault(extra[1] if extra else CORE, []).append((matched[1], least[1] if least else "0"))
    return {name: needed for name, needed in found.items() if name not in ("dev", "docs", "test")}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3])


def _imports() -> Iterator[Finding]:
    from importlib import import_module

    for name, module in IMPORTED.items():
        if _version(name) is None:
            continue
        try:
            import_module(module)
        except Exception as error:
            why = f"cannot be imported: {type(error).__name__}: {error}"
            yield Finding(f"import {module}", "problem", why, f"`pip install --force-reinstall {name}`")
        else:
            yield Finding(f"import {module}", "ok", f"{name} {_version(name)} works")


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    set_to = os.environ.get("OMP_NUM_THREADS")
    said = f"{cores} cores" if set_to is None else f"{cores} cores; OMP_NUM_THREADS = {set_to}"
    if set_to is not None and set_to.isdigit() and int(set_to) > cores:
        return Finding("cores", "warning", said, "unset it: more threads than cores wait for each other")
    return Finding("cores", "ok", said)


def _memory() -> Finding:
    there = available_memory()
    if there is None:
        return Finding("memory", "ok", "how much is free cannot be told on this system")
    said = f"{there / GIGABYTE:.1f} GB free for this process"
    if there < LITTLE_MEMORY:
        return Finding("memory", "warning", said, "a model whose `stream` is on trains within `buffer`")
    return Finding("memory", "ok", said)


def _disk(subject: str, folder: Path) -> Finding:
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    said = f"{there}: {free / GIGABYTE:.1f} GB free"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(
            subject, "problem", f"{there}: cannot be written: {error.strerror}", "allow writing there"
        )
    if free < LITTLE_DISK:
        return Finding(subject, "problem" if free < NO_DISK else "warning", said, "make room")
    return Finding(subject, "ok", f"{said}, can be written")
