"""A hook of mkdocs: which files the site of mkdocs.yml is made of.

Pages keep the places that they have in the sources (docs/guide.md is docs/guide/), because they link to
README, to results of measurements and to examples, which lie outside docs/. With all of these in the site, a
link that holds in the sources holds there, and `strict` finds the one that does not.
"""

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CHANGELOG.md", "docs/**/*.md", "benchmarks/results/*.md", "examples/**/*.md")
LINKED = ("docs/pictures/*", "benchmarks/*.py", "deploy/*", "examples/**/*")
"""Files that pages show or link to."""


def sources() -> Iterator[Path]:
    """Every file of the site, relative to the project's root, once."""
    found = {file for pattern in (*PAGES, *LINKED) for file in ROOT.glob(pattern) if file.is_file()}
    return (file.relative_to(ROOT) for file in sorted(found) if "__pycache__" not in file.parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """What mkdocs found in docs/ is replaced; what the theme brings is added after this."""
    return Files([File.generated(config, str(file), abs_src_path=str(ROOT / file)) for file in sources()])
