"""Commands that keep a shop in order: vacuum, back it up, restore it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.console import add_row, bar, counted, out, sized, table_of
from etalage.errors import ConfigError
from etalage.shop.upkeep_files import DAYS, EXPORTS

if TYPE_CHECKING:
    from etalage.shop.upkeep_backup import BackedUp
    from etalage.shop.upkeep_restore import Restored
    from etalage.shop.upkeep_vacuum import Vacuumed


@app.command(
    epilog="""
    etalage vacuum
    etalage vacuum --yes
    """
)
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
    tell(done, lambda: _show_vacuumed(done))


def _show_vacuumed(done: "Vacuumed") -> None:
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


@app.command(
    epilog="""
    etalage backup /backups/shop
    etalage backup shop.tar.zst
    """
)
def backup(
    target: Annotated[
        str,
        typer.Argument(help="A folder that holds backups, or a new file: .tar.zst, .tar.gz or .tar."),
    ],
    shop: ShopFolder = HERE,
) -> None:
    """Copy the shop as it is at this moment, while it is being used.

    In a folder, files that the last backup has are not copied again. `etalage restore --check` reads a backup
    and compares every file.
    """
    done = opened(shop).backup(target)
    tell(done, lambda: _show_backed_up(done))


def _show_backed_up(done: "BackedUp") -> None:
    out.print(
        f"{done.target}: {counted(done.files, 'file', 'files')}, {sized(done.bytes)}; written "
        f"{sized(done.copied)}, {done.linked:,} files shared with the backup before"
    )
    versions = ", ".join(f"{name} {version}" for name, version in done.tables.items())
    out.print(f"versions: {versions or 'no tables'}; bundle {done.bundle or 'none'}")
    for note in done.notes:
        out.print(note)


@app.command(
    epilog="""
    etalage restore /backups/shop --check
    etalage restore /backups/shop --shop restored
    """
)
def restore(
    source: Annotated[Path, typer.Argument(help="A folder of backups, one of them, or a file.")],
    shop: Annotated[
        Path | None, typer.Option("--shop", "-s", help="The folder to make; nothing may be there.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare every file; restore nothing.")] = False,
    backup: Annotated[
        str | None, typer.Option(help="Which of several backups, by its name. Default: the newest.")
    ] = None,
    erased: Annotated[
        Path | None,
        typer.Option(help="A shop, or its erased.json, that knows who was erased after the backup."),
    ] = None,
) -> None:
    """Make a shop out of a backup, or only check the backup.

    Every file is compared with what was copied; a shop appears only when all are whole.
    """
    from etalage.shop import Shop

    if check:
        if shop is not None or erased is not None:
            raise ConfigError("--check restores nothing: leave --shop and --erased out")
        found = Shop.check_backup(source, backup, bar)
        told = f"{found.backup}: whole: {found.files:,} files, {sized(found.bytes)}, made {found.made_at}"
        tell(found, lambda: out.print(told))
        return
    if shop is None:
        raise ConfigError("--shop is missing: name the folder to make, or --check to only look at the backup")
    done = Shop.restore(source, shop, backup, erased, bar)
    tell(done, lambda: _show_restored(done, shop))


def _show_restored(done: "Restored", shop: Path) -> None:
    out.print(f"{done.folder}: {done.shop} as of {done.made_at}: {done.files:,} files, {sized(done.bytes)}")
    for note in done.notes:
        out.print(f"as the backup said: {note}")
    if done.erased_again:
        out.print(
            f"erased again, as {done.erased_until} says: "
            f"{counted(done.erased_again, 'shopper', 'shoppers')}; bundles and exports may know them: "
            "`etalage train`, `etalage publish`, `etalage vacuum --yes`"
        )
    if done.erased_until is None and "interactions" in done.tables:
        out.print(
            f"who was erased after {done.made_at} is not known here: restore with --erased OLD_SHOP, or "
            "erase them again"
        )
    out.print(f"next: etalage status --shop {shlex.quote(str(shop))}")
