"""Heads that are solved: what they learn, from whom, and that the export answers as they do."""

from dataclasses import replace

import numpy as np
import pytest

from etalage.errors import ConfigError, TooLittleData
from etalage.features.category_set import CategorySet
from etalage.models.item_category import RECIPE, ItemCategoryConfig
from etalage.models.recipe import Trained
from etalage.models.solved_categories import SolvedCategoriesTask
from etalage.models.solved_heads import discriminant, ridge_of_words, scores_of_words, sharpness
from etalage.runtime.classifier import ItemClassifier
from etalage.training.category_export import export_classifier
from etalage.training.loop import fit
from tests.category_sets import category_set

QUICK = {"size": 32, "buckets": 512, "words": 8, "served": "float32"}


@pytest.fixture(scope="module")
def items() -> CategorySet:
    return category_set(120)


@pytest.fixture(scope="module")
def trained(items: CategorySet, tmp_path_factory: pytest.TempPathFactory) -> Trained[ItemCategoryConfig]:
    config = ItemCategoryConfig(**QUICK)
    return fit(RECIPE, RECIPE.bind(config, items), config, tmp_path_factory.mktemp("run"))


def test_with_nothing_said_the_heads_are_solved_over_every_stage_and_titles() -> None:
    config = ItemCategoryConfig()
    assert (config.heads, config.features, config.text, config.size) == ("solved", "stages", "late", 320)
    assert config.photo_encoder().size == 320


@pytest.mark.parametrize(
    "given", [{"epochs": 3}, {"backbone": "small"}, {"text": "joint"}, {"frozen_epochs": 0}]
)
def test_a_setting_of_a_training_by_steps_asks_for_one(given: dict[str, object]) -> None:
    config = ItemCategoryConfig.model_validate(given)
    assert (config.heads, config.features) == ("levels", "last")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heads": "solved", "epochs": 3}, "epochs = 3 does nothing here"),
        ({"heads": "solved", "backbone": "small"}, "needs a backbone with weights"),
        ({"heads": "solved", "text": "joint"}, "trained by steps"),
        ({"heads": "solved", "frozen_epochs": 2}, "frozen_epochs = 2"),
        ({"heads": "levels", "shrink": 0.5}, "shrink = 0.5 does nothing here"),
    ],
)
def test_what_cannot_act_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ItemCategoryConfig.model_validate(given)


def test_the_settings_of_an_export_are_settings_again() -> None:
    config = ItemCategoryConfig(shrink=0.3)
    assert ItemCategoryConfig(**config.model_dump(mode="json")) == config


def test_it_learns_what_photos_and_titles_tell(trained: Trained[ItemCategoryConfig]) -> None:
    assert trained.facts["solved"]
    assert trained.metrics["leaf_accuracy"] > 0.9
    assert trained.metrics["leaf_log_likelihood"] > np.log(0.6)


def test_the_export_answers_as_the_network(
    trained: Trained[ItemCategoryConfig], items: CategorySet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    task = RECIPE.bind(trained.config, items)
    exported = export_classifier(trained, items, tmp_path_factory.mktemp("exports"), task)
    opened = ItemClassifier.open(exported)
    assert opened.dimension == 16 + 24 + 40 + 112 + 320
    rows = items.rows("validation")
    assert items.pixels_PHWC is not None
    features = opened.features(items.pixels_PHWC[rows])
    for titles in ([items.titles[row] for row in rows], [None] * len(rows)):
        given = opened.leaf_probabilities(features, np.ones(len(rows), bool), titles)
        assert (given.argmax(axis=1) == items.leaf_N[rows]).mean() > 0.85
    alone = opened.leaf_probabilities(0 * features, np.zeros(len(rows), bool), ["crisp braeburn"] * len(rows))
    assert opened.taxonomy.names[opened.taxonomy.leaves_L[alone[0].argmax()]] == "Apples"


def test_a_label_above_the_leaves_counts_as_the_likeliest_leaf_beneath(items: CategorySet) -> None:
    features = np.eye(4, dtype=np.float32)[items.leaf_N] + np.random.default_rng(0).normal(
        0, 0.1, (len(items), 4)
    ).astype(np.float32)
    fruit = items.taxonomy.row("c3")
    labels = items.labels_N.copy()
    for leaf in ("c7", "c5"):  # a few of each keep theirs
        labels[np.flatnonzero(items.labels_N == items.taxonomy.row(leaf))[8:]] = fruit
    above = replace(items, labels_N=labels).with_features(features)
    task = RECIPE.bind(ItemCategoryConfig(**QUICK), above)
    assert isinstance(task, SolvedCategoriesTask)
    network = task.solve().network
    (photo, _), _ = task.scores(network, np.arange(len(items)))
    assert (photo.argmax(axis=1) == items.leaf_N).all()


def test_without_any_leaf_nothing_is_learned(items: CategorySet) -> None:
    fruit = np.full(len(items), items.taxonomy.row("c3"))
    config = ItemCategoryConfig(**QUICK)
    features = np.zeros((len(items), 4), np.float32)
    with pytest.raises(TooLittleData, match="no training item"):
        RECIPE.bind(config, replace(items, labels_N=fruit).with_features(features)).solve()


def test_the_discriminant_is_that_of_alike_normal_clouds() -> None:
    rng = np.random.default_rng(1)
    means = rng.normal(0, 2, (3, 5))
    leaf = rng.integers(0, 3, 3000)
    mixed = rng.normal(0, 1, (5, 5))
    features = (means[leaf] + rng.normal(0, 1, (3000, 5)) @ mixed).astype(np.float32)
    found = discriminant(features, leaf, np.ones(3000), 4, 0.0)
    scores = found(features)
    assert (scores.argmax(axis=1) < 3).all()  # nothing was learned of the fourth
    inverse = np.linalg.inv(mixed.T @ mixed)
    wanted = features @ inverse @ means.T - 0.5 * np.einsum("kf,fg,kg->k", means, inverse, means)
    assert ((scores[:, :3].argmax(axis=1) == wanted.argmax(axis=1)).mean()) > 0.98


def test_weights_count_as_copies_do() -> None:
    rng = np.random.default_rng(2)
    features, leaf = rng.normal(0, 1, (60, 6)).astype(np.float32), np.arange(60) % 3
    weights = np.where(np.arange(60) < 30, 2.0, 1.0)
    twice = np.concatenate([np.arange(60), np.arange(30)])
    one = discriminant(features, leaf, weights, 3, 0.2)
    other = discriminant(features[twice], leaf[twice], np.ones(90), 3, 0.2)
    np.testing.assert_allclose(one.weights_FL, other.weights_FL, rtol=1e-4, atol=1e-5)


def test_words_are_solved_by_least_squares() -> None:
    words = np.array([[1, 2, 0], [1, 3, 0], [4, 0, 0], [4, 2, 3]])
    leaf = np.array([0, 0, 1, 1])
    table = ridge_of_words(words, leaf, np.ones(4), 2, 6, 0.1)
    bags = np.zeros((4, 6))
    for row, some in enumerate(words):
        for word in some[some > 0]:
            bags[row, word] = (some > 0).sum() ** -0.5
    wanted = np.linalg.solve(bags.T @ bags + 0.1 * np.eye(6), bags.T @ (np.eye(2)[leaf] - 0.5))
    np.testing.assert_allclose(table, wanted, atol=1e-4)
    assert not table[0].any()
    assert (scores_of_words(words, table).argmax(axis=1) == leaf).all()


def test_a_table_that_is_too_large_is_refused_before_it_is_made() -> None:
    with pytest.raises(ConfigError, match="fewer buckets"):
        ridge_of_words(np.ones((1, 1), np.int64), np.zeros(1, np.int64), np.ones(1), 5000, 2**15, 0.1)


def test_scores_that_are_often_wrong_are_made_less_sure() -> None:
    rng = np.random.default_rng(3)
    leaf = rng.integers(0, 4, 2000)
    logits = np.log(0.1) + (np.log(0.7) - np.log(0.1)) * np.eye(4)[np.where(rng.random(2000) < 0.6, leaf, 0)]
    found = sharpness(5 * logits, leaf)
    assert 0.05 < found < 0.25
