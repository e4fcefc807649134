"""Groups of what shows the same thing: against brute force, whatever the order of the rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.features.grouping import bursts, degenerate, group, near_unique, unsigned

RNG = np.random.default_rng(3)
HASHES = st.integers(-(2**63), 2**63 - 1)


def flipped(phash: int, *bits: int) -> int:
    """The hash with these bits the other way, still signed."""
    value = phash & (2**64 - 1)
    for bit in bits:
        value ^= 1 << bit
    return value - 2**64 if value >= 2**63 else value


def together(numbers: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers)}


def alone(count: int) -> list[None]:
    return [None] * count


BASE = 0x0F1E2D3C4B5A6978
FAR = [int(value) for value in RNG.integers(-(2**63), 2**63 - 1, 40)]


def test_the_same_key_joins_and_none_joins_nothing() -> None:
    keys = ["a", None, "b", "a", None, "b", "c"]
    numbers = group(keys, np.array(FAR[:7]), phash_distance=0, similarity=1)
    assert numbers.tolist() == [0, 1, 2, 0, 3, 2, 4]


@pytest.mark.parametrize("distance", [0, 1, 2, 5, 9, 31])
def test_hashes_join_up_to_the_distance_and_not_beyond(distance: int) -> None:
    bits = [int(bit) for bit in RNG.permutation(64)]
    near, beyond = flipped(BASE, *bits[:distance]), flipped(BASE, *bits[: distance + 1])
    numbers = group(alone(3), np.array([BASE, near, FAR[0]]), phash_distance=distance, similarity=1)
    assert numbers[0] == numbers[1]
    numbers = group(alone(2), np.array([BASE, beyond]), phash_distance=distance, similarity=1)
    assert numbers.tolist() == [0, 1]


def test_a_chain_of_near_ones_is_one_group() -> None:
    steps = [flipped(BASE, *range(10, 10 + 3 * n)) for n in range(5)]
    order = RNG.permutation(5)
    numbers = group(alone(5), np.array(steps)[order], phash_distance=3, similarity=1)
    assert numbers.tolist() == [0] * 5
    assert len(set(group(alone(5), np.array(steps), phash_distance=2, similarity=1))) == 5


def test_blank_photos_and_missing_ones_join_nothing() -> None:
    blank = [0, 0, -1, -1, flipped(0, 3), flipped(0, 3), flipped(-1, *range(5)), flipped(-1, *range(5))]
    assert degenerate(np.array(blank)).all()
    assert len(set(group(alone(8), np.array(blank), phash_distance=31, similarity=1))) == 8
    six = flipped(0, *range(6))
    assert not degenerate(np.array([six, flipped(-1, *range(6))])).any()
    assert group(alone(2), np.array([six, six]), phash_distance=0, similarity=1).tolist() == [0, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(HASHES, st.lists(st.integers(0, 63), max_size=6)), min_size=1, max_size=25),
    st.integers(0, 12),
)
def test_near_pairs_are_those_of_brute_force(drawn: list[tuple[int, list[int]]], distance: int) -> None:
    hashes = np.unique(
        unsigned(np.array([flipped(drawn[0][0], *bits) for _, bits in drawn] + [h for h, _ in drawn]))
    )
    differ = np.bitwise_count(hashes[:, None] ^ hashes[None])
    expected = {(a, b) for a, b in zip(*np.nonzero(differ <= distance), strict=True) if a < b}
    found = {tuple(sorted(pair)) for a, b in near_unique(hashes, distance) for pair in zip(a, b, strict=True)}
    assert found == expected


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 8), st.floats(0.5, 1))
def test_who_is_together_does_not_depend_on_the_order(
    random: object, distance: int, similarity: float
) -> None:
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    count = 30
    hashes = np.array([flipped(FAR[rng.integers(5)], *rng.integers(0, 64, 4).tolist()) for _ in range(count)])
    keys = [None if rng.random() < 0.7 else f"k{rng.integers(8)}" for _ in range(count)]
    embeddings = rng.normal(size=(count, 3)).astype(np.float32)
    names = [None if rng.random() < 0.8 else f"b{rng.integers(4)}" for _ in range(count)]
    order = rng.permutation(count)
    limits = {"phash_distance": distance, "similarity": similarity}
    first = group(keys, hashes, embeddings, names, **limits)  # type: ignore[arg-type]
    second = group(
        [keys[n] for n in order], hashes[order], embeddings[order], [names[n] for n in order], **limits  # type: ignore[arg-type]
    )  # fmt: skip
    assert together(first) == {frozenset(order[list(rows)].tolist()) for rows in together(second)}
    assert np.unique(first, return_index=True)[1].tolist() == sorted(np.unique(first, return_index=True)[1])


def test_embeddings_join_by_cosine_whatever_their_length() -> None:
    angle = np.deg2rad([0, 10, 21, 90, 90])
    embeddings = np.stack([np.cos(angle), np.sin(angle)], axis=1) * [[1], [30], [0.01], [2], [0]]
    numbers = group(
        alone(5), np.zeros(5, int), embeddings, phash_distance=0, similarity=np.cos(np.deg2rad(10.5))
    )
    assert numbers.tolist() == [0, 0, 1, 2, 3]
    numbers = group(
        alone(5), np.zeros(5, int), embeddings, phash_distance=0, similarity=np.cos(np.deg2rad(11.5))
    )
    assert numbers.tolist() == [0, 0, 0, 1, 2]


def test_equal_embeddings_join_at_a_similarity_of_one_and_zeros_never() -> None:
    one = RNG.normal(size=(1, 700)).astype(np.float32)
    embeddings = np.concatenate([one, one * 3, np.zeros((2, 700)), one + 0.02 * RNG.normal(size=(1, 700))])
    numbers = group(alone(5), np.zeros(5, int), embeddings, phash_distance=0, similarity=1)
    assert numbers.tolist() == [0, 0, 1, 2, 3]


def test_the_four_reasons_add_up_to_one_group() -> None:
    hashes = np.array([BASE, flipped(BASE, 5), FAR[1], FAR[2], FAR[3]])
    embeddings = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0.01, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    numbers = group(
        ["x", None, None, None, "x"], hashes, embeddings, [None, None, "b", "b", None],
        phash_distance=1, similarity=0.99,
    )  # fmt: skip
    assert numbers.tolist() == [0] * 5


@pytest.mark.parametrize(("distance", "similarity"), [(-1, 0.9), (32, 0.9), (4, 0.0), (4, 1.01)])
def test_limits_that_mean_nothing_are_refused(distance: int, similarity: float) -> None:
    with pytest.raises(ValueError, match=r"phash_distance|similarity"):
        group(alone(2), np.array(FAR[:2]), np.eye(2), phash_distance=distance, similarity=similarity)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 keys"):
        group(alone(3), np.array(FAR[:2]), phash_distance=0, similarity=1)
    with pytest.raises(ValueError, match="embeddings of 2"):
        group(alone(3), np.array(FAR[:3]), np.eye(2), phash_distance=0, similarity=1)
    with pytest.raises(ValueError, match="1 bursts"):
        group(alone(3), np.array(FAR[:3]), None, [None], phash_distance=0, similarity=1)
    with pytest.raises(ValueError, match="not finite"):
        group(alone(2), np.array(FAR[:2]), np.array([[np.nan], [1.0]]), phash_distance=0, similarity=1)


def test_f49_nothing_and_one_photo_are_groups_too() -> None:
    assert group([], np.zeros(0, int), np.zeros((0, 4)), phash_distance=4, similarity=0.9).tolist() == []
    assert group([None], np.zeros(1, int), np.ones((1, 4)), phash_distance=4, similarity=0.9).tolist() == [0]


def test_100_000_hashes_are_grouped_without_comparing_all_with_all() -> None:
    hashes = RNG.integers(-(2**63), 2**63 - 1, 100_000)
    copies = RNG.choice(100_000, 500, replace=False)
    hashes[copies[:250]] = [
        flipped(int(hashes[n]), *RNG.choice(64, 4, replace=False).tolist()) for n in copies[250:]
    ]
    numbers = group(alone(len(hashes)), hashes, phash_distance=4, similarity=1)
    assert (numbers[copies[:250]] == numbers[copies[250:]]).all()
    assert len(set(numbers.tolist())) == 100_000 - 250


FLAT = np.eye(8, dtype=np.float32)


def test_a_burst_is_consecutive_numbers_of_one_class_that_look_alike() -> None:
    names = [
        "a/IMG_0003.jpg",
        "a/IMG_0001.jpg",
        "a/IMG_0002.jpg",
        "a/IMG_0007.jpg",
        "b/IMG_0004.jpg",
        "a/x.jpg",
    ]
    embeddings = np.stack([FLAT[0], FLAT[0] + 0.1 * FLAT[1], FLAT[0], FLAT[0], FLAT[0], FLAT[0]])
    found = bursts(names, [0] * 6, embeddings, 0.9)
    assert found == ["0\0a/IMG_0001.jpg"] * 3 + [None] * 3
    assert bursts(names, [0] * 6, embeddings, 0.9, reach=4)[3] == found[0]
    assert bursts(names, [0, 0, 1, 0, 0, 0], embeddings, 0.9) == [None] * 6


def test_a_burst_ends_where_the_photos_stop_looking_alike() -> None:
    names = [f"s{n:03}.jpg" for n in range(9, 13)]
    embeddings = np.stack([FLAT[0], FLAT[0], FLAT[1], FLAT[1]])
    assert bursts(names, ["c"] * 4, embeddings, 0.9) == ["c\0s009.jpg"] * 2 + ["c\0s011.jpg"] * 2


def test_names_without_a_meaning_are_joined_by_looks_within_a_class() -> None:
    names = ["zz", "q9", "c1", "d0"]
    found = bursts(names, [1, 1, 2, 1], np.stack([FLAT[0], FLAT[0], FLAT[0], FLAT[2]]), 0.9, reach=None)
    assert found == ["1\0q9", "1\0q9", None, None]


def test_photos_of_no_known_class_are_in_no_burst() -> None:
    names = ["s1.jpg", "s2.jpg", "s3.jpg", "s4.jpg"]
    same = np.stack([FLAT[0]] * 4)
    for reach in (1, None):
        found = bursts(names, [None, None, "c", "c"], same, 0.9, reach=reach)
        assert found == [None, None, "c\0s3.jpg", "c\0s3.jpg"]


def test_bursts_of_two_series_with_the_same_numbers_stay_apart() -> None:
    names = ["a1", "a2", "b1", "b2"]
    found = bursts(names, [0] * 4, np.stack([FLAT[0]] * 4), 0.9)
    assert found == ["0\0a1", "0\0a1", "0\0b1", "0\0b1"]


def test_bursts_of_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 classes"):
        bursts(["a1"], [0, 1], FLAT[:1], 0.9)
    with pytest.raises(ValueError, match="reach 0"):
        bursts(["a1"], [0], FLAT[:1], 0.9, reach=0)
