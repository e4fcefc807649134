"""`etalage users`: what all shoppers would want, whom an item is for, and who is like whom."""

from typing import Annotated

import typer

from etalage.api import NearUser
from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.console import add_row, out, table_of

users = typer.Typer(
    help="Best items of every shopper; shoppers for an item, or like one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(users, name="users")
Most = Annotated[int, typer.Option("-k", "--k", min=1, help="How many.")]


@users.command()
def best(
    shop: ShopFolder = HERE,
    k: Most = 100,
    model: Annotated[
        str | None, typer.Option(help="A retriever of the bundle; default: the first embedder.")
    ] = None,
) -> None:
    """Write the k best items of every shopper into the table recommendations.

    The shoppers are asked about in blocks, on the engine's workers. If a run was killed, run it again.
    """
    done = opened(shop).best_items(k, model)
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


@users.command("for")
def for_item(
    item: Annotated[str, typer.Argument(help="The item_id.")], shop: ShopFolder = HERE, k: Most = 10
) -> None:
    """Show the shoppers to tell about an item."""
    _print(opened(shop).users_for(item, k))


@users.command()
def like(
    user: Annotated[str, typer.Argument(help="The shopper's user_id.")], shop: ShopFolder = HERE, k: Most = 10
) -> None:
    """Show the shoppers who are most similar to one."""
    _print(opened(shop).users_like(user, k))


def _print(found: list[NearUser]) -> None:
    table = table_of("rank", "user", "score")
    for rank, one in enumerate(found, 1):
        add_row(table, rank, one.user_id, f"{one.score:.4f}")
    out.print(table)
