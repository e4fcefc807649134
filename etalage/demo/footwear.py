"""Outlines of the demo shop's shoes, seen from the side: heel at x = 0, toe at 4, floor at y = 0."""

from random import Random

from etalage.demo.sketch import Point, Sketch


def _stage(s: Sketch) -> None:
    s.standing, s.flip, s.folds, s.gloss = True, True, 0.6, 0.4


def trainer(s: Sketch, random: Random, *, style: str) -> None:
    """style: "low", "high", "runner"."""
    _stage(s)
    sole = random.uniform(0.28, 0.45) + (0.15 if style == "runner" else 0.0)
    collar = -sole - (random.uniform(2.0, 2.5) if style == "high" else random.uniform(1.15, 1.4))
    tongue = collar - random.uniform(0.1, 0.25)
    vamp = -sole - random.uniform(0.75, 0.95)
    back = random.uniform(-0.05, 0.12)
    upper: list[Point] = [
        (0.1, -sole), (back, -sole - 0.7, 1), (back + 0.12, collar), (0.75, collar + 0.15, 1),
        (1.25, tongue), (1.55, tongue + 0.1), (2.4, vamp - 0.15, 1), (3.3, -sole - 0.58, 1),
        (3.95, -sole - 0.2, 1), (4.0, -sole),
    ]  # fmt: skip
    s.fill(
        [
            (back + 0.12, collar + 0.03),
            (0.6, collar + 0.28, 1),
            (1.3, tongue + 0.05),
            (0.7, collar - 0.08, 1),
        ],
        "inner",
    )
    s.fill(upper)
    s.fill(
        [
            (2.9, -sole),
            (3.0, -sole - 0.45, 1),
            (3.35, -sole - 0.57, 1),
            (3.92, -sole - 0.24, 1),
            (4.0, -sole),
        ],
        "accent",
    )
    if random.random() < 0.7:
        s.fill([(0.1, -sole), (back + 0.03, -sole - 0.75, 1), (0.5, -sole - 0.7, 1), (0.85, -sole)], "accent")
    steps = 6 if style == "high" else 4
    for k in range(steps):
        share = k / (steps - 1)
        x = 1.5 + share * 0.95
        y = tongue + 0.28 + share * (vamp - tongue - 0.3)
        s.line([(x - 0.22, y + 0.12), (x + 0.22, y - 0.02)], 0.09, "trim")
    if style == "runner":
        s.fill(
            [
                (-0.15, -sole + 0.1),
                (0.0, -sole - 0.06),
                (4.05, -sole - 0.02),
                (4.25, -0.25, 1),
                (3.6, 0),
                (0.3, 0),
                (0, -0.1),
            ],
            "sole",
        )
        for k in range(3):
            s.fill(
                [
                    (0.9 + k * 0.42, -sole - 0.1),
                    (1.05 + k * 0.42, -sole - 0.1),
                    (1.5 + k * 0.34, vamp + 0.1),
                    (1.38 + k * 0.34, vamp + 0.1),
                ],
                "accent",
                0.15,
            )
    else:
        s.fill(
            [(0.0, -sole - 0.03), (4.05, -sole - 0.03), (4.1, -sole * 0.5, 1), (4.0, 0), (0.05, 0)], "sole"
        )
    s.seam([(0.1, -sole * 0.5), (4.0, -sole * 0.5)], 0.14)
    s.mark(1.15 if style != "high" else 0.7, -sole - (0.55 if style != "high" else 1.3), 0.2)


def boot(s: Sketch, random: Random, *, style: str) -> None:
    """style: "ankle", "chelsea", "knee", "wellington"."""
    _stage(s)
    shaft = {"knee": random.uniform(4.8, 5.6), "wellington": random.uniform(3.7, 4.3)}.get(
        style, random.uniform(2.1, 2.6)
    )
    heel = {"ankle": random.uniform(0.6, 1.1), "knee": random.uniform(0.3, 1.0)}.get(style, 0.35)
    wide = {"wellington": 1.95, "knee": 1.7}.get(style, 1.55)
    toe = -heel * 0.35
    upper: list[Point] = [
        (0.12, -heel), (0.0, -heel - 0.9, 1), (0.15, -shaft * 0.6, 1), (-0.05, -shaft),
        (wide, -shaft - random.uniform(-0.05, 0.12)), (wide - 0.05, -heel - 1.35, 1),
        (2.5, -heel * 0.6 - 0.95, 1),
        (3.6, toe - 0.6, 1), (3.95, toe - 0.1), (2.4, toe - 0.08), (1.3, -heel, 1),
    ]  # fmt: skip
    s.fill(upper)
    s.fill(
        [(-0.05, -shaft), (0.8, -shaft - 0.14, 1), (wide, -shaft - 0.04), (0.8, -shaft + 0.14, 1)], "inner"
    )
    if style == "wellington":
        s.gloss, s.folds = 0.9, 0.2
        s.fill([(0.0, -0.3), (3.95, -0.3), (4.02, 0), (0, 0)], "sole")
        s.fill(
            [(-0.04, -shaft + 0.05), (wide, -shaft + 0.05), (wide, -shaft + 0.35), (0.0, -shaft + 0.35)],
            "accent",
        )
        s.seam([(0.45, -shaft + 0.6), (0.5, -1.4)], -0.3, 0.14)
    else:
        s.fill(
            [(0.08, -heel - 0.04), (1.15, -heel - 0.02), (1.1 - heel * 0.12, 0), (0.2 + heel * 0.1, 0)],
            "sole",
        )
        s.fill(
            [
                (1.0, -heel),
                (1.5, -heel * 0.9, 1),
                (2.4, toe - 0.1),
                (3.95, toe - 0.12),
                (4.02, 0),
                (2.5, 0),
                (1.6, -heel * 0.6, 1),
            ],
            "sole",
        )
        s.shade([(0.9, -shaft + 0.3), (1.15, -shaft + 0.3), (1.1, -heel - 1.2), (0.9, -heel - 1.0)], -0.14)
    if style == "chelsea":
        s.fill(
            [(0.45, -shaft + 0.1), (1.1, -shaft + 0.1), (0.98, -heel - 0.75), (0.68, -heel - 0.75)], "dark"
        )
        s.line([(0.0, -shaft - 0.2), (0.06, -shaft + 0.2)], 0.14, "dark")
    elif style == "ankle":
        for k in range(4):
            y = -shaft + 0.3 + k * 0.33
            s.line([(wide - 0.5, y + 0.05), (wide + 0.1 + k * 0.06, y)], 0.08, "trim")
    elif style == "knee":
        s.seam([(0.75, -shaft), (0.7, -heel - 0.3)], 0.3, 0.04)
        s.line([(0.1, -heel - 1.3), (1.6, -heel - 1.35)], 0.14, "dark")
    s.mark(0.85, -heel - 1.7 if style == "wellington" else -heel - 0.4, 0.18)


def sandal(s: Sketch, random: Random, *, style: str) -> None:
    """style: "flat", "slide", "heeled"."""
    _stage(s)
    if style == "heeled":
        _heeled_sandal(s, random)
        return
    thick = random.uniform(0.25, 0.4) if style == "flat" else random.uniform(0.45, 0.7)
    s.fill(
        [
            (0, -thick, 1),
            (2, -thick + 0.08, 1),
            (3.9, -thick),
            (4.1, -thick * 0.4, 1),
            (3.9, 0),
            (0.1, 0),
            (-0.08, -thick * 0.5, 1),
        ],
        "sole",
    )
    s.fill([(0.05, -thick, 1), (2, -thick + 0.06, 1), (3.95, -thick - 0.02), (2, -thick - 0.1, 1)], "inner")
    if style == "slide":
        back, front = random.uniform(1.2, 1.5), random.uniform(3.3, 3.6)
        peak, middle = random.uniform(0.85, 1.15), (back + front) / 2
        s.fill([(back, -thick + 0.1), (back + 0.35, -thick - peak * 0.85, 1), (middle, -thick - peak, 1),
                (front - 0.45, -thick - peak * 0.7, 1), (front, -thick + 0.08)])  # fmt: skip
        s.seam(
            [(back + 0.15, -thick), (back + 0.5, -thick - peak * 0.75, 1), (middle, -thick - peak + 0.15)],
            0.18,
        )
        s.mark(middle, -thick - peak * 0.45, 0.26)
        return
    for x in (2.2, 3.0) if random.random() < 0.6 else (2.6,):
        _strap(s, x, -thick, 0.55, random.uniform(0.2, 0.32))
    s.line(
        [
            (0.25, -thick),
            (0.2, -thick - 0.8, 1),
            (0.75, -thick - 1.15, 1),
            (1.4, -thick - 1.0, 1),
            (2.4, -thick - 0.5),
        ],
        0.2,
        "flat",
    )
    s.line([(0.2, -thick - 0.8), (0.7, -thick - 0.6, 1), (1.35, -thick - 0.9)], 0.17, "flat")
    s.fill(
        [(1.2, -thick - 1.15), (1.45, -thick - 1.15), (1.45, -thick - 0.85), (1.2, -thick - 0.85)], "metal"
    )
    s.mark(0.5, -thick * 0.5, 0.13)


def _strap(s: Sketch, x: float, y: float, high: float, band: float) -> None:
    """A strap across the foot: its far half in shadow, its near half in front."""
    s.line([(x + 0.3, y - high, 1), (x + 0.6, y - high * 0.8, 1), (x + 0.75, y)], band * 0.8, "dark")
    s.line([(x - 0.15, y), (x - 0.05, y - high * 0.75, 1), (x + 0.3, y - high)], band, "flat")


def _heeled_sandal(s: Sketch, random: Random) -> None:
    height = random.uniform(1.3, 2.0)
    block = random.uniform(0.12, 0.5)
    s.fill([(0.15, -height), (0.75, -height + 0.05), (0.35 + block, 0), (0.25, 0)], "sole")
    s.fill(
        [
            (0.0, -height - 0.1),
            (0.8, -height, 1),
            (2.3, -0.35, 1),
            (3.2, -0.12),
            (4.0, -0.14),
            (4.0, 0),
            (2.9, 0),
            (2.1, -0.15, 1),
            (0.7, -height + 0.16, 1),
            (0.05, -height + 0.06),
        ],
        "sole",
    )
    for x, y in ((2.5, -0.35), (3.1, -0.16)):
        _strap(s, x, y, 0.5, 0.24)
    s.line(
        [
            (0.1, -height),
            (0.12, -height - 0.9, 1),
            (0.6, -height - 1.25, 1),
            (1.05, -height - 1.0, 1),
            (0.5, -height - 0.75, 1),
            (0.12, -height - 0.9),
        ],
        0.15,
        "flat",
    )
    s.mark(0.45, -height + 0.0, 0.1)


def smart(s: Sketch, random: Random, *, style: str) -> None:
    """style: "court", "ballet", "loafer"."""
    _stage(s)
    height = random.uniform(0.9, 1.9) if style == "court" else random.uniform(0.2, 0.34)
    block = random.uniform(0.25, 0.65)
    cut, rise = {"loafer": (1.7, 0.62), "ballet": (2.75, 0.16)}.get(style, (2.65, 0.2))
    back = -height - random.uniform(0.8, 0.95)
    tip = 3.95 + (random.uniform(0.0, 0.3) if style == "court" else 0.0)
    dip = 0.5
    throat = -0.62 - rise * 0.75
    if style == "court":
        s.fill([(0.02, -height - 0.05), (0.9, -height * 0.86), (0.16 + block, 0), (0.14, 0)], "sole")
    if style == "loafer":
        back += 0.08
    topline: list[Point] = [
        (0.0, back),
        (0.8, -height * 0.8 - dip, 1),
        (1.7, -height * 0.42 - dip - 0.08, 1),
        (cut, throat),
    ]
    if style == "loafer":
        topline = [(0.0, back), (0.55, -height - 0.66, 1), (1.2, -height - 0.66, 1), (cut, throat)]
    far: list[Point] = [
        (cut, throat),
        (1.7, -height * 0.42 - dip - 0.3, 1),
        (0.8, -height * 0.8 - dip - 0.2, 1),
        (0.05, back),
    ]
    if style == "loafer":
        far = [(cut, throat), (1.2, -height - 0.8, 1), (0.55, -height - 0.8, 1), (0.05, back)]
    s.fill([*topline, *far[1:]], "inner")
    under: list[Point] = [
        (tip - 0.15, -0.04),
        (2.9, -0.06, 1),
        (2.0, -height * 0.36 - 0.03, 1),
        (1.0, -height * 0.82, 1),
        (0.1, -height),
    ]
    if style != "court":
        under = [(tip - 0.1, -height * 0.6), (0.1, -height)]
    s.fill(
        [
            *topline,
            (cut + 0.55, throat + (0.28 if style == "loafer" else 0.1), 1),
            (3.3, -0.62 if style == "loafer" else -0.52, 1),
            (tip - 0.06, -0.24, 1),
            *under,
        ]
    )
    if style == "court":
        s.line(
            [
                (0.1, -height),
                (1.0, -height * 0.82, 1),
                (2.0, -height * 0.36, 1),
                (2.9, -0.05, 1),
                (tip - 0.15, -0.03),
            ],
            0.09,
            "sole",
        )
    else:
        s.fill([(0.05, -height), (tip - 0.05, -height * 0.62), (tip + 0.05, 0), (0.05, 0)], "sole")
    if style == "loafer":
        s.seam([(cut + 0.1, throat + 0.1), (2.7, -0.55, 1), (3.3, -0.42)], 0.3, 0.04)
        s.fill([(1.85, throat + 0.1), (2.25, throat + 0.26), (2.5, -0.5), (2.1, -0.45)], "dark")
        s.fill(
            [(2.0, throat + 0.3), (2.3, throat + 0.36), (2.35, throat + 0.5), (2.05, throat + 0.45)], "metal"
        )
    elif style == "ballet":
        s.fill([(2.75, -0.75), (2.45, -1.0), (2.5, -0.65)], "dark")
        s.fill([(2.75, -0.75), (3.1, -0.9), (3.0, -0.58)], "dark")
    s.shade([(2.9, -0.42), (3.4, -0.38, 1), (3.5, -0.3), (3.0, -0.32)], -0.2)
    s.mark(0.42, -height - 0.4, 0.15)
