"""Commands that delete: items, photos, a whole table; and the one that brings it back."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from etalage.cli.answers import tell, tell_error
from etalage.cli.app import HERE, ShopFolder, app, naming_shop, opened, print_next
from etalage.console import add_row, counted, manner, out, table_of
from etalage.errors import ConfigError, DataError
from etalage.shop.upkeep_files import RESET, UNDONE

if TYPE_CHECKING:
    from etalage.lake.delta import PastVersion
    from etalage.shop.upkeep_delete import Deletion, Undone

Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
SHOWN = 10


@app.command(
    epilog="""
    etalage delete items i000042 i000043
    etalage delete items --where category=Shoes
    etalage delete photos --of i000042
    """
)
def delete(
    table: Annotated[
        Literal["items", "photos"], typer.Argument(help="To remove a shopper, use `etalage erase`.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Items: ids, or files of ids (.txt: one a line). Photos: paths, links, hashes."),
    ] = None,
    shop: ShopFolder = HERE,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Items with FIELD=VALUE: category=Shoes, brand=Acme, color=red; repeat: all fit."),
    ] = None,
    of: Annotated[list[str] | None, typer.Option(help="Photos of this item; repeat for more.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All photos.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete items however many they are.")] = False,
    yes: Yes = False,
) -> None:
    """Delete items or photos.

    It lists what goes and what stays, and asks. The next `etalage sync` removes them from the bundle.
    """
    here, words = opened(shop), names or []
    if table == "items":
        if of or every:
            raise ConfigError("--of and --all are for photos: `etalage delete photos`, `etalage reset items`")
        plan = here.delete_items(words, force, where or [], dry=True)
    else:
        if where or force:
            raise ConfigError("--where and --force are for items: name photos, --of ITEM, or --all")
        plan = here.delete_photos(words, of or [], every, dry=True)
    _print(plan)
    if not plan.rows:
        raise DataError(f"none of these {table} is there; nothing was deleted")
    _require_yes(yes, plan)
    if table == "items":
        done = here.delete_items(words, force, where or [])
    else:
        done = here.delete_photos(words, of or [], every)
    tell(done, lambda: _print_done(plan, shop))


@app.command(epilog="etalage reset interactions")
def reset(
    table: Annotated[str, typer.Argument(help=f"One of {', '.join(RESET)}.")],
    shop: ShopFolder = HERE,
    yes: Yes = False,
) -> None:
    """Delete all rows of a table.

    It lists what goes and what stays, and asks.
    """
    _require_table(table, RESET)
    here = opened(shop)
    plan = here.reset(table, dry=True)
    _print(plan)
    if not plan.rows:
        tell(plan, lambda: out.print(f"table {table} has no rows; nothing was changed"))
        return
    _require_yes(yes, plan)
    tell(here.reset(table), lambda: _print_done(plan, shop))


@app.command(
    epilog="""
    etalage undo items
    etalage undo items --to 12
    """
)
def undo(
    table: Annotated[str, typer.Argument(help=f"One of {', '.join(UNDONE)}.")],
    shop: ShopFolder = HERE,
    to: Annotated[int | None, typer.Option(min=0, help="The version. Default: only list versions.")] = None,
    yes: Yes = False,
) -> None:
    """Give a table the rows of an older version again.

    That is a new version, so it can be undone too. Shoppers who were erased since stay erased.
    """
    _require_table(table, UNDONE)
    here = opened(shop)
    if to is None:
        if yes:
            raise ConfigError(f"--yes: to which version? `etalage undo {table}` lists them; say --to VERSION")
        versions = here.history(table)
        tell(versions, lambda: _print_versions(versions))
        return
    plan = here.undo(table, to, dry=True)
    if not manner().json:
        out.print(f"table {table}: {plan.rows_now:,} rows now, {plan.rows_then:,} in version {to}")
    _require_yes(yes, plan)
    done = here.undo(table, to)
    tell(done, lambda: _print_undone(done, shop))


def _print_versions(versions: "Sequence[PastVersion]") -> None:
    shown = table_of("version", "when (UTC)", "made by", "rows", "")
    for one in versions:
        state = "" if one.whole else "vacuumed"
        add_row(shown, one.version, f"{one.at:%Y-%m-%d %H:%M:%S}", one.did, f"{one.rows:,}", state)
    out.print(shown)


def _print_undone(done: "Undone", shop: Path) -> None:
    if done.erased:
        out.print(f"left out: {counted(done.erased, 'row', 'rows')} of shoppers who were erased since")
    out.print(f"table {done.table} has the rows of version {done.version}")
    print_next(shop)
    for line in done.undo:
        out.print(f"to take it back: {line}")


def _require_table(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ConfigError(f"{name}: no such table here; one of {', '.join(known)}")


def _require_yes(yes: bool, plan: object) -> None:
    """Raises Exit: nobody said yes. With --json nobody is asked: the answer is the plan, and an error says
    that nothing was done."""
    if yes:
        return
    if manner().json or not sys.stdin.isatty():
        tell(plan, lambda: out.print("nothing was changed: add --yes to do it"))
        if manner().json:
            tell_error(ConfigError.__name__, "nothing was changed: add --yes", 1)
        raise typer.Exit(1)
    if not typer.confirm("Do it?"):
        out.print("nothing was changed")
        raise typer.Exit(1)


def _print(plan: "Deletion") -> None:
    if manner().json:
        return
    for one in plan.unknown[:SHOWN]:
        near = f"; did you mean {plan.near[one]}?" if one in plan.near else ""
        out.print(f"not there: {one}{near}")
    if len(plan.unknown) > SHOWN:
        out.print(f"… and {len(plan.unknown) - SHOWN:,} more that are not there")
    for name, count in plan.rows.items():
        rows = counted(count, "row", "rows")
        if name != plan.what:
            out.print(f"goes: {name}, {rows} (links without a photo)")
            continue
        more = ", …" if count > len(plan.examples) else ""
        shown = f": {', '.join(plan.examples)}{more}" if plan.examples else ""
        out.print(f"goes: {name}, {rows} of {plan.of:,}{shown}")
    for line in plan.stays:
        out.print(f"stays: {line}")


def _print_done(plan: "Deletion", shop: Path) -> None:
    rows = (f"{counted(count, 'row', 'rows')} of {name}" for name, count in plan.rows.items())
    out.print(f"deleted: {', '.join(rows)}")
    for line in plan.next:
        out.print(f"next: {naming_shop(line, shop)}")
    for line in plan.undo:
        out.print(f"to take it back, until a vacuum: {line}")
