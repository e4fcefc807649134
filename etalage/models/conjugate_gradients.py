"""Symmetric positive equations of several right sides, solved by conjugate gradients beside each other.

F unknowns   D right sides, a column each
"""

from collections.abc import Callable

import numpy as np


def solve(
    times: Callable[[np.ndarray], np.ndarray],
    right_FD: np.ndarray,
    *,
    steps: int,
    enough: float,
    nearly: Callable[[np.ndarray], np.ndarray] = lambda left_FD: left_FD,
) -> np.ndarray:
    """(F, D) float64 solution of `times(solution) = right` (M. Hestenes and E. Stiefel, 1952).

    times: (F, D) → the matrix times it. nearly: what solves it nearly, the preconditioner. It stops after
    `steps`, or once every column's residual is the share `enough` of what it was.
    """
    found_FD, left_FD = np.zeros_like(right_FD), right_FD.copy()
    direction_FD = nearly(left_FD).copy()
    size_D = (left_FD * direction_FD).sum(axis=0)
    enough_D = enough**2 * np.maximum(size_D, 1e-30)
    for _ in range(steps):
        if (size_D <= enough_D).all():
            break
        ahead_FD = times(direction_FD)
        step_D = size_D / np.maximum((direction_FD * ahead_FD).sum(axis=0), 1e-30)
        found_FD += step_D * direction_FD
        left_FD -= step_D * ahead_FD
        next_FD = nearly(left_FD)
        new_D = (left_FD * next_FD).sum(axis=0)
        direction_FD = next_FD + new_D / np.maximum(size_D, 1e-30) * direction_FD
        size_D = new_D
    return found_FD
