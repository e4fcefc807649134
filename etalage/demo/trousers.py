"""Outlines of the demo shop's trousers and skirts, in the units of garments."""

from random import Random

from etalage.demo.garments import drapes
from etalage.demo.sketch import Sketch, mirrored


def trousers(s: Sketch, random: Random, *, style: str) -> None:
    """style: "jeans", "wide", "shorts", "leggings"."""
    waist, hip = random.uniform(0.68, 0.8), random.uniform(0.9, 1.02)
    length = {"shorts": random.uniform(2.4, 3.1)}.get(style, random.uniform(5.6, 6.4))
    spans = {"wide": (1.15, 1.5), "leggings": (0.48, 0.56), "shorts": (1.05, 1.25)}
    outer = random.uniform(*spans.get(style, (0.72, 0.95)))
    inner = {"leggings": 0.2, "wide": 0.12}.get(style, 0.24)
    gap = random.uniform(0.0, 0.18)
    s.fill(
        mirrored(
            [
                (0, 0.02, 1),
                (waist, 0),
                (hip, 1.1, 1),
                (outer + gap, length),
                (inner + gap * 0.7, length + 0.04),
                (0, 1.85),
            ]
        )
    )
    s.seam([(0, 0.2), (0, 1.85)], 0.28)
    s.seam([(-waist - 0.02, 0.26), (waist + 0.02, 0.26)], 0.24)
    for side in (1, -1):
        middle = (outer + inner) / 2 + gap * 0.8
        if style == "wide":
            s.seam([(side * 0.45, 0.4), (side * 0.5, 2.5, 1), (side * middle, length)], 0.14)
        else:
            s.shade([(side * 0.3, 2.2), (side * 0.62, 2.4), (side * middle, length * 0.9)], -0.09)
        s.seam([(side * 0.35, 0.3), (side * 0.6, 0.7, 1), (side * hip, 0.75)], 0.22)
        if style == "jeans":
            s.seam([(side * (outer + gap), length - 0.16), (side * (inner + gap * 0.7), length - 0.14)], -0.2)
    if style == "jeans":
        s.fill([(0.02, 0.06), (0.12, 0.06), (0.12, 0.18), (0.02, 0.18)], "metal")
    s.mark(-0.5, 0.55, 0.12)


def skirt(s: Sketch, random: Random, *, style: str) -> None:
    """style: "mini", "pleated", "maxi", "pencil"."""
    waist = random.uniform(0.66, 0.78)
    length = {"mini": random.uniform(1.7, 2.2), "maxi": random.uniform(4.4, 5.2)}.get(
        style, random.uniform(2.9, 3.5)
    )
    hem = {"pencil": waist + 0.08, "mini": waist + 0.5}.get(style, waist + random.uniform(0.6, 1.0))
    hip = waist + (0.28 if style == "pencil" else 0.2)
    s.fill(
        mirrored(
            [
                (0, 0.04, 1),
                (waist, 0),
                (hip, 0.9, 1),
                (hem, length),
                (0, length + random.uniform(0.05, 0.2), 1),
            ]
        )
    )
    if style == "pleated":
        for i in range(9):
            share = (i + 0.5) / 9 * 2 - 1
            s.seam([(share * waist, 0.3), (share * hem, length)], 0.26, 0.03)
            s.shade([(share * waist, 0.3), (share * hem + 0.14, length), (share * hem, length)], 0.1)
    else:
        drapes(s, random, 0.3, length, waist, hem, 2 if style == "pencil" else 5)
    if style == "pencil":
        s.seam([(0.3, length - 0.9), (0.3, length)], 0.4, 0.05)
    s.fill(
        [
            (-waist, 0.0),
            (0, 0.05, 1),
            (waist, 0.0),
            (waist + 0.03, 0.26),
            (0, 0.32, 1),
            (-waist - 0.03, 0.26),
        ],
        "dark",
    )
    s.mark(waist * 0.6, 0.6, 0.09)
