"""What the columns of a data frame are taken for: as `etalage new --from` takes those of a file."""

from pathlib import Path
from typing import Any

from etalage.config import MappingConfig, texts_of, validated
from etalage.errors import InputUnreadable
from etalage.lake.column_names import likely
from etalage.lake.drafting.drafts import Draft, Ids
from etalage.lake.drafting.guessing import columns_of, drafted
from etalage.lake.feeds.contract import Head, combined, root_of
from etalage.lake.feeds.recognising import Recognised
from etalage.lake.frames import Frame
from etalage.lake.notes import Note

_LOOKED_AT = 1000


def guessed(frame: Frame, table: str, own: MappingConfig) -> tuple[MappingConfig, list[Note]]:
    """The mapping of a frame into `table`: `own`, and behind it what `etalage new --from` would write; and
    what of it was guessed."""
    draft = _draft(frame)
    found: dict[str, Any] = {}
    if draft is not None and draft.table == table:
        found = _settings(draft)
    else:
        names = {ours: name for name in frame.columns if (ours := likely(table, name)) is not None}
        found["columns"] = {ours: name for ours, name in names.items() if ours not in frame.columns}
    given = {text for source in own.columns.values() for text in texts_of(source)}
    found["columns"] = {
        ours: source
        for ours, source in found["columns"].items()
        if given.isdisjoint(texts_of(source)) and set(texts_of(source)).isdisjoint(own.leave_out)
    }
    for ours, source in own.columns.items():
        if any(root_of(text) in frame.columns for text in texts_of(source)):
            found.get("constants", {}).pop(ours, None)
    guess = validated(MappingConfig, found, where=f"columns of {frame.whence}")
    written = {name: getattr(own, name) or getattr(guess, name) for name in ("decimal", "dates")}
    mapping = combined(guess, own, frame.columns).model_copy(update=written)
    return mapping, _told(mapping, own)


def _told(mapping: MappingConfig, own: MappingConfig) -> list[Note]:
    said = {ours: texts_of(source) for ours, source in mapping.columns.items() if ours not in own.columns}
    told = [f"{ours} = {' or '.join(texts)}" for ours, texts in said.items() if texts != (ours,)]
    told += [
        f"{ours} is {word!r} in every row"
        for ours, word in mapping.constants.items()
        if ours not in own.constants
    ]
    told += [f"{name} is left out" for name in mapping.leave_out if name not in own.leave_out]
    told += [
        f"of {ours} the first before {separator!r} is taken"
        for ours, separator in mapping.first_of.items()
        if ours not in own.first_of
    ]
    if not told:
        return []
    return [Note(f"guessed: {', '.join(told)} (columns={{...}} says otherwise)")]


def _settings(draft: Draft) -> dict[str, Any]:
    """What the draft is sure of, as it stands beneath [ingest.<table>]."""
    found: dict[str, Any] = {"columns": columns_of(draft.lines)}
    for one in draft.settings:
        if one.sure and one.name != "#":
            at = found
            for part in one.within.split(".") if one.within else ():
                at = at.setdefault(part, {})
            at[one.name] = one.value
    return found


def _draft(frame: Frame) -> Draft | None:
    first = next(frame.raw(_LOOKED_AT).chunks(), None)
    if first is None or not first.lines:
        return None
    rows = tuple(first.row(n) for n in range(len(first.lines)))
    head = Head(Path(frame.whence.name), "parquet", tuple(first.columns), rows)
    try:
        return drafted(Recognised(head), Ids())
    except InputUnreadable:
        return None
