"""A shop's own models: which models there are, and which of its files may be run."""

from typing import Annotated

import typer

from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.console import add_row, out, table_of


@app.command()
def models(shop: ShopFolder = HERE) -> None:
    """List the models that can be trained, the shop's own among them."""
    here = opened(shop)
    states = {one.file.stem: one for one in here.own_files()}
    table = table_of("model", "role", "learns from", "file")
    for name, one in here.models.listed().items():
        mine = states.get(name)
        where = "Etalage" if mine is None else f"{mine.file} ({mine.state})"
        add_row(table, name, one.role, one.data, where)
    out.print(table)
    for orphan in here.orphan_exports():
        out.print(orphan.sentence)


@app.command()
def trust(
    shop: ShopFolder = HERE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    forget: Annotated[bool, typer.Option(help="Trust none of the folder's files any longer.")] = False,
) -> None:
    """Allow the files of the shop's models/ folder to be run.

    They run with all your rights whenever one of these models is trained, and when a closed-form one is
    published; never while serving. A file that is new or changed is asked about again.
    """
    here = opened(shop)
    if forget:
        here.trust([])
        out.print(f"{here.models.folder}: no file of it may be run any longer")
        return
    files = here.own_files()
    if not files:
        out.print(f"{here.models.folder}: no model of the shop's own, so there is nothing to trust")
        return
    table = table_of("file", "role", "SHA-256", "")
    for one in files:
        add_row(table, str(one.file), one.role, one.sha256, one.state)
    out.print(table)
    if all(one.state == "trusted" for one in files):
        out.print("all of them are trusted already")
        return
    if not yes and not typer.confirm("May these files be run, with all your rights?"):
        out.print("nothing changed")
        raise typer.Exit(1)
    out.print(f"trusted; noted in {here.trust(files)}")
