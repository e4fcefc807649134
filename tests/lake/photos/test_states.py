"""Every state is told where a reader looks for it."""

import re
from pathlib import Path

from etalage.lake.photos.states import MEANING, State


def test_every_state_has_its_line_in_the_docs_and_no_other_has(project: Path) -> None:
    page = (project / "docs" / "links.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| (.+?) \|", page, re.MULTILINE)
    assert dict(table) == {state.value: meaning for state, meaning in MEANING.items()}
    assert [name for name, _ in table] == [state.value for state in State]
