"""A classifier's export is the network itself, whatever it looks at; another file is another model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from etalage.errors import ConfigError, ExportDamaged
from etalage.features.category_set import CategorySet
from etalage.features.photo import PhotoEncoder
from etalage.models.category_heads import Levels
from etalage.models.item_category import RECIPE, ItemCategory, ItemCategoryConfig
from etalage.models.recipe import Trained
from etalage.runtime.classifier import CLASSIFIER_FILES, ItemClassifier
from etalage.runtime.export_files import hash_export
from etalage.runtime.sessions import Session
from etalage.training import category_export
from etalage.training.category_export import export_classifier
from tests.category_sets import SIDE, category_set, quick, ragged
from tests.stripes import png

pytestmark = pytest.mark.traces


def untrained(items: CategorySet, **changes: Any) -> Trained[Any]:
    """A network as it was drawn, its normalisation used to photos: what export does with it is the same."""
    config = ItemCategoryConfig(**quick(**{"average": None, **changes}))
    torch.manual_seed(4)
    network = RECIPE.bind(config, items).network()
    if network.trunk is not None:
        with torch.no_grad():
            for _ in range(4):
                network.trunk.train()(torch.from_numpy(items.pixels_PHWC[:64]))
    return Trained("item_category", config, network.eval(), {"leaf_accuracy": 0.5}, [], 1.0, 1.0, Path("run"))


@pytest.fixture(scope="module")
def items() -> CategorySet:
    return category_set()


@pytest.fixture(scope="module")
def trained(items: CategorySet) -> Trained[Any]:
    return untrained(items, text="late", heads="flat", decision="risk")


@pytest.fixture(scope="module")
def exported(trained: Trained[Any], items: CategorySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_classifier(trained, items, tmp_path_factory.mktemp("exports"))


# -- ONNX is torch -------------------------------------------------------------------------------


def looked_at(width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Seven items: with both, one or none of photo and title, in another number than was exported with."""
    features = torch.randn(7, width, generator=torch.Generator().manual_seed(1))
    has_photo = torch.tensor([True, True, False, False, True, False, True])
    words = torch.randint(1, 512, (7, 8), generator=torch.Generator().manual_seed(2))
    words[[1, 3, 6]] = 0
    words[0, 5:] = 0
    return features * has_photo[:, None], has_photo, words


@pytest.mark.parametrize(("text", "heads"), [("none", "flat"), ("late", "levels"), ("joint", "levels")])
def test_the_heads_are_the_same_in_onnx(text: str, heads: str, tmp_path: Path) -> None:
    """Without a trunk: 12 numbers stand for a photo."""
    config = ItemCategoryConfig(**quick(text=text, heads=heads))
    torch.manual_seed(5)
    network = ItemCategory(config, Levels.of(ragged()), None, 12).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)  # zeros would hide what is left out
    features, has_photo, words = looked_at(12)
    file = tmp_path / "heads.onnx"
    category_export._write_heads(network, 12, config.word_encoder(), list(network.sees), file)
    session = Session.open(file)
    feed = {"features": features.numpy(), "has_photo": has_photo.numpy(), "words": words.numpy()}
    found = session.run({name: feed[name] for name in session.inputs})
    with torch.inference_mode():
        expected = network(features, has_photo, words)
    assert len(found) == len(expected) == (2 if text == "late" else 1)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (7, 4) and np.allclose(one, other.numpy(), atol=1e-4)
    assert float(np.ptp(found[-1], axis=0).max()) > 0.1, "all items alike"


def test_the_export_answers_as_the_network_does(
    trained: Trained[Any], exported: Path, items: CategorySet
) -> None:
    opened = ItemClassifier.open(exported)
    pixels, titles = items.pixels_PHWC[:9], list(items.titles[:9])
    features = opened.features(pixels)
    with torch.inference_mode():
        expected = trained.network.trunk(torch.from_numpy(pixels))
        assert np.allclose(features, expected.numpy(), atol=1e-4)
        words = RECIPE.bind(trained.config, items).words_NT[:9]
        scores = [one.numpy() for one in trained.network(expected, torch.ones(9) > 0, words)]
    has_title = np.array([title is not None for title in titles])
    offline = opened.deciding.probabilities(scores, np.ones(9, bool), has_title)
    assert np.abs(opened.leaf_probabilities(features, np.ones(9, bool), titles) - offline).max() < 1e-3
    assert opened.deciding.decision == "risk"


def test_an_export_that_is_not_the_network_is_not_made(
    items: CategorySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that torch turns around and ONNX does not. Uncalibrated: noise would be given no say."""
    some = replace(items, parts_N=np.full(len(items), "train"))
    changed = untrained(some)
    changed.network.trunk.register_forward_hook(
        lambda _, __, found: found if torch.compiler.is_exporting() else found.flip(1)
    )
    compare, drafts = category_export._compare, []

    def seen(network: Any, folder: Path, *others: Any) -> None:
        drafts.append(dict(ItemClassifier.open(folder).deciding.weights))
        compare(network, folder, *others)

    monkeypatch.setattr(category_export, "_compare", seen)
    with pytest.raises(ExportDamaged, match="differ from the network's"):
        export_classifier(changed, some, tmp_path)
    assert drafts == [{"photo": [1.0]}], "calibrated on nothing"
    assert not list(tmp_path.iterdir()), "no draft stays behind"


# -- what lies there -----------------------------------------------------------------------------


def test_an_export_says_what_it_is(exported: Path, items: CategorySet, trained: Trained[Any]) -> None:
    facts = json.loads((exported / "export.json").read_text())
    assert exported.name == f"0001-{facts['model_hash'][:8]}"
    assert {file.name for file in exported.iterdir()} == {*CLASSIFIER_FILES, "export.json"}
    assert (facts["role"], facts["reads"], facts["dimension"], facts["leaves"]) == (
        "classifier",
        ["photo", "title"],
        128,
        4,
    )
    assert facts["taxonomy"] == items.taxonomy.version
    assert facts["config"] == trained.config.model_dump(mode="json")
    size = sum((exported / name).stat().st_size for name in CLASSIFIER_FILES)
    assert facts["megabytes"] == pytest.approx(size / 2**20, abs=0.01)
    assert set(facts["calibration"]) == {"photo", "title", "both"}
    for told in facts["calibration"].values():
        assert told["calibrated"] <= told["log_loss"]
    opened = ItemClassifier.open(exported)
    assert (opened.taxonomy.version, opened.encoder) == (items.taxonomy.version, PhotoEncoder(SIDE))
    assert opened.words is not None and (opened.words.buckets, opened.words.length) == (512, 8)


def test_the_trunk_is_not_held_twice(exported: Path) -> None:
    trunk, heads = ((exported / name).stat().st_size for name in ("trunk.onnx", "heads.onnx"))
    assert heads < trunk / 10


def test_the_hash_changes_with_each_file(exported: Path, tmp_path: Path) -> None:
    hashes = {hash_export(exported, CLASSIFIER_FILES)}
    for name in CLASSIFIER_FILES:
        copy = Path(shutil.copytree(exported, tmp_path / name))
        (copy / name).write_bytes((copy / name).read_bytes() + b" ")
        hashes.add(hash_export(copy, CLASSIFIER_FILES))
    assert len(hashes) == 1 + len(CLASSIFIER_FILES)
    copy = Path(shutil.copytree(exported, tmp_path / "same"))
    (copy / "export.json").write_text("{}")
    assert hash_export(copy, CLASSIFIER_FILES) in hashes, "facts decide no answer"


def test_the_hash_knows_where_a_file_ends(exported: Path, tmp_path: Path) -> None:
    """What goes from one file's end to the next one's start makes another model."""
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    first, second = (copy / name for name in ("words.json", "taxonomy.json"))
    whole = first.read_bytes() + second.read_bytes()
    first.write_bytes(whole[:5])
    second.write_bytes(whole[5:])
    assert hash_export(copy, CLASSIFIER_FILES) != hash_export(exported, CLASSIFIER_FILES)


def test_an_int8_export_opens_and_answers_nearly_as_the_network_does(
    items: CategorySet, tmp_path: Path
) -> None:
    quick = untrained(items, served="int8")
    folder = export_classifier(quick, items, tmp_path)
    opened = ItemClassifier.open(folder)
    assert opened.words is None and not opened.uses_text
    features = opened.features(items.pixels_PHWC[:40])
    with torch.inference_mode():
        whole = quick.network.trunk(torch.from_numpy(items.pixels_PHWC[:40])).numpy()
    cosine = (whole * features).sum(1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(features, axis=1)
    assert cosine.min() > 0.97 and not np.allclose(whole, features, atol=1e-4)
    (answer,) = opened.classify([[png(items.pixels_PHWC[0])]], [None])
    assert answer.category_id is not None and len(answer.others) == 3
    weights = sum(one.numel() for one in quick.network.trunk.parameters())
    assert (folder / "trunk.onnx").stat().st_size < 2 * weights


def test_ready_features_have_nothing_to_export(items: CategorySet, tmp_path: Path) -> None:
    ready = items.with_features(np.ones((len(items), 6), np.float32))
    with pytest.raises(ConfigError, match="no photo network"):
        export_classifier(untrained(ready), ready, tmp_path)
    assert not list(tmp_path.iterdir())


def test_photos_are_brought_to_what_the_backbone_was_made_for() -> None:
    assert ItemCategoryConfig(backbone="small").photo_encoder() == PhotoEncoder(64, 3, "pad", "bilinear")
    lite = ItemCategoryConfig(fit="crop", heads="levels")
    assert lite.photo_encoder() == PhotoEncoder(224, 3, "crop", "bicubic")
    assert lite.model_copy(update={"size": 96}).photo_encoder().size == 96
    with pytest.raises(ConfigError, match="no such network"):
        ItemCategoryConfig(backbone="inception_v9").photo_encoder()
