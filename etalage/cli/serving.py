"""Answers: without a server, with one, and on the page."""

from pathlib import Path
from typing import Annotated

import typer

from etalage.api import Item
from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.console import add_row, bar, out, table_of
from etalage.errors import InputUnreadable, PhotoRefused
from etalage.shop import asking


@app.command()
def similar(
    item: Annotated[str | None, typer.Argument(help="An item_id.")] = None,
    photo: Annotated[Path | None, typer.Option(help="An image file.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(help="Nothing less similar than this; `etalage evaluate` calibrates it.")
    ] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Show what is like an item or a photo, without a server."""
    photos = None if photo is None else [read_photo(photo)]
    try:
        answer = asking.similar(opened(shop), item, photos, k, threshold)
    except PhotoRefused as error:
        raise PhotoRefused(f"{photo}: {str(error).removeprefix('row 0: ')}") from error
    table = table_of("rank", "item", "score", "title", "category", "price")
    for slot in answer.slate:
        named = (slot.item_id, f"{slot.score:.4f}", slot.title, slot.category_id)
        add_row(table, slot.rank, *named, price_of(slot))
    out.print(table)
    for note in filter(None, (answer.fallback, answer.reason)):
        out.print(note)


@app.command()
def recommend(
    user: Annotated[str | None, typer.Argument(help="A user_id.")] = None,
    had: Annotated[
        list[str] | None, typer.Option(help="item_id of what they have, instead of a user (again for more).")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many.")] = 10,
    explain: Annotated[bool, typer.Option(help="What each stage did.")] = False,
    shop: ShopFolder = HERE,
) -> None:
    """Show what a shopper would want next, without a server.

    By what they did until now; or, with --had, by what they have.
    """
    answer, stranger = asking.recommend(opened(shop), user, had, k, explain)
    table = table_of("rank", "item", "score", "title", "price", *(["why"] if explain else []))
    for slot in answer.slate:
        named = (slot.item_id, f"{slot.score:.4f}", slot.title, price_of(slot))
        add_row(table, slot.rank, *named, *((slot.why or "",) if explain else ()))
    out.print(table)
    out.print(answer.tier if stranger is None else f"{answer.tier}: {stranger}")
    for stage in (answer.trace or {}).get("stages", ()):
        dropped = ", ".join(f"{count} {why}" for why, count in stage["dropped"].items())
        out.print(f"{stage['name']}: {stage['in']} → {stage['out']}{f' ({dropped})' if dropped else ''}")
    if answer.reason:
        out.print(answer.reason)


@app.command()
def serve(
    shop: ShopFolder = HERE,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default: [serve] host, which is loopback.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Default: [serve] port, which is 8765; 0: any that is free.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="File that holds the bearer key.")] = None,
) -> None:
    """Serve the current bundle over HTTP. A new bundle is taken over while serving."""
    opened(shop).serve(host, port, key_file)


@app.command()
def page(
    url: Annotated[str, typer.Option(help="Where `etalage serve` answers.")] = "http://127.0.0.1:8765",
    port: Annotated[int, typer.Option(help="Where the page answers, on loopback.")] = 8501,
    compare: Annotated[str | None, typer.Option(help="A second server, shown beside the first.")] = None,
) -> None:
    """Show the web page, on loopback. It speaks to the server alone."""
    from etalage.page.run import run

    raise typer.Exit(run(url, port, compare))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo shop is made.")] = Path("demo"),
    items: Annotated[int, typer.Option(help="Products to draw.")] = 5000,
    shoppers: Annotated[int, typer.Option(help="Shoppers to draw.")] = 2000,
    seed: Annotated[int, typer.Option(help="Another seed draws another shop.")] = 7,
    serve: Annotated[bool, typer.Option(help="Serve the API and the page at the end.")] = True,
    port: Annotated[int, typer.Option(help="Of the API.")] = 8765,
    page_port: Annotated[int, typer.Option(help="Of the page.")] = 8501,
    files: Annotated[
        Path | None,
        typer.Option("--files", help="Only write the input files of docs/guide.md into this new folder."),
    ] = None,
) -> None:
    """Draw a shop, and train, evaluate, publish and serve on it."""
    if files is not None:
        from etalage.demo.tiles import write_files

        out.print(f"{files}: {', '.join(write_files(files))}")
        return
    from etalage.demo.command import build, require_free, show

    if serve:
        require_free(port, page_port)
    shop = build(folder, items, shoppers, seed, bar, out.print)
    if serve:
        raise typer.Exit(show(shop, port, page_port, out.print))


def price_of(item: Item) -> str:
    return "" if item.price is None else f"{item.price:.2f} {item.currency or ''}"


def read_photo(file: Path) -> bytes:
    """Raises InputUnreadable."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputUnreadable(f"{file}: {error.strerror}") from error
