"""Titles become hashed words: the same for the same words, in any script, with nothing that can fail."""

import unicodedata
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import ExportDamaged
from etalage.features.words import WordEncoder

SOME = WordEncoder(buckets=64, length=12)
WIDE = WordEncoder(length=200)
ANY = st.text(st.characters(), max_size=60)
"""Lone surrogates, controls and NUL too."""


def entries(title: str | None, encoder: WordEncoder = WIDE) -> set[int]:
    return {int(one) for one in encoder.encode([title])[0] if one}


def bucket(entry: str, encoder: WordEncoder = WIDE) -> int:
    return 1 + zlib.crc32(entry.encode()) % encoder.buckets


@given(st.lists(st.none() | ANY, max_size=6))
def test_any_titles_become_rows_in_range_padded_behind(titles: list[str | None]) -> None:
    found = SOME.encode(titles)
    assert found.shape == (len(titles), 12) and found.dtype == np.int64
    assert found.min(initial=0) >= 0 and found.max(initial=0) <= 64
    for row in found:
        filled = np.flatnonzero(row)
        assert filled.tolist() == list(range(len(filled))), "a hole"


@given(ANY, ANY)
def test_a_title_is_encoded_by_itself(one: str, other: str) -> None:
    together = SOME.encode([one, other])
    assert np.array_equal(together[0], SOME.encode([one])[0])
    assert np.array_equal(together[1], SOME.encode([other])[0])


@given(ANY)
def test_a_row_is_empty_where_no_letter_or_digit_is_alone(title: str) -> None:
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", title).casefold())
    assert bool(entries(title)) == any(c.isalnum() or c == "_" for c in plain if not unicodedata.combining(c))


@given(ANY)
def test_case_and_the_way_that_letters_are_written_make_no_difference(title: str) -> None:
    expected = WIDE.encode([title])
    for same in (title.casefold(), *(unicodedata.normalize(form, title) for form in ("NFC", "NFD", "NFKC"))):
        assert np.array_equal(WIDE.encode([same]), expected), same


@pytest.mark.parametrize(
    ("one", "other"), [("Crème BRÛLÉE", "creme brulee"), ("Straße", "STRASSE"), ("℡", "tel"), ("ﬁg", "FIG")]
)
def test_these_are_the_same_words(one: str, other: str) -> None:
    assert np.array_equal(WIDE.encode([one]), WIDE.encode([other]))


@pytest.mark.parametrize("title", ["牛奶 一升", "حليب طازج", "молоко свежее", "दूध", "νωπό γάλα", "ミルク"])
def test_every_script_has_words(title: str) -> None:
    assert len(entries(title)) >= len(title.split())


def test_the_entries_are_words_then_pairs_then_pieces() -> None:
    expected = ["red", "apples", "red apples", "#<red", "#red>", "#<app", "#appl", "#pple", "#ples", "#les>"]
    found = WIDE.encode(["Red  apples!"])[0]
    assert found[: len(expected)].tolist() == [bucket(one) for one in expected]
    assert not found[len(expected) :].any()


def test_the_order_of_words_tells_and_plurals_meet() -> None:
    assert entries("chocolate milk") != entries("milk chocolate")
    shared = entries("apples") & entries("apple")
    assert len(shared) >= 3 and not shared & entries("pear")


def test_a_long_title_keeps_its_words_and_loses_pieces() -> None:
    short = WordEncoder(length=3)
    assert short.encode(["sparkling mineral water"])[0].tolist() == [
        bucket(one, short) for one in ("sparkling", "mineral", "water")
    ]
    assert WordEncoder(length=1).encode(["a b c"]).shape == (1, 1)


def test_a_word_that_comes_twice_counts_once() -> None:
    row = WIDE.encode(["milk milk"])[0]
    assert (row == bucket("milk")).sum() == 1 and bucket("milk milk") in row


def test_the_last_bucket_and_the_first_are_used() -> None:
    few = WordEncoder(buckets=3, length=40)
    assert {int(n) for n in few.encode([" ".join(map(str, range(40)))])[0]} == {1, 2, 3}


def test_the_hash_is_the_same_in_every_process() -> None:
    assert WordEncoder().encode(["milk"])[0, 0] == 1 + 0xBC269C16 % 2**15


@given(st.integers(1, 2**24), st.integers(1, 4096))
def test_an_encoder_is_read_back(buckets: int, length: int) -> None:
    encoder = WordEncoder(buckets, length)
    assert WordEncoder.from_json(encoder.to_json(), "words.json") == encoder


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"buckets": 8}',
        '{"buckets": "x", "length": 3}',
        '{"buckets": 0, "length": 3}',
        '{"buckets": 8, "length": 0}',
        '{"buckets": 1e999, "length": 3}',
        '{"buckets": 99999999, "length": 3}',
        '{"buckets": [8], "length": 3}',
    ],
)
def test_a_damaged_encoder_is_refused_by_name(text: str) -> None:
    with pytest.raises(ExportDamaged, match=r"here/words\.json"):
        WordEncoder.from_json(text, "here/words.json")


@given(st.text(max_size=40), st.integers(0, 30))
def test_any_text_is_an_encoder_or_refused(noise: str, keep: int) -> None:
    try:
        found = WordEncoder.from_json(WordEncoder().to_json()[:keep] + noise, "words.json")
    except ExportDamaged:
        return
    assert found.buckets >= 1 and found.length >= 1
