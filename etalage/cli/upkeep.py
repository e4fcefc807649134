"""Commands that keep a shop in order: vacuum, back it up, restore it."""

from typing import Annotated

import typer

from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.console import add_row, out, sized, table_of
from etalage.shop.upkeep_vacuum import DAYS, EXPORTS


@app.command()
def vacuum(
    shop: ShopFolder = HERE,
    days: Annotated[
        float, typer.Option(min=0, help="Keep versions of tables, and caches, that are younger.")
    ] = DAYS,
    exports: Annotated[
        int, typer.Option(min=1, help="How many exports of a model to keep, judged or not.")
    ] = EXPORTS,
    bundles: Annotated[
        int | None, typer.Option(min=1, help="How many bundles to keep. Default: [publish] keep.")
    ] = None,
    unpin: Annotated[
        bool, typer.Option("--unpin", help="Also remove versions that exports and bundles were made of.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without it, only list it.")] = False,
) -> None:
    """Remove what nobody needs any more; without --yes, list it.

    That is: files of old versions of tables, old exports and bundles, checkpoints of trainings that ended,
    what killed processes left behind, and old caches. What still knows an erased shopper goes first.
    """
    done = opened(shop).vacuum(days=days, exports=exports, bundles=bundles, unpin=unpin, dry=not yes)
    table = table_of("what", "which", "files", "size", "why it can go")
    for one in done.wastes:
        add_row(table, one.kind, one.what, f"{one.count:,}", sized(one.bytes), one.why)
    if done.wastes:
        out.print(table)
    for note in done.notes:
        out.print(note)
    if not done.wastes:
        out.print("there is nothing to remove")
    elif done.done:
        out.print(f"removed: {sized(done.bytes)}")
    else:
        out.print(f"{sized(done.bytes)} can go; nothing was removed: add --yes")
