"""Shops as they were reported to go wrong: the commands of a case, typed for a fresh shop."""

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.warm import COMMANDS


@dataclass(frozen=True)
class Typed:
    """One command as it was typed, what it printed on both streams, and its exit status."""

    command: str
    text: str
    status: int

    @property
    def items(self) -> list[str]:
        """The item ids of a printed slate, best first."""
        return re.findall(r"^\d+ +(\S+) ", self.text, re.MULTILINE)


@dataclass(frozen=True)
class Played:
    """A case that was played: its commands in order, and the shop that they left."""

    commands: list[Typed]
    shop: Path

    def last(self, command: str) -> Typed:
        """The last command that begins with `command`."""
        return [one for one in self.commands if one.command.startswith(command)][-1]


Play = Callable[..., Played]


@pytest.fixture(scope="session")
def cases(shared_data: Path) -> Path:
    """The folder of the cases, read in place."""
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}")
    return folder


@pytest.fixture
def play(cases: Path, tmp_path: Path) -> Play:
    """play(case): types the case's commands in its folder, or `commands` in their place, for a fresh shop."""

    def played(case: str, commands: list[str] | None = None, toml: str | None = None) -> Played:
        folder, shop = cases / case, tmp_path / "shop"
        shop.mkdir(exist_ok=True)
        if toml is not None:
            (shop / "shop.toml").write_text(toml, encoding="utf-8")
        elif not (shop / "shop.toml").exists():
            shutil.copyfile(folder / "shop.toml", shop / "shop.toml")
        lines = commands or [ln for ln in (folder / "commands").read_text("utf-8").splitlines() if ln.strip()]
        return Played([typed(line, folder, shop) for line in lines], shop)

    return played


def typed(line: str, folder: Path, shop: Path) -> Typed:
    """`etalage LINE --shop SHOP`, typed in `folder`."""
    done = COMMANDS.run([*shlex.split(line), "--shop", str(shop)], folder)
    return Typed(line, done.out + done.err, done.status)
