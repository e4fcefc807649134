"""What a shopper does next, from the order of what they did: causal attention over their acts.

Papers: W.-C. Kang and J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018 (every act is a
target); F. Borisyuk et al., From Features to Transformers, 2025 (LiGR's gated blocks); D. Tikhonovich et al.,
eSASRec, RecSys 2025 (those blocks with a softmax over drawn items); A. Petrov and C. Macdonald, gSASRec:
Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling, RecSys 2023 (gBCE);
J. Zhai et al., Actions Speak Louder than Words, ICML 2024 (HSTU's pointwise attention); S. Rendle et al.,
Factorizing Personalized Markov Chains, WWW 2010 (what follows what).

Attention with dropout generalises, and forgets which two items were bought one after the other. So the score
has a second part, trained with the first: a factorised Markov chain over the last acts, in embeddings of its
own, which remembers just that. Both are one inner product.

An item is its id and its content, so that one that nobody touched yet has a place too. `two_tower` has the
same encoder and reads more: who the shopper is, several actions, labels and values.

    B windows   L acts   T targets of a batch   K items of a batch   C candidates   N items, row 0 unknown
    S states: the start, then one after each act   W width   M of the Markov chain's embeddings
    E = D = W + M: an item as it stands in a history, and as it is found
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_stream import BehaviourStream
from etalage.features.encoder import Features
from etalage.features.windows import DrawnWindows
from etalage.models.history_encoder import BlockName, HistoryEncoder
from etalage.models.layers import content_sum, device_of, table
from etalage.models.losses import full_softmax, generalised_bce, sampled_softmax
from etalage.models.next_item import HistoryConfig, NextItemTask
from etalage.models.ranks import COUNT
from etalage.models.recipe import Batch, Recipe, Schedule
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace
from etalage.models.windows_streamed import StreamedWindows


class SequenceTransformerConfig(HistoryConfig):
    history: int = Field(50, ge=1)
    """Acts that are looked at, L."""
    block: BlockName = "ligr"
    """`pre_norm`: as in SASRec, with layer normalisation ahead; `ligr`: gated, with SwiGLU; `hstu`: pointwise
    attention."""
    markov: int = Field(64, ge=0)
    """M, of the embeddings of what follows what; 0: attention alone."""
    markov_dropout: float = Field(0.3, ge=0, lt=1)
    """Share of the acts that the Markov chain does not see in a step."""
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
    batch_size: int = Field(2048, ge=1)
    """Targets of a batch, about."""
    learning_rate: float = Field(2e-3, gt=0)
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
            found["markov_dropout"] = "markov above 0"
        if not self.cosine:
            found["temperature"] = "cosine = true"
        return found


class SequenceTransformer(nn.Module):
    """See BehaviourNetwork for the inputs. Both embeddings are float32; their inner product is the score."""

    known_items: Tensor

    def __init__(
        self, config: SequenceTransformerConfig, known_items: np.ndarray, item_features: Features, kinds: int
    ) -> None:
        """known_items (N + 1,): bool, which stand in the training part; any other has the unknown id. kinds:
        their number, "none given" included."""
        super().__init__()
        self.config, self.history_length = config, config.history
        width = config.width
        self.register_buffer("known_items", torch.from_numpy(known_items.copy()))
        self.item_id = table(len(known_items), width)
        self.item_content = content_sum(item_features, width)
        with_kinds = config.kinds and kinds > 2
        self.encoder = HistoryEncoder(
            width,
            config.history,
            kinds if with_kinds else 1,
            config.layers,
            config.heads,
            config.dropout,
            config.attention_dropout,
            config.block,
        )
        self.query_inputs = (
            "history_embeddings",
            "history_mask",
            *(("history_kinds",) if with_kinds else ()),
        )
        self.chain: MarkovChain | None = MarkovChain(len(known_items), config) if config.markov else None
        names = self.item_content.names if self.item_content else ()
        self.item_inputs = ("item", *(f"item.{name}" for name in names))

    def history_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        """(B, E): the item as histories hold it and as its embedding starts from it: one table for both."""
        known_B = torch.where(self.known_items[item_B], item_B, 0)
        if self.training and self.config.forget_item:
            forgotten_B = torch.rand(known_B.shape, device=known_B.device) < self.config.forget_item
            known_B = torch.where(forgotten_B, 0, known_B)
        found_BW: Tensor = self.item_id(known_B)
        if self.item_content is not None:
            found_BW = found_BW + self.item_content(features)
        return found_BW if self.chain is None else torch.cat([found_BW, self.chain.leads(known_B)], dim=1)

    def embed_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        return self.finished(item_B, self.history_item(item_B, *features))

    def finished(self, item_B: Tensor, held_BE: Tensor) -> Tensor:
        """Items, and what `history_item` made of them → item embeddings (B, D)."""
        found_BW = held_BE[:, : self.config.width].float()
        if self.config.cosine:
            found_BW = F.normalize(found_BW, dim=1)
        if self.chain is None:
            return found_BW
        known_B = torch.where(self.known_items[item_B], item_B, 0)
        follows_BM: Tensor = self.chain.follows(known_B)
        return torch.cat([found_BW, follows_BM.float()], dim=1)

    def embed_query(self, *inputs: Tensor) -> Tensor:
        return self.states(*inputs)[:, -1]

    def states(self, history_BLE: Tensor, mask_BL: Tensor, kinds_BL: Tensor | None = None) -> Tensor:
        """(B, S, D): the query embedding after each act."""
        width = self.config.width
        states_BSW = self.encoder(history_BLE[:, :, :width], mask_BL, kinds_BL).float()
        if self.config.cosine:
            states_BSW = F.normalize(states_BSW, dim=2) / self.config.temperature
        if self.chain is None:
            return states_BSW
        return torch.cat([states_BSW, self.chain(history_BLE[:, :, width:], mask_BL)], dim=2)


class MarkovChain(nn.Module):
    """Factorised: an item leads on by one embedding and follows by another one. An act counts the less the
    longer ago it is, by a factor for each distance that is learned."""

    def __init__(self, rows: int, config: SequenceTransformerConfig) -> None:
        super().__init__()
        self.leads: nn.Module = table(rows, config.markov, spread=0.1)
        self.follows: nn.Module = table(rows, config.markov, spread=0.1)
        self.log_factors = nn.Parameter(-0.5 * torch.arange(config.history))
        self.dropout = nn.Dropout(config.markov_dropout)

    def forward(self, leads_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, S, M): the weighted sum of what stands before each state; 0 at the start."""
        there_BL = self.dropout(mask_BL.float())
        steps = mask_BL.shape[1]
        states, acts = torch.arange(steps + 1)[:, None], torch.arange(steps)
        ago_SL = (states - 1 - acts).to(mask_BL.device)
        factors_SL = torch.where(ago_SL >= 0, self.log_factors[ago_SL.clamp(min=0)].exp(), 0.0)
        summed: Tensor = factors_SL @ (leads_BLM.float() * there_BL[:, :, None])
        return summed


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
        return SequenceTransformer(self.config, self.plan.known_items, data.item_features, kinds)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(network, SequenceTransformer)
        held_KE = network.history_item(*(batch[name] for name in network.item_inputs))
        given = self.given(batch, held_KE)
        states_BSD = network.states(*(given[name] for name in network.query_inputs))
        queries_TD = states_BSD.flatten(0, 1)[batch["at"]]
        candidates = batch["candidates"]
        candidates_CD = network.finished(batch["item"][candidates], held_KE[candidates])
        if self.gathers == "candidates":
            candidates_CD = self.ranks.gather(candidates_CD)
        right_T = batch["right"]
        if self.config.loss == "gbce":
            every = len(self.catalogue)
            loss = generalised_bce(queries_TD, candidates_CD, right_T, every, self.config.calibration)
        elif self.full:
            loss = full_softmax(queries_TD, candidates_CD, right_T, smoothing=self.config.smoothing)
        else:
            loss = sampled_softmax(queries_TD, candidates_CD, right_T, batch["log_probability"])
        return loss * (len(right_T) / batch[f"{COUNT}targets"].clamp(min=1))

    def validate(self, network: nn.Module) -> dict[str, float]:
        """nDCG@10 and recall@20 over all items."""
        assert isinstance(network, SequenceTransformer)
        every = self._about_items(torch.arange(len(self.data.items)))
        device = device_of(network)
        held_NE = network.history_item(*(every[name].to(device) for name in network.item_inputs)).float()
        return self.ranked(network, held_NE, network.finished(every["item"].to(device), held_NE))


class SequenceTransformerStreamTask(StreamedWindows, SequenceTransformerTask):
    """The same, bound to behaviour that is larger than memory."""


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
