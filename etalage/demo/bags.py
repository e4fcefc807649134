"""Outlines of the demo shop's bags, seen from the front."""

from random import Random

from etalage.demo.sketch import Sketch, mirrored, oval


def _stage(s: Sketch) -> None:
    s.standing, s.folds, s.gloss = True, 0.5, 0.4


def handbag(s: Sketch, random: Random, *, style: str) -> None:
    """style: "tote", "shoulder", "crossbody", "clutch", "bucket"."""
    _stage(s)
    width = random.uniform(1.5, 2.0)
    height = {
        "tote": random.uniform(2.6, 3.3),
        "clutch": random.uniform(1.5, 1.9),
        "bucket": random.uniform(2.6, 3.1),
    }.get(style, random.uniform(1.9, 2.3))
    if style == "tote":
        rise, apart = random.uniform(1.1, 1.9), width * random.uniform(0.4, 0.6)
        s.line([(-apart, 0.5), (-apart * 0.9, -rise, 1), (apart * 0.9, -rise, 1), (apart, 0.5)], 0.17, "dark")
        top = width * random.uniform(0.95, 1.12)
        s.fill(
            mirrored(
                [
                    (0, 0.0, 1),
                    (top, 0.0),
                    (width, height * 0.95),
                    (width * 0.9, height),
                    (0, height + 0.03, 1),
                ]
            )
        )
        s.line(
            [
                (-apart, 0.75),
                (-apart * 0.97, 0.0, 1),
                (-apart * 0.8, -rise * 0.7, 1),
                (0, -rise, 1),
                (apart * 0.8, -rise * 0.7, 1),
                (apart * 0.97, 0.0, 1),
                (apart, 0.75),
            ],
            0.2,
            "dark",
        )
        s.seam([(-top, 0.22), (top, 0.22)], 0.15)
        s.mark(0, height * 0.5, 0.42)
    elif style in ("shoulder", "crossbody"):
        rise = random.uniform(2.6, 3.4) if style == "crossbody" else random.uniform(1.0, 1.6)
        thin = 0.1 if style == "crossbody" else 0.22
        s.line(
            [
                (-width * 0.9, 0.3),
                (-width * 0.75, -rise * 0.55, 1),
                (0, -rise, 1),
                (width * 0.75, -rise * 0.55, 1),
                (width * 0.9, 0.3),
            ],
            thin,
            "dark",
        )
        rim = random.uniform(0.9, 1.05)
        s.fill(
            mirrored(
                [
                    (0, 0, 1),
                    (width * rim, 0.08),
                    (width * 1.05, height * 0.7, 1),
                    (width * 0.9, height),
                    (0, height + 0.06, 1),
                ]
            )
        )
        flap = height * random.uniform(0.45, 0.7)
        s.fill(
            mirrored(
                [
                    (0, -0.04, 1),
                    (width * rim, 0.06),
                    (width * 1.02, flap * 0.55, 1),
                    (width * 0.6, flap * 0.95, 1),
                    (0, flap, 1),
                ]
            ),
            "body",
            0.4,
        )
        s.fill(oval(0, flap - 0.12, 0.2, 0.17), "metal")
        s.mark(-width * 0.5, height * 0.84, 0.16)
    elif style == "clutch":
        s.fill(mirrored([(0, 0, 1), (width * 1.2, 0.04), (width * 1.2, height), (0, height + 0.02, 1)]))
        point = height * random.uniform(0.55, 0.75)
        s.fill(
            [(-width * 1.22, 0), (width * 1.22, 0), (width * 1.1, 0.3), (0, point), (-width * 1.1, 0.3)],
            "body",
            0.4,
        )
        s.mark(0, point - 0.3, 0.24)
        s.line(
            [(width * 1.15, 0.3), (width * 1.5, 0.7, 1), (width * 1.45, 1.5, 1), (width * 1.25, 1.2)],
            0.12,
            "dark",
        )
    else:
        s.line(
            [(-width * 0.7, 0.3), (-width * 0.6, -1.4, 1), (width * 0.6, -1.4, 1), (width * 0.7, 0.3)],
            0.16,
            "dark",
        )
        s.fill(oval(0, 0.05, width * 0.78, 0.26), "inner")
        s.fill(
            mirrored(
                [
                    (0, 0.3, 1),
                    (width * 0.78, 0.05),
                    (width, height * 0.8, 1),
                    (width * 0.92, height),
                    (0, height + 0.08, 1),
                ]
            )
        )
        s.line([(-width * 0.8, 0.5), (0, 0.72, 1), (width * 0.8, 0.5)], 0.1, "trim")
        s.line([(0.1, 0.7), (0.25, 1.5, 1), (0.2, 1.7)], 0.09, "trim")
        s.mark(-0.4, height * 0.7, 0.28)


def travel(s: Sketch, random: Random, *, style: str) -> None:
    """style: "backpack", "suitcase", "duffel", "drawstring"."""
    _stage(s)
    if style == "suitcase":
        _suitcase(s, random)
    elif style == "duffel":
        width, height = random.uniform(2.1, 2.5), random.uniform(1.9, 2.3)
        s.fill(
            mirrored(
                [
                    (0, 0, 1),
                    (width * 0.85, 0.05, 1),
                    (width, height * 0.4, 1),
                    (width * 0.98, height * 0.85, 1),
                    (width * 0.85, height),
                    (0, height, 1),
                ]
            )
        )
        for x in (-0.9, 0.9):
            s.line([(x, height), (x, 0.3)], 0.22, "dark")
        s.line([(-0.9, 0.4), (-0.8, -0.8, 1), (0, -1.05, 1), (0.8, -0.8, 1), (0.9, 0.4)], 0.2, "dark")
        s.seam([(-width * 0.8, 0.25), (0, 0.2, 1), (width * 0.8, 0.25)], 0.35, 0.05)
        s.mark(0, height * 0.55, 0.34)
    else:
        _backpack(s, random, drawn=style == "drawstring")


def _suitcase(s: Sketch, random: Random) -> None:
    s.gloss, s.folds = 0.8, 0.15
    width, height = random.uniform(1.2, 1.6), random.uniform(3.0, 3.7)
    for x in (-0.5, 0.5):
        s.line([(x, 0.1), (x, -1.1)], 0.1, "metal")
    s.line([(-0.55, -1.1), (0.55, -1.1)], 0.24, "sole")
    for x in (-width * 0.75, width * 0.75):
        s.fill(oval(x, height + 0.12, 0.2, 0.2), "sole")
    s.fill(
        mirrored(
            [
                (0, 0),
                (width * 0.85, 0),
                (width, 0.1, 1),
                (width, 0.3),
                (width, height - 0.3),
                (width * 0.97, height - 0.05, 1),
                (width * 0.8, height),
                (0, height),
            ]
        )
    )
    ribs = random.randint(4, 7)
    for i in range(ribs):
        x = -width + 2 * width * (i + 0.5) / ribs
        s.seam([(x, 0.2), (x, height - 0.2)], 0.2, 0.05)
        s.seam([(x + 0.08, 0.2), (x + 0.08, height - 0.2)], -0.12, 0.05)
    s.mark(0, 0.6, 0.22)


def _backpack(s: Sketch, random: Random, drawn: bool) -> None:
    width, height = random.uniform(1.25, 1.6), random.uniform(3.0, 3.6)
    for side in (1, -1):
        s.line(
            [(side * width * 0.6, 0.2), (side * width * 1.3, 1.2, 1), (side * width * 0.95, height * 0.9)],
            0.26,
            "dark",
        )
    if drawn:
        s.fill(
            mirrored(
                [
                    (0, 0.1, 1),
                    (width * 0.6, 0.0),
                    (width * 0.62, 0.35, 1),
                    (width, 1.0, 1),
                    (width * 0.98, height),
                    (0, height, 1),
                ]
            )
        )
        for i in range(7):
            x = (i / 6 * 2 - 1) * width * 0.55
            s.seam([(x, 0.05), (x * 1.25, 0.9)], 0.25, 0.04)
        s.line([(-width * 0.6, 0.32), (0, 0.4, 1), (width * 0.6, 0.32)], 0.1, "trim")
        s.mark(0, height * 0.6, 0.4)
        return
    s.line([(-0.35, 0.05), (-0.3, -0.5, 1), (0.3, -0.5, 1), (0.35, 0.05)], 0.16, "dark")
    s.fill(
        mirrored(
            [
                (0, -0.1, 1),
                (width * 0.7, 0.05, 1),
                (width, 0.9, 1),
                (width, height - 0.3),
                (width * 0.9, height),
                (0, height, 1),
            ]
        )
    )
    pocket = height * random.uniform(0.5, 0.62)
    s.fill(
        mirrored(
            [
                (0, pocket, 1),
                (width * 0.72, pocket + 0.03),
                (width * 0.75, height - 0.15),
                (0, height - 0.1, 1),
            ]
        ),
        random.choice(("body", "accent")),
        0.4,
    )
    s.seam([(-width * 0.85, pocket - 0.45), (0, pocket - 0.8, 1), (width * 0.85, pocket - 0.45)], 0.35, 0.05)
    s.mark(0, pocket + 0.45, 0.22)
