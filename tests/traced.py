"""What a piece of Python asks of the disk, in order, as the system sees it (strace)."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_CALLS = "fsync,fdatasync,rename,renameat,renameat2"
_LINE = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)\)\s+= 0")
_OPENED = re.compile(r"\d+<(?P<path>[^>]*)>")
_NAMED = re.compile(r'"(?P<path>(?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Questions:
    """`sync` of a file or a folder, `rename` of a path to another, or the `mark` of the code itself."""

    what: str
    path: str
    to: str = ""


def traced(code: str, folder: Path, *arguments: str) -> list[Questions]:
    """Run `code` (sys.argv[1] is `folder`), and what it asked for. `mark()` in it is a moment of its own.

    Skips where there is no strace.
    """
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mark").touch()
    log = folder / "strace.log"
    mark = "import os, sys\ndef mark(): os.rename(sys.argv[1] + '/mark', sys.argv[1] + '/mark')\n"
    words = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={_CALLS}", "-o", str(log)]
    done = subprocess.run(
        [*words, sys.executable, "-c", mark + code, str(folder), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [one for line in log.read_text().splitlines() if (one := _read(line, folder)) is not None]


def _read(line: str, folder: Path) -> Questions | None:
    found = _LINE.search(line)
    if found is None:
        return None
    if "sync" in found["call"]:
        opened = _OPENED.search(found["arguments"])
        return None if opened is None else Questions("sync", opened["path"])
    before, after = [one["path"] for one in _NAMED.finditer(found["arguments"])][:2]
    if before == after == f"{folder}/mark":
        return Questions("mark", "")
    return Questions("rename", before, after)
