"""Blocks of shoppers that workers rank: the figures are those of one process, to the last bit."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.config import EvaluateConfig
from etalage.engine.local import LOCAL
from etalage.errors import ExportDamaged
from etalage.evaluation import blocks, ranking
from etalage.evaluation.behaviour import BehaviourEvaluator
from etalage.evaluation.blocks import Job, Workers, open_questions, rank_jobs, save_questions
from etalage.evaluation.comparison import Comparison
from etalage.evaluation.evaluation import evaluate
from etalage.evaluation.measured import Chance
from etalage.evaluation.ranking import Ranked
from etalage.evaluation.sections import Slices
from etalage.evaluation.slices import Questions, ask
from etalage.features.behaviour import BehaviourSet
from etalage.features.encoder import Features
from etalage.models import recipe as recipes
from etalage.models.recipe import Trained
from etalage.runtime.opening import open_scorer
from etalage.runtime.scorer import Scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from tests.engines import Here
from tests.evaluation.fakes import Table, counts, shop

CONFIG = EvaluateConfig(bootstrap=100, ks=(1, 5, 20))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[BehaviourSet, dict[str, Scorer]]:
    """A shop, and an export of each kind that scores a whole catalogue: a prior, item–item, embeddings."""
    data, _ = shop()
    folder = tmp_path_factory.mktemp("exports")
    systems: dict[str, Scorer] = {}
    for name in ("ials", "item_knn", "popularity"):
        recipe = recipes.find(name)
        counted = recipe.bind(recipe.config(), data).count()
        trained = Trained(name, recipe.config(), None, {}, [], 0.0, 0.0, folder / "none", {}, counted)
        systems[name] = open_scorer(export_behaviour(recipe, trained, Source.of(data), folder / name))
    assert {one.kind for one in systems.values()} == {"embeddings", "item_item", "prior"}  # type: ignore[attr-defined]
    return data, {**systems, "chance": Chance(data.items, data.users)}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Workers keep what they opened; a test's folder is gone with it."""
    yield
    blocks._questions.cache_clear()
    blocks._system.cache_clear()


def assert_alike(one: Ranked, other: Ranked) -> None:
    for field in dataclasses.fields(Ranked):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(ours, theirs), field.name
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype, field.name


def jobs_of(data: BehaviourSet, systems: dict[str, Scorer]) -> list[Job]:
    asked = ask(data, "test", 10_000)
    few = np.arange(len(data.items)) % 3 == 0
    return [Job(one, asked, candidates) for one in systems.values() for candidates in (None, few)]


@pytest.mark.parametrize(("at_once", "blocks_of_all"), [(7, 16), (64, 16), (10_000, 1), (1, 3)])
def test_blocks_of_any_size_give_what_one_process_gives(
    known, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_once: int, blocks_of_all: int
) -> None:
    """Ties are drawn by the number of the query: popularity and item–item are full of them."""
    data, systems = known
    monkeypatch.setattr(ranking, "EMBED_AT_ONCE", at_once)
    monkeypatch.setattr(ranking, "ASK_AT_ONCE", at_once)
    monkeypatch.setattr(blocks, "BLOCKS", blocks_of_all)
    jobs, engine, told = jobs_of(data, systems), Here(), []
    alone = rank_jobs(jobs, CONFIG.ks)
    cut = rank_jobs(jobs, CONFIG.ks, Workers(engine, tmp_path / "runs", pays=0), told.append)
    for one, other in zip(alone, cut, strict=True):
        assert_alike(one, other)
    count = len(jobs[0].asked.truth)
    assert sum(told) == len(jobs) * count
    assert engine.shards == len(jobs) if at_once > count else engine.shards > len(jobs)
    assert list((tmp_path / "runs").iterdir()) == [], "what the blocks were read from is removed"


@pytest.mark.timeout(300)
def test_two_processes_give_what_one_gives(known, tmp_path: Path) -> None:
    jobs = jobs_of(*known)
    alone = rank_jobs(jobs, CONFIG.ks)
    for one, other in zip(
        alone, rank_jobs(jobs, CONFIG.ks, Workers(LOCAL, tmp_path, 2, pays=0)), strict=True
    ):
        assert_alike(one, other)


def test_the_verdict_the_figures_and_the_slices_are_those_of_one_process(known, tmp_path: Path) -> None:
    data, systems = known
    simple = {name: one for name, one in systems.items() if name != "chance"}
    engine = Here()

    def judged(workers: Workers | None) -> Any:
        evaluator = BehaviourEvaluator(data, simple, CONFIG, slice="cold items among all", workers=workers)
        done = evaluate(evaluator)
        return done.verdict, done.scores, done.section(Slices).rows, done.summary()

    assert judged(None) == judged(Workers(engine, tmp_path, pays=0)) and engine.shards > 0


def test_models_are_compared_by_blocks_too(known, tmp_path: Path) -> None:
    data, systems = known
    models = {name: one for name, one in systems.items() if name != "chance"}
    engine = Here()
    found = [
        Comparison(data, models, {}, {}, config=CONFIG, workers=workers).compared({}, {})
        for workers in (None, Workers(engine, tmp_path, pays=0))
    ]
    assert found[0] == found[1] and engine.shards > 0


def test_workers_are_started_from_so_many_scores_on(known) -> None:
    data, systems = known
    jobs, engine = jobs_of(data, systems), Here()
    scores = sum(len(job.asked.truth) * len(data.items) for job in jobs)
    rank_jobs(jobs, CONFIG.ks, Workers(engine, pays=scores + 1))
    assert engine.shards == 0
    rank_jobs(jobs, CONFIG.ks, Workers(engine, pays=scores))
    assert engine.shards > 0


def test_a_score_that_is_no_number_names_its_query_as_in_one_process(
    known, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = known
    monkeypatch.setattr(ranking, "ASK_AT_ONCE", 5)
    asked = ask(data, "test", 10_000)
    table = np.tile(counts(data), (len(data.users), 1))
    table[asked.queries.users[23], asked.truth[23][0]] = np.nan
    job = Job(Table(table, "broken"), asked)
    for workers in (None, Workers(Here(), pays=0)):
        with pytest.raises(ExportDamaged, match=r"broken: a score is NaN \(query 23\)"):
            rank_jobs([job], CONFIG.ks, workers)


def test_questions_are_the_same_out_of_their_folder(known, tmp_path: Path) -> None:
    data, _ = known
    asked = ask(data, "test", 40)
    count = len(asked.truth)
    features = Features(
        {"age": np.arange(count)}, {"tags/of all": np.ones((count, 2), int)},
        {"photo": np.ones((count, 3), np.float32)}, {"age": count},
    )  # fmt: skip
    asked = dataclasses.replace(asked, queries=dataclasses.replace(asked.queries, features=features))
    save_questions(asked, tmp_path / "questions")
    again = open_questions(tmp_path / "questions")
    assert isinstance(again, Questions) and (again.part, again.dropped) == (asked.part, asked.dropped)
    for one, other in zip(asked.truth, again.truth, strict=True):
        assert np.array_equal(one, other)
    for name in ("users", "starts", "items", "kinds", "times", "now"):
        assert np.array_equal(getattr(asked.queries, name), getattr(again.queries, name))
    assert again.queries.features.sizes == {"age": count}
    for name, column in features.columns.items():
        assert np.array_equal(again.queries.features.columns[name], column)
    assert np.array_equal(again.seen.users, asked.seen.users)
    assert np.array_equal(again.seen.items, asked.seen.items)
