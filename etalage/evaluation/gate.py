"""The promotion gate: a model that does not beat the simple ones at its own job is not published."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from etalage.bundle.admission import FEWEST, cold_words, tells_nothing
from etalage.errors import ExportDamaged
from etalage.evaluation.resampling import grouped_bootstrap
from etalage.metrics import Interval, auroc_interval, paired_auroc, paired_bootstrap
from etalage.metrics import bootstrap as interval_of


@dataclass(frozen=True)
class Verdict:
    """May this model be published? `rows`: one a system, the model first:

    {"system", "value", "low", "high"}, of the model "questions" too (and "cold" of them, where most have
    fewer than "few_acts" acts of history), and for each simple one {"gain",
    "gain_low", "gain_high", "best"}: the model's gain over it, query by query, and whether it is the best
    of the simple ones.
    """

    model: str
    role: str
    metric: str
    passed: bool
    rows: list[dict[str, Any]]
    slice: str = "all"
    """Of which questions it holds: a retriever may be there for new items alone."""

    @property
    def best(self) -> str:
        """Who is to do the job: the model, or the best simple system where it does not pass."""
        simple = next(row["system"] for row in self.rows if row.get("best"))
        return self.model if self.passed else str(simple)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        best = next(row for row in self.rows if row.get("best"))
        gain = f"{best['gain']:+.4f} [{best['gain_low']:+.4f}, {best['gain_high']:+.4f}]"
        word = "beats" if self.passed else "does not beat"
        asked = self.rows[0].get("questions", FEWEST)
        where = "" if self.slice == "all" else f" of {self.slice}"
        return (
            f"{self.model} {word} the best simple system, {best['system']}, at {self.metric}{where}: "
            f"{self.rows[0]['value']:.4f} against {best['value']:.4f}, a gain of {gain}"
            + (f"; {asked} questions are too few to tell" if asked < FEWEST else "")
            + (f"; {cold}" if (cold := cold_words(self.to_json())) else "")
            + (f"; {said}" if (said := tells_nothing(self.to_json())) else "")
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
    slice: str = "all",
    groups: np.ndarray | None = None,
) -> Verdict:
    """Compare (Q,) values of `metric` with each simple system's values of the same queries.

    Passes when the lower end of the paired bootstrap interval of the gain over the best simple one
    is above 0, and there are FEWEST queries. groups: (Q,) queries that stand or fall together, such as photos
    of one product; whole groups are resampled then, and counted as the questions.
    Raises ValueError: no simple system, or not the same queries.
    """
    draft = Verdict(model, role, metric, False, [], slice)
    if groups is None:
        return _compared(
            draft,
            ours,
            simple,
            lambda one: interval_of(one, bootstrap, seed),
            lambda one, other: paired_bootstrap(one, other, bootstrap, seed),
        )
    return _compared(
        draft,
        ours,
        simple,
        lambda one: grouped_bootstrap(one, groups, bootstrap, seed),
        lambda one, other: grouped_bootstrap(one - other, groups, bootstrap, seed),
        len(np.unique(groups)),
    )


def judge_auroc(
    model: str,
    role: str,
    positive: np.ndarray,
    ours: np.ndarray,
    simple: Mapping[str, np.ndarray],
    slice: str = "all",
) -> Verdict:
    """As `judge`, by the AUROC of (R,) scores of rows with labels, such as shown and clicked.

    The intervals are DeLong's (metrics.paired_auroc). Raises ValueError too where the labels are all alike.
    """
    return _compared(
        Verdict(model, role, "auroc", False, [], slice),
        ours,
        simple,
        lambda one: auroc_interval(one, positive),
        lambda one, other: paired_auroc(one, other, positive),
    )


def _compared(
    draft: Verdict,
    ours: np.ndarray,
    simple: Mapping[str, np.ndarray],
    value: Callable[[np.ndarray], Interval],
    gain: Callable[[np.ndarray, np.ndarray], Interval],
    questions: int | None = None,
) -> Verdict:
    if not simple:
        raise ValueError(f"nothing to compare {draft.model} with")
    values = {name: value(theirs) for name, theirs in simple.items()}
    best = max(values, key=lambda name: values[name].value)
    gains = {name: gain(ours, theirs) for name, theirs in simple.items()}
    questions = len(ours) if questions is None else questions
    rows: list[dict[str, Any]] = [{"system": draft.model, **value(ours)._asdict(), "questions": questions}]
    for name, over in gains.items():
        row = {"system": name, **values[name]._asdict()}
        rows.append(
            row | {"gain": over.value, "gain_low": over.low, "gain_high": over.high, "best": name == best}
        )
    return replace(draft, passed=gains[best].low > 0 and questions >= FEWEST, rows=rows)
