"""What a shopper had before is brought again: the item that people take again first."""

import numpy as np

from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary
from etalage.models.buy_again import BuyAgainConfig, BuyAgainCounts


def counted(users: list[int], items: list[int], prior: float = 1e-9) -> np.ndarray:
    data = BehaviourSet(
        Vocabulary(["u", "v", "w"]),
        Vocabulary(["milk", "pan", "salt", "unsold"]),
        (),
        {"train": Interactions.sorted(np.array(users), np.array(items))},
    )
    found = BuyAgainCounts(BuyAgainConfig(prior=prior), data).count()
    diagonal = np.zeros(5)
    indptr, indices = found.arrays["indptr"], found.arrays["indices"]
    for row in range(5):
        own = slice(indptr[row], indptr[row + 1])
        assert set(indices[own]) <= {row}  # nothing beside the diagonal
        diagonal[row] = found.arrays["weights"][own].sum()
    return diagonal


def test_the_share_of_shoppers_who_took_it_again() -> None:
    """Milk: 2 of 3 took it again; the pan: nobody of 2; salt: its only taker."""
    found = counted([1, 1, 2, 2, 2, 3, 1, 2, 3, 3], [1, 1, 1, 1, 1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(found, [0, 2 / 3, 0, 1, 0], atol=1e-6)


def test_few_shoppers_are_drawn_to_what_is_usual() -> None:
    strong = counted([1, 1, 2, 2, 3, 3, 3], [1, 1, 1, 1, 1, 3, 3], prior=100)
    assert abs(strong[3] - strong[1]) < 0.02
    assert 0.7 < strong[1] < 0.8  # 3 of 4 pairs were repeated
