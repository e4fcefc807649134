"""All models of behaviour on the same questions, and the funnel as a whole as it is served."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from etalage import Shop
from etalage.config import EvaluateConfig
from etalage.evaluation.comparison import Comparison, describe_verdict
from etalage.evaluation.comparison_report import write_comparison_report
from etalage.evaluation.slices import Questions
from etalage.evaluation.whole_funnel import WholeFunnel
from etalage.features.behaviour_set import behaviour_set
from etalage.features.history import BehaviourRule
from etalage.runtime.export_files import newest_export
from etalage.runtime.opening import open_scorer
from etalage.runtime.scorer import ExportScorer
from tests.evaluation.fakes import Probable, Table, counts, noise, shop
from tests.test_served_as_evaluated import export
from tests.test_served_as_evaluated import fill as fill_shop

CONFIG = EvaluateConfig(bootstrap=200, ks=(1, 5, 10))
NOW = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1e6)
TOML = """
name = "T"
[behaviour]
positive_from = 3
[funnel]
enough = 2
in_stock = false
history = {history}
{retrievers}
[funnel.order]
per_group = 1
[models.item_knn]
shrink = 0.0
"""


def blurred(likes: np.ndarray, noise: float, seed: int = 3) -> np.ndarray:
    return likes + np.random.default_rng(seed).normal(size=likes.shape).astype(np.float32) * noise


@pytest.fixture(scope="module")
def compared() -> Comparison:
    data, likes = shop()
    systems = {
        "popularity": Table(counts(data), "popularity"),
        "good": Table(blurred(likes, 1.0), "good"),
        "fair": Table(blurred(likes, 4.0), "fair"),
        "bad": Table(noise(data), "bad"),
    }
    for name in ("popularity", "bad"):
        systems[name].role = "closed_form"
    ranker = {"ranker": Probable(blurred(likes, 0.5))}
    return Comparison(data, systems, ranker, dict.fromkeys(systems, 15), config=CONFIG)


AGAINST = {
    "popularity": (), "bad": ("popularity",), "good": ("popularity", "bad"), "ranker": ("popularity", "bad"),
}  # fmt: skip


def test_each_is_held_against_each_and_the_best_is_named(compared: Comparison) -> None:
    done = compared.compared(compared.verdicts(AGAINST), {})
    assert next(iter(done.scores)) == "good" and set(done.scores) == {*compared.systems}
    gains = done.gains
    for one in gains:
        assert set(gains[one]) == {*gains} - {one}
        for other in gains[one]:
            assert gains[one][other].value == pytest.approx(-gains[other][one].value, abs=1e-12)
            difference = done.scores[one][done.metric].value - done.scores[other][done.metric].value
            assert gains[one][other].value == pytest.approx(difference, abs=1e-9)
    assert gains["good"]["bad"].low > 0 > gains["bad"]["good"].high
    assert "good finds most" in done.answer and "it beats popularity, fair, bad" in done.answer
    assert done.part == "test" and done.members == () and done.notes == ()


def test_verdicts_are_those_of_their_role_and_a_model_without_rivals_has_figures_alone(
    compared: Comparison,
) -> None:
    done = compared.compared(compared.verdicts(AGAINST), {})
    rows = {row.system: row for row in done.rows}
    assert {name: one.passed for name, one in done.verdicts.items()} == {
        "popularity": True, "bad": False, "good": True, "ranker": True,
    }  # fmt: skip
    assert rows["bad"].verdict == "loses to popularity: not published"
    assert rows["fair"].verdict == "" and rows["fair"].over == "popularity"
    assert rows["ranker"].metric == "ndcg_at_10" and rows["ranker"].verdict.startswith("beats ")
    assert rows["ranker"].gain is not None and rows["ranker"].over in {
        row["system"] for row in done.verdicts["ranker"].rows
    }
    assert [row["system"] for row in done.verdicts["good"].rows][1:] == ["popularity", "bad", "chance"]
    assert {"ranker", "retrieved order", "popularity"} <= set(done.ordered)
    assert done.figures("ranker")["test_ndcg_at_10"] == done.ordered["ranker"]["ndcg_at_10"].value


def test_a_verdict_of_several_is_that_of_one_alone(compared: Comparison) -> None:
    """The questions are the same, so whoever is measured beside a model changes nothing for it."""
    data, _ = shop()
    systems = {"popularity": compared.systems["popularity"], "good": compared.systems["good"]}
    alone = Comparison(data, systems, {}, {}, config=CONFIG).verdicts({"good": ("popularity",)})
    assert alone == compared.verdicts({"good": ("popularity",)})


def test_the_report_has_every_system_and_what_is_left_out(compared: Comparison, tmp_path: Path) -> None:
    done = compared.compared(compared.verdicts(AGAINST), {}, ["bad loses <b>"], ["fair is not judged"])
    report, *_ = write_comparison_report(tmp_path / "behaviour.html", done, {"figures on": "test"})
    text = report.read_text("utf-8")
    assert "bad loses &lt;b&gt;" in text and "fair is not judged" in text
    for name in ("good", "fair", "bad", "popularity", "chance", "ranker", "retrieved order", "cold items"):
        assert f">{name}" in text
    assert (tmp_path / "behaviour" / "bars.png").stat().st_size > 1000


def test_where_a_ranker_has_nothing_to_order_that_is_said() -> None:
    data, likes = shop()
    systems = {"popularity": Table(counts(data), "popularity")}
    asked = Comparison(data, systems, {"ranker": Probable(likes)}, {"ease": 3}, config=CONFIG)
    assert asked.verdicts({"ranker": ("popularity",)}) == {}
    done = asked.compared({}, {})
    assert done.ordered == {} and any(note.startswith("ranker: not measured") for note in done.notes)


def test_words_of_a_verdict(compared: Comparison) -> None:
    verdicts = compared.verdicts({**AGAINST, "fair": ("good",)})
    assert describe_verdict(verdicts["popularity"]) == "beats chance"
    assert describe_verdict(verdicts["fair"]) == "does not beat good: not published"


# -- the funnel as it is served ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "history", "retrievers", "behind"),
    [
        (1, 100, "", ()),
        (2, 3, "retrievers = {item_knn = 4, popularity = 2}", ()),
        (3, 100, "retrievers = {ease = 3}", ()),
        (4, 5, "", ("item_knn",)),
    ],
)
def test_the_funnel_that_is_measured_is_the_one_that_is_served(
    tmp_path: Path, seed: int, history: int, retrievers: str, behind: tuple[str, ...]
) -> None:
    """Item by item and score by score, for every shopper of a shop, strangers to its models among them."""
    (tmp_path / "shop.toml").write_text(TOML.format(history=history, retrievers=retrievers), "utf-8")
    served = Shop(tmp_path)
    fill_shop(served, np.random.default_rng(seed), items=24, users=14, acts=110)
    names = [name for name in ("popularity", "item_knn", "ease") if name not in behind]
    for name in names:
        export(served, name)
    served.publish(force=True)
    tables = {name: served.lake.table(name).read() for name in ("items", "interactions")}
    data = behaviour_set(
        tables["interactions"], tables["items"], None, served.config.behaviour,
        funnel=served.config.funnel, whole=True,
    )  # fmt: skip
    models: list[tuple[ExportScorer, bool]] = [
        (open_scorer(newest_export(served.exports(name) / "everything")), False) for name in names
    ]
    for name in behind:  # no ranker is there, so what is behind is as if it were not there
        export(served, name)
        models.append((open_scorer(newest_export(served.exports(name))), True))
    rule = BehaviourRule(served.config.behaviour, served.config.funnel)
    funnel = WholeFunnel(models, rule, np.zeros(len(data.items) - 1))
    users = np.arange(1, len(data.users))
    train = data.part("train")
    past = data.with_parts(test=train.take(np.zeros(len(train), bool)))
    queries = data.queries_of(users, train.positive, np.full(len(users), NOW))
    nothing = [np.empty(0, np.int64)] * len(users)
    ranked = funnel.rank(Questions("test", queries, nothing, past.seen("test"), 0), (6,))
    recommender = served.recommender()
    rungs = set()
    with served.live_store() as live:
        for number in range(len(users)):
            answer = recommender.recommend(user_id=data.users.id(number + 1), k=6, live=live, now=NOW)
            rungs.add(answer.tier)
            ours = [data.items.id(int(row)) for row in ranked.slates[number] if row > 0]
            if answer.tier == "popular":
                continue  # a stranger's slate is diverse
            scores = ranked.slate_scores[number][: len(answer.slate)]
            assert len(ours) == len(answer.slate)
            assert [slot.score for slot in answer.slate] == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-6)
            level = len(set(np.round(scores, 6))) < len(scores)
            assert level or [slot.item_id for slot in answer.slate] == ours
    assert "collaborative" in rungs
