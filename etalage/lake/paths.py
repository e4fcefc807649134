"""Paths into nested values: `ecommerce.transaction_id`, `items[].item_id`, `items[0].id`,
`params[key=page].value`.

A list or an object may also be the text of one in JSON, or as Python writes it, as CSV files of nested tables
have it.
"""

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

_PART = re.compile(r"([^.\[\]]+)((?:\[[^\[\]]*\])*)(?:\.|$)")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_LONGEST_LITERAL = 1 << 20
Step = str | int | tuple[str, str]
"""A name; a place in a list; (name, value): the first of a list that has it."""


@dataclass(frozen=True)
class Path:
    """`root`: the column; `before`: the steps to the list that is walked, or to the value; `each`: whether a
    list is walked, a row for each element; `after`: the steps from an element to the value."""

    root: str
    before: tuple[Step, ...]
    each: bool = False
    after: tuple[Step, ...] = ()

    @property
    def walked(self) -> tuple[str, tuple[Step, ...]] | None:
        """What tells the list that is walked from others; None: none is."""
        return (self.root, self.before) if self.each else None

    @property
    def list_name(self) -> str:
        """The walked list as it is written in a mapping."""
        return self.root + "".join(f".{s}" if isinstance(s, str) else _bracket(s) for s in self.before)


def path_of(text: str) -> Path | None:
    """`text` as a path; None: it is a plain name, or none. Raises ValueError: it walks two lists."""
    steps: list[Step | None] = []
    at = 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            return None
        steps.append(part[1])
        for bracket in _BRACKET.findall(part[2]):
            name, equals, value = bracket.partition("=")
            if equals:
                steps.append((name.strip(), value.strip()))
            elif bracket == "" or bracket.isdecimal():
                steps.append(int(bracket) if bracket else None)
            else:
                return None
        at = part.end()
    if len(steps) < 2 or text.endswith("."):
        return None
    root, rest = str(steps[0]), steps[1:]
    if rest.count(None) > 1:
        raise ValueError(f"{text!r} walks two lists; a row can be made for each element of one")
    if None not in rest:
        return Path(root, tuple(s for s in rest if s is not None))
    at = rest.index(None)
    before, after = rest[:at], rest[at + 1 :]
    return Path(
        root, tuple(s for s in before if s is not None), True, tuple(s for s in after if s is not None)
    )


def value_at(value: Any, steps: tuple[Step, ...]) -> Any:
    """What stands at `steps` beneath `value`; None where there is nothing."""
    for step in steps:
        value = unpacked(value)
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        elif not isinstance(value, list):
            return None
        elif isinstance(step, int):
            value = value[step] if step < len(value) else None
        else:
            name, wanted = step
            value = next((v for v in value if isinstance(v, dict) and str(v.get(name)) == wanted), None)
    return value


def unpacked(value: Any) -> Any:
    """A list or an object out of its JSON text, or out of a Parquet map; anything else as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            literal = python_literal(value)
            return value if literal is None else literal
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, list) and value and all(isinstance(v, tuple) and len(v) == 2 for v in value):
        return dict(value)
    return value


def python_literal(text: str) -> Any:
    """A list or an object as Python writes it, `['a', 'b']`; None: it is none, or is too long to look at."""
    if text[:1] not in ("{", "[") or len(text) > _LONGEST_LITERAL or "'" not in text:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _bracket(step: Step) -> str:
    return f"[{step[0]}={step[1]}]" if isinstance(step, tuple) else f"[{step}]"
