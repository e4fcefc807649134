"""The guide works from nothing: every command of it is typed as it stands, from top to bottom."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.typist import Typist, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture
def typist(tmp_path: Path, project: Path) -> Iterator[Typist]:
    # One thread: several that wait for each other take many times as long where others work beside them.
    one = Typist(tmp_path, project, {"OMP_NUM_THREADS": "1"})
    yield one
    one.leave()


def test_the_guide_can_be_typed_from_nothing(typist: Typist, project: Path) -> None:
    assert not list(typist.folder.iterdir())
    typed = sum(typist.run_block(*block) for block in blocks(project / "docs" / "guide.md"))
    assert typed > 25
