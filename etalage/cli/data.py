"""Commands about the shop's tables: make a shop, load files, look at tables, collect, erase."""

import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, app, opened, print_next
from etalage.config import ShopConfig
from etalage.console import add_row, bar, counted, manner, out, table_of
from etalage.errors import ConfigError, InputUnreadable, TooManyRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etalage.lake.drafting.drafts import Draft
    from etalage.lake.drafting.looking import Tried
    from etalage.lake.drafting.pictures import PictureFolder
    from etalage.lake.ingest import Ingested
    from etalage.shop.behaviour_steps import KindFacts
    from etalage.shop.draft_steps import DraftedShop
    from etalage.shop.held_steps import Collected
    from etalage.shop.live_steps import Erased


class TableChoice(StrEnum):
    """The tables that files are loaded into."""

    items, photos, users, interactions = "items", "photos", "users", "interactions"


Ids = StrEnum("Ids", ["stem", "path"])
Part = StrEnum("Part", ["train", "rank", "validation", "test"])
Format = StrEnum(
    "Format",
    [
        "csv", "parquet", "jsonl", "xml", "google_merchant", "shopify", "woocommerce", "ga4", "idx", "folder",
        "ncf", "pairs", "sequences", "set_ratings",
    ],
)  # fmt: skip


@dataclass(frozen=True)
class NewShop:
    """A shop that was made: its settings, and the commands that load its files."""

    settings: Path
    next: list[str]


@dataclass(frozen=True)
class TableFacts:
    """A table: how many rows it has, and its version."""

    table: str
    rows: int
    version: int


@app.command(
    epilog="""
    etalage new shop --name "My shop"
    etalage new shop --from items.csv --from orders.csv
    """
)
def new(
    folder: Annotated[Path, typer.Argument(help="The folder to make; it must not hold a shop.toml.")],
    name: Annotated[str | None, typer.Option(help="The shop's name. Default: the folder's.")] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", help="Guess the mapping of this file, or look at a folder of pictures; repeat for more."
        ),
    ] = None,
) -> None:
    """Make a shop's folder with a shop.toml to edit.

    With --from FILE, Etalage guesses what the file is and writes the mapping of its columns into shop.toml.
    """
    name = name or folder.resolve().name or ShopConfig().name
    try:
        if files:
            _draft(folder, name, files)
            return
        from etalage.shop import Shop

        shop = Shop.create(folder, name, bar)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot make a shop there: {error.strerror}") from error
    file = shop.folder / "shop.toml"
    following = f"etalage ingest FILE items --shop {shlex.quote(str(folder))}"
    tell(NewShop(file, [following]), lambda: out.print(f"{file}: edit it, then `{following}`"))


def _draft(folder: Path, name: str, files: list[Path]) -> None:
    from etalage.shop.draft_steps import draft_shop, write_draft

    drafted = draft_shop(name, files, bar)
    if not manner().json:
        _print_drafts(folder, drafted)
    made = NewShop(write_draft(folder, drafted), list(_ingests(folder, drafted)))
    said = "check it, then run" if drafted.drafts else "is written; now run"
    tell(made, lambda: out.print("\n  ".join([f"{made.settings}: {said}", *made.next])))


def _ingests(folder: Path, drafted: "DraftedShop") -> "Iterator[str]":
    for pictures in drafted.pictures:
        ids = ["--ids", pictures.ids] if pictures.ids != "stem" else []
        words = ["etalage", "ingest", str(pictures.folder), "items", *ids, "--shop", str(folder)]
        yield shlex.join(words)
    for draft, options in zip(drafted.drafts, drafted.options, strict=True):
        words = ["etalage", "ingest", str(draft.head.file), draft.table, *options, "--shop", str(folder)]
        yield shlex.join(words)


def _print_drafts(folder: Path, drafted: "DraftedShop") -> None:
    for draft, trial in zip(drafted.drafts, drafted.trials, strict=True):
        _print_draft(draft, trial)
    for pictures in drafted.pictures:
        _print_pictures(pictures)
    for one in drafted.behaviour:
        out.print(f"[behaviour] {one.name} = {str(one.value).lower()}: {one.reason}")
    if (folder / "shop.toml").exists():
        out.print(drafted.mappings)


def _print_pictures(found: "PictureFolder") -> None:
    path, item_id, category = found.example
    out.print(
        f"{found.folder}: {found.pictures:,} pictures, each an item, in {found.categories:,} categories"
    )
    out.print(f"  {path} becomes the item {item_id!r}{f', in the category {category!r}' if category else ''}")
    if found.doubled:
        stem, count = found.doubled[0]
        out.print(f"  {stem} is the name of {count:,} files in it: ids are paths, `--ids path`")
    if found.others:
        some = ", ".join(found.others[:3])
        out.print(f"  {len(found.others):,} other files are not called as pictures are: {some}")


def _print_draft(draft: "Draft", trial: "Tried | str") -> None:
    from etalage.config import texts_of

    out.print(f"{draft.head.file}: {'' if draft.sure else 'UNSURE, perhaps '}{draft.title}: {draft.why}")
    for line in draft.lines:
        if line.source is None:
            out.print(f"  {line.ours}: {line.reason}")
            continue
        theirs = ", ".join(texts_of(line.source))
        out.print(f"  {line.ours} = {theirs}: {'' if line.sure else 'UNSURE: '}{line.reason}")
    for one in (one for one in draft.settings if not one.usual):
        where = f"{one.within}: " if one.within else ""
        said = one.reason if one.name == "#" else f"{one.name} = {one.value}: {one.reason}"
        out.print(f"  {where}{'' if one.sure else 'UNSURE, not set: '}{said}")
    for note in draft.notes:
        out.print(f"  {note}")
    if isinstance(trial, str):
        out.print(f"  this mapping loads nothing: {trial}")
        return
    passed = f", and skips {trial.passed:,}" if trial.passed else ""
    out.print(f"  this mapping loads {trial.taken:,} of the first {trial.read:,} rows{passed}")
    for reason, count in sorted(trial.refused.items(), key=lambda pair: -pair[1])[:5]:
        out.print(f"    {count:,} × {reason}")


def _files_and_table(words: list[str]) -> tuple[list[str], TableChoice]:
    """The last of several words is a table where it is called as one is."""
    tables = [one.value for one in TableChoice]
    if len(words) == 1:
        return words, TableChoice.items
    if words[-1] in tables:
        return words[:-1], TableChoice(words[-1])
    if words[-1].isidentifier() and not Path(words[-1]).exists():
        raise ConfigError(
            f"{words[-1]}: no file, and no table ({', '.join(tables)}); name one behind the files"
        )
    return words, TableChoice.items


@app.command(
    epilog="""
    etalage ingest items.csv
    etalage ingest "days/*.csv" interactions --shop demo
    etalage ingest feed.xml --whole
    """
)
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES [TABLE]",
            help="CSV, Parquet, JSONL, XML, a feed or export, an IDX file, a folder of images or of tables, "
            "or several. Then the table to fill: items (the default), photos, users or interactions.",
        ),
    ],
    shop: ShopFolder = HERE,
    format: Annotated[
        Format | None,
        typer.Option(
            metavar="NAME",
            help=f"The file's format: {', '.join(Format)}. Default: recognised by its name and content.",
        ),
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Set attribute NAME=VALUE on every item; repeat for more.")
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(help="Names of an IDX file's classes, comma-separated.")
    ] = None,
    ids: Annotated[
        Ids, typer.Option(help="Item ids of a folder: file names without suffix, or paths.")
    ] = Ids.stem,
    photo_root: Annotated[
        Path | None, typer.Option(help="The folder that the table's photo paths are relative to.")
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(help="The CSV file's delimiter: one character, or 'tab'. Default: found by its lines."),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="The file's encoding, such as cp1252. Default: by its byte order mark, else UTF-8."
        ),
    ] = None,
    part: Annotated[
        Part | None,
        typer.Option(help="For interactions: which part of a published split the file is."),
    ] = None,
    max_refused: Annotated[
        int, typer.Option(min=0, help="Fail only if more rows than this are refused.")
    ] = 0,
    whole: Annotated[
        bool, typer.Option("--whole", help="The file is complete: items not in it leave the catalogue.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="With --whole: remove items however many they are, and despite refused rows."
        ),
    ] = False,
) -> None:
    """Load a file, or several, into a table.

    Bad rows go to the table `refused`, with file, line and reason; the others are loaded.
    """
    if force and not whole:
        raise ConfigError("--force needs --whole: without --whole, no item leaves the catalogue")
    from etalage.config import parse_pairs

    names = class_names.split(",") if class_names else None
    files, table = _files_and_table(sources)
    here = opened(shop)
    if len(sources) == 1 and format is None:
        from etalage.shop.draft_steps import require_items

        require_items(Path(sources[0]))
    done = here.ingest(
        files[0] if len(files) == 1 else files,
        table.value,
        format=format,
        attributes=parse_pairs("--attribute", attribute),
        class_names=names,
        ids=ids.value,
        photo_root=photo_root,
        whole=whole,
        force=force,
        part=None if part is None else part.value,
        delimiter=delimiter,
        encoding=encoding,
    )
    tell(done, lambda: _show_ingested(done, shop))
    named = ", ".join(files)
    if done.unreadable:
        raise InputUnreadable(
            f"{named}: {len(done.unreadable)} files could not be read, or not to their end; the others are "
            "loaded. Mend them, and ingest them again"
        )
    if done.refused > max_refused:
        raise TooManyRefused(
            f"{named}: {done.refused} rows refused, --max-refused allows {max_refused}; the others are "
            f"loaded. For file, line and reason of each: `etalage refused --shop {shlex.quote(str(shop))}`"
        )


def _show_ingested(done: "Ingested", shop: Path) -> None:
    repeated = f"repeated {done.repeated}, " if done.repeated else ""
    besides = (("older", done.older), ("of erased shoppers", done.erased), ("skipped", done.passed))
    more = "".join(f"{name} {n}, " for name, n in besides if n)
    photos = f" (photos of loaded items: {done.photos_refused})" if done.photos_refused else ""
    out.print(
        f"read {done.read}: inserted {done.inserted}, updated {done.updated}, "
        f"unchanged {done.unchanged}, {repeated}{more}refused {done.refused}{photos}"
    )
    for reason, count in sorted(done.refused_by_reason.items(), key=lambda pair: -pair[1])[:10]:
        such = "such as " if count > 1 else ""
        out.print(f"  {count} × {such}{done.first_refused.get(reason, reason)}")
    for note in done.notes:
        out.print(f"  {note}")
    for reason in done.unreadable[:10]:
        out.print(f"  {reason}")
    print_next(shop)


@app.command(epilog="etalage tables --shop demo")
def tables(shop: ShopFolder = HERE) -> None:
    """List the tables, and what each kind of interaction counts as."""
    place = opened(shop)
    lake = place.lake
    versions = sorted(lake.versions().items())
    facts = [TableFacts(name, lake.table(name).count(), version) for name, version in versions]
    kinds = place.kinds()
    tell({"tables": facts, "kinds": kinds}, lambda: _show_tables(facts, kinds))


def _show_tables(facts: list[TableFacts], kinds: "Sequence[KindFacts]") -> None:
    table = table_of("table", "rows", "version")
    for one in facts:
        add_row(table, one.table, f"{one.rows:,}", one.version)
    out.print(table)
    if not facts:
        out.print("no table has rows yet: load items with `etalage ingest FILE items`")
    if kinds:
        table = table_of("kind", "interactions", "counts as", "weight", "owns the item")
        for kind in kinds:
            known, has = "unknown" if kind.meaning == "other" else kind.meaning, "yes" if kind.has else ""
            add_row(table, kind.kind or "(none)", f"{kind.count:,}", known, f"{kind.weight:g}", has)
        out.print(table)


@app.command(epilog="etalage refused --last 100")
def refused(
    shop: ShopFolder = HERE, last: Annotated[int, typer.Option(min=1, help="How many rows.")] = 20
) -> None:
    """List the newest refused rows: file, line, reason."""
    stored = opened(shop).lake.table("refused")
    if not stored.exists():
        tell([], lambda: out.print("nothing was refused"))
        return
    columns = stored.read(columns=["what", "file", "line", "reason", "refused_at"])
    order = [("refused_at", "descending"), ("file", "ascending"), ("line", "ascending")]
    rows = columns.sort_by(order).slice(0, last).to_pylist()
    tell(rows, lambda: _show_refused(rows))


def _show_refused(rows: list[dict[str, Any]]) -> None:
    table = table_of("table", "file", "line", "reason")
    for row in rows:
        add_row(table, row["what"], row["file"], row["line"], row["reason"])
    out.print(table)


@app.command(epilog="etalage collect --shop demo")
def collect(shop: ShopFolder = HERE) -> None:
    """Load the events that the server received into the tables.

    The server keeps events in the online store; training reads the tables.

    Events about unknown items, or of unknown kinds, wait in the table `held` until they are known.
    """
    done = opened(shop).collect()
    tell(done, lambda: _show_collected(done))


def _show_collected(done: "Collected") -> None:
    more = f", {done.released:,} of which had been held back" if done.released else ""
    out.print(f"{counted(done.new, 'act is', 'acts are')} new in the table{more}")
    if done.waiting:
        held = counted(done.held, "event was", "events were")
        out.print(f"{held} held back; {counted(done.waiting, 'waits', 'wait')} in the table held")
    for note in done.notes:
        out.print(f"  {note}")


@app.command(epilog="etalage erase u000007")
def erase(
    user: Annotated[str, typer.Argument(help="The shopper's user_id.")], shop: ShopFolder = HERE
) -> None:
    """Erase a shopper, and list where traces of them are left.

    This deletes the shopper's rows from the tables and the online store.
    """
    done = opened(shop).erase(user)
    tell(done, lambda: _show_erased(done, user))


def _show_erased(done: "Erased", user: str) -> None:
    for name, rows in done.rows.items():
        out.print(f"{name}: {rows} rows deleted")
    if not any(done.rows.values()):
        near = f"; did you mean {done.near}?" if done.near is not None else ""
        out.print(f"no row has user_id {user!r}: ids must match exactly{near}")
    for line in done.left:
        out.print(f"left: {line}")
