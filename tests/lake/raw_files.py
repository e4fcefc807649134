"""What a reader makes of a file's content, before anything is checked."""

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from etalage.lake.readers import open_table
from etalage.lake.text_files import AS_FOUND, FileStyle

ANY_FIXTURE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Rows = list[tuple[int, dict[str, Any]]]


def read_as(
    format: str, folder: Path, content: str | bytes, style: FileStyle = AS_FOUND
) -> tuple[Rows, list[tuple[int, str]], list[str]]:
    """([(line, row)], [(line, reason)], notes) of `content` as a file of the format."""
    file = folder / f"a.{format}"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    chunks = list(open_table(file, format, 1000, style).chunks())
    taken = [(line, chunk.row(n)) for chunk in chunks for n, line in enumerate(chunk.lines)]
    refused = [(r.line or 0, r.reason) for chunk in chunks for r in chunk.refused]
    return taken, refused, [str(note) for chunk in chunks for note in chunk.notes]
