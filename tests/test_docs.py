"""What README, the guide and the examples say to type is typed (the guide itself: test_guide.py)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from etalage import Shop
from etalage.cli import app
from tests.typist import Typist, blocks

pytestmark = pytest.mark.timeout(3600)
SMALL_DEMO = "--no-serve --items 1500 --shoppers 100"


@pytest.fixture
def typist(tmp_path: Path, project: Path) -> Iterator[Typist]:
    one = Typist(tmp_path, project, {"OMP_NUM_THREADS": "1"})
    yield one
    one.leave()


@pytest.mark.slow
def test_the_readmes_commands_can_be_typed(typist: Typist, project: Path, tmp_path: Path) -> None:
    typist.folder = project
    typist.extra |= {"ARGS": SMALL_DEMO, "DEMO": str(tmp_path / "demo")}
    assert sum(typist.run_block(*block) for block in blocks(project / "README.md")) >= 2


@pytest.mark.slow
def test_the_examples_commands_can_be_typed(typist: Typist, project: Path, shared_data: Path) -> None:
    typist.extra |= {
        "FASHION_MNIST": str(shared_data / "fashion-mnist"),
        "MOVIELENS": str(shared_data / "ml-latest-small"),
        "COMPLETE_JOURNEY": str(shared_data / "complete-journey"),
        "GROCERY": str(shared_data / "grocery-store"),
        "GOOGLE_TAXONOMY": str(shared_data / "google-product-taxonomy"),
    }
    (typist.folder / "examples").symlink_to(project / "examples")
    blocks_of_all = [block for file in sorted(project.glob("examples/*/README.md")) for block in blocks(file)]
    assert sum(typist.run_block(*block) for block in blocks_of_all) >= 1


@pytest.mark.slow
def test_a_model_of_ones_own_can_be_typed(typist: Typist, project: Path, tmp_path: Path) -> None:
    """The files of the page are those that test_shop_own_models.py and test_shop_own_classifier.py train."""
    typist.extra["XDG_STATE_HOME"] = str(tmp_path / "state")
    assert sum(typist.run_block(*block) for block in blocks(project / "docs" / "own_model.md")) >= 15
    for shop, models in (("cups", {"also_bought", "fossil"}), ("crockery", {"title_words"})):
        published = Shop(tmp_path / shop).recommender().manifest.models
        assert models <= {one.name for one in published}, shop


def test_no_other_page_holds_a_command(project: Path) -> None:
    read = {project / "docs" / name for name in ("guide.md", "own_model.md", "python.md")}
    for file in set(project.glob("docs/**/*.md")) - read:
        assert not [kind for kind, _, _ in blocks(file) if kind in ("sh", "python")], file


def test_every_command_is_in_the_guide(project: Path) -> None:
    guide = (project / "docs" / "guide.md").read_text(encoding="utf-8")
    commands = getattr(get_command(app), "commands", {})
    assert len(commands) > 10
    for name in commands:
        assert f"etalage {name} " in guide, f"docs/guide.md does not mention `etalage {name}`"


def test_every_link_between_pages_leads_somewhere(project: Path) -> None:
    for file in [project / "README.md", *project.glob("docs/**/*.md"), *project.glob("examples/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (file.parent / target).exists(), f"{file}: {target}"
