"""The command line: one subcommand a step. It parses and prints, and never computes.

Every error of ours ends with one message on stderr and its exit code (errors.py); anything else
is a bug, and shows its traceback.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from etalage.errors import EtalageError, InputUnreadable, TooManyRefused
from etalage.shop import MODEL, Shop

app = typer.Typer(
    name="etalage",
    help="A recommender for shops: one folder is one shop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True)


class TableChoice(StrEnum):
    """The tables that files are loaded into."""

    items = "items"
    photos = "photos"
    users = "users"
    interactions = "interactions"


ShopFolder = Annotated[Path, typer.Option("--shop", "-s", help="The shop's folder.", envvar="ETALAGE_SHOP")]
Model = Annotated[str, typer.Argument(help="A model of etalage/models or of the shop's models folder.")]
HERE = Path()


class _Meter:
    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def __call__(self, steps: int) -> None:
        self._progress.advance(self._task, steps)

    def say(self, line: str, total: int) -> None:
        self._progress.update(self._task, description=line, total=total)


class _Count(ProgressColumn):
    """How many of how many; nothing for a step that does not count."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}/{total}" if task.completed else "")


@contextmanager
def bar(title: str, total: int | None) -> Iterator[_Meter]:
    """A progress bar that stays behind when its step is done."""
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _Count(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out) as progress:
        task = progress.add_task(title, total=total)
        yield _Meter(progress, task)
        done = progress.tasks[0].completed
        progress.update(task, total=done or 1, completed=done or 1)


def opened(folder: Path) -> Shop:
    return Shop(folder, bar)


@app.command()
def new(folder: Annotated[Path, typer.Argument()], name: Annotated[str, typer.Option()] = "A shop") -> None:
    """Make a shop's folder with a shop.toml to edit."""
    shop = Shop.create(folder, name, bar)
    out.print(f"{shop.folder / 'shop.toml'}: edit it, then `etalage ingest FILE items --shop {shop.folder}`")


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="CSV, Parquet, JSONL, an IDX images file, or a folder.")],
    table: Annotated[TableChoice, typer.Argument()] = TableChoice.items,
    shop: ShopFolder = HERE,
    format: Annotated[str | None, typer.Option(help="csv, parquet, jsonl, idx, folder.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="name=value for every item, such as split=train.")
    ] = None,
    class_names: Annotated[str | None, typer.Option(help="Names of an IDX file's classes, by comma.")] = None,
    max_refused: Annotated[int, typer.Option(help="Exit with an error above so many refused rows.")] = 0,
) -> None:
    """Load a file into a table; bad rows go to the table `refused` with file, line and reason."""
    names = class_names.split(",") if class_names else None
    done = opened(shop).ingest(
        source, table.value, format=format, attributes=_pairs(attribute), class_names=names
    )
    out.print(
        f"read {done.read}: inserted {done.inserted}, updated {done.updated}, "
        f"unchanged {done.unchanged}, refused {done.refused}"
    )
    for reason, count in sorted(done.refused_by_reason.items(), key=lambda pair: -pair[1])[:10]:
        out.print(f"  {count} × {reason}", markup=False)
    if done.refused > max_refused:
        raise TooManyRefused(
            f"{source}: {done.refused} rows refused, --max-refused {max_refused}; the others are stored. "
            "File, line and reason of each are in the table `refused`: `etalage refused`"
        )


@app.command()
def tables(shop: ShopFolder = HERE) -> None:
    """The tables with their rows and versions."""
    table = _table("table", "rows", "version")
    lake = opened(shop).lake
    for name, version in sorted(lake.versions().items()):
        table.add_row(name, f"{lake.table(name).count():,}", str(version))
    out.print(table)


@app.command()
def refused(shop: ShopFolder = HERE, last: Annotated[int, typer.Option()] = 20) -> None:
    """The newest refused rows: file, line, reason."""
    table = _table("table", "file", "line", "reason")
    rows = opened(shop).lake.table("refused").read(columns=["what", "file", "line", "reason", "refused_at"])
    for row in rows.sort_by([("refused_at", "descending")]).slice(0, last).to_pylist():
        table.add_row(row["what"], row["file"], str(row["line"]), row["reason"])
    out.print(table)


@app.command()
def train(
    model: Model = MODEL,
    shop: ShopFolder = HERE,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model's config.")] = None,
    fresh: Annotated[bool, typer.Option(help="Begin anew instead of resuming.")] = False,
) -> None:
    """Train a model on the tables as they are, track it in MLflow, export it."""
    from etalage.training.run import parse_settings

    trained, exported = opened(shop).train(model, parse_settings(set or []), fresh)
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
    force: Annotated[bool, typer.Option(help="Publish against refusals; recorded in the manifest.")] = False,
) -> None:
    """Embed, index, check and publish a bundle; servers take it over by themselves."""
    _tell(opened(shop).publish(force=force))


@app.command()
def sync(shop: ShopFolder = HERE) -> None:
    """Publish what changed since the current bundle; only new and changed photos are embedded."""
    done = opened(shop).sync()
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
    table = _table("", "bundle", "items", "indexed", "made", "model", "forced")
    for one in opened(shop).bundles.survey():
        mark = "→" if one.current else ""
        if one.manifest is None:
            table.add_row(mark, one.id, "", "", "", f"damaged: {one.damage}", "")
            continue
        made, model = one.manifest.created_at, one.manifest.model
        counts = (f"{one.manifest.items:,}", f"{one.manifest.indexed:,}")
        forced = ", ".join(one.manifest.forced)
        table.add_row(mark, one.id, *counts, made, f"{model.name} {model.hash[:8]}", forced)
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
    shop: ShopFolder = HERE,
) -> None:
    """What is like this item, or like this photo? Answered without a server."""
    photos = None if photo is None else [_read(photo)]
    (answer,) = opened(shop).recommender().similar(item_id=item, photos=photos, k=k)
    table = _table("rank", "item", "score", "title", "category", "price")
    for slot in answer.slate:
        shown = slot.item
        price = "" if shown["price"] is None else f"{shown['price']:.2f} {shown['currency'] or ''}"
        table.add_row(
            str(slot.rank), slot.item_id, f"{slot.score:.4f}", shown["title"], shown["category_id"], price
        )
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
    from etalage.demo import build, show

    shop = build(folder, items, shoppers, seed, bar, out.print)
    if serve:
        show(shop, port, page_port, out.print)


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


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _pairs(pairs: list[str] | None) -> dict[str, str] | None:
    from etalage.training.run import parse_settings

    return parse_settings(pairs) if pairs else None


def main() -> None:
    """The entry point of the command `etalage`."""
    try:
        app()
    except EtalageError as error:
        Console(stderr=True, highlight=False).print(f"{type(error).__name__}: {error}", markup=False)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
