"""What an evaluation of a model of behaviour found: probabilities, ten shoppers, what is not counted.

B queries
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etalage.evaluation.measured import Measured
from etalage.evaluation.palette import palette
from etalage.evaluation.rankers import Ordered
from etalage.evaluation.sections import Section
from etalage.features.behaviour import BehaviourSet

SHOPPERS, SHOWN, REMEMBERED = 10, 10, 8


@dataclass(frozen=True)
class Probabilities(Section):
    """Of systems that say how probable it is that a candidate is taken: is it true?"""

    ordered: Ordered

    page = ("behaviour_sections", "probabilities")

    @property
    def systems(self) -> dict[str, dict[str, float]]:
        """System → auroc, log loss and calibration error over all its candidates."""
        return self.ordered.figures

    def content(self) -> dict[str, Any]:
        return {"rows": [{"system": name, **one} for name, one in self.systems.items()]}

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_calibration

        found = {name: self.ordered.calibration(name) for name in self.systems}
        marks = palette(self.ordered.ranked)
        return {"calibration": draw_calibration(found, marks) if found else None}

    def alts(self) -> dict[str, str]:
        errors = (f"{name} {one['calibration_error']:.4f}" for name, one in self.systems.items())
        return {"calibration": f"calibration error of {', '.join(errors)}"}

    def figures(self, system: str) -> dict[str, float]:
        return self.systems.get(system, {})


@dataclass(frozen=True)
class Shoppers(Section):
    """Some shoppers, drawn: what they did last, what the model would show, what they took."""

    model: str
    shown: Measured
    data: BehaviourSet
    titles: Mapping[str, str] = field(default_factory=dict)
    """item_id → what the report calls it."""

    page = ("behaviour_sections", "shoppers")

    def content(self) -> dict[str, Any]:
        count = len(self.shown.asked.truth)
        drawn = np.sort(np.random.default_rng(0).choice(count, min(SHOPPERS, count), replace=False))
        return {"shoppers": [self._shopper(int(query)) for query in drawn]}

    def _shopper(self, query: int) -> dict[str, Any]:
        asked = self.shown.asked
        begin, end = asked.queries.starts[query : query + 2]
        right = {int(row) for row in asked.truth[query]}
        slate = [int(row) for row in self.shown.ranked[self.model].slates[query, :SHOWN] if row > 0]
        user = int(asked.queries.users[query])
        newest = asked.queries.items[max(begin, end - REMEMBERED) : end]
        return {
            "user": self.data.users.id(user) if user > 0 else "an unknown shopper",
            "acts": int(end - begin),
            "history": [self._title(int(row)) for row in newest],
            "slate": [{"name": self._title(row), "hit": row in right} for row in slate],
            "missed": [self._title(row) for row in sorted(right - set(slate))],
        }

    def _title(self, row: int) -> str:
        if row == 0:
            return "an unknown item"
        return self.titles.get(self.data.items.id(row), self.data.items.id(row))


@dataclass(frozen=True)
class Candidates(Section):
    """How many candidates a ranker was given, and how much of what is to be found is among them."""

    ordered: Ordered

    def facts(self) -> dict[str, str]:
        most = int(self.ordered.found.counts.max())
        recall = f"{self.ordered.recall:.1%}"
        return {"candidates": f"up to {most} a shopper; {recall} of what is to be found is among them"}


@dataclass(frozen=True)
class LeftOut(Section):
    """What the figures know nothing of: right answers that shoppers had already, acts that do not count."""

    dropped: int
    not_counted: list[str]

    def facts(self) -> dict[str, str]:
        found = {}
        if self.dropped:
            found["not asked for"] = f"{self.dropped:,} that their shoppers had already"
        if self.not_counted:
            found["not counted"] = "; ".join(self.not_counted)
        return found


@dataclass(frozen=True)
class LeakageFacts(Section):
    """What features/leakage.py found in this split: none in our own, which would have been refused."""

    leakage: Mapping[str, Any]

    def facts(self) -> dict[str, str]:
        faults = {
            name: sum(by_part.values()) for name, by_part in self.leakage.items() if isinstance(by_part, dict)
        }
        found = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in faults.items() if count)
        return {"leakage": found or "none found"}
