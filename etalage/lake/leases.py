"""Who may do something alone, among processes of several machines: a lease in an object store.

The holder writes itself into one object by a conditional PUT, and renews it by a thread; whoever ends says
so there. One that is killed is followed when its lease was not renewed for `seconds`, by the store's own
clock: no clock of a machine is asked. A holder that sleeps through that has lost it, and is told by
`require`: what must not be done twice is therefore done by a conditional PUT besides (the pointer to the
current bundle is).
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from etalage.errors import ObjectStoreError
from etalage.lake.object_store import ObjectStore, Taken

SECONDS = 60.0
"""Without a sign of life after which a lease is anybody's."""


class LeaseHeld(Exception):
    """Somebody else has it; says who."""


class Lease:
    """The lease called `name` in `store`; `held` in one thread at a time."""

    def __init__(self, store: ObjectStore, name: str, seconds: float = SECONDS) -> None:
        self._store, self._name, self._seconds = store, name, seconds
        self._etag = ""
        self._lost = threading.Event()
        self._until = 0.0

    @contextmanager
    def held(self, wait: float) -> Iterator[None]:
        """Have it for a while. Raises LeaseHeld: somebody else still had it after `wait` seconds;
        ObjectStoreError."""
        self._take(wait)
        ended = threading.Event()
        renewing = threading.Thread(
            target=self._renew, args=(ended,), name=f"lease {self._name}", daemon=True
        )
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            self._give_back()

    def require(self) -> None:
        """Raises ObjectStoreError: it was lost, because this process or the store was away for too long."""
        if self._lost.is_set() or time.monotonic() > self._until:
            raise ObjectStoreError(
                f"{self._store.place.uri}/{self._name}: this process gave no sign of life for "
                f"{self._seconds:g} s, and another one may be at work: run it again"
            )

    def _take(self, wait: float) -> None:
        deadline = time.monotonic() + wait
        while True:
            began = time.monotonic()
            try:
                self._etag = self._tried()
                self._lost.clear()
                self._until = began + self._seconds
                return
            except Taken:
                pass  # somebody was faster
            except LeaseHeld:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(min(0.25, max(deadline - time.monotonic(), 0.01)))

    def _tried(self) -> str:
        found = self._store.read(self._name)
        if found is None:
            return self._store.create(self._name, self._content())
        holder = _holder(found.content)
        if holder is not None:
            facts = self._store.head(self._name)
            if facts is None or facts.etag != found.etag:
                raise Taken(self._name)
            if facts.age <= self._seconds:
                raise LeaseHeld(f"{holder}, {facts.age:.0f} s ago")
        return self._store.replace(self._name, self._content(), found.etag)

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / 3) and not self._lost.is_set():
            self._renewed()

    def _renewed(self) -> None:
        began = time.monotonic()
        try:
            self._etag = self._store.replace(self._name, self._content(), self._etag)
            self._until = began + self._seconds
        except Taken:
            self._lost.set()
        except ObjectStoreError:
            pass  # it may be back before the lease has run out; `require` says so where it is not

    def _give_back(self) -> None:
        try:
            if not self._lost.is_set():
                self._store.replace(self._name, _FREE + secrets.token_hex(8).encode() + b'"}\n', self._etag)
        except (Taken, ObjectStoreError):
            pass  # then it runs out by itself

    def _content(self) -> bytes:
        held = {"holder": f"{socket.gethostname()}, process {os.getpid()}", "token": secrets.token_hex(8)}
        return json.dumps(held).encode() + b"\n"


_FREE = b'{"holder": null, "token": "'


def _holder(content: bytes) -> str | None:
    """Who has it; None: nobody, or what cannot be read."""
    try:
        found = json.loads(content)["holder"]
    except (ValueError, KeyError, TypeError):
        return None
    return None if found is None else str(found)
