"""Systems for categories, measured: each figure against another way to get it."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from etalage.errors import TooLittleData
from etalage.evaluation.categories import Answers, CategoryMeasures, measure_categories
from etalage.evaluation.category_answers import Tree, levels_of
from etalage.lake.taxonomy import Taxonomy
from tests.evaluation.trees import answers, ragged, wide

TREE = ragged()
LEAVES = len(TREE.leaves_L)
RNG = np.random.default_rng(4)
TRUTH = RNG.choice(LEAVES, 400, p=[0.3, 0.2, 0.05, 0.1, 0.15, 0.05, 0.15])
VALUES = np.array([10.0, 1, 1, 50, 3, 0, 20])
GROUPS = np.arange(400) // 4
GOOD, POOR, BLIND = answers(TRUTH, LEAVES, 6), answers(TRUTH, LEAVES, 2, 1), answers(TRUTH, LEAVES, 0, 2)
SYSTEMS = {"model": GOOD, "poor": POOR, "blind": BLIND}


@pytest.fixture(scope="module")
def measured() -> CategoryMeasures:
    return measure_categories(TRUTH, SYSTEMS, TREE, VALUES, ks=(1, 2, 3), bootstrap=300, groups_N=GROUPS)


def test_every_figure_of_the_leaves_is_what_it_is_called(measured: CategoryMeasures) -> None:
    for name, one in SYSTEMS.items():
        found = {metric: interval.value for metric, interval in measured.scores[name].intervals.items()}
        decided = one.probabilities_NL.argmax(axis=1)
        hit = decided == TRUTH
        assert found["accuracy"] == pytest.approx(hit.mean()) == found["top_1"]
        order = np.argsort(-one.probabilities_NL, axis=1)
        for k in (2, 3):
            assert found[f"top_{k}"] == pytest.approx((order[:, :k] == TRUTH[:, None]).any(axis=1).mean())
        assert found["macro_f1"] == pytest.approx(f1_score(TRUTH, decided, average="macro"))
        assert found["value_true"] == pytest.approx((VALUES[TRUTH] * hit).sum() / VALUES[TRUTH].sum())
        assert found["value_predicted"] == pytest.approx(
            (VALUES[decided] * hit).sum() / VALUES[decided].sum()
        )
        edges = np.array(
            [TREE.distance(*pair) for pair in zip(TREE.leaves_L[decided], TREE.leaves_L[TRUTH], strict=True)]
        )
        assert found["severity"] == pytest.approx(edges.mean())
        assert found["severity_wrong"] == pytest.approx(edges[~hit].mean())
        assert found["coverage_at_90"] >= found["coverage_at_95"]
        assert 0 <= found["risk_area"] < 1


def test_every_figure_of_a_level_is_of_the_leafs_path(measured: CategoryMeasures) -> None:
    found = {metric: one.value for metric, one in measured.scores["poor"].intervals.items()}
    given = POOR.probabilities_NL
    for depth, size in ((1, 3), (2, 4)):
        above = [[TREE.ancestor(int(row), depth)] for row in TREE.leaves_L]
        rows = np.unique(above)
        place = np.searchsorted(rows, np.array(above)[:, 0])
        assert len(rows) == size
        hit = place[given.argmax(axis=1)] == place[TRUTH]
        assert found[f"accuracy_level_{depth}"] == pytest.approx(hit.mean())
        summed = np.stack([given[:, place == k].sum(axis=1) for k in range(size)], axis=1)
        best = np.argsort(-summed, axis=1)[:, :2]
        assert found[f"top_2_level_{depth}"] == pytest.approx(
            (best == place[TRUTH][:, None]).any(axis=1).mean()
        )
        expected = f1_score(place[TRUTH], place[given.argmax(axis=1)], average="macro")
        assert found[f"macro_f1_level_{depth}"] == pytest.approx(expected)
    assert "top_3_level_1" not in found and "top_3_level_2" in found, (
        "of three categories one of three is right"
    )
    assert found["accuracy"] <= found["accuracy_level_2"] <= found["accuracy_level_1"]
    assert [(level.depth, level.categories) for level in measured.levels] == [(1, 3), (2, 4), (3, LEAVES)]


def test_a_decided_leaf_counts_and_the_most_probable_ranks() -> None:
    decided = np.where(RNG.random(400) < 0.5, TRUTH, (TRUTH + 1) % LEAVES)
    one = Answers(GOOD.probabilities_NL, decided)
    found = measure_categories(TRUTH, {"m": one}, TREE, VALUES, bootstrap=100).scores["m"]
    assert found.intervals["accuracy"].value == pytest.approx((decided == TRUTH).mean())
    assert found.intervals["top_1"].value == pytest.approx(
        (GOOD.probabilities_NL.argmax(axis=1) == TRUTH).mean()
    )
    assert found.confidence_N.tolist() == GOOD.probabilities_NL[np.arange(400), decided].tolist()


def test_distances_between_leaves_are_the_taxonomys() -> None:
    for taxonomy in (TREE, wide(3, 2, 3)):
        leaves = taxonomy.leaves_L
        a, b = np.divmod(np.arange(len(leaves) ** 2), len(leaves))
        found = Tree(taxonomy, levels_of(taxonomy)).distances(a, b).reshape(len(leaves), len(leaves))
        assert np.array_equal(found, taxonomy.distances(leaves, leaves))


def test_intervals_hold_the_values_and_shrink_with_groups(measured: CategoryMeasures) -> None:
    for scores in measured.scores.values():
        for name, (value, low, high) in scores.intervals.items():
            if name.startswith("coverage_at"):
                assert low <= value <= high, name
            elif name.startswith("calibration"):
                assert low < high, name  # a resample's bins are noisier than the whole's: a known bias
            else:
                assert low < value < high or low == value == high == 1, name
    one_each = measure_categories(
        np.repeat(TRUTH, 5),
        {"m": Answers(np.repeat(GOOD.probabilities_NL, 5, 0))},
        TREE,
        VALUES,
        bootstrap=300,
    )
    together = measure_categories(
        np.repeat(TRUTH, 5), {"m": Answers(np.repeat(GOOD.probabilities_NL, 5, 0))}, TREE, VALUES,
        bootstrap=300, groups_N=np.repeat(np.arange(400), 5),
    )  # fmt: skip
    for name in ("accuracy", "macro_f1", "value_true", "severity", "risk_area"):
        plain, grouped = (m.scores["m"].intervals[name] for m in (one_each, together))
        assert plain.value == pytest.approx(grouped.value)
        assert (grouped.high - grouped.low) / (plain.high - plain.low) == pytest.approx(5**0.5, rel=0.25), (
            name
        )


def test_gains_are_paired_over_the_best_simple_system(measured: CategoryMeasures) -> None:
    assert measured.simple == ("poor", "blind") and measured.best_simple == "poor"
    ours, theirs = measured.scores["model"], measured.scores["poor"]
    for name, gain in ours.gains.items():
        assert gain.value == pytest.approx(ours.intervals[name].value - theirs.intervals[name].value)
    assert not theirs.gains and measured.scores["blind"].gains["accuracy"].high < 0
    widths = [
        one.high - one.low
        for one in (ours.gains["accuracy"], ours.intervals["accuracy"], theirs.intervals["accuracy"])
    ]
    assert widths[0] < (widths[1] ** 2 + widths[2] ** 2) ** 0.5 * 1.25
    same = measure_categories(TRUTH, {"a": GOOD, "b": GOOD}, TREE, VALUES, bootstrap=100)
    assert all(gain == (0, 0, 0) for gain in same.scores["a"].gains.values())


def test_the_verdict_is_on_each_items_correctness(measured: CategoryMeasures) -> None:
    verdict = measured.verdict
    assert verdict is not None and verdict.passed and list(measured.verdicts) == ["model"]
    assert (
        verdict.metric == "accuracy" and verdict.role == "classifier" and verdict.rows[0]["questions"] == 100
    )
    assert verdict.rows[0]["value"] == pytest.approx(measured.scores["model"].intervals["accuracy"].value)
    turned = measure_categories(TRUTH, {"m": POOR, "s": GOOD}, TREE, VALUES, bootstrap=100)
    assert turned.verdict is not None and not turned.verdict.passed
    alone = measure_categories(TRUTH, {"m": POOR}, TREE, VALUES, bootstrap=100)
    assert alone.verdict is None and alone.best_simple is None


def test_several_models_are_judged_beside_the_simple_ones() -> None:
    found = measure_categories(TRUTH, SYSTEMS, TREE, VALUES, bootstrap=100, simple=("blind",))
    assert list(found.verdicts) == ["model", "poor"] and found.simple == ("blind",)


def test_the_same_call_gives_the_same_figures(measured: CategoryMeasures) -> None:
    again = measure_categories(TRUTH, SYSTEMS, TREE, VALUES, ks=(3, 1, 2), bootstrap=300, groups_N=GROUPS)
    assert json.dumps(again.to_json()) == json.dumps(measured.to_json())


def test_what_is_kept_is_figures_alone(measured: CategoryMeasures) -> None:
    kept = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert kept["items"] == 400 and kept["groups"] == 100 and kept["best_simple"] == "poor"
    assert kept["systems"]["model"]["metrics"]["accuracy"]["value"] > 0.5
    assert kept["verdicts"]["model"]["passed"] is True
    assert len(json.dumps(kept)) < 200_000


def test_a_level_that_only_holds_leaves_is_measured_too() -> None:
    flat = Taxonomy(["a", "b", "c"], ["A", "B", "C"], np.full(3, -1))
    found = measure_categories(
        np.array([0, 1, 2, 2]), {"m": Answers(np.eye(3)[[0, 1, 2, 0]])}, flat, np.ones(3), bootstrap=100
    )
    metrics = found.scores["m"].intervals
    assert metrics["accuracy"].value == 0.75 and metrics["severity"].value == 0.5
    assert metrics["severity_wrong"].value == 2 and not any("level" in name for name in metrics)


def test_f49_one_item_is_measured_and_none_is_refused() -> None:
    one = measure_categories(
        TRUTH[:1], {"m": Answers(GOOD.probabilities_NL[:1])}, TREE, VALUES, bootstrap=100
    )
    assert one.scores["m"].intervals["accuracy"].value in (0, 1)
    with pytest.raises(TooLittleData, match="no item"):
        measure_categories(TRUTH[:0], {"m": Answers(GOOD.probabilities_NL[:0])}, TREE, VALUES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"truth_N": np.full(400, LEAVES)}, "truth from 7"),
        ({"truth_N": np.full(400, -1)}, "truth from -1"),
        ({"values_L": np.ones(3)}, "values"),
        ({"values_L": np.full(LEAVES, -1.0)}, "not below 0"),
        ({"systems": {"m": Answers(GOOD.probabilities_NL[:, 1:])}}, "m: probabilities"),
        ({"systems": {"m": Answers(GOOD.probabilities_NL * 2)}}, "m: row 0 is no distribution"),
        (
            {
                "systems": {
                    "m": Answers(np.where(np.arange(400)[:, None] == 7, np.nan, GOOD.probabilities_NL))
                }
            },
            "m: row 7",
        ),
        ({"systems": {"m": Answers(GOOD.probabilities_NL, np.full(400, 99))}}, "decided leaves"),
        ({"systems": {}}, "no system"),
        ({"groups_N": np.zeros(3)}, "groups"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    content: dict[str, object] = {"truth_N": TRUTH, "systems": SYSTEMS, "taxonomy": TREE, "values_L": VALUES}
    with pytest.raises(ValueError, match=said):
        measure_categories(**(content | change), bootstrap=100)  # type: ignore[arg-type]
