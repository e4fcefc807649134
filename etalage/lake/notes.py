"""What a step did to somebody's rows without being asked: counted, with the first example of each kind."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """`what` happened to `count` rows (0: it is not about rows); `example`: the first of them, or None."""

    what: str
    count: int = 0
    example: str | None = None

    def __str__(self) -> str:
        counted = f"{self.count:,} × {self.what}" if self.count else self.what
        return f"{counted}, such as {self.example}" if self.example else counted


class Notes:
    """Collects notes; those of one wording are one."""

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}

    def add(self, what: str, count: int = 0, example: str | None = None) -> None:
        """Count `count` more rows of which `what` is true; of the examples the first stays."""
        there = self._notes.get(what, Note(what))
        self._notes[what] = Note(what, there.count + count, there.example or example)

    def all(self) -> list[Note]:
        """In the order in which they came."""
        return list(self._notes.values())
