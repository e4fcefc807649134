"""Taxonomies and systems for the tests of categories, with more on one side than on the other."""

import numpy as np

from etalage.evaluation.categories import Answers
from etalage.lake.taxonomy import Taxonomy


def ragged() -> Taxonomy:
    """Seven leaves on three levels, in file order: Apple, Pear, Plum, Bread, Hand saw, Band saw, Gifts."""
    rows = [
        ("1", "Food", -1), ("2", "Fruit", 0), ("3", "Apple", 1), ("4", "Pear", 1), ("5", "Plum", 1),
        ("6", "Bread", 0), ("7", "Tools", -1), ("8", "Saw", 6), ("9", "Hand saw", 7), ("10", "Band saw", 7),
        ("11", "Gifts", -1),
    ]  # fmt: skip
    return Taxonomy(
        [id for id, _, _ in rows], [name for _, name, _ in rows], np.array([up for _, _, up in rows])
    )


def wide(tops: int = 20, middles: int = 12, leaves: int = 13) -> Taxonomy:
    """tops × middles × leaves, three levels: 3,120 leaves as it stands."""
    ids, parents = [], []
    for top in range(tops):
        at = len(ids)
        ids.append(f"t{top}")
        parents.append(-1)
        for middle in range(middles):
            between = len(ids)
            ids.append(f"t{top}m{middle}")
            parents.append(at)
            for leaf in range(leaves):
                ids.append(f"t{top}m{middle}l{leaf}")
                parents.append(between)
    return Taxonomy(ids, [f"Category {id}" for id in ids], np.array(parents))


def answers(truth_N: np.ndarray, leaves: int, skill: float, seed: int = 0) -> Answers:
    """A system that knows the truth, more or less: the true leaf's score is raised by `skill`."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(len(truth_N), leaves)).astype(np.float32)
    scores[np.arange(len(truth_N)), truth_N] += skill * (0.3 + rng.random(len(truth_N)))
    powers = np.exp(scores)
    return Answers(powers / powers.sum(axis=1, keepdims=True))
