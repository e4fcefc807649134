"""The command line: one subcommand a step. It parses and prints, and never computes.

Answers go to stdout, progress and errors to stderr. Every error of ours ends with one message and
its exit code (errors.py); anything else is a bug, and shows its traceback.
"""

from pathlib import Path
from typing import Annotated

import typer

from etalage.console import bar
from etalage.shop import Shop

app = typer.Typer(
    name="etalage",
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
