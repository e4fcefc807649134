"""What the terminal shows: text as it is, tables, and progress bars on stderr."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich import progress
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

# Names and titles are somebody else's: `[red]` and `:heart:` in them are text, and no line of a file
# or a pipe is cut to a screen's width.
PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
out = Console(**PLAIN, width=None if sys.stdout and sys.stdout.isatty() else 1000)
err = Console(**PLAIN, stderr=True)


class _Meter:
    def __init__(self, shown: progress.Progress, task: progress.TaskID) -> None:
        self._shown, self._task = shown, task

    def __call__(self, steps: int) -> None:
        self._shown.advance(self._task, steps)

    def say(self, line: str, total: int) -> None:
        self._shown.update(self._task, description=line, total=total)


class _Count(progress.ProgressColumn):
    """How many of how many; nothing for a step that does not count."""

    def render(self, task: progress.Task) -> Text:
        total = "?" if task.total is None else f"{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}/{total}" if task.completed else "")


@contextmanager
def bar(title: str, total: int | None) -> Iterator[_Meter]:
    """A progress bar that stays behind when its step is done."""
    named = (
        progress.SpinnerColumn(finished_text="✓"),
        progress.TextColumn("{task.description}", markup=False),
    )
    counted = (progress.BarColumn(bar_width=24), _Count(), progress.TimeElapsedColumn())
    with progress.Progress(*named, *counted, console=err) as shown:
        task = shown.add_task(title, total=total)
        yield _Meter(shown, task)
        done = shown.tasks[0].completed
        shown.update(task, total=done or 1, completed=done or 1)


def counted(count: int, one: str, many: str) -> str:
    """`1 item left`, `2,000 items left`."""
    return f"{count:,} {one if count == 1 else many}"


def sized(count: int) -> str:
    """`999 bytes`, `1.5 kB`, `2.0 GB`."""
    if count < 1000:
        return counted(count, "byte", "bytes")
    size = float(count)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:,.1f} TB"


def table_of(*columns: str) -> Table:
    """A table without lines, with these columns."""
    return Table(*(Column(name, overflow="fold") for name in columns), box=None, pad_edge=False)


def add_row(table: Table, *cells: object) -> None:
    """A row; line breaks and terminal escapes in a cell are shown, not obeyed."""
    shown = ("" if cell is None else str(cell) for cell in cells)
    table.add_row(*(re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], s) for s in shown))
