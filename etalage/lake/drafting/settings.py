"""What besides the columns has to be said of a file: its encoding, its marks, its dates, what rows mean."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from etalage.config import Joined, texts_of
from etalage.kinds import known_meaning
from etalage.lake.amounts import proven_mark, read_amount
from etalage.lake.column_names import RATING_NAMES, spellings
from etalage.lake.drafting.drafts import Line, Setting
from etalage.lake.drafting.facts import TWO_DATES, Facts, mark_of_lists
from etalage.lake.feeds.contract import Head, root_of
from etalage.lake.shown import shown

_MEANS = {
    "has": "bought", "rating": "a rating", "cart": "put into the cart", "view": "looked at",
    "like": "likes it", "negative": "does not want it", "undone": "takes an earlier act back",
    "shown": "was only shown it, not counted", "other": "UNKNOWN",
}  # fmt: skip
_OFFSET = re.compile(r"(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}|[A-Z]{2,5}|[A-Z]\w+/\w+)\s*$")
_PHOTO_NAMES = ("photo", "photo_path", "path")


def file_settings(head: Head) -> list[Setting]:
    """How the text is written, where the file itself does not say it."""
    found = []
    if head.style.delimiter is not None:
        found.append(Setting("delimiter", head.style.delimiter, "the first lines have as many fields by it"))
    if head.style.encoding is not None:
        found.append(Setting("encoding", head.style.encoding, "the file is no UTF-8, and reads well as this"))
    return found


def item_settings(
    head: Head, facts: Mapping[str, Facts], lines: Sequence[Line], table: str
) -> tuple[list[Setting], list[str]]:
    """Settings and notes of a table of items or shoppers."""
    settings, notes = _numbers(facts, lines, "price")
    more, told = _dates(facts, lines, "updated_at")
    settings, notes = settings + more, notes + told
    read = _read(lines)
    # What holds the bytes of photos is read as it is called: it needs no line.
    photos = [n for n in head.names if n in _PHOTO_NAMES and n in facts and _holds_bytes(facts[n])]
    left = [n for n in head.names if n in _PHOTO_NAMES and n not in read and n not in photos]
    if left and table == "items":
        reason = "called as our column of photos, and its values are none"
        settings.append(Setting("leave_out", tuple(left), reason))
    roots = {*_roots(head, read), *photos}
    others = [n for n in head.names if n not in roots and n not in left and n in facts and facts[n].values]
    others += [n for n in head.names if n not in roots and n not in facts]
    if others:
        shown_names = ", ".join(others[:12]) + (f", … ({len(others)})" if len(others) > 12 else "")
        settings.append(
            Setting("keep_others", True, f"have no column of ours, and become attributes: {shown_names}")
        )
    listed = _listed(facts, lines)
    if listed is not None:
        settings.append(listed)
    elif (parted := _parted(facts, lines)) is not None:
        notes.append(parted)
    given = {line.ours for line in lines}
    if table == "items" and "price" in given and "currency" not in given and not _has_currency(facts, lines):
        reason = "nothing says in which currency the prices are"
        settings.append(Setting("currency", "EUR", reason, False, "constants"))
    return settings, notes


def _holds_bytes(one: Facts) -> bool:
    return bool(one.values) and all(isinstance(value, bytes) for value in one.values)


def act_settings(
    head: Head, facts: Mapping[str, Facts], lines: Sequence[Line], order: str | None
) -> tuple[list[Setting], list[str]]:
    """Settings and notes of a table of interactions. `order`: the column by which rows are of an order."""
    settings, notes = _numbers(facts, lines, "value")
    more, told = _dates(facts, lines, "time")
    settings, notes = settings + more, notes + told
    given = {line.ours: line for line in lines}
    if "kind" in given:
        settings += _kinds(facts[str(given["kind"].source)])
    else:
        settings.append(_one_kind(given, facts, order))
    if "time" not in given:
        notes.append('no column says when: what was newest cannot be told, `[behaviour] split = "random"`')
    read = _read(lines)
    left = [name for name in head.names if name in ("kind", "value", "time") and name not in read]
    if left:
        settings.append(
            Setting("leave_out", tuple(left), "called as ours, and its values are something else")
        )
    roots = _roots(head, read)
    others = [name for name in head.names if name not in roots and name not in left]
    if others:
        notes.append(f"not read, as interactions have no place for it: {', '.join(others[:20])}")
    return settings, notes


def _kinds(kinds: Facts) -> list[Setting]:
    """A comment for each kind: what it is taken for; those that nobody knows are to be translated."""
    told = []
    for kind, count in kinds.counts.most_common(20):
        meaning = known_meaning(kind)
        sure = meaning != "other"
        what = "looked at, put into the cart, bought or something else? UNKNOWN, counts as interest"
        reason = f"{count:,} rows; " + (f"is known: {_MEANS[meaning]}" if sure else what)
        if not sure:
            told.append(Setting(kind, "view", reason, False, "values.kind"))
    sure_ones = [kind for kind, _ in kinds.counts.most_common(8) if known_meaning(kind) != "other"]
    known = ", ".join(f"{kind} ({_MEANS[known_meaning(kind)]})" for kind in sure_ones)
    if not told:
        return [Setting("#", "", f"all kinds are known by name: {known}", True, "values.kind")]
    return [Setting("#", "", f"known by name: {known}", True, "values.kind"), *told] if known else told


def _one_kind(given: Mapping[str, Line], facts: Mapping[str, Facts], order: str | None) -> Setting:
    value = given.get("value")
    if value is not None and not RATING_NAMES.isdisjoint(spellings(str(value.source))) and order is None:
        return Setting(
            "kind", "rating", f"no column says what was done; {value.source} is a rating", True, "constants"
        )
    if order is not None:
        return Setting(
            "kind",
            "buy",
            f"no column says what was done; {order} says that rows are of orders",
            True,
            "constants",
        )
    reason = (
        "no column says what was done: each row is taken for a view. If they were bought, take the # away"
    )
    return Setting("kind", "buy", reason, False, "constants")


def _numbers(facts: Mapping[str, Facts], lines: Sequence[Line], ours: str) -> tuple[list[Setting], list[str]]:
    values = _values(facts, lines, ours)
    proofs: dict[str, Any] = {}
    for value in values:
        mark = proven_mark(value)
        if mark is not None:
            proofs.setdefault(mark, value)
    if len(proofs) == 1:
        ((proven, proof),) = proofs.items()
        return [Setting("decimal", proven, f"such as {shown(proof)}")], []
    if len(proofs) == 2:
        both = " and ".join(shown(one) for one in proofs.values())
        return [], [
            f"{ours}: is written with both marks, such as {both}; 1.249 is left out, where it may be two"
        ]
    unclear = next((value for value in values if not _readable(value)), None)
    if unclear is not None and not proofs:
        return [Setting("decimal", ",", f"{shown(unclear)} may be two numbers: which mark is it?", False)], []
    return [], []


def _dates(facts: Mapping[str, Facts], lines: Sequence[Line], ours: str) -> tuple[list[Setting], list[str]]:
    values = _values(facts, lines, ours)
    settings, notes = [], []
    pairs = [(int(m[1]), int(m[2]), v) for v in values if isinstance(v, str) and (m := TWO_DATES.match(v))]
    if pairs:
        day_first = next((v for a, b, v in pairs if a > 12 >= b), None)
        month_first = next((v for a, b, v in pairs if b > 12 >= a), None)
        if day_first is not None and month_first is not None:
            notes.append(f"{ours}: days and months are mixed: {shown(day_first)} and {shown(month_first)}")
        elif day_first is not None or month_first is not None:
            order, proof = ("dmy", day_first) if day_first is not None else ("mdy", month_first)
            settings.append(Setting("dates", order, f"such as {shown(proof)}"))
        else:
            reason = (
                f'{shown(pairs[0][2])} may be two days: "dmy" or "mdy"? Until then such rows are not read'
            )
            settings.append(Setting("dates", "dmy", reason, False))
    bare = next((v for v in values if isinstance(v, str) and ":" in v and not _OFFSET.search(v)), None)
    if bare is not None:
        reason = (
            f"{shown(bare)} has no offset, and is taken for UTC; if it is a shop's own clock, say its zone"
        )
        settings.append(Setting("timezone", "Europe/Berlin", reason, False))
    return settings, notes


def _listed(facts: Mapping[str, Facts], lines: Sequence[Line]) -> Setting | None:
    """Of a column of categories whose values are lists: that the first counts."""
    values = [value for value in _values(facts, lines, "category_id") if isinstance(value, str)]
    mark = mark_of_lists(values)
    if mark is None:
        return None
    many = sum(mark in value for value in values)
    example = next(value for value in values if mark in value)
    reason = (
        f"{many:,} of {len(values):,} rows name several, such as {shown(example)}: an item has one category, "
        "the first of them; all of them are kept as an attribute"
    )
    return Setting("category_id", mark, reason, True, "first_of")


def _parted(facts: Mapping[str, Facts], lines: Sequence[Line]) -> str | None:
    """Paths of categories whose steps are separated otherwise than ours."""
    texts = [str(value) for value in _values(facts, lines, "category_id")]
    if any(">" in text for text in texts):
        return None
    for mark in ("/", "|", "»", "::", "\\"):
        told = [text for text in texts if mark in text.strip(mark)]
        if 2 * len(told) > len(texts):
            return (
                f"UNSURE: {shown(told[0])} may be a path of categories; ours are written with ' > ' between "
                "the steps, so it is one category"
            )
    return None


def _values(facts: Mapping[str, Facts], lines: Sequence[Line], ours: str) -> tuple[Any, ...]:
    source = next((line.source for line in lines if line.ours == ours), None)
    if isinstance(source, Joined):
        parts = [facts[name].values for name in source.join]
        return tuple(source.by.join(map(str, row)) for row in zip(*parts, strict=False))
    return facts[source].values if isinstance(source, str) else ()


def _read(lines: Sequence[Line]) -> set[str]:
    return {text for line in lines if line.source is not None for text in texts_of(line.source)}


def _roots(head: Head, read: set[str]) -> set[str]:
    """The columns that those are, or lie in."""
    return {name if name in head.names else root_of(name) for name in read}


def _has_currency(facts: Mapping[str, Facts], lines: Sequence[Line]) -> bool:
    for value in _values(facts, lines, "price")[:50]:
        try:
            amount = read_amount(value, None, ".")
        except ValueError:
            continue
        if amount is not None and amount.currency is not None:
            return True
    return False


def _readable(value: Any) -> bool:
    try:
        read_amount(value)
    except ValueError:
        return False
    return True
