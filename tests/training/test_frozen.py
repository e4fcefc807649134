"""A head at the end of a network's graph: what is exported embeds as the head over the features does."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from etalage.errors import ConfigError, ExportDamaged
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_set import FeatureSet, PhotoSet
from etalage.models.feature_heads import HEADS, Head, LinearHead
from etalage.models.image_similarity import ImageSimilarityConfig
from etalage.models.recipe import Trained
from etalage.runtime.export_files import FORMAT, hash_export, read_facts
from etalage.runtime.photos import DECIDES, PhotoEmbedder
from etalage.training import frozen
from etalage.training.frozen import export_frozen, frozen_backbone, head_of, solve_frozen

SIDE, FEATURES = 8, 3


def config(head: Head = "within_class") -> ImageSimilarityConfig:
    given = {"shrink": 0.2} if head != "plain" else {}
    return ImageSimilarityConfig(backbone="resnet18", weights="some.pth", head=head, **given)


@pytest.fixture
def backbone(tmp_path: Path) -> PhotoEmbedder:
    """The mean colour of a photo."""
    folder = tmp_path / "backbone"
    folder.mkdir()
    nodes = [
        helper.make_node("Cast", ["photos"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "sides"], ["features"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", FEATURES])],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "sides")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    (folder / "encoder.json").write_text(PhotoEncoder(SIDE).to_json(), encoding="utf-8")
    facts = {
        "format": FORMAT,
        "name": "mean",
        "dimension": FEATURES,
        "model_hash": hash_export(folder, DECIDES),
    }
    (folder / "export.json").write_text(json.dumps(facts), encoding="utf-8")
    return PhotoEmbedder.open(folder)


def pixels(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng, labels = np.random.default_rng(0), np.arange(count) % 4
    colours = np.random.default_rng(1).integers(40, 200, (4, 3))[labels]
    found = np.clip(colours[:, None, None] + rng.normal(0, 30, (count, SIDE, SIDE, 3)), 0, 255)
    return found.astype(np.uint8), labels


def learned(backbone: PhotoEmbedder) -> FeatureSet:
    photos, labels = pixels()
    parts = np.where(np.arange(len(labels)) % 5 == 0, "validation", "train")
    ids = [str(n) for n in range(len(labels))]
    of = PhotoSet(ids, [], np.empty((len(ids), 0, 0, 0), np.uint8), labels, list("abcd"), parts)
    return FeatureSet(of, backbone.embed_pixels(photos), ids)


@pytest.mark.parametrize("head", HEADS)
def test_the_export_embeds_as_the_head_over_the_features_does(
    head: Head, backbone: PhotoEmbedder, tmp_path: Path
) -> None:
    solved = solve_frozen("image_similarity", config(head), learned(backbone))
    trained = solved.trained(tmp_path)
    assert trained.network is None and 0 < trained.metrics["hit_at_1"] <= 1
    exported = export_frozen(trained, backbone, solved.head, tmp_path / "exports")
    photos, _ = pixels()
    embedder = PhotoEmbedder.open(exported)
    expected = solved.head(backbone.embed_pixels(photos))
    assert np.abs(embedder.embed_pixels(photos) - expected).max() < 1e-5
    assert np.abs(head_of(exported)(backbone.embed_pixels(photos)) - expected).max() < 1e-5
    assert embedder.encoder == backbone.encoder and embedder.dimension == solved.head.dimension
    assert read_facts(exported)["features"] == backbone.model_hash
    whole = embedder.embed_pixels(photos[:5])
    alone = np.concatenate([embedder.embed_pixels(photos[n : n + 1]) for n in range(5)])
    assert np.abs(whole - alone).max() < 1e-6


def test_an_export_that_embeds_otherwise_is_none(
    backbone: PhotoEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained("image_similarity", config("plain"), None, {}, [], 0.0, 0.0, tmp_path)
    other = LinearHead(np.full(FEATURES, 90, np.float32), np.eye(FEATURES, dtype=np.float32))
    make = frozen.with_head
    monkeypatch.setattr(frozen, "with_head", lambda trunk, head: make(trunk, other))
    head = LinearHead(np.zeros(FEATURES, np.float32), None)
    with pytest.raises(ExportDamaged, match="differ from the head's"):
        export_frozen(trained, backbone, head, tmp_path / "exports")
    assert not list((tmp_path / "exports").iterdir())


def test_a_graph_without_a_head_says_so(backbone: PhotoEmbedder) -> None:
    with pytest.raises(ExportDamaged, match="does not end in a head"):
        head_of(backbone.folder)


def test_weights_that_are_not_there_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        frozen_backbone(tmp_path / "backbones", "resnet18", str(tmp_path / "gone.pth"), PhotoEncoder(SIDE))
    assert not (tmp_path / "backbones").exists()
