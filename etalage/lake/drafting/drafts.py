"""What is guessed of a file: a table, a line for each column of ours, and why."""

from dataclasses import dataclass, field

from etalage.config import Source
from etalage.lake.feeds.contract import Feed, Head


@dataclass(frozen=True)
class Line:
    """Our column `ours` is read from `source`; None: it is made of what `reason` says."""

    ours: str
    source: Source | None
    reason: str
    sure: bool = True


@dataclass(frozen=True)
class Setting:
    """A key of [ingest.<table>] other than the columns. `sure` False: it is written as a comment."""

    name: str
    value: str | bool | tuple[str, ...]
    reason: str
    sure: bool = True
    within: str | None = None
    """The table beneath [ingest.<table>] that it stands in: `constants`, `values.kind`."""

    @property
    def usual(self) -> bool:
        """Whether it is so without being set; another file of the table may say it otherwise."""
        return self.sure and (self.name, self.value) == ("decimal", ".")


@dataclass(frozen=True)
class Draft:
    """`head` is taken for rows of `table`, as `title` says, by `why`. `notes`: what to know besides."""

    head: Head
    table: str
    title: str
    why: str
    sure: bool
    lines: tuple[Line, ...]
    settings: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()
    feed: Feed | None = None

    @property
    def unsure(self) -> list[str]:
        """What a person should look at, in words."""
        found = [] if self.sure else [f"that it is {self.title}: {self.why}"]
        found += [f"{line.ours}: {line.reason}" for line in self.lines if not line.sure]
        return found + [f"{one.name}: {one.reason}" for one in self.settings if not one.sure]


@dataclass
class Ids:
    """Ids that other files of the shop have, by which an item's id is told from its other numbers."""

    item_id: frozenset[str] = frozenset()
    where: str = ""
    matches: dict[str, float] = field(default_factory=dict)
    """Column of the file → the share of those ids that are in it."""
