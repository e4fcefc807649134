"""The documentation as one site: nothing is left out, and every link holds."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml


def pages(nav: Any) -> Iterator[str]:
    """The files that a nav of mkdocs names, in its order."""
    if isinstance(nav, str):
        yield nav
    else:
        for one in nav if isinstance(nav, list) else nav.values():
            yield from pages(one)


def test_the_nav_names_every_page_of_docs_once_after_the_readme(project: Path) -> None:
    settings = yaml.safe_load((project / "mkdocs.yml").read_text(encoding="utf-8"))
    named = list(pages(settings["nav"]))
    there = {str(file.relative_to(project)) for file in project.glob("docs/**/*.md")}
    assert named[0] == "README.md"
    assert sorted(named[1:]) == sorted(there)


@pytest.mark.slow
def test_the_site_is_built_and_no_link_leads_nowhere(project: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "docs" / "guide" / "index.html").is_file()
