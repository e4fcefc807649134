"""The command line: one subcommand a step. It parses and prints, and never computes.

Answers go to stdout, progress and errors to stderr. Every error of ours ends with one message and
its exit code (errors.py); anything else is a bug, and shows its traceback.
"""

import io
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from etalage.config import parse_pairs
from etalage.console import add_row, bar, err, out, table_of
from etalage.errors import ConfigError, EtalageError, InputUnreadable, PhotoRefused, TooManyRefused
from etalage.shop import MODEL, Shop

app = typer.Typer(
    name="etalage",
    help="A recommender for shops: one folder is one shop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class TableChoice(StrEnum):
    """The tables that files are loaded into."""

    items, photos, users, interactions = "items", "photos", "users", "interactions"


Ids = StrEnum("Ids", ["stem", "path"])
Format = StrEnum("Format", ["csv", "parquet", "jsonl", "idx", "folder"])
ShopFolder = Annotated[Path, typer.Option("--shop", "-s", help="The shop's folder.", envvar="ETALAGE_SHOP")]
Model = Annotated[str, typer.Argument(help="A model of etalage/models.")]
Force = Annotated[bool, typer.Option(help="Publish against refusals; recorded in the manifest.")]
HERE = Path()


def opened(folder: Path) -> Shop:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; `etalage new {shlex.quote(str(folder))}` makes a shop")
    return Shop(folder, bar)


@app.command()
def new(folder: Annotated[Path, typer.Argument()], name: Annotated[str, typer.Option()] = "A shop") -> None:
    """Make a shop's folder with a shop.toml to edit."""
    try:
        shop = Shop.create(folder, name, bar)
    except OSError as error:
        raise ConfigError(f"{folder}: no shop can be made there: {error.strerror}") from error
    typed = shlex.quote(str(folder))
    out.print(f"{shop.folder / 'shop.toml'}: edit it, then `etalage ingest FILE items --shop {typed}`")


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="CSV, Parquet, JSONL, an IDX images file, or a folder.")],
    table: Annotated[TableChoice, typer.Argument()] = TableChoice.items,
    shop: ShopFolder = HERE,
    format: Annotated[Format | None, typer.Option(help="Default: told from the name.")] = None,
    attribute: Annotated[list[str] | None, typer.Option(help="name=value for every item.")] = None,
    class_names: Annotated[str | None, typer.Option(help="Names of an IDX file's classes, by comma.")] = None,
    ids: Annotated[
        Ids, typer.Option(help="A folder's item ids: file stems, or paths beneath it.")
    ] = Ids.stem,
    photo_root: Annotated[Path | None, typer.Option(help="Where a table's photo paths start.")] = None,
    max_refused: Annotated[int, typer.Option(min=0, help="So many refused rows are no error.")] = 0,
) -> None:
    """Load a file into a table; bad rows go to the table `refused` with file, line and reason."""
    names = class_names.split(",") if class_names else None
    done = opened(shop).ingest(
        source,
        table.value,
        format=format,
        attributes=parse_pairs("--attribute", attribute),
        class_names=names,
        ids=ids.value,
        photo_root=photo_root,
    )
    repeated = f"repeated {done.repeated}, " if done.repeated else ""
    photos = f" (photos of items that were taken: {done.photos_refused})" if done.photos_refused else ""
    out.print(
        f"read {done.read}: inserted {done.inserted}, updated {done.updated}, "
        f"unchanged {done.unchanged}, {repeated}refused {done.refused}{photos}"
    )
    for reason, count in sorted(done.refused_by_reason.items(), key=lambda pair: -pair[1])[:10]:
        out.print(f"  {count} × {reason}")
    if done.refused > max_refused:
        raise TooManyRefused(
            f"{source}: {done.refused} rows refused, --max-refused {max_refused}; the others are stored. "
            f"File, line and reason of each: `etalage refused --shop {shlex.quote(str(shop))}`"
        )


@app.command()
def tables(shop: ShopFolder = HERE) -> None:
    """The tables with their rows and versions."""
    table = table_of("table", "rows", "version")
    lake = opened(shop).lake
    for name, version in sorted(lake.versions().items()):
        add_row(table, name, f"{lake.table(name).count():,}", version)
    out.print(table)


@app.command()
def refused(shop: ShopFolder = HERE, last: Annotated[int, typer.Option(min=1)] = 20) -> None:
    """The newest refused rows: file, line, reason."""
    table = table_of("table", "file", "line", "reason")
    stored = opened(shop).lake.table("refused")
    if not stored.exists():
        out.print("nothing was refused")
        return
    rows = stored.read(columns=["what", "file", "line", "reason", "refused_at"])
    order = [("refused_at", "descending"), ("file", "ascending"), ("line", "ascending")]
    for row in rows.sort_by(order).slice(0, last).to_pylist():
        add_row(table, row["what"], row["file"], row["line"], row["reason"])
    out.print(table)


@app.command()
def train(
    model: Model = MODEL,
    shop: ShopFolder = HERE,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model's config.")] = None,
    fresh: Annotated[bool, typer.Option(help="Begin anew instead of resuming.")] = False,
) -> None:
    """Train a model on the tables as they are, track it in MLflow, export it."""
    trained, exported = opened(shop).train(model, parse_pairs("--set", set), fresh)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in trained.metrics.items())
    out.print(f"{exported.name}: {figures}; {trained.seconds:.0f} s")


@app.command()
def evaluate(model: Model = MODEL, shop: ShopFolder = HERE) -> None:
    """Measure the newest export beside raw pixels and an untrained network; write the report."""
    done = opened(shop).evaluate(model)
    out.print(done.summary())
    out.print(f"report: {done.report}")


@app.command()
def publish(
    shop: ShopFolder = HERE,
    force: Force = False,
) -> None:
    """Embed, index, check and publish a bundle; servers take it over by themselves."""
    _tell(opened(shop).publish(force=force))


@app.command()
def sync(shop: ShopFolder = HERE, force: Force = False) -> None:
    """Publish what changed since the current bundle; only new and changed photos are embedded."""
    done = opened(shop).sync(force)
    out.print(
        f"{done.reason}: embedded {done.embedded}, carried over {done.carried}, "
        f"changed {done.upserted}, removed {done.deleted}"
    )
    if done.whole:
        out.print(f"the tables were read whole: {done.whole}")
    if done.manifest is not None:
        _tell(done.manifest)


@app.command()
def bundles(shop: ShopFolder = HERE) -> None:
    """The bundles on disk; the current one is marked."""
    table = table_of("", "bundle", "items", "indexed", "made", "model", "forced")
    for one in opened(shop).bundles.survey():
        mark = "→" if one.current else ""
        if one.manifest is None:
            add_row(table, mark, one.id, "", "", "", f"damaged: {one.damage}", "")
            continue
        made, model, forced = one.manifest.created_at, one.manifest.model, ", ".join(one.manifest.forced)
        counts = (f"{one.manifest.items:,}", f"{one.manifest.indexed:,}")
        add_row(table, mark, one.id, *counts, made, f"{model.name} {model.hash[:8]}", forced)
    out.print(table)


@app.command()
def rollback(
    bundle: Annotated[str | None, typer.Argument(help="Default: the one that was current before.")] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Make another bundle the current one."""
    out.print(f"current: {opened(shop).rollback(bundle).id}")


@app.command()
def similar(
    item: Annotated[str | None, typer.Argument(help="An item_id.")] = None,
    photo: Annotated[Path | None, typer.Option(help="An image file.")] = None,
    k: Annotated[int, typer.Option("-k", "--k", help="How many.")] = 5,
    threshold: Annotated[float | None, typer.Option(help="Nothing less similar; see evaluate.")] = None,
    shop: ShopFolder = HERE,
) -> None:
    """What is like this item, or like this photo? Answered without a server."""
    photos = None if photo is None else [_read(photo)]
    try:
        recommender = opened(shop).recommender()
        (answer,) = recommender.similar(item_id=item, photos=photos, k=k, threshold=threshold)
    except PhotoRefused as error:
        raise PhotoRefused(f"{photo}: {str(error).removeprefix('row 0: ')}") from error
    table = table_of("rank", "item", "score", "title", "category", "price")
    for slot in answer.slate:
        shown = slot.item
        price = "" if shown["price"] is None else f"{shown['price']:.2f} {shown['currency'] or ''}"
        named = (slot.item_id, f"{slot.score:.4f}", shown["title"], shown["category_id"])
        add_row(table, slot.rank, *named, price)
    out.print(table)
    for note in filter(None, (answer.fallback, answer.reason)):
        out.print(note)


@app.command()
def register(shop: ShopFolder = HERE, name: Annotated[str, typer.Option()] = "etalage") -> None:
    """Log the current bundle to MLflow as a model and register it."""
    out.print(opened(shop).register(name))


@app.command()
def serve(
    shop: ShopFolder = HERE,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option()] = None,
    key_file: Annotated[Path | None, typer.Option(help="File that holds the bearer key.")] = None,
) -> None:
    """Serve the current bundle over HTTP; a new bundle is taken over while serving."""
    opened(shop).serve(host, port, key_file)


@app.command()
def page(
    url: Annotated[str, typer.Option(help="Where `etalage serve` answers.")] = "http://127.0.0.1:8765",
    port: Annotated[int, typer.Option()] = 8501,
) -> None:
    """The web page, on loopback; it speaks to the server alone."""
    from etalage.page.run import run

    raise typer.Exit(run(url, port))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo shop is made.")] = Path("demo"),
    items: Annotated[int, typer.Option()] = 5000,
    shoppers: Annotated[int, typer.Option()] = 2000,
    seed: Annotated[int, typer.Option()] = 7,
    serve: Annotated[bool, typer.Option(help="Serve the API and the page at the end.")] = True,
    port: Annotated[int, typer.Option()] = 8765,
    page_port: Annotated[int, typer.Option()] = 8501,
) -> None:
    """The whole path on a shop that is drawn for you: make it, train, evaluate, publish, serve."""
    from etalage.demo import build, require_free, show

    if serve:
        require_free(port, page_port)
    shop = build(folder, items, shoppers, seed, bar, out.print)
    if serve:
        raise typer.Exit(show(shop, port, page_port, out.print))


def _tell(manifest: Any) -> None:
    recall = ", ".join(
        f"{'all' if r.share is None else f'{r.share:.0%}'} {r.recall:.3f}" for r in manifest.index.recall
    )
    counts = f"{manifest.items:,} items, {manifest.indexed:,} in the {manifest.index.kind} index"
    out.print(f"published {manifest.id}: {counts}")
    if recall:
        out.print(f"recall@{manifest.index.recall[0].k} against exact, by share allowed: {recall}")
    if manifest.forced:
        out.print(f"forced past: {', '.join(manifest.forced)}")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputUnreadable(f"{file}: {error.strerror}") from error


def main() -> None:
    """The entry point of the command `etalage`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a title that the terminal's encoding lacks
    try:
        app()
    except EtalageError as error:
        err.print(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "etalage").startswith("etalage"):
            raise
        sys.exit(f"{error.name} is not installed: pip install 'etalage[train]'")


if __name__ == "__main__":
    main()
