"""A model of behaviour beside the simple ones: the good pass, noise does not, and what leaks is refused."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from etalage.config import EvaluateConfig
from etalage.errors import ConfigError, ExportDamaged, LeakageFound, TooLittleData
from etalage.evaluation.behaviour import BehaviourEvaluator
from etalage.evaluation.behaviour_sections import LeakageFacts, Probabilities
from etalage.evaluation.evaluation import Evaluation, evaluate
from etalage.evaluation.gate import Verdict
from etalage.evaluation.measured import SliceFigures
from etalage.evaluation.sections import PublishedProtocol, Slices
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.runtime.export_files import read_verdict
from tests.evaluation.fakes import Probable, Table, counts, named, noise, shop

CONFIG = EvaluateConfig(bootstrap=200, ks=(1, 5, 10))


@pytest.fixture(scope="module")
def known() -> tuple[BehaviourSet, np.ndarray]:
    return shop()


def blurred(likes: np.ndarray, noise: float, seed: int = 3) -> np.ndarray:
    return likes + np.random.default_rng(seed).normal(size=likes.shape).astype(np.float32) * noise


def judged(known: tuple[BehaviourSet, np.ndarray], ours: np.ndarray | Table, **options: object) -> Evaluation:
    data, likes = known
    model = ours if isinstance(ours, Table) else Table(ours, "model")
    systems = {
        "model": model,
        "popularity": Table(counts(data), "popularity"),
        "item_knn": Table(blurred(likes, 8.0), "item_knn"),
    }
    return evaluated(data, systems, **options)


def evaluated(data: BehaviourSet, systems: dict[str, Table], **options: object) -> Evaluation:
    written = {name: options.pop(name) for name in ("reports", "history") if name in options}
    return evaluate(BehaviourEvaluator(data, systems, CONFIG, **options), **written)  # type: ignore[arg-type]


def by_slice(done: Evaluation) -> dict[str, SliceFigures]:
    return {one.name: one for one in done.section(Slices).rows}


def test_a_model_that_knows_the_tastes_passes_and_its_verdict_lies_beside_the_export(
    known, tmp_path: Path
) -> None:
    done = judged(known, blurred(known[1], 1.0), export=tmp_path)
    assert done.verdict.passed and done.verdict.best == "model"
    assert done.verdict.metric == "recall_at_20" and done.part == "test"
    kept = read_verdict(tmp_path)
    assert kept is not None and kept.pop("model_hash") == Table.model_hash
    assert Verdict.from_json(kept) == done.verdict
    assert done.figures("model")["test_recall_at_20"] == done.scores["model"]["recall_at_20"].value
    assert {"popularity", "item_knn", "chance"} < set(done.scores)
    assert "gate, on validation: model beats" in done.summary()


@pytest.mark.parametrize("metric", ["recall_at_20", "ndcg_at_10", "auroc", "mrr"])
def test_noise_does_not_pass_and_the_best_simple_system_takes_its_place(known, metric: str, tmp_path) -> None:
    done = judged(known, noise(known[0], 7), metric=metric, export=tmp_path)
    assert not done.verdict.passed
    assert done.verdict.best == "popularity"
    assert [row["system"] for row in done.verdict.rows if row.get("best")] == ["popularity"]
    assert "does not beat the best simple system, popularity" in done.summary()
    assert (read_verdict(tmp_path) or {})["passed"] is False


def test_a_constant_and_popularity_itself_do_not_pass(known) -> None:
    constant = judged(known, np.zeros(len(known[0].items)))
    assert not constant.verdict.passed
    assert constant.scores["model"]["recall_at_20"].value == pytest.approx(20 / 90, abs=0.06)
    assert not judged(known, counts(known[0])).verdict.passed


@pytest.mark.parametrize("seed", range(3))
def test_noise_does_not_pass_for_new_items_where_popularity_knows_nothing(known, seed: int) -> None:
    """All counts are 0 there and tie: a tie is drawn, or whatever has no ties would win."""
    done = judged(known, noise(known[0], seed), slice="cold items", metric="recall_at_1")
    assert not done.verdict.passed
    values = {row["system"]: row["value"] for row in done.verdict.rows}
    assert values["popularity"] == pytest.approx(1 / 8, abs=0.12)


def test_a_retriever_of_new_items_is_judged_on_new_items(known) -> None:
    data, likes = known
    ours = noise(data)
    ours[:, -8:] = blurred(likes, 0.5)[:, -8:]
    others = {"popularity": Table(counts(data)), "chance of another": Table(noise(data, 5))}
    systems = {"content": Table(ours), **others}
    cold = evaluated(data, systems, slice="cold items", metric="ndcg_at_5")
    assert cold.verdict.passed and cold.verdict.slice == "cold items"
    assert "at ndcg_at_5 of cold items" in cold.verdict.sentence
    whole = evaluated(data, systems, metric="ndcg_at_5")
    assert not whole.verdict.passed
    by_name = by_slice(whole)
    assert by_name["cold items"].gain.low > 0 > by_name["all"].gain.high
    assert by_name["cold items"].queries < by_name["all"].queries
    assert {"cold users", "cold items among all"} < set(by_name)


def test_the_verdict_is_of_validation_and_the_figures_of_test(known) -> None:
    """Whoever knows the test part alone fails, however good the figures look."""
    data, _ = known
    ours = noise(data)
    test = data.part("test")
    ours[test.users, test.items] = 50
    done = judged(known, ours)
    assert done.scores["model"]["recall_at_20"].value == 1
    assert not done.verdict.passed


def test_only_the_systems_that_are_named_as_simple_must_be_beaten(known) -> None:
    data, likes = known
    systems = {
        "model": Table(blurred(likes, 2.0)),
        "popularity": Table(counts(data)),
        "deeper": Table(likes.copy()),
    }
    assert not evaluated(data, systems).verdict.passed
    done = evaluated(data, systems, simple=["popularity"])
    assert done.verdict.passed and "deeper" in done.scores
    with pytest.raises(ConfigError, match="no system 'ease'"):
        evaluated(data, systems, simple=["ease"])


def test_what_leaks_is_refused(known) -> None:
    data, likes = known
    test = data.part("test")
    leaking = data.with_parts(train=Interactions.joined(data.part("train"), test.take(np.arange(5))))
    with pytest.raises(LeakageFound):
        judged((leaking, likes), blurred(likes, 1.0))
    published = dataclasses.replace(leaking, own_split=False)
    done = judged((published, likes), blurred(likes, 1.0))
    assert sum(done.section(LeakageFacts).leakage["known"].values()) >= 5


def test_what_a_shopper_has_is_not_ranked_unless_they_take_it_again() -> None:
    known = shop(repeat=0.5)
    data = dataclasses.replace(known[0], own_split=False)
    ours = blurred(known[1], 1.0)
    once = judged((data, known[1]), ours)
    again = judged((dataclasses.replace(data, facts={"repeat": True}), known[1]), ours)
    names = [set(by_slice(done)) for done in (once, again)]
    assert {"taken again", "taken anew"} <= names[1] - names[0]
    queries = [by_slice(done)["all"].queries for done in (once, again)]
    assert queries[0] <= queries[1]


def test_a_ranker_is_judged_by_the_order_of_the_candidates(known, tmp_path: Path) -> None:
    data, likes = known
    good = judged(known, Probable(blurred(likes, 1.0) - 8), quota=15, reports=tmp_path)
    assert good.verdict.passed and good.verdict.role == "ranker" and good.verdict.metric == "ndcg_at_10"
    systems = [row["system"] for row in good.verdict.rows]
    assert systems == ["model", "popularity", "item_knn", "chance", "retrieved order"]
    assert good.section(Probabilities).systems["model"]["auroc_of_all"] > 0.75
    assert 0 < good.section(Probabilities).systems["model"]["log_loss"] < 0.7
    assert "test_calibration_error" in good.figures("model")
    bad = judged(known, Probable(noise(data)), quota=15)
    assert not bad.verdict.passed and bad.verdict.best != "model"
    assert bad.section(Probabilities).systems["model"]["auroc_of_all"] == pytest.approx(0.5, abs=0.06)


def test_candidates_come_from_the_retrievers_that_have_a_quota(known) -> None:
    _, likes = known
    done = judged(known, Probable(blurred(likes, 1.0)), quota={"popularity": 12})
    wide = judged(known, Probable(blurred(likes, 1.0)), quota={"popularity": 60, "item_knn": 60})
    questions = [by_slice(found)["all"].queries for found in (done, wide)]
    assert questions[0] < questions[1]
    with pytest.raises(TooLittleData, match="no retriever brings candidates"):
        judged(known, Probable(blurred(likes, 1.0)), quota={"ease": 10})


def test_published_negatives_are_measured_as_published_and_cleaned(known) -> None:
    data, likes = known
    rng = np.random.default_rng(0)
    queries, truth = data.queries("test")
    lists = np.array([rng.choice(90, 30, replace=False) + 1 for _ in truth])
    for number in range(0, len(truth), 4):  # something that the shopper has, best of all
        lists[number, 0] = queries.items[queries.starts[number]]
    data = dataclasses.replace(data, own_split=False, negatives={"test": lists})
    done = judged((data, likes), blurred(likes, 0.5))
    one = done.section(PublishedProtocol).systems["model"]
    assert 0 < one.faulty < 0.5
    assert one.cleaned.per_query["hit_at_5"].mean() > one.as_published.per_query["hit_at_5"].mean()
    assert set(done.section(PublishedProtocol).systems) == set(done.scores)


@pytest.mark.parametrize("metric", ["precision", "recall_at_", "recall_at_x", "recall_at_0", "f1_at_5"])
def test_an_unknown_metric_is_named_before_the_test_part_is_measured(known, metric: str) -> None:
    with pytest.raises(ConfigError, match=r"recall_at_20|there are|did you mean"):
        judged(known, known[1], metric=metric)


def test_an_unknown_slice_and_other_data_are_refused(known) -> None:
    with pytest.raises(TooLittleData, match=r"slice 'warm'.*cold items"):
        judged(known, known[1], slice="warm")
    other = Table(np.zeros((261, 91)), items=named("x", 90))
    with pytest.raises(ExportDamaged, match="train it again on this data"):
        judged(known, other)


def test_without_a_test_part_the_figures_are_of_validation(known) -> None:
    data = known[0].with_parts(test=Interactions.none())
    assert judged((data, known[1]), blurred(known[1], 1.0)).part == "validation"


class Page(HTMLParser):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_shows_figures_slices_probabilities_epochs_and_shoppers(known, tmp_path: Path) -> None:
    data, likes = known
    history = [{"auroc": 0.5 + n / 20, "loss": 1 / (n + 1)} for n in range(5)]
    bad = "<script>alert(1)</script>"
    titles = {data.items.id(row): f"{bad} tile {row}" for row in range(1, 91)}
    done = judged(
        known, Probable(blurred(likes, 1.0) - 8), quota=15, reports=tmp_path, history=history, titles=titles
    )
    assert done.report is not None
    page = Page(done.report)
    for heading in ("Metrics", "Slices", "Probabilities", "Training", "Shoppers"):
        assert heading in page.text
    for name, one in done.scores.items():
        assert name in page.text and f"{one['ndcg_at_10'].value:.3f}" in page.text
    for one in by_slice(done).values():
        assert one.name in page.text and f"{one.gain.value:+.4f}" in page.text
    assert page.text.count("act before") + page.text.count("acts before") == 10
    assert f"{bad} tile" in page.text
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    hits = [attributes for tag, attributes in page.tags if tag == "li" and attributes.get("class") == "hit"]
    assert 0 < len(hits) < 60
    names = {file.name for file in done.files}
    assert names == {"model-evaluation.html", "bars.png", "calibration.png", "epochs.png"}
    sources = [a["src"] or "" for tag, a in page.tags if tag == "img"]
    assert len(sources) == 3 and all(one.startswith("data:image/png") for one in sources)


def test_a_report_without_history_or_probabilities_is_a_page_too(known, tmp_path: Path) -> None:
    done = judged(known, blurred(known[1], 1.0), reports=tmp_path)
    assert done.report is not None
    text = Page(done.report).text
    assert "Training" not in text and "Probabilities" not in text and "coverage @ 20" in text
    assert json.dumps(done.verdict.to_json(), allow_nan=False)
