"""Parsed JSON becomes dataclasses, and what does not fit is named by its path."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from etalage.typed_json import Misfit, read_list, read_object


@dataclass(frozen=True)
class Price:
    amount: float
    class_: str = field(metadata={"alias": "class"})


@dataclass(frozen=True)
class Shelf:
    name: str
    prices: list[Price]
    best: Price | None = None
    rows: list[list[int]] = field(default_factory=list)
    note: dict[str, Any] | None = None


CHEAP = {"amount": 1.5, "class": "cheap"}


def test_objects_lists_and_nulls_are_read_at_every_depth() -> None:
    tree = {"name": "a", "prices": [CHEAP], "best": CHEAP, "rows": [[1, 2], []], "note": {"free": [1]}}
    cheap = Price(1.5, "cheap")
    assert read_object(Shelf, tree) == Shelf("a", [cheap], cheap, [[1, 2], []], {"free": [1]})
    assert read_list(Shelf, [{"name": "b", "prices": [], "best": None}]) == [Shelf("b", [])]


def test_what_a_newer_version_adds_is_passed_over() -> None:
    assert read_object(Price, {**CHEAP, "currency": "EUR"}) == Price(1.5, "cheap")


@pytest.mark.parametrize(
    ("tree", "path", "why"),
    [
        ([], (), "an object is needed, not []"),
        ({"name": "a"}, (), "'prices' is missing"),
        ({"name": "a", "prices": {}}, ("prices",), "a list is needed, not {}"),
        ({"name": "a", "prices": [CHEAP, {"amount": 1}]}, ("prices", "1"), "'class' is missing"),
        ({"name": "a", "prices": [], "best": "x" * 99}, ("best",), "an object is needed, not 'xxx"),
        ({"name": "a", "prices": [], "rows": [[1], 2]}, ("rows", "1"), "a list is needed, not 2"),
    ],
)
def test_what_does_not_fit_is_named(tree: Any, path: tuple[str, ...], why: str) -> None:
    with pytest.raises(Misfit) as caught:
        read_object(Shelf, tree)
    assert caught.value.path == path and caught.value.why.startswith(why)
    assert len(caught.value.why) < 100
