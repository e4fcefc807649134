"""Boxes and arrows → a picture: layers from top to bottom, few crossings, long arrows led around boxes.

K. Sugiyama et al., Methods for Visual Understanding of Hierarchical System Structures, IEEE SMC 1981: layers
by the longest path, an invisible box where an arrow passes a layer, order by the mean of the neighbours.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

LINE, GAP, LETTER = 0.2, 0.4, 0.088
"""Inches: height of a line of text, room between boxes, width of a letter."""
SWEEPS = 24
COLOURS = {
    "input": "#dbe9f6",
    "weight": "#fdeccb",
    "layer": "#e3f1df",
    "operation": "#ffffff",
    "output": "#f6dbdf",
}


@dataclass(frozen=True)
class Box:
    text: str
    kind: str
    """A key of COLOURS."""

    @property
    def width(self) -> float:
        return 0.3 + LETTER * max((len(line) for line in self.text.split("\n")), default=0)

    @property
    def weight(self) -> float:
        """For where others want to lie: an arrow that passes counts for little, so chains are straight."""
        return 0.02 if self.kind == "passing" else 1.0

    @property
    def height(self) -> float:
        return 0.16 + LINE * (self.text.count("\n") + 1)


@dataclass
class Graph:
    """Boxes by name, and arrows (from, to) between them, without a circle."""

    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str]] = field(default_factory=list)

    def link(self, sources: list[str], target: str) -> None:
        self.arrows += [(source, target) for source in sources if (source, target) not in self.arrows]

    def keep_reaching(self, target: str) -> None:
        """Drop what nothing comes of; an input that is not used stays."""
        reached, grown = {target}, True
        while grown:
            more = {a for a, b in self.arrows if b in reached} - reached
            reached, grown = reached | more, bool(more)
        self.boxes = {name: box for name, box in self.boxes.items() if name in reached or box.kind == "input"}
        self.arrows = [(a, b) for a, b in self.arrows if a in reached and b in reached]


def save(graphs: Sequence[Graph], title: str, file: Path) -> Path:
    """Write the graphs side by side as one picture, its format by the file's ending. Raises ValueError for an
    unknown one."""
    from matplotlib.figure import Figure

    layered = [_Layered(graph) for graph in graphs]
    sizes = [one.size() for one in layered]
    width, height = max(sum(size[0] for size in sizes), 4.0), max(size[1] for size in sizes)
    figure = Figure(figsize=(width, height + 0.5), dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, -0.5)  # downwards
    axes.axis("off")
    axes.text(width / 2, -0.25, title, ha="center", va="center", fontsize=11, weight="bold")
    left = (width - sum(size[0] for size in sizes)) / 2
    for one, size in zip(layered, sizes, strict=True):
        _put(axes, one, left)
        left += size[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, facecolor="white")
    return file


def _put(axes: Any, layered: "_Layered", left: float) -> None:
    """Arrows and boxes of one graph, `left` inches from the edge."""
    from matplotlib.patches import FancyBboxPatch

    line = {"color": "#667", "zorder": 1}
    for course in layered.courses():
        points = np.array(course) + np.array([left, 0])
        axes.plot(*points.T, linewidth=1, solid_capstyle="round", **line)
        arrow = {"arrowstyle": "-|>", "color": line["color"], "shrinkB": 0}
        axes.annotate("", points[-1], points[-2], zorder=1, arrowprops=arrow)
    for name, (x, y) in layered.place.items():
        box = layered.boxes[name]
        if box.kind == "passing":
            continue
        corner, shape = (left + x - box.width / 2, y - box.height / 2), "round,pad=0,rounding_size=0.07"
        axes.add_patch(
            FancyBboxPatch(
                corner,
                box.width,
                box.height,
                boxstyle=shape,
                facecolor=COLOURS[box.kind],
                edgecolor="#667",
                zorder=2,
            )
        )
        axes.text(left + x, y, box.text, ha="center", va="center", fontsize=8, zorder=3, linespacing=1.3)


class _Layered:
    """Where every box of a graph lies: `place`, name → centre in inches."""

    def __init__(self, graph: Graph) -> None:
        self.layer = _layers(graph)
        self.boxes = dict(graph.boxes)
        self.chains = {arrow: self._chain(*arrow) for arrow in graph.arrows}
        self.rows: list[list[str]] = [[] for _ in range(max(self.layer.values(), default=0) + 1)]
        for name in self.boxes:
            self.rows[self.layer[name]].append(name)
        self.above: dict[str, list[str]] = {name: [] for name in self.boxes}
        self.below: dict[str, list[str]] = {name: [] for name in self.boxes}
        for chain in self.chains.values():
            for a, b in itertools.pairwise(chain):
                self.below[a].append(b)
                self.above[b].append(a)
        self._order()
        self.place = self._places()

    def _chain(self, start: str, end: str) -> list[str]:
        """The arrow's boxes: an invisible one in every layer that it passes."""
        between = []
        for layer in range(self.layer[start] + 1, self.layer[end]):
            name = f"{start}>{end}>{layer}"
            self.boxes[name] = Box("", "passing")
            self.layer[name] = layer
            between.append(name)
        return [start, *between, end]

    def _order(self) -> None:
        """Left to right within each layer: fewer crossings by the mean of the neighbours."""
        best, fewest = [list(row) for row in self.rows], self._crossings()
        for sweep in range(SWEEPS):
            beside = self.above if sweep % 2 == 0 else self.below
            for number in range(len(self.rows)) if sweep % 2 == 0 else range(len(self.rows) - 1, -1, -1):
                at = {name: n for row in self.rows for n, name in enumerate(row)}
                self.rows[number].sort(
                    key=lambda name, at=at: float(np.mean([at[o] for o in beside[name]] or [at[name]]))  # type: ignore[misc]
                )
            if (crossings := self._crossings()) < fewest:
                best, fewest = [list(row) for row in self.rows], crossings
        self.rows = best

    def _crossings(self) -> int:
        total = 0
        for upper, lower in itertools.pairwise(self.rows):
            at = {name: n for n, name in enumerate(lower)}
            ends = np.array([at[b] for a in upper for b in sorted(self.below[a], key=at.__getitem__)])
            if len(ends):
                total += int((ends[:, None] > ends[None, :])[np.triu_indices(len(ends), 1)].sum())
        return total

    def _places(self) -> dict[str, tuple[float, float]]:
        """Each box as near to the mean of its neighbours as its row lets it be."""
        at: dict[str, float] = {}
        for row in self.rows:
            x = -sum(self.boxes[name].width + GAP for name in row) / 2
            for name in row:
                at[name] = x + self.boxes[name].width / 2
                x += self.boxes[name].width + GAP
        for sweep in range(SWEEPS):
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                beside = self.above if sweep % 2 == 0 else self.below
                wanted = [self._mean_place(at, beside[name], at[name]) for name in row]
                at |= dict(zip(row, _apart(wanted, [self.boxes[name] for name in row]), strict=True))
        left = min((at[name] - box.width / 2 for name, box in self.boxes.items()), default=0.0) - GAP
        place: dict[str, tuple[float, float]] = {}
        y = GAP / 2
        for row in self.rows:
            height = max((self.boxes[name].height for name in row), default=0.0)
            place |= {name: (at[name] - left, y + height / 2) for name in row}
            y += height + 1.1 * GAP
        return place

    def _mean_place(self, at: dict[str, float], neighbours: list[str], own: float) -> float:
        weights = [self.boxes[name].weight for name in neighbours]
        return float(np.average([at[name] for name in neighbours], weights=weights)) if neighbours else own

    def size(self) -> tuple[float, float]:
        """Width and height of the picture in inches."""
        right = max((self.place[name][0] + box.width / 2 for name, box in self.boxes.items()), default=1.0)
        low = max((self.place[name][1] + box.height / 2 for name, box in self.boxes.items()), default=1.0)
        return right + GAP, low + GAP

    def courses(self) -> list[list[tuple[float, float]]]:
        """The points of every arrow, from the lower edge of a box to the upper edge of another."""
        found = []
        for chain in self.chains.values():
            points = []
            for name in chain:
                x, y = self.place[name]
                half = self.boxes[name].height / 2
                if self.boxes[name].kind == "passing":  # straight past the highest box beside it
                    half = max(self.boxes[other].height for other in self.rows[self.layer[name]]) / 2
                points += [(x, y - half)] * (name != chain[0]) + [(x, y + half)] * (name != chain[-1])
            found.append(points)
        return found


def _layers(graph: Graph) -> dict[str, int]:
    """Longest path from an input; a box without anything above it moves down to just above its first user."""
    before: dict[str, list[str]] = {name: [] for name in graph.boxes}
    after: dict[str, list[str]] = {name: [] for name in graph.boxes}
    for a, b in graph.arrows:
        before[b].append(a)
        after[a].append(b)
    layer = dict.fromkeys(graph.boxes, 0)
    waiting = {name: len(sources) for name, sources in before.items()}
    ready = [name for name, count in waiting.items() if not count]
    seen = 0
    while ready:
        name = ready.pop(0)
        seen += 1
        for other in after[name]:
            layer[other] = max(layer[other], layer[name] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    if seen < len(graph.boxes):
        raise ValueError("the arrows go in a circle")
    for name, sources in before.items():
        if not sources and after[name]:
            layer[name] = min(layer[other] for other in after[name]) - 1
    return layer


def _apart(wanted: list[float], boxes: list[Box]) -> list[float]:
    """Places as near to `wanted` as these boxes, in this order and GAP apart, can lie (least squares)."""
    steps = [0.0]
    for a, b in itertools.pairwise(boxes):
        steps.append(steps[-1] + (a.width + b.width) / 2 + GAP)
    # Less its own offset, each may lie anywhere to the right of the one before: isotonic regression.
    blocks: list[tuple[float, float, int]] = []
    for target, offset, box in zip(wanted, steps, boxes, strict=False):
        mean, weight, count = target - offset, box.weight, 1
        while blocks and blocks[-1][0] > mean:
            other, heavy, size = blocks.pop()
            mean = (mean * weight + other * heavy) / (weight + heavy)
            weight, count = weight + heavy, count + size
        blocks.append((mean, weight, count))
    flat = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, steps, strict=False)]
