"""The command line: one subcommand a step. It parses and prints, and never computes.

Answers go to stdout, progress and errors to stderr. Every error of ours ends with one message and
its exit code (errors.py); anything else is a bug, and shows its traceback.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from etalage.console import bar
from etalage.shop import Shop

IN_ORDER = (
    "new", "demo", "ingest", "tables", "refused", "delete", "photos", "taxonomy", "models", "trust", "train",
    "evaluate", "compare", "classify", "publish", "sync", "bundles", "rollback", "similar", "recommend",
    "serve", "page", "register", "collect", "erase",
)  # fmt: skip
"""The commands, as a shop comes to need them."""


class InOrder(TyperGroup):
    """Lists the commands in the order in which a shop needs them, not in that of our modules."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=IN_ORDER.index)


app = typer.Typer(
    name="etalage",
    cls=InOrder,
    help="A recommender for shops: one folder is one shop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
ShopFolder = Annotated[Path, typer.Option("--shop", "-s", help="The shop's folder.", envvar="ETALAGE_SHOP")]
Force = Annotated[bool, typer.Option(help="Publish against refusals; recorded in the manifest.")]
HERE = Path()


def opened(folder: Path) -> Shop:
    return Shop(folder, bar)
