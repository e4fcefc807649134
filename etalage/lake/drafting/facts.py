"""What the values of a column look like."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from etalage.lake.amounts import read_amount
from etalage.lake.availability import can_be_bought
from etalage.lake.casting import CLOCK_SKEW, says_nothing
from etalage.lake.instants import TimeStyle, read_instant
from etalage.lake.paths import unpacked
from etalage.lake.shown import shown

_LINK = re.compile(r"\s*(?:https?:)?//\S+", re.IGNORECASE)
_PICTURE = re.compile(r"\S.*\.(?:jpe?g|png|gif|webp|avif|bmp)(?:[?#]\S*)?\s*$", re.IGNORECASE)
_PAGE = re.compile(r"\S+/(?:[^/?#.]*|[^/?#]+\.(?:html?|php|aspx?))(?:[?#]\S*)?$", re.IGNORECASE)
_HOUR = re.compile(r"\s*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*")
_LIST_MARKS = ("|", ";", ",", "/")
TWO_DATES = re.compile(r"\s*(\d{1,2})[/-](\d{1,2})[/-](\d{4}|\d{2})\b")


@dataclass(frozen=True)
class Facts:
    """One column of the first rows: `values`, those that say something; `rows`, how many there were."""

    name: str
    values: tuple[Any, ...]
    rows: int

    @property
    def filled(self) -> float:
        return len(self.values) / self.rows if self.rows else 0.0

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(str(value) for value in self.values)

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def unlike(self) -> float:
        """The share of values that are different ones."""
        return self.distinct / len(self.values) if self.values else 0.0

    @cached_property
    def scalar(self) -> bool:
        return not any(isinstance(value, list | dict | tuple) for value in self.values)

    @cached_property
    def amounts(self) -> float:
        return self.share(lambda value: read_amount(value, None, ".") is not None)

    @cached_property
    def stock(self) -> float:
        return self.share(lambda value: can_be_bought(value) is not None)

    @cached_property
    def times(self) -> float:
        """The share that are times; a date of which nobody knows whether the day comes first is one."""
        latest = datetime.now(UTC) + CLOCK_SKEW

        def is_time(value: Any) -> bool:
            if isinstance(value, str) and TWO_DATES.match(value):
                return True
            return read_instant(value, latest, TimeStyle()) is not None

        return self.share(is_time)

    @cached_property
    def links(self) -> float:
        return self.share(lambda value: all(map(_LINK.match, _texts(value))))

    @cached_property
    def pictures(self) -> float:
        """Links or files that are pictures by their names."""
        return self.share(lambda value: all(map(_PICTURE.match, _texts(value))))

    @cached_property
    def pages(self) -> float:
        return self.share(lambda value: all(map(_PAGE.match, _texts(value))))

    @cached_property
    def words(self) -> float:
        """Words in a value, on average; numbers have none."""
        texts = [str(value) for value in self.values if re.search(r"[^\W\d_]", str(value))]
        return sum(len(text.split()) for text in texts) / len(self.values) if self.values else 0.0

    def share(self, true: Callable[[Any], bool]) -> float:
        """The share of values of which `true` is true, and does not raise."""
        return sum(_holds(true, value) for value in self.values) / len(self.values) if self.values else 0.0

    @property
    def example(self) -> str:
        return shown(self.values[0]) if self.values else "nothing"

    @property
    def described(self) -> str:
        """How often it is filled, in how many different ways, and an example."""
        if not self.values:
            return f"empty in all {self.rows:,} rows"
        if len(self.values) < self.rows:
            return f"in {len(self.values):,} of {self.rows:,} rows, {self.distinct:,} different"
        return f"{self.distinct:,} different in {self.rows:,} rows"


def facts_of(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> dict[str, Facts]:
    """Of each name, and of each path into nested values: `customer.id`, `lines[].sku`."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    count: dict[str, int] = dict.fromkeys(names, len(rows))
    for row in rows:
        for name, value in row.items():
            for path, leaf in _leaves(name, value, 0):
                found.setdefault(path, []).append(leaf)
    for path in found:
        if "[]" in path:
            count[path] = max(
                len(found[other]) for other in found if other.split("[]")[0] == path.split("[]")[0]
            )
    facts = {}
    for path, values in found.items():
        filled = tuple(v for v in values if v not in (None, "", [], {}) and not says_nothing(v))
        facts[path] = Facts(path, filled, max(count.get(path, len(rows)), len(filled)))
    nested = {path.split(".")[0].split("[]")[0] for path in facts if "." in path and path not in names}
    return {path: one for path, one in facts.items() if path not in nested or one.scalar}


def mark_of_lists(values: Sequence[str]) -> str | None:
    """What stands between the values where texts are lists: `Action|Comedy`. None: they are none.

    In a path of categories a root is only ever first; in lists most values that are first somewhere come
    later elsewhere.
    """
    for mark in _LIST_MARKS:
        lists = [
            [part.strip() for part in value.split(mark)] for value in values if mark in value.strip(mark)
        ]
        if len(lists) * 10 < len(values) or len(lists) < 5:
            continue
        first = Counter(one[0] for one in lists)
        later = {part for one in lists for part in one[1:]}
        if 2 * sum(count for part, count in first.items() if part in later) > len(lists):
            return mark
    return None


def is_hour(value: Any) -> bool:
    """Whether a value is the time of a day alone: `10:05`, `10:05:12`."""
    return isinstance(value, str) and _HOUR.fullmatch(value) is not None


def _leaves(path: str, value: Any, depth: int) -> list[tuple[str, Any]]:
    value = unpacked(value)
    if isinstance(value, dict) and depth < 3:
        return [leaf for name, inner in value.items() for leaf in _leaves(f"{path}.{name}", inner, depth + 1)]
    walkable = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    if walkable and "[]" not in path and depth < 3:
        return [leaf for one in value for name, inner in one.items()
                for leaf in _leaves(f"{path}[].{name}", inner, depth + 1)]  # fmt: skip
    return [(path, value)]


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    return [part for part in re.split(r"[\s,;|]+(?=https?://)", str(value)) if part]


def _holds(true: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(true(value))
    except (ValueError, OverflowError):
        return False
