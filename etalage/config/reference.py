"""What can be set, as a person reads it: every key of shop.toml with its type, default, meaning, example.

Read from the typed models and their docstrings when somebody asks, so that a page, a comment in a new
shop.toml and the check of a setting cannot say different things.
"""

import ast
import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from etalage.config.settings import Settings
from etalage.config.shop import ShopConfig
from etalage.config.tables import Joined

NOT_SET = "not set"
_BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
_PLAIN = {str: "text", bool: "true or false", int: "whole number", float: "number"}


@dataclass(frozen=True)
class Key:
    """One setting."""

    name: str
    type: str
    """As a person says it: `whole number from 1`, `list of texts`."""
    default: str
    """As TOML; NOT_SET: there is none, and it is left out of the file."""
    meaning: str
    """Paragraphs of Markdown, without line breaks in them."""
    example: str | None
    """As TOML, where the default shows nothing."""

    @property
    def first_sentence(self) -> str:
        return re.split(r"(?<=\.)\s(?=[A-Z`(])", self.meaning, maxsplit=1)[0]


@dataclass(frozen=True)
class Section:
    """One table of shop.toml."""

    name: str
    """What stands between the brackets; "": the keys above all tables."""
    about: str
    """Markdown, with the examples of the model's docstring."""
    keys: tuple[Key, ...]


def sections() -> tuple[Section, ...]:
    """Every section of shop.toml but those of the models, in the order of ShopConfig."""
    found: list[Section] = []
    _add(found, "", ShopConfig)
    return tuple(found)


def commented(section: Section, keys: Sequence[str], given: Mapping[str, str] | None = None) -> str:
    """Some keys of a section as comments of a shop.toml: what each does, and its example or default.

    given: of those that are set, key → the line that sets it.
    """
    lines, given = [""], given or {}
    if section.name:
        begin = f"[{section.name}]" if given else f"# [{section.name}]"
        lines += [*_remark(section.about.split("\n")[0]), begin]
    shown = {key.name: key for key in section.keys}
    for name in keys:
        key = shown[name]
        said = f"{key.type}. {key.meaning}" if key.type.startswith("`") else key.first_sentence
        lines += [*_remark(said), given.get(name, f"# {key.name} = {key.example or key.default}")]
    return "\n".join(lines) + "\n"


def _remark(text: str) -> list[str]:
    return textwrap.wrap(text, 108, initial_indent="## ", subsequent_indent="## ", break_long_words=False)


def section_of(name: str, kind: type[Settings]) -> Section:
    """The section that a typed model is read from."""
    meanings = meanings_of(kind)
    keys = tuple(
        Key(key, _type(field), _default(field), meanings[key], _example(field))
        for key, field in kind.model_fields.items()
    )
    return Section(name, _about(kind), keys)


def meanings_of(kind: type[Settings]) -> dict[str, str]:
    """Setting → its docstring, of this model and those that it extends. Raises ValueError: one has none."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one is Settings or not issubclass(one, Settings):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(tree, ast.ClassDef)
        for said, after in zip(tree.body, tree.body[1:], strict=False):
            text = _text(after)
            if isinstance(said, ast.AnnAssign) and isinstance(said.target, ast.Name) and text is not None:
                found[said.target.id] = re.sub(r"\bNone: ", "Not set: ", " ".join(text.split()))
    missing = [name for name in kind.model_fields if name not in found]
    if missing:
        raise ValueError(f"{kind.__name__}: {', '.join(missing)} without a docstring beneath")
    return {name: found[name] for name in kind.model_fields}


def as_toml(value: Any) -> str:
    """A value as it stands behind `=`."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_quoted_key(key)} = {as_toml(one)}" for key, one in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(one) for one in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return _number(value)
    if isinstance(value, float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)


def _add(found: list[Section], name: str, kind: type[Settings]) -> None:
    whole = section_of(name, kind)
    kinds = {key: _section_kind(field) for key, field in kind.model_fields.items()}
    below = {key: one for key, one in kinds.items() if one is not None}
    keys = tuple(key for key in whole.keys if key.name not in below and (name or key.name != "models"))
    if keys:
        found.append(Section(name, whole.about, keys))
    for one in dict.fromkeys(below.values()):
        alike = [key for key, other in below.items() if other is one]
        inner = alike[0] if len(alike) == 1 else "TABLE"  # the tables of [ingest] are filled alike
        _add(found, f"{name}.{inner}" if name else inner, one)


def _section_kind(field: FieldInfo) -> type[Settings] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def _text(node: ast.stmt) -> str | None:
    """Of a docstring."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return node.value.value if isinstance(node.value.value, str) else None
    return None


def _about(kind: type[Settings]) -> str:
    """The docstring; its indented lines are examples in TOML."""
    text = inspect.cleandoc(kind.__doc__ or "")
    text = re.sub(r"^\[[^\]]*\](?: \w+)?: ", "", text)
    parts: list[str] = []
    for block in re.split(r"\n\n(?=\S|    )", text):
        if block.startswith(("    ", "[")):
            parts.append(f"```toml\n{textwrap.dedent(block)}\n```")
        else:
            parts.append(" ".join(block.split()))
    merged = "\n\n".join(parts).replace("\n```\n\n```toml\n", "\n\n")
    return merged[:1].upper() + merged[1:]


def _type(field: FieldInfo) -> str:
    return " ".join([_type_name(field.annotation), *_bounds(field.metadata)])


def _bounds(metadata: Iterable[Any]) -> list[str]:
    return [
        pattern.format(_number(getattr(one, name)))
        for one in metadata
        for name, pattern in _BOUNDS.items()
        if getattr(one, name, None) is not None
    ]


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _PLAIN[annotation]
    if annotation is Any:
        return "any value"
    if annotation is Joined:
        return "`{join = […], by = …}`"
    if origin is Literal:
        return " or ".join(f"`{as_toml(one)}`" for one in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_name(one) for one in arguments if one is not type(None)))
    if origin is tuple:
        return f"list of {_plural(_type_name(arguments[0]))}"
    if origin is dict:
        return f"table of {_plural(_type_name(arguments[1]))}"
    if hasattr(annotation, "__metadata__"):
        return " ".join([_type_name(annotation.__origin__), *_bounds(annotation.__metadata__)])
    return "table"


def _plural(name: str) -> str:
    if name.startswith("list of"):
        return f"lists{name[4:]}"
    for one in ("text", "number", "table", "value"):
        name = re.sub(rf"\b{one}\b", f"{one}s", name)
    return name


def _number(value: Any) -> str:
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else repr(value)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return NOT_SET if value is None else as_toml(value)


def _example(field: FieldInfo) -> str | None:
    return as_toml(field.examples[0]) if field.examples else None


def _quoted_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
