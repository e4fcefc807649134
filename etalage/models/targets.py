"""Which interactions a model of behaviour predicts, and what of them: kinds → actions, values → numbers.

M interactions of the training part
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions

MOST_CLASSES = 20
AT_ONCE = 1 << 20
"""Interactions that are looked at together."""


class Targets:
    """objective: `softmax` predicts positives; `binary` labels; `regression` and `classes` values.

    actions: the kinds that are predicted, each for itself; empty: those in `data.targets` (every kind, where
    there are none) as one. Raises ConfigError: a kind that no interaction has, or too many classes;
    TooLittleData: values are predicted, and there are less than two.
    """

    def __init__(self, objective: str, actions: Mapping[str, float], data: BehaviourSet) -> None:
        self.objective, self.train = objective, data.part("train")
        self.action_of = _actions(list(actions), data)
        """(kinds + 1,) int64 by code of a kind: its action; -1: it is not predicted."""
        self.classes = np.empty(0, np.float32)
        """The different values, rising, for `classes`."""
        self.scale = (0.0, 1.0)
        """Mean and spread of the values, for `regression`."""
        if objective in ("regression", "classes"):
            self._values()

    @property
    def bounds(self) -> int:
        """Between the classes."""
        return max(0, len(self.classes) - 1)

    @property
    def wanted(self) -> np.ndarray:
        """(M,) bool."""
        return self.among(self.train)

    def among(self, acts: Interactions) -> np.ndarray:
        """(m,) bool: which acts of the training part are to be predicted."""
        predicted: np.ndarray = self.action_of[acts.kinds] >= 0
        if self.objective == "softmax":
            return predicted & (acts.labels > 0)
        return predicted if self.objective == "binary" else predicted & np.isfinite(acts.values)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Numbers of the class, int64; else values with mean 0 and spread 1, float32."""
        if self.objective == "classes":
            return np.searchsorted(self.classes, values)
        mean, spread = self.scale
        return np.asarray((values - mean) / spread, np.float32)

    def _values(self) -> None:
        different = np.empty(0, np.float32)
        for there in self._there():
            if len(different) <= MOST_CLASSES:
                different = np.union1d(different, there)
        if len(different) < 2:
            raise TooLittleData(
                f"objective {self.objective!r} predicts values, and the interactions have {len(different)} "
                "different; map a column to `value`, or choose another objective"
            )
        if self.objective == "regression":
            count = sum(len(there) for there in self._there())
            mean = sum(float(there.sum(dtype=np.float64)) for there in self._there()) / count
            squares = sum(float(np.square(there.astype(np.float64) - mean).sum()) for there in self._there())
            self.scale = (mean, max(math.sqrt(squares / count), 1e-6))
        elif len(different) > MOST_CLASSES:
            raise ConfigError(
                f"objective 'classes': more than {MOST_CLASSES} different values; 'regression' predicts the "
                "number itself"
            )
        else:
            self.classes = different

    def _there(self) -> Iterator[np.ndarray]:
        """The values that are there, some at a time: they may lie in a file."""
        for start in range(0, len(self.train), AT_ONCE):
            values = self.train.values[start : start + AT_ONCE]
            yield values[np.isfinite(values)]


def _actions(named: list[str], data: BehaviourSet) -> np.ndarray:
    missing = [name for name in named if name not in data.kinds]
    if missing:
        there = ", ".join(data.kinds) or "none"
        raise ConfigError(f"actions: no interaction is of kind {missing[0]!r}; there are: {there}")
    if named:
        return np.array([-1, *(named.index(kind) if kind in named else -1 for kind in data.kinds)])
    codes = range(len(data.kinds) + 1)
    return np.array([0 if not data.targets or code in data.targets else -1 for code in codes])
