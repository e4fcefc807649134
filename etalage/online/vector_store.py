"""Vectors in Redis, for whoever serves elsewhere: one key a vector, and one that says which version is whole.

    <prefix>:vectors:<model>:items                    JSON: Facts; written last
    <prefix>:vectors:<model>:items:<version>:<id>     D numbers, float32, little endian

`items` or `users`. Who reads asks for the facts, then for keys of that version; where they are gone, a newer
one has taken their place, and the facts say which.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import numpy as np

from etalage.errors import ConfigError, installing
from etalage.online.redis_store import literal, redis_errors

AT_ONCE = 1_000


@dataclass(frozen=True)
class Facts:
    """What one version of vectors is of. `export` is the hash of the model's export."""

    version: str
    model: str
    export: str
    bundle: str
    dimension: int
    count: int
    dtype: str = "<f4"


@dataclass(frozen=True)
class Written:
    """How many vectors are new or different, are there as they were, and went."""

    written: int
    unchanged: int
    removed: int


class VectorStore:
    """The vectors of a Redis."""

    def __init__(self, client: Any, prefix: str = "etalage") -> None:
        """`client`: a redis.Redis that answers with bytes."""
        self._client = client
        self.prefix = prefix

    @classmethod
    def open(cls, uri: str) -> "VectorStore":
        """At redis://host:port/db?prefix=…, rediss:// or unix://. Raises ConfigError: no client, no such URI;
        StoreUnavailable."""
        try:
            import redis
        except ImportError as error:
            raise ConfigError(f"{uri}: the Redis client is not installed; {installing('redis')}") from error
        parts = urlsplit(uri)
        options = parse_qs(parts.query)
        prefix = options.pop("prefix", ["etalage"])[0]
        query = "&".join(f"{key}={value}" for key, values in options.items() for value in values)
        try:
            client = redis.Redis.from_url(urlunsplit(parts._replace(query=query)), socket_timeout=30)
        except ValueError as error:
            raise ConfigError(f"{uri}: {error}") from error
        store = cls(client, prefix)
        with store._errors():
            client.ping()
        return store

    def facts(self, model: str, owner: str) -> Facts | None:
        """Of the version that is whole; None: there is none. Raises StoreUnavailable."""
        with self._errors():
            said = self._client.get(self._key(model, owner))
        return None if said is None else Facts(**json.loads(said))

    def read(self, model: str, owner: str, ids: Sequence[str]) -> list[np.ndarray | None]:
        """The (D,) vectors of these ids; None: there is none. Raises StoreUnavailable."""
        facts = self.facts(model, owner)
        if facts is None or not ids:
            return [None] * len(ids)
        with self._errors():
            found = self._client.mget([self._vector(model, owner, facts.version, one) for one in ids])
        return [None if one is None else np.frombuffer(one, facts.dtype) for one in found]

    def write(
        self,
        facts: Facts,
        owner: str,
        blocks: Iterator[tuple[Sequence[str], np.ndarray]],
        progress: Callable[[int], object],
    ) -> Written:
        """Write every block of ids and their (n, D) float32 vectors, make that version the whole one, and
        remove all others. Once more writes nothing. Raises StoreUnavailable: what was whole still is."""
        written = unchanged = 0
        with self._errors():
            for ids, vectors in blocks:
                for start in range(0, len(ids), AT_ONCE):
                    some = ids[start : start + AT_ONCE]
                    keys = [self._vector(facts.model, owner, facts.version, one) for one in some]
                    values = [one.astype(facts.dtype).tobytes() for one in vectors[start : start + AT_ONCE]]
                    before = self._client.mget(keys)
                    different = {
                        key: value
                        for key, value, old in zip(keys, values, before, strict=True)
                        if old != value
                    }
                    if different:
                        self._client.mset(different)
                    written, unchanged = written + len(different), unchanged + len(keys) - len(different)
                    progress(len(keys))
            self._client.set(self._key(facts.model, owner), json.dumps(asdict(facts)))
            removed = self._remove_others(facts, owner)
        return Written(written, unchanged, removed)

    def _remove_others(self, facts: Facts, owner: str) -> int:
        kept = self._vector(facts.model, owner, facts.version, "").encode()
        pattern = literal(self._key(facts.model, owner)) + ":*"
        removed, gone = 0, []
        for key in self._client.scan_iter(match=pattern, count=10 * AT_ONCE):
            if not key.startswith(kept):
                gone.append(key)
            if len(gone) == AT_ONCE:
                removed, gone = removed + int(self._client.unlink(*gone)), []
        return removed + (int(self._client.unlink(*gone)) if gone else 0)

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _key(self, model: str, owner: str) -> str:
        return f"{self.prefix}:vectors:{model}:{owner}s"

    def _vector(self, model: str, owner: str, version: str, name: str) -> str:
        return f"{self._key(model, owner)}:{version}:{name}"

    def _errors(self) -> AbstractContextManager[None]:
        return redis_errors("the key-value store")
