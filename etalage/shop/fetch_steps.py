"""Links → photos, for this shop: by its [photos], into its tables."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.lake.photos.fetch import Fetched
    from etalage.lake.photos.probe import Probe


def spool(workspace: Workspace) -> Path:
    """Where workers leave their results until they are committed."""
    return workspace.runs / "photos"


def probe(workspace: Workspace, count: int, seed: int) -> "Probe":
    from etalage.lake.photos.probe import probe

    with workspace.bar("ask for a sample of the links", None) as meter:
        return probe(
            workspace.lake,
            workspace.config.photos,
            count=count,
            seed=seed,
            started=lambda links: meter.say("ask for a sample of the links", links),
            progress=meter,
            engine=workspace.engine,
            scratch=_scratch(workspace),
        )


def _scratch(workspace: Workspace) -> Path | None:
    """A folder of the shop, which workers on other machines see too; None where the shop may not be written
    to: a probe stores nothing, and works there as well, on this machine."""
    try:
        workspace.runs.mkdir(exist_ok=True)
    except OSError:
        return None
    return workspace.runs if os.access(workspace.runs, os.W_OK) else None


def fetch(workspace: Workspace, refresh: float | None, again: bool) -> "Fetched":
    from etalage.lake.photos.fetch import fetch

    with workspace.disk(), workspace.bar("get photos", None) as meter:
        return fetch(
            workspace.lake,
            workspace.config.photos,
            spool(workspace),
            refresh=refresh,
            again=again,
            started=lambda links: meter.say("get photos", links),
            progress=meter,
            engine=workspace.engine,
        )
