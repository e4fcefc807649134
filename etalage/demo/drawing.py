"""Turns a sketch (outlines in any unit) into a product photo: 192 × 192 RGB, with light and shadow.

Three sheets are drawn at twice the size and then halved, which is what smooths the edges: colour,
shade (seams and folds, grey = unchanged) and alpha (where the product is). They meet in numpy.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from etalage.demo.sketch import Colour, Sketch, Stroke

SIDE = 192
_SHEET = 2 * SIDE


@dataclass(frozen=True, slots=True)
class Look:
    """Everything about a photo that is not its outline."""

    texture: Image.Image  # (384, 384) RGB, what "body" is painted with
    paints: dict[str, Colour]
    mark: Sequence[Sequence[tuple[float, float]]]  # polygons in [-1, 1]²
    mark_paint: Colour
    background: Colour

    def paint(self, name: str | Colour) -> Colour:
        """The colour of that name, or the colour itself."""
        return self.paints[name] if isinstance(name, str) else name


def _placed(sketch: Sketch, random: Random) -> tuple[list[NDArray[np.float64]], float]:
    """All outlines in sheet pixels (slightly turned, scaled and moved), and pixels per unit."""
    every = np.concatenate([stroke.points for stroke in sketch.strokes])
    low, high = every.min(axis=0), every.max(axis=0)
    extent = float(max(high[0] - low[0], high[1] - low[1]))
    scale = _SHEET * random.uniform(0.58, 0.86) / extent
    angle = math.radians(random.gauss(0.0, 1.6 if sketch.standing else 5.0))
    mirror = -1.0 if sketch.flip and random.random() < 0.5 else 1.0
    turn = np.array(
        [[math.cos(angle) * mirror, math.sin(angle) * mirror], [-math.sin(angle), math.cos(angle)]]
    )
    centre = np.array([0.5 + random.gauss(0, 0.035), 0.5 + random.gauss(0, 0.03)]) * _SHEET
    moved = (every - (low + high) / 2) @ (turn * scale) + centre
    lengths = np.cumsum([len(stroke.points) for stroke in sketch.strokes])[:-1]
    return np.split(moved, lengths), scale


def _grey(strength: float) -> int:
    return max(0, min(255, round(128 * (1.0 - strength))))


def _band(points: NDArray[np.float64], width: float, closed: bool) -> list[tuple[float, float]]:
    """The outline of a line of this width: one polygon is drawn faster than joints between pieces."""
    along = np.empty_like(points)
    along[1:-1] = points[2:] - points[:-2]
    along[0], along[-1] = points[1] - points[0], points[-1] - points[-2]
    if closed:
        along[0] = along[-1] = points[1] - points[-2]
    reach = along[:, ::-1] * np.array([-0.5, 0.5]) * (width / (np.hypot(along[:, :1], along[:, 1:]) + 1e-9))
    return [(x, y) for x, y in np.concatenate([points + reach, (points - reach)[::-1]]).tolist()]


def _drawn_line(
    stroke: Stroke,
    points: NDArray[np.float64],
    scale: float,
    paint: Colour,
    pens: tuple[ImageDraw.ImageDraw, ImageDraw.ImageDraw, ImageDraw.ImageDraw],
) -> None:
    """A strap or the like: painted, with darker rims, its ends round."""
    width = max(2.0, stroke.width * scale)
    if stroke.closed:
        points = np.concatenate([points, points[:1]])
    layers = (
        (pens[0], width, paint),
        (pens[1], width + 2, _grey(0.18)),
        (pens[1], width * 0.7, _grey(-0.03)),
        (pens[2], width, 255),
    )
    for pen, wide, fill in layers:
        pen.polygon(_band(points, wide, stroke.closed), fill=fill)
        if not stroke.closed:
            for x, y in (points[0].tolist(), points[-1].tolist()):
                pen.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=fill)


def _sheets(sketch: Sketch, look: Look, random: Random) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Colour (RGB), shade (L) and alpha (L), each 384 × 384."""
    colour = look.texture.copy()
    shade = Image.new("L", (_SHEET, _SHEET), 128)
    alpha = Image.new("L", (_SHEET, _SHEET), 0)
    pens = ImageDraw.Draw(colour), ImageDraw.Draw(shade), ImageDraw.Draw(alpha)
    placed, scale = _placed(sketch, random)
    covered = False  # has anything but the texture been painted, so that "body" must be laid on again?
    for stroke, points in zip(sketch.strokes, placed, strict=True):
        path: list[tuple[float, float]] = [(x, y) for x, y in points.tolist()]
        if stroke.kind == "fill":
            covered = _filled(stroke, path, look, colour, pens, covered)
        elif stroke.kind == "line":
            _drawn_line(stroke, points, scale, look.paint(stroke.paint), pens)
            covered = True
        elif stroke.kind == "crease":
            pens[1].line(path, fill=_grey(stroke.strength), width=max(2, round(stroke.width * scale)))
        elif stroke.kind == "shade":
            pens[1].polygon(path, fill=_grey(stroke.strength))
        else:
            _marked(look, pens[0], points)
    return colour, shade, alpha


def _filled(
    stroke: Stroke,
    path: list[tuple[float, float]],
    look: Look,
    colour: Image.Image,
    pens: tuple[ImageDraw.ImageDraw, ImageDraw.ImageDraw, ImageDraw.ImageDraw],
    covered: bool,
) -> bool:
    if stroke.paint == "body":
        if covered:
            _laid(look.texture, path, colour)
    else:
        pens[0].polygon(path, fill=look.paint(stroke.paint))
        covered = True
    pens[1].polygon(path, fill=128)
    if stroke.strength:
        pens[1].line([*path, path[0]], fill=_grey(stroke.strength), width=3)
    pens[2].polygon(path, fill=255)
    return covered


def _laid(texture: Image.Image, path: list[tuple[float, float]], colour: Image.Image) -> None:
    """Lays the texture on again within the outline (only its bounding box is touched)."""
    across, down = [p[0] for p in path], [p[1] for p in path]
    left, top = max(0, int(min(across))), max(0, int(min(down)))
    right, low = min(_SHEET, int(max(across)) + 2), min(_SHEET, int(max(down)) + 2)
    if right <= left or low <= top:
        return
    stencil = Image.new("L", (right - left, low - top), 0)
    ImageDraw.Draw(stencil).polygon([(p[0] - left, p[1] - top) for p in path], fill=255)
    colour.paste(texture.crop((left, top, right, low)), (left, top), stencil)


def _marked(look: Look, pen: ImageDraw.ImageDraw, box: NDArray[np.float64]) -> None:
    centre = box.mean(axis=0)
    size = float(np.abs(box[1] - box[0]).max()) / 2
    for polygon in look.mark:
        pen.polygon([(centre[0] + x * size, centre[1] + y * size) for x, y in polygon], fill=look.mark_paint)


def _soft(sheet: Image.Image, shrink: int, radius: float) -> Image.Image:
    small = sheet.reduce(shrink).filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius))
    return small.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def _drape(random: Random, strength: float) -> NDArray[np.float32]:
    """Soft light and dark, taller than wide, as cloth falls: (192, 192) around 0."""
    cells = Image.frombytes("L", (9, 5), random.randbytes(45))
    wide = cells.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return (np.asarray(wide, dtype=np.float32) - 128.0) * np.float32(strength / 128.0)


def _light(sketch: Sketch, shade: Image.Image, alpha: Image.Image, random: Random) -> NDArray[np.float32]:
    """How bright each pixel of the product is, about 1: seams, folds, round edges, gloss."""
    seams = np.asarray(shade.reduce(2).filter(ImageFilter.BoxBlur(0.8)), dtype=np.float32) / 128.0
    body = np.asarray(_soft(alpha, 4, 2.2), dtype=np.float32) / 255.0
    slope = np.zeros((SIDE, SIDE), np.float32)
    slope[6:-6, 6:-6] = body[:-12, :-12] - body[12:, 12:]  # light from the upper left
    light = seams * (0.80 + 0.22 * body) - np.float32(0.16 + 0.12 * sketch.gloss) * slope
    if sketch.folds:
        light += _drape(random, 0.085 * sketch.folds)
    return np.asarray(light, dtype=np.float32)


def _ground(sketch: Sketch, alpha: Image.Image, random: Random) -> NDArray[np.float32]:
    """How bright the background is, the product's soft shadow included: (192, 192), about 1."""
    fall = np.linspace(random.uniform(0.0, 0.03), -random.uniform(0.0, 0.07), SIDE, dtype=np.float32)
    drift = np.linspace(-1, 1, SIDE, dtype=np.float32) * np.float32(random.uniform(-0.03, 0.03))
    ground: NDArray[np.float32] = (1.0 + fall)[:, None] + drift[None, :]
    soft = _soft(alpha, 8, 1.3 + random.random())
    if sketch.standing:
        foot = (alpha.getbbox() or (0, 0, 0, _SHEET - 20))[3] // 2
        columns = np.asarray(soft, dtype=np.float32).max(axis=0) / 255.0
        flat = np.exp(
            -(((np.arange(SIDE, dtype=np.float32) - foot) / np.float32(random.uniform(4.0, 7.0))) ** 2)
        )
        ground -= np.float32(random.uniform(0.22, 0.34)) * flat[:, None] * columns[None, :]
        ground[max(foot - 14, 0) :, :] -= 0.02
    else:
        moved = ImageChops.offset(soft, random.randint(-4, 6), random.randint(3, 8))
        ground -= np.float32(random.uniform(0.16, 0.30) / 255.0) * np.asarray(moved, dtype=np.float32)
    return ground


def render(sketch: Sketch, look: Look, random: Random) -> Image.Image:
    """The photo: a 192 × 192 RGB image. Equal arguments, and an equal state of `random`, equal pixels."""
    colour, shade, alpha = _sheets(sketch, look, random)
    scene = _ground(sketch, alpha, random)[:, :, None] * np.array(look.background, dtype=np.float32)
    pixels = np.asarray(colour.reduce(2), dtype=np.float32)
    pixels = pixels * _light(sketch, shade, alpha, random)[:, :, None]
    pixels -= scene
    pixels *= np.asarray(alpha.reduce(2), dtype=np.float32)[:, :, None] * np.float32(1 / 255)
    pixels += scene
    pixels *= np.float32(random.uniform(0.94, 1.03))
    np.clip(pixels, 0, 255, out=pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(photo: Image.Image) -> bytes:
    """The photo as a JPEG file of a few KB."""
    target = io.BytesIO()
    photo.save(target, "JPEG", quality=88)
    return target.getvalue()
