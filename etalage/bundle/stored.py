"""Bundles in an object store: published by one conditional PUT, fetched into a local cache and opened there.

    <place>/current              the current id and a newline, replaced unless somebody else was faster
    <place>/log.jsonl            as in a folder
    <place>/manifests/<id>.json  a bundle is there when its manifest is
    <place>/files/<sha256>       what the manifests name, by content: what two bundles share lies there once
    <place>/publishing.lease, moving.lease   the two locks of a folder, as leases (lake/leases.py)

`folder` is the cache: a bundle in it is an ordinary folder, verified against its manifest before it gets its
name, and everything that opens bundles opens it there. It may be removed whenever nothing runs.

The order of a publish is that of a folder: files, manifest, log, pointer. A kill before the manifest leaves
files that nobody names (removed by a later publisher once they are a day old), a kill behind it a whole
bundle that is not current.
"""

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from etalage.bundle.manifest import (
    MANIFEST,
    FileFacts,
    Manifest,
    is_bundle_id,
    manifest_of,
    sequence_of,
    to_bytes,
    verify,
)
from etalage.bundle.pointer import (
    CURRENT,
    LOCK,
    LOG,
    PUBLISHING,
    STAGING,
    Bundles,
    Ids,
    _now,
)
from etalage.errors import BundleDamaged, BundleError, PublishBusy
from etalage.lake.durable_files import (
    READ_ONLY,
    Written,
    disk_errors,
    hash_file,
    replace_durably,
    sync_folder,
)
from etalage.lake.leases import SECONDS, Lease, LeaseHeld
from etalage.lake.object_store import ObjectStore, Read, Taken

FETCHING = ".fetching-"
SERVED = ".served"
"""In the cache: the id of the bundle that a server of this machine served last."""
LEFT_FOR = 24 * 3600.0
"""Seconds for which files that no manifest names are left: their publisher may still be at work."""
_MANIFESTS, _FILES = "manifests/", "files/"


class StoredBundles(Bundles):
    """The bundles at the place of `store`; `cache`: a folder for those that are opened here.

    As `Bundles`; every method raises ObjectStoreError, too.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: Path,
        clock: Callable[[], datetime] = _now,
        lease_seconds: float = SECONDS,
    ) -> None:
        super().__init__(cache, clock)
        self._store = store
        self._leases = {
            PUBLISHING: Lease(store, "publishing.lease", lease_seconds),
            LOCK: Lease(store, "moving.lease", lease_seconds),
        }
        self._moving_from: Read | None = None
        """The pointer as it was when `moving` began."""
        self._seen: Read | None = None
        """The pointer as it was when it was read last."""
        self._verified: set[str] = set()
        """Bundles of the cache that were looked at by this process."""

    @property
    def where(self) -> str:
        return self._store.place.uri

    # -- reading -------------------------------------------------------------------------------

    def _pointer(self) -> bytes | None:
        self._seen = self._store.read(CURRENT, self._seen)
        return None if self._seen is None else self._seen.content

    def _is_there(self, bundle: str) -> bool:
        return bundle in self._verified or self._store.head(_manifest(bundle)) is not None

    def manifest(self, bundle: str) -> Manifest:
        return manifest_of(self._manifest_bytes(bundle), bundle, f"{self.where}/{_manifest(bundle)}")

    def _manifest_bytes(self, bundle: str) -> bytes:
        found = self._store.read(_manifest(bundle)) if is_bundle_id(bundle) else None
        if found is None:
            raise self._no_bundle(bundle)
        return found.content

    def ids(self) -> Ids:
        names = [Path(one.name).stem for one in self._store.list(_MANIFESTS)]
        return sorted((n for n in names if is_bundle_id(n)), key=lambda n: (sequence_of(n), n))

    def path(self, bundle: str) -> Path:
        """The folder of a bundle in the cache, fetched if it is not there. Raises NoBundle, BundleDamaged:
        a file of it is missing in the store, or was changed there."""
        folder = self.folder / bundle
        if bundle in self._verified and folder.is_dir():
            return folder
        if not is_bundle_id(bundle):
            raise self._no_bundle(bundle)
        with self._cache():
            if not self._whole(folder):
                self._fetch(bundle)
        self._verified.add(bundle)
        return folder

    def note_served(self, bundle: str) -> None:
        with suppress(OSError):  # a cache that cannot be written to
            replace_durably(self.folder / SERVED, bundle.encode("ascii"))

    def served_last(self) -> Path | None:
        try:
            bundle = (self.folder / SERVED).read_text("ascii")
        except (OSError, ValueError):
            return None
        if not is_bundle_id(bundle):
            return None
        with self._cache():
            return self.folder / bundle if self._whole(self.folder / bundle) else None

    def _logged(self) -> bytes:
        found = self._store.read(LOG)
        return b"" if found is None else found.content

    # -- the cache -----------------------------------------------------------------------------

    @contextmanager
    def _cache(self) -> Iterator[None]:
        """The only one of this machine that fetches: of what two want, the second finds it there."""
        with disk_errors(f"cannot write to {self.folder}", "nothing was fetched"):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _whole(self, folder: Path) -> bool:
        if not folder.is_dir():
            return False
        try:
            verify(folder)
        except BundleError:  # of the cache alone: the store may have it whole
            shutil.rmtree(folder)
            return False
        return True

    def _fetch(self, bundle: str) -> None:
        content = self._manifest_bytes(bundle)
        manifest = manifest_of(content, bundle, f"{self.where}/{_manifest(bundle)}")
        with disk_errors(f"bundle {bundle} cannot be fetched", "make room, and try again"):
            for left in self.folder.glob(f"{FETCHING}*"):
                shutil.rmtree(left)
            self._forget_removed()
            draft = self.folder / f"{FETCHING}{secrets.token_hex(4)}" / bundle
            draft.mkdir(parents=True)
            try:
                here = self._cached()
                for name, facts in manifest.files.items():
                    self._get(name, facts, draft, here.get(facts.sha256))
                (draft / MANIFEST).write_bytes(content)
                verify(draft)
                draft.rename(self.folder / bundle)
                sync_folder(self.folder)
            finally:
                shutil.rmtree(draft.parent, ignore_errors=True)

    def _get(self, name: str, facts: FileFacts, draft: Path, like: Path | None) -> None:
        """Bring one file of a bundle. Raises BundleDamaged, OSError."""
        file = draft / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if like is not None:
            with suppress(OSError):  # a file system without hard links
                os.link(like, file)
                return
        there = f"{self.where}/{_file(facts.sha256)}"
        if not self._store.download(_file(facts.sha256), file):
            raise BundleDamaged(f"{there} is missing, which {draft.name} has as {name}: publish again")
        if hash_file(file) != (facts.sha256, facts.bytes):
            raise BundleDamaged(
                f"{there} was changed (SHA-256 differs), which {draft.name} has as {name}: remove that "
                "object, and publish again"
            )
        file.chmod(READ_ONLY)

    def _cached(self) -> dict[str, Path]:
        """The files of the bundles that are in the cache, by their hash."""
        found: dict[str, Path] = {}
        for bundle in super().ids():
            with suppress(BundleError):
                for name, facts in super().manifest(bundle).files.items():
                    found[facts.sha256] = self.folder / bundle / name
        return found

    def _forget_removed(self) -> None:
        """Bundles that are no longer in the store leave the cache. Raises OSError."""
        there = set(self.ids())
        for bundle in super().ids():
            if bundle not in there:
                shutil.rmtree(self.folder / bundle)

    # -- locks ---------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, name: str, wait: float, busy: str) -> Iterator[None]:
        with disk_errors(f"cannot write to {self.folder}", "nothing was changed"):
            self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(self._leases[name].held(wait))
            except LeaseHeld as error:
                raise PublishBusy(f"{busy} in {self.where} ({error}): try again when it is done") from None
            yield

    @contextmanager
    def publishing(self) -> Iterator[None]:
        if self._publisher != threading.get_ident():
            self._store.require_conditions()
        with super().publishing():
            yield

    @contextmanager
    def moving(self, wait: float = 10.0) -> Iterator[None]:
        with self._locked(LOCK, wait, busy="somebody else is moving the pointer"):
            self._moving_from = self._store.read(CURRENT)
            self._heal_log()
            yield

    # -- moving --------------------------------------------------------------------------------

    def prepare(self, staging: Path, files: Mapping[str, Written]) -> None:
        there = {one.name: one.bytes for one in self._store.list(_FILES)}
        for name, written in files.items():
            key = _file(written.sha256)
            if there.get(key) != written.bytes:
                self._store.upload(key, staging / name)
                there[key] = written.bytes

    def release(self, staging: Path, manifest: Manifest, action: str) -> None:
        self._require_alone()
        self._store.put(_manifest(manifest.id), to_bytes(manifest))
        with self._cache():
            staging.rename(self.folder / manifest.id)
        self._verified.add(manifest.id)
        self.point(manifest.id, action)

    def point(self, bundle: str, action: str) -> None:
        """Log, then move the pointer; the caller holds `moving()`. Raises PublishBusy: somebody else moved it
        meanwhile, since this process lost its lease; ObjectStoreError."""
        before = self._moving_from
        self._append(action, self.pointed(), bundle)
        self._leases[LOCK].require()
        content = f"{bundle}\n".encode()
        try:
            if before is None:
                etag = self._store.create(CURRENT, content)
            else:
                etag = self._store.replace(CURRENT, content, before.etag)
        except Taken:
            raise PublishBusy(
                f"while this {action} was at work, somebody else made {self.pointed()} current in "
                f"{self.where}; {bundle} is not: run it again"
            ) from None
        self._moving_from = self._seen = Read(content, etag)

    def _switch_aliases(self, bundle: str) -> None:
        """Nothing: bundles in a store have no index in a vector database (config.ShopConfig refuses it)."""

    def _require_alone(self) -> None:
        for lease in self._leases.values():
            lease.require()

    def _append(self, action: str, before: str | None, after: str | None) -> None:
        line = self._line(action, before, after)
        while True:
            found = self._store.read(LOG)
            with suppress(Taken):
                if found is None:
                    self._store.create(LOG, line)
                else:
                    gap = b"" if found.content.endswith(b"\n") or not found.content else b"\n"
                    self._store.replace(LOG, found.content + gap + line, found.etag)
                return

    # -- cleaning ------------------------------------------------------------------------------

    def collect(self) -> Ids:
        removed = []
        for entry in sorted(self.folder.iterdir()):
            if entry.name.startswith(STAGING):
                shutil.rmtree(entry)
                removed.append(entry.name)
        return removed + self._unnamed()

    def _unnamed(self) -> Ids:
        """Remove files that no manifest names, once they are old enough → what was removed."""
        named: set[str] = set()
        for bundle in self.ids():
            try:
                named.update(_file(one.sha256) for one in self.manifest(bundle).files.values())
            except BundleError:
                return []  # what it names is not known
        left = [one.name for one in self._store.list(_FILES) if one.name not in named]
        old = [name for name in left if (found := self._store.head(name)) and found.age > LEFT_FOR]
        self._store.delete(old)
        return old

    def retain(self, keep: int, *spared: str | None) -> Ids:
        """Remove all but the newest `keep` bundles; never the current one nor a `spared` one.

        Manifests go first: a kill leaves no half bundle, but files that nobody names.
        """
        current = self.pointed()
        ids = self.ids()
        removed = [b for b in ids[: max(0, len(ids) - keep)] if b != current and b not in spared]
        stays: set[str] = set()
        try:
            goes = {one.sha256 for bundle in removed for one in self.manifest(bundle).files.values()}
            for bundle in ids:
                if bundle not in removed:
                    stays.update(one.sha256 for one in self.manifest(bundle).files.values())
        except BundleError:
            goes = set()  # which files may go is not known
        self._store.delete([_manifest(bundle) for bundle in removed])
        self._store.delete([_file(one) for one in sorted(goes - stays)])
        with self._cache():
            self._forget_removed()
        return removed


def _manifest(bundle: str) -> str:
    return f"{_MANIFESTS}{bundle}.json"


def _file(sha256: str) -> str:
    return f"{_FILES}{sha256}"
