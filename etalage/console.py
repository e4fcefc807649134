"""What the terminal shows: text as it is, tables, and progress on stderr, as a bar or, where there is no
terminal, as lines."""

import re
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from rich import progress

# Names and titles are somebody else's: `[red]` and `:heart:` in them are text, and no line of a file
# or a pipe is cut to a screen's width.
PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
UNCUT = 100_000
"""Columns of an answer that goes into a file or a pipe."""
out = Console(**PLAIN, width=None if sys.stdout and sys.stdout.isatty() else UNCUT)
err = Console(**PLAIN, stderr=True)


@dataclass(frozen=True)
class Manner:
    """How a command speaks: what `--json`, `--quiet` and `--verbose` ask for."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    begun: float = 0.0
    """`time.perf_counter()` when the command began."""


_MANNER: ContextVar[Manner] = ContextVar("manner", default=Manner())  # noqa: B039  (frozen)


def manner() -> Manner:
    """How the command that runs now is to speak."""
    return _MANNER.get()


def speak(**changed: bool) -> None:
    """Change how the command that runs now speaks."""
    _MANNER.set(replace(_MANNER.get(), **changed))


def since_start() -> float:
    """Seconds that the command that runs now has taken."""
    return time.perf_counter() - _MANNER.get().begun


@contextmanager
def speaking() -> Iterator[None]:
    """A command: whatever it changes of the manner holds until it ends."""
    before = _MANNER.set(Manner(begun=time.perf_counter()))
    try:
        yield
    finally:
        _MANNER.reset(before)


# -- progress ----------------------------------------------------------------------------------

SOON, EVERY = 2.0, 10.0
"""Seconds after which a step that goes on is named on a line, and between two lines of one."""


class _Silent:
    def __call__(self, steps: int) -> None:
        return None

    def say(self, line: str, total: int) -> None:
        return None


class _Meter:
    def __init__(self, shown: "progress.Progress", task: "progress.TaskID") -> None:
        self._shown, self._task = shown, task

    def __call__(self, steps: int) -> None:
        self._shown.advance(self._task, steps)

    def say(self, line: str, total: int) -> None:
        self._shown.update(self._task, description=line, total=total)


class Lines:
    """Progress without a terminal: a line when a step has gone on for a while, lines in between, one at its
    end."""

    def __init__(self, title: str, total: int | None, now: float) -> None:
        self._line, self._total, self._done = title, total, 0
        self._begun, self._counted = now, (now, 0)
        self._told = ""

    def __call__(self, steps: int, now: float | None = None) -> None:
        if not self._done:  # what a run that goes on has from before takes no time
            self._counted = (time.monotonic() if now is None else now, steps)
        self._done += steps

    def say(self, line: str, total: int) -> None:
        self._line, self._total = line, total

    def due(self, now: float) -> str | None:
        """The line to show now; None: nothing changed since the last one."""
        line = f"{self._line} …" if not self._done else self._text(now)
        if line == self._told:
            return None
        self._told = line
        return line

    def last(self, now: float) -> str:
        """The line at the end of the step."""
        count = f" {self._done:,}/{max(self._total or 0, self._done):,}" if self._done else ""
        return f"{self._line}:{count} {duration(now - self._begun)}"

    def _text(self, now: float) -> str:
        if not self._total:
            return f"{self._line}: {self._done:,}"
        share = min(self._done / self._total, 1.0)
        since, before = self._counted
        rate = (self._done - before) / (now - since) if now > since else 0.0
        left = f", about {roughly((self._total - self._done) / rate)} left" if rate and share < 1 else ""
        return f"{self._line}: {self._done:,}/{self._total:,} ({share:.0%}){left}"


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Any]:
    """The progress of one step, on stderr: a bar that stays behind, or lines where stderr is no terminal."""
    if manner().quiet or (manner().json and not err.is_terminal):
        yield _Silent()
    elif err.is_terminal:
        with _drawn(title, total) as meter:
            yield meter
    else:
        with _written(title, total) as lines:
            yield lines


@contextmanager
def _written(title: str, total: int | None) -> Iterator[Lines]:
    lines, ended = Lines(title, total, time.monotonic()), threading.Event()

    def tell() -> None:
        wait = SOON
        while not ended.wait(wait):
            wait = EVERY
            if (line := lines.due(time.monotonic())) is not None:
                err.print(line)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield lines
    finally:
        ended.set()
        teller.join()
    err.print(lines.last(time.monotonic()))


@contextmanager
def _drawn(title: str, total: int | None) -> Iterator[_Meter]:
    from rich import progress

    class Title(progress.ProgressColumn):
        """What is done; cut where the terminal is too narrow, since the others are not."""

        def render(self, task: "progress.Task") -> Text:
            return Text(task.description, no_wrap=True, overflow="ellipsis")

    class Count(progress.ProgressColumn):
        """How many of how many; nothing for a step that does not count."""

        def render(self, task: "progress.Task") -> Text:
            total = "?" if task.total is None else f"{task.total:,.0f}"
            return Text(f"{task.completed:,.0f}/{total}" if task.completed else "")

    class Left(progress.ProgressColumn):
        """How long it took until now, and about how long it will take yet."""

        def render(self, task: "progress.Task") -> Text:
            took = duration(task.finished_time if task.finished_time is not None else task.elapsed or 0)
            left = None if task.finished else task.time_remaining
            return Text(took if left is None else f"{took}, about {roughly(left)} left")

    named = (progress.SpinnerColumn(finished_text="✓"), Title(Column(overflow="ellipsis")))
    counted = (progress.BarColumn(bar_width=12), Count(Column(no_wrap=True)), Left(Column(no_wrap=True)))
    with progress.Progress(*named, *counted, console=err) as shown:
        task = shown.add_task(title, total=total)
        yield _Meter(shown, task)
        done = shown.tasks[0].completed
        shown.update(task, total=done or 1, completed=done or 1)


def roughly(seconds: float) -> str:
    """A time that is estimated: `40 s`, `19 min`, `3.2 h`."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# -- text and tables ---------------------------------------------------------------------------


def counted(count: int, one: str, many: str) -> str:
    """`1 item left`, `2,000 items left`."""
    return f"{count:,} {one if count == 1 else many}"


LONG = 80
"""Characters of a value that a terminal may cut."""


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


_GAP = 2
"""Blanks between two columns."""


class Folding(Table):
    """A table that breaks no word: where the terminal is too narrow for the longest word of every column, a
    row is a paragraph, with a line for each column."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = list(zip(*(column.cells for column in self.columns), strict=True))
        cells = [[_text(cell) for cell in row] for row in rows]
        room = options.max_width - _GAP * (len(self.columns) - 1)
        heads = [str(column.header) for column in self.columns]
        needs = [max(map(_longest_word, column)) for column in zip(heads, *cells, strict=True)]
        if sum(needs) > room:
            yield from _paragraphs(heads, cells, options.max_width)
            return
        wants = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        for column, width in zip(self.columns, _shared(needs, wants, room), strict=True):
            column.width = width
        yield from super().__rich_console__(console, options)


def _text(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _longest_word(text: str) -> int:
    """Of a value that may be cut, so much that it can be told from others."""
    longest = max(map(len, text.split()), default=0)
    return min(longest, LONG // 4) if len(text) > LONG else longest


def _shared(needs: Sequence[int], wants: Sequence[int], room: int) -> list[int]:
    """The width of each column: what it needs, and of what is left so much as it wants, all alike."""
    widths = list(needs)
    while sum(widths) < room and widths != list(wants):
        widths = [
            w + 1 if w < want and sum(widths) < room else w for w, want in zip(widths, wants, strict=True)
        ]
    return widths


def _paragraphs(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    for row in rows:
        first, *others = zip(heads, row, strict=True)
        yield from _paragraph(first[1] or "–", width, "")
        for head, value in others:
            if value:
                yield from _paragraph(f"{head}: {value}" if head else value, width, "  ")


def _paragraph(text: str, width: int, indent: str) -> Iterator[Text]:
    lines = textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    yield from (Text(line, overflow="ignore") for line in lines)  # the terminal breaks what is longer


def table_of(*columns: str) -> Table:
    """A table without lines, with these columns. On a terminal that is too narrow for it values take several
    lines, and long ones end in an ellipsis, or each row is a paragraph; in a file or a pipe each row is a
    line."""
    return Folding(*(Column(name, overflow="fold") for name in columns), box=None, pad_edge=False)


def add_row(table: Table, *cells: object) -> None:
    """A row; line breaks and terminal escapes in a cell are shown, not obeyed."""
    shown = ("" if cell is None else str(cell) for cell in cells)
    table.add_row(
        *(_cell(re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], s)) for s in shown)
    )


def _cell(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis") if len(text) > LONG else Text(text, overflow="fold")
