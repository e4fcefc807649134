"""Outlines of the demo shop's homeware, seen from the front, standing at the largest y."""

import math
from random import Random

from etalage.demo.sketch import Point, Sketch, mirrored, oval


def _stage(s: Sketch, gloss: float = 0.9, folds: float = 0.1) -> None:
    s.standing, s.gloss, s.folds = True, gloss, folds


def decor(s: Sketch, random: Random, *, style: str) -> None:
    """style: "cushion", "vase", "lamp", "candle", "clock", "frame", "throw", "plant"."""
    _stage(s)
    {"cushion": _cushion, "vase": _vase, "lamp": _lamp, "candle": _candle, "clock": _clock,
     "frame": _frame, "throw": _throw, "plant": _plant}[style](s, random)  # fmt: skip


def _cushion(s: Sketch, random: Random) -> None:
    _stage(s, 0.1, 1.0)
    wide, high = 2.0, random.uniform(1.3, 2.0)
    s.fill(
        [
            (-wide, -high),
            (0, -high * 0.88, 1),
            (wide, -high),
            (wide * 0.9, 0, 1),
            (wide, high),
            (0, high * 0.9, 1),
            (-wide, high),
            (-wide * 0.9, 0, 1),
        ]
    )
    for right, low in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        s.shade(
            [
                (right * wide * 0.95, low * high * 0.95),
                (right * wide * 0.5, low * high * 0.62),
                (right * wide * 0.6, low * high * 0.5),
            ],
            0.14,
        )
    if random.random() < 0.4:
        for x in (-wide, wide):
            for y in (-high, high):
                s.fill(oval(x, y, 0.2, 0.2), "accent")
    s.mark(wide * 0.6, high * 0.6, 0.2)


def _vase(s: Sketch, random: Random) -> None:
    high = random.uniform(2.8, 3.8)
    belly, neck = random.uniform(0.8, 1.5), random.uniform(0.3, 0.6)
    at = high * random.uniform(0.45, 0.7)
    if random.random() < 0.45:
        for k in range(3):
            x = (k - 1) * 0.7 + random.uniform(-0.2, 0.2)
            s.line([(0, 0.2), (x * 0.5, -0.7, 1), (x, -1.5)], 0.06, (96, 128, 84))
            s.fill(oval(x, -1.6, 0.26, 0.26), "accent")
    s.fill(
        mirrored(
            [
                (0, 0),
                (neck + 0.12, 0),
                (neck, 0.4, 1),
                (belly, at, 1),
                (belly * 0.6, high),
                (0, high + 0.08, 1),
            ]
        )
    )
    s.fill(oval(0, 0, neck + 0.12, 0.12), "inner")
    s.shade(
        [
            (-belly * 0.55, at - 0.6),
            (-belly * 0.35, at - 0.7),
            (-belly * 0.4, at + 0.6),
            (-belly * 0.62, at + 0.5),
        ],
        -0.24,
    )
    s.mark(0.1, at, 0.24)


def _lamp(s: Sketch, random: Random) -> None:
    top, low, deep = random.uniform(0.6, 1.1), random.uniform(1.3, 1.7), random.uniform(1.3, 1.8)
    leg = random.uniform(1.4, 2.2)
    base = random.choice(("thin", "round", "cone"))
    paint = random.choice(("wood", "metal", "accent"))
    if base == "thin":
        s.line([(0, deep), (0, deep + leg)], 0.13, paint)
    elif base == "round":
        s.fill(
            mirrored(
                [(0, deep), (0.2, deep), (0.75, deep + leg * 0.6, 1), (0.4, deep + leg), (0, deep + leg)]
            ),
            paint,
        )
    else:
        s.fill(mirrored([(0, deep), (0.14, deep), (0.6, deep + leg), (0, deep + leg)]), paint)
    s.fill(oval(0, deep + leg, 0.85, 0.16), paint)
    s.fill(mirrored([(0, 0), (top, 0), (low, deep), (0, deep + 0.12, 1)]))
    s.shade(mirrored([(0, 0.1), (top * 0.5, 0.1), (low * 0.55, deep), (0, deep)]), -0.16)
    s.mark(low * 0.55, deep - 0.35, 0.15)


def _candle(s: Sketch, random: Random) -> None:
    wide, high = random.uniform(0.9, 1.2), random.uniform(1.5, 2.3)
    s.fill([(-0.14, -0.35), (0, -0.95, 1), (0.14, -0.35, 1), (0, -0.22, 1)], (246, 190, 84), 0.1)
    s.line([(0, 0.05), (0, -0.3)], 0.06, "ink")
    s.fill(mirrored([(0, 0), (wide, 0), (wide, high), (0, high + 0.2, 1)]))
    s.fill(oval(0, 0, wide, 0.2), (244, 236, 214))
    s.fill(
        [
            (-wide * 0.6, high * 0.35),
            (wide * 0.6, high * 0.35),
            (wide * 0.6, high * 0.85),
            (-wide * 0.6, high * 0.85),
        ],
        "trim",
        0.2,
    )
    s.line([(0, 0.05), (0, -0.3)], 0.06, "ink")
    s.mark(0, high * 0.6, 0.24)


def _clock(s: Sketch, random: Random) -> None:
    s.standing = False
    corners = random.choice((0, 0, 8, 6))
    face = oval(0, 0, 2, 2)
    if corners:
        face = [
            (2.1 * math.cos(math.tau * (i + 0.5) / corners), 2.1 * math.sin(math.tau * (i + 0.5) / corners))
            for i in range(corners)
        ]
    s.fill(face)
    share = random.uniform(0.76, 0.9)
    s.fill([(p[0] * share, p[1] * share, *p[2:]) for p in face], "trim", 0.3)
    for k in range(12):
        a = math.tau * k / 12
        s.line(
            [(1.25 * math.cos(a), 1.25 * math.sin(a)), (1.45 * math.cos(a), 1.45 * math.sin(a))], 0.1, "ink"
        )
    hour = random.uniform(0, math.tau)
    s.line([(0, 0), (0.8 * math.cos(hour), 0.8 * math.sin(hour))], 0.14, "ink")
    s.line([(0, 0), (1.2 * math.cos(hour * 5), 1.2 * math.sin(hour * 5))], 0.09, "ink")
    s.fill(oval(0, 0, 0.14, 0.14), "accent")
    s.mark(0, 0.75, 0.2)


def _frame(s: Sketch, random: Random) -> None:
    s.standing = False
    wide, high = (1.5, random.uniform(1.8, 2.2)) if random.random() < 0.6 else (random.uniform(1.8, 2.2), 1.5)
    bar = random.uniform(0.18, 0.4)
    paint = random.choice(("wood", "ink", "trim", "metal"))
    s.fill([(-wide, -high), (wide, -high), (wide, high), (-wide, high)], paint, 0.35)
    s.fill(
        [
            (-wide + bar, -high + bar),
            (wide - bar, -high + bar),
            (wide - bar, high - bar),
            (-wide + bar, high - bar),
        ],
        (246, 244, 238),
        0.35,
    )
    inset = bar + random.uniform(0.2, 0.4)
    s.fill(
        [
            (-wide + inset, -high + inset),
            (wide - inset, -high + inset),
            (wide - inset, high - inset),
            (-wide + inset, high - inset),
        ],
        "body",
        0.2,
    )
    s.fill(oval(random.uniform(-0.4, 0.4), random.uniform(-0.5, 0.1), 0.4, 0.4), "accent", 0.0)
    s.mark(wide - inset - 0.2, high - inset - 0.2, 0.12)


def _throw(s: Sketch, random: Random) -> None:
    _stage(s, 0.0, 1.4)
    layers = random.randint(3, 4)
    thick = random.uniform(0.55, 0.75)
    for k in range(layers):
        y = -k * thick
        w = 2.2 - 0.05 * k
        s.fill(
            [
                (-w, y, 1),
                (-w - 0.15, y - thick * 0.5, 1),
                (-w + 0.1, y - thick, 1),
                (w - 0.1, y - thick),
                (w, y),
            ],
            "body",
            0.4,
        )
    for k in range(12):
        x = -1.9 + k * 0.33
        s.line([(x, 0), (x + 0.03, 0.35)], 0.06, "flat")
    s.mark(1.7, -thick * 0.5, 0.18)


def _plant(s: Sketch, random: Random) -> None:
    wide, high = random.uniform(0.9, 1.3), random.uniform(1.2, 1.6)
    leaves = random.randint(6, 9)
    green = random.choice(((84, 128, 88), (70, 110, 84), (112, 146, 92)))
    for k in range(leaves):
        lean = ((k + 0.5) / leaves * 2 - 1) * 1.2
        tall = random.uniform(1.7, 2.6) * math.cos(lean * 0.6)
        tip = (math.sin(lean) * tall, -tall * math.cos(lean * 0.7))
        side = random.uniform(0.22, 0.38)
        s.fill(
            [(0, 0.1), (tip[0] * 0.55 - side, tip[1] * 0.6, 1), tip, (tip[0] * 0.55 + side, tip[1] * 0.5, 1)],
            green,
            0.3,
        )
    s.fill(mirrored([(0, 0), (wide, 0), (wide * 0.75, high), (0, high + 0.1, 1)]))
    s.fill(mirrored([(0, -0.1), (wide + 0.08, -0.1), (wide + 0.06, 0.25), (0, 0.3, 1)]), "body", 0.35)
    s.mark(0, high * 0.6, 0.24)


def furniture(s: Sketch, random: Random, *, style: str) -> None:
    """style: "chair", "stool", "armchair", "table"."""
    _stage(s, 0.3, 0.4)
    paint = random.choice(("wood", "wood", "ink", "metal"))
    if style == "armchair":
        _armchair(s, random, paint)
        return
    legs: list[tuple[float, float]] = [(-1.0, -1.25), (1.0, 1.25)]
    low = 2.3 if style != "table" else 2.0
    seat = 0.0 if style != "table" else -0.4
    wide = random.uniform(1.1, 1.4) if style != "table" else random.uniform(1.6, 2.2)
    for top, foot in legs:
        s.line([(top * wide * 0.75, seat + 0.1), (foot * wide * 0.8, low)], 0.17, paint)
        s.line([(top * wide * 0.4, seat + 0.1), (foot * wide * 0.45, low - 0.25)], 0.13, paint)
    if style == "chair":
        tall = random.uniform(2.0, 2.6)
        slats = random.randint(0, 4)
        for x in (-0.85, 0.85):
            s.line([(x * wide, 0), (x * wide * 0.95, -tall)], 0.16, paint)
        if slats:
            for k in range(slats):
                y = -tall + 0.15 + k * (tall - 0.5) / slats
                s.fill(
                    [
                        (-wide * 0.9, y),
                        (0, y - 0.1, 1),
                        (wide * 0.9, y),
                        (wide * 0.9, y + 0.26),
                        (0, y + 0.16, 1),
                        (-wide * 0.9, y + 0.26),
                    ]
                )
        else:
            s.fill(
                mirrored([(0, -tall - 0.15, 1), (wide * 0.95, -tall, 1), (wide * 0.9, -0.5), (0, -0.4, 1)])
            )
    deep = random.uniform(0.2, 0.34)
    cap: list[Point] = [
        (-wide, seat - deep, 1),
        (0, seat - deep - 0.1, 1),
        (wide, seat - deep, 1),
        (wide * 1.03, seat + 0.12),
        (-wide * 1.03, seat + 0.12),
    ]
    s.fill(cap if style != "table" else oval(0, seat, wide * 1.05, 0.32))
    if style == "stool":
        s.line([(-wide * 0.9, 1.5), (wide * 0.9, 1.5)], 0.12, paint)
    if style == "table":
        s.line([(-wide * 0.85, 1.3), (wide * 0.85, 1.3)], 0.12, paint)
    s.mark(wide * 0.6, seat - 0.02, 0.12)


def _armchair(s: Sketch, random: Random, paint: str) -> None:
    wide, back = random.uniform(1.7, 2.0), random.uniform(1.9, 2.5)
    for x in (-wide * 0.8, wide * 0.8):
        s.fill([(x - 0.12, 2.1), (x + 0.12, 2.1), (x + 0.07, 2.8), (x - 0.07, 2.8)], paint)
    s.fill(mirrored([(0, -back + 1, 1), (wide * 0.8, -back + 1.15, 1), (wide * 0.9, 1.2), (0, 1.3)]))
    s.fill(
        [(-wide * 0.85, 0.9), (wide * 0.85, 0.9), (wide * 0.85, 1.5), (0, 1.6, 1), (-wide * 0.85, 1.5)],
        "body",
        0.4,
    )
    s.fill([(-wide * 0.9, 1.45), (wide * 0.9, 1.45), (wide * 0.9, 2.2), (-wide * 0.9, 2.2)], "body", 0.4)
    for side in (1, -1):
        s.fill(
            [
                (side * wide * 0.72, 0.5, 1),
                (side * wide * 0.9, 0.3, 1),
                (side * wide * 1.12, 0.5, 1),
                (side * wide * 1.1, 2.25),
                (side * wide * 0.76, 2.25),
            ],
            "body",
            0.4,
        )
    s.mark(wide * 0.4, 1.85, 0.18)
