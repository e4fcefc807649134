"""Every act is a target once an epoch, and is asked with exactly what its shopper did before its moment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import TooLittleData
from etalage.features.behaviour import Interactions
from etalage.features.windows import WindowBatch, Windows

DAY = 86_400_000_000


def acts_of(*shoppers: str, times: bool = False) -> Interactions:
    """A letter an act: item a = 1, b = 2 …; a capital is an explicit negative; a comma ends a moment."""
    rows = []
    for user, text in enumerate(shoppers, start=1):
        for moment, basket in enumerate(text.split(",")):
            for letter in basket:
                rows.append((user, ord(letter.lower()) - 96, moment * DAY, letter.islower()))
    users, items, moments, positive = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions.sorted(
        users, items, kinds=1 + items % 2, times=moments if times else None, labels=positive.astype(float)
    )


def asked(windows: Windows, batch: WindowBatch) -> list[tuple[int, str, str]]:
    """(user, what is known, target) of every target of a batch, as letters."""
    width = batch.items.shape[1] + 1
    found = []
    for at, row in zip(batch.at, batch.targets, strict=True):
        window, column = divmod(int(at), width)
        known = [chr(96 + item) for item in batch.items[window, :column] if item]
        found.append((int(batch.users[window]), "".join(known), chr(96 + windows.acts.items[row])))
    return found


def all_asked(windows: Windows, epoch: int = 0) -> list[tuple[int, str, str]]:
    return sorted(one for part in windows.plan(epoch) for one in asked(windows, windows.batch(part)))


def every(acts: Interactions) -> np.ndarray:
    return np.ones(len(acts), bool)


def test_each_act_is_asked_with_the_acts_before_it() -> None:
    acts = acts_of("abc", "da")
    found = all_asked(Windows(acts, every(acts), length=5, size=10))
    assert found == [(1, "", "a"), (1, "a", "b"), (1, "ab", "c"), (2, "", "d"), (2, "d", "a")]


def test_explicit_negatives_are_targets_and_no_history() -> None:
    acts = acts_of("aBc")
    assert all_asked(Windows(acts, every(acts), 5, 10)) == [(1, "", "a"), (1, "a", "b"), (1, "a", "c")]


def test_only_what_is_wanted_is_a_target_and_the_rest_is_still_known() -> None:
    acts = acts_of("abcd")
    assert all_asked(Windows(acts, np.array([False, True, False, True]), 5, 10)) == [
        (1, "a", "b"),
        (1, "abc", "d"),
    ]


def test_the_rest_of_a_basket_does_not_tell_of_it() -> None:
    acts = acts_of("ab,cd", times=True)
    assert all_asked(Windows(acts, every(acts), 5, 10)) == [
        (1, "", "a"),
        (1, "", "b"),
        (1, "ab", "c"),
        (1, "ab", "d"),
    ]


def test_long_histories_are_cut_and_nobody_is_asked_with_less_than_half_a_window() -> None:
    acts = acts_of("abcdefghijklm")
    found = all_asked(Windows(acts, every(acts), length=4, size=100))
    assert [target for _, _, target in sorted(found, key=lambda one: one[2])] == list("abcdefghijklm")
    for _, known, target in found:
        whole = "abcdefghijklm"[: ord(target) - 97]
        assert whole.endswith(known) and len(known) >= min(2, len(whole)) and len(known) <= 4


def test_a_window_of_one_act_is_the_last_one() -> None:
    acts = acts_of("abcd")
    found = all_asked(Windows(acts, every(acts), length=1, size=2))
    assert found == [(1, "", "a"), (1, "a", "b"), (1, "b", "c"), (1, "c", "d")]


def test_without_history_each_target_stands_alone() -> None:
    acts = acts_of("aBc", "b")
    windows = Windows(acts, every(acts), length=0, size=2)
    assert len(windows) == 4 and windows.steps == 2
    assert all_asked(windows) == [(1, "", "a"), (1, "", "b"), (1, "", "c"), (2, "", "b")]
    assert windows.batch(np.arange(4)).items.shape == (4, 0)


def test_batches_are_cropped_to_their_longest_window_and_padded_in_front() -> None:
    acts = acts_of("abc", "dafe")
    windows = Windows(acts, every(acts), length=50, size=10)
    batch = windows.batch(np.array([0, 1]))
    assert batch.items.tolist() == [[0, 1, 2], [4, 1, 6]]
    assert batch.kinds.tolist() == [[0, 2, 1], [1, 2, 1]]


def test_batches_have_about_the_size_asked_for_and_lengths_that_fit() -> None:
    rng = np.random.default_rng(5)
    acts = acts_of(*("abcdefghijklmnopqrstuvwxyz"[: rng.integers(2, 26)] for _ in range(400)))
    windows = Windows(acts, every(acts), length=30, size=100)
    batches = [windows.batch(part) for part in windows.plan(0)]
    assert len(batches) == windows.steps == round(len(acts) / 100)
    assert max(abs(len(batch.targets) - 100) for batch in batches) <= 26
    padding = np.mean([(batch.items == 0).mean() for batch in batches])
    assert padding < 0.2, "windows of like length come together"


def test_a_plan_is_a_pure_function_of_seed_and_epoch() -> None:
    acts = acts_of(*("abcdefg"[: 2 + n % 5] for n in range(60)))
    one, other = (Windows(acts, every(acts), 4, 20, seed=3) for _ in range(2))
    other.plan(7)
    same = [np.array_equal(a, b) for a, b in zip(one.plan(2), other.plan(2), strict=True)]
    assert all(same)
    assert not all(np.array_equal(a, b) for a, b in zip(one.plan(2), one.plan(3), strict=True))
    assert not all(
        np.array_equal(a, b)
        for a, b in zip(one.plan(2), Windows(acts, every(acts), 4, 20, seed=4).plan(2), strict=True)
    )


def test_nothing_to_predict_is_too_little_data() -> None:
    acts = acts_of("ab")
    with pytest.raises(TooLittleData, match="no interaction"):
        Windows(acts, np.zeros(2, bool), 5, 10)


shoppers = st.lists(st.text("abcdEFGh,", min_size=1, max_size=14), min_size=1, max_size=6).filter(
    lambda texts: all(text.replace(",", "") for text in texts)
)


@given(shoppers, st.integers(0, 6), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_whatever_they_did_every_act_is_a_target_once_with_its_own_past(
    texts: list[str], length: int, size: int, times: bool, epoch: int
) -> None:
    acts = acts_of(*texts, times=times)
    windows = Windows(acts, every(acts), length, size)
    rows = np.concatenate([windows.batch(part).targets for part in windows.plan(epoch)])
    assert sorted(rows.tolist()) == list(range(len(acts)))
    for part in windows.plan(epoch):
        batch = windows.batch(part)
        for (user, known, _), row in zip(asked(windows, batch), batch.targets, strict=True):
            mine = (acts.users == user) & (acts.labels > 0)
            mine &= (acts.times < acts.times[row]) if times else (np.arange(len(acts)) < row)
            past = "".join(chr(96 + item) for item in acts.items[mine])
            assert acts.users[row] == user and past.endswith(known)
            assert min(len(past), length // 2) <= len(known) <= length
