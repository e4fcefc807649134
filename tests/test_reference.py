"""The reference pages say what the code has, and every key of every model can be read about."""

import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from etalage.config import ShopConfig, validated
from etalage.config.reference import NOT_SET, Section, meanings_of, section_of, sections
from etalage.config.settings import Settings
from etalage.models import recipe as recipes
from tests.scripts import loaded

BESIDE = {
    "engine": {"kind": '"spark"', "workers": "2"},
    "storage": {"bundles": '"s3://bucket/shop/bundles"'},
    "index milvus": {"kind": '"milvus"'},
}
"""Section, or section and key → what else has to be set there, so that the key acts."""


@pytest.fixture(scope="module")
def writer(project: Path) -> ModuleType:
    return loaded(project / "docs" / "reference.py")


def test_the_pages_are_as_the_code_is(writer: ModuleType, project: Path) -> None:
    made, folder = writer.pages(), project / "docs" / "reference"
    assert {file.name for file in folder.iterdir()} == set(made)
    stale = [name for name, text in made.items() if (folder / name).read_text(encoding="utf-8") != text]
    assert not stale, f"{stale}: run python docs/reference.py"


def test_every_section_of_a_shop_is_there() -> None:
    named = {section.name.split(".")[0] for section in sections()}
    assert named == {"", *ShopConfig.model_fields} - {"name", "currency", "models"}


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.name or "top")
def test_defaults_and_examples_can_be_written_into_a_shop_toml(section: Section) -> None:
    """One key at a time, as a person would try it."""
    head = [f"[{section.name.replace('TABLE', 'items')}]"] if section.name else []
    for key in section.keys:
        beside = {**BESIDE.get(section.name, {}), **BESIDE.get(f"{section.name} {key.name}", {})}
        others = [f"{name} = {value}" for name, value in beside.items() if name != key.name]
        shown = {key.default, key.example} if key.default != "{}" else {key.example}
        for value in shown - {NOT_SET, None}:
            text = "\n".join([*head, *others, f"{key.name} = {value}"])
            validated(ShopConfig, tomllib.loads(text), text)


def test_what_has_no_default_has_an_example() -> None:
    for section in sections():
        bare = [key.name for key in section.keys if key.default in (NOT_SET, "{}", "[]") and not key.example]
        assert not bare, section.name


@pytest.mark.parametrize("name", recipes.names())
def test_every_setting_of_a_model_is_explained(name: str) -> None:
    for key in section_of(name, recipes.find(name).config).keys:
        assert len(key.meaning) > 5 and key.type != "table", key


def test_a_setting_without_a_docstring_is_a_fault() -> None:
    class Silent(Settings):
        said: int = 1
        """Said."""
        unsaid: int = 2

    with pytest.raises(ValueError, match="Silent: unsaid without a docstring beneath"):
        meanings_of(Silent)
