"""What is this product? Photo and title → a category of one taxonomy, with every level above it.

Papers: the Criteo universal catalogue (one head a level, weighed by depth, the leaf is used);
L. Bertinetto et al., Making Better Mistakes, CVPR 2020 (the flat rival and its cost-sensitive decoding,
which runtime/leaf_decision.py does); M. Tan & Q. V. Le, EfficientNet, ICML 2019 (the default backbone).

By default the backbone stays as it is and the heads are solved over its features: solved_categories.py. What
follows here are heads that are trained by steps, and the backbone with them.

Such a run has two phases. First the backbone stays as it is: every photo goes through it once, and the heads
learn from kept features. Then the backbone learns too, from photos that are cropped, flipped and relit.

    B batch   P photos   F features   T words of a title   L leaves   D depth of the taxonomy
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.errors import ConfigError
from etalage.features.category_set import CategorySet, shares
from etalage.features.photo import PhotoEncoder
from etalage.features.words import WordEncoder
from etalage.models.augmenting import Drawn, augmented
from etalage.models.backbones import LITE0, PACKAGED, Backbone, Looks, backbone, expected
from etalage.models.category_heads import (
    FlatHead,
    Joint,
    LevelHeads,
    Levels,
    Logits,
    Title,
    depth_weights,
    level_loss,
)
from etalage.models.classifier_task import ClassifierTask, count_of
from etalage.models.layers import on_device_of
from etalage.models.recipe import Batch, ClassifierConfig, Recipe, Schedule, Seen
from etalage.models.search_space import FloatRange, SearchSpace
from etalage.models.streaming import StreamedConfig

EPOCHS = 12
SHRINK, RIDGE, SOLVED_SIZE = 0.1, 0.1, 320
OF_SOLVED = ("shrink", "ridge")
EITHER = (
    "seed", "device", "backbone", "weights", "size", "fit", "features", "heads", "text", "buckets", "words",
    "weak_weight", "decision", "served", "stream", "buffer", *OF_SOLVED,
)  # fmt: skip
"""Settings that heads of both kinds have, or solved ones alone; every other one is of a training by steps."""


class ItemCategoryConfig(ClassifierConfig, StreamedConfig):
    epochs: int = Field(EPOCHS, ge=1)
    backbone: str = LITE0
    """`small`, or any network of timm: inception_v3, xception41, tf_efficientnet_b3, eca_nfnet_l0, …"""
    weights: str | None = None
    """A file, or `package:NAME/PATH`; where nothing is said, those of PACKAGED. None: drawn at random, and
    then 10,000 photos are few."""
    size: int | None = Field(None, ge=16, le=1024)
    """Pixels a side; None: what the backbone was made for. Where nothing is said: 320 for solved heads over
    one whose weights a package brings, as they find more in a larger photo."""
    fit: Literal["pad", "crop", "stretch"] = "pad"
    """How a photo that is not square becomes so: white beside it, its middle, or out of shape."""
    features: Looks = "last"
    """What of the backbone is looked at: its last layer, or the mean of every stage's planes. Where nothing
    is said: `stages` for heads that are solved."""
    heads: Literal["solved", "levels", "flat"] = "levels"
    """`solved`: one over the leaves, computed in seconds from features of a backbone that stays as it is;
    `levels`: one for each level of the taxonomy, trained by steps; `flat`: one, over the leaves, trained so.
    Where nothing is said: `solved`, if the backbone has weights and no setting of a training by steps is
    given."""
    shrink: float = Field(SHRINK, ge=0, le=1)
    """Of a solved head of photos: share of the scatter within a leaf that is taken for alike in all
    directions."""
    ridge: float = Field(RIDGE, gt=0)
    """Of a solved head of titles: the larger, the less a rare word says."""
    level_weights: tuple[float, ...] | None = None
    """Of the levels' losses, the top first; None: each twice the one above it."""
    text: Literal["none", "late", "joint"] = "none"
    """Titles: not at all, by a model of their own whose score is added, or in one head with the photo. Where
    nothing is said: `late` for heads that are solved."""
    buckets: int = Field(2**15, ge=2, le=2**22)
    """Rows of the table that words and their parts are hashed into."""
    words: int = Field(64, ge=1, le=512)
    """Words and parts of a title that are read, at most."""
    text_width: int = Field(128, ge=2)
    """Width of a word's embedding."""
    hidden: int = Field(512, ge=2)
    """Width of the joint head."""
    drop_photo: float = Field(0.15, ge=0, lt=1)
    """Share of the items whose photo is hidden from the joint head, so that it can do without."""
    drop_title: float = Field(0.3, ge=0, lt=1)
    """Share of the items whose title is."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Before the heads."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Share of the backbone's blocks that a step skips (stochastic depth)."""
    frozen_epochs: int = Field(0, ge=0)
    """Epochs, of `epochs`, in which the backbone stays as its weights came. Where nothing is said: all, so
    that heads learn in minutes, or none where it has no weights."""
    frozen_batch_size: int = Field(64, ge=1)
    """Rows of a step of these epochs."""
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    trunk_rate: float = Field(3e-4, gt=0)
    """Of the backbone."""
    weight_decay: float = Field(0.05, ge=0)
    schedule: Schedule = "cosine"
    """Once in the epochs in which the backbone stays, and once, after a warm-up, in the others."""
    warm_up: float = Field(0.1, ge=0, lt=1)
    keep_stages: int = Field(0, ge=0)
    """So many first stages of the backbone, the stem counting as one, never learn: edges and colours are what
    they were, and half of a step's time goes into them."""
    norms: Literal["train", "keep"] = "train"
    """Batch normalisation of the backbone: by the batch, or as its weights came."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Label smoothing."""
    balance: float = Field(0.0, ge=0, le=2)
    """Logit adjustment: 0 learns that common categories are common, 1 treats all alike."""
    crop: float = Field(0.4, gt=0, le=1)
    """Smallest share of a photo that a crop keeps; 1: no crops."""
    flip: bool = True
    """Photos are mirrored at random."""
    light: float = Field(0.3, ge=0, lt=1)
    """Brightness, contrast and colours vary by up to this share."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "frozen_batch": "frozen_batch_size"}

    @model_validator(mode="before")
    @classmethod
    def _as_the_backbone_needs(cls, given: Any) -> Any:
        """What nothing was said of: weights, whether heads are solved and what of, and how long the backbone
        stays as it came."""
        if not isinstance(given, dict):
            return given
        filled = {"weights": PACKAGED.get(given.get("backbone", LITE0)), **given}
        by_steps = any(name not in EITHER for name in given) or given.get("text") == "joint"
        solved = {"heads": "levels" if by_steps or filled["weights"] is None else "solved"}
        filled = {**solved, **filled}
        if filled["heads"] == "solved":
            sides = {"size": SOLVED_SIZE} if filled.get("backbone", LITE0) in PACKAGED else {}
            filled = {"features": "stages", "text": "late", **sides, **filled}
        whole = filled.get("epochs", EPOCHS) if filled["weights"] is not None else 0
        return {"frozen_epochs": whole, **filled}

    @property
    def reads(self) -> tuple[Seen, ...]:
        return ("photo",) if self.text == "none" else ("photo", "title")

    def photo_encoder(self) -> PhotoEncoder:
        """What the backbone was made for. Raises ConfigError: no such backbone."""
        made_for = expected(self.backbone, self.features)
        return PhotoEncoder(self.size or made_for.size, 3, self.fit, made_for.resample)

    def word_encoder(self) -> WordEncoder | None:
        return None if self.text == "none" else WordEncoder(self.buckets, self.words)

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.heads == "solved":
            steps = (name for name in type(self).model_fields if name not in (*EITHER, "frozen_epochs"))
            return found | dict.fromkeys(steps, 'heads = "levels" or "flat", which are trained by steps')
        found |= dict.fromkeys(OF_SOLVED, 'heads = "solved"')
        if self.heads != "levels":
            found["level_weights"] = 'heads = "levels"'
        if not self.frozen_epochs:
            found["frozen_batch_size"] = "frozen_epochs above 0"
        if self.text == "none":
            found |= dict.fromkeys(("buckets", "words", "text_width"), 'text = "late" or "joint"')
        if self.text != "joint":
            found |= dict.fromkeys(("hidden", "drop_photo", "drop_title"), 'text = "joint"')
        if self.frozen_epochs >= self.epochs:
            of_backbone = (
                "trunk_rate",
                "keep_stages",
                "norms",
                "drop_path",
                "crop",
                "flip",
                "light",
                "warm_up",
            )
            found |= dict.fromkeys(of_backbone, "frozen_epochs below epochs, so that the backbone learns")
        return found

    @model_validator(mode="after")
    def _solved_over_features_that_stay(self) -> "ItemCategoryConfig":
        if self.heads != "solved":
            return self
        if self.weights is None:
            raise ValueError(
                f'heads = "solved" needs a backbone with weights, and nothing brings those of '
                f"{self.backbone!r}: set weights to a file, take {', '.join(map(repr, PACKAGED))}, or "
                'heads = "levels"'
            )
        if self.text == "joint":
            raise ValueError('text = "joint" is trained by steps: set heads = "levels", or text = "late"')
        if self.frozen_epochs < self.epochs:
            raise ValueError(
                f"frozen_epochs = {self.frozen_epochs}: solved heads need features of a backbone that stays "
                'as it is; leave it out, or set heads = "levels"'
            )
        return self

    @model_validator(mode="after")
    def _parts_are_alike(self) -> "ItemCategoryConfig":
        for name in ("batch_size", "frozen_batch_size") if self.frozen_epochs else ("batch_size",):
            rows, parts = getattr(self, name), self.workers * self.accumulate
            what = f"{self.workers} workers" + (f" in {self.accumulate} parts" if self.accumulate > 1 else "")
            if parts > 1 and (rows % parts or rows < 2 * parts):
                raise ValueError(
                    f"{name} = {rows} cannot be shared by {what}: take a multiple of {parts}, two rows each "
                    "at least"
                )
        return self


class ItemCategory(nn.Module):
    """Backbone, title and heads. `trunk` is None where ready features are learned from."""

    sees: Mapping[str, tuple[Seen, ...]]

    def __init__(
        self, config: ItemCategoryConfig, levels: Levels, trunk: Backbone | None, width: int
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.kept = trunk.kept(config.keep_stages) if trunk is not None and config.keep_stages else []
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.title = Title(config.buckets, config.text_width) if config.text != "none" else None
        joint = config.text == "joint"
        self.joint = Joint(width, config.text_width, config.hidden, config.dropout) if joint else None
        self.heads = nn.ModuleDict({"photo": self._heads(levels, config.hidden if joint else width)})
        self.sees = {"photo": ("photo", "title") if joint else ("photo",)}
        if config.text == "late":
            self.heads["title"] = self._heads(levels, config.text_width)
            self.sees = {**self.sees, "title": ("title",)}

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("features", "has_photo") if self.title is None else ("features", "has_photo", "words")

    def _heads(self, levels: Levels, width: int) -> nn.Module:
        if self.config.heads == "flat":
            return FlatHead(width, levels)
        return LevelHeads(width, levels, self.config.level_weights or depth_weights(len(levels.sizes)))

    def train(self, mode: bool = True) -> "ItemCategory":
        super().train(mode)
        if self.trunk is not None and self.config.norms == "keep":
            for module in self.trunk.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for module in self.kept:
            module.eval()
        return self

    def features(self, pixels_BHWC: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 → (B, F) float32 of the backbone, which is there unless features are ready."""
        assert self.trunk is not None
        features_BF: Tensor = self.trunk(pixels_BHWC)
        return features_BF

    def states(
        self, features_BF: Tensor, has_photo_B: Tensor, words_BT: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """By head: what it looks at, (B, W), and (B,) bool, whether there is anything to look at."""
        photo_BF = self.dropout(self.norm(features_BF)) * has_photo_B[:, None]
        if self.title is None or words_BT is None:
            return {"photo": (photo_BF, has_photo_B)}
        title_BW, has_title_B = self.title(words_BT), (words_BT > 0).any(dim=1)
        if self.joint is None:
            return {"photo": (photo_BF, has_photo_B), "title": (self.dropout(title_BW), has_title_B)}
        together = self.joint(photo_BF, title_BW, has_photo_B, has_title_B)
        return {"photo": (together, has_photo_B | has_title_B)}

    def logits(
        self, features_BF: Tensor, has_photo_B: Tensor, words_BT: Tensor | None = None
    ) -> dict[str, Logits]:
        """By head: one (B, K_d) a level."""
        states = self.states(features_BF, has_photo_B, words_BT)
        return {name: self.heads[name](state_BW) for name, (state_BW, _) in states.items()}

    def forward(
        self, features_BF: Tensor, has_photo_B: Tensor, words_BT: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """(B, L) float32 scores of the leaves a head; what to add them with is settled after training."""
        return tuple(self.leaf_scores(self.states(features_BF, has_photo_B, words_BT)))

    def leaf_scores(self, states: dict[str, tuple[Tensor, Tensor]]) -> list[Tensor]:
        """`states` → (B, L) float32 a head."""
        return [_leaf_scores(self.heads[name], state_BW) for name, (state_BW, _) in states.items()]


def _leaf_scores(head: nn.Module, state_BW: Tensor) -> Tensor:
    assert isinstance(head, LevelHeads | FlatHead)
    return head.leaf_scores(state_BW)


class ItemCategoryTask(ClassifierTask):
    """The recipe bound to a set of items: backbone and heads in their two phases."""

    def __init__(self, config: ItemCategoryConfig, items: CategorySet) -> None:
        super().__init__(config, items)
        weights = config.level_weights or depth_weights(len(self.levels.sizes))
        if len(weights) != len(self.levels.sizes) or weights[-1] <= 0 or min(weights) < 0:
            raise ConfigError(
                f"level_weights = {weights}: the taxonomy has {len(self.levels.sizes)} levels, the deepest "
                "of which must count, none less than nothing"
            )
        self.level_weights = weights
        self.learns_trunk = items.features_PF is None and config.frozen_epochs < config.epochs
        kept_PF = items.frozen_PF
        self._features_PF: Tensor | None = None if kept_PF is None else torch.from_numpy(kept_PF)
        self._there_P = np.zeros(len(items.owners_P), bool) if kept_PF is None else ~np.isnan(kept_PF[:, 0])

    # -- what the loop asks ------------------------------------------------------------------------

    def network(self) -> nn.Module:
        config, ready_PF = self.config, self.items.features_PF
        if ready_PF is not None:
            return ItemCategory(config, self.levels, None, ready_PF.shape[1])
        trunk = backbone(config.backbone, config.weights, config.drop_path, config.features)
        return ItemCategory(config, self.levels, trunk, trunk.expected.features)

    @property
    def workers(self) -> int:
        """Of heads on features that are made once, a second worker would learn nothing faster."""
        return int(self.config.workers) if self.learns_trunk else 1

    @property
    def phases(self) -> tuple[float, ...]:  # type: ignore[override]
        """The heads first, then the backbone too."""
        frozen = min(self.config.frozen_epochs / self.config.epochs, 1.0)
        return (1.0 if self.items.features_PF is not None else frozen,)

    def learning_rate_of(self, parameter: str) -> float:
        """The backbone has one of its own."""
        trunk = parameter.startswith("trunk.")
        return float(self.config.trunk_rate if trunk else self.config.learning_rate)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        frozen = self.frozen(epoch)
        size = self.config.frozen_batch_size if frozen else self.config.batch_size
        every_B2 = self.looks(epoch, step, size)
        # Draws are made for the whole batch: where these rows, and their photos, stand in it.
        places_B = np.arange(size)[rank::world_size]
        photos_B = np.cumsum(every_B2[:, 1] >= 0) - 1
        drawn = torch.tensor([self.config.seed, epoch, step, int(frozen), size, int(photos_B[-1]) + 1])
        places_B2 = np.stack([places_B, photos_B[places_B]], axis=1)
        about = self.about(every_B2[places_B])
        return {**about, "drawn": drawn, "places": torch.from_numpy(places_B2)}

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, ItemCategory)
        config = self.config
        seed, epoch, step, frozen, rows, photos = (int(number) for number in batch["drawn"])
        draws = np.random.default_rng([seed, epoch, step, 0]).integers(2**62)
        generator = torch.Generator().manual_seed(int(draws))
        has_photo_B, words_BT = batch["photos"] >= 0, batch["words"]
        places_B, photo_places_B = batch["places"].cpu().unbind(1)
        drawn = Drawn(generator, photos, photo_places_B[has_photo_B.cpu()])
        features_BF = self._features(network, batch["photos"], bool(frozen), drawn)
        if config.text == "joint":
            has_photo_B, words_BT = self._hidden(has_photo_B, words_BT, Drawn(generator, rows, places_B))
        states = network.states(features_BF, has_photo_B, words_BT)
        total = features_BF.new_zeros((), dtype=torch.float32)
        for name, (state_BW, there_B) in states.items():
            # A level's loss is a mean over the batch: of the rows that this head can see anything of.
            if bool(there_B.any()):
                logits = network.heads[name](state_BW[there_B])
                total = total + self._head_loss(logits, batch, there_B, network.sees[name])
        return total

    def _head_loss(self, logits: Logits, batch: Batch, there_B: Tensor, parts: tuple[Seen, ...]) -> Tensor:
        """Of the rows `there_B` of the batch, of which any of `parts` is there."""
        targets_BD = batch["targets"][there_B]
        return level_loss(
            logits,
            targets_BD,
            self.level_weights,
            only_deepest=self.config.heads == "flat",
            smoothing=self.config.smoothing,
            priors=[prior.to(targets_BD.device) for prior in self._priors] if self.config.balance else None,
            row_weights_B=self.weights(batch, there_B),
            total_weight=batch[count_of(parts)],
        )

    # -- features ----------------------------------------------------------------------------------

    def frozen(self, epoch: int) -> bool:
        """Does the backbone stay as it is in this epoch?"""
        return not self.learns_trunk or epoch < self.config.frozen_epochs

    def _features(self, network: ItemCategory, photos_B: Tensor, frozen: bool, drawn: Drawn) -> Tensor:
        """(B, F); zeros where there is no photo."""
        there_B = photos_B >= 0
        if frozen:
            kept_BF = self._kept(network, photos_B.cpu().numpy()).to(there_B.device)
            return kept_BF.float() * there_B[:, None]
        assert network.trunk is not None and self.items.pixels_PHWC is not None
        features_BF = torch.zeros(len(photos_B), network.trunk.expected.features, device=photos_B.device)
        if bool(there_B.any()):
            planes = self._augmented(network.trunk, photos_B[there_B], drawn)
            features_BF[there_B] = network.trunk.planes(planes)
        return features_BF

    def _augmented(self, trunk: Backbone, photos_B: Tensor, drawn: Drawn) -> Tensor:
        assert self.items.pixels_PHWC is not None
        config = self.config
        planes = trunk.normalise(on_device_of(trunk, self.items.pixels_PHWC[photos_B.cpu().numpy()]))
        return augmented(planes, drawn, crop=config.crop, flip=config.flip, light=config.light)

    def _plain_features(self, network: nn.Module, photos: np.ndarray) -> Tensor:
        """(p, F) of these photos as the network is now."""
        epoch = self._plan[0]  # -1: no step was made, and the network may be anybody's
        if not self.learns_trunk or (epoch >= 0 and self.frozen(epoch)):
            return self._kept(network, photos).float()
        return self._embedded(network, photos)

    def _kept(self, network: nn.Module, photos: np.ndarray) -> Tensor:
        """(p, F) of these photos (-1: anything) by the backbone as it came: of all that a training looks at,
        made once, in the first step that asks; or the ready ones, float16 too, which nobody copies."""
        if self.items.features_PF is not None:
            if self._features_PF is None:
                self._features_PF = torch.from_numpy(self.items.features_PF)
            return self._features_PF[torch.from_numpy(photos)]
        missing = photos[(photos >= 0) & ~self._there_P[photos]]
        if self._features_PF is None or len(missing):
            self._keep(network, missing)
        assert self._features_PF is not None
        return self._features_PF[torch.from_numpy(photos)]

    def _keep(self, network: nn.Module, photos: np.ndarray) -> None:
        """Embed these photos, and with the first ones all that a training looks at."""
        if self._features_PF is None:
            looked_at = self.looks_M2[:, 1], self.items.photos_of(self.validation), photos
            photos = np.concatenate(looked_at)
        photos = np.unique(photos[photos >= 0])
        learning = network.training
        network.eval()
        with torch.inference_mode():
            found = self._embedded(network, photos)
        network.train(learning)
        with torch.inference_mode(False):  # they are learned from, whoever asked first
            if self._features_PF is None:
                self._features_PF = torch.zeros(len(self._there_P), found.shape[1])
            self._features_PF[torch.from_numpy(photos)] = found.clone()
        self._there_P[photos] = True

    def _hidden(self, has_photo_B: Tensor, words_BT: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Some photos and some titles hidden, never both of an item."""
        draws_B = drawn().to(has_photo_B.device)
        has_title_B = (words_BT > 0).any(dim=1)
        no_photo_B = (draws_B < self.config.drop_photo) & has_title_B
        no_title_B = (draws_B > 1 - self.config.drop_title) & has_photo_B & ~no_photo_B
        return has_photo_B & ~no_photo_B, words_BT * ~no_title_B[:, None]

    @cached_property
    def _priors(self) -> list[Tensor]:
        """(K_d,) a level: `balance` times the log share of each category among the training items."""
        targets_ND = self.items.targets_ND[self.items.rows("train")]
        return list(self._logs(targets_ND))

    def _logs(self, targets_ND: np.ndarray) -> Iterator[Tensor]:
        for level, size in enumerate(self.levels.sizes):
            yield torch.from_numpy(np.log(shares(targets_ND[:, level], size))) * self.config.balance


def _bound(config: ItemCategoryConfig, items: CategorySet) -> ItemCategoryTask:
    """The task of heads that are solved, or of such as are trained by steps."""
    if config.heads == "solved":
        from etalage.models.solved_categories import SolvedCategoriesTask

        return SolvedCategoriesTask(config, items)
    return ItemCategoryTask(config, items)


SPACE: SearchSpace = {
    "learning_rate": FloatRange(3e-4, 1e-2, log=True),
    "weight_decay": FloatRange(1e-3, 0.3, log=True),
    "dropout": FloatRange(0.0, 0.6),
    "smoothing": FloatRange(0.0, 0.3),
    "balance": FloatRange(0.0, 1.0),
    "weak_weight": FloatRange(0.0, 1.0),
    "drop_title": FloatRange(0.0, 0.6, when={"text": ("joint",)}),
    "drop_photo": FloatRange(0.0, 0.6, when={"text": ("joint",)}),
}
"""What `etalage tune` tries: of heads that are trained by steps."""

RECIPE = Recipe(
    name="item_category",
    role="classifier",
    paper="Criteo, universal catalogue; Bertinetto et al., Making Better Mistakes, CVPR 2020",
    config=ItemCategoryConfig,
    columns=("photo", "title", "category_id"),
    bind=_bound,
    data="categories",
    space=SPACE,
)
