"""Resamples of whole groups: what another sample of products, not of photos, would have brought.

Photos of one burst, or one product at several merchants, succeed and fail together. To resample them one by
one would pretend that there are more of them than there are, and make every interval too narrow (C. Field
and A. Welsh, Bootstrapping clustered data, Journal of the Royal Statistical Society B 2007).

    N items   G groups   R resamples
"""

from collections.abc import Iterator

import numpy as np

from etalage.metrics import Interval

_CELLS = 2**22


def resamples(groups_N: np.ndarray, count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """(R, N) float64 blocks of how often each item counts, `count` rows in all: G groups, drawn G times.

    The same seed and number of groups draw the same resamples. Raises ValueError: no item.
    """
    if len(groups_N) == 0:
        raise ValueError("no item to resample")
    codes_N = np.unique(groups_N, return_inverse=True)[1]
    groups = int(codes_N.max()) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // max(groups, len(codes_N)))
    for start in range(0, count, step):
        size = min(step, count - start)
        drawn = rng.integers(0, groups, (size, groups)) + np.arange(size)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        yield times[:, codes_N].astype(np.float64)


def percentiles(value: float, replicates_R: np.ndarray) -> Interval:
    """The value with the 95% percentile interval of its replicates."""
    low, high = np.quantile(replicates_R, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def grouped_bootstrap(values_N: np.ndarray, groups_N: np.ndarray, n: int = 1000, seed: int = 0) -> Interval:
    """The mean over items with its 95% interval over n resamples of groups; else as metrics.bootstrap."""
    values = np.asarray(values_N, np.float64)
    if values.shape != np.shape(groups_N) or not np.isfinite(values).all():
        raise ValueError(f"{values.shape} finite values of {np.shape(groups_N)} items are needed")
    means = [block @ values / block.sum(axis=1) for block in resamples(groups_N, n, seed)]
    return percentiles(values.mean(), np.concatenate(means))
