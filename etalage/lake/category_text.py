"""What a merchant calls its categories, and which category of the taxonomy that is.

Three ways, from sure to weak: `PathBook` knows whole paths, in every language and age that it was given;
`read_map` reads what a person has looked up; `CategoryText` finds the category whose wording is most like it.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from etalage.errors import InputUnreadable
from etalage.lake.csv_reader import csv_rows
from etalage.lake.schema import CATEGORY_SEPARATOR
from etalage.lake.taxonomy import Taxonomy

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

OUTSIDE_WORD = "outside"
"""Stands in a map where a merchant's category is no business of the taxonomy."""
GRAMS = (3, 4)
"""Lengths of the character n-grams; a word counts with a space on either side."""
ABOVE = 0.4
"""What the step above counts, next to the step itself (1): the leaf weighs most."""
_SEVERAL = -1
_AT_ONCE = 512
"""Texts whose similarities to all categories are held at once."""
_SEPARATORS = re.compile(r"\s*(?:>|»|›|→|\||\\|/|::)\s*")
_NO_WORD = re.compile(r"[^\w]+")


def folded(text: str) -> str:
    """Equal for texts that differ in case, composition of letters, and spaces only."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return CATEGORY_SEPARATOR.join(" ".join(step.split()) for step in text.split(CATEGORY_SEPARATOR.strip()))


def steps_of(text: str) -> list[str]:
    """The steps of a path, whichever separator its merchant uses: > » › → | / \\ or ::."""
    return [step for step in _SEPARATORS.split(text.strip()) if step]


Key = Callable[[str], str]


class PathBook:
    """Whole paths → rows. What is added first is kept; a path that one file gives to two ids is none's.

    As it is written first; then whichever separators its steps stand between.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._row_of: dict[Key, dict[str, int]] = {folded: {}, _however_parted: {}}
        self._gone: dict[Key, set[str]] = {folded: set(), _however_parted: set()}
        self._row_of_ending: dict[str, int] = {}
        self.add({taxonomy.ids[row]: taxonomy.path(row) for row in range(len(taxonomy))})

    def add(self, paths: Mapping[str, str]) -> None:
        """paths: {id: path}, in another language or of another age; ids that the taxonomy lacks are gone."""
        for key, row_of in self._row_of.items():
            ids: dict[str, set[str]] = {}
            for id, path in paths.items():
                ids.setdefault(key(path), set()).add(id)
            for path, those in ids.items():
                rows = {self._taxonomy.row(id) for id in those}
                if rows == {-1}:
                    self._gone[key].add(path)
                elif len(rows) == 1:
                    row_of.setdefault(path, rows.pop())
        for id, path in paths.items():
            if (row := self._taxonomy.row(id)) >= 0:
                steps = steps_of(path)
                for start in range(1, len(steps)):
                    ending = folded(CATEGORY_SEPARATOR.join(steps[start:]))
                    if self._row_of_ending.setdefault(ending, row) != row:
                        self._row_of_ending[ending] = _SEVERAL

    def row_of_ending(self, path: str) -> int:
        """The one category whose path ends in these very steps, which may be its last one alone; -1: none, or
        several."""
        return self._row_of_ending.get(_however_parted(path), -1)

    def row(self, path: str) -> int:
        """-1: unknown, or retired."""
        for key, row_of in self._row_of.items():
            row = row_of.get(key(path), -1)
            if row >= 0 or key(path) in self._gone[key]:
                return row
        return -1

    def retired(self, path: str) -> bool:
        """Whether only older files have this path."""
        return self.row(path) < 0 and any(key(path) in gone for key, gone in self._gone.items())


def _however_parted(path: str) -> str:
    return folded(CATEGORY_SEPARATOR.join(steps_of(path)))


@dataclass(frozen=True)
class CategoryMap:
    """What a person says that merchants' categories are."""

    rows: Mapping[tuple[str | None, str], int]
    """(merchant, folded text) → row, -1 for outside; the merchant None stands for all."""

    def row(self, merchant: str | None, text: str) -> int | None:
        """None: not in the map. The merchant's own line counts before the line for all."""
        key = folded(text)
        found = self.rows.get((merchant, key))
        return self.rows.get((None, key)) if found is None else found


def read_map(taxonomy: Taxonomy, file: Path, book: PathBook) -> CategoryMap:
    """A CSV with merchant (empty: all), category (the merchant's text) and id (or path) of the taxonomy.

    A line without an id is still to be looked up, and is passed over; `outside` in place of an id says that
    the category is no business of the taxonomy. Raises InputUnreadable, with the line: as `csv_rows`, no
    category, an unknown id, two ids for one category of a merchant.
    """
    rows: dict[tuple[str | None, str], int] = {}
    for line, (merchant, text, id) in csv_rows(file, ("merchant", "category", "id")):
        if text is None:
            raise InputUnreadable(f"{file}: line {line}: no category; write the merchant's text there")
        if id is None:
            continue
        row = found_row(taxonomy, book, id)
        if row < 0 and id.strip().casefold() != OUTSIDE_WORD:
            raise InputUnreadable(
                f"{file}: line {line}: {id!r} is no id of the taxonomy; `etalage taxonomy show` lists them"
            )
        if rows.setdefault((merchant, folded(text)), row) != row:
            whose = merchant or "all merchants"
            raise InputUnreadable(f"{file}: line {line}: {text!r} of {whose} has another id further up")
    return CategoryMap(rows)


def found_row(taxonomy: Taxonomy, book: PathBook, text: str) -> int:
    """The row of an id or a whole path; -1: neither."""
    row = taxonomy.row(text.strip())
    return row if row >= 0 else book.row(text)


class CategoryText:
    """Cosine of TF-IDF over the character n-grams of words, of a text against every category's path.

    A step counts ABOVE times the step beneath it, in texts as in paths; the frequency of an n-gram counts
    by its logarithm. `names`: the categories in other languages, (N,) each; the best of all languages counts.
    (Salton & Buckley 1988, Term-weighting approaches in automatic text retrieval: weights `ltc`.)
    """

    def __init__(self, taxonomy: Taxonomy, names: Iterable[Sequence[str]] = ()) -> None:
        self._taxonomy = taxonomy
        self._languages = [taxonomy.names, *names]
        self._columns: dict[str, int] = {}

    def nearest(self, texts: Sequence[str], count: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """→ (n, count) int64 rows, the most similar first, and (n, count) float32 similarities, 0 … 1.

        A row is -1 where nothing is similar at all. Of equally similar ones the first in the file is first
        (for count > 1: of those that are among the first `count`).
        """
        total = len(self._taxonomy)
        count = min(count, total)
        rows = np.empty((len(texts), count), dtype=np.int64)
        similar = np.empty((len(texts), count), dtype=np.float32)
        categories = self._categories.T.tocsr()
        for start in range(0, len(texts), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            queries = self._weighed([steps_of(text) for text in texts[some]])
            scores = (queries @ categories).toarray()
            scores = scores.reshape(len(scores), len(self._languages), total).max(axis=1)
            rows[some] = _best(scores, count)
            similar[some] = np.take_along_axis(scores, rows[some], axis=1)
        rows[similar <= 0] = -1
        return rows, np.clip(similar, 0, 1)

    @cached_property
    def _categories(self) -> "csr_matrix":
        """(languages * N, V) float32, rows of length 1."""
        paths = [
            [names[step] for step in self._taxonomy.steps(row)]
            for names in self._languages
            for row in range(len(self._taxonomy))
        ]
        for path in paths:
            for gram in _grams(path[-1]):
                self._columns.setdefault(gram, len(self._columns))
        return self._weighed(paths)

    @cached_property
    def _idf_V(self) -> np.ndarray:
        """(V,) float32, by the names of the categories: what stands in many says little."""
        seen = np.zeros(len(self._columns), dtype=np.int64)
        for names in self._languages:
            for name in names:
                seen[[self._columns[gram] for gram in _grams(name)]] += 1
        count = len(self._languages) * len(self._taxonomy)
        return (np.log((1 + count) / (1 + seen)) + 1).astype(np.float32)

    def _weighed(self, paths: Sequence[Sequence[str]]) -> "csr_matrix":
        """(n, V) float32: TF-IDF with weights by step; grams that no category has are left out."""
        from scipy.sparse import csr_matrix

        known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        data: list[np.ndarray] = [np.empty(0, np.float32)]
        columns: list[np.ndarray] = [np.empty(0, np.int64)]
        ends = [0]
        for path in paths:
            ends.append(ends[-1])
            for above, step in enumerate(reversed(path)):
                if (terms := known.get(step)) is None:
                    terms = known[step] = self._terms(step)
                columns.append(terms[0])
                data.append(terms[1] * ABOVE**above)
                ends[-1] += len(terms[0])
        shape = (len(paths), len(self._columns))
        weighed = csr_matrix((np.concatenate(data), np.concatenate(columns), ends), shape)
        weighed.sum_duplicates()
        weighed = weighed.multiply(self._idf_V).tocsr()
        lengths = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1))).ravel()
        scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        return csr_matrix(weighed.multiply(scale[:, None]), dtype=np.float32)

    def _terms(self, step: str) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 columns of one step's grams, and (n,) float32 1 + log of how often each occurs."""
        known = [(self._columns[gram], n) for gram, n in _grams(step).items() if gram in self._columns]
        columns, times = np.array(known, dtype=np.int64).reshape(-1, 2).T
        return columns, 1 + np.log(times, dtype=np.float32)


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """(n, N) → (n, count) int64 places of the highest scores, highest first.

    The first in the file is first among equals, except for which of those at the lowest score are kept.
    """
    if count == 1:
        return scores.argmax(axis=1)[:, None]
    kept = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(scores, kept, axis=1), axis=1, kind="stable")
    found: np.ndarray = np.take_along_axis(kept, order, axis=1)
    return found


def _grams(text: str) -> dict[str, int]:
    """The n-grams of a text's words, with how often."""
    found: dict[str, int] = {}
    for word in _NO_WORD.split(unicodedata.normalize("NFKC", text).casefold()):
        padded = f" {word} "
        for size in GRAMS if word else ():
            for start in range(max(1, len(padded) - size + 1)):
                gram = padded[start : start + size]
                found[gram] = found.get(gram, 0) + 1
    return found
