"""From scores to probabilities, and from those to one leaf."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import ExportDamaged
from etalage.runtime.leaf_decision import LeafDecision, least_risk, seen_rows, softmax
from tests.category_sets import ragged

BOTH = {"photo": [2.0, 0.0], "title": [0.0, 0.5], "both": [1.5, 0.25]}


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(2, 7))
def test_probabilities_are_what_the_factors_make_of_the_scores(seed: int, rows: int, leaves: int) -> None:
    rng = np.random.default_rng(seed)
    photo, title = (rng.normal(0, 5, (rows, leaves)).astype(np.float32) for _ in range(2))
    has_photo, has_title = rng.random(rows) < 0.6, rng.random(rows) < 0.6
    found = LeafDecision(BOTH).probabilities([photo, title], has_photo, has_title)
    assert found.dtype == np.float32 and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    for row in range(rows):
        seen = {(True, True): "both", (True, False): "photo", (False, True): "title"}.get(
            (bool(has_photo[row]), bool(has_title[row]))
        )
        a, b = BOTH[seen] if seen else (0.0, 0.0)
        expected = softmax((a * photo[row] + b * title[row])[None])[0]
        assert np.allclose(found[row], expected, atol=1e-4)


def test_an_item_of_which_nothing_is_seen_is_anything() -> None:
    scores = np.array([[3.0, -1.0, 0.0]], np.float32)
    found = LeafDecision({"photo": [1.0]}).probabilities([scores], np.array([False]), np.array([False]))
    assert np.allclose(found, 1 / 3)


def test_each_item_is_seen_in_one_way() -> None:
    photo, title = np.array([True, True, False, False]), np.array([True, False, True, False])
    found = {name: rows.tolist() for name, rows in seen_rows(photo, title).items()}
    assert found == {"photo": [1], "title": [2], "both": [0]}


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 6))
def test_the_least_risk_is_what_trying_every_leaf_finds(seed: int, rows: int, leaves: int) -> None:
    rng = np.random.default_rng(seed)
    given_NL = rng.dirichlet(np.ones(leaves), rows).astype(np.float32)
    costs = rng.integers(0, 9, (leaves, leaves))  # not symmetric: rows are decisions
    found = least_risk(given_NL, costs)
    for row, chosen in enumerate(found):
        risks = [
            sum(given_NL[row, true] * costs[leaf, true] for true in range(leaves)) for leaf in range(leaves)
        ]
        assert risks[chosen] == pytest.approx(min(risks), abs=1e-4)


def test_least_risk_prefers_a_leaf_among_its_like_to_one_that_is_alone() -> None:
    taxonomy = ragged()  # leaves: Apples, Clothing, Milk, Pears
    torn = np.array([[0.31, 0.38, 0.0, 0.31]], np.float32)
    assert LeafDecision({}).decide(torn, taxonomy).tolist() == [1]
    assert LeafDecision({}, "risk").decide(torn, taxonomy).tolist() in ([0], [3])


def test_it_is_read_as_it_was_written() -> None:
    written = LeafDecision(BOTH, "risk")
    read = LeafDecision.from_json(written.to_json(), "here")
    assert read.decision == "risk" and {name: list(one) for name, one in read.weights.items()} == BOTH


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"weights": {"photo": [1]}}',
        '{"weights": {"smell": [1]}, "decision": "risk"}',
        '{"weights": {"photo": [1e999]}, "decision": "risk"}',
        '{"weights": {"photo": ["a"]}, "decision": "risk"}',
        '{"weights": {"photo": [1]}, "decision": "dice"}',
    ],
)
def test_what_is_no_deciding_is_refused_by_name(text: str) -> None:
    with pytest.raises(ExportDamaged, match=r"deciding\.json"):
        LeafDecision.from_json(text, "export/deciding.json")


def test_the_file_is_json_that_a_person_can_read() -> None:
    assert json.loads(LeafDecision(BOTH).to_json())["weights"]["both"] == [1.5, 0.25]
