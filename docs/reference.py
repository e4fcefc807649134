"""Writes docs/reference/: settings, tables, routes, commands, exit codes, from the code that has them.

    python docs/reference.py [FOLDER]

tests/test_reference.py holds the pages equal to what this writes.
"""

import inspect
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from typer.main import get_command

from etalage import errors
from etalage.cli import app as cli
from etalage.cli.app import IN_ORDER, JSON, QUIET, VERBOSE
from etalage.config import ServeConfig
from etalage.config.reference import NOT_SET, Key, Section, section_of, sections
from etalage.lake.schema import TABLES, Column
from etalage.models import recipe as recipes
from etalage.models.recipe import TrainingConfig
from etalage.serve.app import create_app

HERE = Path(__file__).parent / "reference"
BY = "`docs/reference.py` writes this page from the code; a test holds them equal."


def main(folder: Path = HERE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Name of each file → its Markdown."""
    made = {
        "settings.md": settings(),
        "models.md": models(),
        "tables.md": tables(),
        "routes.md": routes(),
        "commands.md": commands(),
        "exit_codes.md": exit_codes(),
    }
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def prose(text: str) -> list[str]:
    """Lines of a paragraph."""
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


# -- settings --------------------------------------------------------------------------------------


def settings() -> Iterator[str]:
    yield from (
        "# Settings: every key of shop.toml",
        "",
        *prose(
            f"{BY} An unknown key, a value of another type and a setting that could not act are errors that "
            "say what to write instead. What is not in the file has its default. The models' settings have "
            "[a page of their own](models.md)."
        ),
        "",
    )
    for section in sections():
        yield from _section(section)


def _section(section: Section, level: str = "##") -> Iterator[str]:
    yield from (f"{level} {f'[{section.name}]' if section.name else 'Above all sections'}", "")
    if section.name:
        yield from (_linked(section.about), "")
    yield from _keys(section.keys)
    yield ""


def _keys(keys: Iterable[Key]) -> Iterator[str]:
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    for key in keys:
        default = key.default if key.default == NOT_SET else f"`{key.default}`"
        example = "" if key.example is None else f" Example: `{key.name} = {key.example}`"
        yield _row(f"`{key.name}`", key.type, default, key.meaning + example)


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _linked(text: str) -> str:
    """docs/links.md → a link to it."""
    return re.sub(r"docs/(\w+)\.md", r"[\1](../\1.md)", text)


# -- models ----------------------------------------------------------------------------------------


def models() -> Iterator[str]:
    shared = section_of("", TrainingConfig)
    yield from (
        "# Settings of the models: [models.NAME]",
        "",
        *prose(
            f"{BY} `etalage train NAME --set key=value` sets one for a single run, and `etalage tune NAME` "
            "tries many. [Which model, when](../models.md)."
        ),
        "",
        "## What all models that are trained by steps share",
        "",
        *prose(
            "The closed-form models are counted instead; of these settings they have `seed`. Where a model's "
            "default differs, its own table says so."
        ),
        "",
    )
    yield from (*_keys(shared.keys), "")
    usual = {key.name: key for key in shared.keys}
    for name in recipes.names():
        recipe = recipes.find(name)
        own = [key for key in section_of("", recipe.config).keys if usual.get(key.name) != key]
        role = recipe.role.replace("_", "-")
        yield from (f"## [models.{name}]", "", *prose(f"{_article(role)} {role}: {recipe.paper}."), "")
        if own:
            yield from (*_keys(own), "")


def _article(noun: str) -> str:
    return "An" if noun[0] in "aeiou" else "A"


# -- tables ----------------------------------------------------------------------------------------


def tables() -> Iterator[str]:
    yield from (
        "# Tables: what a shop knows",
        "",
        *prose(
            f"{BY} Every table is a Delta table in the shop's `tables/`, with its change data feed on; "
            "anything that reads Delta reads them. Columns in bold are never null; the key finds a row."
        ),
        "",
    )
    for spec in TABLES.values():
        yield from (
            f"## {spec.name}",
            "",
            f"{_sentence(spec.meaning)} Key: {', '.join(f'`{one}`' for one in spec.key)}.",
            "",
        )
        yield from ("| column | type | meaning |", "|---|---|---|")
        for column in spec.columns:
            name = f"**`{column.name}`**" if column.required else f"`{column.name}`"
            yield _row(name, _arrow(column), column.meaning)
        yield ""


def _arrow(column: Column) -> str:
    names = {"string": "text", "double": "number", "bool": "true or false", "binary": "bytes"}
    kind = column.type
    if pa.types.is_timestamp(kind):
        return "time, UTC, µs"
    if pa.types.is_list(kind):
        return f"list of {names.get(str(kind.value_type), str(kind.value_type))}"
    return names.get(str(kind), str(kind))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


# -- routes ----------------------------------------------------------------------------------------


def routes() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        found = create_app(Path(folder) / "bundles", ServeConfig()).openapi()
    schemas = found["components"]["schemas"]
    yield from (
        "# Routes: the REST API of `etalage serve`",
        "",
        *prose(
            f"{BY} The server itself describes them at `/openapi.json`, answers and all. "
            "`x-deadline-ms` says how long a caller waits. An answer other than 200 is "
            '`{"error": {"class": …, "message": …}}`, with class and status as in '
            "[exit codes](exit_codes.md). With a key, `authorization: Bearer KEY` is needed everywhere but "
            "at `/`, `/healthz` and `/readyz`."
        ),
        "",
    )
    for path, methods in found["paths"].items():
        for method, about in methods.items():
            yield from (f"## {method.upper()} {path}", "", _paragraphs(about["description"]), "")
            asked = [one for one in about.get("parameters", []) if one["name"] != "x-deadline-ms"]
            if asked:
                yield from ("| parameter | type | default | meaning |", "|---|---|---|---|")
                for one in asked:
                    yield _field(one["name"], one["schema"], one["required"], one.get("description", ""))
                yield ""
            for body in _bodies(about):
                if len(_bodies(about)) > 1:
                    yield from (f"{_spaced(body)}:", "")
                yield from _body(schemas[body])
    yield from ("## What bodies are made of", "")
    for name in _inner(schemas, found["paths"]):
        yield from (f"### {name}", "")
        yield from _body(schemas[name])


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _bodies(about: dict[str, Any]) -> list[str]:
    content = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return [one["$ref"].rsplit("/", 1)[1] for one in content.get("oneOf", [])]


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _body(schema: dict[str, Any]) -> Iterator[str]:
    if "description" in schema:
        yield from (_paragraphs(schema["description"]), "")
    yield from ("| field | type | default | meaning |", "|---|---|---|---|")
    for name, one in schema["properties"].items():
        yield _field(name, one, name in schema.get("required", []), one.get("description", ""))
    yield ""


def _field(name: str, schema: dict[str, Any], required: bool, meaning: str) -> str:
    default = schema.get("default")
    said = "required" if required else NOT_SET if default is None else f"`{str(default).lower()}`"
    return _row(f"`{name}`", _json_type(schema), said, meaning or schema.get("description", ""))


def _json_type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(
            _json_type(one) for one in schema.get("anyOf", schema.get("oneOf")) if one != {"type": "null"}
        )
    if "enum" in schema:
        return " or ".join(f'`"{one}"`' for one in schema["enum"])
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    if schema.get("type") == "array":
        items = f"list of {_json_type(schema.get('items', {}))}"
        return items + (f", at most {schema['maxItems']:,}" if "maxItems" in schema else "")
    names = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "object": "object",
    }
    bounds = [
        f"{word} {schema[key]:,}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return " ".join([names.get(schema.get("type", ""), "any value"), *bounds])


def _inner(schemas: dict[str, Any], paths: dict[str, Any]) -> list[str]:
    """Schemas that the bodies of requests refer to, in order."""
    found: list[str] = []
    waiting = [body for methods in paths.values() for about in methods.values() for body in _bodies(about)]
    outer = set(waiting)
    while waiting:
        for name in re.findall(r"#/components/schemas/(\w+)", str(schemas[waiting.pop(0)])):
            if name not in outer and name not in found:
                found.append(name)
                waiting.append(name)
    return found


# -- commands --------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    yield from (
        "# Commands",
        "",
        *prose(
            f"{BY} `etalage COMMAND --help` says the same. [The guide](../guide.md) goes through them in "
            "order. Every command takes, before its name or behind it:"
        ),
        "",
        "| option | meaning |",
        "|---|---|",
        _row("`--json`", JSON),
        _row("`--quiet`", QUIET),
        _row("`--verbose`", VERBOSE),
        "",
        *prose(
            "`--json` is not for commands that go on until they are ended, nor for the demo. "
            "[What the terminal shows](../guide.md#the-terminal)."
        ),
        "",
    )
    top = get_command(cli)
    for name in IN_ORDER:
        yield from _command(f"etalage {name}", top.commands[name])


def _command(name: str, command: Any) -> Iterator[str]:
    yield from (f"## {name}", "", _paragraphs(inspect.cleandoc(command.help or "")), "")
    switches = ("help", "json", "quiet", "verbose")
    parameters = [one for one in command.params if one.name not in switches]
    if parameters and not getattr(command, "commands", {}):
        yield from ("| option | default | meaning |", "|---|---|---|")
        for one in parameters:
            flags = (
                ", ".join(f"`{flag}`" for flag in one.opts)
                if one.param_type_name == "option"
                else f"`{one.name.upper()}`"
            )
            default = one.default() if callable(one.default) else one.default
            shown = "required" if one.required else "" if default in (None, (), False) else f"`{default}`"
            yield _row(flags, shown, getattr(one, "help", None) or "")
        yield ""
    if command.epilog:
        yield from ("```bash", *(line.strip() for line in command.epilog.strip().splitlines()), "```", "")
    for inner, below in getattr(command, "commands", {}).items():
        yield from _command(f"{name} {inner}", below)


# -- exit codes ------------------------------------------------------------------------------------


def exit_codes() -> Iterator[str]:
    yield from (
        "# Exit codes and HTTP statuses",
        "",
        *prose(
            f"{BY} A command ends with 0, or with the code of the error that it tells in one message; 130: "
            "Ctrl-C. Any other exception is a fault of Etalage, and shows its traceback. Indented: a kind of "
            "what stands above it."
        ),
        "",
        "| error | exit code | HTTP status | what it is |",
        "|---|---|---|---|",
    )
    tree = inspect.getdoc(errors) or ""
    for indent, name, code, status, meaning in re.findall(
        r"^([│├└─ ]*)(\w+) +(\d+) +(\d+) *(.*)$", tree, re.MULTILINE
    ):
        yield _row(f"{'· ' * (len(indent) // 4)}`{name}`", code, status, meaning)


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:]))
