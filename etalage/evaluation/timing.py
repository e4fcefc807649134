"""How long one request takes, as the funnel answers it; without HTTP, filters and the online store."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from etalage.evaluation.slices import Questions
    from etalage.evaluation.whole_funnel import WholeFunnel

TIMED, WARM = 20, 2
"""Requests whose median counts, and those before them that do not."""


def request_milliseconds(funnel: "WholeFunnel", asked: "Questions", k: int) -> float | None:
    """The median over shoppers, drawn evenly; None: nobody asks."""
    from etalage.evaluation.slices import Questions

    count = len(asked.truth)
    if count == 0:
        return None
    chosen = np.linspace(0, count - 1, TIMED + WARM).astype(int)

    def ask(number: int) -> None:
        at = int(chosen[number])
        one = Questions(
            asked.part, asked.queries.block(at, at + 1), asked.truth[at : at + 1], asked.seen, asked.dropped
        )
        funnel.rank(one, (k,))

    return median_milliseconds(ask)


def median_milliseconds(run: Callable[[int], object], times: int = TIMED, warm: int = WARM) -> float:
    """Of `run`, which is given the number of its turn."""
    seconds = []
    for number in range(warm + times):
        started = time.perf_counter()
        run(number)
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds[warm:]))
