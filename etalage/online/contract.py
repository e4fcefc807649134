"""What every online store keeps to: acts of shoppers, in order of time, and changes to items."""

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from etalage.api import Act, Event
from etalage.errors import Unprocessable
from etalage.lake import instants

CLOCK_SKEW = 5 * 60 * 1_000_000
"""Microseconds that an event may lie in the future: clocks differ a little."""
EARLIEST = int(instants.EARLIEST.timestamp()) * 1_000_000
"""Microseconds; an event before was sent in another unit, or by a clock that stands."""
LIVE_COLUMNS = ("in_stock", "price")
"""What may change of an item between two bundles."""
LONGEST = 512
"""Characters of an id, as in the tables."""


@dataclass(frozen=True)
class Appended:
    """What became of a batch of events: their numbers add up to its length."""

    accepted: int
    repeated: int
    quarantined: int
    reasons: tuple[str, ...] = ()
    """Why events were quarantined: one line each, ten at most."""
    erased: int = 0
    """Those of shoppers who were erased after them, or sent again: not kept."""


@dataclass(frozen=True)
class About:
    """Which store it is."""

    store_id: str
    """Made with the store: one that was emptied, or put in another's place, has another id."""
    seeded: bool
    """Whether histories out of the lake were ever put into it."""


@dataclass(frozen=True)
class Patience:
    """Seconds that a call may wait for somebody else's lock, or for an answer."""

    reading: float = 10.0
    writing: float = 10.0


PATIENT = Patience()


class LiveStore(Protocol):
    """Safe to share between threads and processes. Everything raises StoreUnavailable (DataError) where the
    store cannot be used now."""

    @property
    def seen(self) -> About | None:
        """Which store it was when `items` looked last."""
        ...

    def append(self, events: Sequence[Event]) -> Appended:
        """Keep events; idempotent by event_id, durable when it returns. Late ones take their place in time,
        those more than five minutes ahead are quarantined. Raises Unprocessable: an id that cannot be one."""
        ...

    def history(self, user_id: str, limit: int, lasting: Callable[[str], bool] | None = None) -> list[Act]:
        """The newest `limit` acts, oldest first; of equal time, in order of arrival.

        Of kinds for which `lasting` holds, older ones too: of each item, kind and value the newest.
        """
        ...

    def events(self, after: int, limit: int) -> list[tuple[int, Event]]:
        """Events in order of arrival with their numbers, from the one behind `after` on: the way back into
        the lake."""
        ...

    def set_items(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """{"item_id": {"in_stock": False, "price": 9.5}}; None takes a change back. Raises Unprocessable."""
        ...

    def items(self) -> dict[str, dict[str, Any]]:
        """Every change that holds, with `time` (microseconds) of its setting.

        The very same object until something changes: whoever derived something from it need not again.
        Not to be changed. Costs one look; what it saw of the store is in `seen`.
        """
        ...

    def erase(self, user_id: str) -> int:
        """Forget a shopper; how many acts are gone, quarantined ones included.

        What they did until now is not taken any more, by whomever and however often it is sent or seeded;
        what they do from now on is.
        """
        ...

    def forget(self, erased: Mapping[str, int]) -> int:
        """Shoppers who were erased, as the shop's tables remember them: digest of the user_id → microseconds.

        A store that was made anew, put back from a copy, or away meanwhile, does not know of them. What they
        did before goes, and is not taken any more; how many acts are gone. One look where all is known.
        """
        ...

    def remains(self) -> tuple[str, ...]:
        """Where what was erased can still be read, and how it goes; asking tries to make it go."""
        ...

    def seed(self, acts: Iterable[tuple[str, Act]]) -> int:
        """Histories out of the lake, instead of those seeded before; how many acts. One that is there as an
        event already (same user, item, kind and time) is not there twice; what a shopper did before they were
        erased (or without a time) is passed over."""
        ...

    def users(self, limit: int) -> list[str]:
        """Some shoppers with a history: those who acted last."""
        ...

    def about(self) -> About:
        """Which store it is, now."""
        ...

    def check(self, really: bool = False) -> None:
        """Raises StoreUnavailable when events could not be kept now; `really`: found out by writing."""
        ...

    def close(self) -> None: ...


def clock() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000


def new_store_id() -> str:
    return secrets.token_hex(8)


def sorted_out(events: Sequence[Event], now: int) -> tuple[list[Event], list[tuple[Event, str]]]:
    """Events to be kept, stamped, and those to be quarantined with the reason.

    Raises Unprocessable that names the event: an empty or overlong id, text that is no Unicode.
    """
    good: list[Event] = []
    bad: list[tuple[Event, str]] = []
    for number, event in enumerate(events):
        act = event.act
        for name, text in (
            ("event_id", event.event_id),
            ("user_id", event.user_id),
            ("item_id", act.item_id),
            ("kind", act.kind),
        ):
            if trouble := _text_trouble(text):
                raise Unprocessable(f"event {number}: {name} {trouble}")
        if act.value is not None and not math.isfinite(act.value):
            bad.append((event, f"event {_short(event.event_id)}: value {act.value} is not finite"))
        elif act.time is not None and act.time > now + CLOCK_SKEW:
            ahead = (act.time - now) / 60e6
            bad.append((event, f"event {_short(event.event_id)}: its time is {ahead:,.0f} minutes ahead"))
        elif act.time is not None and act.time < EARLIEST:
            said = f"event {_short(event.event_id)}: its time, {act.time} µs since 1970, is before 1995"
            bad.append((event, f"{said}; send ISO 8601, or seconds, ms or µs since 1970"))
        else:
            good.append(event if act.time is not None else replace(event, act=replace(act, time=now)))
    return good, bad


def act_is_erased(erased_at: int | None, act: Act) -> bool:
    """Whether it is of before its shopper was erased; without a time it counts as that."""
    return erased_at is not None and (act.time is None or act.time <= erased_at)


def checked_changes(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same, with values of the right type. Raises Unprocessable that names item and key."""
    checked: dict[str, dict[str, Any]] = {}
    for item_id, change in changes.items():
        if trouble := _text_trouble(item_id):
            raise Unprocessable(f"item_id {trouble}")
        for key, value in change.items():
            if key not in LIVE_COLUMNS:
                raise Unprocessable(
                    f"item {_short(item_id)}: {key!r} cannot change here, only {' and '.join(LIVE_COLUMNS)}; "
                    "other columns come in with `etalage ingest` and `etalage sync`"
                )
            if value is None:
                continue
            if key == "in_stock" and not isinstance(value, bool):
                raise Unprocessable(f"item {_short(item_id)}: in_stock = {value!r}: true, false or null")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if key == "price" and not (number and math.isfinite(value) and value >= 0):
                raise Unprocessable(f"item {_short(item_id)}: price = {value!r}: a number from 0 on, or null")
        checked[item_id] = {k: float(v) if k == "price" and v is not None else v for k, v in change.items()}
    return checked


def merged_change(before: Mapping[str, Any] | None, change: Mapping[str, Any], now: int) -> dict[str, Any]:
    """What holds of one item after `change`; {} when nothing does."""
    both = {**(before or {}), **change}
    kept = {key: both[key] for key in LIVE_COLUMNS if both.get(key) is not None}
    return {**kept, "time": now} if kept else {}


def _text_trouble(text: object) -> str | None:
    if not isinstance(text, str) or not text:
        return "is missing"
    if text.isspace():
        return "is missing: blanks stand there"
    if len(text) > LONGEST:
        return f"has {len(text)} characters, at most {LONGEST} are allowed"
    if "\x00" in text:
        return f"{_short(text)} holds a NUL character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"{_short(text)} is no Unicode text (half a surrogate pair)"
    return None


def _short(text: str) -> str:
    return ascii(text) if len(text) <= 40 else f"{text[:37]!a}…"
