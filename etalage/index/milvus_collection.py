"""One collection of a Milvus: connect, make, fill, ask. What goes wrong there is told as IndexUnavailable.

Each row of a collection is an item: `row`, `embedding`, and the fields that conditions speak of.

    B queries   N items   D embedding dimension   W answers a query
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from etalage.errors import ConfigError, IndexMismatch, IndexUnavailable, installing
from etalage.index.conditions import FIELDS, LIVE, NUMBERS, TEXTS, Condition

ROW, EMBEDDING = "row", "embedding"
MOST = 16_384
"""Milvus answers a query with no more."""
IDS_AT_ONCE = 1_000
"""Item rows that one expression may name."""
TEXT_BYTES = 65_535
"""Milvus' longest text; of attributes, its longest JSON."""
QUERIES_IN_TIME = 10
"""So many queries may take as long as one; more take longer."""
CELLS_AT_ONCE = 4 * 2**20
"""Numbers of one answer: 16 MiB."""


@dataclass(frozen=True)
class Server:
    """Where a Milvus is. `token_from` names the environment variable with the token: it is in no file."""

    uri: str
    database: str
    token_from: str
    seconds: float
    """For one question."""
    write_seconds: float
    """For one block of rows."""
    build_seconds: float
    """Until all of a collection is indexed."""

    @property
    def is_lite(self) -> bool:
        return is_lite(self.uri)


class Block(NamedTuple):
    """(n,) item_rows, (n, D) float32 embeddings, and n rows of FIELDS, or none."""

    rows: np.ndarray
    embeddings: np.ndarray
    fields: pa.Table | None


def is_lite(uri: str) -> bool:
    """Milvus Lite is a file, in this process; everything else is a server."""
    return "://" not in uri


def client(server: Server) -> Any:
    """The MilvusClient of this process for `server`, connected once. Raises ConfigError, IndexUnavailable."""
    return _client(server, os.getpid(), os.environ.get(server.token_from, ""))


@cache
def _client(server: Server, _process: int, token: str) -> Any:
    try:
        from pymilvus import MilvusClient
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"[index] kind = 'milvus': pymilvus is not installed; {installing('milvus')}"
        ) from error
    if server.is_lite:
        try:
            import milvus_lite  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{server.uri}: a file is opened by Milvus Lite, which is not installed: `pip install "
                "milvus-lite`, or give the address of a server, http://host:19530"
            ) from error
        Path(server.uri).parent.mkdir(parents=True, exist_ok=True)
    # It logs what it raises, with a traceback; we tell it once, in our own words.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    with answering(server):
        return MilvusClient(
            uri=server.uri, token=token, db_name=server.database, timeout=max(server.seconds, 5.0)
        )


@contextmanager
def answering(server: Server, what: str = "") -> Iterator[None]:
    """Milvus' errors become IndexUnavailable, which names the server, and `what` was asked of it."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        reason = " ".join(str(getattr(error, "message", "") or error).split())[:300]
        hint = "is it up?"
        if server.is_lite:
            hint = "Milvus Lite serves one process at a time: for several, run a server"
        elif getattr(error, "code", None) in (16, 1800) or "auth" in reason.lower():
            hint = f"is the token in {server.token_from} right?"
        about = f" ({what})" if what else ""
        raise IndexUnavailable(f"Milvus at {server.uri}{about}: {reason}; {hint}") from error


class Collection:
    """One collection by its name."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name

    @property
    def _client(self) -> Any:
        return client(self.server)

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        found = self._client
        with answering(self.server, self.name):
            yield found

    # -- making --------------------------------------------------------------------------------

    def create(self, dimension: int, index: str, build: dict[str, Any], about: str) -> None:
        """Make it, empty. Raises IndexUnavailable."""
        from pymilvus import DataType

        with self._asking() as milvus:
            schema = milvus.create_schema(auto_id=False, enable_dynamic_field=False, description=about)
            schema.add_field(ROW, DataType.INT64, is_primary=True)
            schema.add_field(EMBEDDING, DataType.FLOAT_VECTOR, dim=dimension)
            for field in TEXTS:
                schema.add_field(field, DataType.VARCHAR, max_length=TEXT_BYTES, nullable=True)
            for field in NUMBERS:
                schema.add_field(field, DataType.DOUBLE, nullable=True)
            schema.add_field("in_stock", DataType.BOOL, nullable=True)
            schema.add_field("attributes", DataType.JSON, nullable=True)
            # Milvus Lite reads them where older clients wrote them, and else takes its defaults in silence.
            numbers = {**build, "params": build} if _is_lite(milvus) else build
            indexes = milvus.prepare_index_params()
            indexes.add_index(EMBEDDING, index_type=index, metric_type="IP", params=numbers)
            milvus.create_collection(
                self.name, schema=schema, index_params=indexes, timeout=self.server.write_seconds
            )

    def upsert(self, block: Block) -> int:
        """Write the rows of a block; once more does no harm. Returns how many. Raises IndexUnavailable."""
        data = list(_entities(block))
        with self._asking() as milvus:
            if data:
                milvus.upsert(self.name, data, timeout=self.server.write_seconds)
        return len(data)

    def finish(self) -> None:
        """All that was written is on the server's disk, and indexed. Raises IndexUnavailable."""
        deadline = time.monotonic() + self.server.build_seconds
        with self._asking() as milvus:
            milvus.flush(self.name, timeout=self.server.write_seconds)
            if _is_lite(milvus):
                self._finish_lite(milvus)
            while int(milvus.describe_index(self.name, EMBEDDING).get("pending_index_rows", 0)) > 0:
                if time.monotonic() > deadline:
                    raise IndexUnavailable(
                        f"Milvus at {self.server.uri} ({self.name}): not indexed within "
                        f"{self.server.build_seconds:g} s; raise [index.milvus] build_seconds"
                    )
                time.sleep(0.05)

    def _finish_lite(self, milvus: Any) -> None:
        """Milvus Lite says that all is indexed while it still is at it; what can be loaded is whole."""
        from pymilvus.exceptions import MilvusException

        milvus.release_collection(self.name)
        for left in range(100, -1, -1):
            try:
                milvus.load_collection(self.name, timeout=self.server.build_seconds)
                break
            except MilvusException:  # it read a file that it was still writing
                if not left:
                    raise
                time.sleep(0.05)

    def delete(self, rows: np.ndarray) -> None:
        """Raises IndexUnavailable."""
        with self._asking() as milvus:
            for start in range(0, len(rows), MOST):
                milvus.delete(
                    self.name, ids=rows[start : start + MOST].tolist(), timeout=self.server.write_seconds
                )

    def drop(self) -> bool:
        """Whether there was one to drop. Raises IndexUnavailable."""
        with self._asking() as milvus:
            if not milvus.has_collection(self.name):
                return False
            for alias in milvus.list_aliases(self.name)["aliases"]:
                milvus.drop_alias(alias)
            milvus.drop_collection(self.name, timeout=self.server.write_seconds)
        return True

    @staticmethod
    def like(server: Server, prefix: str) -> list[str]:
        """The names of collections that begin so. Raises IndexUnavailable."""
        milvus = client(server)
        with answering(server):
            return [name for name in milvus.list_collections() if name.startswith(prefix)]

    # -- asking --------------------------------------------------------------------------------

    def facts(self) -> tuple[int, int]:
        """(rows, dimension). Raises IndexMismatch: there is no such collection; IndexUnavailable."""
        with self._asking() as milvus:
            if not milvus.has_collection(self.name):
                raise IndexMismatch(
                    f"Milvus at {self.server.uri}: no collection {self.name}: somebody dropped it; publish "
                    "again"
                )
            self._load(milvus)
            said = milvus.describe_collection(self.name)
            (vector,) = [one for one in said["fields"] if one["name"] == EMBEDDING]
            counted = milvus.query(
                self.name, filter="", output_fields=["count(*)"], consistency_level="Strong",
                timeout=self.server.write_seconds,
            )  # fmt: skip
            return int(counted[0]["count(*)"]), int(vector["params"]["dim"])

    def rows(self) -> int:
        """How many it holds. Raises IndexMismatch, IndexUnavailable."""
        return self.facts()[0]

    def _load(self, milvus: Any) -> None:
        if "Loaded" not in str(milvus.get_load_state(self.name)["state"]):
            milvus.load_collection(self.name, timeout=self.server.write_seconds)

    def search(
        self,
        queries: np.ndarray,
        wide: int,
        expression: str,
        parameters: dict[str, Any],
        vectors: bool,
        strong: bool,
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """For each of (B, D) queries the (≤ W,) item_rows that the server finds, and their (≤ W, D)
        embeddings where `vectors` are wanted. Raises IndexUnavailable."""
        found: list[tuple[np.ndarray, np.ndarray | None]] = []
        step = max(1, min(1_000, CELLS_AT_ONCE // (wide * (queries.shape[1] if vectors else 1))))
        for start in range(0, len(queries), step):
            some = queries[start : start + step]
            asked = {
                "data": list(some),
                "anns_field": EMBEDDING,
                "limit": wide,
                "filter": expression,
                "search_params": {"metric_type": "IP", "params": parameters},
                "output_fields": [EMBEDDING] if vectors else [],
                "timeout": self.server.seconds * max(1.0, len(some) / QUERIES_IN_TIME),
                "consistency_level": "Strong" if strong else "Eventually",
            }
            for hits in self._loaded(lambda milvus, asked=asked: milvus.search(self.name, **asked)):
                rows = np.fromiter((hit[ROW] for hit in hits), np.int64, len(hits))
                theirs = [hit["entity"][EMBEDDING] for hit in hits] if vectors else None
                found.append((rows, _matrix(theirs, queries.shape[1]) if theirs is not None else None))
        return found

    def embeddings(self, rows: np.ndarray, dimension: int) -> np.ndarray:
        """(n, D) float32 of these item_rows, no more than MOST. Raises IndexUnavailable, IndexMismatch."""
        said = self._loaded(
            lambda milvus: milvus.query(
                self.name, filter=among(rows), output_fields=[ROW, EMBEDDING],
                timeout=self.server.write_seconds, consistency_level="Strong",
            )
        )  # fmt: skip
        by_row = {int(one[ROW]): one[EMBEDDING] for one in said}
        gone = [int(row) for row in rows if int(row) not in by_row]
        if gone:
            raise IndexMismatch(
                f"Milvus at {self.server.uri} ({self.name}): row {gone[0]} is not there; publish again"
            )
        return _matrix([by_row[int(row)] for row in rows], dimension)

    def _loaded(self, ask: Any) -> Any:
        """`ask`, once more where a server that was started again has not loaded the collection."""
        with self._asking() as milvus:
            try:
                return ask(milvus)
            except Exception as error:
                if getattr(error, "code", None) not in (101, 503):
                    raise
                self._load(milvus)
                return ask(milvus)


# -- aliases -----------------------------------------------------------------------------------


def point_alias(server: Server, alias: str, collection: str) -> str | None:
    """Make `alias` name `collection`, in one step; → what it named before. Raises IndexUnavailable."""
    milvus = client(server)
    with answering(server, alias):
        before = aliased(server, alias)
        if before is None:
            milvus.create_alias(collection, alias)
        elif before != collection:
            milvus.alter_alias(collection, alias)
    return before


def aliased(server: Server, alias: str) -> str | None:
    """The collection that `alias` names; None: there is no such alias. Raises IndexUnavailable."""
    milvus = client(server)
    with answering(server, alias):
        if not milvus.has_collection(alias):
            return None
        said = milvus.describe_collection(alias)
    return str(said["collection_name"])


def drop_alias(server: Server, alias: str) -> None:
    """Raises IndexUnavailable."""
    if aliased(server, alias) is not None:
        milvus = client(server)
        with answering(server, alias):
            milvus.drop_alias(alias)


# -- expressions -------------------------------------------------------------------------------


def told(
    conditions: Sequence[Condition], allowed: np.ndarray, changed: np.ndarray, never_told: np.ndarray
) -> tuple[str, bool]:
    """The expression that every one of the (M,) `allowed` item_rows fulfils, and whether it says all of the
    `conditions`.

    changed: rows whose LIVE fields are out of date. never_told: rows of which not all fields are stored.
    They are named one by one, or, where they are too many, the conditions that miss them are left out.
    """
    late = np.intersect1d(changed, allowed)
    kept = list(conditions)
    if len(late) > IDS_AT_ONCE:
        kept = [one for one in kept if one.field not in LIVE]
    if not any(one.field in LIVE for one in kept):
        late = np.empty(0, np.int64)
    beside = np.union1d(late, np.intersect1d(never_told, allowed))
    parts = [text for text in map(_told, kept) if text is not None]
    whole = len(parts) == len(conditions)
    if len(beside) > IDS_AT_ONCE or not parts:
        return "", False
    text = " and ".join(f"({part})" for part in parts)
    return (f"({text}) or {among(beside)}" if len(beside) else text), whole


def _told(one: Condition) -> str | None:
    """None: Milvus has no words for it."""
    field, value = one.field, one.value
    if one.key is not None:
        key = _quoted(one.key)
        if key is None:
            return None
        field = f"attributes[{key}]"
    if isinstance(value, bool):
        word = str(value).lower()
        return f"{field} == {word}" if one.how == "is" else f"{field} is null or {field} != {word}"
    if isinstance(value, int | float):
        sign = {"at_least": ">=", "at_most": "<="}[one.how]
        return f"{field} {sign} {float(value)!r}" if np.isfinite(value) else None
    text = _quoted(value)
    if text is None:
        return None
    if one.how == "beneath":
        # `%` and `_` of the path's own would let more through, and nothing less.
        return f'{field} == {text} or {field} like {text[:-1]} > %"'
    return f"{field} == {text}"


def _quoted(text: str) -> str | None:
    """As Milvus reads it; None: it holds what needs more than a backslash."""
    if not text.isprintable():
        return None
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def among(rows: np.ndarray, *, but: bool = False) -> str:
    """These item_rows; or, `but`, all others."""
    return f"{ROW} {'not in' if but else 'in'} {rows.tolist()}"


def _is_lite(milvus: Any) -> bool:
    """As a file, or as a server of its own."""
    return "lite" in str(milvus.get_server_version())


# -- rows --------------------------------------------------------------------------------------


def too_long(fields: pa.Table) -> np.ndarray:
    """(n,) bool: which rows have a field that Milvus cannot hold."""
    found = np.zeros(fields.num_rows, bool)
    for name in (*TEXTS, "attributes"):
        for place, text in enumerate(fields[name].to_pylist()):
            if text is not None and len(text) * 4 > TEXT_BYTES and len(text.encode()) > TEXT_BYTES:
                found[place] = True
    return found


def _entities(block: Block) -> Iterator[dict[str, Any]]:
    columns: dict[str, list[Any]] = {name: [None] * len(block.rows) for name in FIELDS}
    if block.fields is not None:
        unfit = too_long(block.fields)
        for name in FIELDS:
            pairs = zip(block.fields[name].to_pylist(), unfit, strict=True)
            # NaN: not known, as null is.
            columns[name] = [None if bad or value != value else value for value, bad in pairs]
    columns["attributes"] = [_texts_of(text) for text in columns["attributes"]]
    for place, (row, embedding) in enumerate(zip(block.rows.tolist(), block.embeddings, strict=True)):
        yield {ROW: row, EMBEDDING: embedding, **{name: values[place] for name, values in columns.items()}}


def _texts_of(attributes: str | None) -> dict[str, str] | None:
    """Those attributes that a filter can ask for: texts."""
    try:
        found = json.loads(attributes) if attributes else None
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _matrix(vectors: list[Any], dimension: int) -> np.ndarray:
    return np.asarray(vectors, np.float32).reshape(len(vectors), dimension)
