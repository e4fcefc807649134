"""Guesses what a file of unknown make is: first the table, then a column for each of ours.

A name that a shop gives its columns counts first, if the values do not contradict it; values alone are a
guess that is said to be unsure.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etalage.config import Joined, MappingConfig, Source
from etalage.errors import InputUnreadable
from etalage.kinds import known_meaning
from etalage.lake.amounts import currency_code
from etalage.lake.column_names import (
    ACT_NAMES,
    ANONYMOUS_NAMES,
    ITEM_NAMES,
    ORDER_NAMES,
    SMALL,
    WEAK_NAMES,
    is_line_of_order,
    near_rank,
    plain,
    rank_of,
    size_rank,
    spellings,
)
from etalage.lake.drafting.drafts import Draft, Ids, Line
from etalage.lake.drafting.facts import Facts, facts_of, is_hour, mark_of_lists
from etalage.lake.drafting.pictures import PICTURES
from etalage.lake.drafting.settings import act_settings, file_settings, item_settings
from etalage.lake.feeds.contract import Head
from etalage.lake.feeds.recognising import Recognised

_NOTHING = MappingConfig()
_FEW = 20
"""Rows from which on a share says something."""
_MOST = 0.8


@dataclass(frozen=True)
class Guess:
    """`facts` is our column; `score`: how much speaks for it; `exact`: a shop's name for it."""

    facts: Facts
    score: float
    exact: bool
    word: str


def drafted(found: Recognised, ids: Ids) -> Draft:
    """A draft of one file. Raises InputUnreadable: it has no header, no rows, nothing that could be an id."""
    head = found.head
    if found.feed is not None:
        return _of_feed(found)
    _check(head)
    facts = facts_of(head.names, head.rows)
    draft = _Guessing(head, facts, ids).draft()
    return replace(draft, notes=(*head.told, *draft.notes))


def _of_feed(found: Recognised) -> Draft:
    head, feed = found.head, found.feed
    assert feed is not None
    rows = [{feed.canonical(name): value for name, value in row.items()} for row in head.rows]
    names = list(dict.fromkeys(feed.canonical(name) for name in head.names))
    facts = facts_of(names, rows)
    lines = []
    for ours, source in feed.preset(head, _NOTHING).columns.items():
        texts = (source,) if isinstance(source, str) else tuple(source) if isinstance(source, tuple) else ()
        there = [text for text in texts if text in facts and facts[text].values]
        made = next((feed.made[text] for text in texts if text in feed.made), None)
        if there:
            # All of them: whoever is in none of the first rows may be in a later one.
            said: Source = texts[0] if len(texts) == 1 else texts
            lines.append(Line(ours, said, f"the feed's own; such as {facts[there[0]].example}"))
        elif made is not None:
            lines.append(Line(ours, None, made))
    return Draft(head, feed.table, feed.title, found.why or "", True, tuple(lines),
                 tuple(file_settings(head)), feed.notes, feed)  # fmt: skip


class _Guessing:
    def __init__(self, head: Head, facts: Mapping[str, Facts], ids: Ids) -> None:
        self.head = head
        self.facts = facts
        self.ids = ids
        self.rows = len(head.rows)
        self.taken: set[str] = set()
        self.walked: str | None = None
        self.of_lines = {name for name, one in facts.items() if one.values and is_line_of_order(name)}

    def draft(self) -> Draft:
        user = self.best("user_id", ACT_NAMES["user_id"], may_be_id)
        taken = {user.facts.name} if user else set()
        if self.of_lines:
            # What else is an id there is the order's.
            taken |= set(self.facts) - self.of_lines
        item = self.best("item_id", ACT_NAMES["item_id"], may_be_id, taken)
        if item is None and self.of_lines:
            item = self.best("title", ITEM_NAMES["title"], _is_name, taken)
        if user is not None and item is not None and not self._is_sold_by(item):
            return self._acts(user, item)
        order = self._order()
        if (
            user is None
            and item is not None
            and order is not None
            and (self.of_lines or self._is_basket(item))
        ):
            return self._acts(Guess(order, 0, False, "order"), item)
        if user is not None and item is None:
            again = user.facts.unlike < 0.9 and self.rows >= _FEW
            thing = self._repeated({user.facts.name}) if again else None
            return self._users(user) if thing is None else self._acts(user, thing)
        by_values = self._acts_by_values(user, item)
        if by_values is not None:
            return by_values
        return self._items(item)

    # --- which table

    def _is_sold_by(self, item: Guess) -> bool:
        """Whether a row is a thing that somebody sells, and not an act: every id once, with a title, and
        nothing says when."""
        title = self.best("title", ITEM_NAMES["title"], _is_name)
        shown = self.best("photo_url", ITEM_NAMES["photo_url"], _is_photo) or self.best(
            "price", ITEM_NAMES["price"], _is_price
        )
        when = self.best("time", ACT_NAMES["time"], _is_time)
        alone = item.facts.unlike >= 0.99 and item.facts.distinct > 1
        return alone and title is not None and title.exact and shown is not None and when is None

    def _order(self) -> Facts | None:
        """The column by which rows are lines of an order."""
        named = [one for name, one in self.facts.items()
                 if one.values and not ORDER_NAMES.isdisjoint(spellings(name))]  # fmt: skip
        return next(iter([*named, *(self.facts[name] for name in self.facts if name in self.of_lines)]), None)

    def _is_basket(self, item: Guess) -> bool:
        """Whether things come again and again, in rows that say nothing more of them."""
        return item.facts.unlike < 0.9 and self.best("title", ITEM_NAMES["title"], _is_name) is None

    def _of_whole_orders(self, order: str) -> list[str]:
        """Columns that say something of an order and come again in others: who bought, perhaps, or where."""
        found = []
        for name, one in self.facts.items():
            if name in self.taken or name not in self.head.names or not may_be_id(one) or one.times >= 0.5:
                continue
            pairs = {(str(row.get(order)), str(row.get(name))) for row in self.head.rows}
            orders = {first for first, _ in pairs}
            if len(pairs) == len(orders) > one.distinct > 1:
                found.append(name)
        return found

    def _repeated(self, taken: set[str]) -> Guess | None:
        """A column that may be what was acted on, though its name does not say it: its values come again;
        first those whose names end as ids' do."""
        said = (*ACT_NAMES["value"], *ACT_NAMES["kind"])
        again = [
            one
            for name, one in self.facts.items()
            if name not in taken and rank_of(name, said) is None and may_be_id(one) and one.filled > 0.99
            and one.distinct >= 3 and one.unlike < 0.95 and one.times < 0.5
            and (one.words >= 0.5 or plain(name).endswith("id"))
        ]  # fmt: skip
        again.sort(key=lambda one: (not plain(one.name).endswith("id"), -one.distinct))
        return Guess(again[0], 0, False, "") if again else None

    def _acts(self, user: Guess, item: Guess, sure: bool = True) -> Draft:
        lines = [
            self._with_others(self.line("user_id", user, sure)),
            self._with_others(self._item_line(item, sure)),
        ]
        order = self._order()
        fits = {"kind": _is_kind if order is None else _is_known_kind, "time": _is_time, "value": _is_value}
        for ours, fit in fits.items():
            guess = self.best(ours, ACT_NAMES[ours], fit) or self._by_acts(ours)
            if ours == "kind" and (guess is None or not _is_known_kind(guess.facts)):
                # An `event` that some rows do not have says more than a `type` of which no word is known.
                guess = self.best(ours, ACT_NAMES[ours], _is_known_in_part) or guess
            if guess is not None:
                lines.append(self._with_others(self._with_its_hour(self.line(ours, guess))))
        settings, notes = act_settings(self.head, self.facts, lines, None if order is None else order.name)
        if order is not None and lines[0].source == order.name:
            notes.append(f"no column says who: each {order.name} is taken for a shopper of its own")
            if whole := self._of_whole_orders(order.name):
                have, it = ("has", "it") if len(whole) == 1 else ("have", "one of them")
                whole_orders = f"{', '.join(whole[:5])} {have} one value in each {order.name}"
                notes.append(f"{whole_orders}: if {it} says who, name it as user_id")
        why = f"{user.facts.name} says who, and {item.facts.name} with what"
        sure = sure and item.score > 0 and user.score > 0
        if not (user.word or item.word):
            why += "; their names do not say it, their values look so"
        mail = plain(user.facts.name) == "email"
        sure = sure and user.exact and plain(user.facts.name) not in ("name", "type")
        sure = sure and (not mail or bool(self.of_lines))
        return Draft(self.head, "interactions", "a table of interactions", why, sure, tuple(lines),
                     (*file_settings(self.head), *settings), tuple(notes))  # fmt: skip

    def _with_others(self, line: Line) -> Line:
        """A column with gaps, and behind it the one that fills them; an id within a list, and behind it the
        one that events of a single item have."""
        name = line.source
        if not isinstance(name, str) or line.ours not in ("user_id", "item_id", "value"):
            return line
        both = [name]
        if line.ours == "user_id" and self.facts[name].filled < 1:
            both += self._other("user_id", ANONYMOUS_NAMES, may_be_id)
        elif line.ours == "item_id" and name in self.of_lines and self.facts[name].filled < 1:
            both += self._other("title", ITEM_NAMES["title"], _is_name, set(self.facts) - self.of_lines)
        elif line.ours in ("item_id", "value"):
            alike = [
                n for n, one in self.facts.items()
                if n not in self.taken and one.values and one.scalar and self._reachable(n) and "." in n
                and n.rpartition(".")[2] == name.rpartition(".")[2] and ("[]" in n) != ("[]" in name)
            ]  # fmt: skip
            both = sorted([name, *alike[:1]], key=lambda one: "[]" not in one)
        if line.ours == "item_id":
            self.walk(both[0])
        if len(both) == 1:
            return line
        self.taken.update(both)
        return replace(line, source=tuple(both), reason=f"{line.reason}; where {both[0]} is empty, {both[1]}")

    def _other(
        self, ours: str, words: tuple[str, ...], fit: Callable[[Facts], bool], taken: set[str] | None = None
    ) -> list[str]:
        found = self.best(ours, words, fit, taken)
        return [found.facts.name] if found is not None and found.exact else []

    def _with_its_hour(self, line: Line) -> Line:
        """A day whose hour stands in another column."""
        if line.ours != "time" or not isinstance(line.source, str):
            return line
        day = self.facts[line.source]
        hours = [one for name, one in self.facts.items()
                 if name not in self.taken and one.filled > _MOST and one.share(is_hour) > 0.95]  # fmt: skip
        if not hours or day.share(lambda value: ":" in str(value)) > 0:
            return line
        self.taken.add(hours[0].name)
        reason = f"{line.reason}; the hour is in {hours[0].name}, such as {hours[0].example}"
        return Line("time", Joined(join=(line.source, hours[0].name)), reason, line.sure)

    def _users(self, user: Guess) -> Draft:
        lines = [self.line("user_id", user)]
        settings, notes = item_settings(self.head, self.facts, lines, "users")
        why = f"{user.facts.name} says who, and no column says with what"
        alone = user.facts.unlike >= 0.9
        why += "" if alone else ", but shoppers come again and again"
        return Draft(self.head, "users", "a table of shoppers", why, user.exact and alone, tuple(lines),
                     (*file_settings(self.head), *settings), tuple(notes))  # fmt: skip

    def _items(self, item: Guess | None) -> Draft:
        named = self.best("item_id", ITEM_NAMES["item_id"], _is_key)
        item = self._told_apart(named or item or self._first_key())
        if item is None:
            there = ", ".join(map(repr, self.head.names[:20]))
            raise InputUnreadable(
                f"{self.head.file}: no column is an id: none is filled with a different value in each row. "
                f"It has: {there}"
            )
        lines = [self._item_line(item)]
        fits: dict[str, Callable[[Facts], bool]] = {
            "title": _is_name, "description": _is_text, "price": _is_price, "currency": _is_currency,
            "brand": _is_word, "category_id": _is_category, "item_group_id": _is_group, "in_stock": _is_stock,
            "updated_at": _is_time,
        }  # fmt: skip
        for ours, fit in fits.items():
            guess = self.best(ours, ITEM_NAMES[ours], fit) or self._by_values(ours)
            if guess is not None:
                lines.append(self.line(ours, guess))
        lines += self._photo_lines()
        lines += _whole_lists(self.facts, lines)
        settings, notes = item_settings(self.head, self.facts, lines, "items")
        told = [line.ours for line in lines[1:] if "." not in line.ours]
        who = "no column says who did something"
        why = f"{who}; there is {', '.join(told)}" if told else f"{who}, and nothing but an id is told apart"
        matched = self.ids.matches.get(item.facts.name, 0) >= 0.5
        sure = item.exact and (matched or bool({"title", "price", "photo_url", "in_stock"} & set(told)))
        if "title" not in told:
            seen = ", ".join(name for name in ("brand", "category_id") if name in told) or "the id alone"
            notes.append(
                f"no column is a title: people see {seen}; if one says what a thing is, name it as title"
            )
        return Draft(self.head, "items", "a table of items", why, sure, tuple(lines),
                     (*file_settings(self.head), *settings), tuple(notes))  # fmt: skip

    # --- which column

    def best(
        self,
        ours: str,
        words: tuple[str, ...],
        fit: Callable[[Facts], bool],
        taken: set[str] | None = None,
    ) -> Guess | None:
        """The column that is most probably ours, by its name; its values must not contradict it."""
        guesses = []
        for name, one in self.facts.items():
            if name in self.taken or name in (taken or ()) or not one.values or not self._reachable(name):
                continue
            rank, near = rank_of(name, words), near_rank(name, words)
            if (rank is None and near is None) or not fit(one):
                continue
            exact = rank is not None
            place = rank if rank is not None else near
            assert place is not None
            deep = 0.001 * (name.count(".") + name.count("[]"))
            score = (
                (2 if exact else 1)
                - place / 1000
                - deep
                + self.ids.matches.get(name, 0) * (3 if ours == "item_id" else 0)
                # The number of one product, and not one of the whole event.
                + (0.5 if ours == "value" and self.walked is not None and "[]" in name else 0)
            )
            guesses.append(Guess(one, score, exact, words[place]))
        return max(guesses, key=lambda guess: guess.score, default=None)

    def line(self, ours: str, guess: Guess, sure: bool = True) -> Line:
        """Our column is this one; it is no other one of ours."""
        self.taken.add(guess.facts.name)
        name = guess.facts.name
        called = {True: "called so", False: f"called nearly so ({guess.word})"}[guess.exact]
        only = ours == "time" and guess.word != "" and self._when() == Guess(guess.facts, 0, False, "")
        if only and not guess.exact:
            called, guess = f"{called}, and no other column is of times", replace(guess, exact=True)
        if not guess.word:
            called, sure = "its values look so, its name does not say it", False
        # Who buys is known by their address.
        buyer = ours == "user_id" and bool(self.of_lines) and guess.word in ("email", "customer_email")
        if guess.exact and guess.word in WEAK_NAMES and ours not in ("item_id", "value") and not buyer:
            called += ", which may mean other things"
            sure = False
        reason = f"{called}; {guess.facts.described}; such as {guess.facts.example}"
        return Line(ours, name, reason, sure and guess.exact)

    def _item_line(self, item: Guess, sure: bool = True) -> Line:
        line = self.line("item_id", item, sure)
        match = self.ids.matches.get(item.facts.name)
        said = self.ids.describe(item.facts.name)
        if match is not None and match > 0:
            return Line(line.ours, line.source, f"{said}; {line.reason}", match >= 0.5)
        if self.ids.matches and not match:
            return Line(line.ours, line.source, f"{line.reason}; {said}", False)
        return line

    def _told_apart(self, item: Guess | None) -> Guess | None:
        """An item's id among its other numbers: the one that the acts carry, where they are known."""
        if item is None or not self.ids.matches:
            return item
        name = max(self.ids.matches, key=lambda one: self.ids.matches[one])
        if self.ids.matches[name] <= self.ids.matches.get(item.facts.name, 0):
            return item
        rank = rank_of(name, ITEM_NAMES["item_id"])
        return Guess(self.facts[name], 9, True, "" if rank is None else ITEM_NAMES["item_id"][rank])

    def _first_key(self) -> Guess | None:
        """The first column that is different in each row, and one word."""
        keys = [one for one in self.facts.values() if _is_key(one) and self._reachable(one.name)]
        return Guess(keys[0], 0, False, "") if keys else None

    def _by_values(self, ours: str) -> Guess | None:
        """A title or a price of which the names say nothing."""
        free = [one for name, one in self.facts.items()
                if name not in self.taken and one.values and one.scalar and "[]" not in name]  # fmt: skip
        if self.rows < 3:
            return None
        if ours == "title":
            named = [
                o
                for o in free
                if _is_name(o) and 1.5 <= o.words <= 20 and o.unlike > 0.7 and o.filled > _MOST
            ]
            return Guess(min(named, key=lambda o: o.words), 0, False, "") if named else None
        if ours == "price":
            priced = [o for o in free if o.scalar and min(o.amounts, o.filled) >= _MOST and _has_cents(o)]
            return Guess(priced[0], 0, False, "") if len(priced) == 1 else None
        return None

    def _acts_by_values(self, user: Guess | None, item: Guess | None) -> Draft | None:
        """A table in which a time and two words that come again and again stand, and hardly more."""
        when = self.best("time", ACT_NAMES["time"], _is_time) or self._when()
        if when is None or self.rows < _FEW or self.best("title", ITEM_NAMES["title"], _is_name) is not None:
            return None
        skipped = {when.facts.name, *(g.facts.name for g in (user, item) if g is not None)}
        again = [
            one
            for name, one in self.facts.items()
            if name not in skipped and may_be_id(one) and one.filled > 0.99 and one.distinct > 20
            and one.unlike < 0.9 and one.times < 0.5
        ]  # fmt: skip
        again.sort(key=lambda one: -one.distinct)
        people = user or (Guess(again.pop(0), 0, False, "") if again else None)
        things = item or (Guess(again.pop(0), 0, False, "") if again else None)
        return None if people is None or things is None else self._acts(people, things, sure=False)

    def _by_acts(self, ours: str) -> Guess | None:
        """A column of acts that is called by no name for it."""
        return {"time": self._when, "kind": self._what}.get(ours, lambda: None)()

    def _what(self) -> Guess | None:
        """The one column whose values are all kinds of interactions that are known by name."""
        kinds = [
            one
            for name, one in self.facts.items()
            if name not in self.taken and self._reachable(name) and _is_kind(one)
            and all(known_meaning(kind) != "other" for kind in one.counts)
        ]  # fmt: skip
        return Guess(kinds[0], 0, False, "") if len(kinds) == 1 else None

    def _when(self) -> Guess | None:
        """The one column of times, which is called by no name for it."""
        times = [one for one in self.facts.values() if one.scalar and one.times >= 0.95 and one.filled > _MOST
                 and one.share(lambda value: len(str(value)) >= 8) >= 0.95]  # fmt: skip
        return Guess(times[0], 0, False, "") if len(times) == 1 else None

    def _photo_lines(self) -> list[Line]:
        words = ITEM_NAMES["photo_url"]
        found = []
        for name, one in self.facts.items():
            if name in self.taken or not one.values or not self._reachable(name):
                continue
            rank, near = rank_of(name, words), near_rank(name, words)
            called = rank if rank is not None else near
            if one.links >= _MOST and (called is not None or one.pictures >= 0.5):
                place = rank if rank is not None else 100 + near if near is not None else 200
                size = size_rank(name)
                found.append(((size == SMALL, place, size), one, called is not None))
        found.sort(key=lambda three: three[0])
        large = {_parent(one.name) for (small, _, _), one, _ in found if not small}
        # Of a picture that is there in several sizes the small ones are no photos besides.
        self.taken.update(one.name for _, one, _ in found)
        found = [one for one in found if not (one[0][0] and _parent(one[1].name) in large - {None})]
        self.taken.update(one.name for _, one, _ in found)
        if found:
            names = [one.name for _, one, _ in found]
            first = found[0][1]
            many = "links" if len(names) == 1 else "links, the first the main photo's"
            reason = f"{many}; {first.described}; such as {first.example}"
            return [Line("photo_url", names[0] if len(names) == 1 else tuple(names), reason, found[0][2])]
        files = [one for name, one in self.facts.items() if name not in self.taken and one.pictures >= _MOST]
        if files and self._reachable(files[0].name):
            self.taken.add(files[0].name)
            reason = f"names of picture files beside this one; such as {files[0].example}"
            return [Line("photo_path", files[0].name, reason, False)]
        return []

    def walk(self, name: str) -> None:
        """A row is made for each element of the list that `name` lies in."""
        self.walked = name.split("[]")[0] if "[]" in name else None

    def _reachable(self, name: str) -> bool:
        """Whether a path can be read beside those that are taken: one list can be walked."""
        if "[]" not in name:
            return True
        lists = {taken.split("[]")[0] for taken in self.taken if "[]" in taken}
        if self.walked is not None:
            lists.add(self.walked)
        return not lists or name.split("[]")[0] in lists


def _whole_lists(facts: Mapping[str, Facts], lines: Sequence[Line]) -> list[Line]:
    """The column of categories once more, as an attribute, where its values are lists."""
    name = next((line.source for line in lines if line.ours == "category_id"), None)
    if (
        not isinstance(name, str)
        or mark_of_lists([v for v in facts[name].values if isinstance(v, str)]) is None
    ):
        return []
    return [Line(f"attributes.{name}", name, "the whole list, of which the first is the category")]


def _parent(name: str) -> str | None:
    """What a path lies in; None: it is a column."""
    return name.rpartition(".")[0] or None


def may_be_id(one: Facts) -> bool:
    """Whether a column's values may be ids, of whatever."""
    return one.scalar and one.filled >= 0.3 and one.words < 2.5 and one.links < 0.2


def _is_key(one: Facts) -> bool:
    enough = one.unlike >= 0.5 or len(one.values) == 1
    return (
        one.scalar
        and one.filled >= 0.9
        and enough
        and one.words < 2.5
        and one.links < 0.2
        and not _has_cents(one)
    )


def _is_name(one: Facts) -> bool:
    return one.scalar and one.words > 0.5 and one.links < 0.2


def _is_text(one: Facts) -> bool:
    return one.scalar and one.words > 2 and one.links < 0.2


def _is_word(one: Facts) -> bool:
    repeated = one.unlike < 0.95 or len(one.values) < _FEW
    return one.scalar and one.words > 0.3 and one.links < 0.2 and repeated


def _is_price(one: Facts) -> bool:
    """A column that is called a price may say "on request" here and there: each costs its value alone."""
    return one.scalar and one.amounts > 0.5


def _is_currency(one: Facts) -> bool:
    return one.scalar and one.share(lambda value: currency_code(str(value)) is not None) >= _MOST


def _is_category(one: Facts) -> bool:
    repeated = one.unlike < 0.9 or len(one.values) < _FEW
    return one.scalar and one.links < 0.2 and repeated and not _has_cents(one)


def _is_group(one: Facts) -> bool:
    return may_be_id(one) and (one.unlike < 0.99 or one.filled < 0.95 or len(one.values) < 3)


def _is_stock(one: Facts) -> bool:
    return one.scalar and one.stock >= 0.9


def _is_time(one: Facts) -> bool:
    return one.scalar and one.times >= 0.9 and one.filled >= 0.3


def _is_kind(one: Facts) -> bool:
    few = one.distinct <= max(12, len(one.values) // 10)
    return one.scalar and one.words >= 0.9 and one.words < 5 and one.filled >= 0.9 and few


def _is_known_kind(one: Facts) -> bool:
    """Whether some of the words are kinds of acts that are known."""
    return _is_kind(one) and any(known_meaning(kind) != "other" for kind in one.counts)


def _is_known_in_part(one: Facts) -> bool:
    """Words of which some are kinds that are known, in a column that some rows lack."""
    kinds = Facts(one.name, one.values, len(one.values))
    return one.filled >= 0.3 and _is_known_kind(kinds)


def _is_value(one: Facts) -> bool:
    return one.scalar and one.amounts >= 0.9


def _is_photo(one: Facts) -> bool:
    return one.links >= _MOST


def _has_cents(one: Facts) -> bool:
    """Whether numbers have a fraction, as prices have and ids have not."""
    return one.share(lambda value: not float(str(value).replace(",", ".")).is_integer()) >= 0.2


def _check(head: Head) -> None:
    if not head.rows:
        raise InputUnreadable(f"{head.file}: has no row to look at")
    looks = [name for name in head.names if _is_cell(name)]
    if head.container == "csv" and len(looks) * 2 > len(head.names):
        raise InputUnreadable(
            f"{head.file}: its first line looks like a row, not like names ({', '.join(looks[:4])}); write a "
            "line with the columns' names before it"
        )


def _is_cell(name: str) -> bool:
    """Whether a name of a column looks like a value: a number, a picture's path, one that was numbered as the
    reader numbers names that stand there twice."""
    name = re.sub(r" \(\d+\)$", "", name).strip()
    if "/" in name and Path(name).suffix.lower() in PICTURES:
        return True
    try:
        float(name.replace(",", "."))
    except ValueError:
        return False
    return True


def columns_of(lines: Sequence[Line]) -> dict[str, Source]:
    return {line.ours: line.source for line in lines if line.source is not None}
