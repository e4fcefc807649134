"""`etalage doctor`: whether the machine and the shop have what they need."""

from typing import TYPE_CHECKING

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, app
from etalage.console import counted, manner, out

if TYPE_CHECKING:
    from etalage.shop.findings import Checkup


@app.command(
    epilog="""
    etalage doctor --shop demo
    etalage doctor --verbose
    """
)
def doctor(shop: ShopFolder = HERE) -> None:
    """Check the machine and the shop, and say what to do.

    It looks at packages, memory and disk, at settings, tables, exports and the bundle, and at what the
    settings name outside of the folder. It changes nothing. With --verbose it also imports torch and the
    like. The exit code is 1 if there is a problem.
    """
    from etalage.shop.doctor import check

    found = check(shop, thorough=manner().verbose)
    tell(found, lambda: _show(found))
    if found.problems:
        raise typer.Exit(1)


def _show(found: "Checkup") -> None:
    wide = max(len(one.subject) for one in found.findings)
    for one in found.findings:
        state = one.state if one.state == "ok" else one.state.upper()
        out.print(f"{state:8} {one.subject:{wide}}  {one.said}")
        if one.next is not None:
            out.print(f"{'':8} {'':{wide}}  → {one.next}")
    if found.problems or found.warnings:
        problems = counted(found.problems, "problem", "problems")
        out.print(f"{problems}, {counted(found.warnings, 'warning', 'warnings')}")
    else:
        out.print("all is well")
