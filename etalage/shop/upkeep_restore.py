"""`etalage restore`: a shop out of a backup, every file checked, under its name only when it is whole.

A backup is older than the erasures that came after it. Those that later backups in the same folder know, and
those of a shop that is named, are made again before the restored shop gets its name.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from etalage.errors import ConfigError, DataError
from etalage.lake.durable_files import Written, hash_file, hash_stream, sync_folder, write_durably
from etalage.lake.erasures import FILE as ERASED
from etalage.lake.erasures import Erasure, Erasures, Known
from etalage.shop import live_steps
from etalage.shop.progress import Bar, silent
from etalage.shop.upkeep_archive import (
    MANIFEST,
    SHOP,
    BackupManifest,
    backups_in,
    in_our_words,
    is_archive,
    read_backup,
)
from etalage.shop.workspace import Workspace, is_shop

_FROM = "from"


@dataclass(frozen=True)
class Restored:
    """What was restored, or checked. `folder`: the shop's; None: it was only checked."""

    backup: Path
    folder: Path | None
    made_at: str
    shop: str
    files: int
    bytes: int
    tables: dict[str, int]
    bundle: str | None
    erased_again: int
    """Shoppers who were erased after the backup was made, and whose rows it had."""
    erased_until: str | None
    """Where the newest erasures that were looked at come from; None: nothing later than the backup."""
    notes: tuple[str, ...]


def check(source: str | Path, name: str | None = None, bar: Bar = silent) -> Restored:
    """Read a whole backup, and compare every file with its manifest. Raises DataError: it is none, or it is
    damaged; ConfigError."""
    backup = chosen(Path(source), name)
    with in_our_words(backup, "nothing was restored"), bar(f"check {backup.name}", None) as meter:
        found: dict[str, Written] = {}

        def take(name: str, opened: IO[bytes], mode: int, expected: Written | None) -> None:
            found[name] = hash_stream(opened, None)
            meter(1)

        manifest = read_backup(backup, take)
        require_same(backup, manifest, found)
    return _restored(backup, None, manifest, 0, None)


def restore(
    source: str | Path,
    folder: str | Path,
    name: str | None = None,
    erased: str | Path | None = None,
    bar: Bar = silent,
) -> Restored:
    """Make the shop in `folder`, which must not be there, out of a backup.

    name: of the backup in a folder of several; None: the newest. erased: a shop, or the file erased.json of
    one, that knows of later erasures. After a kill, call it again. Raises ConfigError: something is in
    `folder`; DataError: the backup is damaged; the disk: then there is no shop in `folder`.
    """
    folder, backup = Path(folder).resolve(), chosen(Path(source), name)
    _require_free(folder)
    later, whence = later_erasures(backup, None if erased is None else Path(erased))
    staging = folder.parent / f".{folder.name}.restoring"
    with in_our_words(folder, "no shop was made"), bar(f"restore {backup.name}", None) as meter:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _begin(staging, backup)
        taking = _Taking(staging / SHOP, meter)
        manifest = read_backup(backup, taking)
        require_same(backup, manifest, taking.found)
        taking.finish(manifest)
        again = erase_again(Workspace(staging / SHOP), later)
        for one in sorted((staging / SHOP).rglob("*")):
            if one.is_dir():
                sync_folder(one)
        sync_folder(staging / SHOP)
        if folder.is_dir():
            folder.rmdir()
        (staging / SHOP).rename(folder)
        sync_folder(folder.parent)
        shutil.rmtree(staging)
    return _restored(backup, folder, manifest, again, whence)


def _restored(
    backup: Path, folder: Path | None, manifest: BackupManifest, again: int, whence: str | None
) -> Restored:
    return Restored(
        backup, folder, manifest.made_at, manifest.shop, len(manifest.files), manifest.total_bytes,
        dict(manifest.tables), manifest.bundle, again, whence, manifest.notes,
    )  # fmt: skip


def chosen(source: Path, name: str | None) -> Path:
    """The backup that is meant. Raises ConfigError: there is none."""
    if source.is_file():
        if not is_archive(source):
            raise ConfigError(
                f"{source}: is no backup: its name ends in none of .tar.zst, .tar.gz, .tgz, .tar"
            )
        if name is not None:
            raise ConfigError(f"--backup {name}: {source} holds one backup; leave --backup out")
        return source
    if (source / MANIFEST).is_file() and name is None:
        return source
    found = {one.name: one for one in backups_in(source)}
    if not found:
        what = "holds no backup" if source.is_dir() else "no such file or folder"
        raise ConfigError(f"{source}: {what}; `etalage backup {source} --shop SHOP` makes one")
    if name is None:
        return list(found.values())[-1]
    if name not in found:
        raise ConfigError(f"{source}: has no backup {name!r}; it has {', '.join(found)}")
    return found[name]


def _require_free(folder: Path) -> None:
    if is_shop(folder):
        raise ConfigError(
            f"{folder}: is a shop, and nothing is restored over one; name a new folder, or move that one away"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there, and holds something; name a new folder for the restored shop")
    if folder == Path.cwd():
        raise ConfigError(
            f"{folder}: is the folder that you are in, and a shop gets its folder only when it is whole; "
            "name a new one, such as `--shop restored`"
        )


def require_same(backup: Path, manifest: BackupManifest, found: dict[str, Written]) -> None:
    """Raises DataError: a file of the backup is missing, or is not what was copied."""
    for name, facts in manifest.files.items():
        if found.get(name) == facts:
            continue
        why = "is missing" if name not in found else "is not what was copied (its SHA-256 differs)"
        raise DataError(f"{backup}: {name} {why}: this backup is damaged; restore another one")


def _begin(staging: Path, backup: Path) -> None:
    """What a killed restore of the same backup left is used; of another one it goes."""
    facts = (backup / MANIFEST if backup.is_dir() else backup).stat()
    mark = f"{backup.resolve()} {facts.st_size} {facts.st_mtime_ns}".encode()
    note = staging / _FROM
    if staging.exists() and (not note.is_file() or note.read_bytes() != mark):
        shutil.rmtree(staging)
    (staging / SHOP).mkdir(parents=True, exist_ok=True)
    write_durably(note, mark)


class _Taking:
    """Takes the files of a backup into a folder."""

    def __init__(self, folder: Path, meter: Callable[[int], None]) -> None:
        self.found: dict[str, Written] = {}
        self._folder, self._meter = folder, meter

    def __call__(self, name: str, opened: IO[bytes], mode: int, expected: Written | None) -> None:
        file = self._folder / name
        self._meter(1)
        if expected is not None and file.is_file() and hash_file(file) == expected:
            self.found[name] = expected  # taken before a kill
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.partial")
        draft.unlink(missing_ok=True)
        with draft.open("xb") as out:
            self.found[name] = hash_stream(opened, out)
            out.flush()
            os.fsync(out.fileno())
        draft.chmod(mode | 0o400)
        draft.replace(file)

    def finish(self, manifest: BackupManifest) -> None:
        """Remove what the manifest does not name."""
        for file in list(self._folder.rglob("*")):
            if not file.is_dir() and file.relative_to(self._folder).as_posix() not in manifest.files:
                file.unlink()


# -- erasures ------------------------------------------------------------------------------------


def later_erasures(backup: Path, erased: Path | None) -> tuple[Known, str | None]:
    """Who was erased by what the backups made after this one know, and by what `erased` names, and which of
    these is the newest. Raises ConfigError: it names no shop; TableDamaged."""
    known: dict[str, Erasure] = {}
    whence: str | None = None
    beside = backups_in(backup.parent) if backup.is_dir() else []
    folders = [one / SHOP / "tables" for one in beside if one.name > backup.name]
    if folders:
        whence = f"the backup {folders[-1].parent.parent.name}"
    if erased is not None:
        folder = erased.parent if erased.name == ERASED else erased / "tables"
        if not folder.is_dir():
            raise ConfigError(f"--erased {erased}: is neither a shop nor a file {ERASED}")
        folders.append(folder)
        whence = str(erased)
    for one in folders:
        known = merged(known, Erasures(one).known())
    return known, whence


def merged(known: Known, later: Known) -> dict[str, Erasure]:
    """Both, and of each shopper the later erasure."""
    found = dict(known)
    for name, one in later.items():
        if name not in found or one.at >= found[name].at:
            found[name] = one
    return found


def erase_again(workspace: Workspace, later: Known) -> int:
    """Erase those of `later` of whom the restored tables may have rows of before; how many had some."""
    from etalage.lake.erasures import digest

    erasures = workspace.lake.erasures
    before = erasures.known()
    fresh = {name for name, one in later.items() if name not in before or one.at > before[name].at}
    if not fresh:
        return 0
    erasures.hold(merged(before, {name: Erasure(later[name].at) for name in fresh}))
    again = [one for one in live_steps.shoppers(workspace) if digest(one) in fresh]
    for user in again:
        live_steps.delete_rows(workspace, user)
    return len(again)
