"""Etalage is a recommender for online shops: it turns a catalogue, photos and behaviour into
recommendations, on one machine, in one folder.

Use `Shop` to load, train and publish, `model` to try a model on a data frame without a shop, `Recommender` to
ask a published bundle, `Client` to ask a server, and catch `EtalageError`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etalage.client import Client as Client
    from etalage.errors import EtalageError as EtalageError
    from etalage.recommend import Recommender as Recommender
    from etalage.shop import Shop as Shop
    from etalage.shop.frame_model import FrameModel as FrameModel
    from etalage.shop.frame_model import model as model

__version__ = "0.1.0"
__all__ = ["Client", "EtalageError", "FrameModel", "Recommender", "Shop", "model"]

_HOMES = {
    "Shop": "etalage.shop",
    "model": "etalage.shop.frame_model",
    "FrameModel": "etalage.shop.frame_model",
    "Recommender": "etalage.recommend",
    "Client": "etalage.client",
    "EtalageError": "etalage.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when somebody uses it, so that `import etalage` imports nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'etalage' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """So that a notebook completes the names that are imported on use."""
    return sorted([*globals(), *_HOMES])
