"""Finds the word of a catalogue that a shopper probably meant: `jaket` → `jacket`.

A word's distance is how many letters are to be added, left out, changed or swapped with their neighbour. All
words are compared at once, a letter at a time; a vocabulary of tens of thousands takes milliseconds.

V words   L letters of the longest   n letters of what was typed
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SHORTEST, LONGEST = 3, 24
"""Letters of the words that are known: shorter ones are too alike, longer ones are codes."""
FORGIVEN = ((4, 1), (6, 2))
"""From so many letters on, so many slips are forgiven; in shorter words none."""
PROPOSED = ((3, 1), (5, 2), (7, 3))
"""The same of a word that is only proposed, where nothing was found."""
_WORD = re.compile(r"[^\W_]+")


def _bits(letters: np.ndarray) -> np.ndarray:
    """A bit for each code point."""
    return np.left_shift(np.uint64(1), (letters % 64).astype(np.uint64))


class Vocabulary:
    """The words of some texts, with how often each stands there."""

    def __init__(self, texts: pa.Array) -> None:
        """texts: (N,) large_string, folded as what is typed will be."""
        pieces = pc.value_counts(pc.utf8_split_whitespace(texts).flatten())
        counts: Counter[str] = Counter()
        # Few pieces are distinct: only those are looked at for words.
        for piece, count in zip(*(pieces.field(at).to_pylist() for at in (0, 1)), strict=True):
            for word in _WORD.findall(piece):
                if SHORTEST <= len(word) <= LONGEST:
                    counts[word] += count
        self._words = np.array(list(counts), dtype=f"U{LONGEST}")
        self._counts = np.fromiter(counts.values(), np.int64, len(counts))
        letters = self._words.view(np.uint32).reshape(len(self._words), LONGEST)
        self._letters = np.ascontiguousarray(letters.T)
        """(LONGEST, V) code points; 0 behind a word's end."""
        self._lengths = (self._letters != 0).sum(axis=0)
        self._bags = np.zeros(len(self), np.uint64)
        """(V,) which letters a word has: a bit a letter, several letters to a bit."""
        for row in self._letters:
            self._bags |= np.where(row == 0, np.uint64(0), _bits(row))

    def __len__(self) -> int:
        """V."""
        return len(self._words)

    def nearest(self, typed: str, forgiven: Sequence[tuple[int, int]] = FORGIVEN) -> str | None:
        """The word that was probably meant; None: no word is near enough.

        The nearest wins; of several one that begins with the same letter, then the most frequent one. A word
        that only begins with what was typed, which may still be on its way, is behind all whole ones.
        """
        slips = max((allowed for letters, allowed in forgiven if len(typed) >= letters), default=0)
        if slips == 0 or len(typed) > LONGEST:
            return None
        asked = np.bitwise_or.reduce(_bits(np.array([ord(letter) for letter in typed], np.uint32)))
        # A slip makes up for one letter that a word lacks: most words need no closer look.
        lacking = np.bitwise_count(asked & ~self._bags)
        some = np.flatnonzero((self._lengths >= len(typed) - slips) & (lacking <= slips))
        if len(some) == 0:
            return None
        whole, begun = self._distances(typed, some, slips)
        far = 2 * (slips + 1)
        distance = np.where(whole <= slips, whole, np.where(begun <= slips, begun + slips + 1, far))
        best = np.lexsort((-self._counts[some], self._letters[0, some] != ord(typed[0]), distance))[0]
        return str(self._words[some[best]]) if distance[best] < far else None

    def _distances(self, typed: str, some: np.ndarray, slips: int) -> tuple[np.ndarray, np.ndarray]:
        """(S,) distance of `typed` to each of the words, and to the nearest of what they begin with."""
        width = min(LONGEST, len(typed) + slips)
        letters = self._letters[:width, some]
        rows = [np.zeros((width + 1, len(some)), np.int16) for _ in range(3)]
        before, above, row = rows
        above[:] = np.arange(width + 1, dtype=np.int16)[:, None]
        for i, letter in enumerate(typed):
            row[0] = i + 1
            differs = letters != ord(letter)
            for j in range(width):
                best = np.minimum(above[j + 1], row[j]) + 1
                np.minimum(best, above[j] + differs[j], out=best)
                if i and j:
                    swapped = (letters[j] == ord(typed[i - 1])) & (letters[j - 1] == ord(letter))
                    best = np.where(swapped, np.minimum(best, before[j - 1] + 1), best)
                row[j + 1] = best
            before, above, row = above, row, before
        lengths = self._lengths[some]
        whole = np.where(
            lengths <= width, above[np.minimum(lengths, width), np.arange(len(some))], len(typed) + width
        )
        return whole, above.min(axis=0)
