"""What a shopper does next, from the order of what they did: causal attention over their acts.

Papers: W.-C. Kang and J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018 (every act is a
target); F. Borisyuk et al., From Features to Transformers, 2025 (LiGR's gated blocks); D. Tikhonovich et al.,
eSASRec, RecSys 2025 (those blocks with a softmax over drawn items); A. Petrov and C. Macdonald, gSASRec:
Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling, RecSys 2023 (gBCE);
J. Zhai et al., Actions Speak Louder than Words, ICML 2024 (HSTU's pointwise attention); S. Rendle et al.,
Factorizing Personalized Markov Chains, WWW 2010 (what follows what).

Attention with dropout generalises, and forgets which two items were bought one after the other. So the score
has a second part: a Markov chain over the last acts, counted and solved (markov_chain.py), which remembers
just that. Both are one inner product; how much each says is chosen on validation.

An item is its id and its content, so that one that nobody touched yet has a place too. `two_tower` has the
same encoder and reads more: who the shopper is, several actions, labels and values.

    B windows   L acts   T targets of a batch   K items of a batch   C candidates   N items, row 0 unknown
    S states: the start, then one after each act   W width   M of the Markov chain's embeddings
    E = D = W + M, an item as it stands in a history, and as it is found
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.behaviour_stream import BehaviourStream
from etalage.features.encoder import Features
from etalage.features.windows import DrawnWindows
from etalage.models.history_encoder import BlockName
from etalage.models.layers import content_sum, device_of, table
from etalage.models.losses import full_softmax, generalised_bce, sampled_softmax
from etalage.models.markov_chain import MarkovChain, solved
from etalage.models.next_item import (
    HistoryConfig,
    NextItemNetwork,
    NextItemTask,
    encoder_of,
    inputs_about,
)
from etalage.models.ranks import COUNT
from etalage.models.recipe import Batch, Recipe, Schedule
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace
from etalage.models.windows_streamed import StreamedWindows

SCALES = (0.0, 5.0, 15.0, 30.0, 60.0, 100.0, 160.0, 250.0)
"""Of the Markov chain beside attention: what a training compares."""
UNCHOSEN = 30.0
"""The scale where there is no validation to choose by."""
COMPARED = 2000
"""Shoppers that it compares them by, at most."""


class SequenceTransformerConfig(HistoryConfig):
    history: int = Field(50, ge=1)
    """Acts that are looked at, L."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Of embeddings and of each layer's output."""
    full_up_to: int = Field(5_000, ge=0)
    """Up to so many items the softmax runs over all of them, else over those of the batch and drawn ones."""
    shared_negatives: int = Field(1000, ge=1)
    """Items drawn evenly for each batch, beside its own."""
    epochs: int = Field(12, ge=1)
    average: float | None = Field(0.999, gt=0, lt=1)
    block: BlockName = "ligr"
    """`pre_norm`: as in SASRec, with layer normalisation ahead; `ligr`: gated, with SwiGLU; `hstu`: pointwise
    attention."""
    markov: int = Field(512, ge=0)
    """M, the rank at most of what follows what (models/markov_chain.py), and so many numbers more of each
    item; 0: attention alone."""
    markov_scale: float | None = Field(None, ge=0)
    """How much the Markov chain says beside attention. None: what finds most on validation, of 0 to 250; 30
    where nobody is asked there."""
    loss: Literal["softmax", "gbce"] = "softmax"
    """`softmax`: over all items, or over drawn ones (`full_up_to`); `gbce`: each target against drawn items
    by itself, made less sure of itself."""
    calibration: float = Field(0.75, ge=0, le=1)
    """Of `gbce`, the paper's t: 0 is plain binary cross-entropy, at 1 scores are as of a full softmax."""
    cosine: bool = True
    """Embeddings of length 1, and a scale; false: plain inner products."""
    temperature: float = Field(0.07, gt=0)
    """The scale of `cosine` is 1 / temperature."""
    smoothing: float = Field(0.0, ge=0, lt=1)
    """Label smoothing of a softmax over all items."""
    batch_size: int = Field(256, ge=1)
    """Targets of a batch, about."""
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Schedule = "cosine"
    warm_up: float = Field(0.05, ge=0, lt=1)

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.loss == "gbce":
            found |= dict.fromkeys(("full_up_to", "smoothing"), 'loss = "softmax"')
        else:
            found["calibration"] = 'loss = "gbce"'
        if not self.markov:
            found["markov_scale"] = "markov above 0"
        if not self.cosine:
            found["temperature"] = "cosine = true"
        return found


class SequenceTransformer(NextItemNetwork):
    """See BehaviourNetwork for the inputs. Both embeddings are float32; their inner product is the score."""

    config: SequenceTransformerConfig

    def __init__(
        self,
        config: SequenceTransformerConfig,
        known_items: np.ndarray,
        item_features: Features,
        kinds: int,
        chain: MarkovChain | None,
    ) -> None:
        """known_items (N + 1,): bool, which stand in the training part; any other has the unknown id. kinds:
        their number, "none given" included."""
        super().__init__()
        self.config, self.history_length = config, config.history
        width = config.width
        self.register_buffer("known_items", torch.from_numpy(known_items.copy()))
        self.item_id = table(len(known_items), width)
        self.item_content = content_sum(item_features, width)
        self.encoder = encoder_of(config, kinds, config.block)
        self.chain = chain
        self.query_inputs = self.encoder.inputs
        self.item_inputs = ("item", *inputs_about("item", self.item_content))

    def history_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        """(B, E)."""
        held_BW = self.held(item_B, *features)
        return held_BW if self.chain is None else torch.cat([held_BW, self.chain.leads[item_B]], dim=1)

    def embed_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        found_BW = self.finished(self.held(item_B, *features))
        return found_BW if self.chain is None else torch.cat([found_BW, self.chain.follows[item_B]], dim=1)

    def embed_query(self, history_BLE: Tensor, mask_BL: Tensor, kinds_BL: Tensor | None = None) -> Tensor:
        width = self.config.width
        query_BW = self.states(history_BLE[:, :, :width], mask_BL, kinds_BL)[:, -1]
        if self.chain is None:
            return query_BW
        return torch.cat([query_BW, self.chain(history_BLE[:, :, width:], mask_BL)], dim=1)

    def states(self, history_BLW: Tensor, mask_BL: Tensor, kinds_BL: Tensor | None = None) -> Tensor:
        """(B, S, W): attention's part of the query after each act."""
        states_BSW = self.encoder(history_BLW, mask_BL, kinds_BL).float()
        if not self.config.cosine:
            return states_BSW
        return F.normalize(states_BSW, dim=2) / self.config.temperature

    def finished(self, held_BW: Tensor) -> Tensor:
        """Attention's part of the item's embedding."""
        return F.normalize(held_BW.float(), dim=1) if self.config.cosine else held_BW.float()


class SequenceTransformerTask(NextItemTask):
    """The recipe bound to a shop's behaviour. Raises what NextItemTask raises."""

    name = "sequence_transformer"

    def __init__(self, config: SequenceTransformerConfig, data: BehaviourSet) -> None:
        super().__init__(config, data)
        self.full = self.full and config.loss == "softmax"

    def _asked(self, drawn: DrawnWindows, seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
        at = drawn.batch.at
        return {"at": at, "target": drawn.acts.items, f"{COUNT}targets": np.asarray(len(at), np.float32)}

    def network(self) -> nn.Module:
        data, kinds = self.data, len(self.data.kinds) + 1
        scale = self.config.markov_scale
        tables = self.chain_tables
        chain = None if tables is None else MarkovChain(*tables, UNCHOSEN if scale is None else scale)
        return SequenceTransformer(self.config, self.plan.known_items, data.item_features, kinds, chain)

    @cached_property
    def chain_tables(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See markov_chain.solved; None: there is no chain."""
        rank = self.config.markov
        return solved(self._positives(), len(self.data.items), rank) if rank else None

    def _positives(self) -> Iterable[Interactions]:
        yield self.train.positive

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Of attention alone: in the acts that it was counted from, the chain has seen the answer."""
        assert isinstance(network, SequenceTransformer)
        held_KW = network.held(*(batch[name] for name in network.item_inputs))
        given = self.given(batch, held_KW)
        states_BSW = network.states(*(given[name] for name in network.query_inputs))
        queries_TW = states_BSW.flatten(0, 1)[batch["at"]]
        candidates_CW = network.finished(held_KW[batch["candidates"]])
        if self.gathers == "candidates":
            candidates_CW = self.ranks.gather(candidates_CW)
        right_T = batch["right"]
        if self.config.loss == "gbce":
            every = len(self.catalogue)
            loss = generalised_bce(queries_TW, candidates_CW, right_T, every, self.config.calibration)
        elif self.full:
            loss = full_softmax(queries_TW, candidates_CW, right_T, smoothing=self.config.smoothing)
        else:
            loss = sampled_softmax(queries_TW, candidates_CW, right_T, batch["log_probability"])
        return loss * (len(right_T) / batch[f"{COUNT}targets"].clamp(min=1))

    def validate(self, network: nn.Module) -> dict[str, float]:
        """nDCG@10 and recall@20 over all items. Where the config gives no `markov_scale`, the network has the
        best one from here on."""
        assert isinstance(network, SequenceTransformer)
        every = self._about_items(torch.arange(len(self.data.items)))
        given = [every[name].to(device_of(network)) for name in network.item_inputs]
        held_NE, items_ND = network.history_item(*given).float(), network.embed_item(*given)
        asked = self.ranking.questions[0]
        if not len(asked):
            return {}
        if network.chain is None or self.config.markov_scale is not None:
            return self.ranking.figures(self.embed_all(network, asked, held_NE), items_ND)
        network.chain.scale.fill_(1.0)
        queries_BD, width = self.embed_all(network, asked, held_NE), self.config.width
        found = {}
        for scale in SCALES:
            some_BD = queries_BD[:COMPARED].clone()
            some_BD[:, width:] *= scale
            found[scale] = self.ranking.figures(some_BD, items_ND, COMPARED)[self.metric]
        network.chain.scale.fill_(max(found, key=lambda scale: found[scale]))
        queries_BD[:, width:] *= network.chain.scale
        return self.ranking.figures(queries_BD, items_ND)

    def chosen(self, network: nn.Module) -> dict[str, float]:
        """The scale of the chain."""
        assert isinstance(network, SequenceTransformer)
        return {} if network.chain is None else {"markov_scale": float(network.chain.scale)}


class SequenceTransformerStreamTask(StreamedWindows, SequenceTransformerTask):
    """The same, bound to behaviour that is larger than memory."""

    def _positives(self) -> Iterable[Interactions]:
        for block in self.stream.blocks("train"):
            yield block.part("train").positive


def bind(
    config: SequenceTransformerConfig, data: BehaviourSet | BehaviourStream
) -> SequenceTransformerTask | SequenceTransformerStreamTask:
    """The task of the shop's behaviour, in memory or not."""
    if isinstance(data, BehaviourStream):
        return SequenceTransformerStreamTask(config, data)
    return SequenceTransformerTask(config, data)


SPACE: SearchSpace = {
    "learning_rate": FloatRange(3e-4, 1e-2, log=True),
    "dropout": FloatRange(0.0, 0.6),
    "width": Choice((32, 64, 128)),
    "layers": IntRange(1, 3),
    "block": Choice(("pre_norm", "ligr", "hstu")),
    "temperature": FloatRange(0.03, 0.3, log=True, when={"cosine": (True,)}),
    "smoothing": FloatRange(0.0, 0.2, when={"loss": ("softmax",)}),
    "weight_decay": FloatRange(1e-6, 0.1, log=True),
    "forget_item": FloatRange(0.0, 0.4),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="sequence_transformer",
    role="embedder",
    paper="Kang and McAuley, SASRec, ICDM 2018; Borisyuk et al., LiGR, 2025",
    config=SequenceTransformerConfig,
    columns=("title", "brand", "price", "category_id", "attributes"),
    bind=bind,
    data="behaviour",
    space=SPACE,
)
