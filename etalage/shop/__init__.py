"""A shop: one folder with its config, tables, runs, exports and bundles. It wires the steps."""

from etalage.shop.shop import MODEL, Bar, Meter, Shop, silent

__all__ = ["MODEL", "Bar", "Meter", "Shop", "silent"]
