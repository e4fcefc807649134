"""Which word of a catalogue was probably meant."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.funnel.spelling import LONGEST, Vocabulary

TITLES = [
    "suede biker jacket, brown",
    "puffer jacket",
    "packet of tea",
    "wool sweater",
    "leather trousers",
    "trainers",
    "café crème",
    "x1 xs",
]


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return Vocabulary(pa.array(TITLES, pa.large_string()))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("jaket", "jacket"),
        ("jacket", "jacket"),
        ("jakcet", "jacket"),
        ("jackets", "jacket"),
        ("jackt", "jacket"),
        ("sweter", "sweater"),
        ("trousars", "trousers"),
        ("trowsars", "trousers"),
        ("traners", "trainers"),
        ("leath", "leather"),
        ("leth", "leather"),
        ("cafe", "café"),
        ("creme", "crème"),
        ("pakcet", "packet"),
        ("tee", None),
        ("umbrella", None),
        ("qqqqqq", None),
        ("j" * 200, None),
        ("", None),
    ],
)
def test_the_nearest_word_is_meant_and_far_ones_are_not(
    words: Vocabulary, typed: str, meant: str | None
) -> None:
    assert words.nearest(typed) == meant


def test_of_equally_near_words_the_same_first_letter_and_then_the_most_frequent_wins(
    words: Vocabulary,
) -> None:
    assert words.nearest("backet") == "jacket", "twice in the titles, packet once"
    assert words.nearest("pcket") == "packet"


def test_a_catalogue_without_words_has_nothing_to_say() -> None:
    for texts in ([], ["", "12", "\n"]):
        assert Vocabulary(pa.array(texts, pa.large_string())).nearest("jacket") is None


def slips(one: str, other: str) -> int:
    """The same distance, as the textbook counts it."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            same = one[i - 1] == other[j - 1]
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (not same))
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


LETTERS = st.text("abc", min_size=3, max_size=9)


@given(st.lists(LETTERS, min_size=1, max_size=8), LETTERS)
def test_the_distance_is_the_textbooks(words: list[str], typed: str) -> None:
    allowed = 2 if len(typed) >= 6 else 1 if len(typed) >= 4 else 0
    found = Vocabulary(pa.array([" ".join(words)], pa.large_string())).nearest(typed)
    whole = min(slips(typed, word) for word in words)
    begun = min(slips(typed, word[:end]) for word in words for end in range(len(word) + 1))
    if allowed and whole <= allowed:
        assert found is not None and slips(typed, found) == whole
    else:
        assert (found is None) == (not allowed or begun > allowed)


def test_words_are_at_most_so_long() -> None:
    words = Vocabulary(pa.array(["a" * LONGEST, "b" * (LONGEST + 1)], pa.large_string()))
    assert len(words) == 1
    assert words.nearest("a" * (LONGEST - 1)) == "a" * LONGEST
