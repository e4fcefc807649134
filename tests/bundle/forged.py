"""Bundles that somebody changed and then made look right again: hashes, id and folder name."""

import json
from pathlib import Path
from typing import Any

from etalage.bundle.manifest import MANIFEST, identify
from etalage.lake.durable_files import hash_file


def writable(folder: Path) -> None:
    """Files of a bundle are read-only; tests that damage them are not."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(0o644)


def rehash(folder: Path, **changed: Any) -> Path:
    """List the files as they are now, change fields of the manifest, fit id and folder name to it.

    The folder's new path.
    """
    file = folder / MANIFEST
    content = json.loads(file.read_bytes())
    content.update(changed)
    found = sorted(one for one in folder.rglob("*") if one.is_file() and one != file)
    content["files"] = {}
    for one in found:
        content["files"][one.relative_to(folder).as_posix()] = hash_file(one)._asdict()
    content["id"] = identify(content)
    file.write_text(json.dumps(content))
    return folder.rename(folder.with_name(content["id"]))
