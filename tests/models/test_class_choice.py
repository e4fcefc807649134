"""Ways of embedding are compared on categories that they learned from, and on others."""

import numpy as np
import pytest

from etalage.features.photo_set import PhotoSet
from etalage.models.class_choice import Compared, Found, held_out, hit_at_1, judged

NAMES = [f"class {n}" for n in range(8)]


def photos(each: int = 10, classes: int = 8) -> PhotoSet:
    count = each * classes
    labels = np.arange(count) % classes
    parts = np.where(np.arange(count) // classes % 5 == 0, "validation", "train")
    return PhotoSet(
        [str(n) for n in range(count)],
        [],
        np.empty((count, 0, 0, 0), np.uint8),
        labels,
        NAMES[:classes],
        parts,
    )


def test_held_out_categories_are_learned_by_nobody_and_searched_for_by_photos_of_all_parts() -> None:
    some = photos()
    held = held_out(some, 0.25, seed=0)
    assert len(held.categories) == 2
    hidden = [NAMES.index(name) for name in held.categories]
    assert not np.isin(some.labels_N[held.photos.rows("train", "validation")], hidden).any()
    assert set(some.labels_N[held.index]) == set(range(8)), "what is searched in has all"
    assert not np.isin(some.labels_N[held.seen], hidden).any()
    assert set(some.labels_N[held.new]) == set(hidden)
    assert len(held.new) == 20, "validation has 4 of them: the training photos search too"


def test_the_seed_draws_the_categories() -> None:
    drawn = {held_out(photos(), 0.25, seed).categories for seed in range(6)}
    assert len(drawn) > 1
    assert held_out(photos(), 0.25, 3).categories == held_out(photos(), 0.25, 3).categories


@pytest.mark.parametrize(("classes", "share", "count"), [(3, 0.5, 0), (4, 0.9, 2), (8, 0.01, 1), (8, 0.0, 0)])
def test_two_categories_are_learned_at_least(classes: int, share: float, count: int) -> None:
    assert len(held_out(photos(classes=classes), share, 0).categories) == count


def test_nobody_finds_itself() -> None:
    embeddings = np.eye(4, dtype=np.float32)
    embeddings[1] = embeddings[0]
    labels, every = np.array([0, 0, 1, 2]), np.arange(4)
    assert hit_at_1(embeddings, labels, np.array([0, 1]), every) == 1.0
    assert hit_at_1(embeddings, labels, np.array([2, 3]), every) == 0.0
    assert hit_at_1(embeddings, labels, np.array([], np.int64), every) is None


def test_the_way_that_finds_both_kinds_is_taken_and_told() -> None:
    held = held_out(photos(), 0.25, 0)
    systems = {"one": Found(0.9, 0.2), "other": Found(0.8, 0.4), "third": Found(0.8, 0.4)}
    compared = Compared.of(held, systems, {"small": "too long"})
    assert compared.best() == "other", "of two that find as much the first is taken"
    first, second = compared.sentences("other")
    assert "16 photos" not in first and "one 0.9000 / 0.2000" in first and first.endswith("taken: other")
    assert second == "small was not compared: too long"
    assert compared.facts("other")["systems"]["one"] == {"seen": 0.9, "new": 0.2}
    assert Found(None, 0.5).both == 0.5 and Found(None, None).both == 0.0


def test_what_knows_the_categories_finds_all() -> None:
    some = photos()
    known = np.eye(8, dtype=np.float32)[some.labels_N]
    assert judged(held_out(some, 0.25, 0), known) == Found(1.0, 1.0)
