"""An export is numbered, complete, and the network itself; anything else is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etalage.errors import ExportDamaged, NothingToPublish
from etalage.features.photo import PhotoEncoder
from etalage.models.image_similarity import ImageSimilarityConfig
from etalage.models.layers import L2Normalise, Normalise
from etalage.models.recipe import Trained
from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.photos import PhotoEmbedder
from etalage.training.export import export

pytestmark = pytest.mark.traces


class Tiny(nn.Module):
    def __init__(self, fickle: bool = False) -> None:
        super().__init__()
        self.front = Normalise([0.2, 0.3, 0.4], [0.5, 0.6, 0.7])
        self.inner = nn.Linear(3 * 6 * 6, 5)
        self.unit = L2Normalise()
        self.fickle = fickle

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        out = self.unit(self.inner(self.front(pixels_BHWC).flatten(1)))
        if self.fickle and not torch.compiler.is_exporting():
            out = -out
        return out


def trained(network: nn.Module) -> Trained[ImageSimilarityConfig]:
    config = ImageSimilarityConfig(size=8, dimension=5)
    return Trained("tiny", config, network, {"hit_at_1": 0.5}, [], 1.0, 1.0, Path("run"), {"data": "abc"})


def test_exports_are_numbered_and_the_newest_is_found(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = export(trained(Tiny()), PhotoEncoder(6, 3), tmp_path)
    second = export(trained(Tiny()), PhotoEncoder(6, 3), tmp_path)
    assert first.name.startswith("0001-") and second.name.startswith("0002-")
    assert newest_export(tmp_path) == second
    assert read_facts(second)["metrics"] == {"hit_at_1": 0.5}
    assert not list(tmp_path.glob(".draft*"))


def test_no_export_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NothingToPublish, match="etalage train"):
        newest_export(tmp_path / "image_similarity")


def test_pixels_are_divided_once(tmp_path: Path) -> None:
    """The export takes raw pixels: 255 enters the network as 1, not as 1 / 255 and not as 255."""
    network = Tiny()
    embedder = PhotoEmbedder.open(export(trained(network), PhotoEncoder(6, 3), tmp_path))
    white = np.full((1, 6, 6, 3), 255, dtype=np.uint8)
    normal = (1 - np.array([0.2, 0.3, 0.4])) / np.array([0.5, 0.6, 0.7])
    by_hand = torch.from_numpy(np.broadcast_to(normal[:, None, None], (3, 6, 6)).astype(np.float32).copy())
    expected = nn.functional.normalize(network.inner(by_hand.flatten()[None]), dim=1).detach().numpy()
    assert np.allclose(embedder.embed_pixels(white), expected, atol=1e-5)


def test_an_export_that_is_not_the_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportDamaged, match="differ from the network's"):
        export(trained(Tiny(fickle=True)), PhotoEncoder(6, 3), tmp_path)
    with pytest.raises(NothingToPublish):
        newest_export(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(trained(Tiny()), PhotoEncoder(6, 3), tmp_path_factory.mktemp("made"))


@pytest.fixture
def exported(made: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(made, tmp_path / made.name)


@pytest.mark.parametrize("name", ["model.onnx", "encoder.json", "export.json"])
def test_a_missing_file_is_named(exported: Path, name: str) -> None:
    (exported / name).unlink()
    with pytest.raises(ExportDamaged, match=name):
        PhotoEmbedder.open(exported)


@pytest.mark.parametrize("name", ["model.onnx", "encoder.json"])
def test_f54_a_file_of_another_export_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    if name == "model.onnx":
        torch.manual_seed(7)
        other = export(trained(Tiny()), PhotoEncoder(6, 3), tmp_path / "other")
        swapped = (other / name).read_bytes()
    else:
        swapped = PhotoEncoder(6, 1).to_json().encode()
    (exported / name).write_bytes(swapped)
    with pytest.raises(ExportDamaged, match="hash"):
        PhotoEmbedder.open(exported)


def test_f58_an_export_of_a_newer_format_is_refused(exported: Path) -> None:
    facts = read_facts(exported)
    (exported / "export.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(ExportDamaged, match="install a newer one"):
        PhotoEmbedder.open(exported)
