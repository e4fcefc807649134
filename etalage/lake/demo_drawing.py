"""Turns a sketch (outlines in any unit) into a product photo: 192 × 192 RGB, with light and shadow.

Three sheets are drawn at twice the size and then halved, which is what smooths the edges: colour,
shade (seams and folds, grey = unchanged) and alpha (where the product is). They meet in numpy.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIDE = 192
_SHEET = 2 * SIDE
_STEPS = 7

Point = tuple[float, ...]
"""(x, y) is a corner, (x, y, 1) a point that the outline passes smoothly."""
Colour = tuple[int, int, int]


def _hermite(steps: int) -> NDArray[np.float64]:
    t = np.arange(steps) / steps
    return np.stack([2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, -2 * t**3 + 3 * t**2, t**3 - t**2], axis=1)


_BASIS = _hermite(_STEPS)


def curve(points: Sequence[Point], closed: bool = True) -> NDArray[np.float64]:
    """The outline through `points`, as (M, 2): straight between corners, smooth at (x, y, 1)."""
    xy = np.array([point[:2] for point in points], dtype=np.float64)
    soft = np.array([len(point) > 2 for point in points])[:, None]
    after = np.arange(1, len(xy) + 1) % len(xy)
    following, previous = xy[after], xy[after - 2]
    if not closed:
        following[-1], previous[0] = xy[-1], xy[0]
    tangent = (following - previous) * 0.5
    end, soft_end, tangent_end = xy[after], soft[after], tangent[after]
    step = end - xy
    # A corner beside a smooth point lets the curve run out without bending (a natural end).
    leave = np.where(soft, tangent, np.where(soft_end, 1.5 * step - 0.5 * tangent_end, step))
    arrive = np.where(soft_end, tangent_end, np.where(soft, 1.5 * step - 0.5 * tangent, step))
    path = _BASIS @ np.stack([xy, leave, end, arrive], axis=1)
    if closed:
        return path.reshape(-1, 2)
    return np.concatenate([path[:-1].reshape(-1, 2), xy[-1:]])


def oval(x: float, y: float, width: float, height: float) -> list[Point]:
    """The outline of an ellipse of half-width `width` and half-height `height`."""
    turns = [2 * math.pi * i / 10 for i in range(10)]
    return [(x + width * math.cos(t), y + height * math.sin(t), 1) for t in turns]


def mirrored(right: Sequence[Point]) -> list[Point]:
    """A closed outline, symmetric about x = 0, from its right half listed from top to bottom."""
    left = [(-point[0], *point[1:]) for point in reversed(right) if point[0] != 0]
    return [*right, *left]


@dataclass(slots=True)
class Stroke:
    kind: str  # "fill", "line", "shade", "crease", "mark"
    points: NDArray[np.float64]
    paint: str | Colour = "body"
    width: float = 0.0
    strength: float = 0.0
    closed: bool = False


@dataclass
class Sketch:
    """What a drawing function fills in. Later strokes lie on top; y grows downwards."""

    strokes: list[Stroke] = field(default_factory=list)
    standing: bool = False  # stands on a floor (shoes, homeware): its shadow lies below it
    gloss: float = 0.0  # 0 cloth … 1 glazed
    folds: float = 1.0  # how strongly cloth drapes
    flip: bool = False  # may face left as well as right

    def fill(self, points: Sequence[Point], paint: str | Colour = "body", edge: float = 0.3) -> None:
        """A closed area; `edge` darkens its outline, so that parts stand apart."""
        self.strokes.append(Stroke("fill", curve(points), paint, 0.0, edge))

    def line(
        self, points: Sequence[Point], width: float, paint: str | Colour = "body", closed: bool = False
    ) -> None:
        """A band of even width: a strap, a handle, a lace."""
        self.strokes.append(Stroke("line", curve(points, closed), paint, width, 0.0, closed))

    def seam(self, points: Sequence[Point], strength: float = 0.25, width: float = 0.0) -> None:
        """A darker (strength > 0) or lighter line upon what is already there."""
        self.strokes.append(Stroke("crease", curve(points, False), "body", width, strength))

    def shade(self, points: Sequence[Point], strength: float) -> None:
        """A darker (strength > 0) or lighter area upon what is already there."""
        self.strokes.append(Stroke("shade", curve(points), "body", 0.0, strength))

    def mark(self, x: float, y: float, size: float) -> None:
        """Where the brand's mark sits."""
        self.strokes.append(Stroke("mark", np.array([[x - size, y - size], [x + size, y + size]])))


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
    return light


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
