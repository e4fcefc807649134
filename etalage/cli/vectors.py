"""`etalage vectors`: vectors of items and users, for others to look up."""

from typing import TYPE_CHECKING, Annotated

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.console import out

if TYPE_CHECKING:
    from etalage.shop.vector_steps import Handed


@app.command(
    epilog="""
    etalage vectors --to table
    etalage vectors --to redis://localhost:6379/0 --users
    """
)
def vectors(
    to: Annotated[
        str,
        typer.Option(
            help="table; redis://host:6379/0; milvus, as in [index.milvus]; http://host:19530; NAME.db"
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="Whose vectors; default: the first embedder of the funnel.")
    ] = None,
    users: Annotated[bool, typer.Option("--users", help="Of shoppers, instead of items.")] = False,
    shop: ShopFolder = HERE,
) -> None:
    """Write published vectors to where other systems look them up.

    They are those of items, or of shoppers; a key-value store, a table or a vector database takes them.
    What is there of older bundles is removed. If a run was killed, run it again; what is there already is
    not written twice.
    """
    done = opened(shop).vectors(to, model, users)
    tell(done, lambda: _show(done))


def _show(done: "Handed") -> None:
    facts, counts = done.facts, done.counts
    out.print(
        f"{facts.model} (export {facts.export[:8]}, bundle {facts.bundle}): {facts.dimension} numbers for "
        f"each of {facts.count:,} {done.owner}s"
    )
    out.print(
        f"{done.to}: written {counts.written:,}, unchanged {counts.unchanged:,}, removed {counts.removed:,}"
    )
    if done.erased:
        out.print(f"{done.erased:,} shoppers were erased since the bundle was made: left out")
