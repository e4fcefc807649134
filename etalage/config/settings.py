"""The base of every settings model, and how what a person typed becomes one: an unknown key is an error that
suggests the right one."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from etalage.errors import ConfigError
from etalage.nearest import nearest

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings model, also of the recommender models' configs. It is frozen, and refuses
    unknown keys and the numbers `nan` and `inf`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions → their present names."""


def as_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were typed, `--set key=value`: JSON where the text parses as JSON, else the text. What is
    no text, as Python gives it, is itself."""
    given: dict[str, Any] = {}
    for key, said in settings.items():
        try:
            given[key] = json.loads(said) if isinstance(said, str) else said
        except ValueError:
            given[key] = said
    return given


def validated(kind: type[S], raw: dict[str, Any], where: str) -> S:
    """Return `raw` as a `kind`. Raises ConfigError that names `where`, the key, the value and a remedy."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(kind, e, where) for e in error.errors())) from error


def parse_pairs(option: str, pairs: list[str] | None) -> dict[str, str] | None:
    """["epochs=3"] → {"epochs": "3"}; None if there are no pairs. Raises ConfigError that names `option`."""
    split = [(pair, *pair.partition("=")) for pair in pairs or []]
    for pair, key, equals, _ in split:
        if not (key.strip() and equals):
            raise ConfigError(f"{option} {pair}: expected key=value")
    return {key.strip(): value.strip() for _, key, _, value in split} or None


def _explain(kind: type[Settings], error: Any, where: str) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        said = error["msg"].removeprefix("Value error, ")  # pydantic's word for our own messages
        return f"{where}: {path} = {error['input']!r}: {said}" if path else f"{where}: {said}"
    owner: Any = kind
    for part in error["loc"][:-1]:
        if get_origin(owner) is dict:
            owner = get_args(owner)[1]
        else:
            field = getattr(owner, "model_fields", {}).get(part)
            owner = field.annotation if field else None
    now = getattr(owner, "RENAMED", {}).get(str(error["loc"][-1]))
    if now is not None:
        return f"{where}: {path} = {error['input']!r}: this key is called {now} now"
    known = list(getattr(owner, "model_fields", {}))
    return f"{where}: unknown key {path!r}; {suggestion(str(error['loc'][-1]), known, 'known keys')}"


def suggestion(name: str, known: Iterable[str], listed: str = "there are") -> str:
    """What to write instead of `name`: the nearest of `known` or, if none is near, the list of all."""
    names = list(known)
    folded = name.casefold()
    near = nearest(name, names) or next((n for n in names if len(name) > 2 and n.startswith(folded)), None)
    return f"{listed}: {', '.join(names) or 'none'}" if near is None else f"did you mean {near!r}?"
