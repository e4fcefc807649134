"""`etalage taxonomy`: the tree of categories, and how the merchants' own categories match it."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, group, opened
from etalage.console import add_row, out, table_of
from etalage.errors import ConfigError

if TYPE_CHECKING:
    from etalage.shop.taxonomy_steps import Checked, Proposal, Shown

taxonomy = group("taxonomy", "Show the tree of categories; match merchants' own to it.")
COLUMNS = ("merchant", "category", "id", "path", "similarity", "items")
"""Columns of a drafted map; Etalage ignores the last three when it reads a map."""


@taxonomy.command(
    epilog="""
    etalage taxonomy show
    etalage taxonomy show "Apparel > Shoes"
    """
)
def show(
    category: Annotated[
        str | None, typer.Argument(help="An id or a path. Default: the top of the tree.")
    ] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Show a category: its path, its names, and the categories beneath it."""
    from etalage.shop import taxonomy_steps

    shown = taxonomy_steps.show(opened(shop), category)
    tell(shown, lambda: _print(shown))


def _print(shown: "Shown") -> None:
    out.print(shown.title)
    for language, name in shown.names.items():
        out.print(f"{language}: {name}")
    if shown.counts_as:
        out.print(f"beneath the cut: counts as {shown.counts_as}")
    if shown.beneath:
        table = table_of("id", "name", "leaves beneath")
        for id, name, leaves in shown.beneath:
            add_row(table, id, name, f"{leaves:,}" if leaves else "")
        out.print(table)


@taxonomy.command(epilog="etalage taxonomy check --examples 20")
def check(
    shop: ShopFolder = HERE,
    examples: Annotated[int, typer.Option(min=0, help="How many of each problem to show.")] = 5,
) -> None:
    """Count the items that carry a category of the tree.

    It lists the problems of the others, with examples: unknown, retired, outside and unmapped categories.
    """
    from etalage.shop import taxonomy_steps

    done = taxonomy_steps.check(opened(shop))
    tell(done, lambda: _print_checked(done, examples))


def _print_checked(done: "Checked", examples: int) -> None:
    ways = ", ".join(f"{how} {count:,}" for how, count in done.how.items())
    out.print(f"{done.items:,} items: {ways}")
    for finding in done.findings:
        out.print(f"{finding.reason}: {finding.items:,} items")
        for value, count in finding.values[:examples] if any(value for value, _ in finding.values) else ():
            out.print(f"  {count:,} × {value}")
        if (more := len(finding.values) - examples) > 0 and examples:
            out.print(f"  … and {more:,} others")


@taxonomy.command(epilog="etalage taxonomy map --output map.csv")
def map(
    shop: ShopFolder = HERE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this new CSV file. Default: print.")
    ] = None,
) -> None:
    """Draft a map from merchants' categories to the tree.

    It goes by similar wording. Check every line before you use it: see docs/taxonomy.md.
    """
    from etalage.shop import taxonomy_steps

    place = opened(shop)
    if output is not None and output.exists():
        raise ConfigError(f"{output} exists already and may hold somebody's work; name a new file")
    found = taxonomy_steps.proposals(place)
    if output is not None:
        _write(output, found)
    tell(found, lambda: _print_map(found, output))


def _print_map(found: "list[Proposal]", output: Path | None) -> None:
    if output is not None:
        out.print(f"{output}: {len(found):,} categories. Check every line, then name the file in shop.toml:")
        out.print(f"[taxonomy]\nmap = {str(output)!r}")
        return
    table = table_of(*COLUMNS)
    for one in found:
        add_row(table, *_cells(one))
    out.print(table)


def _write(file: Path, found: "list[Proposal]") -> None:
    try:
        with file.open("x", encoding="utf-8", newline="") as opened_file:
            writer = csv.writer(opened_file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_cells(one) for one in found)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error


def _cells(one: "Proposal") -> tuple[str | int | None, ...]:
    return one.merchant, one.category, one.id, one.path, f"{one.similarity:.3f}", one.items
