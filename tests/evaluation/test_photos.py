"""A photo model beside the simple ones: verdict on validation, figures on test."""

import json
from pathlib import Path

import numpy as np
import pytest

from etalage.config import EvaluateConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.evaluation import Evaluation, evaluate
from etalage.evaluation.photo_sections import MatchThreshold
from etalage.evaluation.photos import PhotoEvaluator, _shrunk, untrained
from etalage.features.photo_set import PhotoSet
from etalage.models import recipe as recipes
from etalage.runtime.export_files import read_verdict
from tests import stripes

CONFIG = EvaluateConfig(bootstrap=200)


def photos(parts: tuple[str, ...] = ("train", "train", "validation", "test")) -> PhotoSet:
    pixels, labels = stripes.pixels(280)
    chosen = np.array([parts[n // 7 % len(parts)] for n in range(280)])
    files = [stripes.png(one) for one in pixels]
    return PhotoSet([f"i{n}" for n in range(280)], files, pixels, labels, stripes.NAMES, chosen)


def pointing_at(labels: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    """Embeddings that know the class, more or less."""
    rows = np.eye(7, dtype=np.float32)[labels]
    rows = rows + noise * np.random.default_rng(seed).normal(size=rows.shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def judged(folder: Path, photos: PhotoSet, ours: np.ndarray, **changes: object) -> Evaluation:
    (folder / "export").mkdir(exist_ok=True)
    evaluator = PhotoEvaluator(
        photos,
        {"image_similarity": ours, "untrained network": pointing_at(photos.labels_N, 5.0)},
        CONFIG.model_copy(update=changes),
        export=folder / "export",
        model_hash="f" * 64,
        versions={"items": 3},
    )
    return evaluate(evaluator, reports=folder / "reports")


def test_a_good_model_passes_and_its_verdict_lies_beside_the_export(tmp_path: Path) -> None:
    some = photos()
    done = judged(tmp_path, some, pointing_at(some.labels_N, 0.1))
    assert done.verdict.passed
    assert done.part == "test"
    kept = read_verdict(tmp_path / "export")
    assert kept is not None
    assert (kept["passed"], kept["model_hash"]) == (True, "f" * 64)
    assert done.report is not None
    page = done.report.read_text(encoding="utf-8")
    assert "raw pixels" in page and "test: 70 photos searched in 210" in page and "items version 3" in page
    assert done.figures("image_similarity")["test_hit_at_1"] == pytest.approx(1.0)


def test_a_model_worse_than_raw_pixels_does_not_pass(tmp_path: Path) -> None:
    some = photos()
    done = judged(tmp_path, some, pointing_at(some.labels_N, 8.0, seed=4))
    assert not done.verdict.passed
    assert "does not beat" in done.summary()


def test_the_verdict_is_of_validation_photos_and_the_figures_of_test_photos(tmp_path: Path) -> None:
    """A model that knows the test photos alone fails, however good its figures look."""
    some = photos()
    ours = pointing_at(some.labels_N, 9.0, seed=4)
    known = some.parts_N != "validation"
    ours[known] = pointing_at(some.labels_N, 0.05)[known]
    done = judged(tmp_path, some, ours)
    assert done.scores["image_similarity"]["hit_at_1"].value > 0.95
    assert not done.verdict.passed


def test_without_test_photos_the_figures_are_of_validation(tmp_path: Path) -> None:
    some = photos(("train", "validation"))
    assert judged(tmp_path, some, pointing_at(some.labels_N, 0.1)).part == "validation"


def test_without_validation_photos_there_is_no_verdict(tmp_path: Path) -> None:
    some = photos(("train", "test"))
    with pytest.raises(TooLittleData, match="0 validation photos"):
        judged(tmp_path, some, pointing_at(some.labels_N, 0.1))
    assert read_verdict(tmp_path / "export") is None


def test_an_unknown_metric_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    some = photos()
    with pytest.raises(ConfigError, match="precision_at_5"):
        judged(tmp_path, some, pointing_at(some.labels_N, 0.1), metric="precision")


def test_a_model_that_was_not_evaluated_has_no_verdict(tmp_path: Path) -> None:
    assert read_verdict(tmp_path) is None
    (tmp_path / "evaluation.json").write_text(json.dumps({"passed": False}))
    assert read_verdict(tmp_path) == {"passed": False}


def test_an_untrained_network_embeds_every_photo_and_knows_little() -> None:
    some = photos()
    recipe = recipes.find("image_similarity")
    found = untrained(recipe, recipe.config(**stripes.SETTINGS), some)
    assert found.shape == (280, 24)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    again = untrained(recipe, recipe.config(**stripes.SETTINGS), some)
    assert np.array_equal(found, again)


def test_the_threshold_of_a_match_has_the_precision_that_was_asked_for(tmp_path: Path) -> None:
    some = photos()
    judged(tmp_path, some, pointing_at(some.labels_N, 0.55), match_precision=0.95)
    kept = read_verdict(tmp_path / "export")
    assert kept is not None
    assert kept["match"]["precision"] >= 0.95
    assert 0 < kept["match"]["score"] < 1


def test_a_precision_out_of_reach_is_said_so(tmp_path: Path) -> None:
    some = photos()
    ours = pointing_at(some.labels_N, 0.1)
    queries = some.parts_N == "validation"
    ours[queries] = pointing_at((some.labels_N[queries] + 1) % 7, 0.1)  # always beside the mark
    assert "no threshold has a precision of 0.9" in judged(tmp_path, some, ours).section(MatchThreshold).words
    kept = read_verdict(tmp_path / "export")
    assert kept is not None
    assert kept["match"] is None


def test_large_photos_are_shrunk_by_whole_blocks() -> None:
    pixels = np.arange(2 * 70 * 70 * 3, dtype=np.uint32).reshape(2, 70, 70, 3).astype(np.uint8)
    small = _shrunk(pixels)
    assert small.shape == (2, 35, 35, 3)
    assert small[1, 3, 5, 2] == int(pixels[1, 6:8, 10:12, 2].astype(float).mean())
    assert _shrunk(pixels[:, :40, :40]).shape == (2, 40, 40, 3)
