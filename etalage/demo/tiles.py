"""The input files of the guide's shop, which sells striped tiles: quickly learned, hard for raw pixels.

Photos of stripes in seven slopes, of any width, place and colour; and what shoppers did with them, each of
whom likes one slope and acts a little at random.
"""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from etalage.errors import DataError
from etalage.lake.schema import CATEGORY_SEPARATOR

SLOPES = 7
SIDE = 20
NAMES = [f"Stripes > {'Steep' if n < 3 else 'Flat'} > Slope {n}" for n in range(SLOPES)]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
FOLDER_OF_PHOTOS, PHOTO, ACTS = "photos", "photo.png", "acts.csv"
TEXTS = {
    "settings.toml": """\
name = "Tiles"
currency = "EUR"

[ingest.items.columns]
item_id = "sku"
title = "name"
in_stock = "stock"

[ingest.interactions.columns]
user_id = "shopper"
item_id = "sku"
kind = "what"
time = "when"

[split]
validation = 0.2

[taxonomy]
file = "tree.csv"            # see "What is this?"

[behaviour]
targets = ["cart", "buy"]    # what counts as a hit, when models of behaviour are judged

[funnel]
seen = "drop_bought"         # what somebody has is not shown to them again
order = {diversity = 0.2, per_brand = 5}

# Small pictures, few of them: a small network. Leave this out for photos of products.
[models.image_similarity]
backbone = "small"       # trained from nothing; else it, or features of EfficientNet-lite0: what finds more
size = 20
stem = 8
widths = [16, 32]
dimension = 24
classes_per_batch = 5
examples_per_class = 8
epochs = 12
learning_rate = 0.01
flip = false             # a mirrored slope is another category

[models.item_category]
backbone = "small"       # learned from nothing; by default EfficientNet-lite0, which has seen many photos
size = 20
epochs = 20
learning_rate = 0.003
trunk_rate = 0.003
crop = 0.6
light = 0.6
flip = false
""",
    "tree.csv": """\
id,parent,name
1,,Stripes
2,1,Steep
3,1,Flat
20,2,Slope 0
21,2,Slope 1
22,2,Slope 2
33,3,Slope 3
34,3,Slope 4
35,3,Slope 5
36,3,Slope 6
""",
    "feed.csv": """\
sku,name,price,stock
s0001,Tile with a wide stripe,12.95,yes
s0002,Tile with a narrow stripe,9.95,no
s0003,Tile with a price that is none,cheap,yes
""",
    "prices.csv": """\
sku,name,price,stock
s0002,Tile with a narrow stripe,8.95,yes
""",
}
"""What the guide shows, as it shows it."""


def pixels(count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(count, SIDE, SIDE, 3) uint8 and their (count,) int64 slopes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % SLOPES).astype(np.int64)
    down, across = np.mgrid[:SIDE, :SIDE]
    drawn = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    for row, label in enumerate(labels):
        angle = (label + rng.uniform(-0.2, 0.2)) / SLOPES * np.pi
        pitch, phase = rng.uniform(1.0, 1.9), rng.uniform(0, 2 * np.pi)
        wave = np.sin(pitch * (across * np.cos(angle) + down * np.sin(angle)) + phase) > 0
        colours = rng.integers(0, 256, (2, 3))
        drawn[row] = np.clip(colours[wave.astype(int)] + rng.normal(0, 25, (SIDE, SIDE, 3)), 0, 255)
    return drawn, labels


def png(pixels_HWC: np.ndarray) -> bytes:
    """An image file."""
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "PNG")
    return sink.getvalue()


def draw_photos(root: Path, count: int, seed: int = 3) -> list[tuple[str, str]]:
    """PNG files in a folder for each category, as `etalage ingest FOLDER` takes them; (item_id, category) of
    each."""
    drawn, labels = pixels(count, seed)
    found = []
    for row, label in enumerate(labels):
        under = root.joinpath(*NAMES[label].split(CATEGORY_SEPARATOR))
        under.mkdir(parents=True, exist_ok=True)
        (under / f"s{row:04d}.png").write_bytes(png(drawn[row]))
        found.append((f"s{row:04d}", NAMES[label]))
    return found


def write_acts(file: Path, items: Sequence[tuple[str, str]], shoppers: int = 60, seed: int = 0) -> int:
    """A CSV of `shopper, sku, what, when` about items (item_id, category); how many rows."""
    rng = np.random.default_rng(seed)
    names = sorted({category for _, category in items})
    of_category = {name: [id for id, category in items if category == name] for name in names}
    ids = [id for id, _ in items]
    rows = []
    for shopper in range(shoppers):
        liked = of_category[names[shopper % len(names)]]
        for _ in range(int(rng.integers(15, 40))):
            item = str(rng.choice(liked if rng.random() < 0.8 else ids))
            when = BEGIN + timedelta(minutes=int(rng.integers(0, 200_000)))
            what = str(rng.choice(["view", "cart", "buy"], p=[0.7, 0.2, 0.1]))
            rows.append([f"u{shopper:03d}", item, what, when.isoformat()])
    with file.open("w", newline="", encoding="utf-8") as sink:
        csv.writer(sink, lineterminator="\n").writerows([["shopper", "sku", "what", "when"], *rows])
    return len(rows)


def write_files(folder: Path, tiles: int = 400) -> list[str]:
    """The guide's input files in `folder`; their names. Raises DataError: it holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not empty: name a folder that is not there yet")
    folder.mkdir(parents=True, exist_ok=True)
    items = sorted(draw_photos(folder / FOLDER_OF_PHOTOS, tiles))
    (folder / PHOTO).write_bytes(png(pixels(1, seed=99)[0][0]))
    write_acts(folder / ACTS, items)
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [FOLDER_OF_PHOTOS, PHOTO, ACTS, *TEXTS]
