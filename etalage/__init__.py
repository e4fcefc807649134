"""Etalage is a recommender for online shops: it turns a catalogue, photos and behaviour into
recommendations, on one machine, in one folder.

Use `Shop` to load, train and publish, `Recommender` to ask a published bundle, and catch `EtalageError`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etalage.recommend import Recommender as Recommender
    from etalage.shop import Shop as Shop

__version__ = "0.1.0"
__all__ = ["EtalageError", "Recommender", "Shop"]

_HOMES = {"Shop": "etalage.shop", "Recommender": "etalage.recommend", "EtalageError": "etalage.errors"}


def __getattr__(name: str) -> Any:
    """Import a public name when somebody uses it, so that `import etalage` imports nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'etalage' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
