"""What to publish, on results that are made up: every case has one answer that can be told beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from etalage.evaluation.decision import (
    ALIKE,
    SHOPPER,
    Contender,
    Cost,
    Decision,
    Evidence,
    PartFigures,
    SliceFound,
    decide,
    nothing,
)
from etalage.evaluation.decision_words import (
    admission_words,
    cost_words,
    lines,
    short_words,
    simpler_words,
    spelled,
)
from etalage.evaluation.gate import Verdict
from etalage.metrics import Interval

POPULARITY = Contender("popularity", Cost(0.1, 0.01, 0.5))
EASE = Contender("ease", Cost(2.0, 3.0, 4.0), settings="name it")
TOWER = Contender("two_tower", Cost(600.0, 9.0, 2.0, photos=True), networks=1)
FUNNEL = Contender("the funnel", Cost(602.1, 12.0, 7.0), networks=1, models=3, members=("two_tower", "ease"))
CHANCE = Contender("chance", comparison=True)
ALL = (POPULARITY, EASE, TOWER, FUNNEL, CHANCE)
MEANS = {"popularity": 0.10, "ease": 0.20, "two_tower": 0.26, "the funnel": 0.30, "chance": 0.01}


def around(value: float, reach: float = 0.02) -> Interval:
    return Interval(value, value - reach, value + reach)


def figures(
    means: Mapping[str, float], part: str = "validation", reach: float = 0.02, questions: int = 500
) -> PartFigures:
    """Each mean with its interval, and every gain with an interval of ± reach."""
    names = list(means)
    gains = {
        one: {two: around(means[one] - means[two], reach) for two in names[at + 1 :]}
        for at, one in enumerate(names)
    }
    return PartFigures(part, questions, {name: around(one, reach) for name, one in means.items()}, gains)


def decided(
    means: Mapping[str, float] = MEANS,
    on_test: Mapping[str, float] | None = None,
    contenders: Sequence[Contender] = ALL,
    **changed: object,
) -> Decision:
    known = {
        "question": SHOPPER,
        "contenders": contenders,
        "metric": "recall_at_20",
        "gate": figures(means),
        "shown": figures(means if on_test is None else on_test, "test", questions=480),
        "asked": "shoppers",
        "floor": "popularity",
    }
    return decide(Evidence(**(known | changed)))  # type: ignore[arg-type]


def test_the_best_one_is_published_where_its_gain_is_shown() -> None:
    one = decided(on_test={**MEANS, "the funnel": 0.31})
    assert one.publish == "the funnel" and one.members == ("two_tower", "ease")
    assert one.value is not None and one.value.value == 0.31 and one.part == "test" and one.questions == 480
    assert one.over == "popularity" and one.gain is not None and one.gain.value == pytest.approx(0.21)
    assert one.level == () and one.best is None and one.doubts == () and one.command == "etalage publish"
    assert one.simpler == "two_tower" and one.lost is not None and one.lost.value == pytest.approx(0.05)
    assert "would lose 0.0500" in simpler_words(one)


def test_of_two_that_are_not_shown_to_differ_the_cheaper_one_is_taken() -> None:
    one = decided({**MEANS, "the funnel": 0.215, "two_tower": 0.21})
    assert one.publish == "ease" and one.best == "the funnel" and one.settings == "name it"
    assert one.level == ("the funnel", "two_tower")
    assert "+0.0150 [-0.0050, +0.0350], is not shown: the cheaper one is taken" in one.why
    assert one.why.endswith("; its own gain over popularity is +0.1000 [+0.0800, +0.1200]")


def test_equal_means_are_a_tie_and_the_price_decides_not_the_order_in_which_they_come() -> None:
    for contenders in (ALL, ALL[::-1]):
        assert (
            decided(dict.fromkeys(MEANS, 0.2) | {"chance": 0.0}, contenders=contenders).publish
            == "popularity"
        )


def test_of_equal_networks_and_models_the_smaller_one_is_cheaper() -> None:
    large, small = Contender("large", Cost(megabytes=9)), Contender("small", Cost(megabytes=2))
    unknown = Contender("unknown")
    assert large.price > small.price and unknown.price > large.price
    assert (
        decided({"large": 0.3, "small": 0.29}, contenders=(large, small, unknown), floor=None).publish
        == "small"
    )


def test_overlapping_intervals_do_not_hide_a_gain_that_is_shown_question_by_question() -> None:
    gate = figures({"popularity": 0.1, "ease": 0.3, "two_tower": 0.32}, reach=0.1)
    gate.gains["ease"]["two_tower"] = Interval(-0.02, -0.03, -0.01)  # type: ignore[index]
    assert decided(gate=gate, shown=gate).publish == "two_tower"


def test_what_was_never_compared_question_by_question_is_told_apart_by_its_intervals() -> None:
    apart = PartFigures("validation", 90, {"a": around(0.5), "b": around(0.4), "c": around(0.3)})
    models = [Contender(name, networks=1, cost=Cost(megabytes=n)) for n, name in enumerate("cba")]
    assert decided(gate=apart, shown=apart, contenders=models, floor=None).publish == "a"
    near = PartFigures("validation", 90, {"a": around(0.5), "b": around(0.47), "c": around(0.3)})
    assert decided(gate=near, shown=near, contenders=models, floor=None).publish == "b"


def test_what_the_gate_refuses_is_not_published_however_good_it_looks() -> None:
    refused = Contender("two_tower", networks=1, refused="two_tower does not beat ease: 0.26 against 0.27")
    one = decided(contenders=(POPULARITY, EASE, refused, CHANCE), means={**MEANS, "two_tower": 0.5})
    assert one.publish == "ease" and one.refused == (("two_tower", str(refused.refused)),)
    assert any("kept out: two_tower" in line for line in lines(one))


def test_nothing_is_published_where_the_gate_refuses_all() -> None:
    model = Contender("image_similarity", networks=1, refused="it does not beat raw pixels")
    one = decided(
        {"image_similarity": 0.4, "raw pixels": 0.5}, contenders=(model,), question=ALIKE, floor=None
    )
    assert one.publish is None and "gate lets none" in one.why and one.command == ""
    assert lines(one)[0] == "What is like this? Publish nothing: the gate lets none of them through"


def test_nothing_is_published_where_nothing_was_trained_or_measured() -> None:
    one = decided(contenders=(CHANCE,))
    assert one.publish is None and "no model was trained" in one.why
    there = nothing(SHOPPER, "no model of behaviour was trained", command="etalage train popularity")
    assert lines(there)[-1] == "  next: `etalage train popularity`" and short_words(there) == there.why


def test_too_few_questions_decide_nothing() -> None:
    one = decided(gate=figures(MEANS, questions=19))
    assert one.publish is None and one.why.startswith("19 shoppers of validation are too few")
    assert decided(gate=figures(MEANS, questions=20)).publish == "the funnel"


def test_a_metric_that_tells_nothing_decides_nothing() -> None:
    assert decided(useless="recall_at_20 is 1 for items in any order").publish is None


def test_what_is_not_shown_to_be_better_than_items_in_any_order_is_not_published() -> None:
    one = decided(dict.fromkeys(MEANS, 0.1))
    assert one.publish is None and "popularity is not shown to be better than items in any order" in one.why


def test_where_the_funnel_finds_the_very_same_nothing_has_to_be_changed() -> None:
    """Popularity is in it, and answers nobody whom the other one knows."""
    whole = Contender("the funnel", models=2, members=("ease", "popularity"))
    for other, told in ((0.2, ""), (0.2001, "name it")):
        found = figures({"popularity": 0.1, "ease": 0.2, "the funnel": other}, reach=0.0)
        one = decided(gate=found, shown=found, contenders=(POPULARITY, EASE, whole), floor="popularity")
        assert one.settings == (told if one.publish == "ease" else "")
        assert (one.publish == "ease") == (other == 0.2)


def test_without_a_test_part_the_figures_are_those_of_validation() -> None:
    gate = figures(MEANS)
    one = decided(gate=gate, shown=gate)
    assert one.part == "validation" and one.publish == "the funnel" and one.doubts == ()


def test_where_test_contradicts_validation_that_is_said_and_decides_nothing() -> None:
    one = decided(on_test={**MEANS, "ease": 0.40})
    assert one.publish == "the funnel" and len(one.doubts) == 1
    assert one.doubts[0].startswith("on test ease is shown to be better than the funnel")
    level = decided(on_test={**MEANS, "popularity": 0.29, "ease": 0.29, "two_tower": 0.29})
    assert level.doubts == ("on test its gain over popularity is not shown: +0.0100 [-0.0100, +0.0300]",)


def sliced(gate: Mapping[str, float], shown: Mapping[str, float], questions: int = 100) -> SliceFound:
    return SliceFound(
        "cold users",
        "fewer than 3 acts of history",
        figures(gate, questions=questions),
        figures(shown, "test", questions=questions),
    )


def test_a_slice_decides_otherwise_where_both_parts_say_so() -> None:
    other = {**MEANS, "popularity": 0.5}
    one = decided(slices=[sliced(other, other)])
    (case,) = one.otherwise
    assert case.model == "popularity" and case.slice == "cold users" and case.questions == 100
    assert case.gain is not None and case.gain.value == pytest.approx(0.2)
    assert any("for cold users" in line and "popularity is better" in line for line in lines(one))


@pytest.mark.parametrize(
    ("gate", "shown", "questions"),
    [
        (MEANS, {**MEANS, "popularity": 0.5}, 100),
        ({**MEANS, "popularity": 0.5}, MEANS, 100),
        ({**MEANS, "popularity": 0.5}, {**MEANS, "popularity": 0.5}, 19),
        ({**MEANS, "chance": 0.9}, {**MEANS, "chance": 0.9}, 100),
    ],
    ids=["test alone", "validation alone", "too few", "not publishable"],
)
def test_a_slice_does_not_decide_otherwise_by(
    gate: Mapping[str, float], shown: Mapping[str, float], questions: int
) -> None:
    assert decided(slices=[sliced(gate, shown, questions)]).otherwise == ()


def test_photos_alone_are_held_against_the_best_that_is_only_compared_with() -> None:
    model = Contender("image_similarity", Cost(50.0, 0.5, 0.4, photos=True), networks=1)
    simple = [Contender("raw pixels", comparison=True), Contender("untrained network", comparison=True)]
    means = {"image_similarity": 0.44, "raw pixels": 0.26, "untrained network": 0.02}
    one = decided(means, contenders=(model, *simple), question=ALIKE, floor=None, asked="photos")
    assert one.publish == "image_similarity" and one.over == "raw pixels" and one.simpler is None
    assert "needs photos" in cost_words(one.cost)


def test_a_cost_says_only_what_is_known() -> None:
    assert cost_words(Cost()) == ""
    assert cost_words(Cost(0.04, 0.5, None)) == "40 ms of training, 512 kB, no photos"
    assert cost_words(Cost(None, None, 3.21, True)) == "3.2 ms a request, needs photos"
    assert cost_words(Cost(600, 12.3)) == "10 minutes of training, 12.3 MB, no photos"


def test_metrics_are_spelled_as_a_reader_writes_them() -> None:
    assert [spelled(name) for name in ("ndcg_at_10", "mrr", "recall_at_5", "accuracy")] == [
        "nDCG @ 10", "MRR", "recall @ 5", "accuracy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("role", "gain", "told"),
    [
        ("embedder", (0.1, 0.05, 0.15), "publish m: it beats popularity, the best simple one"),
        ("embedder", (0.1, -0.05, 0.15), "do not publish m: it is not shown to beat popularity"),
        ("closed_form", (0.1, 0.05, 0.15), "publish m: it beats popularity"),
        ("closed_form", (0.1, -0.05, 0.15), "m is not shown to differ from popularity, which is cheaper"),
        ("closed_form", (-0.1, -0.15, -0.05), "do not publish m: it loses to popularity"),
    ],
)
def test_one_model_alone_is_told_in_a_line_whether_the_gate_takes_it(
    role: str, gain: tuple[float, float, float], told: str
) -> None:
    value, low, high = gain
    over = {"gain": value, "gain_low": low, "gain_high": high, "best": True}
    rows = [
        {"system": "m", "value": 0.3, "low": 0.2, "high": 0.4, "questions": 50},
        {"system": "popularity", "value": 0.2, "low": 0.1, "high": 0.3, **over},
    ]
    verdict = Verdict("m", role, "recall_at_20", low > 0, rows)
    assert admission_words(verdict).startswith(told)
    few = [{**rows[0], "questions": 5}, rows[1]]
    if role == "closed_form":
        assert admission_words(replace(verdict, rows=few)).startswith("nobody can tell yet whether m")
