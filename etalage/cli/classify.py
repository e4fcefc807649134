"""`etalage classify`: asks the classifier about the catalogue, or about one photo and title."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.cli.serving import read_photo
from etalage.console import add_row, out, table_of
from etalage.errors import ConfigError, PhotoRefused

if TYPE_CHECKING:
    from etalage.runtime.classifier import Classified
    from etalage.shop.classify_steps import ClassifiedShop


@app.command(
    epilog="""
    etalage classify
    etalage classify --photo shoe.jpg --title "A leather boot"
    """
)
def classify(
    shop: ShopFolder = HERE,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Leave less certain items unclassified. Default: [classify] threshold."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Classify all items again, changed or not.")] = False,
    photo: Annotated[Path | None, typer.Option(help="Classify this image file; write nothing.")] = None,
    title: Annotated[str | None, typer.Option(help="Classify this title; write nothing.")] = None,
) -> None:
    """Classify new and changed items of the catalogue.

    With --photo or --title it classifies one product and writes nothing.
    """
    place = opened(shop)
    if photo is None and title is None:
        done = place.classify(threshold, every)
        tell(done, lambda: _show(done))
        return
    if every:
        raise ConfigError("--all classifies the catalogue: leave out --photo and --title")
    photos = [] if photo is None else [read_photo(photo)]
    try:
        found = place.classify_one(photos, title, threshold)
    except PhotoRefused as error:
        raise PhotoRefused(f"{photo}: {str(error).removeprefix('row 0: ')}") from error
    tell(found, lambda: _show_one(found))


def _show(done: "ClassifiedShop") -> None:
    out.print(
        f"asked about {done.asked:,} items by {done.model[:8]}, changed {done.changed:,} rows, "
        f"removed {done.gone:,}; threshold {done.threshold:g}"
    )
    out.print(", ".join(f"{status} {count:,}" for status, count in done.counts.items()))
    if done.refused:
        out.print(f"photos that cannot be decoded: {len(done.refused):,}")
    if done.commonest:
        table = table_of("items", "category")
        for path, count in done.commonest:
            add_row(table, f"{count:,}", path)
        out.print(table)


def _show_one(found: "Classified") -> None:
    if not found.steps:
        out.print("nothing to look at: this classifier reads no titles; give --photo")
        return
    if found.category_id is None:
        out.print(f"not classified: {found.confidence:.3f} is below the threshold; the best guess:")
    table = table_of("confidence", "id", "category")
    for step in found.steps:
        add_row(table, f"{step.confidence:.3f}", step.id, step.name)
    for leaf in found.others:
        add_row(table, f"{leaf.confidence:.3f}", leaf.id, f"or: {leaf.path}")
    out.print(table)
