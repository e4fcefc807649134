"""A shop's own models: the files of its folder `models/`, one a model, written as ours are.

They are listed by reading, never by running them. They run in `find` alone, and only as bytes that this user
trusted on this machine: what was hashed is what is compiled. The folder itself is on no module path.

Trust is kept in the user's own state, `$XDG_STATE_HOME/etalage/trusted/` (by default `~/.local/state/…`), one
file a folder: a shop that is copied, sent or unpacked brings no trust along (docs/decisions/safety.md).
"""

import ast
import hashlib
import importlib.abc
import importlib.util
import json
import os
import re
import shlex
import stat
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from etalage.config import suggestion
from etalage.errors import ConfigError, DataError, EtalageError, NotTrusted
from etalage.lake.durable_files import replace_durably
from etalage.models import recipe as recipes
from etalage.models.recipe import Data, Listed, Recipe, Role


def trusted(folder: Path) -> dict[str, str]:
    """The files of a folder that somebody trusted: name → SHA-256. Raises DataError: the note on it is not
    this user's alone, or damaged."""
    note, real = _note(folder), str(folder.resolve())
    try:
        about = note.stat()
        if os.name == "posix" and (about.st_uid not in (os.getuid(), 0) or about.st_mode & 0o022):
            raise DataError(
                f"{note}: others may write it, so that it says nothing; remove it, and trust again"
            )
        kept = json.loads(note.read_bytes())
        files = {str(name): str(sha256) for name, sha256 in kept["files"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{note}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{note}: damaged; remove it, and trust again") from error
    return files if kept.get("folder") == real else {}


def trust(folder: Path, files: Mapping[str, str]) -> Path:
    """From now on just these files of the folder are trusted, name → SHA-256; none: none. → the note.

    Raises DataError: it cannot be written.
    """
    note = _note(folder)
    try:
        if not files:
            note.unlink(missing_ok=True)
            return note
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = {"folder": str(folder.resolve()), "files": dict(sorted(files.items()))}
        replace_durably(note, json.dumps(content, indent=1).encode())
        note.chmod(0o600)
    except OSError as error:
        raise DataError(
            f"{note}: cannot be written: {error.strerror}; XDG_STATE_HOME names another folder for it"
        ) from error
    return note


def _note(folder: Path) -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        home = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise DataError(
            f"there is no home folder to keep in what is trusted: set XDG_STATE_HOME: {error}"
        ) from error
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    return home / "etalage" / "trusted" / f"{digest}.json"


Text = TypeVar("Text", bound=str)
FOLDER = "models"
LARGEST = 1 << 20
"""Bytes of a file; a model is text that somebody wrote."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
TAKEN = ("photo", "photos", "text", "rows", "yardsticks", "mlartifacts")
"""Names that mean something else beside the models' own, in runs/ and among the features of items."""
LEARNS: dict[Role, tuple[Data, ...]] = {
    "closed_form": ("behaviour",),
    "embedder": ("behaviour", "photos"),
    "ranker": ("behaviour", "examples"),
    "classifier": ("categories",),
}
"""What a model of each role may learn from."""
SOURCE = "source_sha256"
"""In the facts of an export: which file a model of the shop's own was."""


@dataclass(frozen=True)
class Source:
    """The file of a model as it was read: what is trusted, what runs, and what other workers are given."""

    name: str
    file: str
    """Where it was read, for messages and tracebacks."""
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def module(self) -> str:
        """Its name among Python's modules: of no package, and another one for other bytes."""
        return f"_etalage_own_{self.name}_{self.sha256[:16]}"

    def recipe(self) -> Recipe[Any]:
        """Run the file, once a process; its RECIPE. Raises ConfigError: it cannot be run, or has another
        RECIPE than one reads in it."""
        module = sys.modules.get(self.module) or self._run()
        found = getattr(module, "RECIPE", None)
        read = listed_in(self)
        if not isinstance(found, Recipe) or read is None:
            raise ConfigError(f"{self.file}: RECIPE is no Recipe of etalage.models.recipe")
        if (found.name, found.role, found.data) != (read.name, read.role, read.data):
            raise ConfigError(
                f"{self.file}: when it runs, RECIPE is {found.name!r} ({found.role}, {found.data}), and not "
                f"what stands there, {read.name!r} ({read.role}, {read.data}): assign it once"
            )
        return replace(found, source=self)

    def _run(self) -> ModuleType:
        spec = importlib.util.spec_from_loader(self.module, _Loader(self), origin=self.file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.module] = module  # before it runs: its classes look themselves up there
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[self.module]
            if isinstance(error, EtalageError) or not isinstance(error, Exception):
                raise
            at = [
                one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == self.file
            ]
            line = f" line {at[-1]}:" if at else ""
            raise ConfigError(f"{self.file}:{line} {type(error).__name__}: {error}{_hint(error)}") from error
        return module


def _hint(error: Exception) -> str:
    if isinstance(error, ImportError) and "relative import" in str(error):
        return (
            "; a model is one file: it imports from etalage and from installed packages, not its neighbours"
        )
    if isinstance(error, ModuleNotFoundError):
        return "; the shop's folder is on no module path: install the package, or put it into the file"
    return ""


class _Loader(importlib.abc.ExecutionLoader):
    """Compiles the bytes that were read: neither the file nor a `__pycache__` beside it is opened again."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def restore(self) -> ModuleType:
        """The module, run where it has not run yet: in a worker that is given what it defines
        (engine/parcel.py), whose sender ran it as trusted."""
        return sys.modules.get(self.source.module) or self.source._run()

    def is_package(self, fullname: str) -> bool:
        return False

    def get_filename(self, fullname: str) -> str:
        return self.source.file

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.source.content)


def listed_in(source: Source) -> Listed | None:
    """What the file says of its model, read without running it; None: it has no RECIPE.

    Raises ConfigError: it is not Python, or its RECIPE cannot be told from its text.
    """
    try:
        tree = ast.parse(source.content, source.file)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(f"{source.file}: {f'line {line}: ' if line else ''}not Python: {error}") from error
    calls = [one.value for one in tree.body if _assigned(one) == "RECIPE"]  # type: ignore[attr-defined]
    if not calls:
        return None
    call = calls[-1]
    if not isinstance(call, ast.Call):
        raise ConfigError(
            f"{source.file}: line {call.lineno}: RECIPE is not written as Recipe(name=…, role=…)"
        )
    given = {one.arg: one.value.value for one in call.keywords if isinstance(one.value, ast.Constant)}
    where = f"{source.file}: line {call.lineno}: RECIPE"
    role = _one_of(tuple(LEARNS), given, "role", where)
    data = _one_of(LEARNS[role], given, "data", f"{where}: role = {role!r}")
    if given.get("name") != source.name:
        raise ConfigError(f"{where}: name = {given.get('name')!r}, and the file is called {source.name}.py")
    transfers = given.get("transfers", False) is True
    embeds = given.get("embeds_items", role == "embedder") is True
    slice = str(given.get("slice", "all"))
    about = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Listed(source.name, role, data, transfers, embeds, own=True, slice=slice, about=about)


def _one_of(known: tuple[Text, ...], given: Mapping[str | None, object], key: str, where: str) -> Text:
    """The keyword `key` of RECIPE. Raises ConfigError: it is another one, or has to be computed."""
    for one in known:
        if given.get(key) == one:
            return one
    told = f"{key} = {given[key]!r}" if key in given else f"{key} is not written out as a text"
    raise ConfigError(f"{where}: {told}; expected {' or '.join(map(repr, known))}")


def _assigned(statement: ast.stmt) -> str | None:
    """The name that a statement of the file assigns a value to."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    return next((one.id for one in targets if isinstance(one, ast.Name)), None)


class Models:
    """The models that a shop can name: Etalage's, and those of the shop's own folder."""

    def __init__(self, shop: Path) -> None:
        self.shop, self.folder = shop, shop / FOLDER

    def files(self) -> dict[str, Path]:
        """The files of the folder that may be models, by name, none of them opened. What begins with `_` or
        `.` is not looked at."""
        if not self.folder.is_dir():
            return {}
        return {one.stem: one for one in sorted(self.folder.glob("*.py")) if one.name[0] not in "_."}

    def sources(self) -> Iterator[tuple[Source, Listed]]:
        """The shop's own models. Raises ConfigError that names a file and what is wrong with it."""
        ours = recipes.listed()
        for name, file in self.files().items():
            source = self._read(name, file)
            found = listed_in(source)
            if found is None:
                continue
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"{file}: {name!r} is no name of a model: small letters, digits and _, a letter first"
                )
            if name in ours or name in TAKEN:
                whose = "a model of Etalage" if name in ours else "a name that Etalage uses otherwise"
                raise ConfigError(f"{file}: {name} is {whose}; give the file and its RECIPE another name")
            yield source, found

    def listed(self) -> dict[str, Listed]:
        """All of them by name, Etalage's first. Raises ConfigError, as `sources` does."""
        return recipes.listed() | {found.name: found for _, found in self.sources()}

    def readable(self) -> tuple[dict[str, Listed], set[str]]:
        """The same, and the names of the shop's files that cannot be read: what is amiss with those is told
        by who needs them, and keeps nobody else from working."""
        found, unread = recipes.listed(), set()
        for name, file in self.files().items():
            try:
                own = listed_in(self._read(name, file))
            except ConfigError:
                unread.add(name)
                continue
            if own is not None:
                found.setdefault(name, own)
        return found, unread

    def feature_sources(self, model: str) -> list[str]:
        """The models whose embeddings of items `model` may take as features, by name; `photo` beside them."""
        able = ("behaviour", "photos")
        there, _ = self.readable()
        return [n for n, one in there.items() if one.data in able and one.embeds_items and n != model]

    def known(self, name: str, where: str) -> None:
        """Raises ConfigError with the names that there are, unless `name` is one."""
        if name in recipes.listed():
            return
        there = self.listed()
        if name in there:
            return
        file = self.files().get(name)
        if file is not None:
            raise ConfigError(
                f"{where}: {file} is no model: it has no line `RECIPE = Recipe(…)` at its left margin"
            )
        raise ConfigError(f"{where}: no model {name!r}; {suggestion(name, there)}")

    def find(self, name: str) -> Recipe[Any]:
        """The recipe called `name`; a file of the shop is run for that.

        Raises ConfigError with the names that there are, NotTrusted: nobody said that this file may be run.
        """
        if name in recipes.listed():
            return recipes.find(name)
        self.known(name, where=str(self.folder))
        source = next(one for one, _ in self.sources() if one.name == name)
        self._require_trusted(source)
        return source.recipe()

    def _require_trusted(self, source: Source) -> None:
        known = trusted(self.folder).get(f"{source.name}.py")
        if known == source.sha256:
            return
        how = "is not trusted yet" if known is None else "changed since it was trusted"
        raise NotTrusted(
            f"{source.file}: this file {how}, and nothing of it was run. It would run with all your rights: "
            f"read it, then `etalage trust --shop {shlex.quote(str(self.shop))}`"
        )

    def _read(self, name: str, file: Path) -> Source:
        """Raises ConfigError: a link out of the folder, no ordinary file, too large, unreadable."""
        try:
            real, home = file.resolve(strict=True), self.shop.resolve(strict=True) / FOLDER
            if real.parent != home:
                raise ConfigError(
                    f"{file}: leads to {real}, out of the folder {home}; put the file itself there"
                )
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as opened:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
                    raise ConfigError(f"{file}: no file of at most {LARGEST >> 20} MiB")
                return Source(name, str(file), opened.read(LARGEST))
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
