"""Random numbers by counter: the n-th draw of a stream is a pure function of (seed, stream, n).

A generator that is read in order would give item 17 other numbers when the shop grows; a hash of the
item's number does not, and it is as fast for 100,000 items as for one. The hash is SplitMix64
(Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
"""

import zlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def words(seed: int, stream: str, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 random bits for every number: (N,) uint64, the same whatever else is asked for."""
    key = (seed * 0xD1342543DE82EF95 + zlib.crc32(stream.encode()) * _GOLDEN) & _MASK
    counters = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
    return _mixed(_mixed(counters + np.uint64(key)) ^ np.uint64(key))


def uniform(seed: int, stream: str, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """One number in [0, 1) for every number: (N,) float64."""
    return (words(seed, stream, numbers) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, stream: str, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """One standard normal number for every number: (N,) float64 (Box-Muller)."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(seed, stream + "/radius", numbers)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(seed, stream + "/angle", numbers)))


def normals(seed: int, stream: str, numbers: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """A row of standard normal numbers for every number: (N, width) float64."""
    cells = numbers[:, None].astype(np.int64) * width + np.arange(width)
    return normal(seed, stream, cells.ravel()).reshape(len(numbers), width)


def choice(
    seed: int, stream: str, numbers: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.int64]:
    """An index for every number. weights: (W,) for all, or (N, W), one row each. Result (N,) int64."""
    cumulative = np.cumsum(weights, axis=-1)
    target = uniform(seed, stream, numbers) * cumulative[..., -1]
    if weights.ndim == 1:
        return np.searchsorted(cumulative, target, side="right").astype(np.int64)
    return np.asarray((cumulative <= target[:, None]).sum(axis=1), dtype=np.int64)
