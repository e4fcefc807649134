"""Outlines of the demo shop's hats, gloves, watches and other small things."""

import math
from random import Random

from etalage.demo.sketch import Point, Sketch, mirrored, oval


def headwear(s: Sketch, random: Random, *, style: str) -> None:
    """style: "cap", "beanie", "sunhat"."""
    s.folds = 0.5
    if style == "cap":
        s.flip = True
        high, reach, drop = random.uniform(-0.75, -0.3), random.uniform(2.5, 3.2), random.uniform(1.4, 1.75)
        s.fill([(-1.5, 1.3), (-1.45, 0.2, 1), (0, high, 1), (1.3, 0.25, 1), (1.4, 1.2)])
        s.fill(
            [(0.2, 1.25), (1.4, 1.0, 1), (reach, drop), (reach, drop + 0.2), (1.4, 1.4, 1), (0.1, 1.5)],
            random.choice(("body", "accent")),
            0.4,
        )
        s.seam([(0, high + 0.05), (0.35, 0.3, 1), (0.45, 1.2)], 0.24)
        s.seam([(0, high + 0.05), (-0.75, 0.2, 1), (-0.9, 1.3)], 0.24)
        s.fill(oval(0, high, 0.13, 0.08), "dark")
        s.mark(0.95, 0.65, 0.26)
    elif style == "beanie":
        high = random.uniform(1.7, 2.2)
        if random.random() < 0.5:
            s.fill(oval(0, -high - 0.25, 0.45, 0.42), "accent", 0.2)
        s.fill(mirrored([(0, -high, 1), (1.0, -high * 0.75, 1), (1.4, 0.1)]))
        for i in range(7):
            share = (i + 0.5) / 7 * 2 - 1
            s.seam([(share * 0.3, -high + 0.1), (share * 1.15, -high * 0.6, 1), (share * 1.4, 0)], 0.16, 0.03)
        s.fill(mirrored([(0, -0.35, 1), (1.45, -0.45), (1.48, 0.3), (0, 0.42, 1)]), "body", 0.35)
        for i in range(16):
            x = (i + 0.5) / 16 * 2.9 - 1.45
            s.seam([(x, -0.38), (x, 0.34)], 0.15)
        s.mark(0.5, 0.0, 0.2)
    else:
        brim = random.uniform(2.3, 2.9)
        s.fill(oval(0, 0.5, brim, random.uniform(0.5, 0.8)))
        s.shade(oval(0.2, 0.62, 1.5, 0.34), 0.18)
        s.fill(mirrored([(0, -1.2, 1), (0.95, -1.05, 1), (1.25, 0.35), (0, 0.6, 1)]))
        s.fill(mirrored([(0, 0.15, 1), (1.18, -0.1), (1.26, 0.35), (0, 0.6, 1)]), "accent")
        s.mark(0.8, -0.6, 0.14)


def adornment(s: Sketch, random: Random, *, style: str) -> None:
    """style: "sunglasses", "watch", "scarf", "belt", "umbrella", "gloves"."""
    {
        "sunglasses": _sunglasses,
        "watch": _watch,
        "scarf": _scarf,
        "belt": _belt,
        "umbrella": _umbrella,
        "gloves": _gloves,
    }[style](s, random)


def _sunglasses(s: Sketch, random: Random) -> None:
    s.folds, s.gloss = 0.1, 1.0
    wide, high = random.uniform(0.8, 1.0), random.uniform(0.55, 0.9)
    shape = random.choice(("round", "cat", "flat"))
    for side in (1, -1):
        s.line([(side * 2.05, -0.2), (side * 2.35, -0.5), (side * 2.2, -1.2)], 0.12, "flat")
        x = side * 1.08
        outline = oval(x, 0, wide, high)
        if shape == "cat":
            outline = [
                (x - side * wide * 0.9, -high * 0.5, 1),
                (x + side * wide * 1.15, -high),
                (x + side * wide * 0.9, high * 0.3, 1),
                (x, high * 0.9, 1),
                (x - side * wide * 0.8, high * 0.4, 1),
            ]
        elif shape == "flat":
            outline = [
                (x - wide, -high * 0.8),
                (x + wide, -high * 0.8),
                (x + wide * 0.85, high * 0.5, 1),
                (x, high * 0.9, 1),
                (x - wide * 0.85, high * 0.5, 1),
            ]
        s.fill(outline)
        lens: list[Point] = [(x + (p[0] - x) * 0.8, p[1] * 0.78, *p[2:]) for p in outline]
        s.fill(lens, "lens")
        s.shade(
            [(x - 0.35, -high * 0.5), (x - 0.1, -high * 0.5), (x - 0.4, high * 0.4), (x - 0.6, high * 0.3)],
            -0.5,
        )
    s.line([(-0.25, -0.15), (0, -0.32, 1), (0.25, -0.15)], 0.14, "flat")
    s.mark(2.02, -0.32, 0.09)


def _watch(s: Sketch, random: Random) -> None:
    s.folds, s.gloss = 0.15, 0.9
    wide = random.uniform(0.45, 0.62)
    for sign in (1, -1):
        s.fill(
            [
                (-wide, sign * 0.7),
                (wide, sign * 0.7),
                (wide * 0.8, sign * 2.9),
                (0, sign * 3.02, 1),
                (-wide * 0.8, sign * 2.9),
            ]
        )
    for k in range(4):
        s.fill(oval(0, 1.7 + k * 0.3, 0.06, 0.06), "inner", 0.0)
    s.fill([(0.95, -0.12), (1.2, -0.12), (1.2, 0.12), (0.95, 0.12)], "metal")
    square = random.random() < 0.3
    face: list[Point] = [(-1, -1), (1, -1), (1, 1), (-1, 1)] if square else oval(0, 0, 1.02, 1.02)
    s.fill(face, "metal")
    s.fill([(p[0] * 0.84, p[1] * 0.84, *p[2:]) for p in face], random.choice(("trim", "inner")), 0.3)
    for k in range(12):
        a = math.tau * k / 12
        s.seam(
            [(0.66 * math.cos(a), 0.66 * math.sin(a)), (0.78 * math.cos(a), 0.78 * math.sin(a))], 0.6, 0.05
        )
    hour = random.uniform(0, math.tau)
    s.line([(0, 0), (0.42 * math.cos(hour), 0.42 * math.sin(hour))], 0.09, "ink")
    s.line([(0, 0), (0.62 * math.cos(hour * 3), 0.62 * math.sin(hour * 3))], 0.06, "ink")
    s.mark(0, -0.36, 0.13)


def _scarf(s: Sketch, random: Random) -> None:
    long = random.uniform(3.2, 4.2)
    s.fill([(-0.9, 0.0, 1), (0, -0.5, 1), (0.9, 0.0, 1), (0.8, 0.6, 1), (0, 0.95, 1), (-0.8, 0.6, 1)])
    s.fill([(-0.45, 0.1, 1), (0, -0.12, 1), (0.45, 0.1, 1), (0, 0.36, 1)], "inner")
    lean = random.uniform(0.1, 0.4)
    for side, end in ((-1, long), (1, long * random.uniform(0.75, 0.95))):
        x = side * lean
        s.fill(
            [(x - 0.4, 0.5), (x + 0.4, 0.5), (x + side * 0.3 + 0.5, end), (x + side * 0.3 - 0.5, end)],
            "body",
            0.35,
        )
        s.shade([(x - 0.1, 0.7), (x + 0.1, 0.7), (x + side * 0.3 + 0.2, end), (x + side * 0.3, end)], 0.14)
        for k in range(7):
            fx = x + side * 0.3 - 0.43 + k * 0.145
            s.line([(fx, end), (fx + 0.03, end + 0.35)], 0.05, "flat")
    s.fill(
        [(-0.55, 0.45, 1), (0, 0.3, 1), (0.55, 0.5, 1), (0.5, 1.0, 1), (0, 1.15, 1), (-0.5, 0.95, 1)],
        "body",
        0.35,
    )
    s.mark(lean + 0.3, long * 0.65, 0.16)


def _belt(s: Sketch, random: Random) -> None:
    s.folds, s.gloss = 0.3, 0.6
    band = random.uniform(0.28, 0.5)
    wide, high = 2.2, random.uniform(1.1, 1.5)
    s.line(oval(0, 0, wide, high), band, "flat", closed=True)
    s.line([(0.3, high), (1.2, high * 0.9, 1), (2.0, high * 0.95, 1), (2.6, high * 1.25)], band, "flat")
    for k in range(4):
        s.fill(oval(1.0 + k * 0.28, high * 0.92, 0.05, 0.05), "inner", 0.0)
    box = band * 0.8
    s.line(
        [(-0.3, high - box), (0.45, high - box), (0.45, high + box), (-0.3, high + box)],
        0.13,
        "metal",
        closed=True,
    )
    s.line([(-0.25, high), (0.6, high)], 0.09, "metal")
    s.mark(-1.0, high * 0.87, 0.14)


def _umbrella(s: Sketch, random: Random) -> None:
    s.folds = 0.4
    wide, high = 2.4, random.uniform(1.4, 1.9)
    s.line([(0, -0.1), (0, 2.2, 1), (0.1, 2.7, 1), (0.4, 2.75, 1), (0.55, 2.4)], 0.13, "wood")
    s.line([(0, -high - 0.3), (0, -high + 0.1)], 0.09, "metal")
    ribs = [-wide, -wide * 0.5, 0.0, wide * 0.5, wide]
    hem: list[Point] = [(wide, 0.15)]
    for right, left in zip(ribs[:0:-1], ribs[-2::-1], strict=True):
        hem += [((right + left) / 2, -0.15, 1), (left, 0.15)]
    s.fill(
        [
            (-wide, 0.15),
            (-wide * 0.75, -high * 0.7, 1),
            (0, -high, 1),
            (wide * 0.75, -high * 0.7, 1),
            *hem[:-1],
        ]
    )
    for x in ribs[1:-1]:
        s.seam([(0, -high), (x * 0.8, -high * 0.6, 1), (x, 0.1)], 0.24, 0.03)
    s.mark(wide * 0.28, -0.5, 0.2)


def _gloves(s: Sketch, random: Random) -> None:
    long, slim = random.uniform(0.8, 1.4), random.uniform(0.92, 1.05)
    hand: list[Point] = [
        (0.42, long), (0.48, 0.1, 1), (0.46, -0.85), (0.4, -1.0, 1), (0.28, -0.95, 1), (0.24, -0.3),
        (0.22, -1.2), (0.12, -1.33, 1), (0.0, -1.2, 1), (-0.02, -0.3), (-0.04, -1.15), (-0.14, -1.28, 1),
        (-0.25, -1.1, 1), (-0.26, -0.25), (-0.3, -0.8), (-0.38, -0.92, 1), (-0.47, -0.75, 1), (-0.5, 0.1, 1),
        (-0.42, long),
    ]  # fmt: skip
    thumb: list[Point] = [
        (0.4, 0.0),
        (0.72, -0.5),
        (0.84, -0.55, 1),
        (0.92, -0.4, 1),
        (0.75, 0.1, 1),
        (0.42, 0.6),
    ]
    for side in (-1, 1):
        for part in (thumb, hand):
            s.fill([(side * (1.0 - slim * p[0]), p[1], *p[2:]) for p in part])
        middle = side * 1.0
        s.fill(
            [
                (middle - 0.44, long - 0.3),
                (middle + 0.44, long - 0.3),
                (middle + 0.44, long),
                (middle - 0.44, long),
            ],
            "dark",
        )
        s.mark(middle, 0.25, 0.14)
