"""What a backup is on disk: a manifest, and the shop's files, in a folder or in one file.

    TARGET/2026-11-30T08-02-10Z/manifest.json   of one backup, written last: a folder without it is none
                               /shop/…          the shop's files
    TARGET/.partial/                            one that is being made; the same command goes on with it

    TARGET.tar.zst, .tar.gz, .tar               shop/…, and manifest.json as the last member

The manifest has the SHA-256 and the length of every file, and a hash of itself.
"""

import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from etalage.errors import DataError
from etalage.lake.durable_files import Written, hash_file, hash_stream, sync_folder, write_durably

FORMAT = 1
MANIFEST, SHOP, PARTIAL, LOCK = "manifest.json", "shop", ".partial", ".lock"
SUFFIXES = (".tar.zst", ".tar.gz", ".tgz", ".tar")
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")
_LARGEST = 1 << 30
"""Bytes of a manifest, which is read into memory: of some five million files."""


@dataclass(frozen=True)
class BackupManifest:
    """What a backup says of itself. `tables`: versions; `files`: path beneath the shop → what is in it."""

    made_at: str
    shop: str
    etalage: str
    tables: Mapping[str, int]
    bundle: str | None
    files: Mapping[str, Written]
    notes: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def total_bytes(self) -> int:
        return sum(one.bytes for one in self.files.values())

    def to_json(self) -> bytes:
        """The bytes of manifest.json."""
        content = {
            "format": self.format,
            "made_at": self.made_at,
            "shop": self.shop,
            "etalage": self.etalage,
            "tables": dict(self.tables),
            "bundle": self.bundle,
            "notes": list(self.notes),
            "files": {name: [one.sha256, one.bytes] for name, one in sorted(self.files.items())},
        }
        return json.dumps({**content, "sha256": _hash(content)}, indent=1).encode() + b"\n"


def manifest_of(content: bytes, where: str) -> BackupManifest:
    """Raises DataError: it is no manifest, was changed, or is of a later format."""
    try:
        said = json.loads(content)
        kept = said.pop("sha256")
        if said["format"] > FORMAT:
            raise DataError(
                f"{where}: format {said['format']}; this Etalage reads up to {FORMAT}: upgrade it"
            )
        files = {str(name): Written(str(sha), int(size)) for name, (sha, size) in said["files"].items()}
        found = BackupManifest(
            said["made_at"], said["shop"], said["etalage"], said["tables"], said["bundle"], files,
            tuple(said["notes"]), said["format"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where}: is not the manifest of a backup ({error!r}); use another backup"
        ) from error
    if _hash(said) != kept:
        raise DataError(f"{where}: was changed: it does not fit its own hash; use another backup")
    for name in files:
        require_inside(name, where)
    return found


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require_inside(name: str, where: str) -> None:
    """Raises DataError: a path that leads out of the shop's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or "\\" in name:
        raise DataError(
            f"{where}: holds the path {name!r}, which leads elsewhere; it is no backup of Etalage"
        )


@contextmanager
def in_our_words(where: Path, still: str) -> Iterator[None]:
    """Turn an OSError inside into a DataError that says what failed, and what is `still` true."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or where}: {error.strerror or error}; {still}. Put that right, and run it "
            "again: what was copied is used"
        ) from error


# -- writing -------------------------------------------------------------------------------------


class Writer(Protocol):
    """Where the files of a backup go."""

    linked: int
    """Files that an earlier backup has, and that cost no space."""
    copied: int
    """Bytes that were written."""

    def add(self, name: str, opened: IO[bytes], size: int, facts: os.stat_result) -> Written:
        """Take in the first `size` bytes of what is opened, as the file of which the `facts` are: mode and
        time. Raises OSError, DataError: it is shorter."""
        ...

    def finish(self, manifest: BackupManifest) -> Path:
        """Make it a backup → where it is. Raises OSError."""
        ...


def is_archive(target: Path) -> bool:
    """Whether a backup there is one file."""
    return target.name.lower().endswith(SUFFIXES)


@contextmanager
def written(target: Path) -> Iterator[Writer]:
    """A backup under way; only `finish` makes it one. Raises DataError: the target is something else, or
    somebody is writing there."""
    if is_archive(target):
        with _tar_written(target) as tar:
            yield tar
        return
    _require_backups(target)
    target.mkdir(parents=True, exist_ok=True)
    with (target / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{target}: another backup is being made there; wait for it to end") from error
        yield _FolderWriter(target)


def _require_backups(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise DataError(
            f"{target}: is a file; name a folder, or a file that ends in one of {', '.join(SUFFIXES)}"
        )
    if not target.is_dir() or backups_in(target):
        return
    if left := [one.name for one in target.iterdir() if one.name not in (PARTIAL, LOCK)]:
        raise DataError(
            f"{target}: holds other things ({left[0]}) and no backup; name an empty or a new folder"
        )


def backups_in(folder: Path) -> list[Path]:
    """The backups in a folder, oldest first."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [one for one in entries if _NAME.match(one.name) and (one / MANIFEST).is_file()]


class _FolderWriter:
    def __init__(self, target: Path) -> None:
        self.linked = self.copied = 0
        self._target, self._partial = target, target / PARTIAL
        self._partial.mkdir(exist_ok=True)
        self._taken: set[Path] = set()
        before = backups_in(target)
        self._before = None if not before else before[-1]
        self._known = {} if self._before is None else read_manifest(self._before).files

    def add(self, name: str, opened: IO[bytes], size: int, facts: os.stat_result) -> Written:
        file = self._partial / SHOP / name
        file.parent.mkdir(parents=True, exist_ok=True)
        self._taken.add(file)
        for there, link in ((file, False), (self._earlier(name, size), True)):
            if there is not None and (found := _same(there, opened, size)) is not None:
                if link:
                    self._link(there, file)
                return found
        draft = file.with_name(f".{file.name}.partial")
        draft.unlink(missing_ok=True)
        with draft.open("xb") as out:
            found = hash_stream(_Whole(opened, size, name), out)
            out.flush()
            os.fsync(out.fileno())
        draft.chmod(facts.st_mode & 0o777 | 0o400)
        os.utime(draft, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        draft.replace(file)
        self.copied += found.bytes
        return found

    def _earlier(self, name: str, size: int) -> Path | None:
        known = self._known.get(name)
        return (
            None
            if known is None or known.bytes != size or self._before is None
            else self._before / SHOP / name
        )

    def _link(self, there: Path, file: Path) -> None:
        file.unlink(missing_ok=True)
        try:
            os.link(there, file)
            self.linked += 1
        except OSError:  # a file system without hard links
            shutil.copy2(there, file)
            self.copied += there.stat().st_size

    def finish(self, manifest: BackupManifest) -> Path:
        shop = self._partial / SHOP
        for file in list(shop.rglob("*")):  # of one that was killed, and is no more in the shop
            if not file.is_dir() and file not in self._taken:
                file.unlink()
        for folder in sorted((one for one in shop.rglob("*") if one.is_dir()), reverse=True):
            if any(folder.iterdir()):
                sync_folder(folder)
            else:
                folder.rmdir()
        write_durably(self._partial / MANIFEST, manifest.to_json())
        sync_folder(self._partial)
        final = plain = self._target / manifest.made_at.replace(":", "-")
        number = 1
        while final.exists():  # two in one second
            number += 1
            final = plain.with_name(f"{plain.name}-{number}")
        self._partial.rename(final)
        sync_folder(self._target)
        return final


def _same(there: Path, opened: IO[bytes], size: int) -> Written | None:
    """What both files hold, where that is the same."""
    try:
        if there.is_symlink() or there.stat().st_size != size:
            return None
        found = hash_file(there)
    except OSError:
        return None
    try:
        return found if hash_stream(_Whole(opened, size, there.name)) == found else None
    finally:
        opened.seek(0)


@contextmanager
def _tar_written(target: Path) -> Iterator[Writer]:
    if target.exists():
        raise DataError(f"{target}: is there already, and no backup is written over; name another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{target}: another backup is being made there; wait for it to end") from error
        try:
            with _sink(partial) as sink, tarfile.open(fileobj=sink, mode="w|") as tar:
                writer = _TarWriter(tar, target)
                yield writer
            if writer.finished:
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
                partial.rename(target)
                sync_folder(target.parent)
        finally:
            partial.unlink(missing_ok=True)


class _TarWriter:
    def __init__(self, tar: tarfile.TarFile, target: Path) -> None:
        self.linked = self.copied = 0
        self.finished = False
        self._tar, self._target = tar, target

    def add(self, name: str, opened: IO[bytes], size: int, facts: os.stat_result) -> Written:
        member = tarfile.TarInfo(f"{SHOP}/{name}")
        member.size, member.mode = size, facts.st_mode & 0o777 | 0o400
        member.mtime = int(facts.st_mtime)
        hashing = _Hashing(opened, size, name)
        self._tar.addfile(member, cast(IO[bytes], hashing))
        self.copied += size
        return Written(hashing.digest.hexdigest(), size)

    def finish(self, manifest: BackupManifest) -> Path:
        content = manifest.to_json()
        member = tarfile.TarInfo(MANIFEST)
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))
        self.finished = True
        return self._target


class _Whole:
    """A file of which just so many bytes are read, as many as it had when the backup looked."""

    def __init__(self, opened: IO[bytes], size: int, name: str) -> None:
        self._opened, self._left, self._name = opened, size, name

    def read(self, count: int = -1) -> bytes:
        wanted = self._left if count < 0 else min(count, self._left)
        block = self._opened.read(wanted)
        if len(block) < wanted:
            raise DataError(f"{self._name}: became shorter while it was copied; run the backup again")
        self._left -= len(block)
        return block


class _Hashing(_Whole):
    """The same for tarfile, which reads it; what is read is hashed."""

    def __init__(self, opened: IO[bytes], size: int, name: str) -> None:
        super().__init__(opened, size, name)
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        block = super().read(count)
        self.digest.update(block)
        return block


@contextmanager
def _sink(file: Path) -> Iterator[IO[bytes]]:
    """What is written goes into `file`, compressed as its name says."""
    name = file.name.removesuffix(".partial").lower()
    if name.endswith(".tar.zst"):
        import pyarrow as pa

        with pa.OSFile(str(file), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as out:
            yield cast(IO[bytes], out)
    elif name.endswith(".tar"):
        with file.open("wb") as out:
            yield out
    else:
        with gzip.open(file, "wb", compresslevel=6) as out:
            yield cast(IO[bytes], out)


# -- reading -------------------------------------------------------------------------------------


def read_manifest(backup: Path) -> BackupManifest:
    """Of a backup in a folder. Raises DataError."""
    file = backup / MANIFEST
    try:
        return manifest_of(file.read_bytes(), str(file))
    except FileNotFoundError as error:
        raise DataError(f"{backup}: is no backup: it has no {MANIFEST}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error


Take = Callable[[str, IO[bytes], int, Written | None], None]
"""Is given every file of a backup: its path beneath the shop, its bytes, its mode, and what it should hold;
None: that is not known before the last file."""


def read_backup(backup: Path, take: Take) -> BackupManifest:
    """Give every file of a backup to `take` → what it says of itself; which of them are as they were is for
    whoever takes them to see. Raises DataError: it cannot be read, or is none."""
    if backup.is_dir():
        manifest = read_manifest(backup)
        for name, facts in manifest.files.items():
            file = backup / SHOP / name
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                raise DataError(
                    f"{file}: cannot be read: {error.strerror}; this backup is damaged: use another one"
                ) from error
            with os.fdopen(descriptor, "rb") as opened:
                take(name, opened, os.fstat(descriptor).st_mode & 0o777, facts)
        return manifest
    return _read_tar(backup, take)


def _read_tar(backup: Path, take: Take) -> BackupManifest:
    manifest: BackupManifest | None = None
    try:
        with _stream(backup) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                opened = tar.extractfile(member) if member.isreg() else None
                if opened is None:
                    raise DataError(
                        f"{backup}: holds {member.name!r}, which is no file; it is no backup of Etalage"
                    )
                if member.name == MANIFEST:
                    if member.size > _LARGEST:
                        raise DataError(
                            f"{backup}: its {MANIFEST} has {member.size:,} bytes; it is no backup of Etalage"
                        )
                    manifest = manifest_of(opened.read(), f"{backup}: {MANIFEST}")
                    continue
                name = member.name.removeprefix(f"{SHOP}/")
                require_inside(name, str(backup))
                take(name, opened, member.mode & 0o777, None)
    except (tarfile.TarError, EOFError, zlib.error, OSError, arrow_error()) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; what is wrong with compressed bytes has no number
        raise DataError(f"{backup}: cannot be read to its end ({error}); use another backup") from error
    if manifest is None:
        raise DataError(f"{backup}: is no whole backup: it ends without a {MANIFEST}; use another one")
    return manifest


def arrow_error() -> type[Exception]:
    """What Arrow raises where compressed bytes are no such."""
    import pyarrow as pa

    error: type[Exception] = pa.ArrowException
    return error


@contextmanager
def _stream(file: Path) -> Iterator[IO[bytes]]:
    if file.name.lower().endswith(".tar.zst"):
        import pyarrow as pa

        with pa.OSFile(str(file), "rb") as raw, pa.CompressedInputStream(raw, "zstd") as opened:
            yield cast(IO[bytes], opened)
    elif file.name.lower().endswith(".tar"):
        with file.open("rb") as opened:
            yield opened
    else:
        with gzip.open(file, "rb") as opened:
            yield cast(IO[bytes], opened)
