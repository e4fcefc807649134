"""What a decision about models of behaviour rests on: one metric of all systems, by part and by slice.

B queries
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from etalage import metrics
from etalage.evaluation.decision import PartFigures, SliceFound
from etalage.evaluation.measured import Measured
from etalage.evaluation.names import ALL
from etalage.evaluation.ranking import Ranked


def part_figures(
    measured: Measured,
    funnels: Mapping[str, Ranked],
    metric: str,
    bootstrap: int,
    slice: str = ALL,
) -> PartFigures:
    """Every system of `measured`, and the funnels on the same questions; each pair compared shopper by
    shopper."""
    return _figures(measured.asked.part, _values(measured, funnels, metric, slice), bootstrap)


def slices_found(
    gate: tuple[Measured, Mapping[str, Ranked]],
    shown: tuple[Measured, Mapping[str, Ranked]],
    metric: str,
    bootstrap: int,
) -> list[SliceFound]:
    """The slices that both parts have. gate, shown: what is measured, and the funnels' answers to it."""
    found = []
    for name, kind in shown[0].slices.items():
        if name != ALL and name in gate[0].slices:
            on = [part_figures(one, funnels, metric, bootstrap, name) for one, funnels in (gate, shown)]
            found.append(SliceFound(name, kind.words, on[0], on[1]))
    return found


def _values(
    measured: Measured, funnels: Mapping[str, Ranked], metric: str, slice: str
) -> dict[str, np.ndarray]:
    """System → (B,). A funnel ranks what it finds in the whole catalogue: it has no figure where only some
    items count."""
    values = {name: one[metric] for name, one in measured.values(slice).items()}
    if slice in measured.within:
        return values
    right = measured.slices[slice].right
    mine = {name: one if right.all() else one.only(right)[0] for name, one in funnels.items()}
    return values | {name: one.per_query[metric] for name, one in mine.items()}


def _figures(part: str, values: Mapping[str, np.ndarray], bootstrap: int) -> PartFigures:
    pairs = list(combinations(values, 2))
    wanted = {f"{n}": values[one] - values[other] for n, (one, other) in enumerate(pairs)}
    found = metrics.bootstrap_all(wanted, bootstrap)
    gains: dict[str, dict[str, metrics.Interval]] = {}
    for n, (one, other) in enumerate(pairs):
        gains.setdefault(one, {})[other] = found[f"{n}"]
    questions = len(next(iter(values.values()), ()))
    return PartFigures(part, questions, metrics.bootstrap_all(values, bootstrap), gains)
