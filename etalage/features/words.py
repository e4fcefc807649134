"""Titles → hashed words: the same in training and in serving, in any language, with no vocabulary to keep.

Words, pairs of neighbours and the four-letter pieces of each word (so that plurals and compounds meet) fall
into buckets by a hash (K. Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009).

    N titles   T entries of a row
"""

import itertools
import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from etalage.errors import ExportDamaged

_WORD = re.compile(r"\w+")
_PIECE = 4


@dataclass(frozen=True)
class WordEncoder:
    """`buckets` rows beside row 0, which is padding; a title's first `length` entries count."""

    buckets: int = 2**15
    length: int = 64

    def encode(self, titles: Sequence[str | None]) -> np.ndarray:
        """(N, T) int64 in 0 … buckets; all zeros for a title that is missing or without a word."""
        rows_NT = np.zeros((len(titles), self.length), dtype=np.int64)
        for row, title in enumerate(titles):
            entries = dict.fromkeys(_entries(title or ""))  # each once, in order
            numbers = [1 + zlib.crc32(entry.encode()) % self.buckets for entry in entries][: self.length]
            rows_NT[row, : len(numbers)] = numbers
        return rows_NT

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> "WordEncoder":
        """Raises ExportDamaged."""
        try:
            fields = json.loads(text)
            encoder = cls(int(fields["buckets"]), int(fields["length"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ExportDamaged(f"{where}: not a word encoder: {error!r}; export the model again") from error
        if not (1 <= encoder.buckets <= 2**24 and 1 <= encoder.length <= 4096):
            raise ExportDamaged(f"{where}: impossible {encoder}; export the model again")
        return encoder


def _entries(title: str) -> Iterable[str]:
    """Words first, so that a long title loses pieces and not words."""
    # Case and accents differ between merchants for the same word; a title is no identity.
    # Folded between: `℡` becomes letters only by the first step, and some letters come apart by folding.
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", title).casefold())
    words = _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))
    yield from words
    yield from (f"{first} {second}" for first, second in itertools.pairwise(words))
    for word in words:
        marked = f"<{word}>"
        yield from (f"#{marked[n : n + _PIECE]}" for n in range(len(marked) - _PIECE + 1))
