"""Etalage arranges a shop window for each shopper: from catalogue, photos and behaviour to
recommendations, on one machine, in one folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etalage.recommend import Recommender as Recommender
    from etalage.shop import Shop as Shop

__version__ = "0.1.0"
__all__ = ["EtalageError", "Recommender", "Shop"]

_HOMES = {"Shop": "etalage.shop", "Recommender": "etalage.recommend", "EtalageError": "etalage.errors"}


def __getattr__(name: str) -> Any:
    """The public names are found when they are asked for: `import etalage` imports nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'etalage' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
