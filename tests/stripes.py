"""The guide's tiles as a shop for tests: photos of stripes in seven slopes, and settings that learn them."""

import json
from pathlib import Path

from etalage.demo.tiles import NAMES, draw_photos, pixels, png
from etalage.demo.tiles import SLOPES as CLASSES

__all__ = ["CLASSES", "NAMES", "SETTINGS", "folder", "pixels", "png", "toml"]

SETTINGS = {
    "backbone": "small",
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


def folder(root: Path, count: int, seed: int = 3) -> Path:
    """Class folders of PNG files, as `etalage ingest FOLDER` takes them."""
    draw_photos(root, count, seed)
    return root


def toml(**changes: object) -> str:
    """A shop.toml with SETTINGS for image_similarity."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**SETTINGS, **changes}.items()]
    return "\n".join(
        ['name = "Stripes"', "[split]", "validation = 0.2", "[models.image_similarity]", *lines, ""]
    )
