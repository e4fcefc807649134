"""Outlines of the demo shop's dresses, tops, knitwear and coats.

One unit is about half the width of the shoulders.
"""

from random import Random

from etalage.demo.sketch import Point, Sketch, mirrored


def _neckline(random: Random, kind: str) -> tuple[list[Point], float]:
    """The right half of a neckline, from the middle to the shoulder, and its half-width."""
    width = random.uniform(0.36, 0.48)
    depth = random.uniform(0.32, 0.6)
    if kind == "slip":
        return [(0, random.uniform(1.1, 1.4)), (0.5, 0.85), (0.55, 0)], 0.55
    if kind == "v":
        return [(0, depth * random.uniform(1.6, 2.3)), (width, 0)], width
    if kind == "boat":
        return [(0, 0.2, 1), (width + 0.2, 0.05)], width + 0.2
    if kind == "square":
        return [(0, depth * 1.7), (width + 0.06, depth * 1.7), (width + 0.12, 0)], width + 0.12
    if kind == "high":
        return [(0, -0.12, 1), (width, -0.1)], width
    return [(0, depth, 1), (width * 0.75, depth * 0.62, 1), (width, 0)], width


def _sleeves(s: Sketch, random: Random, shoulder: float, chest: float, length: float, width: float) -> None:
    spread = random.uniform(0.16, 0.5) if length > 1 else random.uniform(0.5, 0.9)
    puff = random.uniform(0.0, 0.06)
    for side in (1, -1):
        out = (shoulder + length * spread, 0.25 + length * (1 - spread * spread * 0.5))
        inner = (out[0] - width * (1 - spread * 0.45), out[1] + width * spread * 0.55)
        outline: list[Point] = [
            (side * (shoulder - 0.25), 0.1),
            (side * shoulder, 0.2 - puff, 1),
            (side * (shoulder + length * spread * 0.55 + puff), 0.25 + length * 0.48, 1),
            (side * out[0], out[1]),
            (side * inner[0], inner[1]),
            (side * (chest + 0.02), 1.25),
            (side * (chest - 0.3), 0.9),
        ]
        s.fill(outline)
        s.seam(
            [
                (side * (chest + 0.1), 1.2),
                (side * (shoulder + 0.25), 1.0, 1),
                (side * (inner[0] + 0.1), inner[1] - 0.4),
            ],
            0.14,
        )
        if length > 1:
            share = 0.93
            s.seam(
                [
                    (side * (shoulder + (out[0] - shoulder) * share), 0.25 + (out[1] - 0.25) * share),
                    (side * (chest + (inner[0] - chest) * share), 1.25 + (inner[1] - 1.25) * share),
                ],
                0.22,
            )


def _bodice(
    s: Sketch, random: Random, *, length: float, waist: float, hem: float, neck: str, sleeve: float,
    sleeve_width: float = 0.5, chest: float = 0.98, waist_at: float = 2.1,
) -> None:  # fmt: skip
    """The front of anything worn on the upper body, with its sleeves (length 0: straps)."""
    shoulder = random.uniform(0.92, 1.05)
    neckline, width = _neckline(random, neck)
    s.fill(
        mirrored([(0, -0.06, 1), (width, 0.0), (width * 0.9, 0.45, 1), (0, neckline[0][1] + 0.12, 1)]),
        "inner",
    )
    if sleeve:
        _sleeves(s, random, shoulder, chest, sleeve, sleeve_width)
        arm: list[Point] = [(shoulder, 0.2), (chest - 0.02, 0.75, 1), (chest, 1.25)]
    else:
        strap = width + (0.07 if neck == "slip" else random.uniform(0.1, 0.3))
        arm = [(strap, 0.03), (strap + 0.08, 0.7, 1), (chest, 1.2)]
    skirt: list[Point] = [(waist, waist_at, 1), (hem, length), (0, length + random.uniform(0.02, 0.16), 1)]
    s.fill(mirrored([*neckline, *arm, *skirt]))
    s.seam([(-hem + 0.02, length - 0.12), (0, length, 1), (hem - 0.02, length - 0.12)], 0.14)


def drapes(
    s: Sketch, random: Random, top: float, bottom: float, waist: float, hem: float, count: int
) -> None:
    """Folds that fan out from the waist to the hem."""
    for i in range(count):
        share = (i + 0.5 + random.uniform(-0.25, 0.25)) / count * 2 - 1
        low = bottom - random.uniform(0.0, 0.15) * (bottom - top)
        x, w = share * hem * 0.92, hem * random.uniform(0.05, 0.11)
        s.shade([(share * waist * 0.8, top), (x + w, low), (x - w, low)], random.uniform(0.06, 0.15))


def dress(s: Sketch, random: Random, *, length: float, style: str) -> None:
    """A dress: style is "flared", "slip", "shirt" or "wrap"."""
    length += random.uniform(-0.35, 0.35)
    waist = random.uniform(0.66, 0.84)
    hem = waist + (length - 2) * random.uniform(0.12, 0.3) + random.uniform(0.1, 0.35)
    if style == "slip":
        waist, hem = waist + 0.06, waist + random.uniform(0.25, 0.5)
    neck = {"slip": "slip", "wrap": "v", "shirt": "high"}.get(style) or random.choice(
        ("round", "v", "boat", "square")
    )
    sleeve = 0.0 if style == "slip" else random.choice((0.0, 0.75, 0.9, 1.7, 2.6))
    if style in ("shirt", "wrap"):
        sleeve = random.choice((0.9, 1.8, 2.6))
    _bodice(s, random, length=length, waist=waist, hem=hem, neck=neck, sleeve=sleeve,
            sleeve_width=random.uniform(0.4, 0.62))  # fmt: skip
    drapes(s, random, 2.2, length, waist, hem, random.randint(3, 6))
    if style == "shirt":
        _placket(s, -0.05, length, random.randint(6, 9))
        _collar(s, random)
    if style == "wrap":
        s.seam([(0.42, 0.05), (-0.5, 2.0), (0.3, length)], 0.3)
    if style in ("wrap", "shirt") or (style == "flared" and random.random() < 0.4):
        s.fill(
            [(-waist - 0.02, 2.0), (waist + 0.02, 2.0), (waist + 0.02, 2.2), (-waist - 0.02, 2.2)], "accent"
        )
    s.mark(0.45, 1.4, 0.1)


def _placket(s: Sketch, top: float, bottom: float, buttons: int, paint: str = "trim") -> None:
    s.seam([(0.1, top), (0.1, bottom)], 0.2)
    for i in range(buttons):
        y = top + (bottom - top) * (i + 0.6) / buttons
        s.fill([(-0.06, y - 0.06), (0.06, y - 0.06), (0.06, y + 0.06), (-0.06, y + 0.06)], paint, 0.4)


def _collar(s: Sketch, random: Random) -> None:
    wide, drop = random.uniform(0.45, 0.62), random.uniform(0.35, 0.55)
    for side in (1, -1):
        s.fill([(0, 0.12), (side * 0.32, -0.14), (side * wide, 0.08), (side * 0.38, drop)], "body", 0.35)


def top(s: Sketch, random: Random, *, style: str) -> None:
    """style: "tee", "long", "tank", "shirt", "blouse", "polo"."""
    length = random.uniform(2.6, 3.4)
    hem = random.uniform(0.86, 1.1)
    sleeve = {"tee": random.uniform(0.7, 1.1), "polo": random.uniform(0.7, 1.0), "tank": 0.0}.get(style, 2.6)
    if style == "blouse":
        sleeve = random.choice((1.6, 2.5))
        hem += 0.15
    neck = {"shirt": "high", "polo": "high", "blouse": random.choice(("v", "boat")), "tank": "round"}.get(
        style
    )
    _bodice(s, random, length=length, waist=hem - random.uniform(0.02, 0.12), hem=hem,
            neck=neck or random.choice(("round", "v", "round")), sleeve=sleeve,
            sleeve_width=random.uniform(0.42, 0.56) + (0.25 if style == "blouse" else 0))  # fmt: skip
    if style == "shirt":
        _placket(s, 0.0, length, 6)
        _collar(s, random)
        s.seam([(0.3, 1.0), (0.75, 1.0), (0.75, 1.5), (0.52, 1.6), (0.3, 1.5), (0.3, 1.0)], 0.22)
    elif style == "polo":
        _placket(s, 0.0, 1.0, 3)
        _collar(s, random)
    elif style == "blouse":
        drapes(s, random, 0.8, length, 0.8, hem, 5)
        s.fill([(-0.08, 0.75), (0.08, 0.75), (0.3, 1.7), (0.05, 1.5), (-0.05, 1.8), (-0.25, 1.6)], "accent")
    s.mark(0.5, 1.25 if style == "shirt" else 0.95, 0.13)


def knit(s: Sketch, random: Random, *, style: str) -> None:
    """style: "jumper", "cardigan", "roll"."""
    length, hem = random.uniform(2.7, 3.3), random.uniform(0.92, 1.1)
    neck = {"cardigan": "v", "roll": "high"}.get(style, "round")
    _bodice(s, random, length=length, waist=hem + random.uniform(0.0, 0.12), hem=hem, neck=neck,
            sleeve=random.uniform(2.4, 2.8), sleeve_width=random.uniform(0.5, 0.68), chest=1.06)  # fmt: skip
    for i in range(18):
        x = -hem + 2 * hem * (i + 0.5) / 18
        s.seam([(x, length - 0.34), (x, length)], 0.16)
    s.seam([(-hem, length - 0.36), (hem, length - 0.36)], 0.2)
    if random.random() < 0.4:
        for x in (-0.5, 0.0, 0.5):
            s.seam([(x + (0.08 if k % 2 else -0.08), 0.8 + k * 0.22, 1) for k in range(8)], 0.15, 0.06)
    if style == "roll":
        s.fill([(-0.42, 0.1), (-0.4, -0.55), (0, -0.6, 1), (0.4, -0.55), (0.42, 0.1), (0, 0.22, 1)])
        s.seam([(-0.4, -0.22), (0, -0.14, 1), (0.4, -0.22)], 0.22)
    elif style == "cardigan":
        s.seam([(0, 0.8), (0, length)], 0.35, 0.05)
        for i in range(5):
            y = 1.1 + i * (length - 1.3) / 5
            s.fill([(-0.17, y), (-0.05, y), (-0.05, y + 0.12), (-0.17, y + 0.12)], "trim", 0.4)
    else:
        s.line([(-0.42, 0.05), (-0.3, 0.38, 1), (0, 0.5, 1), (0.3, 0.38, 1), (0.42, 0.05)], 0.12, "dark")
    s.mark(-0.55, length - 0.7, 0.13)


def coat(s: Sketch, random: Random, *, style: str) -> None:
    """style: "coat", "trench", "puffer", "biker", "blazer", "rain"."""
    span = {"coat": (4.6, 5.6), "trench": (4.6, 5.4), "rain": (3.7, 4.3), "blazer": (3.2, 3.6)}
    low, high = span.get(style, (2.6, 3.1))
    length = random.uniform(low, high)
    hem = random.uniform(1.0, 1.2) + (0.15 if style in ("trench", "rain") else 0.0)
    waist = 0.88 if style in ("trench", "blazer") else hem - 0.04
    chest = 1.22 if style == "puffer" else 1.05
    neck = "high" if style in ("puffer", "rain") else "v"
    _bodice(s, random, length=length, waist=waist, hem=hem, neck=neck, sleeve=2.7, chest=chest,
            sleeve_width=0.78 if style == "puffer" else random.uniform(0.52, 0.64))  # fmt: skip
    s.seam([(0.04, 0.9 if neck == "v" else 0.0), (0.04, length)], 0.35, 0.03)
    if style == "puffer":
        for k in range(5):
            y = 0.55 + k * (length - 0.6) / 5
            s.seam([(-1.15, y), (0, y + 0.1, 1), (1.15, y)], 0.28, 0.04)
            s.seam([(-1.1, y + 0.16), (0, y + 0.26, 1), (1.1, y + 0.16)], -0.12, 0.12)
    if style in ("puffer", "rain"):
        s.fill([(-0.5, 0.2), (-0.6, -0.5, 1), (0, -0.85, 1), (0.6, -0.5, 1), (0.5, 0.2), (0, 0.4, 1)])
        s.fill(
            [(-0.36, 0.1), (-0.4, -0.3, 1), (0, -0.55, 1), (0.4, -0.3, 1), (0.36, 0.1), (0, 0.22, 1)], "inner"
        )
    else:
        _lapels(s, random, 1.7 if style != "biker" else 1.2)
    if style in ("coat", "trench", "blazer"):
        for y in (2.2, 2.8) if style == "blazer" else (1.9, 2.6, 3.3):
            for x in (-0.2, 0.28) if style == "trench" else (0.16,):
                s.fill(
                    [(x - 0.06, y - 0.06), (x + 0.06, y - 0.06), (x + 0.06, y + 0.06), (x - 0.06, y + 0.06)],
                    "trim",
                    0.4,
                )
    if style == "trench":
        s.fill([(-0.92, 2.15), (0.92, 2.15), (0.92, 2.4), (-0.92, 2.4)], "dark")
        s.fill([(-0.14, 2.1), (0.16, 2.1), (0.16, 2.45), (-0.14, 2.45)], "metal")
    if style == "biker":
        s.line([(0.55, 0.9), (-0.12, length)], 0.05, "metal")
        s.line([(-0.9, length - 0.1), (0.9, length - 0.1)], 0.1, "dark")
    for side in (1, -1):
        at = length * 0.62 if length < 4 else 3.0
        s.seam([(side * 0.4, at), (side * 0.82, at - 0.16)], 0.32, 0.03)
    s.mark(0.62, 1.2, 0.12)


def _lapels(s: Sketch, random: Random, depth: float) -> None:
    wide = random.uniform(0.55, 0.75)
    for side in (1, -1):
        s.fill(
            [
                (side * 0.4, 0.02),
                (side * wide, 0.35),
                (side * (wide - 0.12), 0.55),
                (side * wide, 0.62),
                (side * 0.02, depth),
            ],
            "body",
            0.35,
        )
