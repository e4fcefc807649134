"""What messages, pages and docs advise to type or to set is there."""

import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

from etalage.cli import app
from etalage.config import ShopConfig
from etalage.errors import installing

PROSE = {"COMMAND", "COMMAND --help", "--help", "--version"}


def texts(project: Path) -> Iterator[tuple[Path, str]]:
    """Every file that gives advice, with strings of several lines as one."""
    for folder, pattern in (
        ("etalage", "*.py"),
        ("examples", "*.py"),
        ("docs", "*.md"),
        ("examples", "*.md"),
    ):
        for file in sorted((project / folder).rglob(pattern)):
            text = file.read_text(encoding="utf-8")
            yield file, re.sub(r'"\s*\n\s*f?"', "", text) if file.suffix == ".py" else text
    for name in ("README.md", "CHANGELOG.md"):
        yield project / name, (project / name).read_text(encoding="utf-8")


def wrong(typed: str) -> str | None:
    """What of `etalage TYPED` does not exist; None: all does."""
    words, command = typed.split(), get_command(app)
    while words and words[0] in (beneath := getattr(command, "commands", {})):
        command: Any = beneath[words.pop(0)]
    if hasattr(command, "commands") and (words or command is get_command(app)):
        return f"no such command: {typed}"
    options = {one for given in command.params for one in (*given.opts, *given.secondary_opts)} | {"--help"}
    unknown = [
        word for word in words if word.startswith("-") and word.rstrip(".,;)").split("=")[0] not in options
    ]
    return f"no such option: {unknown[0]}" if unknown else None


def test_every_command_that_is_advised_exists(project: Path) -> None:
    advised = [
        (file, one) for file, text in texts(project) for one in re.findall(r"`etalage ([^`\n]+)`", text)
    ]
    assert len(advised) > 100
    assert not [(str(file), problem) for file, one in advised if one not in PROSE and (problem := wrong(one))]


@pytest.mark.parametrize("typed", ["fly", "ingest --wings", "taxonomy fly", "items"])
def test_advice_that_leads_nowhere_is_found(typed: str) -> None:
    assert wrong(typed) is not None


def test_every_setting_in_code_quotes_exists(project: Path) -> None:
    sections = {
        name: field.annotation
        for name, field in ShopConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    found = [
        (file, section, key)
        for file, text in texts(project)
        for section, key in re.findall(r"`\[(\w+)\] (\w+)", text)
        if section in sections
    ]
    assert len(found) > 20
    assert not [(str(f), s, k) for f, s, k in found if k not in sections[s].model_fields]


def test_every_setting_of_a_model_that_is_named_exists(project: Path) -> None:
    found = [
        (file, model, key)
        for file, text in texts(project)
        for model, key in re.findall(r"\[models\.(\w+)\] (\w+)", text)
    ]
    assert len(found) > 5
    for file, model, key in found:
        known = import_module(f"etalage.models.{model}").RECIPE.config.model_fields
        assert key in known, f"{file}: [models.{model}] {key}"


def test_every_page_that_is_named_exists(project: Path) -> None:
    named = [(file, page) for file, text in texts(project) for page in re.findall(r"docs/[\w/-]+\.md", text)]
    assert len(named) > 20
    assert not [(str(file), page) for file, page in named if not (project / page).exists()]


def test_every_extra_that_is_advised_exists(project: Path) -> None:
    extras = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    named = {
        name for _, text in texts(project) for name in re.findall(r"installing\(['\"](\w+)['\"]\)", text)
    }
    assert named and named <= set(extras)
    assert (
        installing("page")
        in "it comes with the extra page: `pip install '.[page]'` in the folder of Etalage's sources"
    )
