"""The promotion gate: a model that does not beat the simple ones at its own job is not published."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etalage.errors import ExportDamaged
from etalage.metrics import bootstrap as interval_of
from etalage.metrics import paired_bootstrap


@dataclass(frozen=True)
class Verdict:
    """May this model be published? `rows`: one a system, the model first:

    {"system", "value", "low", "high"}, and for each simple one {"gain", "gain_low", "gain_high",
    "best"}: the model's gain over it, query by query, and whether it is the best of the simple ones.
    """

    model: str
    role: str
    metric: str
    passed: bool
    rows: list[dict[str, Any]]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        best = next(row for row in self.rows if row.get("best"))
        gain = f"{best['gain']:+.4f} [{best['gain_low']:+.4f}, {best['gain_high']:+.4f}]"
        word = "beats" if self.passed else "does not beat"
        return (
            f"{self.model} {word} the best simple system, {best['system']}, at {self.metric}: "
            f"{self.rows[0]['value']:.4f} against {best['value']:.4f}, a gain of {gain}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Verdict":
        """Raises ExportDamaged: not what to_json wrote."""
        try:
            verdict = cls(**raw)
            right = isinstance(verdict.passed, bool) and isinstance(verdict.sentence, str)
        except (TypeError, KeyError, ValueError, AttributeError, StopIteration, IndexError) as error:
            raise ExportDamaged(f"not a verdict ({error!r}); evaluate the model again") from error
        if not right:
            raise ExportDamaged(f"not a verdict (passed = {verdict.passed!r}); evaluate the model again")
        return verdict


def judge(
    model: str,
    role: str,
    metric: str,
    ours: np.ndarray,
    simple: Mapping[str, np.ndarray],
    bootstrap: int = 1000,
    seed: int = 0,
) -> Verdict:
    """Compare (Q,) values of `metric` with each simple system's values of the same queries.

    Passes when the lower end of the paired bootstrap interval of the gain over the best simple one
    is above 0. Raises ValueError: no simple system, or not the same queries.
    """
    if not simple:
        raise ValueError(f"nothing to compare {model} with")
    best = max(simple, key=lambda name: float(np.mean(simple[name])))
    rows: list[dict[str, Any]] = [{"system": model, **interval_of(ours, bootstrap, seed)._asdict()}]
    passed = False
    for name, theirs in simple.items():
        gain = paired_bootstrap(ours, theirs, bootstrap, seed)
        row = {"system": name, **interval_of(theirs, bootstrap, seed)._asdict()}
        row |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "best": name == best}
        rows.append(row)
        if name == best:
            passed = gain.low > 0
    return Verdict(model, role, metric, passed, rows)
