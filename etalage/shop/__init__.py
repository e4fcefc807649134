"""A shop: one folder with its config, tables, runs, exports and bundles. It wires the steps."""

from etalage.models import MODEL
from etalage.shop.progress import Bar, Meter, silent
from etalage.shop.shop import Shop

__all__ = ["MODEL", "Bar", "Meter", "Shop", "silent"]
