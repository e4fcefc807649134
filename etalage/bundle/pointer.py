"""Which bundle is current: one small file, moved atomically, under a lock, with a log.

    bundles/<id>/         immutable bundles
    bundles/current       the current id and a newline; nothing else
    bundles/log.jsonl     one line per move, written *before* the move
    bundles/.publishing   held for a whole publish or sync: one at a time
    bundles/.lock         held while the pointer moves or old bundles are removed: moments

Two locks, so that a rollback need not wait for somebody's long publish. A line of the log whose
move never happened (a crash in between) is followed by a line `interrupted`, written by whoever
takes the lock next.
"""

import fcntl
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etalage.bundle.collections import nothing_to_take_back, switch_aliases
from etalage.bundle.manifest import Manifest, is_bundle_id, read_manifest, sequence_of, verify
from etalage.errors import (
    BundleError,
    IndexMismatch,
    IndexUnavailable,
    NoBundle,
    PointerDamaged,
    PublishBusy,
)
from etalage.lake.durable_files import Written, disk_errors, sync_folder, write_file
from etalage.nearest import nearest

log = logging.getLogger(__name__)

CURRENT, LOG, LOCK, PUBLISHING = "current", "log.jsonl", ".lock", ".publishing"
STAGING, REMOVING, MOVING = ".staging-", ".removing-", ".current-"


def _now() -> datetime:
    return datetime.now(UTC)


def _first_bytes(file: Path) -> bytes:
    # Neither a link is followed nor a pipe waited for.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Listed:
    """One folder of `bundles/`: its manifest, or what is wrong with it."""

    id: str
    manifest: Manifest | None
    damage: str | None
    current: bool


# Named here, because inside the class `list` is its method.
Ids = list[str]
Moves = list[dict[str, Any]]
Manifests = list[Manifest]
Survey = list[Listed]


class Bundles:
    """The bundles of one shop, in `folder` (created by the first publish)."""

    def __init__(self, folder: str | Path, clock: Callable[[], datetime] = _now) -> None:
        self.folder = Path(folder)
        self._clock = clock
        self._publisher: int | None = None

    @property
    def where(self) -> str:
        """Where the bundles lie, for people."""
        return str(self.folder)

    # -- reading -------------------------------------------------------------------------------

    def current_id(self) -> str:
        """The id of the current bundle. Raises NoBundle, PointerDamaged."""
        try:
            content = self._pointer()
        except OSError as error:
            raise PointerDamaged(self._damaged(f"cannot be read ({error.strerror})")) from error
        if content is None:
            raise NoBundle(self._nothing_current())
        text = content.decode("ascii", errors="replace")
        bundle = text.removesuffix("\n")
        if not is_bundle_id(bundle):
            what = "is empty" if not text.strip() else f"holds {text[:80]!r}, which is not one bundle id"
            raise PointerDamaged(self._damaged(what))
        if not self._is_there(bundle):
            raise PointerDamaged(self._damaged(f"names {bundle}, which is not there"))
        return bundle

    def note_served(self, bundle: str) -> None:
        """A server of this machine serves this bundle from now on. Bundles of a folder remember nothing: who
        starts again reads the pointer."""

    def served_last(self) -> Path | None:
        """The folder of the bundle that was served on this machine last, where it lies whole in a cache; else
        None. Asks no object store."""
        return None

    def _is_there(self, bundle: str) -> bool:
        folder = self.folder / bundle
        return folder.is_dir() and not folder.is_symlink()

    def manifest(self, bundle: str) -> Manifest:
        """The manifest of a bundle; its files are not looked at. Raises BundleError."""
        return read_manifest(self.folder / bundle)

    def path(self, bundle: str) -> Path:
        """The folder of a bundle. Raises NoBundle when there is none of that id."""
        folder = self.folder / bundle
        if not is_bundle_id(bundle) or not folder.is_dir():
            raise self._no_bundle(bundle)
        return folder

    def _no_bundle(self, bundle: str) -> NoBundle:
        near = nearest(bundle, self.ids())
        meant = self._choice() if near is None else f"did you mean {near!r}?"
        return NoBundle(f"no bundle {bundle!r} in {self.where}; {meant}")

    def survey(self) -> Survey:
        """Every bundle folder, oldest first, the damaged ones with their damage."""
        try:
            current: str | None = self.current_id()
        except BundleError:
            current = None
        listed = [self._listed(bundle, current) for bundle in self.ids()]
        # An old bundle may be removed while we look: then it is not damaged, but gone.
        return [one for one in listed if one.manifest is not None or self._is_there(one.id)]

    def _listed(self, bundle: str, current: str | None) -> Listed:
        try:
            return Listed(bundle, self.manifest(bundle), None, bundle == current)
        except BundleError as error:
            return Listed(bundle, None, str(error), bundle == current)

    def list(self) -> Manifests:
        """The manifests of the bundles that can be read, oldest first (`survey` has the others)."""
        return [one.manifest for one in self.survey() if one.manifest is not None]

    def ids(self) -> Ids:
        """The ids of all bundle folders, oldest first, whole or not."""
        if not self.folder.is_dir():
            return []
        names = [entry.name for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False)]
        return sorted((n for n in names if is_bundle_id(n)), key=lambda n: (sequence_of(n), n))

    def before(self, bundle: str) -> str:
        """The bundle that `bundle` replaced; where that is unknown or gone, the newest whole one older
        than it. Raises NoBundle: there is none."""
        older = [one for one in self.list() if one.sequence < sequence_of(bundle)]
        try:
            replaced = self.manifest(bundle).previous
        except BundleError:
            replaced = None  # damaged: the very time to roll back
        if replaced in [one.id for one in older]:
            return str(replaced)
        if not older:
            raise NoBundle(f"{bundle} is the first bundle: there is none to roll back to")
        return older[-1].id

    def log(self) -> Moves:
        """The moves, oldest first: {time, action, from, to}. A torn line is left out."""
        moves = []
        for line in self._logged().splitlines():
            with suppress(ValueError):
                move = json.loads(line)
                if isinstance(move, dict):
                    moves.append(move)
        return moves

    def _pointer(self) -> bytes | None:
        """What the pointer holds; None: there is none. Raises OSError."""
        try:
            return _first_bytes(self.folder / CURRENT)
        except FileNotFoundError:
            return None

    def _logged(self) -> bytes:
        """What the log holds."""
        try:
            return (self.folder / LOG).read_bytes()
        except FileNotFoundError:
            return b""

    def now(self) -> str:
        """The clock's time, ISO 8601, UTC. Only shown: no order is ever taken from it."""
        return self._clock().isoformat(timespec="seconds")

    # -- locks ---------------------------------------------------------------------------------

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Be the only publisher; nests in the same thread. Raises PublishBusy at once, PublishError
        when the folder cannot be written (asked before any work)."""
        if self._publisher == threading.get_ident():
            yield
            return
        with self._locked(PUBLISHING, wait=0, busy="somebody else is publishing"):
            self._publisher = threading.get_ident()
            try:
                yield
            finally:
                self._publisher = None

    @contextmanager
    def moving(self, wait: float = 10.0) -> Iterator[None]:
        """Hold the pointer still for a moment; waits up to `wait` seconds, then PublishBusy."""
        with self._locked(LOCK, wait, busy="somebody else is moving the pointer"):
            self._heal_log()
            yield

    @contextmanager
    def _locked(self, name: str, wait: float, busy: str) -> Iterator[None]:
        file = self.folder / name
        with disk_errors(f"cannot write to {self.folder}", "nothing was changed"):
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                sync_folder(self.folder.parent)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise PublishBusy(f"{busy} in {self.folder}: try again when it is done") from None
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)  # also unlocks

    # -- moving --------------------------------------------------------------------------------

    def switch(self, bundle: str, wait: float = 10.0) -> Manifest:
        """Make an older (or newer) bundle current: `etalage rollback`. It is verified first.

        Raises NoBundle, BundleDamaged, PublishBusy when the pointer stays locked for `wait` seconds.
        """
        self.path(bundle)
        with self.moving(wait):
            manifest = verify(self.path(bundle))
            self._switch_aliases(bundle)
            with disk_errors(f"cannot move the pointer to {bundle}", "the pointer has not moved"):
                self.point(bundle, "rollback")
        return manifest

    def prepare(self, staging: Path, files: Mapping[str, Written]) -> None:
        """Bring these files of a bundle that is being made, by name, to where the bundles lie, if that is
        elsewhere; the caller holds `publishing()`. A file that is there already costs nothing."""

    def release(self, staging: Path, manifest: Manifest, action: str) -> None:
        """Make the finished folder `staging` the bundle of `manifest`, and current; the caller holds
        `publishing()` and `moving()`. Raises OSError, IndexUnavailable, IndexMismatch: not moved."""
        before, final = self.pointed(), self.folder / manifest.id
        staging.rename(final)
        take_back = nothing_to_take_back
        try:
            sync_folder(self.folder)
            take_back = switch_aliases(None if before is None else self.folder / before, final)
            self.point(manifest.id, action)
        except (OSError, IndexUnavailable, IndexMismatch):
            take_back()
            if self.pointed() != manifest.id:
                final.rename(staging)  # collected with the rest of the failed publish
            raise

    def _switch_aliases(self, bundle: str) -> None:
        """As far as the vector database answers: going back must be possible while it does not, for a bundle
        finds its collections without the aliases."""
        before = self.pointed()
        try:
            switch_aliases(None if before is None else self.folder / before, self.folder / bundle)
        except (IndexUnavailable, IndexMismatch) as error:
            log.warning(
                "the aliases in the vector database do not name the collections of %s, and who asks by them "
                "is answered as before: %s; `etalage rollback %s` sets them when it is back",
                bundle, error, bundle,
            )  # fmt: skip

    def point(self, bundle: str, action: str) -> None:
        """Log, then move the pointer, durably; the caller holds `moving()`. OSError: not moved."""
        before = self.pointed()
        self._append(action, before, bundle)
        self._replace(bundle)
        try:
            sync_folder(self.folder)
        except OSError:
            # The move may not outlive a crash: take it back, so that "failed" means "not moved".
            if before is None:
                (self.folder / CURRENT).unlink()
            else:
                self._replace(before)
            raise

    def _replace(self, bundle: str) -> None:
        temporary = self.folder / f"{MOVING}{secrets.token_hex(4)}"
        try:
            write_file(temporary, f"{bundle}\n".encode())
            temporary.rename(self.folder / CURRENT)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _append(self, action: str, before: str | None, after: str | None) -> None:
        line = self._line(action, before, after)
        with (self.folder / LOG).open("ab+", buffering=0) as log:
            size = log.seek(0, os.SEEK_END)
            if size:
                log.seek(size - 1)
                line = line if log.read(1) == b"\n" else b"\n" + line  # after a torn line
            log.write(line)
            os.fsync(log.fileno())

    def _line(self, action: str, before: str | None, after: str | None) -> bytes:
        move = {"time": self.now(), "action": action, "from": before, "to": after}
        return json.dumps(move).encode() + b"\n"

    def _heal_log(self) -> None:
        moves, now = self.log(), self.pointed()
        logged = moves[-1].get("to") if moves else None
        if logged != now:
            with disk_errors(f"cannot write to {self.where}/{LOG}", "the pointer has not moved"):
                self._append("interrupted" if moves else "found", logged, now)

    def pointed(self) -> str | None:
        """What the pointer names, be it there or not; None without a pointer that can be read."""
        try:
            bundle = (self._pointer() or b"").decode("ascii").removesuffix("\n")
        except (OSError, ValueError):
            return None
        return bundle if is_bundle_id(bundle) else None

    # -- cleaning ------------------------------------------------------------------------------

    def collect(self) -> Ids:
        """Remove what crashes left behind; the caller holds `publishing()` and `moving()`."""
        removed = []
        for entry in sorted(self.folder.iterdir()):
            if entry.name.startswith((STAGING, REMOVING)):
                shutil.rmtree(entry)
                removed.append(entry.name)
            elif entry.name.startswith(MOVING):
                entry.unlink()
                removed.append(entry.name)
        return removed

    def retain(self, keep: int, *spared: str | None) -> Ids:
        """Remove all but the newest `keep` bundles; never the current one nor a `spared` one.

        A bundle is renamed away first: a kill leaves no half bundle under its id.
        """
        current = self.pointed()
        ids = self.ids()
        removed = [b for b in ids[: max(0, len(ids) - keep)] if b != current and b not in spared]
        for bundle in removed:
            gone = self.folder / f"{REMOVING}{bundle}"
            (self.folder / bundle).rename(gone)
            shutil.rmtree(gone)
        return removed

    def next_sequence(self) -> int:
        """One more than any bundle that was ever seen here: in folders, staging, pointer or log."""
        seen = [*self.ids(), self.pointed() or "", *(str(m.get("to")) for m in self.log())]
        return 1 + max((sequence_of(bundle) for bundle in seen if is_bundle_id(bundle)), default=0)

    # -- words ---------------------------------------------------------------------------------

    def _nothing_current(self) -> str:
        if self.ids():
            return f"{self.where} has bundles, but none is current: publish again; or {self._choice()}"
        return f"{self.where}: nothing was published yet: `etalage publish`"

    def _damaged(self, what: str) -> str:
        return f"{self.where}/{CURRENT} {what}: {self._choice()}"

    def _choice(self) -> str:
        whole = [b for b in self.ids() if self._listed(b, None).manifest is not None]
        if not whole:
            return "there is no whole bundle here: `etalage publish`"
        return f"`etalage rollback {whole[-1]}` makes the newest whole bundle current"
