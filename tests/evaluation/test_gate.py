"""The gate passes what is better than the best simple system beyond chance, and nothing else."""

import json

import numpy as np
import pytest

from etalage.errors import ExportDamaged
from etalage.evaluation.gate import Verdict, judge, judge_auroc
from etalage.metrics import auroc

RNG = np.random.default_rng(0)
EASY = RNG.random(600)
RAW = (RNG.random(600) < EASY * 0.8).astype(float)
UNTRAINED = (RNG.random(600) < EASY * 0.5).astype(float)
BETTER = np.maximum(RAW, RNG.random(600) < 0.15)
SIMPLE = {"raw pixels": RAW, "untrained network": UNTRAINED}


def test_a_better_model_passes() -> None:
    verdict = judge("cnn", "embedder", "precision_at_5", BETTER, SIMPLE)
    assert verdict.passed
    assert verdict.sentence.startswith("cnn beats the best simple system, raw pixels, at precision_at_5")
    assert [row["system"] for row in verdict.rows] == ["cnn", "raw pixels", "untrained network"]
    assert [row.get("best") for row in verdict.rows] == [None, True, False]
    assert verdict.rows[0]["value"] == pytest.approx(BETTER.mean())
    assert verdict.rows[1]["gain"] == pytest.approx((BETTER - RAW).mean())
    assert 0 < verdict.rows[1]["gain_low"] < verdict.rows[1]["gain"] < verdict.rows[1]["gain_high"]


def test_a_model_that_beats_only_the_worse_simple_system_does_not_pass() -> None:
    between = RAW.copy()
    between[np.flatnonzero(RAW)[:30]] = 0
    assert between.mean() > UNTRAINED.mean()
    verdict = judge("cnn", "embedder", "precision_at_5", between, SIMPLE)
    assert not verdict.passed
    assert "does not beat" in verdict.sentence
    assert verdict.rows[2]["gain_low"] > 0


def test_a_gain_within_chance_does_not_pass() -> None:
    lucky = RAW.copy()
    lucky[np.flatnonzero(RAW == 0)[:12]] = 1
    lucky[np.flatnonzero(RAW)[:9]] = 0
    verdict = judge("cnn", "embedder", "precision_at_5", lucky, SIMPLE)
    assert lucky.mean() > RAW.mean()
    assert not verdict.passed


def test_the_simple_system_itself_does_not_pass() -> None:
    assert not judge("copy", "embedder", "mrr", RAW, SIMPLE).passed


def test_a_verdict_survives_json() -> None:
    verdict = judge("cnn", "embedder", "mrr", BETTER, SIMPLE, seed=3)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict


@pytest.mark.parametrize(
    "change",
    [{"passed": "yes"}, {"passed": None}, {"rows": []}, {"rows": [{"system": "cnn"}]}, {"more": 1}],
)
def test_what_is_no_verdict_is_refused(change: dict[str, object]) -> None:
    raw = judge("cnn", "embedder", "mrr", BETTER, SIMPLE).to_json() | change
    with pytest.raises(ExportDamaged, match="not a verdict"):
        Verdict.from_json(raw)


def test_nothing_to_compare_with_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        judge("cnn", "embedder", "mrr", BETTER, {})


def test_who_does_the_job_is_the_model_or_the_best_simple_system() -> None:
    assert judge("cnn", "embedder", "mrr", BETTER, SIMPLE).best == "cnn"
    assert judge("cnn", "embedder", "mrr", UNTRAINED, SIMPLE).best == "raw pixels"


def test_a_verdict_of_a_slice_says_so_and_an_older_one_is_of_all() -> None:
    verdict = judge("towers", "embedder", "recall_at_20", BETTER, SIMPLE, slice="cold items")
    assert "at recall_at_20 of cold items: " in verdict.sentence
    raw = verdict.to_json()
    assert Verdict.from_json(raw).slice == "cold items"
    del raw["slice"], raw["rows"][0]["questions"]
    older = Verdict.from_json(raw)
    assert older.slice == "all" and " of " not in older.sentence.partition(":")[0]


def test_of_a_handful_of_questions_nothing_passes() -> None:
    verdict = judge("lucky", "embedder", "mrr", np.ones(19), {"simple": np.zeros(19)})
    assert verdict.rows[1]["gain_low"] == 1
    assert not verdict.passed
    assert "19 questions are too few to tell" in verdict.sentence
    assert judge("lucky", "embedder", "mrr", np.ones(20), {"simple": np.zeros(20)}).passed


def test_rows_with_labels_are_judged_by_auroc() -> None:
    rng = np.random.default_rng(4)
    positive = rng.random(800) < 0.3
    weak = rng.normal(size=800) + 0.5 * positive
    strong = weak + 0.5 * positive
    simple = {"chance": rng.random(800), "rate": weak}
    verdict = judge_auroc("dlrm", "ranker", positive, strong, simple)
    assert verdict.passed and verdict.metric == "auroc"
    assert [row.get("best") for row in verdict.rows] == [None, False, True]
    assert verdict.rows[0]["value"] == pytest.approx(auroc(strong, positive))
    assert not judge_auroc("dlrm", "ranker", positive, weak, simple).passed
