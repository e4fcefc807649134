"""Outlines of products, in any unit: what a drawing function hands to the photographer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_STEPS = 7

Point = tuple[float, ...]
"""(x, y) is a corner, (x, y, 1) a point that the outline passes smoothly."""
Colour = tuple[int, int, int]


def _hermite(steps: int) -> NDArray[np.float64]:
    t = np.arange(steps) / steps
    return np.stack([2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, -2 * t**3 + 3 * t**2, t**3 - t**2], axis=1)


_BASIS = _hermite(_STEPS)


def curve(points: Sequence[Point], closed: bool = True) -> NDArray[np.float64]:
    """The outline through `points`, as (M, 2): straight between corners, smooth at (x, y, 1)."""
    xy = np.array([point[:2] for point in points], dtype=np.float64)
    soft = np.array([len(point) > 2 for point in points])[:, None]
    after = np.arange(1, len(xy) + 1) % len(xy)
    following, previous = xy[after], xy[after - 2]
    if not closed:
        following[-1], previous[0] = xy[-1], xy[0]
    tangent = (following - previous) * 0.5
    end, soft_end, tangent_end = xy[after], soft[after], tangent[after]
    step = end - xy
    # A corner beside a smooth point lets the curve run out without bending (a natural end).
    leave = np.where(soft, tangent, np.where(soft_end, 1.5 * step - 0.5 * tangent_end, step))
    arrive = np.where(soft_end, tangent_end, np.where(soft, 1.5 * step - 0.5 * tangent, step))
    path = _BASIS @ np.stack([xy, leave, end, arrive], axis=1)
    if closed:
        return np.asarray(path.reshape(-1, 2))
    return np.concatenate([path[:-1].reshape(-1, 2), xy[-1:]])


def oval(x: float, y: float, width: float, height: float) -> list[Point]:
    """The outline of an ellipse of half-width `width` and half-height `height`."""
    turns = [2 * math.pi * i / 10 for i in range(10)]
    return [(x + width * math.cos(t), y + height * math.sin(t), 1) for t in turns]


def mirrored(right: Sequence[Point]) -> list[Point]:
    """A closed outline, symmetric about x = 0, from its right half listed from top to bottom."""
    left = [(-point[0], *point[1:]) for point in reversed(right) if point[0] != 0]
    return [*right, *left]


@dataclass(slots=True)
class Stroke:
    kind: str  # "fill", "line", "shade", "crease", "mark"
    points: NDArray[np.float64]
    paint: str | Colour = "body"
    width: float = 0.0
    strength: float = 0.0
    closed: bool = False


@dataclass
class Sketch:
    """What a drawing function fills in. Later strokes lie on top; y grows downwards."""

    strokes: list[Stroke] = field(default_factory=list)
    standing: bool = False  # stands on a floor (shoes, homeware): its shadow lies below it
    gloss: float = 0.0  # 0 cloth … 1 glazed
    folds: float = 1.0  # how strongly cloth drapes
    flip: bool = False  # may face left as well as right

    def fill(self, points: Sequence[Point], paint: str | Colour = "body", edge: float = 0.3) -> None:
        """A closed area; `edge` darkens its outline, so that parts stand apart."""
        self.strokes.append(Stroke("fill", curve(points), paint, 0.0, edge))

    def line(
        self, points: Sequence[Point], width: float, paint: str | Colour = "body", closed: bool = False
    ) -> None:
        """A band of even width: a strap, a handle, a lace."""
        self.strokes.append(Stroke("line", curve(points, closed), paint, width, 0.0, closed))

    def seam(self, points: Sequence[Point], strength: float = 0.25, width: float = 0.0) -> None:
        """A darker (strength > 0) or lighter line upon what is already there."""
        self.strokes.append(Stroke("crease", curve(points, False), "body", width, strength))

    def shade(self, points: Sequence[Point], strength: float) -> None:
        """A darker (strength > 0) or lighter area upon what is already there."""
        self.strokes.append(Stroke("shade", curve(points), "body", 0.0, strength))

    def mark(self, x: float, y: float, size: float) -> None:
        """Where the brand's mark sits."""
        self.strokes.append(Stroke("mark", np.array([[x - size, y - size], [x + size, y + size]])))
