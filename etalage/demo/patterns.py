"""What the demo shop's products are painted with: colours, patterns, brand marks."""

import math
from collections.abc import Callable
from functools import cache
from random import Random

from PIL import Image, ImageDraw

from etalage.demo.sketch import Colour

Polygon = list[tuple[float, float]]
_SHEET = 384

COLOURS: dict[str, Colour] = {
    "black": (44, 44, 48), "white": (238, 236, 230), "cream": (235, 224, 200), "grey": (152, 154, 158),
    "charcoal": (78, 80, 86), "navy": (36, 50, 88), "blue": (62, 108, 178), "sky": (150, 188, 220),
    "teal": (28, 120, 122), "green": (58, 122, 80), "olive": (118, 120, 70), "sage": (158, 178, 150),
    "mustard": (212, 164, 54), "yellow": (240, 208, 98), "orange": (224, 128, 64), "rust": (172, 88, 56),
    "red": (188, 48, 54), "burgundy": (112, 34, 50), "pink": (234, 168, 180), "fuchsia": (200, 64, 128),
    "lilac": (184, 166, 212), "purple": (106, 70, 138), "brown": (114, 80, 58), "tan": (194, 152, 108),
    "beige": (220, 203, 176),
}  # fmt: skip

PARTNERS: dict[str, tuple[str, ...]] = {
    "black": ("white", "mustard", "red", "beige"), "white": ("navy", "red", "sage", "black", "sky"),
    "cream": ("rust", "navy", "olive", "burgundy"), "grey": ("white", "charcoal", "yellow", "pink"),
    "charcoal": ("grey", "white", "mustard"), "navy": ("white", "cream", "red", "sky"),
    "blue": ("white", "navy", "yellow"), "sky": ("white", "navy", "cream"),
    "teal": ("cream", "mustard", "white"), "green": ("cream", "white", "pink"),
    "olive": ("cream", "rust", "black"), "sage": ("white", "cream", "green"),
    "mustard": ("white", "charcoal", "teal"), "yellow": ("white", "grey", "blue"),
    "orange": ("cream", "white", "navy"), "rust": ("cream", "beige", "navy"),
    "red": ("white", "cream", "navy"), "burgundy": ("pink", "cream", "beige"),
    "pink": ("white", "red", "burgundy"), "fuchsia": ("white", "pink", "orange"),
    "lilac": ("white", "purple", "cream"), "purple": ("lilac", "cream", "pink"),
    "brown": ("beige", "cream", "sky"), "tan": ("white", "brown", "black"),
    "beige": ("white", "brown", "black", "olive"),
}  # fmt: skip


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of the other colour in the one."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(one, other, strict=True))
    return r, g, b


def _plain(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, base: Colour, second: Colour, random: Random
) -> None:
    return


def _stripes(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, base: Colour, second: Colour, random: Random
) -> None:
    pitch = random.uniform(15, 46)
    share = random.choice((0.25, 0.4, 0.5))
    slant = random.gauss(0, 0.05)
    if random.random() < 0.2:
        slant = random.choice((-1.0, 1.0))
    upright = random.random() < 0.35
    offset = -2 * _SHEET + random.uniform(0, pitch)
    while offset < 2 * _SHEET:
        far = offset + slant * _SHEET
        band = [(0, offset), (_SHEET, far), (_SHEET, far + pitch * share), (0, offset + pitch * share)]
        pen.polygon([(y, x) if upright else (x, y) for x, y in band], fill=second)
        offset += pitch


def _dots(sheet: Image.Image, pen: ImageDraw.ImageDraw, base: Colour, second: Colour, random: Random) -> None:
    pitch = random.uniform(22, 50)
    radius = pitch * random.uniform(0.16, 0.32)
    row, y = 0, random.uniform(-pitch, 0)
    while y < _SHEET + pitch:
        x = -pitch + (row % 2) * pitch / 2
        while x < _SHEET + pitch:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=second)
            x += pitch
        row, y = row + 1, y + pitch * 0.8


def _checks(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, base: Colour, second: Colour, random: Random
) -> None:
    pitch = random.uniform(28, 64)
    band = pitch * random.uniform(0.35, 0.5)
    half = mixed(base, second, 0.5)
    starts = [i * pitch - random.random() for i in range(-1, int(_SHEET / pitch) + 2)]
    for at in starts:
        pen.rectangle((at, 0, at + band, _SHEET), fill=half)
        pen.rectangle((0, at, _SHEET, at + band), fill=half)
    for x in starts:
        for y in starts:
            pen.rectangle((x, y, x + band, y + band), fill=second)
    if random.random() < 0.5:
        fine = mixed(second, (255, 255, 255), 0.5)
        for at in starts:
            middle = at + (pitch + band) / 2
            pen.line((middle, 0, middle, _SHEET), fill=fine, width=2)
            pen.line((0, middle, _SHEET, middle), fill=fine, width=2)


def _floral(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, base: Colour, second: Colour, random: Random
) -> None:
    pitch = random.uniform(36, 62)
    size = pitch * random.uniform(0.16, 0.22)
    leaf = mixed(base, (70, 120, 80), 0.6)
    heart = mixed(second, (236, 190, 70), 0.75)
    for row in range(int(_SHEET / pitch) + 2):
        for column in range(int(_SHEET / pitch) + 2):
            x = (column + (row % 2) / 2) * pitch + random.uniform(-0.2, 0.2) * pitch
            y = row * pitch + random.uniform(-0.2, 0.2) * pitch
            turn = random.uniform(0, math.tau)
            lx, ly = x + 2.0 * size * math.cos(turn), y + 2.0 * size * math.sin(turn)
            pen.ellipse((lx - size, ly - size * 0.5, lx + size, ly + size * 0.5), fill=leaf)
            for petal in range(5):
                angle = turn + petal * math.tau / 5
                px, py = x + size * math.cos(angle), y + size * math.sin(angle)
                pen.ellipse((px - size * 0.7, py - size * 0.7, px + size * 0.7, py + size * 0.7), fill=second)
            pen.ellipse((x - size * 0.5, y - size * 0.5, x + size * 0.5, y + size * 0.5), fill=heart)


def _gradient(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, base: Colour, second: Colour, random: Random
) -> None:
    ramp = Image.linear_gradient("L").resize((_SHEET, _SHEET))
    if random.random() < 0.5:
        ramp = ramp.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    sheet.paste(Image.new("RGB", sheet.size, second), mask=ramp)


def _blocks(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, base: Colour, second: Colour, random: Random
) -> None:
    third = mixed(second, random.choice(((255, 255, 255), base, (30, 30, 40))), 0.6)
    first = _SHEET * random.uniform(0.30, 0.55)
    slant = random.uniform(-60, 60)
    pen.polygon([(0, first), (_SHEET, first + slant), (_SHEET, _SHEET), (0, _SHEET)], fill=second)
    if random.random() < 0.6:
        low = _SHEET * random.uniform(0.60, 0.78)
        pen.polygon([(0, low), (_SHEET, low + slant), (_SHEET, _SHEET), (0, _SHEET)], fill=third)


_DRAWN: dict[str, Callable[[Image.Image, ImageDraw.ImageDraw, Colour, Colour, Random], None]] = {
    "plain": _plain, "striped": _stripes, "dotted": _dots, "checked": _checks,
    "floral": _floral, "ombré": _gradient, "colour-block": _blocks,
}  # fmt: skip
PATTERNS: tuple[str, ...] = tuple(_DRAWN)


def texture(pattern: str, base: Colour, second: Colour, random: Random) -> Image.Image:
    """A sheet of cloth, 384 × 384 RGB."""
    sheet = Image.new("RGB", (_SHEET, _SHEET), base)
    _DRAWN[pattern](sheet, ImageDraw.Draw(sheet), base, second, random)
    return sheet


def _ngon(corners: int, turn: float = 0.0, inner: float | None = None, size: float = 1.0) -> Polygon:
    count = corners if inner is None else corners * 2
    radii = [size if inner is None or i % 2 == 0 else size * inner for i in range(count)]
    angles = [turn - math.pi / 2 + math.tau * i / count for i in range(count)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _bar(x: float, width: float = 0.26, height: float = 1.0) -> Polygon:
    return [(x - width, -height), (x + width, -height), (x + width, height), (x - width, height)]


def _tick(y: float) -> Polygon:
    return [(-1, y), (0, y - 0.7), (1, y), (1, y + 0.45), (0, y - 0.25), (-1, y + 0.45)]


@cache
def marks() -> list[list[Polygon]]:
    """The brands' marks, each some polygons in [-1, 1]², in the order of the brands."""
    return [
        [_ngon(14)],
        [_ngon(3)],
        [_ngon(4)],
        [_ngon(5, inner=0.42)],
        [_bar(-0.7), _bar(0.0), _bar(0.7)],
        [_tick(-0.1), _tick(0.7)],
        [_ngon(6)],
        [_bar(0.0, 0.28), [(-1, -0.28), (1, -0.28), (1, 0.28), (-1, 0.28)]],
        [_ngon(3, math.pi)],
        [_ngon(8, inner=0.5)],
        [[(-1, -0.9), (0.1, -0.9), (0.1, 0.9), (-1, 0.9)], [(0.35, -0.9), (1, -0.9), (1, 0.9), (0.35, 0.9)]],
        [[(-1, 0.5), (1, 0.5), (1, 0.9), (-1, 0.9)], _ngon(12, size=0.6)],
        [_ngon(4, inner=0.35)],
        [[(-1, -1), (1, 1), (-1, 1)]],
        [
            [(x - 0.6, y * 0.9) for x, y in _ngon(10, size=0.5)],
            [(x + 0.6, y) for x, y in _ngon(10, size=0.5)],
        ],
        [[(-1, -1), (1, -1), (0.2, 0), (1, 1), (-1, 1), (-0.2, 0)]],
        [[(-1, -0.2), (0, -1), (1, -0.2), (1, 1), (-1, 1)]],
        [_bar(-0.45, 0.3), [(-0.1, -1), (1, 0), (-0.1, 1)]],
        [[(-1, -0.8), (1, -0.8), (0, 0.1)], [(-1, 0.1), (1, 0.1), (0, 1)]],
        [_ngon(7, inner=0.7)],
        [[(-0.2, -1), (1, -1), (0.2, 1), (-1, 1)]],
        [_ngon(3, inner=0.25)],
        [[(-1, -1), (-0.3, -1), (-0.3, 0.3), (1, 0.3), (1, 1), (-1, 1)]],
        [[(-1, -1), (1, -1), (1, -0.4), (0.3, -0.4), (0.3, 1), (-0.3, 1), (-0.3, -0.4), (-1, -0.4)]],
    ]
