"""The shop's own models: which of their files may be run on this machine by this user (`etalage trust`), and
exports whose file is gone."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etalage.errors import NothingToPublish
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


@dataclass(frozen=True)
class OrphanExport:
    """The newest export of a model that cannot be named any more, since its file is gone."""

    name: str
    role: str
    export: Path
    file: Path | None
    """Where its file was; None: it was a model of Etalage's, of another version."""

    @property
    def sentence(self) -> str:
        """What is wrong, where, and what to do."""
        why = (
            f"its file {self.file} is gone: put it back"
            if self.file is not None
            else "this Etalage has no model of that name: install the version that trained it"
        )
        return (
            f"{self.name} is neither evaluated nor published: {why}, or remove its exports, "
            f"{self.export.parent}"
        )


def orphan_exports(workspace: Workspace) -> list[OrphanExport]:
    """The trained models that no command takes for a model any more; every command that lists models says
    so."""
    from etalage.models.own import SOURCE
    from etalage.runtime.export_files import export_role, newest_export, read_facts

    exports = workspace.folder / "exports"
    known = {*workspace.models.listed(), *workspace.models.files()}
    found = []
    for folder in sorted(exports.iterdir()) if exports.is_dir() else ():
        if folder.name in known or not folder.is_dir():
            continue
        with suppress(NothingToPublish, OSError, ValueError):
            export = newest_export(folder)
            facts = read_facts(export)
            own = workspace.models.folder / f"{folder.name}.py" if SOURCE in facts else None
            found.append(OrphanExport(folder.name, export_role(facts), export, own))
    return found
