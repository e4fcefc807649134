"""The settings of a model, read out of its file without running it: torch is not loaded for that.

A shop that misspells a key of `[models.NAME]` is told by every command that reads its settings, and not only
by the one that trains that model.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from etalage.config import suggestion

_HERE = Path(__file__).parent
_PACKAGE = "etalage.models."


@dataclass(frozen=True)
class SettingNames:
    """What a `[models.NAME]` may say."""

    known: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    """A key of before → what it is called now."""

    def trouble(self, key: str) -> str | None:
        """What is wrong with this key, and what to write instead; None: nothing."""
        if key in self.known:
            return None
        if key in self.renamed:
            return f"{key}: this key is called {self.renamed[key]} now"
        return f"unknown key {key!r}; {suggestion(key, self.known, 'known keys')}"


def setting_names(model: str) -> SettingNames:
    """Of the config of a model of this folder: its own fields, and those of the classes that it extends."""
    tree = _parsed(_HERE / f"{model}.py")
    for node in tree.body:
        assigned = isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if assigned and ast.unparse(node.targets[0]) == "RECIPE":  # type: ignore[attr-defined]
            config = next(one.value for one in node.value.keywords if one.arg == "config")  # type: ignore[attr-defined]
            found = list(_classes(tree, ast.unparse(config)))
            known = dict.fromkeys(name for one in reversed(found) for name in _fields(one))
            return SettingNames(tuple(known), {k: v for one in found for k, v in _renamed(one).items()})
    raise ValueError(f"{model}: no RECIPE in its file")


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _classes(tree: ast.Module, name: str) -> Iterator[ast.ClassDef]:
    """The class of this name as the module knows it, and those of this folder that it extends."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node
            for base in node.bases:
                yield from _classes(tree, ast.unparse(base))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGE):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    module = str(node.module).removeprefix(_PACKAGE)
                    yield from _classes(_parsed(_HERE / f"{module}.py"), alias.name)


def _fields(config: ast.ClassDef) -> Iterator[str]:
    for node in config.body:
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar"):
            yield ast.unparse(node.target)


def _renamed(config: ast.ClassDef) -> dict[str, str]:
    for node in config.body:
        if (
            isinstance(node, ast.AnnAssign)
            and ast.unparse(node.target) == "RENAMED"
            and node.value is not None
        ):
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return {}
