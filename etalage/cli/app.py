"""The command line: one subcommand for each step. It parses and prints; it never computes.

Answers go to stdout, progress and errors to stderr. An EtalageError prints one message and ends with its exit
code (errors.py); any other exception is a bug and shows its traceback.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from etalage.console import bar
from etalage.shop import Shop

IN_ORDER = (
    "new", "demo", "ingest", "status", "tables", "refused", "delete", "photos", "taxonomy", "models", "trust",
    "train", "tune", "evaluate", "compare", "classify", "publish", "sync", "bundles", "rollback", "similar",
    "recommend", "users", "serve", "page", "register", "vectors", "collect", "erase",
    "reset", "undo", "vacuum", "backup", "restore",
)  # fmt: skip
"""The commands, in the order in which a shop needs them."""


class InOrder(TyperGroup):
    """Lists the commands in the order of IN_ORDER, not in that of the modules."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=IN_ORDER.index)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from etalage import __version__

        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    name="etalage",
    cls=InOrder,
    help="A recommender for online shops. One folder is one shop; --shop names it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version, and end."),
    ] = False,
) -> None:
    pass


ShopFolder = Annotated[Path, typer.Option("--shop", "-s", help="The shop's folder.", envvar="ETALAGE_SHOP")]
Force = Annotated[bool, typer.Option(help="Publish despite refusals; the manifest records it.")]
HERE = Path()


def opened(folder: Path) -> Shop:
    return Shop(folder, bar)
