"""The models that the contract suites run over: ours, and those of the shop that ETALAGE_OWN_MODELS names."""

import os
from pathlib import Path

from etalage.models.own import Models
from etalage.models.recipe import TrainingConfig

NO_SHOP = "/nowhere"
FOLDER = Models(Path(os.environ.get("ETALAGE_OWN_MODELS", NO_SHOP)))
LISTED = FOLDER.listed()


def stepped() -> list[str]:
    """The models that are trained by steps: neither counted nor solved."""
    named = [name for name, one in LISTED.items() if one.role != "closed_form"]
    return [name for name in named if issubclass(FOLDER.find(name).config, TrainingConfig)]


def names(role: str, *data: str) -> list[str]:
    """The models of a role; of those that learn from `data`, where it is said."""
    return [name for name, one in LISTED.items() if one.role == role and (not data or one.data in data)]
