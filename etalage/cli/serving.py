"""Commands that answer: on the command line, over HTTP, on the page; and the demo."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, Acting, ShopFolder, app, opened
from etalage.console import add_row, bar, out, table_of
from etalage.errors import InputUnreadable, PhotoRefused

if TYPE_CHECKING:
    from etalage.api import Answer, Item, ReasonedSlot, Recommended, Slot


@app.command(
    epilog="""
    etalage similar i000042 -k 10
    etalage similar --photo shoe.jpg
    """
)
def similar(
    item: Annotated[str | None, typer.Argument(help="The item_id to search with.")] = None,
    photo: Annotated[
        Path | None, typer.Option(help="An image file to search with, instead of an item.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many items to show.")] = 5,
    threshold: Annotated[
        float | None,
        typer.Option(help="Show nothing less similar; `etalage evaluate` prints a good value."),
    ] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Show items similar to an item or a photo, without a server."""
    from etalage.shop import asking

    photos = None if photo is None else [read_photo(photo)]
    asked = opened(shop)
    try:
        answer = asking.similar(asked, item, photos, k, threshold)
    except PhotoRefused as error:
        raise PhotoRefused(f"{photo}: {str(error).removeprefix('row 0: ')}") from error
    tell(answer, lambda: _show_similar(answer, asking.in_words(asked, item, answer)))


def _show_similar(answer: "Answer", instead: str | None) -> None:
    _show_slate(answer.slate, ("category",))
    for note in filter(None, (instead, answer.reason)):
        out.print(note)


@app.command(
    epilog="""
    etalage recommend u000007 --explain
    etalage recommend --had i000042 --had i000311
    """
)
def recommend(
    user: Annotated[str | None, typer.Argument(help="The shopper's user_id.")] = None,
    had: Annotated[
        list[str] | None,
        typer.Option(help="An item_id that the shopper has, instead of a user; repeat for more."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many items to show.")] = 10,
    explain: Annotated[
        bool, typer.Option(help="Show what each stage did, and why each item is shown.")
    ] = False,
    shop: ShopFolder = HERE,
) -> None:
    """Show what a shopper would want next, without a server.

    It uses what the shopper did until now or, with --had, the items that you name.
    """
    from etalage.shop import asking

    asked = opened(shop)
    answer, stranger = asking.recommend(asked, user, had, k, explain)
    tell(answer, lambda: _show_recommended(answer, asking.tier_in_words(asked, answer), stranger))


def _show_recommended(answer: "Recommended", made_by: str, stranger: str | None) -> None:
    _show_slate(answer.slate)
    out.print(made_by if stranger is None else f"{stranger}: {made_by[:1].lower()}{made_by[1:]}")
    for stage in (answer.trace or {}).get("stages", ()):
        dropped = ", ".join(f"{count} {why}" for why, count in stage["dropped"].items())
        out.print(f"{stage['name']}: {stage['in']} → {stage['out']}{f' ({dropped})' if dropped else ''}")
    if answer.reason:
        out.print(answer.reason)


@app.command(
    cls=Acting,
    epilog="""
    etalage serve --shop demo
    etalage serve --host 0.0.0.0 --port 80 --key-file key.txt
    """,
)
def serve(
    shop: ShopFolder = HERE,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: [serve] host, which is loopback.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0: any free one. Default: [serve] port, which is 8765."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File that holds the bearer key that clients must send.")
    ] = None,
) -> None:
    """Serve the current bundle over HTTP. It switches to a new bundle without a restart."""
    opened(shop).serve(host, port, key_file)


@app.command(cls=Acting, epilog="etalage page --url http://127.0.0.1:8765")
def page(
    url: Annotated[str, typer.Option(help="The address of `etalage serve`.")] = "http://127.0.0.1:8765",
    port: Annotated[int, typer.Option(help="Port of the page, on loopback.")] = 8501,
    compare: Annotated[
        str | None, typer.Option(help="Address of a second server, to show its answers beside the first.")
    ] = None,
    hosts: Annotated[
        list[str] | None,
        typer.Option(help="A name that the page is called by too, behind a proxy; repeat for more."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The shop's name in the header. Default: ETALAGE_NAME.")
    ] = None,
) -> None:
    """Show the storefront on loopback; it talks only to the server."""
    from etalage.page.run import run

    run(url, port, compare, tuple(hosts or ()), name)


@app.command(
    cls=Acting,
    epilog="""
    etalage demo
    etalage demo small --items 500 --shoppers 300 --no-serve
    """,
)
def demo(
    folder: Annotated[Path, typer.Argument(help="The folder to make the demo shop in.")] = Path("demo"),
    items: Annotated[int, typer.Option(help="How many products to make.")] = 5000,
    shoppers: Annotated[int, typer.Option(help="How many shoppers to make.")] = 2000,
    seed: Annotated[int, typer.Option(help="Another seed makes another shop.")] = 7,
    serve: Annotated[bool, typer.Option(help="Serve the API and the page at the end.")] = True,
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8765,
    page_port: Annotated[int, typer.Option(help="Port of the page.")] = 8501,
    files: Annotated[
        Path | None,
        typer.Option("--files", help="Only write the input files of docs/guide.md, into this new folder."),
    ] = None,
) -> None:
    """Make a demo shop, then train, evaluate, publish and serve it."""
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


def _show_slate(slots: "Sequence[Slot | ReasonedSlot]", wanted: Sequence[str] = ()) -> None:
    """Each item at its place; an item without a title by brand and category. A column that no item fills is
    left out."""
    rows = []
    for slot in slots:
        named = None if slot.title else slot.brand, None if slot.title else slot.category_id
        cells = {
            "rank": slot.rank, "item": slot.item_id, "score": f"{slot.score:.4f}", "title": slot.title,
            "brand": named[0], "category": slot.category_id if "category" in wanted else named[1],
            "price": price_of(slot), "why": getattr(slot, "why", None),
        }  # fmt: skip
        rows.append(cells)
    filled = [name for name in rows[0] if any(row[name] for row in rows)] if rows else ["rank", "item"]
    table = table_of(*filled)
    for row in rows:
        add_row(table, *(row[name] for name in filled))
    out.print(table)


def price_of(item: "Item") -> str:
    return "" if item.price is None else f"{item.price:.2f} {item.currency or ''}"


def read_photo(file: Path) -> bytes:
    """Raises InputUnreadable."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputUnreadable(f"{file}: {error.strerror}") from error
