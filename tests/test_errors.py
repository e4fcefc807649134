"""The error tree: drawn as it is, with an exit code and an HTTP status for each class."""

import re

from etalage import errors
from etalage.errors import EtalageError


def every(kind: type[EtalageError] = EtalageError) -> list[type[EtalageError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every(child))]


def test_the_drawing_in_the_docstring_is_true() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"(\w+)\s+(\d+)\s+(\d{3})\b", errors.__doc__)
    ours = {kind for kind in every() if kind.__module__ == errors.__name__}
    assert {name: (int(code), int(status)) for name, code, status in drawn} == {
        kind.__name__: (kind.exit_code, kind.http_status) for kind in ours
    }


def test_no_error_exits_as_a_success() -> None:
    assert all(0 < kind.exit_code < 126 for kind in every())
    assert all(400 <= kind.http_status < 600 for kind in every())
