"""The gate passes what is better than the best simple system beyond chance, and nothing else."""

import json

import numpy as np
import pytest

from etalage.errors import ExportDamaged
from etalage.evaluation.gate import Verdict, judge

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
