"""Parsed JSON → frozen dataclasses, by their annotations: other dataclasses, lists, `X | None`, plain values.

Only the shape is checked: which fields are there, what is an object and what a list.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Misfit(ValueError):
    """`path` leads to the value that does not fit, `why` says how."""

    def __init__(self, why: str, path: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why, self.path = why, tuple(path)

    def within(self, name: str) -> "Misfit":
        """The same, told from one step above."""
        return Misfit(self.why, (name, *self.path))


def read_object(kind: type[T], tree: Any) -> T:
    """A dataclass out of an object; keys that it does not have are passed over. Raises Misfit.

    A field whose metadata has an `alias` stands under that key.
    """
    found: T = _reader(cast(Any, kind))(tree)
    return found


def read_list(kind: type[T], trees: Any) -> list[T]:
    """A list of them. Raises Misfit."""
    found: list[T] = _list_reader(_reader(cast(Any, kind)))(trees)
    return found


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of this annotation."""
    if dataclasses.is_dataclass(kind):
        return _object_reader(kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return _list_reader(_reader(inner[0]))
    if origin is types.UnionType:
        (present,) = (one for one in inner if one is not types.NoneType)
        read_present = _reader(present)
        return lambda value: None if value is None else read_present(value)
    return lambda value: value


def _list_reader(read_one: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Misfit(f"a list is needed, not {_short(value)}")
        found = []
        for place, one in enumerate(value):
            try:
                found.append(read_one(one))
            except Misfit as error:
                raise error.within(str(place)) from error
        return found

    return read


def _object_reader(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    fields = [
        (one.name, one.metadata.get("alias", one.name), _reader(hints[one.name]), _has_no_default(one))
        for one in dataclasses.fields(kind)
    ]

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Misfit(f"an object is needed, not {_short(value)}")
        given = {}
        for name, key, read_field, needed in fields:
            if key in value:
                try:
                    given[name] = read_field(value[key])
                except Misfit as error:
                    raise error.within(key) from error
            elif needed:
                raise Misfit(f"{key!r} is missing")
        return kind(**given)

    return read


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
