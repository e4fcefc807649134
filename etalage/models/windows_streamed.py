"""A task of windows bound to behaviour that is larger than memory (features/behaviour_stream.py)."""

import json
from typing import Any

import numpy as np

from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_stream import BehaviourStream
from etalage.models.next_item import HistoryConfig, NextItemTask
from etalage.models.vector_history import ValidationRanking, catalogue

AHEAD = 2
"""Batches that are made while a step is computed."""


class StreamedWindows(NextItemTask):
    """A base that stands before the task's own. In memory are the catalogue, a few numbers of each shopper,
    the validation shoppers that are asked about with all that they did, and of the training part what the
    buffer holds."""

    ahead = AHEAD

    def __init__(self, config: HistoryConfig, stream: BehaviourStream) -> None:
        self.stream = stream
        super().__init__(config, stream.data)

    def _planned(self) -> Any:
        config, targets = self.config, self.targets
        mark = json.dumps([targets.objective, targets.action_of.tolist()])
        return self.stream.windows(targets.among, mark, config.history, config.batch_size)

    def _validated(self) -> ValidationRanking:
        """Of the same shoppers as in memory."""
        most, seed = self.config.validate_queries, self.config.seed
        asked = [np.unique(block.truth("validation").users) for block in self.stream.blocks("validation")]
        users = np.concatenate([np.empty(0, np.int64), *asked])
        some = np.sort(np.random.default_rng(seed).permutation(len(users))[:most])
        ranked = np.zeros(len(self.data.items), bool)
        if self.data.targets:
            for part in ("train", "rank", "validation"):
                for block in self.stream.blocks(part):
                    ranked |= catalogue(block, (part,))
        else:
            ranked = catalogue(self.data)
        return ValidationRanking(self.data.of_shoppers(users[some]), most, seed, np.flatnonzero(ranked))

    def _of_validation(self) -> BehaviourSet:
        found, most = [np.empty(0, np.int64)], self.config.validate_queries
        for block in self.stream.blocks("validation"):
            acts = block.part("validation")
            found.append(np.unique(acts.users[self.targets.action_of[acts.kinds] >= 0]))
            if sum(map(len, found)) >= most:
                break
        return self.data.of_shoppers(np.concatenate(found)[:most])
