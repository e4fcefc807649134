"""Who was erased, and when: so that no writer brings them back (F66).

A row that was read before an erasure may be written after it: events that `collect` holds, a file that is
ingested again, a bundle that is being made. So an erasure is remembered before anything is deleted, and
every writer asks, in its turn, whether what it brings is older. What a shopper does later is theirs again.

Beside the tables lies erased.json: {"<digest of the user_id>": {"at": µs, "back": false}}. A digest, so that
no list of those who wanted to be forgotten lies about; it is no secret before somebody who guesses ids.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import TableDamaged
from etalage.lake.durable_files import replace_durably
from etalage.lake.leases import Lease
from etalage.lake.object_store import ObjectStore, Taken
from etalage.lake.schema import TableSpec

FILE = "erased.json"


def digest(text: str) -> str:
    """32 hex digits for the id of a shopper or of an event."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Erasure:
    """When a shopper was erased."""

    at: int
    """Microseconds since 1970."""
    back: bool = False
    """Whether they have acted since."""


Known = Mapping[str, Erasure]
"""By the digest of the user_id."""


class Erasures:
    """Of one lake. `folder`: where its tables lie; None: nothing is remembered."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def known(self) -> Known:
        """Every erasure. Raises TableDamaged: the file is there, but cannot be read."""
        if self._folder is None:
            return {}
        file = self._folder / FILE
        try:
            return _from_text(file.read_bytes(), str(file))
        except FileNotFoundError:
            return {}

    def times(self) -> dict[str, int]:
        """When each was erased, in microseconds, by digest: what online stores are to know. Raises as
        `known`."""
        return {name: one.at for name, one in self.known().items()}

    @property
    def stamp(self) -> object:
        """Another one whenever somebody was erased; costs one look at the disk. None: nobody was."""
        if self._folder is None:
            return None
        try:
            found = (self._folder / FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def remember(self, user_id: str) -> None:
        """From now on nothing that this shopper did until now is written. Raises OSError, TableDamaged."""
        now = time.time_ns() // 1000
        self._change(lambda known: {**known, digest(user_id): Erasure(now)})

    def came_back(self, digests: set[str]) -> None:
        """These act again: their rows in the table users may be written again. Raises as `remember`."""
        self._change(
            lambda known: {name: Erasure(one.at, one.back or name in digests) for name, one in known.items()}
        )

    def hold(self, known: Known) -> None:
        """These, and no others, from now on, whatever is there: a copy in a folder of those of another place.
        Raises OSError."""
        assert self._folder is not None
        with self._locked("lock"):
            replace_durably(self._folder / FILE, _as_text(known))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Erasing and finishing a bundle wait for each other: one is before the other, as a whole."""
        with self._locked("turn"):
            yield

    def _change(self, change: Callable[[Known], Known]) -> None:
        if self._folder is None:
            return
        with self._locked("lock"):
            replace_durably(self._folder / FILE, _as_text(change(self.known())))

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        if self._folder is None:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f".erased.{name}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class StoredErasures(Erasures):
    """Of a lake in an object store: erased.json is an object, changed by conditional PUTs. Every method
    raises ObjectStoreError, too."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(None)
        self._store = store
        self._turn = Lease(store, "erased.turn")

    def known(self) -> Known:
        found = self._store.read(FILE)
        return {} if found is None else _from_text(found.content, self._where)

    @property
    def stamp(self) -> object:
        found = self._store.head(FILE)
        return None if found is None else found.etag

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._turn.held(wait=float("inf")):
            yield

    def _change(self, change: Callable[[Known], Known]) -> None:
        while True:
            found = self._store.read(FILE)
            known = {} if found is None else _from_text(found.content, self._where)
            with suppress(Taken):
                if found is None:
                    self._store.create(FILE, _as_text(change(known)))
                else:
                    self._store.replace(FILE, _as_text(change(known)), found.etag)
                return

    @property
    def _where(self) -> str:
        return f"{self._store.place.uri}/{FILE}"


def _from_text(text: bytes, where: str) -> Known:
    try:
        found = json.loads(text)
        return {str(name): Erasure(int(one["at"]), bool(one["back"])) for name, one in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableDamaged(
            f"{where}: who was erased cannot be read ({error}): restore it from a backup. If there is "
            "none, remove it and erase them again: else a file that is ingested again brings them back"
        ) from error


def _as_text(known: Known) -> bytes:
    return json.dumps(
        {name: {"at": one.at, "back": one.back} for name, one in sorted(known.items())}
    ).encode()


def nameless(ids: pa.Array, known: Known) -> pa.Array:
    """`ids` of shoppers with a name that nobody can have (it begins with NUL) for those who were erased, and
    have not come back."""
    if not known:
        return ids
    names = ids.to_pylist()
    gone = {name for name, one in known.items() if not one.back}
    return pa.array([f"\0{n}" if digest(name) in gone else name for n, name in enumerate(names)], pa.string())


@dataclass(frozen=True)
class Sorted:
    """Rows that may be written, and what is known of the others."""

    rows: pa.Table
    left: int
    """Rows of shoppers who were erased since."""
    back: set[str]
    """Digests of those who acted after they were erased, for the first time."""


def without_erased(rows: pa.Table, spec: TableSpec, known: Known) -> Sorted:
    """`rows` of the table `spec` without what shoppers did, or were, before they were erased.

    An act without a time counts as one of before. A row of the table users has none: it counts as one of
    before until its shopper has acted again.
    """
    if not known or spec.shopper not in rows.column_names or not rows.num_rows:
        return Sorted(rows, 0, set())
    coded = rows[spec.shopper].combine_chunks().dictionary_encode()
    digests = [None if name is None else digest(name) for name in coded.dictionary.to_pylist()]
    erasures = [known.get(one or "") for one in digests]
    if not any(erasures):
        return Sorted(rows, 0, set())
    codes = pc.fill_null(coded.indices, -1).to_numpy()
    until = np.array([-1 if one is None else one.at for one in erasures] + [-1])  # code -1: no id
    if spec.acted is None:
        came = np.array([one is None or one.back for one in erasures] + [True])
        stays = came[codes]
        return Sorted(rows.filter(pa.array(stays)), int((~stays).sum()), set())
    if spec.acted in rows.column_names:
        times = pc.fill_null(rows[spec.acted].cast(pa.int64()), 0).to_numpy()
    else:
        times = np.zeros(rows.num_rows, dtype=np.int64)
    of_erased = until[codes] >= 0
    stays = ~of_erased | (times > until[codes])
    again = np.unique(codes[of_erased & stays])
    back = {str(digests[code]) for code in again if not (erasures[code] or Erasure(0)).back}
    return Sorted(rows.filter(pa.array(stays)), int((~stays).sum()), back)
