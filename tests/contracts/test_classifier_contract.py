"""What every model of the role `classifier` keeps to; run over every such model in the folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.errors import PhotoRefused
from etalage.features.category_set import CategorySet
from etalage.models.recipe import Recipe, Trained
from etalage.runtime.classifier import ItemClassifier
from etalage.training.category_export import export_classifier
from etalage.training.loop import fit
from tests import category_sets
from tests.contracts.folder import FOLDER, names
from tests.stripes import png

pytestmark = pytest.mark.traces

CLASSIFIERS = names("classifier")
QUICK: dict[str, dict[str, Any]] = {"item_category": category_sets.quick(text="late")}
"""Small settings for each model; a new classifier needs a line here."""


@pytest.fixture(scope="module", params=CLASSIFIERS)
def recipe(request: pytest.FixtureRequest) -> Recipe[Any]:
    return FOLDER.find(request.param)


@pytest.fixture(scope="module")
def items() -> CategorySet:
    return category_sets.category_set()


@pytest.fixture(scope="module")
def config(recipe: Recipe[Any]) -> Any:
    return recipe.config(**QUICK.get(recipe.name, {}))


@pytest.fixture(scope="module")
def trained(
    recipe: Recipe[Any], config: Any, items: CategorySet, tmp_path_factory: pytest.TempPathFactory
) -> Trained[Any]:
    return fit(recipe, recipe.bind(config, items), config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exported(trained: Trained[Any], items: CategorySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_classifier(trained, items, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def served(exported: Path) -> ItemClassifier:
    return ItemClassifier.open(exported)


def accuracy(recipe: Recipe[Any], config: Any, network: Any, items: CategorySet) -> float:
    with torch.inference_mode():
        found: float = recipe.bind(config, items).validate(network.eval())["leaf_accuracy"]
    return found


def told_apart(config: Any, items: CategorySet, part: str) -> np.ndarray:
    """The items of a part that show the model something: a photo, or a title where it looks at no photo."""
    rows = items.rows(part)
    photos = config.photo_encoder() is not None
    return rows if photos else np.array([row for row in rows if items.titles[row] is not None])


def short(config: Any, **changes: Any) -> Any:
    return config.model_copy(update={"epochs": 2, "steps_per_epoch": 2, **changes})


def test_the_loss_falls(trained: Trained[Any]) -> None:
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_it_beats_the_untrained_network_and_the_most_common_leaf(
    recipe: Recipe[Any], config: Any, trained: Trained[Any], items: CategorySet
) -> None:
    torch.manual_seed(0)
    untrained = accuracy(recipe, config, recipe.bind(config, items).network(), items)
    found = accuracy(recipe, config, trained.network, items)
    truth = items.leaf_N[items.rows("validation")]
    assert found > untrained + 0.1
    assert found > np.bincount(truth).max() / len(truth) + 0.2


def test_what_is_served_is_what_was_trained(
    recipe: Recipe[Any], config: Any, trained: Trained[Any], served: ItemClassifier, items: CategorySet
) -> None:
    """From image files on, and of each kind of item."""
    rows = items.rows("validation")[:24]
    pixels, titles = items.pixels_PHWC[rows], [items.titles[row] for row in rows]
    bare = (np.arange(len(rows)) % 5 == 1) | (not served.uses_photos)
    answers = served.classify(
        [[] if none else [png(one)] for none, one in zip(bare, pixels, strict=True)], titles, top=9
    )
    task = recipe.bind(config, items)
    with torch.inference_mode():
        features = torch.zeros(len(rows), 0)
        if served.uses_photos:
            features = trained.network.trunk(torch.from_numpy(pixels))
        words = task.words_NT[torch.from_numpy(rows)]
        heads = task.heads(trained.network, features, torch.from_numpy(~bare), words)
        scores = [one.numpy() for one, _ in heads]
    offline = served.deciding.probabilities(scores, ~bare, (words > 0).any(1).numpy())
    ids = [served.taxonomy.ids[row] for row in served.taxonomy.leaves_L]
    seen = 0
    for answer, expected, none, title in zip(answers, offline, bare, titles, strict=True):
        if none and title is None:
            assert answer.confidence is None
            continue
        found = {answer.category_id: answer.confidence} | {leaf.id: leaf.confidence for leaf in answer.others}
        assert found == pytest.approx(dict(zip(ids, expected, strict=True)), abs=2e-3)
        assert answer.category_id == ids[int(expected.argmax())]
        seen += 1
    assert seen > 12


def test_an_export_opens_as_the_same_model_twice(exported: Path, items: CategorySet) -> None:
    one, other = ItemClassifier.open(exported), ItemClassifier.open(exported)
    assert one.model_hash == other.model_hash and exported.name.endswith(one.model_hash[:8])
    assert one.taxonomy.version == items.taxonomy.version
    photos = [[png(items.pixels_PHWC[n])] for n in range(4)]
    assert one.classify(photos, items.titles[:4]) == other.classify(photos, items.titles[:4])


def test_its_answers_are_mostly_right_and_of_every_leaf(
    config: Any, served: ItemClassifier, items: CategorySet
) -> None:
    """The first leaf and the last are ordinary; none is never answered."""
    rows = told_apart(config, items, "validation")
    features = served.features(items.pixels_PHWC[rows])
    titles = [items.titles[row] for row in rows]
    found = served.leaf_probabilities(features, np.ones(len(rows), bool), titles)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    chosen, truth = found.argmax(axis=1), items.leaf_N[rows]
    assert set(chosen.tolist()) == set(range(len(items.taxonomy.leaves_L)))
    for leaf in (0, len(items.taxonomy.leaves_L) - 1):
        assert (chosen[truth == leaf] == leaf).mean() > 0.6


def test_the_size_of_a_batch_changes_nothing(served: ItemClassifier, items: CategorySet) -> None:
    photos = [[png(one)] for one in items.pixels_PHWC[:7]]
    whole = served.classify(photos, items.titles[:7])
    for n, together in enumerate(whole):
        (alone,) = served.classify(photos[n : n + 1], items.titles[n : n + 1])
        assert alone.category_id == together.category_id
        assert alone.confidence == pytest.approx(together.confidence, abs=1e-5)
    assert served.classify([], []) == []


def test_missing_inputs_are_answered_and_unknown_words_are_no_error(served: ItemClassifier) -> None:
    nothing, unknown = served.classify([[], []], [None, "zzyzx ☃ ключ"])
    assert (nothing.category_id, nothing.path, nothing.confidence, nothing.steps) == (None, None, None, ())
    assert (unknown.confidence is not None) == served.uses_text
    if served.uses_photos:
        with pytest.raises(PhotoRefused, match="row 1"):
            served.classify([[], [b"no photo"]], [None, "title"])


def test_the_same_seed_gives_the_same_weights(
    recipe: Recipe[Any], config: Any, items: CategorySet, tmp_path: Path
) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        seeded = short(config, seed=seed)
        found = fit(recipe, recipe.bind(seeded, items), seeded, tmp_path / name)
        runs.append(found.network.state_dict())
    assert all(torch.equal(tensor, runs[1][name]) for name, tensor in runs[0].items())
    assert not all(torch.equal(tensor, runs[2][name]) for name, tensor in runs[0].items())


def test_f4_a_run_that_stops_ends_like_an_uninterrupted_one(
    recipe: Recipe[Any], config: Any, items: CategorySet, tmp_path: Path
) -> None:
    some = short(config, epochs=3, steps_per_epoch=3, checkpoint_steps=2)
    whole = fit(recipe, recipe.bind(some, items), some, tmp_path / "whole")
    torn = recipe.bind(some, items)
    batch = torn.batch

    def failing(epoch: int, step: int, *ranks: int) -> Any:
        if (epoch, step) == (1, 2):
            raise KeyboardInterrupt
        return batch(epoch, step)

    torn.batch = failing
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, torn, some, tmp_path / "torn")
    again = fit(recipe, recipe.bind(some, items), some, tmp_path / "torn")
    assert [epoch["loss"] for epoch in again.history] == [epoch["loss"] for epoch in whole.history]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step(
    recipe: Recipe[Any], config: Any, items: CategorySet
) -> None:
    one, other = recipe.bind(config, items), recipe.bind(config, items)
    other.batch(3, 1)
    for key, tensor in one.batch(1, 2).items():
        assert torch.equal(tensor, other.batch(1, 2)[key])
    assert not torch.equal(one.batch(1, 2)["rows"], one.batch(2, 2)["rows"])


def test_an_epoch_covers_the_training_items_and_no_other(
    recipe: Recipe[Any], config: Any, items: CategorySet
) -> None:
    task = recipe.bind(config, items)
    seen = np.concatenate([np.asarray(task.batch(0, step)["rows"]) for step in range(task.steps)])
    assert set(seen.tolist()) == set(told_apart(config, items, "train").tolist())
