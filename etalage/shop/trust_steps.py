"""`etalage trust`: the files of the shop's own models that may be run on this machine, by this user."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etalage.models.own import trust, trusted
from etalage.shop.workspace import Workspace

State = Literal["trusted", "new", "changed"]


@dataclass(frozen=True)
class OwnFile:
    """A file of a model of the shop's own, as it is now."""

    file: Path
    sha256: str
    role: str
    state: State
    """Whether just these bytes are trusted."""


def own_files(workspace: Workspace) -> list[OwnFile]:
    """The shop's own models. Raises ConfigError that names a file and what is wrong with it."""
    known = trusted(workspace.models.folder)
    found = []
    for source, about in workspace.models.sources():
        before, now = known.get(f"{source.name}.py"), source.sha256
        state: State = "new" if before is None else "trusted" if before == now else "changed"
        found.append(OwnFile(Path(source.file), now, about.role, state))
    return found


def trust_files(workspace: Workspace, files: list[OwnFile]) -> Path:
    """From now on these files may be run, as long as they are what they were when they were looked at; others
    of the folder may not. No files: none may. → where that is noted. Raises DataError."""
    return trust(workspace.models.folder, {one.file.name: one.sha256 for one in files})
