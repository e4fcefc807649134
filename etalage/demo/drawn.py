"""The demo shop's photos: photo n is a pure function of (seed, n), drawn on one or more processes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy as np
from PIL import Image

from etalage.demo.categories import leaves
from etalage.demo.drawing import Look, encoded, render
from etalage.demo.facts import Facts, facts
from etalage.demo.patterns import COLOURS, PATTERNS, marks, mixed, texture
from etalage.demo.sketch import Colour
from etalage.engine.local import LOCAL
from etalage.lake.photo_facts import difference_hash

CHUNK = 100
_WORTH_A_PROCESS = 400  # below, starting workers takes longer than drawing
_WHITE, _NIGHT = (250, 249, 246), (30, 30, 36)
_METALS: tuple[Colour, ...] = ((196, 176, 128), (186, 188, 192), (120, 116, 112))
_WOODS: tuple[Colour, ...] = ((188, 148, 104), (146, 104, 70), (98, 70, 52))
_SOLES: tuple[Colour, ...] = ((240, 238, 232), (240, 238, 232), (48, 46, 48), (172, 128, 84), (96, 72, 56))
_WALLS: tuple[Colour, ...] = (
    (250, 250, 249), (250, 250, 249), (246, 244, 240), (240, 242, 244), (245, 239, 232), (238, 241, 236),
    (246, 238, 238), (236, 238, 245),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DrawnPhoto:
    """One photo of the demo shop, ready to be stored."""

    number: int
    photo: bytes  # a JPEG file
    width: int
    height: int
    sha256: str
    phash: int


def _look(f: Facts, i: int, random: Random) -> Look:
    names = list(COLOURS)
    base = COLOURS[names[int(f.colour[i])]]
    # No two dye lots are alike: the named colour is a region, not a point.
    base = tuple(max(18, min(248, c + random.randint(-14, 14))) for c in base)  # type: ignore[assignment]
    second = COLOURS[names[int(f.second[i])]]
    pattern = PATTERNS[int(f.pattern[i])]
    bright = sum(base) > 420
    sheet = texture(pattern, base, second, random)
    accents = (mixed(base, _NIGHT, 0.3), second, mixed(base, _WHITE, 0.4))
    paints: dict[str, Colour] = {
        "flat": base,
        "dark": mixed(base, _NIGHT, 0.28 if bright else 0.45),
        "inner": mixed(base, _NIGHT, 0.42 if bright else 0.5),
        "accent": random.choice(accents) if pattern == "plain" else second,
        "trim": mixed(base, _WHITE, 0.82) if not bright else mixed(base, _WHITE, 0.55),
        "metal": random.choice(_METALS),
        "wood": random.choice(_WOODS),
        "sole": random.choice(_SOLES),
        "lens": random.choice(((58, 60, 66), (92, 70, 54), (70, 86, 104))),
        "ink": (52, 50, 54),
    }
    mark_paint = mixed(base, _NIGHT, 0.7) if bright else mixed(base, _WHITE, 0.8)
    return Look(sheet, paints, marks()[int(f.brand[i])], mark_paint, random.choice(_WALLS))


def drawn_image(seed: int, f: Facts, i: int) -> Image.Image:
    """The photo of the i-th item of `f`: 192 × 192 RGB."""
    random = Random(f"{seed}/{int(f.numbers[i])}")
    look = _look(f, i, random)
    return render(leaves()[int(f.leaf[i])].sketch(random), look, random)


def drawn(seed: int, span: tuple[int, int]) -> list[DrawnPhoto]:
    """The photos of the items [start, stop)."""
    start, stop = span
    f = facts(seed, np.arange(start, stop, dtype=np.int64))
    photos = []
    for i, number in enumerate(range(start, stop)):
        image = drawn_image(seed, f, i)
        photo = encoded(image)
        sha256 = hashlib.sha256(photo).hexdigest()
        phash = difference_hash(image.convert("L"))
        photos.append(DrawnPhoto(number, photo, image.width, image.height, sha256, phash))
    return photos


def stream(seed: int, count: int, workers: int) -> Iterator[list[DrawnPhoto]]:
    """The photos of the items [0, count), in order, in chunks; see engine.local for `workers`."""
    spans = [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    alone = count < _WORTH_A_PROCESS
    return LOCAL.map(partial(drawn, seed), spans, 1 if alone else max(workers, 1))
