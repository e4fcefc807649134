"""Where rows come from, as messages name it: a file and its lines, or a data frame and its rows."""

import re
from dataclasses import dataclass
from pathlib import Path

_FRAME = re.compile(r"frame '.*'", re.DOTALL)


@dataclass(frozen=True)
class FrameName:
    """A data frame as messages name it: `frame 'orders'`."""

    name: str

    def __str__(self) -> str:
        return f"frame '{self.name}'"


Whence = Path | FrameName


def noun(whence: Whence) -> str:
    """`file` or `frame`."""
    return "frame" if isinstance(whence, FrameName) else "file"


def place(whence: Whence | str, line: int | None) -> str:
    """Where in a file or a frame something is: `line 17` of a file, `row 17` of a frame."""
    return f"{'row' if _is_frame(whence) else 'line'} {line}"


def absolute(whence: str) -> str:
    """What a message calls a file, as the table `refused` keeps it: the whole path; a frame has none."""
    return whence if _is_frame(whence) else str(Path(whence).absolute())


def _is_frame(whence: Whence | str) -> bool:
    return isinstance(whence, FrameName) or (isinstance(whence, str) and bool(_FRAME.fullmatch(whence)))
