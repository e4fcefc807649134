"""A shop with models of its own: those that docs/own_model.md shows, as they stand there."""

from pathlib import Path

from etalage import Shop
from tests.conftest import PROJECT
from tests.typist import blocks

PAGE = PROJECT / "docs" / "own_model.md"
TINY = """
from etalage.models.recipe import ClosedFormArrays, ModelConfig, Recipe


class Tiny:
    def __init__(self, config, data):
        self.data = data

    def count(self):
        acts, items = self.data.part("train").positive.items, len(self.data.items)
        return ClosedFormArrays("prior", {"scores": np.bincount(acts, minlength=items).astype(np.float32)})


RECIPE = Recipe(name="tiny", role="closed_form", paper="none", config=ModelConfig, columns=(), bind=Tiny,
                data="behaviour")
"""
TINY = f"import numpy as np\n{TINY}"


def shown(*models: str) -> dict[str, str]:
    """Models of the page: the file's name → what is in it."""
    files = {name: text for kind, name, text in blocks(PAGE) if kind == "python" and name is not None}
    return {f"{model}.py": files[f"models/{model}.py"] for model in models}


def put(shop: Path, files: dict[str, str]) -> None:
    """Write files into the shop's folder `models/`."""
    (shop / "models").mkdir(exist_ok=True)
    for name, text in files.items():
        (shop / "models" / name).write_text(text, encoding="utf-8")


def trust(folder: Path) -> None:
    """As `etalage trust --yes` does."""
    shop = Shop(folder)
    shop.trust(shop.own_files())
