"""DLRM bound to a table that is larger than memory (features/example_stream.py).

R rows of a part   W output columns   O labels
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from etalage.features.example_stream import ExampleStream
from etalage.features.examples import PARTS, Examples
from etalage.models.dlrm import DlrmTask, Drawn, inputs_of

AHEAD = 2
"""Batches that are made while a step is computed."""


class DlrmStreamTask(DlrmTask):
    """Of the validation rows, what the network says and their labels are in memory together; of the training
    rows, what the buffer holds."""

    ahead = AHEAD

    def _take(self, examples: Any) -> None:
        self.stream: ExampleStream = examples
        self.examples = examples.described()

    def count(self, part: str) -> int:
        return self.stream.count(part)

    def drawn(self, epoch: int, step: int, rank: int, world_size: int) -> Drawn:
        at = step % self.steps * self.config.batch_size
        stop = min(at + self.config.batch_size, self.count("train"))
        return Drawn(*self.stream.batch(epoch, at, stop, rank, world_size), stop - at)

    def answers(self, network: nn.Module, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        said = [np.empty((0, self.columns[-1].stop), np.float32)]
        labels = [np.empty((0, len(self.stream.label_names)), np.float32)]
        with torch.no_grad():
            for block in self.stream.blocks(part):
                said.append(network(*inputs_of(network, block)).float().cpu().numpy())
                labels.append(block.labels)
        return np.concatenate(said), np.concatenate(labels), None

    def first(self, part: str, count: int) -> Examples:
        found: list[Examples] = []
        for block in self.stream.blocks(part):
            found.append(block)
            if sum(map(len, found)) >= count:
                break
        return Examples.joined(*found).take(np.arange(min(count, sum(map(len, found)))))

    def predict(self, network: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Rows by their numbers: nobody asks for that of a stream."""
        raise NotImplementedError(f"a stream is asked by part, one of {', '.join(PARTS)}: `answers`")

    def _count(self) -> Tensor:
        """As the pass that fitted the table counted them."""
        counts = list(self.stream.fitted.occurrences.values())
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *counts]) >= self.config.min_count)

    def _measure_scales(self) -> dict[str, np.ndarray]:
        """From the pass that fitted the table."""
        found = self.stream.fitted.moments
        labels = [
            (
                int(found.labelled_O[n]),
                partial(float, found.label_mean_O[n]),
                partial(float, found.label_spread_O[n]),
            )
            for n in self.label_of
        ]
        return self._scales_of(found.dense_mean_F, found.dense_spread_F, labels)
