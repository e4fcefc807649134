"""What a command answers: sentences and tables for a person or, with --json, one JSON document.

Its keys are the fields of the dataclasses that the methods of `Shop` return (etalage/shop, etalage/api.py).
"""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

from etalage.console import err, manner


def tell(answer: object, show: Callable[[], object]) -> None:
    """Print `answer` as JSON where --json asks for it; else let `show` print it for a person.

    The JSON is ASCII: where an output can write no more than that, it stays JSON.
    """
    if manner().json:
        print(json.dumps(tree(answer), indent=1), file=sys.stdout)
    else:
        show()


def tell_error(name: str, message: str, exit_code: int) -> None:
    """Print why a command failed, on stderr: a sentence or, with --json, an object on its last line."""
    if manner().json:
        error = {"class": name, "message": message, "exit_code": exit_code}
        print(json.dumps(error), file=sys.stderr)
    else:
        err.print(f"{name}: {message}")


def tree(answer: Any) -> Any:
    """The JSON of an answer: dataclasses are objects, paths and times texts, NaN and infinity null."""
    if answer is None or (isinstance(answer, bool | int | str) and not isinstance(answer, Enum)):
        return answer
    if isinstance(answer, float):
        return answer if math.isfinite(answer) else None
    if isinstance(answer, Enum):
        return tree(answer.value)
    if isinstance(answer, Path):
        return str(answer)
    if isinstance(answer, date):
        return answer.isoformat()
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return {
            one.metadata.get("alias", one.name): tree(getattr(answer, one.name))
            for one in dataclasses.fields(answer)
            if not one.name.startswith("_")
        }
    if isinstance(answer, tuple) and hasattr(answer, "_asdict"):
        return tree(answer._asdict())
    if isinstance(answer, Mapping):
        return {_key(key): tree(value) for key, value in answer.items()}
    if isinstance(answer, AbstractSet):
        return sorted((tree(one) for one in answer), key=str)
    if isinstance(answer, list | tuple):
        return [tree(one) for one in answer]
    for as_values in ("to_json", "model_dump", "tolist"):  # ours, Pydantic's, numpy's
        if hasattr(answer, as_values):
            return tree(getattr(answer, as_values)())
    raise TypeError(f"{type(answer).__name__} is no part of an answer")


def _key(key: Any) -> str:
    plain = key.value if isinstance(key, Enum) else key
    return plain if isinstance(plain, str) else str(plain)
