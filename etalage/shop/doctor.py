"""`etalage doctor`: is all there that a shop needs, on this machine and in its folder?"""

from collections.abc import Iterator
from pathlib import Path

from etalage.errors import ConfigError
from etalage.shop.findings import Checkup, Finding
from etalage.shop.machine_checks import machine_findings
from etalage.shop.workspace import Workspace, is_shop, require_shop


def check(folder: Path, thorough: bool = False) -> Checkup:
    """Look at the machine and, where `folder` is a shop, at the shop. Changes nothing, raises nothing.

    thorough: also import what has compiled parts, torch among it.
    """
    return Checkup((*machine_findings(folder, thorough), *_of_shop(folder)))


def _of_shop(folder: Path) -> Iterator[Finding]:
    if not is_shop(folder):
        try:
            require_shop(folder)
        except ConfigError as error:
            # Whoever names a folder means a shop; the current folder need not be one.
            yield Finding("shop", "warning" if folder == Path() else "problem", str(error))
        return
    from etalage.shop.shop_checks import shop_findings

    yield from shop_findings(Workspace(folder))
