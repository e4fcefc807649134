"""What `etalage evaluate` found of a model of behaviour: for the terminal, MLflow and the report."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etalage.evaluation.gate import Verdict
from etalage.evaluation.measured import SliceFigures
from etalage.evaluation.ranking import Published
from etalage.metrics import Interval


@dataclass(frozen=True)
class BehaviourEvaluation:
    """What `etalage evaluate` found of a model of behaviour."""

    model: str
    role: str
    metric: str
    slice: str
    part: str
    verdict: Verdict
    scores: dict[str, dict[str, Interval]]
    """System → metric → mean and 95% interval on `part`; the model first."""
    spread: dict[str, dict[str, float]]
    """System → coverage_at_k, novelty_at_k of its slates: neither is better the higher it is."""
    slices: list[SliceFigures]
    leakage: dict[str, Any]
    published: dict[str, Published] = field(default_factory=dict)
    """System → the protocol of published negatives on `part`, where the data has one."""
    labelled: dict[str, dict[str, float]] = field(default_factory=dict)
    """System with probabilities → auroc, log_loss, calibration_error over all its candidates."""
    report: Path | None = None
    files: list[Path] = field(default_factory=list)

    def figures(self, system: str) -> dict[str, float]:
        """Metric → value of one system, as MLflow takes them."""
        found = {name: one.value for name, one in self.scores[system].items()}
        found |= self.spread.get(system, {}) | self.labelled.get(system, {})
        return {f"{self.part}_{name}": value for name, value in found.items()}

    def summary(self) -> str:
        lines = []
        for system, found in self.scores.items():
            low, high = f"{found[self.metric].low:.4f}", f"{found[self.metric].high:.4f}"
            spread = ", ".join(f"{n} {v:.3f}" for n, v in self.spread.get(system, {}).items())
            value = f"{self.metric} {found[self.metric].value:.4f} [{low}, {high}]"
            lines.append(f"{system} ({self.part}): {value}{', ' + spread if spread else ''}")
        lines += [f"{system}, {one.sentence()}" for system, one in self.published.items()]
        return "\n".join([*lines, f"gate, on validation: {self.verdict.sentence}"])
