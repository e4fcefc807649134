"""What [behaviour] is drafted as: from which rating on one is a like, and whether the same is taken again."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etalage.config import IngestConfig, MappingConfig
from etalage.errors import EtalageError
from etalage.kinds import TAKEN_AGAIN_OFTEN, TAKEN_AGAIN_TELLING, known_meaning
from etalage.lake.drafting.drafts import Draft, Setting
from etalage.lake.feeds.contract import Head
from etalage.lake.mapping import Mapping
from etalage.lake.schema import TABLES
from etalage.lake.sources import open_file

_SCALES = (5, 10, 100)
"""Highest ratings of the scales that shops use."""
_LIKED = 0.8
"""From this share of the highest rating on, an item is liked: 4 of 5."""
_ROWS = 300_000
"""So many rows of each file of acts are looked through for what is taken again."""


def behaviour_settings(
    drafts: Sequence[Draft], ingest: IngestConfig, progress: Callable[[int], object] = lambda _: None
) -> list[Setting]:
    """Settings of [behaviour] for the files of interactions among `drafts`, which `ingest` maps. progress:
    called with the rows that were read meanwhile."""
    acts = [draft for draft in drafts if draft.table == "interactions" and draft.sure]
    found = [_likes(acts, ingest.interactions), _repeats(acts, ingest.interactions, progress)]
    return [one for one in found if one is not None]


def _likes(acts: Sequence[Draft], mapping: MappingConfig) -> Setting | None:
    """Of the first rows' ratings: None where there are none, or they are of no scale that is known."""
    values = [value for draft in acts for value in _ratings(draft.head, mapping)]
    top, distinct = max(values, default=0.0), len(set(values))
    scale = next((one for one in _SCALES if one / 2 < top <= one), None)
    if scale is None or distinct < 3 or min(values) < 0:
        return None
    start = int(_LIKED * scale)
    if top < start:  # another scale: nothing would be liked
        return None
    share = sum(value >= start for value in values) / len(values)
    reason = (
        f"ratings from {min(values):g} to {top:g}: {share:.0%} of the first {len(values):,} are at least "
        f"{start}, and say that the item is liked; lower ones say that it is not"
    )
    return Setting("positive_from", start, reason)


def _ratings(head: Head, mapping: MappingConfig) -> Iterator[float]:
    kinds, values = _column(head.rows, mapping, "kind"), _column(head.rows, mapping, "value")
    for kind, value in zip(kinds, values, strict=True):
        if known_meaning(_ours(mapping, kind)) != "rating":
            continue
        try:
            number = float(str(value).replace(",", "."))
        except ValueError:
            continue
        if math.isfinite(number):
            yield number


def _column(rows: Sequence[dict[str, Any]], mapping: MappingConfig, ours: str) -> list[Any]:
    """Our column of plain rows; Nones where it lies within nested values."""
    source, constant = mapping.columns.get(ours, ours), mapping.constants.get(ours)
    names = (source,) if isinstance(source, str) else source if isinstance(source, tuple) else ()
    return [next((row[name] for name in names if row.get(name) not in (None, "")), constant) for row in rows]


def _ours(mapping: MappingConfig, kind: Any) -> str:
    said = "" if kind is None else str(kind)
    return mapping.values.get("kind", {}).get(said, said)


def _repeats(
    acts: Sequence[Draft], mapping: MappingConfig, progress: Callable[[int], object]
) -> Setting | None:
    """By the counts of the files: None where hardly anything is taken twice, or too little says so."""
    moments: set[int] = set()
    pairs: set[int] = set()
    for draft in acts:
        try:
            for user, item, kind, time in _taken(draft, mapping, progress):
                moments.add(hash((user, item, kind, time)))
                pairs.add(hash((user, item, kind)))
        except EtalageError:
            continue  # the first rows could be read; what is wrong behind them an ingest says
    again = len(moments) - len(pairs)
    if len(moments) < TAKEN_AGAIN_TELLING or again < TAKEN_AGAIN_OFTEN * len(moments):
        return None
    reason = (
        f"{again / len(moments):.0%} of what shoppers took ({again:,} of {len(moments):,} times) they had "
        "taken before: things are used up here and bought again, and may be shown again"
    )
    return Setting("repeat", True, reason)


def _taken(
    draft: Draft, mapping: MappingConfig, progress: Callable[[int], object]
) -> Iterator[tuple[str, str, str, str]]:
    """(shopper, item, kind, time) of acts after which a shopper has the item, as the file has them."""
    style = draft.head.style
    opened = open_file(
        draft.head.file, draft.table, mapping, 10_000, delimiter=style.delimiter, encoding=style.encoding
    )
    ours = ("user_id", "item_id", "kind", "time")
    mapped = Mapping(draft.head.file, draft.table, opened.mapping, TABLES[draft.table].names)
    read = 0
    for chunk in opened.raw.chunks():
        rows = mapped.apply(chunk, only=ours)
        empty = [None] * len(rows.lines)
        for row in zip(*(rows.columns.get(name, empty) for name in ours), strict=True):
            user, item, kind, time = ("" if value is None else str(value) for value in row)
            if user and item and known_meaning(kind) == "has":
                yield user, item, kind, time
        read += chunk.read
        progress(chunk.read)
        if read >= _ROWS:
            return
