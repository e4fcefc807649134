"""What every model of the role `embedder` keeps to; run over every such model in the folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.features.photo import PhotoEncoder
from etalage.features.photo_set import PhotoSet
from etalage.models.recipe import Recipe, Trained
from etalage.runtime.photos import PhotoEmbedder
from etalage.training.export import export
from etalage.training.loop import fit
from tests import stripes
from tests.contracts.folder import FOLDER, names

pytestmark = pytest.mark.traces

EMBEDDERS = names("embedder", "photos")
QUICK: dict[str, dict[str, Any]] = {"image_similarity": stripes.SETTINGS}
"""Small settings for each model; a new embedder needs a line here."""


def photo_set(count: int = 400) -> PhotoSet:
    pixels, labels = stripes.pixels(count)
    parts = np.where(np.arange(count) % 4 == 0, "validation", "train")
    return PhotoSet([f"i{n}" for n in range(count)], [b""] * count, pixels, labels, stripes.NAMES, parts)


@pytest.fixture(scope="module", params=EMBEDDERS)
def recipe(request: pytest.FixtureRequest) -> Recipe[Any]:
    return FOLDER.find(request.param)


@pytest.fixture(scope="module")
def photos() -> PhotoSet:
    return photo_set()


@pytest.fixture(scope="module")
def config(recipe: Recipe[Any]) -> Any:
    return recipe.config(**QUICK.get(recipe.name, {}))


@pytest.fixture(scope="module")
def trained(
    recipe: Recipe[Any], config: Any, photos: PhotoSet, tmp_path_factory: pytest.TempPathFactory
) -> Trained[Any]:
    return fit(recipe, recipe.bind(config, photos), config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exported(trained: Trained[Any], config: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(trained, PhotoEncoder(config.size, config.channels), tmp_path_factory.mktemp("exports"))


def embeddings(network: torch.nn.Module, photos: PhotoSet) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(photos.pixels_NHWC)).numpy()


def hit_at_1(embeddings_ND: np.ndarray, photos: PhotoSet) -> float:
    queries, index = photos.rows("validation"), photos.rows("train")
    nearest = index[(embeddings_ND[queries] @ embeddings_ND[index].T).argmax(axis=1)]
    return float((photos.labels_N[nearest] == photos.labels_N[queries]).mean())


def test_the_loss_falls(trained: Trained[Any]) -> None:
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_it_beats_the_untrained_network_and_the_majority(
    recipe: Recipe[Any], config: Any, trained: Trained[Any], photos: PhotoSet
) -> None:
    torch.manual_seed(0)
    untrained = recipe.bind(config, photos).network().eval()
    found = hit_at_1(embeddings(trained.network, photos), photos)
    assert found > hit_at_1(embeddings(untrained, photos), photos) + 0.1
    assert found > np.bincount(photos.labels_N).max() / len(photos.labels_N) + 0.2


def test_embeddings_have_length_one(trained: Trained[Any], photos: PhotoSet) -> None:
    lengths = np.linalg.norm(embeddings(trained.network, photos), axis=1)
    assert np.allclose(lengths, 1, atol=1e-5)


def test_what_is_served_is_what_was_trained(trained: Trained[Any], exported: Path, photos: PhotoSet) -> None:
    served = PhotoEmbedder.open(exported).embed_pixels(photos.pixels_NHWC)
    offline = embeddings(trained.network, photos)
    assert np.abs(served - offline).max() < 1e-4
    queries, index = photos.rows("validation"), photos.rows("train")
    assert np.abs(served[queries] @ served[index].T - offline[queries] @ offline[index].T).max() < 1e-4


def test_the_size_of_a_batch_changes_nothing(exported: Path, photos: PhotoSet) -> None:
    embedder = PhotoEmbedder.open(exported)
    whole = embedder.embed_pixels(photos.pixels_NHWC[:9])
    alone = np.concatenate([embedder.embed_pixels(photos.pixels_NHWC[n : n + 1]) for n in range(9)])
    assert np.abs(whole - alone).max() < 1e-5
    assert len(embedder.embed_pixels(photos.pixels_NHWC[:0])) == 0


def test_the_same_seed_gives_the_same_weights(
    recipe: Recipe[Any], config: Any, photos: PhotoSet, tmp_path: Path
) -> None:
    short = config.model_copy(update={"epochs": 1, "steps_per_epoch": 3})
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        seeded = short.model_copy(update={"seed": seed})
        found = fit(recipe, recipe.bind(seeded, photos), seeded, tmp_path / name)
        runs.append(embeddings(found.network, photos))
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])


def test_f4_a_run_that_stops_ends_like_an_uninterrupted_one(
    recipe: Recipe[Any], config: Any, photos: PhotoSet, tmp_path: Path
) -> None:
    short = config.model_copy(
        update={"epochs": 2, "steps_per_epoch": 4, "checkpoint_steps": 3, "average": 0.9}
    )
    whole = fit(recipe, recipe.bind(short, photos), short, tmp_path / "whole")
    torn = recipe.bind(short, photos)
    batch = torn.batch

    def failing(epoch: int, step: int, *ranks: int) -> Any:
        if (epoch, step) == (1, 2):
            raise KeyboardInterrupt
        return batch(epoch, step)

    torn.batch = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, torn, short, tmp_path / "torn")
    again = fit(recipe, recipe.bind(short, photos), short, tmp_path / "torn")
    assert np.array_equal(embeddings(again.network, photos), embeddings(whole.network, photos))


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step(
    recipe: Recipe[Any], config: Any, photos: PhotoSet
) -> None:
    one, other = recipe.bind(config, photos), recipe.bind(config, photos)
    other.batch(3, 1)
    for key, tensor in one.batch(1, 2).items():
        assert torch.equal(tensor, other.batch(1, 2)[key])
    assert not torch.equal(one.batch(1, 2)["rows"], one.batch(2, 2)["rows"])


def test_the_first_and_the_last_row_and_category_are_ordinary(
    recipe: Recipe[Any], config: Any, photos: PhotoSet
) -> None:
    task = recipe.bind(config.model_copy(update={"classes_per_batch": 7}), photos)
    seen = np.concatenate([np.asarray(task.batch(0, step)["rows"]) for step in range(task.steps)])
    trainable = photos.rows("train")
    assert trainable[0] in seen and trainable[-1] in seen
    assert set(photos.labels_N[seen].tolist()) == set(range(7))
    assert not set(photos.rows("validation").tolist()) & set(seen.tolist())
