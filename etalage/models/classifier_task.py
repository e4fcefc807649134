"""What every model that says what an item is has in common: which items it learns from, and what its network
is asked. A model of its own has to say no more than its network; the export asks the same questions.

    N items   P photos   B batch   F features   T words of a title   L leaves   D depth of the taxonomy
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from etalage.errors import ConfigError, TooLittleData
from etalage.features.category_set import CategorySet
from etalage.models.category_heads import Levels, by_level, level_loss
from etalage.models.layers import on_device_of
from etalage.models.ranks import COUNT
from etalage.models.recipe import BaseTask, Batch, ClassifierConfig, Seen

EMBED_AT_ONCE = 64
INPUTS: dict[str, Seen | None] = {"features": "photo", "has_photo": "photo", "words": "title"}
"""What a network may be given, and what of an item that is."""


class ClassifierTask(BaseTask):
    """A classifier's recipe bound to a set of items. A batch is of looks: an item with one of its photos, or
    none. Learned is the deepest category that is known of an item, by the scores of the leaves beneath it."""

    config: Any
    metric = "leaf_log_likelihood"

    def __init__(self, config: ClassifierConfig, items: CategorySet) -> None:
        self.config, self.items = config, items
        self.reads = config.reads
        if not self.reads:
            raise ConfigError(
                f"{type(config).__name__}: it looks at nothing of an item: let photo_encoder or word_encoder "
                "return an encoder"
            )
        self.levels = Levels.of(items.taxonomy)
        self.has_photo_N = items.has_photo_N if "photo" in self.reads else np.zeros(len(items), bool)
        """(N,) bool: has the item a photo that is looked at?"""
        self.words_NT = torch.from_numpy(self._encoded_titles())
        self.looks_M2 = self._looks(items.rows("train"))
        if not len(self.looks_M2):
            raise TooLittleData(
                "no item of the training part has a category of the taxonomy and "
                f"{' or '.join(f'a {one}' for one in self.reads)}: see `etalage taxonomy check`"
            )
        self.validation = items.rows("validation", leaf=True)
        self.targets_ND = torch.from_numpy(items.targets_ND)
        self.say: Callable[[str], None] = lambda line: None
        """Told what takes a while between steps."""
        self._plan: tuple[int, np.ndarray] = (-1, np.empty(0))

    def _looks(self, rows: np.ndarray) -> np.ndarray:
        """(M, 2) int64: item, photo (-1: none), for what this config can learn from."""
        looks = []
        if "photo" in self.reads:
            photos = self.items.photos_of(rows)
            looks.append(np.stack([self.items.owners_P[photos], photos], axis=1))
        if "title" in self.reads:
            # A title without a word says as little as none.
            bare = [n for n in rows[~self.has_photo_N[rows]] if bool(self.words_NT[n].any())]
            looks.append(np.array([[n, -1] for n in bare], dtype=np.int64).reshape(-1, 2))
        return np.concatenate(looks)

    def _encoded_titles(self) -> np.ndarray:
        encoder = self.config.word_encoder()
        if encoder is None:
            return np.zeros((len(self.items), 1), dtype=np.int64)
        words_NT: np.ndarray = encoder.encode(self.items.titles)
        return words_NT

    # -- what the loop asks ------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        return -(-len(self.looks_M2) // int(self.config.batch_size))

    def network(self) -> nn.Module:
        """A fresh one: each model's own task makes it. The export takes this class as it is, with a network
        that is trained, and asks for none."""
        raise NotImplementedError

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        return self.about(self.looks(epoch, step, self.config.batch_size)[rank::world_size])

    def looks(self, epoch: int, step: int, size: int) -> np.ndarray:
        """(size, 2) of `looks_M2`, in an order of its own in each epoch; the last batch is filled up from the
        start of the order."""
        if self._plan[0] != epoch:
            order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.looks_M2))
            self._plan = (epoch, order)
        found: np.ndarray = self.looks_M2[self._plan[1][(step * size + np.arange(size)) % len(self.looks_M2)]]
        return found

    def about(self, looks_B2: np.ndarray) -> dict[str, Tensor]:
        """What a batch says of these looks."""
        looks = torch.from_numpy(looks_B2)
        rows = looks[:, 0]
        found = {"rows": rows, "photos": looks[:, 1], "words": self.words_NT[rows]}
        found["targets"] = self.targets_ND[rows]
        if self.items.weak_N is not None:
            found["weak"] = torch.from_numpy(self.items.weak_N)[rows]
        return found | self._counts(found)

    def _counts(self, batch: Batch) -> dict[str, Tensor]:
        """What the loss of a head divides by: the weight of the rows that it can see anything of."""
        seen = {"photo": batch["photos"] >= 0, "title": (batch["words"] > 0).any(dim=1)}
        counts = {}
        alone: list[tuple[Seen, ...]] = [(one,) for one in self.reads]
        for parts in dict.fromkeys([*alone, self.reads]):
            there_B = torch.stack([seen[one] for one in parts]).any(dim=0)
            weights_b = self.weights(batch, there_B)
            count = there_B.sum().float() if weights_b is None else weights_b.sum()
            counts[count_of(parts)] = count
        return counts

    def weights(self, batch: Batch, there_B: Tensor) -> Tensor | None:
        """(b,) float32 how much these rows of a batch count; None: all alike."""
        if "weak" not in batch:
            return None
        return torch.where(batch["weak"][there_B], self.config.weak_weight, 1.0)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        photos_B = batch["photos"]
        features_BF = self._looked_at(network, photos_B)
        total = features_BF.new_zeros((), dtype=torch.float32)
        _, sees = require_classifier(network, self.reads)
        heads = self.heads(network, features_BF, photos_B >= 0, batch["words"])
        for (scores_BL, there_B), parts in zip(heads, sees.values(), strict=True):
            # Of the rows that this head can see anything of.
            if bool(there_B.any()):
                total = total + level_loss(
                    by_level(scores_BL[there_B], self.levels),
                    batch["targets"][there_B],
                    (),
                    only_deepest=True,
                    row_weights_B=self.weights(batch, there_B),
                    total_weight=batch[count_of(parts)],
                )
        return total

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Share of the validation items whose leaf is right, and the mean logarithm of what that leaf was
        given: of few items a share jumps, and picks an epoch by chance."""
        if not len(self.validation):
            return {}
        truth = self.items.leaf_N[self.validation]
        heads = self.scores(network, self.validation)
        scores_NL = np.sum([np.where(there[:, None], one, 0) for one, there in heads], axis=0)
        given_N = torch.from_numpy(scores_NL).log_softmax(dim=1)[torch.arange(len(truth)), truth]
        return {
            "leaf_accuracy": float((scores_NL.argmax(axis=1) == truth).mean()),
            "leaf_log_likelihood": float(given_N.mean()),
        }

    # -- what a network says -----------------------------------------------------------------------

    def heads(
        self, network: nn.Module, features_BF: Tensor, has_photo_B: Tensor, words_BT: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """A head each: (B, L) scores, and (B,) bool, whether it sees anything of the item.

        Raises ConfigError: the network is not as ClassifierNetwork says."""
        inputs, sees = require_classifier(network, self.reads)
        given = {
            "features": features_BF * has_photo_B[:, None],
            "has_photo": has_photo_B,
            "words": words_BT,
        }
        found = network(*(given[name] for name in inputs))
        shapes = [tuple(one.shape) for one in found] if isinstance(found, tuple) else type(found).__name__
        if shapes != [(len(words_BT), self.levels.leaves)] * len(sees):
            raise ConfigError(
                f"{type(network).__name__}: forward made {shapes}; expected a tuple, of each of the heads "
                f"{', '.join(sees)} ({len(words_BT)}, {self.levels.leaves}) scores of the leaves"
            )
        seen = {"photo": has_photo_B, "title": (words_BT > 0).any(dim=1)}
        there = [torch.stack([seen[one] for one in parts]).any(dim=0) for parts in sees.values()]
        return list(zip(found, there, strict=True))

    def features(self, network: nn.Module, rows: np.ndarray) -> np.ndarray:
        """(n, F) float32 of these items as the network is now: the mean of each one's photos; (n, 0) where it
        looks at none."""
        if "photo" not in self.reads:
            return np.zeros((len(rows), 0), np.float32)
        with torch.inference_mode():
            features = self._plain_features(network, self.items.photos_of(rows))
        return self.items.means(features.cpu().numpy(), rows)

    def scores(
        self,
        network: nn.Module,
        rows: np.ndarray,
        hide: str | None = None,
        features_NF: np.ndarray | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """A head each: (n, L) float32 scores of these items, and (n,) bool, whether it saw anything of them.

        hide: `photo` or `title`. features_NF: what `features` said of them, where it was asked already."""
        features_NF = self.features(network, rows) if features_NF is None else features_NF
        has_photo_N = on_device_of(network, self.has_photo_N[rows] & (hide != "photo"))
        words_NT = self.words_NT[torch.from_numpy(rows)].to(has_photo_N.device) * int(hide != "title")
        heads = self.heads(network, on_device_of(network, features_NF), has_photo_N, words_NT)
        return [(found.float().cpu().numpy(), there.cpu().numpy()) for found, there in heads]

    def _plain_features(self, network: nn.Module, photos: np.ndarray) -> Tensor:
        """(p, F) of these photos as the network is now."""
        if self.items.features_PF is not None:
            return torch.from_numpy(self.items.features_PF[photos]).float()
        return self._embedded(network, photos)

    def _embedded(self, network: nn.Module, photos: np.ndarray) -> Tensor:
        trunk = trunk_of(network)
        assert trunk is not None and self.items.pixels_PHWC is not None
        parts = np.array_split(photos, max(1, -(-len(photos) // EMBED_AT_ONCE)))
        found, done = [], 0
        for part in parts:
            self.say(f"embed photos: {done:,} of {len(photos):,}")
            found.append(trunk(on_device_of(network, self.items.pixels_PHWC[part])).cpu())
            done += len(part)
        return torch.cat(found).float()

    def _looked_at(self, network: nn.Module, photos_B: Tensor) -> Tensor:
        """(B, F) of the photos of a batch, to learn from; zeros where there is none."""
        there_B = photos_B >= 0
        if "photo" not in self.reads:
            return torch.zeros(len(photos_B), 0, device=photos_B.device)
        if (ready_PF := self.items.features_PF) is not None:
            ready_BF = on_device_of(network, ready_PF[np.maximum(photos_B.cpu().numpy(), 0)])
            return ready_BF.float() * there_B[:, None]
        trunk, pixels_PHWC = trunk_of(network), self.items.pixels_PHWC
        assert trunk is not None and pixels_PHWC is not None
        if not bool(there_B.any()):
            return torch.zeros(len(photos_B), width_of(trunk, pixels_PHWC.shape[1:]), device=photos_B.device)
        made_PF = trunk(on_device_of(trunk, pixels_PHWC[photos_B[there_B].cpu().numpy()])).float()
        features_BF = made_PF.new_zeros(len(photos_B), made_PF.shape[1])
        features_BF[there_B] = made_PF
        return features_BF


def count_of(parts: Sequence[Seen]) -> str:
    """The batch's entry of the weight of the rows of which any of these parts is there."""
    return COUNT + "+".join(sorted(parts))


def trunk_of(network: nn.Module) -> nn.Module | None:
    """What makes features of photos; None: the network looks at none, or at features that are ready."""
    found: nn.Module | None = getattr(network, "trunk", None)
    return found


def width_of(trunk: nn.Module, shape: tuple[int, ...]) -> int:
    """F: how many numbers the trunk makes of a photo of (H, W, C) pixels. It is asked, not changed."""
    learning = trunk.training
    trunk.eval()
    with torch.inference_mode():
        made = trunk(on_device_of(trunk, np.zeros((1, *shape), np.uint8)))
    trunk.train(learning)
    if made.ndim != 2:
        raise ConfigError(f"{type(trunk).__name__}: a trunk makes (P, F), this one made {tuple(made.shape)}")
    return int(made.shape[1])


def require_classifier(
    network: nn.Module, reads: tuple[Seen, ...]
) -> tuple[tuple[str, ...], dict[str, tuple[Seen, ...]]]:
    """→ `inputs` and `sees` of a classifier's network. Raises ConfigError: they are not as ClassifierNetwork
    says, or the config's encoders are for other things than the network asks for."""
    what = type(network).__name__
    inputs, sees = tuple(getattr(network, "inputs", ())), dict(getattr(network, "sees", {}))
    unknown = [name for name in inputs if name not in INPUTS]
    if unknown or not inputs:
        raise ConfigError(
            f"{what}: inputs = {inputs}; expected some of {', '.join(INPUTS)}, in the order of forward"
        )
    asked = {INPUTS[name] for name in inputs}
    if asked != set(reads):
        encoders = " and ".join(f"{'photo' if one == 'photo' else 'word'}_encoder" for one in reads)
        raise ConfigError(
            f"{what}: inputs = {inputs}, and its config has {encoders}: a network asks for `words` where its "
            "config has a word_encoder, for `features` where it has a photo_encoder, and for nothing else"
        )
    wrong = [head for head, parts in sees.items() if not parts or not set(parts) <= set(reads)]
    if wrong or not sees:
        raise ConfigError(
            f"{what}: sees = {sees}; expected the name of each head, and which of {', '.join(reads)} it "
            "looks at"
        )
    return inputs, sees
