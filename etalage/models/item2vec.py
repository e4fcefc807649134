"""Items that are acted on together lie close together: word2vec, with shopping sequences as sentences.

Papers: O. Barkan and N. Koenigstein, Item2Vec: Neural Item Embedding for Collaborative Filtering, MLSP 2016;
T. Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality, NIPS 2013
(skip-gram with negative sampling: equation 4; subsampling of frequent items: equation 5, in the form of
their code).

Two tables: the *input* vectors are the query's side, the *output* (context) vectors the item's. A query is
the mean of the input vectors of the items acted on; its inner product with an item's output vector is the
mean of the logits that were trained, so the order of retrieval is the order of the trained score. The
input vectors are what other models take as features (`vectors`).

    B centres   W window   S negatives of a batch   N items, row 0 unknown   D dimension   L acts of a history
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from etalage.errors import TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet, Interactions
from etalage.models.layers import on_device_of
from etalage.models.ranks import COUNT
from etalage.models.recipe import BaseTask, Batch, Recipe, Schedule, TrainingConfig
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace
from etalage.models.vector_history import AT_ONCE, ValidationRanking, known_mean

HOUR = 3_600_000_000
"""Microseconds."""


class Item2VecConfig(TrainingConfig):
    dimension: int = Field(128, ge=2)
    """Width of the embeddings."""
    window: int = Field(5, ge=1)
    """Neighbours on either side that an item is to predict."""
    session_hours: float | None = Field(None, ge=0)
    """A pause of more hours than this ends a sequence (0: a basket, acts of one moment); None: all that a
    shopper did is one sequence."""
    sets: bool = False
    """Sequences are sets (baskets): their order is drawn anew every epoch, as in section 3 of the paper."""
    min_count: int = Field(5, ge=1)
    """Items with fewer acts have no vector: they would have too little to learn it from."""
    negatives: int = Field(10, ge=1)
    """Negatives that weigh against each positive."""
    shared_negatives: int = Field(256, ge=1)
    """Drawn for a batch and shared by its pairs: the expectation is that of own ones, the price a product."""
    power: float = Field(0.75, ge=0, le=1)
    """Negatives are drawn by frequency to this power."""
    subsample: float = Field(1e-3, gt=0)
    """Items more frequent than this share of all acts are passed over now and then."""
    prior: float = Field(0.0, ge=0, le=1)
    """What is trained is log P(item | act) less the log of how often it is drawn as a negative. So much of
    that log is added back to an item's score: 0 ranks by the trained score, 1 by P(item | act)."""
    history: int = Field(100, ge=1)
    """L: acts of a shopper, newest first, that make the query."""
    batch_size: int = Field(4096, ge=1)
    learning_rate: float = Field(0.01, gt=0)
    schedule: Schedule = "linear"
    final_rate: float = Field(0.01, ge=0, le=1)
    validate_queries: int = Field(2000, ge=1)
    """Shoppers of the validation part that the catalogue is ranked for, at most."""


class Item2Vec(nn.Module):
    """A BehaviourNetwork. Row 0, and items that training saw too little of, have vectors of zeros."""

    query_inputs = ("history_embeddings", "history_mask")
    item_inputs = ("item",)
    place_N: Tensor
    prior_N: Tensor

    def __init__(self, config: Item2VecConfig, place_N: np.ndarray, prior_N: np.ndarray) -> None:
        """place_N: (N + 1,) int64 rows of the two tables, 0 for items without a vector; prior_N: (N + 1,)."""
        super().__init__()
        self.history_length = config.history
        self.has_prior = config.prior > 0
        shape = (int(place_N.max()) + 1, config.dimension)
        # As in word2vec: small random input vectors, output vectors of zeros.
        self.input_KD = nn.Parameter((torch.rand(shape) - 0.5) / math.sqrt(config.dimension))
        self.output_KD = nn.Parameter(torch.zeros(shape))
        self.register_buffer("place_N", torch.from_numpy(place_N))
        self.register_buffer("prior_N", torch.from_numpy(prior_N))

    def history_item(self, items: Tensor) -> Tensor:
        """(…, D) input vectors of (…) item rows; zeros for the unknown."""
        place = self.place_N[items]
        return F.embedding(place, self.input_KD) * (place > 0)[..., None]

    def embed_query(self, history_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, D) means over the acts whose item is known, zeros without any; with a prior (B, D + 1)."""
        return self.with_prior(known_mean(history_BLD, mask_BL))

    def with_prior(self, mean_BD: Tensor) -> Tensor:
        """(B, D + 1), the last one 1, where there is a prior; else as given."""
        return torch.cat([mean_BD, torch.ones_like(mean_BD[:, :1])], dim=1) if self.has_prior else mean_BD

    def embed_item(self, items_B: Tensor) -> Tensor:
        """(B, D) output vectors, zeros for the unknown; with a prior (B, D + 1)."""
        place_B = self.place_N[items_B]
        output_BD = F.embedding(place_B, self.output_KD) * (place_B > 0)[:, None]
        return torch.cat([output_BD, self.prior_N[items_B, None]], dim=1) if self.has_prior else output_BD

    def vectors(self) -> np.ndarray:
        """(N + 1, D) float32 input vectors: the dense feature `item2vec` of other models."""
        with torch.inference_mode():
            found: np.ndarray = (
                self.history_item(torch.arange(len(self.place_N), device=self.place_N.device))
                .float()
                .cpu()
                .numpy()
            )
        return found


class Item2VecTask(BaseTask):
    """The recipe bound to a BehaviourSet: positives of `train`, cut into sequences."""

    metric = "ndcg_at_10"

    def __init__(self, config: Item2VecConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data
        acts = data.part("train").positive
        counts_N = np.bincount(acts.items, minlength=len(data.items))
        counts_N[0] = 0
        frequent_N = counts_N >= config.min_count
        sequence_M = sequences(acts, config.session_hours)
        learned_M = frequent_N[acts.items]
        self.items_M, self.sequence_M = acts.items[learned_M], sequence_M[learned_M]
        if not (self.sequence_M[1:] == self.sequence_M[:-1]).any():
            raise TooLittleData(
                f"item2vec: of {len(acts)} acts, {len(self.items_M)} on items with {config.min_count} or more"
                ", no two are in one sequence; ingest more interactions, set a smaller min_count or a larger "
                "session_hours"
            )
        counts_N = np.where(frequent_N, counts_N, 0)
        ratio_N = config.subsample * counts_N.sum() / np.maximum(counts_N, 1)
        self.keep_N = np.minimum(1.0, np.sqrt(ratio_N) + ratio_N)
        noise_N = counts_N**config.power * frequent_N
        self.noise_N = noise_N / noise_N.sum()
        self.cumulative_N = np.cumsum(self.noise_N)
        self.place_N = np.cumsum(frequent_N) * frequent_N
        self._steps = max(1, math.ceil(self.keep_N[self.items_M].sum() / config.batch_size))
        self.ranking = ValidationRanking(data, config.validate_queries, config.seed)
        self._plan: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def steps(self) -> int:
        return self._steps

    def network(self) -> nn.Module:
        # What was never drawn is as rare as the rarest that was.
        log_noise_N = np.log(np.maximum(self.noise_N, self.noise_N[self.noise_N > 0].min()))
        prior_N = (self.config.prior * log_noise_N).astype(np.float32)
        return Item2Vec(self.config, self.place_N, prior_N)

    def _epoch(self, epoch: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """What is left of the acts after subsampling, and the order in which they are centres."""
        if self._plan is None or self._plan[0] != epoch:
            rng = np.random.default_rng([self.config.seed, epoch])
            kept = rng.random(len(self.items_M)) < self.keep_N[self.items_M]
            items_M, sequence_M = self.items_M[kept], self.sequence_M[kept]
            if self.config.sets:
                items_M = items_M[np.lexsort((rng.random(len(items_M)), sequence_M))]
            self._plan = (epoch, items_M, sequence_M, rng.permutation(len(items_M)))
        return self._plan

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """centres (B,), contexts (B, 2W) with 0 where there is none, negatives (S,): item rows."""
        config = self.config
        _, items_M, sequence_M, order_M = self._epoch(epoch)
        rng = np.random.default_rng((config.seed, epoch, step))
        step %= self.steps
        at_B = order_M[len(order_M) * step // self.steps : len(order_M) * (step + 1) // self.steps]
        every, at_B = len(at_B), at_B[rank::world_size]
        offsets_W = np.concatenate([np.arange(-config.window, 0), np.arange(1, config.window + 1)])
        # Near neighbours count more, as in word2vec; in a set none is near.
        reach_B = np.full(len(at_B), config.window)
        if not config.sets:
            reach_B = rng.integers(1, config.window + 1, every)[rank::world_size]
        there_BW = at_B[:, None] + offsets_W
        inside_BW = (there_BW >= 0) & (there_BW < len(items_M)) & (np.abs(offsets_W) <= reach_B[:, None])
        there_BW = np.where(inside_BW, there_BW, 0)
        inside_BW &= sequence_M[there_BW] == sequence_M[at_B][:, None]
        contexts_BW = np.where(inside_BW, items_M[there_BW], 0)
        drawn_S = np.searchsorted(self.cumulative_N, rng.random(config.shared_negatives), side="right")
        # The sum may end a hair below 1: a draw beyond it is the last item that can be drawn.
        drawn_S = np.minimum(drawn_S, np.flatnonzero(self.noise_N)[-1])
        return {
            "centres": torch.from_numpy(items_M[at_B]),
            "contexts": torch.from_numpy(contexts_BW),
            "negatives": torch.from_numpy(drawn_S),
            "rows": torch.from_numpy(at_B),
            f"{COUNT}pairs": torch.tensor(float((contexts_BW > 0).sum())),
        }

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Equation 4, the mean over the batch's pairs."""
        assert isinstance(network, Item2Vec)
        centres_B, contexts_BW, negatives_S = (
            network.place_N[batch[name]] for name in ("centres", "contexts", "negatives")
        )
        centres_BD = F.embedding(centres_B, network.input_KD)
        pair_P, _ = at = torch.nonzero(contexts_BW, as_tuple=True)
        pairs_B = (contexts_BW > 0).sum(dim=1)
        positive_P = (centres_BD[pair_P] * F.embedding(contexts_BW[at], network.output_KD)).sum(dim=1)
        negative_BS = centres_BD @ F.embedding(negatives_S, network.output_KD).T
        pull = F.softplus(-positive_P.float()).sum()
        push = (F.softplus(negative_BS.float()).mean(dim=1) * pairs_B).sum() * self.config.negatives
        return (pull + push) / batch[f"{COUNT}pairs"].clamp(min=1)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Full ranking of all items for the shoppers of the validation part."""
        assert isinstance(network, Item2Vec)
        acts_BL = on_device_of(network, self.ranking.questions[0].last(self.config.history)[0])
        means = [known_mean(network.history_item(some), some > 0) for some in torch.split(acts_BL, AT_ONCE)]
        items_ND = network.embed_item(torch.arange(len(self.place_N), device=acts_BL.device))
        return self.ranking.figures(network.with_prior(torch.cat(means)), items_ND)


def sequences(acts: Interactions, session_hours: float | None) -> np.ndarray:
    """(M,) int64: the number of the sequence that each act is in, ascending."""
    starts = np.ones(len(acts), bool)
    starts[1:] = acts.users[1:] != acts.users[:-1]
    if session_hours is not None:
        timed = (acts.times[1:] != NEVER) & (acts.times[:-1] != NEVER)
        pause = np.where(timed, acts.times[1:], 0) - np.where(timed, acts.times[:-1], 0)
        starts[1:] |= pause > session_hours * HOUR
    return np.cumsum(starts) - 1


SPACE: SearchSpace = {
    "dimension": Choice((32, 64, 128, 256)),
    "window": IntRange(1, 20, log=True),
    "min_count": Choice((1, 2, 5, 10)),
    "negatives": IntRange(2, 50, log=True),
    "power": FloatRange(0.0, 1.0),
    "subsample": FloatRange(1e-5, 1.0, log=True),
    "prior": FloatRange(0.0, 1.0),
    "learning_rate": FloatRange(1e-3, 0.1, log=True),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="item2vec",
    role="embedder",
    paper="Barkan and Koenigstein, Item2Vec, MLSP 2016",
    config=Item2VecConfig,
    columns=(),
    bind=Item2VecTask,
    data="behaviour",
    space=SPACE,
)
