"""What all links would cost, from a sample of them: hours, bytes; and shares with intervals.

    n links of the sample   L links in all   H hosts

A host is asked by one worker, over `per_host` connections, `spacing` seconds apart. It cannot be hurried:
with n_h links that take t_h seconds each it takes

    T_h = n_h · max(spacing, t_h / per_host)

and the whole takes at least the longest T_h. Hosts run beside each other, at most `connections` requests a
worker (Little's law: Σ n_h · t_h seconds of requests over `connections` × workers), and a worker does one
thing at a time (Σ n_h · busy seconds over workers). The largest of the three is the estimate: the
bottleneck.
"""

import math
import os
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import PhotosConfig

_Z = 1.959964
_RESAMPLES = 500
_ENOUGH = 5
"""Links of a host from which on its own mean counts; below, that of all."""
BUSY_SECONDS = 0.005
"""Processor time of one photo, network and decoding, as benchmarks/photos_fetch.py measures it."""


@dataclass(frozen=True)
class Share:
    """`count` of `of`; `share` with the ends of its 95% interval (Wilson, 1927)."""

    count: int
    of: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """An estimate and the ends of its 95% interval (bootstrap over the sample)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """Of all links: hours by the clock, bytes downloaded and stored. `bottleneck`: what the hours are due
    to: a host's name with its hours, `connections` or `processors`. `longest`: the hosts that take longest,
    in hours."""

    hours: Figure
    downloaded: Figure
    stored: Figure
    bottleneck: str
    longest: tuple[tuple[str, float], ...]


def wilson(count: int, of: int) -> Share:
    """The share with an interval that holds for small counts and for none at all; (0, 1) of nothing."""
    if not of:
        return Share(0, 0, math.nan, 0.0, 1.0)
    p, z2 = count / of, _Z**2
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(p * (1 - p) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    return Share(count, of, p, max(middle - half, 0.0), min(middle + half, 1.0))


def estimate(results: pa.Table, hosts: pa.ChunkedArray, config: PhotosConfig, seed: int) -> Cost:
    """results: RESULT rows of the sample; hosts: (L,) the host of every link, null for those that have
    none."""
    workers = config.workers or os.cpu_count() or 1
    counted = pc.value_counts(hosts.drop_null().combine_chunks())
    names, sizes = counted.field("values"), counted.field("counts").to_numpy().astype(np.float64)
    asked = results.filter(pc.is_valid(results["host"]))
    row = pc.fill_null(pc.index_in(asked["host"].combine_chunks(), value_set=names), -1).to_numpy()
    seconds = asked["milliseconds"].to_numpy() / 1000
    model = _Model(sizes, config.per_host, config.spacing, config.connections * workers, workers)
    generator = np.random.default_rng(seed)
    hours = np.array(
        [
            model.hours(row[draw], seconds[draw])
            for draw in generator.integers(0, max(len(row), 1), (_RESAMPLES, len(row)))
        ]
    )
    by_host = model.by_host(row, seconds)
    longest = np.argsort(-by_host, kind="stable")[:5]
    shown = names.to_pylist()
    return Cost(
        Figure(model.hours(row, seconds), *_ends(hours)),
        _total(results["downloaded"], len(hosts), generator),
        _total(results["stored"], len(hosts), generator),
        model.bottleneck(row, seconds, shown),
        tuple((shown[n], float(by_host[n]) / 3600) for n in longest),
    )


@dataclass(frozen=True)
class _Model:
    """`sizes` (H,): links of each host."""

    sizes: np.ndarray
    per_host: int
    spacing: float
    connections: int
    workers: int

    def means(self, row: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(H,) seconds of a link of each host."""
        count = np.bincount(row, minlength=len(self.sizes))
        total = np.bincount(row, weights=seconds, minlength=len(self.sizes))
        of_all = float(seconds.mean()) if len(seconds) else 0.0
        means: np.ndarray = np.where(count >= _ENOUGH, total / np.maximum(count, 1), of_all)
        return means

    def by_host(self, row: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(H,) seconds that each host takes."""
        each = np.maximum(self.spacing, self.means(row, seconds) / self.per_host)
        taken: np.ndarray = self.sizes * each
        return taken

    def bounds(self, row: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
        """Seconds by the slowest host, by connections, by processors."""
        requests = float((self.sizes * self.means(row, seconds)).sum())
        slowest = float(self.by_host(row, seconds).max(initial=0.0))
        busy = float(self.sizes.sum()) * BUSY_SECONDS / self.workers
        return slowest, requests / self.connections, busy

    def hours(self, row: np.ndarray, seconds: np.ndarray) -> float:
        return max(self.bounds(row, seconds)) / 3600

    def bottleneck(self, row: np.ndarray, seconds: np.ndarray, names: list[str]) -> str:
        bounds = self.bounds(row, seconds)
        which = bounds.index(max(bounds))
        if which == 0 and names:
            return names[int(np.argmax(self.by_host(row, seconds)))]
        return ("nothing", "connections", "processors")[which]


def _total(column: pa.ChunkedArray, links: int, generator: np.random.Generator) -> Figure:
    """The sum over all links, from the mean over the sample."""
    values = pc.fill_null(column, 0).to_numpy().astype(np.float64)
    if not len(values):
        return Figure(0.0, 0.0, 0.0)
    draws = generator.integers(0, len(values), (_RESAMPLES, len(values)))
    return Figure(links * float(values.mean()), *_ends(links * values[draws].mean(axis=1)))


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (0.0, 0.0)
    return float(low), float(high)
