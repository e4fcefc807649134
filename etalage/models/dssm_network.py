"""The network of models/dssm.py, its settings, its losses, and how it starts from another one's weights.

R rows   B positives   K items of each   C candidates   L acts of a history   E of a given vector
D of a tower's
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from etalage.errors import ConfigError
from etalage.metrics import auroc
from etalage.models.layers import mlp
from etalage.models.losses import sampled_softmax
from etalage.models.recipe import WEIGHTS, Batch, SourcedConfig
from etalage.models.vector_history import known_mean

ORIGINAL: dict[str, Any] = {
    "layers": (),
    "dimension": 64,
    "last_relu": True,
    "loss": "bce",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "epochs": 100,
}
"""Adam and patience 10 are everybody's defaults here; the original's patience was longer than its run."""
WEIGHTS_OF = (WEIGHTS, "best.safetensors")
"""What is looked for in a folder that `pretrained` names: of an export, of a checkpoint."""
FROZEN = {"none": (), "item": ("item_tower.",), "both": ("item_tower.", "query_tower.")}


class DSSMConfig(SourcedConfig):
    preset: Literal["modern", "original"] = "modern"
    """`original` changes the defaults to ORIGINAL's; what is given beside it counts."""
    feature_sources: tuple[str, ...] = Field(("item2vec",), min_length=1)
    """The network's input, E numbers: what these embed of an item, side by side. Zeros: nothing is known of
    it."""
    rows: str | None = None
    """Learn from a file of rows `label, shopper's vector, item's vector` (text, or Parquet) instead of the
    shop's acts; it need not fit into memory. Relative to the shop's folder. Its vectors are of the same
    making as `feature_sources`, by which the shop's items are embedded then."""
    validation_rows: str | None = None
    """The same for validation; None: none, and the weights of the last epoch are kept."""
    layers: tuple[int, ...] = (128,)
    """Widths between E and D in each tower; empty: none."""
    dimension: int = Field(64, ge=1)
    """D."""
    last_relu: bool = False
    """ReLU at the end of the towers. The head's weights may be negative, so a score may be, too."""
    loss: Literal["softmax", "bce"] = "softmax"
    """Which item is it, of the batch's and of drawn ones; or, of each pair, is it one?"""
    shared_negatives: int = Field(1024, ge=0)
    """Items drawn for all rows of a batch alike, beside its own, for the softmax."""
    negatives: int = Field(4, ge=1)
    """Pairs with an item that the shopper has not taken, for each positive, for bce."""
    power: float = Field(0.0, ge=0, le=1)
    """These are drawn by frequency to this power; 0: all alike."""
    targets: tuple[str, ...] | None = None
    """Kinds of acts that are learned to be predicted; None: those that the shop is judged on. Histories have
    every kind."""
    history: int = Field(100, ge=1)
    """L: acts of a shopper, newest first, that make the query."""
    pretrained: str | None = None
    """Start from these weights: another shop (its newest export), the folder of an export or of a checkpoint,
    or a .safetensors file. Relative to the shop's folder."""
    freeze: Literal["none", "item", "both"] = "none"
    """Towers that keep the weights they start with; the head never does."""
    keep: Literal["loss", "ndcg_at_10"] = "loss"
    """What decides when to stop and which weights are kept: the loss on the validation part's pairs, or the
    order of the whole catalogue for its shoppers, which jumps about more."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Between the layers of the towers."""
    batch_size: int = Field(1024, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """The towers are too small to gain by less."""
    epochs: int = Field(50, ge=1)
    patience: int | None = Field(10, ge=1)
    validate_queries: int = Field(2000, ge=1)
    validate_pairs: int = Field(4096, ge=1)
    """Hits of the validation part that the validation loss is of, at most; the same in every epoch."""

    RENAMED: ClassVar[Mapping[str, str]] = {"drawn": "shared_negatives", "vectors": "feature_sources"}
    decides_shape: ClassVar[tuple[str, ...]] = ("feature_sources", "layers", "dimension", "last_relu")
    decayed: ClassVar[Literal["matrices", "all"]] = "all"

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        original = isinstance(given, Mapping) and given.get("preset") == "original"
        return {**ORIGINAL, **given} if original else given

    @property
    def filled(self) -> Mapping[str, Any]:
        return ORIGINAL if self.preset == "original" else {}

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.loss != "softmax":
            found["shared_negatives"] = 'loss = "softmax"'
        if self.loss != "bce":
            found |= dict.fromkeys(("negatives", "power"), 'loss = "bce"')
        if self.rows is not None:
            ours = ("negatives", "power", "targets", "validate_queries", "validate_pairs")
            found |= dict.fromkeys(ours, "the shop's own acts, which `rows` takes the place of")
        return found

    @model_validator(mode="after")
    def _sensible(self) -> "DSSMConfig":
        asked = "patience" in self.model_fields_set and self.patience is not None
        if asked and self.patience >= self.epochs:  # type: ignore[operator]
            raise ValueError(f"can never end a training of {self.epochs} epochs; set patience below epochs")
        if self.validation_rows is not None and self.rows is None:
            raise ValueError("validation_rows are for rows; set rows, too")
        if self.rows is not None and (self.loss != "bce" or self.keep != "loss"):
            raise ValueError("rows carry labels: they are learned by loss = 'bce' and keep = 'loss'")
        if self.freeze != "none" and self.pretrained is None:
            raise ValueError(f"freeze {self.freeze!r} would keep random weights; set pretrained, too")
        return self


class DSSM(nn.Module):
    """A BehaviourNetwork. inputs: E; widths: the part of each source, where there are several."""

    query_inputs = ("history_embeddings", "history_mask")

    def __init__(self, config: DSSMConfig, inputs: int, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.item_inputs = tuple(f"item.{name}" for name in config.feature_sources)
        self.widths = tuple(widths)
        self.history_length = config.history
        self.query_tower, self.item_tower = (_tower(config, inputs) for _ in range(2))
        self.head = nn.Linear(config.dimension, 1)
        if config.loss == "softmax":
            nn.init.ones_(self.head.weight)  # of the inner product, which the softmax is at home with

    def user_vectors(self, means_BE: Tensor) -> Tensor:
        """(B, D): the query tower of the mean of the vectors of the items acted on."""
        vectors_BD: Tensor = self.query_tower(means_BE)
        return vectors_BD

    def item_vectors(self, given_BE: Tensor) -> Tensor:
        """(B, D): the item tower, without the head."""
        vectors_BD: Tensor = self.item_tower(given_BE)
        return vectors_BD

    def forward(self, means_RE: Tensor, given_RE: Tensor) -> Tensor:
        """(R,) logits of rows of two vectors."""
        logits_R1: Tensor = self.head(self.user_vectors(means_RE) * self.item_vectors(given_RE))
        return logits_R1[:, 0]

    def history_item(self, *given: Tensor) -> Tensor:
        """(B, E): an act is the vector of its item."""
        return torch.cat(given, dim=1).float()

    def embed_query(self, history_BLE: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, D); of a shopper without acts what the tower makes of zeros."""
        return self.user_vectors(known_mean(history_BLE, mask_BL, self.widths))

    def embed_item(self, *given: Tensor) -> Tensor:
        """(B, D): w ∘ v; zeros for an item of which nothing is known, so that no index holds it."""
        given_BE = torch.cat(given, dim=1)
        known_B1 = (given_BE != 0).any(dim=1, keepdim=True)
        return self.head.weight * self.item_vectors(given_BE) * known_B1


def _tower(config: DSSMConfig, inputs: int) -> nn.Sequential:
    tower = mlp((inputs, *config.layers, config.dimension), config.dropout)
    return tower.append(nn.ReLU()) if config.last_relu else tower


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Put the weights of another DSSM into `network`. Raises ConfigError: none there, or of another shape."""
    path = Path(path)
    files = [path] if path.is_file() else [path / name for name in WEIGHTS_OF if (path / name).is_file()]
    if not files:
        raise ConfigError(
            f"pretrained = {str(path)!r}: no file, and no folder with {' or '.join(WEIGHTS_OF)}; name "
            "the folder of an export (exports/dssm/0001-…; an older one has no weights: train it again) or a "
            "checkpoint's"
        )
    try:
        found = load_file(files[0])
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"pretrained: {files[0]} is no safetensors file: {error}") from error
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        raise ConfigError(
            f"pretrained: {files[0]} is of another network than layers, dimension and feature_sources say: "
            f"{error}"
        ) from error


def loss_of(network: DSSM, batch: Batch) -> Tensor:
    if "labels" in batch:
        logits, labels = pair_logits(network, batch["means"], batch["given"]), batch["labels"]
        return F.binary_cross_entropy_with_logits(logits.float(), labels)
    candidates_CD = network.embed_item(batch["candidates"])
    users_BD = network.user_vectors(batch["means"])
    return sampled_softmax(users_BD, candidates_CD, batch["targets"], batch["log_probability"])


def pair_logits(network: DSSM, means_BE: Tensor, given: Tensor) -> Tensor:
    """(B,) or (B, K) logits of items (B, E) or (B, K, E)."""
    means = means_BE if given.ndim == 2 else means_BE[:, None, :].expand(-1, given.shape[1], -1)
    return network(means.flatten(0, -2), given.flatten(0, -2)).view(given.shape[:-1])


def figures_of(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Loss, accuracy at 0.5 and AUROC of labelled pairs of any shape; no AUROC where all have one label."""
    logits, labels = logits.detach().float().cpu().flatten(), labels.cpu().flatten()
    loss = float(F.binary_cross_entropy_with_logits(logits, labels))
    right = (logits > 0) == (labels > 0.5)
    figures = {"validation_loss": loss, "loss_gain": -loss, "accuracy": float(right.float().mean())}
    positive = (labels > 0.5).numpy()
    if positive.any() and not positive.all():
        figures["auroc"] = auroc(logits.numpy(), positive)
    return figures


def prepared(config: DSSMConfig, inputs: int, widths: Sequence[int] = ()) -> DSSM:
    """A fresh network, or one that starts from `pretrained`, with what `freeze` names frozen."""
    network = DSSM(config, inputs, widths)
    if config.pretrained is not None:
        load_weights(network, config.pretrained)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN[config.freeze]))
    return network
