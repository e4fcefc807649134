"""Drafts as the text of a shop.toml: each line with its reason as a comment; what is unsure says so."""

import json
from collections.abc import Sequence
from dataclasses import replace

from etalage.config import Joined, Source, texts_of
from etalage.lake.drafting.drafts import Draft, Line, Setting
from etalage.lake.feeds.contract import root_of

_WIDE = 100


def mappings_toml(drafts: Sequence[Draft]) -> str:
    """The sections of a shop.toml that map the files of `drafts`; those of one table share one mapping."""
    parts = []
    for table in dict.fromkeys(draft.table for draft in drafts):
        parts.append(_table_text(table, [draft for draft in drafts if draft.table == table]))
    return "\n".join(parts)


def setting_line(one: Setting) -> str:
    """A setting with its reason, as a line of a shop.toml or several."""
    said = f"{_key(one.name)} = {_value(one.value)}"
    if one.sure:
        return _with_comment(said, one.reason)
    return _with_comment(f"# {said}", f"UNSURE: {one.reason}")


def quoted(text: str) -> str:
    """A string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table_text(table: str, drafts: Sequence[Draft]) -> str:
    lines: list[str] = []
    for draft in drafts:
        sure = "" if draft.sure else "UNSURE: "
        lines += _comment(f"{sure}{draft.head.file.name} is taken for {draft.title}: {draft.why}.")
        lines += _comment(f"{len(draft.head.rows):,} rows were looked at.")
        if draft.feed is not None:
            lines += _comment(
                "It is recognised by itself: without these lines it is read just so. They show what is read "
                "from where; what you write here goes before."
            )
        for note in draft.notes:
            lines += _comment(f"- {note}")
    settings = merged_settings(drafts)
    lines += _section(f"ingest.{table}", [one for one in settings if one.within is None])
    columns = merged_lines(drafts)
    lines.append(f"[ingest.{table}.columns]")
    for line in columns:
        sure = "" if line.sure else "UNSURE: "
        if line.source is None:
            lines += _comment(f"{line.ours}: {line.reason}")
        else:
            lines.append(_with_comment(f"{_key(line.ours)} = {_source(line.source)}", sure + line.reason))
    lines.append("")
    for within in dict.fromkeys(one.within for one in settings if one.within is not None):
        lines += _section(f"ingest.{table}.{within}", [one for one in settings if one.within == within])
    return "\n".join(lines)


def _section(name: str, settings: Sequence[Setting]) -> list[str]:
    """A table of TOML; one of which nothing is sure is a comment as a whole, but for its name."""
    if not settings:
        return []
    lines = [f"[{name}]"]
    for one in settings:
        if one.name == "#":
            lines += _comment(one.reason)
            continue
        lines.append(setting_line(one))
    return [*lines, ""]


def merged_lines(drafts: Sequence[Draft]) -> list[Line]:
    """The lines of one table's files as one mapping: where they differ, the first column that is filled."""
    merged: dict[str, Line] = {}
    for draft in drafts:
        for line in draft.lines:
            there = merged.get(line.ours)
            if there is None or there.source is None:
                merged[line.ours] = line
            elif line.source is not None and line.source != there.source:
                merged[line.ours] = _both(there, line, draft)
    return list(merged.values())


def _both(one: Line, other: Line, draft: Draft) -> Line:
    assert one.source is not None and other.source is not None
    texts = dict.fromkeys([*texts_of(one.source), *texts_of(other.source)])
    walked = any("[]" in text for text in texts)
    clash = [text for text in texts_of(one.source) if root_of(text) in draft.head.names]
    reason = f"{one.reason}; in {draft.head.file.name}: {other.reason}"
    if clash or walked:
        reason += f". {', '.join(clash) or 'A list'} is in both files: look which of them is meant"
    return replace(
        one, source=tuple(texts), reason=reason, sure=one.sure and other.sure and not clash and not walked
    )


def merged_settings(drafts: Sequence[Draft]) -> list[Setting]:
    merged: dict[tuple[str | None, str], Setting] = {}
    for draft in drafts:
        for one in draft.settings:
            there = merged.get((one.within, one.name))
            if there is None:
                reason = f"{draft.head.file.name}: {one.reason}" if len(drafts) > 1 else one.reason
                merged[one.within, one.name] = replace(one, reason=reason)
            elif one.name == "leave_out" and isinstance(there.value, tuple) and isinstance(one.value, tuple):
                both = tuple(dict.fromkeys([*there.value, *one.value]))
                merged[one.within, one.name] = replace(there, value=both)
            elif there.value != one.value:
                said = f"{there.reason}; but {draft.head.file.name}: {_value(one.value)} ({one.reason})"
                if one.name in ("delimiter", "encoding"):
                    said += f": load it with --{one.name}"
                merged[one.within, one.name] = replace(there, reason=said, sure=False)
    for name in ("delimiter", "encoding"):
        style = merged.get((None, name))
        others = [draft.head.file.name for draft in drafts if getattr(draft.head.style, name) is None]
        if style is not None and others:
            reason = f"{style.reason}; {', '.join(others)} is written otherwise: load it with --{name}"
            merged[None, name] = replace(style, reason=reason, sure=False)
    decimal = merged.get((None, "decimal"))
    if decimal is not None and decimal.usual:
        del merged[None, "decimal"]
    read = {
        text for line in merged_lines(drafts) if line.source is not None for text in texts_of(line.source)
    }
    left = merged.get((None, "leave_out"))
    if left is not None and isinstance(left.value, tuple):
        kept = tuple(name for name in left.value if name not in read)
        merged[None, "leave_out"] = replace(left, value=kept)
    return [one for one in merged.values() if one.value != ()]


def _with_comment(said: str, reason: str) -> str:
    comment = "# " + _plain(reason)
    if len(said) + len(comment) + 4 <= _WIDE + 20:
        return f"{said}    {comment}"
    return "\n".join([*_comment(reason), said])


def _comment(text: str) -> list[str]:
    lines, line = [], "#"
    for word in _plain(text).split(" "):
        if len(line) + 1 + len(word) > _WIDE and line != "#":
            lines.append(line)
            line = "#  "
        line += f" {word}"
    return [*lines, line]


def _plain(text: str) -> str:
    """A comment is one line of UTF-8 without control characters."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def _key(name: str) -> str:
    bare = name.replace("_", "").replace("-", "")
    return name if bare.isascii() and bare.isalnum() else quoted(name)


def _source(source: Source) -> str:
    if isinstance(source, Joined):
        return f"{{join = [{', '.join(map(quoted, source.join))}], by = {quoted(source.by)}}}"
    return quoted(source) if isinstance(source, str) else f"[{', '.join(map(quoted, source))}]"


def _value(value: str | bool | int | tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return quoted(value) if isinstance(value, str) else f"[{', '.join(map(quoted, value))}]"
