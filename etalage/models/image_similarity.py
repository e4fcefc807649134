"""Embeds photos so that similar products are close: by features of a network that has seen many photos, or by
a small one that is trained for this shop. `backbone` says which.

Features stay as their weights made them, and a linear head is solved over them: models/feature_heads.py. What
follows here is the small network, supervised metric learning from labels and pixels.

Papers: X. Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
CVPR 2019 (the loss); F. Wang et al., NormFace, ACM MM 2017 (the cosine softmax beside it, which
sees all categories at every step); K. He et al., Deep Residual Learning, CVPR 2016 (the blocks of `small`).
`original` is the network of the Databricks solution accelerator on TensorFlow Similarity.

    B batch   H W C pixels   D embedding dimension   K categories
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.errors import ConfigError
from etalage.features.balanced import BalancedBatches
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_set import PhotoSet
from etalage.models.backbones import LITE0, PACKAGED, SMALL, expected
from etalage.models.feature_heads import Head
from etalage.models.layers import ConvNormRelu, L2Normalise, Normalise, Residual, on_device_of
from etalage.models.losses import cosine_softmax, multi_similarity
from etalage.models.ranks import COUNT, Gathers
from etalage.models.recipe import BaseTask, Batch, Recipe, Schedule
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace
from etalage.models.streaming import StreamedConfig

EVERY = slice(None)


AUTO = "auto"
OF_FEATURES = ("weights", "backbone_size", "head", "shrink", "components", "held_out")
"""Settings of frozen features; the others, but for the seed, are the small network's."""


class ImageSimilarityConfig(StreamedConfig):
    backbone: str = AUTO
    """`small`: `network`, trained from nothing. A network of timm: its features, as its weights made them,
    and a linear head over them. `auto`: the small one or features of EfficientNet-lite0, whichever finds more
    on validation, where some categories were held out of training."""
    weights: str | None = None
    """Of the backbone: a file, or `package:NAME/PATH`; where nothing is said, those that a package brings."""
    backbone_size: int | None = Field(None, ge=16, le=1024)
    """Pixels a side that the backbone sees. None: what it was made for."""
    head: Literal["auto"] | Head = "auto"
    """Over the features (models/feature_heads.py): `plain`, `whitened`, `within_class`, `discriminant`;
    `auto`: the one that finds most."""
    shrink: float = Field(0.1, gt=0)
    """Of these heads: share of the mean variance that is added to each direction's."""
    components: int = Field(512, ge=2)
    """Width of an embedding of features, at most; `plain` keeps all of them."""
    held_out: float = Field(0.25, ge=0, lt=1)
    """Share of the categories that are held out while ways are compared, so that the one is taken that finds
    what is new too; what is taken learns from all of them."""
    network: Literal["small", "original"] = "small"
    """`small`: Etalage's residual network; `original`: the CNN of the published notebook."""
    size: int = Field(64, ge=8, le=512)
    """Height and width in pixels that photos are resized to."""
    channels: Literal[1, 3] = 3
    """3: colour; 1: grey."""
    dimension: int = Field(128, ge=2)
    """Width of the embedding."""
    stem: int = Field(16, ge=4)
    """Channels of the first convolution of `small`."""
    widths: tuple[int, ...] = Field((32, 64), min_length=1)
    """Channels of its blocks, each of half the side of the one before."""
    classes_per_batch: int = Field(16, ge=2)
    """Categories in a batch."""
    examples_per_class: int = Field(8, ge=2)
    """Photos of each of them."""
    alpha: float = Field(2.0, gt=0)
    """Multi-Similarity: weight of pairs of one category."""
    beta: float = Field(40.0, gt=0)
    """Multi-Similarity: weight of pairs of different ones."""
    epsilon: float = Field(0.1, ge=0)
    """Multi-Similarity: margin by which pairs are mined."""
    base: float = 0.5
    """The loss's lambda."""
    multi_similarity_weight: float = Field(1.0, ge=0)
    """Weight of the Multi-Similarity loss; 0: without."""
    softmax_weight: float = Field(1.0, ge=0)
    """Weight of a cosine softmax over the training categories, beside Multi-Similarity; 0: without."""
    softmax_scale: float = Field(16.0, gt=0)
    """Scale of that softmax's cosines."""
    learning_rate: float = Field(3e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's; an average of 100 steps for the second: runs are short."""
    weight_decay: float = Field(0.05, ge=0)
    schedule: Schedule = "cosine"
    warm_up: float = Field(0.15, ge=0, lt=1)
    flip: bool = True
    """Photos are mirrored at random."""
    crop: int = Field(2, ge=0)
    """Photos are shifted by up to this many pixels; the border is repeated."""
    augment_until: float = Field(1.0, ge=0, le=1)
    """Share of the epochs with flips and crops; in the last ones photos stay as they are."""
    validate_queries: int = Field(2000, ge=1)
    """Photos of the validation part that search after each epoch, at most."""
    validate_index: int = Field(20_000, ge=1)
    """Photos that they search in, at most."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_backbone_needs(cls, given: Any) -> Any:
        """What nothing was said of: a backbone's weights; beside the original's network no backbone."""
        if not isinstance(given, Mapping):
            return given
        backbone = given.get("backbone", SMALL if given.get("network", SMALL) != SMALL else AUTO)
        weights = {"weights": PACKAGED[backbone]} if backbone in PACKAGED else {}
        return {"backbone": backbone, **weights, **given}

    @model_validator(mode="after")
    def _features_have_weights(self) -> "ImageSimilarityConfig":
        if self.frozen and self.weights is None:
            raise ValueError(
                f"backbone = {self.backbone!r}: no package is known that brings its weights; set weights to "
                f"a file of them, or take {', '.join(map(repr, PACKAGED))} or {SMALL!r}"
            )
        return self

    @property
    def frozen(self) -> bool:
        """Whether the model is features that stay as they are; of `auto` that is not known yet."""
        return self.backbone not in (AUTO, SMALL)

    def photo_encoder(self) -> PhotoEncoder:
        """How photos become pixels. Raises ConfigError: no such backbone."""
        if not self.frozen:
            return PhotoEncoder(self.size, self.channels)
        made_for = expected(self.backbone)
        return PhotoEncoder(self.backbone_size or made_for.size, 3, "pad", made_for.resample)

    @property
    def filled(self) -> Mapping[str, Any]:
        return {"weights": PACKAGED.get(self.backbone)}

    def with_backbone(self, backbone: str, **changes: Any) -> "ImageSimilarityConfig":
        """The same with this backbone, without the settings that do nothing for it."""
        given = {**self.model_dump(exclude_unset=True), "backbone": backbone, **changes}
        ours = {"backbone", "seed", *OF_FEATURES}
        if backbone != SMALL:
            return ImageSimilarityConfig(**{name: one for name, one in given.items() if name in ours})
        return ImageSimilarityConfig(**{n: one for n, one in given.items() if n not in OF_FEATURES})

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.frozen:
            kept = {"backbone", "seed", *OF_FEATURES}
            of_network = (name for name in type(self).model_fields if name not in kept)
            found |= dict.fromkeys(of_network, f'backbone = "{SMALL}"')
            if self.head == "plain":
                found |= dict.fromkeys(("shrink", "components"), "another head than plain")
            return found
        if self.backbone == SMALL:
            found |= dict.fromkeys(OF_FEATURES, f'a backbone, such as "{LITE0}"')
        else:
            found["weights"] = "a backbone by its name"
        if self.network != "small":
            found |= dict.fromkeys(("stem", "widths"), 'network = "small"')
        if not self.multi_similarity_weight:
            of_loss = ("alpha", "beta", "epsilon", "base")
            found |= dict.fromkeys(of_loss, "multi_similarity_weight above 0")
        if not self.softmax_weight:
            found["softmax_scale"] = "softmax_weight above 0"
        if self.multi_similarity_weight:
            found["accumulate"] = "multi_similarity_weight = 0, as it compares all photos of a batch at once"
        if not (self.flip or self.crop):
            found["augment_until"] = "flip or crop"
        if (
            self.stream != "auto"
        ):  # pixels come from a file, or are in memory: nothing is shuffled in a buffer
            found["buffer"] = 'stream = "auto"'
        return found


class ImageSimilarity(nn.Module):
    """(B, H, W, C) uint8 → (B, D) float32, L2-normalised. Query and item share it."""

    def __init__(self, config: ImageSimilarityConfig, categories: int) -> None:
        super().__init__()
        # Only the loss asks for the proxies, one a category: they are not exported.
        self.proxies_KD = nn.Parameter(torch.randn(categories, config.dimension) / config.dimension**0.5)
        self.trunk, features = _original(config) if config.network == "original" else _small(config)
        self.embedding = nn.Linear(features, config.dimension)
        self.unit = L2Normalise()

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        unit_BD: Tensor = self.unit(self.embedding(self.trunk(pixels_BHWC)))
        return unit_BD

    embed_item = embed_query = forward


def _original(config: ImageSimilarityConfig) -> tuple[nn.Module, int]:
    """S0.4: pixels / 255, three blocks of convolution, ReLU, pooling and dropout, then flat."""
    layers: list[nn.Module] = [Normalise([0.0] * config.channels, [1.0] * config.channels)]
    before: int = config.channels
    for channels in (32, 64, 256):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3)]
        before = channels
    side = config.size // 2 // 2 // 2
    return nn.Sequential(*layers, nn.Flatten()), before * side * side


def _small(config: ImageSimilarityConfig) -> tuple[nn.Module, int]:
    """A compact residual network: a stem, then blocks that halve the side and widen, then the mean."""
    layers: list[nn.Module] = [Normalise([0.5] * config.channels, [0.5] * config.channels)]
    layers.append(ConvNormRelu(config.channels, config.stem, stride=2 if config.size >= 48 else 1))
    before = config.stem
    for width in config.widths:
        layers += [ConvNormRelu(before, width, stride=2), Residual(width)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), before


AHEAD = 2
"""Batches that are made while a step is computed, where the pixels are in a file."""


class ImageSimilarityTask(BaseTask):
    """The recipe bound to a set of photos."""

    metric = "hit_at_1"

    def __init__(self, config: ImageSimilarityConfig, photos: PhotoSet) -> None:
        if config.frozen:
            raise ConfigError(f"backbone = {config.backbone!r} is solved over features, not trained by steps")
        self.config, self.photos = config, photos
        self.train_rows = photos.rows("train")
        self.batches = BalancedBatches(
            photos.labels_N[self.train_rows], config.classes_per_batch, config.examples_per_class, config.seed
        )
        categories = np.unique(photos.labels_N[self.train_rows])
        self.categories = len(categories)
        # Categories held out of training have no proxy, so that nothing is learned of them.
        self.proxy_of = torch.full((len(photos.categories),), -1)
        self.proxy_of[categories] = torch.arange(self.categories)
        self.pixels_NHWC = photos.pixels_NHWC
        self.ahead = AHEAD if isinstance(photos.pixels_NHWC, np.memmap) else 0
        self.labels_N = torch.from_numpy(photos.labels_N)
        self._plan: tuple[int, np.ndarray] = (-1, np.empty(0))

    @property
    def steps(self) -> int:
        return self.batches.steps

    def network(self) -> nn.Module:
        return ImageSimilarity(self.config, self.categories)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        if self._plan[0] != epoch:
            self._plan = (epoch, self.batches.epoch(epoch))
        every, mine = self._plan[1][step % self.steps], slice(rank, None, world_size)
        taken = self.train_rows[every[mine]]
        rows = torch.from_numpy(taken)
        generator = torch.Generator().manual_seed(hash((self.config.seed, epoch, step)) % 2**63)
        pixels = torch.from_numpy(np.asarray(self.pixels_NHWC[taken]))
        if epoch < self.config.augment_until * self.config.epochs:
            pixels = self.augment(pixels, generator, len(every), mine)
        labels = self.labels_N[rows]
        batch = {"pixels": pixels, "labels": labels, "proxies": self.proxy_of[labels], "rows": rows}
        return batch | {f"{COUNT}rows": torch.tensor(float(len(rows)))}

    def augment(
        self, pixels_BHWC: Tensor, generator: torch.Generator, drawn: int | None = None, mine: slice = EVERY
    ) -> Tensor:
        """Flip and crop photos; the same generator state gives the same pixels. drawn: for how many photos
        the generator draws, `mine` of which these are; None: for these."""
        count, height, width, _ = pixels_BHWC.shape
        drawn = count if drawn is None else drawn
        columns = torch.arange(width).expand(count, width)
        rows = torch.arange(height).expand(count, height)
        if self.config.flip:
            flipped = (torch.rand(drawn, 1, generator=generator) < 0.5)[mine]
            columns = torch.where(flipped, columns.flip(1), columns)
        if self.config.crop:
            reach = self.config.crop
            shift = torch.randint(-reach, reach + 1, (2, drawn, 1), generator=generator)[:, mine]
            columns = (columns + shift[0]).clamp(0, width - 1)
            rows = (rows + shift[1]).clamp(0, height - 1)
        photo = torch.arange(count)[:, None, None]
        return pixels_BHWC[photo, rows[:, :, None], columns[:, None, :]]

    @property
    def gathers(self) -> Gathers:
        """Multi-Similarity compares all photos of a batch."""
        return "rows" if self.config.multi_similarity_weight else "nothing"

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        config = self.config
        unit_BD = network(batch["pixels"])
        loss = unit_BD.new_zeros(())
        if config.multi_similarity_weight:
            # Each rank mines the whole batch and adds its share of that one loss.
            loss = (
                config.multi_similarity_weight
                / self.ranks.world_size
                * multi_similarity(
                    self.ranks.gather(unit_BD),
                    self.ranks.gather(batch["labels"]),
                    alpha=config.alpha,
                    beta=config.beta,
                    epsilon=config.epsilon,
                    base=config.base,
                )
            )
        if config.softmax_weight:
            proxies_KD: Tensor = network.get_parameter("proxies_KD")
            beside = cosine_softmax(unit_BD, proxies_KD, batch["proxies"], config.softmax_scale)
            share = len(unit_BD) / batch[f"{COUNT}rows"]
            loss = loss + config.softmax_weight * share * beside
        return loss

    def validate(self, network: nn.Module) -> dict[str, float]:
        """hit@1: whether the nearest training photo of each held-out photo has its category."""
        rng = np.random.default_rng(self.config.seed)
        queries = _some(self.photos.choosing(), self.config.validate_queries, rng)
        index = _some(self.train_rows, self.config.validate_index, rng)
        if len(queries) == 0:
            return {}
        scores_QN = self.embed(network, queries) @ self.embed(network, index).T
        nearest = index[scores_QN.argmax(dim=1).cpu().numpy()]
        return {"hit_at_1": float((self.photos.labels_N[nearest] == self.photos.labels_N[queries]).mean())}

    def embed(self, network: nn.Module, rows: np.ndarray) -> Tensor:
        """(n, D) float32 of these photos, on the network's device."""
        parts = (self.pixels_NHWC[rows[at : at + 512]] for at in range(0, len(rows), 512))
        return torch.cat([network(on_device_of(network, np.asarray(part))).float() for part in parts])


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


SPACE: SearchSpace = {
    "learning_rate": FloatRange(3e-4, 3e-2, log=True),
    "weight_decay": FloatRange(1e-3, 0.3, log=True),
    "dimension": Choice((64, 128, 256)),
    "examples_per_class": Choice((4, 8, 16)),
    "multi_similarity_weight": Choice((0.0, 0.5, 1.0)),
    "softmax_weight": FloatRange(0.25, 4.0, log=True),
    "softmax_scale": FloatRange(8.0, 64.0, log=True),
    "crop": IntRange(0, 6),
    "flip": Choice((True, False)),
    "stem": Choice((16, 32), when={"network": ("small",)}),
    "widths": Choice(((32, 64), (48, 96), (32, 64, 128)), when={"network": ("small",)}),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="image_similarity",
    role="embedder",
    paper="Wang et al., Multi-Similarity Loss, CVPR 2019",
    config=ImageSimilarityConfig,
    columns=("photo", "category_id"),
    bind=ImageSimilarityTask,
    space=SPACE,
)
