"""What is judged must not stand in what was learned from; published splits are counted, ours refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.config import BehaviourConfig
from etalage.datasets.published import ncf
from etalage.errors import LeakageFound
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.leakage import check_leakage
from etalage.features.negatives import candidates
from etalage.features.split_interactions import parted
from etalage.features.vocabulary import Vocabulary


def acts(*rows: tuple[int, int, int]) -> Interactions:
    """(user, item, time)"""
    users, items, times = np.array(rows, np.int64).reshape(-1, 3).T
    return Interactions.sorted(users, items, times=times)


def a_set(split: str = "time", own_split: bool = True, **parts: Interactions) -> BehaviourSet:
    users, items = Vocabulary(["ann", "bob", "cem"]), Vocabulary([f"i{n}" for n in range(1, 9)])
    return BehaviourSet(users, items, (), parts, own_split=own_split, facts={"split": split})


CLEAN: dict[str, Any] = {
    "train": acts((1, 1, 10), (2, 2, 20), (3, 3, 5)),
    "validation": acts((1, 2, 30)),
    "test": acts((1, 3, 50), (2, 1, 40)),
}


def test_a_clean_split_has_no_leak() -> None:
    found = check_leakage(a_set(**CLEAN))
    assert not found.found and found.example == ""
    assert found.to_json()["known"] == {"validation": 0, "test": 0}


def test_a_pair_of_train_in_the_test_is_refused_with_an_example() -> None:
    parts = CLEAN | {"test": acts((1, 3, 50), (2, 2, 40))}
    with pytest.raises(LeakageFound, match=r"known 1\); test: user 'bob', item 'i2'"):
        check_leakage(a_set(**parts))
    found = check_leakage(a_set(own_split=False, **parts))
    assert found.known == {"validation": 0, "test": 1} and found.found


def test_a_pair_of_validation_in_the_test_is_known_too() -> None:
    parts = CLEAN | {"test": acts((1, 2, 50))}
    assert check_leakage(a_set(own_split=False, **parts)).known == {"validation": 0, "test": 1}


@pytest.mark.parametrize("split", ["time", "leave_one_out"])
@pytest.mark.parametrize("targets", [(), (1,)])
def test_a_view_of_what_was_bought_before_is_not_to_be_found(split: str, targets: tuple[int, ...]) -> None:
    """Views are judged; purchases, which are not, keep their items off the slate."""
    views = {**CLEAN, "validation": acts((1, 2, 30), (3, 4, 30)), "test": acts((1, 3, 50), (2, 1, 40))}
    parts = {name: replace(part, kinds=np.ones(len(part), np.int64)) for name, part in views.items()}
    bought = acts((3, 4, 20), (1, 3, 45), (2, 1, 60))
    bought = replace(bought, kinds=np.full(len(bought), 2))
    data = replace(a_set(split, **parts), targets=targets, off_slate=(2,))
    if targets:
        data = data.with_parts(train=Interactions.joined(parts["train"], bought.take(bought.times < 30)))
    else:
        data = replace(data, held=bought)
    assert not check_leakage(data).found
    assert data.truth("validation").items.tolist() == [2]
    # Bought behind what is judged: that keeps nothing back. By time, the part begins with its first act.
    assert data.truth("test").items.tolist() == ([3, 1] if targets or split == "time" else [1])


def test_where_shoppers_take_the_same_again_nothing_is_known() -> None:
    data = a_set(**(CLEAN | {"test": acts((2, 2, 40))}))
    assert not check_leakage(replace(data, facts={"split": "time", "repeat": True})).found


def test_train_that_came_later_than_the_test_is_refused() -> None:
    parts = CLEAN | {"train": acts((1, 1, 10), (2, 2, 20), (3, 3, 45), (3, 4, 46))}
    with pytest.raises(LeakageFound, match=r"later 4\); validation: user 'cem', item 'i3'"):
        check_leakage(a_set(**parts))  # both are later than validation, and than the test
    assert not check_leakage(a_set(split="leave_one_out", **parts)).found
    assert not check_leakage(a_set(split="random", **parts)).found


def test_by_each_users_order_their_own_later_acts_count() -> None:
    parts = CLEAN | {"train": acts((1, 1, 10), (2, 5, 41), (2, 2, 20))}
    found = check_leakage(a_set(split="leave_one_out", own_split=False, **parts))
    assert found.later == {"validation": 0, "test": 1}


def test_negatives_that_are_positives_are_counted_and_masked() -> None:
    data = replace(
        a_set(own_split=False, **CLEAN),
        negatives={"test": np.array([[1, 2, 8, 4, 4], [7, 1, 0, 3, 5]])},
    )
    found = check_leakage(data)
    assert found.negatives_in_train == {"validation": 0, "test": 2}  # ann had i1, and i2 in validation
    assert found.negatives_in_part == {"validation": 0, "test": 1}  # i1 is what bob is to be shown
    assert found.negatives_repeated == {"validation": 0, "test": 1}
    assert found.cleaned["test"].tolist() == [
        [False, False, True, True, False],
        [True, False, False, True, True],
    ]
    assert "i1" in found.example and "ann" in found.example
    with pytest.raises(LeakageFound, match="negatives_in_train 2, negatives_in_part 1"):
        check_leakage(replace(data, own_split=True))


def test_negatives_of_other_queries_are_refused() -> None:
    data = replace(a_set(**CLEAN), negatives={"test": np.array([[4, 5]])})
    with pytest.raises(ValueError, match="2 queries of test"):
        check_leakage(data)


def test_a_hit_that_stands_twice_is_counted_but_no_leak() -> None:
    found = check_leakage(a_set(**(CLEAN | {"test": acts((1, 3, 50), (1, 3, 60))})))
    assert found.repeated == {"validation": 0, "test": 1} and not found.found


@pytest.mark.parametrize("split", ["time", "leave_one_out", "last_n", "random"])
@pytest.mark.parametrize("repeat", [False, True])
def test_our_own_splits_and_negatives_are_clean(split: Any, repeat: bool) -> None:
    rng = np.random.default_rng(2)
    whole = Interactions.sorted(rng.integers(1, 20, 900), rng.integers(1, 60, 900), rng.integers(1, 3, 900),
                                times=rng.integers(0, 300, 900), labels=rng.random(900) < 0.8)  # fmt: skip
    config = BehaviourConfig(split=split, repeat=repeat, rank=0.1)
    users, items = (Vocabulary([f"{n}" for n in range(1, size)]) for size in (20, 60))
    for targets in ((), (2,)):
        parts = parted(whole, config, targets)
        data = BehaviourSet(users, items, ("view", "buy"), parts, targets=targets,
                            facts={"split": split, "repeat": repeat})  # fmt: skip
        data = replace(
            data, negatives={part: candidates(data, part, 10, 1) for part in ("validation", "test")}
        )
        assert not check_leakage(data).found
        assert len(data.truth("test")) > 5


def test_the_faults_of_published_negatives_are_those_that_are_known(shared_data: Path) -> None:
    for name, taken, asked in (("lastfm", 2434, 172_359), ("AMusic", 348, 175_824)):
        data = ncf(shared_data / "deepcf-amusic-lastfm", name)
        found = check_leakage(data)
        assert found.negatives_in_train == {"validation": 0, "test": taken}
        assert found.known == {"validation": 0, "test": 0}
        assert found.cleaned["test"].size == asked
        wrong = taken + found.negatives_in_part["test"] + found.negatives_repeated["test"]
        assert int((~found.cleaned["test"]).sum()) == wrong
