"""Milvus: the embeddings of a bundle's items in a collection of a vector database.

    [index]
    kind = "milvus"

    [index.milvus]
    uri = "http://milvus:19530"
    index = "HNSW"
    build = {M = 32, efConstruction = 200}
    search = {ef = 128}

Source of the system: Wang et al., "Milvus: A Purpose-Built Vector Data Management System" (SIGMOD 2021).

    B queries   N items   D embedding dimension   A length of a mask   W answers asked for
"""

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import ceil, sqrt
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from etalage.config import Settings
from etalage.errors import IndexMismatch, IndexUnavailable
from etalage.index.conditions import Mask, conditions_of
from etalage.index.contract import (
    Found,
    Header,
    Norm,
    allowed_positions,
    checked_items,
    checked_queries,
    refuse_known,
)
from etalage.index.exact import ExactIndex
from etalage.index.milvus_collection import (
    IDS_AT_ONCE,
    MOST,
    Block,
    Collection,
    Server,
    among,
    is_lite,
    told,
    too_long,
)
from etalage.nearest import nearest

log = logging.getLogger(__name__)

WHERE_FILE, ROWS_FILE = "milvus.json", "rows.npy"
MOVED = "ETALAGE_MILVUS_URI"
"""The environment variable with the address of a Milvus that has moved since the bundle was published."""
SPARE = 8
"""Asked for beside the k wanted: a server's float32 sums may order near-equals otherwise than ours."""
WIDER = 4
"""So many times as many are asked for where k were not enough."""
SCORED_HERE = 32_768
"""If no more items than this are allowed, an approximate index is not asked: they are all scored here."""
PAUSE = 5.0
"""Seconds in which a server that did not answer is not asked again."""

Spread = Callable[[Callable[[Block], int], Iterable[Block]], Iterable[int]]
"""Runs a function on blocks of rows, such as an engine's `map`."""


class _Kind(NamedTuple):
    """A type of index in Milvus: its numbers with their bounds."""

    build: Mapping[str, tuple[int, int]]
    search: Mapping[str, tuple[int, int]]
    lite: bool


_IVF = {"nlist": (1, 65_536)}, {"nprobe": (1, 65_536)}
_HNSW = {"M": (2, 2_048), "efConstruction": (1, 2**31 - 1)}, {"ef": (1, 2**31 - 1)}
KINDS: Mapping[str, _Kind] = {
    "FLAT": _Kind({}, {}, True),
    "IVF_FLAT": _Kind(*_IVF, True),
    "IVF_SQ8": _Kind(*_IVF, True),
    "IVF_PQ": _Kind({**_IVF[0], "m": (1, 65_536), "nbits": (1, 24)}, _IVF[1], False),
    "HNSW": _Kind(*_HNSW, True),
    "HNSW_SQ": _Kind(*_HNSW, True),
    "SCANN": _Kind(_IVF[0], {**_IVF[1], "reorder_k": (1, 2**31 - 1)}, False),
    "DISKANN": _Kind({}, {"search_list": (1, 65_535)}, False),
    "AUTOINDEX": _Kind({}, {"level": (1, 10)}, True),
}


class MilvusSettings(Settings):
    """[index.milvus]: where the Milvus is, and which index it makes."""

    uri: str = Field(min_length=1)
    """`http://host:19530` (or https) of a server; or a file `NAME.db` of the shop's folder, which Milvus Lite
    opens in this process: for tests and for trying out."""
    database: str = ""
    """Of the server; empty: its default one."""
    token_from: str = Field("MILVUS_TOKEN", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The environment variable with the token (`user:password`, or an API key)."""
    prefix: str = Field("etalage", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,60}$")
    """Of the names of collections and aliases: one for each shop of a server."""
    index: Literal[
        "FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "HNSW", "HNSW_SQ", "SCANN", "DISKANN", "AUTOINDEX"
    ] = "HNSW"
    build: dict[str, int] = Field(default_factory=dict)
    """Its numbers: M, efConstruction; nlist (default 4·√N), m, nbits."""
    search: dict[str, int] = Field(default_factory=dict)
    """Of a search: ef (default 128), nprobe (default 32), reorder_k, search_list, level."""
    batch: int = Field(5_000, ge=1)
    """Items of one upsert."""
    seconds: float = Field(2.0, gt=0)
    """How long one search may take."""
    write_seconds: float = Field(60.0, gt=0)
    build_seconds: float = Field(3_600.0, gt=0)
    """How long publish waits for the server's index."""
    scan_up_to: int = Field(1_000_000, ge=0)
    """If the server does not answer, up to this many embeddings of the bundle are searched here instead; with
    more the request fails."""

    @field_validator("uri")
    @classmethod
    def _without_a_secret(cls, given: str) -> str:
        scheme, there, rest = given.partition("://")
        if there and scheme not in ("http", "https", "tcp", "unix"):
            raise ValueError("an address such as http://host:19530, or a file such as milvus.db")
        if there and "@" in rest.partition("/")[0]:
            raise ValueError("no user or password in the address: the token comes from the environment")
        if not there and not given.endswith(".db"):
            raise ValueError("a file of Milvus Lite ends with .db; a server's address begins with http://")
        return given

    @model_validator(mode="after")
    def _that_act(self) -> "MilvusSettings":
        kind = KINDS[self.index]
        if is_lite(self.uri) and not kind.lite:
            there = ", ".join(name for name, one in KINDS.items() if one.lite)
            raise ValueError(f"index = {self.index!r} needs a server: Milvus Lite has {there}")
        for what, given, bounds in (("build", self.build, kind.build), ("search", self.search, kind.search)):
            for name, value in given.items():
                if name not in bounds:
                    near = nearest(name, list(bounds))
                    meant = f"did you mean {near!r}?" if near else f"it has {', '.join(bounds) or 'none'}"
                    raise ValueError(f"{what}.{name} is no number of {self.index}: {meant}")
                low, high = bounds[name]
                if not low <= value <= high:
                    raise ValueError(f"{what}.{name} = {value}: must be {low} … {high}")
        return self

    @property
    def server(self) -> Server:
        uri = os.environ.get(MOVED) or self.uri
        return Server(
            uri, self.database, self.token_from, self.seconds, self.write_seconds, self.build_seconds
        )

    def built(self, items: int, dimension: int) -> dict[str, int]:
        """The numbers that an index of so many items is built with."""
        bounds, given = KINDS[self.index].build, dict(self.build)
        if "nlist" in bounds:
            given.setdefault("nlist", max(1, min(65_536, ceil(4 * sqrt(items)))))
        if "M" in bounds:
            given = {"M": 32, "efConstruction": 200} | given
        if "m" in bounds:
            given.setdefault("m", next(m for m in (16, 8, 4, 2, 1) if dimension % m == 0))
        return given

    def searched(self, wide: int) -> dict[str, int]:
        """The numbers of a search for so many."""
        bounds, given = KINDS[self.index].search, dict(self.search)
        if "nprobe" in bounds:
            given.setdefault("nprobe", 32)
        if "ef" in bounds:
            given["ef"] = max(given.get("ef", 128), wide)
        if "search_list" in bounds:
            given["search_list"] = max(given.get("search_list", 100), wide)
        if "reorder_k" in given:
            given["reorder_k"] = max(given["reorder_k"], wide)
        return given


class MilvusIndex:
    """All items in one collection, of which this holds the item_rows.

    A filter travels as an expression over the stored fields where the mask says what it was made from
    (conditions.py), as item_rows where few are allowed or few are not, and else not at all: more is asked
    for, and what is not allowed is dropped. What the server answers is scored again here, in float64: from
    `embeddings` where the caller has them (`lay`), else from what the server sends along.

    If the server does not answer, `laid` embeddings are searched exactly, here, for PAUSE seconds at a time;
    `problem` says so.
    """

    kind = "milvus"
    filters_itself = True

    def __init__(
        self,
        settings: MilvusSettings,
        collection: str,
        dimension: int,
        *,
        norm: Norm = "l2",
        model_hash: str = "",
    ) -> None:
        self.settings = settings
        self.dimension = dimension
        self.norm: Norm = norm
        self.model_hash = model_hash
        self.collection = Collection(settings.server, collection)
        self.problem: str | None = None
        """Why embeddings are searched here; None: the server answers."""
        self._rows = np.empty(0, np.int64)
        self._untold = np.empty(0, np.int64)  # rows with a field that Milvus cannot hold
        self._laid: np.ndarray | None = None
        self._here: ExactIndex | None = None
        self._written = False  # here: then every search must see it
        self._expected: tuple[int, int] | None = None  # rows and dimension, until the server was asked
        self._again_at = 0.0

    @classmethod
    def build(
        cls,
        rows: np.ndarray,
        embeddings: np.ndarray,
        settings: MilvusSettings,
        collection: str | None = None,
        *,
        fields: pa.Table | None = None,
        norm: Norm = "l2",
        model_hash: str = "",
        spread: Spread = map,
    ) -> "MilvusIndex":
        """A new collection of (N,) rows and their (N, D) float32 embeddings.

        fields: N rows of conditions.FIELDS, in the order of `rows`. spread: who runs the upserts; Milvus Lite
        is filled by this process. Raises IndexMismatch as Index.add does, IndexUnavailable.
        """
        dimension = np.shape(embeddings)[1]
        checked_items(rows, embeddings, dimension, norm)
        name = collection or f"{settings.prefix}_{secrets.token_hex(6)}"
        index = cls(settings, name, dimension, norm=norm, model_hash=model_hash)
        built = settings.built(len(rows), dimension)
        index.collection.create(dimension, settings.index, built, f"Etalage: model {model_hash[:12]}")
        index.add(rows, embeddings, fields, spread)
        return index

    @property
    def is_exact(self) -> bool:
        return self.settings.index == "FLAT"

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64, ascending: the item_rows in the index."""
        return self._rows

    def add(
        self,
        rows: np.ndarray,
        embeddings: np.ndarray,
        fields: pa.Table | None = None,
        spread: Spread = map,
    ) -> None:
        """See Index.add; `fields` and `spread` as for `build`. Raises IndexUnavailable too."""
        order = np.argsort(np.asarray(rows), kind="stable")
        rows, embeddings = checked_items(rows, embeddings, self.dimension, self.norm)
        refuse_known(rows, self._rows)
        if len(rows) == 0:
            return
        if fields is not None:
            fields = fields.take(pa.array(order))
            self._untold = np.union1d(self._untold, rows[too_long(fields)])
        else:
            self._untold = np.union1d(self._untold, rows)
        self._written = True
        run: Spread = map if self.collection.server.is_lite else spread
        for _ in run(self.collection.upsert, self._blocks(rows, embeddings, fields)):
            pass
        self.collection.finish()
        at = np.searchsorted(self._rows, rows)
        self._rows = np.insert(self._rows, at, rows)

    def _blocks(self, rows: np.ndarray, embeddings: np.ndarray, fields: pa.Table | None) -> Iterator[Block]:
        for start in range(0, len(rows), self.settings.batch):
            part = slice(start, start + self.settings.batch)
            some = None if fields is None else fields.slice(start, self.settings.batch)
            yield Block(rows[part], embeddings[part], some)

    def remove(self, rows: np.ndarray) -> int:
        """See Index.remove. Raises IndexUnavailable."""
        gone = np.isin(self._rows, np.asarray(rows))
        if gone.any():
            self._written = True
            self.collection.delete(self._rows[gone])
            self._untold = np.setdiff1d(self._untold, self._rows[gone])
            self._rows = self._rows[~gone]
        return int(gone.sum())

    def reset(self) -> None:
        """See Index.reset."""
        self.remove(self._rows)

    def drop(self) -> None:
        """Remove the collection from the server. Raises IndexUnavailable."""
        self.collection.drop()

    # -- search --------------------------------------------------------------------------------

    def lay(self, embeddings: np.ndarray) -> None:
        """Have the same embeddings here, (A, D) by item_row: answers are scored from them, and they are
        searched if the server does not answer."""
        self._laid, self._here = embeddings, None

    def search(self, queries: np.ndarray, k: int, allow: np.ndarray | None = None) -> Found:
        """See Index.search. Raises IndexUnavailable: the server does not answer, and nothing is laid here,
        or too much."""
        queries = checked_queries(queries, self.dimension, k, allow)
        found = Found.nothing(len(queries), k)
        rows = self._rows if allow is None else self._rows[allowed_positions(self._rows, allow)]
        if len(rows) == 0 or len(queries) == 0:
            return found
        few = not self.is_exact and len(rows) < len(self)  # an approximate search among few misses some
        if few and self._laid is not None and len(rows) <= SCORED_HERE:
            self._score_all(found, np.arange(len(queries)), queries, min(k, len(rows)), rows)
            return found
        if self.problem is not None and time.monotonic() < self._again_at:
            return self._searched_here(queries, k, allow, self.problem)
        try:
            self._require_expected()
            if few and len(rows) <= IDS_AT_ONCE:
                self._score_all(found, np.arange(len(queries)), queries, min(k, len(rows)), rows)
            else:
                self._fill(found, queries, min(k, len(rows)), rows, allow)
        except IndexUnavailable as error:
            return self._searched_here(queries, k, allow, self._missed(error))
        self._reached()
        return found

    def ask_again(self) -> None:
        """If the server did not answer, look whether it does now, at most every PAUSE seconds. Raises
        IndexMismatch: it does, and has another collection than was saved."""
        if self.problem is None or time.monotonic() < self._again_at:
            return
        try:
            self._expected = self._expected or (len(self), self.dimension)
            self._require_expected()
        except IndexUnavailable as error:
            self._missed(error)
        else:
            self._reached()

    def _missed(self, error: IndexUnavailable) -> str:
        self._again_at = time.monotonic() + PAUSE
        if self.problem is None:
            log.warning("%s", error)
        self.problem = str(error)
        return self.problem

    def _reached(self) -> None:
        if self.problem is not None:
            log.warning("Milvus at %s answers again", self.collection.server.uri)
            self.problem = None

    def _require_expected(self) -> None:
        """Raises IndexMismatch: the collection is not the one that was saved."""
        if self._expected is None:
            return
        (rows, dimension), wanted = self.collection.facts(), self._expected
        where = f"Milvus at {self.collection.server.uri}: collection {self.collection.name}"
        if dimension != wanted[1]:
            raise IndexMismatch(
                f"{where} holds embeddings of {dimension} numbers, not of {wanted[1]}; publish again"
            )
        if rows != wanted[0]:
            raise IndexMismatch(f"{where} holds {rows} items, not {wanted[0]}; publish again")
        self._expected = None

    def _searched_here(self, queries: np.ndarray, k: int, allow: np.ndarray | None, why: str) -> Found:
        if self._laid is None or len(self) > self.settings.scan_up_to:
            more = "" if self._laid is None else f"; {len(self)} items are more than scan_up_to"
            raise IndexUnavailable(f"{why}{more}")
        if self._here is None:
            log.warning("the embeddings of %d items are searched here instead", len(self))
            self._here = ExactIndex.over(self._rows, _taken(self._laid, self._rows), norm=self.norm)
        return self._here.search(queries, k, allow)

    def _fill(
        self, found: Found, queries: np.ndarray, k: int, rows: np.ndarray, allow: np.ndarray | None
    ) -> None:
        """Fill `found` with the k best of `rows`, all of which are allowed, for each query."""
        expression, narrow = self._expression(rows, allow)
        wide = k + SPARE if narrow else ceil(1.2 * k * len(self) / len(rows)) + SPARE
        asked, unanswered = np.arange(len(queries)), []
        while len(asked):
            most = wide >= min(MOST, len(self))
            wide = min(wide, MOST, len(self))
            again = []
            answers = self._asked(queries[asked], wide, expression, allow)
            for place, (answer, scores, full) in zip(asked.tolist(), answers, strict=True):
                more = len(answer) < len(rows) and (full or not self.is_exact)
                tie_goes_on = more and len(scores) >= k and scores[-1] >= scores[k - 1]
                if len(answer) >= k and not tie_goes_on:
                    found.rows[place, :k], found.scores[place, :k] = answer[:k], scores[:k]
                elif full and not most:
                    again.append(place)
                else:
                    unanswered.append(place)
            asked, wide = np.array(again, np.int64), WIDER * wide
        if unanswered:
            self._score_all(found, np.array(unanswered), queries, k, rows)

    def _expression(self, rows: np.ndarray, allow: np.ndarray | None) -> tuple[str, bool]:
        """What the server is to leave out, and whether that is all that is not allowed."""
        if allow is None or len(rows) == len(self):
            return "", True
        if len(rows) <= IDS_AT_ONCE:
            return among(rows), True
        conditions = conditions_of(allow)
        if conditions:
            assert isinstance(allow, Mask)
            expression, whole = told(conditions, rows, allow.changed, self._untold)
            if expression:
                return expression, whole
        if len(self) - len(rows) <= IDS_AT_ONCE:
            return among(np.setdiff1d(self._rows, rows, assume_unique=True), but=True), True
        return "", False

    def _asked(
        self, queries: np.ndarray, wide: int, expression: str, allow: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
        """For each query the allowed rows among the server's `wide` best, with their scores, best first; and
        whether there may be more."""
        said = self.collection.search(
            queries,
            wide,
            expression,
            self.settings.searched(wide),
            self._laid is None,
            self._written,
        )
        for query, (rows, theirs) in zip(queries, said, strict=True):
            full = len(rows) >= wide and wide < len(self)
            # A row that somebody else wrote is none of ours.
            good = self._rows[np.minimum(np.searchsorted(self._rows, rows), len(self) - 1)] == rows
            if allow is not None:
                good &= (rows < len(allow)) & allow[np.minimum(rows, len(allow) - 1)]
            rows = rows[good]
            if theirs is not None:
                theirs = theirs[good]
            else:
                assert self._laid is not None
                theirs = np.asarray(self._laid[rows], np.float32)
            scores = (query[None, :].astype(np.float64) * theirs).sum(axis=1).astype(np.float32)
            order = np.lexsort((rows, -scores))
            yield rows[order], scores[order], full

    def _score_all(
        self, found: Found, places: np.ndarray, queries: np.ndarray, k: int, rows: np.ndarray
    ) -> None:
        """The k best of `rows` by all their scores: where the server found fewer, or ties go on."""
        best = Found(np.empty((len(places), 0), np.float32), np.empty((len(places), 0), np.int64))
        for start in range(0, len(rows), MOST):
            some = rows[start : start + MOST]
            if self._laid is not None:
                theirs = np.asarray(self._laid[some], np.float32)
            else:
                theirs = self.collection.embeddings(some, self.dimension)
            block = ExactIndex.over(some, theirs, norm=self.norm).search(queries[places], min(k, len(some)))
            scores = np.concatenate([best.scores, block.scores], axis=1)
            both = np.concatenate([best.rows, block.rows], axis=1)
            order = np.lexsort((both, -scores))[:, :k]
            best = Found(np.take_along_axis(scores, order, 1), np.take_along_axis(both, order, 1))
        found.scores[places, :k], found.rows[places, :k] = best

    # -- files ---------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write `index.json`, `milvus.json` (where the collection is) and `rows.npy`; the embeddings stay on
        the server."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / ROWS_FILE, self._rows, allow_pickle=False)
        content = {
            "collection": self.collection.name,
            "settings": self.settings.model_dump(mode="json"),
            "untold": self._untold.tolist() if len(self._untold) < len(self) else None,
        }
        (folder / WHERE_FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
        Header(self.kind, self.dimension, len(self), self.norm, model_hash=self.model_hash).write(folder)

    @classmethod
    def open(cls, folder: Path, embeddings: np.ndarray | None = None) -> "MilvusIndex":
        """The index that `save` wrote.

        embeddings: as for `lay`; with them an index opens whose server does not answer now. Raises
        IndexMismatch: the files, or the collection, are not what `index.json` says; IndexUnavailable.
        """
        folder = Path(folder)
        header = Header.read(folder)
        collection, settings, untold = _where(folder / WHERE_FILE)
        index = cls(settings, collection, header.dimension, norm=header.norm, model_hash=header.model_hash)
        index._rows = _rows(folder / ROWS_FILE, header.rows)
        index._untold = index._rows if untold is None else untold
        index._expected = (header.rows, header.dimension)
        if embeddings is not None:
            index.lay(embeddings)
        try:
            index._require_expected()
        except IndexUnavailable as error:
            if embeddings is None or len(index) > settings.scan_up_to:
                raise
            index._missed(error)
        return index


def where(folder: Path) -> tuple[str, MilvusSettings] | None:
    """The collection that the index in `folder` is in; None: it is in none. Raises IndexMismatch."""
    file = Path(folder) / WHERE_FILE
    return _where(file)[:2] if file.exists() else None


def _where(file: Path) -> tuple[str, MilvusSettings, np.ndarray | None]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        untold = None if raw["untold"] is None else np.array(raw["untold"], np.int64)
        return str(raw["collection"]), MilvusSettings.model_validate(raw["settings"]), untold
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexMismatch(
            f"{file}: does not say where the collection is ({error}); publish again"
        ) from error


def _rows(file: Path, count: int) -> np.ndarray:
    try:
        rows = np.asarray(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise IndexMismatch(f"{file}: cannot be read ({error}); publish again") from error
    if rows.dtype != np.int64 or rows.shape != (count,):
        raise IndexMismatch(
            f"{file}: {rows.dtype} {rows.shape}, but index.json says int64 ({count},); publish again"
        )
    if np.any(rows[1:] <= rows[:-1]) or (len(rows) and rows[0] < 0):
        raise IndexMismatch(f"{file}: rows are not ascending; publish again")
    return rows


def _taken(embeddings: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N, D) float32 of these rows; no copy where they follow each other."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
        return np.asarray(embeddings[int(rows[0]) : int(rows[-1]) + 1], np.float32)
    return np.asarray(embeddings[rows], np.float32)
