"""Links → photos, for this shop: by its [photos], into its tables."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etalage.lake.photos.fetch import Fetched
    from etalage.lake.photos.probe import Probe
    from etalage.shop.shop import Shop


def spool(shop: "Shop") -> Path:
    """Where workers leave their results until they are committed."""
    return shop.runs / "photos"


def probe(shop: "Shop", count: int, seed: int) -> "Probe":
    from etalage.lake.photos.probe import probe

    with shop.bar("ask for a sample of the links", None) as meter:
        return probe(
            shop.lake,
            shop.config.photos,
            count=count,
            seed=seed,
            started=lambda links: meter.say("ask for a sample of the links", links),
            progress=meter,
        )


def fetch(shop: "Shop", refresh: float | None, again: bool) -> "Fetched":
    from etalage.lake.photos.fetch import fetch

    with shop.disk(), shop.bar("get photos", None) as meter:
        return fetch(
            shop.lake,
            shop.config.photos,
            spool(shop),
            refresh=refresh,
            again=again,
            started=lambda links: meter.say("get photos", links),
            progress=meter,
        )
