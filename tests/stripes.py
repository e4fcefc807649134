"""Photos of stripes in seven slopes, any width, place and colour: quickly learned, hard for raw pixels."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 7
NAMES = [f"Stripes > {'Steep' if n < 3 else 'Flat'} > Slope {n}" for n in range(CLASSES)]
SETTINGS = {
    "size": 20,
    "channels": 3,
    "stem": 8,
    "widths": [16, 32],
    "dimension": 24,
    "classes_per_batch": 5,
    "examples_per_class": 8,
    "epochs": 12,
    "learning_rate": 0.01,
    "precision": "float32",
    "flip": False,  # a mirrored slope is another class
    "crop": 1,
}
"""A few seconds of training that learn them."""


def pixels(count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(count, 20, 20, 3) uint8 and their (count,) int64 classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % CLASSES).astype(np.int64)
    down, across = np.mgrid[:20, :20]
    drawn = np.empty((count, 20, 20, 3), dtype=np.uint8)
    for row, label in enumerate(labels):
        angle = (label + rng.uniform(-0.2, 0.2)) / CLASSES * np.pi
        pitch, phase = rng.uniform(1.0, 1.9), rng.uniform(0, 2 * np.pi)
        wave = np.sin(pitch * (across * np.cos(angle) + down * np.sin(angle)) + phase) > 0
        colours = rng.integers(0, 256, (2, 3))
        drawn[row] = np.clip(colours[wave.astype(int)] + rng.normal(0, 25, (20, 20, 3)), 0, 255)
    return drawn, labels


def png(pixels_HWC: np.ndarray) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "PNG")
    return sink.getvalue()


def folder(root: Path, count: int, seed: int = 3) -> Path:
    """Class folders of PNG files, as `etalage ingest FOLDER` takes them."""
    drawn, labels = pixels(count, seed)
    for row, label in enumerate(labels):
        under = root.joinpath(*NAMES[label].split(" > "))
        under.mkdir(parents=True, exist_ok=True)
        (under / f"s{row:04d}.png").write_bytes(png(drawn[row]))
    return root


def toml(**changes: object) -> str:
    """A shop.toml with SETTINGS for image_similarity."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**SETTINGS, **changes}.items()]
    return "\n".join(
        ['name = "Stripes"', "[split]", "validation = 0.2", "[models.image_similarity]", *lines, ""]
    )
