"""Outlines of the demo shop's tableware, seen from the front, standing at the largest y."""

from random import Random

from etalage.demo.sketch import Sketch, mirrored, oval


def _stage(s: Sketch) -> None:
    s.standing, s.gloss, s.folds = True, 0.9, 0.1


def _round(s: Sketch, left: float, top: float, bottom: float, width: float) -> None:
    """The highlight and the dark side of something round and upright."""
    s.shade([(left, top), (left + width, top), (left + width, bottom, 1), (left, bottom, 1)], -0.16)


def table(s: Sketch, random: Random, *, style: str) -> None:
    """style: "mug", "plate", "bowl", "teapot", "jug", "glass"."""
    _stage(s)
    {"mug": _mug, "plate": _plate, "bowl": _bowl, "teapot": _teapot, "jug": _jug, "glass": _glass}[style](
        s, random
    )


def _mug(s: Sketch, random: Random) -> None:
    s.flip = True
    wide, high = random.uniform(0.9, 1.15), random.uniform(1.8, 2.5)
    foot = wide * random.uniform(0.7, 1.0)
    reach = random.uniform(0.55, 0.8)
    s.line(
        [
            (wide * 0.9, high * 0.25),
            (wide + reach, high * 0.25, 1),
            (wide + reach, high * 0.68, 1),
            (foot * 0.95, high * 0.75),
        ],
        random.uniform(0.2, 0.3),
        "flat",
    )
    s.fill(mirrored([(0, 0), (wide, 0), (wide, high * 0.5, 1), (foot, high * 0.95), (0, high + 0.14, 1)]))
    s.fill(oval(0, 0, wide, 0.2), "inner")
    if random.random() < 0.5:
        s.fill(oval(0, 0.06, wide * 0.88, 0.13), (92, 62, 44))
    _round(s, -wide * 0.7, 0.4, high * 0.85, 0.16)
    s.mark(0.1, high * 0.55, 0.3)


def _plate(s: Sketch, random: Random) -> None:
    s.standing = False
    flat = random.uniform(0.85, 1.0)
    s.fill(oval(0, 0, 2, 2 * flat))
    inner = random.uniform(1.25, 1.5)
    s.fill(oval(0, 0, inner, inner * flat), random.choice(("body", "trim", "accent")), 0.25)
    s.line(oval(0, 0, 1.92, 1.92 * flat), 0.08, random.choice(("accent", "dark")), closed=True)
    s.shade([(-1.2, -1.0), (-0.9, -1.2, 1), (-0.3, -1.5), (-0.6, -1.15, 1)], -0.25)
    s.mark(0, 0, 0.24)


def _bowl(s: Sketch, random: Random) -> None:
    wide, high = random.uniform(1.7, 2.1), random.uniform(1.3, 1.9)
    s.fill(mirrored([(0, high), (0.75, high), (0.7, high + 0.22), (0, high + 0.25, 1)]), "dark")
    s.fill(
        mirrored(
            [(0, 0), (wide, 0), (wide * 0.88, high * 0.6, 1), (wide * 0.42, high, 1), (0, high + 0.06, 1)]
        )
    )
    s.fill(oval(0, 0, wide, random.uniform(0.28, 0.45)), "inner")
    s.shade(
        [(-wide * 0.75, 0.45), (-wide * 0.6, 0.45), (-wide * 0.35, high * 0.8), (-wide * 0.45, high * 0.75)],
        -0.2,
    )
    s.mark(0, high * 0.62, 0.24)


def _teapot(s: Sketch, random: Random) -> None:
    s.flip = True
    wide, high = random.uniform(1.3, 1.6), random.uniform(1.9, 2.3)
    s.line(
        [(-wide * 0.8, 0.5), (-wide - 0.75, 0.5, 1), (-wide - 0.65, 1.4, 1), (-wide * 0.8, high * 0.72)],
        0.24,
        "flat",
    )
    s.fill(
        [
            (wide * 0.75, high * 0.75),
            (wide + 0.4, high * 0.45, 1),
            (wide + 0.75, 0.1),
            (wide + 1.0, 0.2),
            (wide + 0.6, high * 0.65, 1),
            (wide * 0.7, high * 0.95),
        ]
    )
    s.fill(
        mirrored(
            [
                (0, 0, 1),
                (wide * 0.6, 0.08, 1),
                (wide, high * 0.5, 1),
                (wide * 0.62, high),
                (0, high + 0.08, 1),
            ]
        )
    )
    s.fill(mirrored([(0, -0.35, 1), (wide * 0.35, -0.22, 1), (wide * 0.56, 0.12), (0, 0.24, 1)]), "dark")
    s.fill(oval(0, -0.45, 0.2, 0.18), "accent")
    s.shade(oval(-wide * 0.5, high * 0.38, 0.14, 0.34), -0.25)
    s.mark(0.1, high * 0.55, 0.28)


def _jug(s: Sketch, random: Random) -> None:
    s.flip = True
    wide, high = random.uniform(0.95, 1.2), random.uniform(2.7, 3.3)
    neck = wide * random.uniform(0.55, 0.75)
    s.line(
        [(neck * 0.9, 0.35), (wide + 0.75, 0.4, 1), (wide + 0.6, high * 0.55, 1), (wide * 0.9, high * 0.62)],
        0.22,
        "flat",
    )
    s.fill([
        (-neck - 0.35, -0.1), (neck, 0.0), (neck * 0.9, high * 0.25, 1), (wide, high * 0.65, 1),
        (wide * 0.7, high), (0, high + 0.1, 1), (-wide * 0.7, high), (-wide, high * 0.65, 1),
        (-neck * 0.9, high * 0.25, 1),
    ])  # fmt: skip
    s.fill([(-neck - 0.3, -0.1), (0, -0.2, 1), (neck, 0.0), (0, 0.16, 1)], "inner")
    _round(s, -wide * 0.6, high * 0.45, high * 0.85, 0.16)
    s.mark(0, high * 0.66, 0.28)


def _glass(s: Sketch, random: Random) -> None:
    wide, stem = random.uniform(0.8, 1.1), random.uniform(1.3, 1.9)
    deep = random.uniform(1.5, 1.9)
    s.fill(oval(0, deep + stem, wide * 0.85, 0.15), "flat")
    s.fill([(-0.1, deep - 0.1), (0.1, deep - 0.1), (0.09, deep + stem), (-0.09, deep + stem)], "flat")
    s.fill(
        mirrored(
            [
                (0, 0),
                (wide * 0.85, 0),
                (wide * 1.05, deep * 0.5, 1),
                (wide * 0.5, deep * 0.92, 1),
                (0, deep, 1),
            ]
        )
    )
    s.fill(oval(0, 0, wide * 0.85, 0.15), "inner")
    s.shade(
        [(-wide * 0.65, 0.3), (-wide * 0.45, 0.3), (-wide * 0.5, deep * 0.7), (-wide * 0.75, deep * 0.55)],
        -0.4,
    )
    s.mark(0, deep * 0.5, 0.22)
