"""`etalage users`: what all shoppers would want, whom an item is for, and who is like whom."""

from typing import TYPE_CHECKING, Annotated

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, group, opened
from etalage.console import add_row, out, table_of

if TYPE_CHECKING:
    from etalage.api import NearUser
    from etalage.shop.best_steps import BestItems

users = group("users", "Best items of every shopper; shoppers for an item, or like one.")
Most = Annotated[int, typer.Option("-k", "--k", min=1, help="How many.")]


@users.command(epilog="etalage users best --k 20")
def best(
    shop: ShopFolder = HERE,
    k: Most = 100,
    model: Annotated[
        str | None, typer.Option(help="A retriever of the bundle; default: the first embedder.")
    ] = None,
) -> None:
    """Write the best items of every shopper into a table.

    It is the table recommendations. The shoppers are asked about in blocks, on the engine's workers. If a run
    was killed, run it again.
    """
    done = opened(shop).best_items(k, model)
    tell(done, lambda: _show_written(done, k))


def _show_written(done: "BestItems", k: int) -> None:
    out.print(
        f"{done.model} (export {done.export[:8]}, bundle {done.bundle}): the {k} best items of "
        f"{done.users:,} shoppers; of {done.unknown:,} it knows nothing"
    )
    out.print(
        f"table recommendations: written {done.written:,}, unchanged {done.unchanged:,}, "
        f"removed {done.removed:,}"
    )
    if done.short:
        out.print(f"{done.short:,} shoppers have fewer than {k}")


@users.command("for", epilog="etalage users for i000042 --k 50")
def for_item(
    item: Annotated[str, typer.Argument(help="The item_id.")], shop: ShopFolder = HERE, k: Most = 10
) -> None:
    """Show the shoppers to tell about an item."""
    found = opened(shop).users_for(item, k)
    tell(found, lambda: _show(found))


@users.command(epilog="etalage users like u000007")
def like(
    user: Annotated[str, typer.Argument(help="The shopper's user_id.")], shop: ShopFolder = HERE, k: Most = 10
) -> None:
    """Show the shoppers who are most similar to one."""
    found = opened(shop).users_like(user, k)
    tell(found, lambda: _show(found))


def _show(found: "list[NearUser]") -> None:
    table = table_of("rank", "user", "score")
    for rank, one in enumerate(found, 1):
        add_row(table, rank, one.user_id, f"{one.score:.4f}")
    out.print(table)
