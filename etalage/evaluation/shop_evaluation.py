"""What `etalage evaluate` found of everything that the shop trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from etalage.errors import EtalageError
from etalage.evaluation.comparison import ModelComparison
from etalage.evaluation.decision import Decision, Evidence
from etalage.evaluation.decision_words import headline, lines
from etalage.evaluation.evaluation import Evaluation


@dataclass(frozen=True, repr=False)
class ShopEvaluation:
    """A decision for every question that the shop answers, and what it rests on."""

    decisions: tuple[Decision, ...]
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    """Question → what was measured for it."""
    behaviour: ModelComparison | None = None
    evaluations: tuple[Evaluation, ...] = ()
    """Of the models of photos and of categories."""
    failed: Mapping[str, EtalageError] = field(default_factory=dict)
    """Question → why nothing was measured for it."""
    report: Path | None = None
    files: list[Path] = field(default_factory=list)

    def __repr__(self) -> str:
        said = "; ".join(f"{one.question} {headline(one)}" for one in self.decisions)
        return f"<shop evaluated: {said or 'no question'}; report {self.report}>"

    def lines(self) -> list[str]:
        """The decisions in words, for a terminal."""
        return [line for one in self.decisions for line in lines(one)]
