"""What is guessed of a file: a table, a line for each column of ours, and why."""

from collections.abc import Mapping
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
    """A key of [ingest.<table>] other than the columns, or of [behaviour]. `sure` False: it is written as a
    comment."""

    name: str
    value: str | bool | int | tuple[str, ...]
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


@dataclass(frozen=True)
class Ids:
    """How other files of the shop tell an item's id from its other numbers.

    `matches`: a column of the file → the share of the acts in `where` whose item is in it; of a file of acts
    the share of its own whose item is in `where`.
    """

    where: str = ""
    matches: Mapping[str, float] = field(default_factory=dict)
    of_acts: bool = False

    def describe(self, name: str) -> str:
        """What is said of a column."""
        share = self.matches.get(name, 0)
        if self.of_acts:
            said = f"{share:.0%} of the acts find" if share else "none of the acts finds"
            return f"by it {said} {'their' if share else 'its'} item in {self.where}"
        some = f"{share:.0%} of the ids in {self.where} are in it"
        return some if share else f"none of the ids in {self.where} is in it"
