"""What the models share whose query is the mean of item vectors: that mean, and how they are validated.

B queries   L acts of a history   E of a vector   N items, row 0 unknown   D of an embedding
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from etalage.features.behaviour import BehaviourSet, Queries
from etalage.metrics import ndcg_at_k, recall_at_k

AT_ONCE = 256
FIRST = 20
BEFORE_TEST = ("train", "rank", "validation")


def known_mean(history_BLE: Tensor, mask_BL: Tensor, widths: Sequence[int] = ()) -> Tensor:
    """(B, E) means over the acts in the mask; an item that nothing is known of, a vector of zeros, neither
    pulls nor counts; zeros where no act is left. widths: of vectors that several sources made, side by side;
    each may know other items, and has a mean of its own."""
    if len(widths) > 1:
        parts = torch.split(history_BLE, list(widths), dim=2)
        return torch.cat([known_mean(part, mask_BL) for part in parts], dim=1)
    weight_BL1 = (mask_BL[:, :, None] & (history_BLE != 0).any(dim=2, keepdim=True)).to(history_BLE.dtype)
    return (history_BLE * weight_BL1).sum(dim=1) / weight_BL1.sum(dim=1).clamp(min=1)


class ValidationRanking:
    """Full ranking for the shoppers of the validation part, at `most` so many; prepared once.

    Where only some kinds of acts are hits, items that never were one are not ranked.
    """

    def __init__(self, data: BehaviourSet, most: int, seed: int, ranked: np.ndarray | None = None) -> None:
        """ranked: the item rows that are ranked, where the set holds only some shoppers; None: as above."""
        self.data, self.most, self.seed = data, most, seed
        self._ranked = ranked

    @cached_property
    def questions(self) -> tuple[Queries, list[np.ndarray]]:
        """The queries, and their right items."""
        known = self.data.before("validation").positive
        queries, wanted = self.data.queries("validation", known)
        some = np.sort(np.random.default_rng(self.seed).permutation(len(queries))[: self.most])
        return self.data.queries_of(queries.users[some], known, queries.now[some]), [
            wanted[one] for one in some
        ]

    @cached_property
    def ranked(self) -> np.ndarray:
        """Item rows."""
        return np.flatnonzero(catalogue(self.data)) if self._ranked is None else self._ranked

    @cached_property
    def hidden(self) -> tuple[Tensor, Tensor]:
        """Query and place in `ranked` of what shoppers have and are not to be shown again."""
        queries, seen = self.questions[0], self.data.seen("validation")
        owner = np.searchsorted(queries.users, seen.users)
        place = np.searchsorted(self.ranked, seen.items)
        owner, place = np.minimum(owner, len(queries) - 1), np.minimum(place, len(self.ranked) - 1)
        right = (queries.users[owner] == seen.users) & (self.ranked[place] == seen.items)
        return torch.from_numpy(owner[right]), torch.from_numpy(place[right])

    def figures(self, queries_BD: Tensor, items_ND: Tensor, most: int | None = None) -> dict[str, float]:
        """nDCG@10 and recall@20 of embeddings of `questions` and of all items; {} where nobody asks. most:
        of the first ones, whose embeddings these are then."""
        wanted = self.questions[1][:most]
        if not wanted:
            return {}
        device = items_ND.device
        with torch.autocast(device.type, enabled=False):
            ranked_CD = items_ND[torch.from_numpy(self.ranked).to(device)].float()
            owner, place = (part.to(device) for part in self.hidden)
            tops = []
            for start in range(0, len(wanted), AT_ONCE):
                scores_BC = queries_BD[start : start + AT_ONCE].float() @ ranked_CD.T
                here = (owner >= start) & (owner < start + len(scores_BC))
                scores_BC[owner[here] - start, place[here]] = -torch.inf
                tops.append(
                    self.ranked[scores_BC.topk(min(FIRST, len(self.ranked)), dim=1).indices.cpu().numpy()]
                )
        top_BK = np.concatenate(tops)
        relevant_BK = np.stack([np.isin(top, right) for top, right in zip(top_BK, wanted, strict=True)])
        total_B = np.array([len(right) for right in wanted])
        first = relevant_BK.shape[1]
        return {
            "ndcg_at_10": float(ndcg_at_k(relevant_BK, min(10, first), total_B).mean()),
            "recall_at_20": float(recall_at_k(relevant_BK, first, total_B).mean()),
        }


def catalogue(data: BehaviourSet, parts: Sequence[str] = BEFORE_TEST) -> np.ndarray:
    """(N + 1,) bool: the items to rank. With targets: those that were hit in `parts`; else all."""
    ranked_N = np.zeros(len(data.items), bool)
    if not data.targets:
        ranked_N[1:] = True
        return ranked_N
    for part in parts:
        ranked_N[data.truth(part).items] = True
    ranked_N[0] = False
    return ranked_N
