"""What README and docs say to type is typed here, in their order."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.main import get_command

from etalage.cli import app
from tests import acts, stripes

FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_HERE = ("make test", "make slow", "make bench")
SERVERS = ("etalage serve", "etalage page", "mlflow models serve")
pytestmark = pytest.mark.timeout(900)
SMALL_DEMO = "--no-serve --items 1500 --shoppers 100"


@dataclass
class Typist:
    """Types commands in a folder, as a reader would; servers stay up until it leaves."""

    folder: Path
    project: Path
    extra: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.project), **self.extra}

    def type(self, command: str) -> None:
        if command.startswith(SERVERS):
            self.start(command)
            return
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def start(self, command: str) -> None:
        port = re.search(r"--port (\d+)", command)
        assert port is not None, f"{command}: a server of the docs names its port"
        words = shlex.split(command)
        self.running.append(
            subprocess.Popen(words, cwd=self.folder, env=self.environment, start_new_session=True)
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.running[-1].poll() is None, f"{command}: ended with {self.running[-1].returncode}"
            url = f"http://127.0.0.1:{port[1]}/"
            if subprocess.run(["curl", "--silent", "--output", "/dev/null", url]).returncode == 0:
                return
            time.sleep(0.2)
        raise AssertionError(f"{command}: nothing answers on port {port[1]}")

    def run_block(self, kind: str, name: str | None, text: str) -> int:
        """How many commands the block held."""
        if name is not None:
            (self.folder / name).write_text(text, encoding="utf-8")
        elif kind == "python":
            self.type(f"python -c {shlex.quote(text)}")
        elif kind == "sh":
            lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
            for line in lines:
                if line not in NOT_HERE:
                    self.type(line)
            return len(lines)
        return 0

    def leave(self) -> None:
        for process in self.running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def typist(tmp_path: Path, project: Path) -> Iterator[Typist]:
    one = Typist(tmp_path, project, {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/myshop/runs/mlflow.db"})
    yield one
    one.leave()


def blocks(file: Path) -> list[tuple[str, str | None, str]]:
    return [(m[1], m[2], m[3]) for m in FENCE.finditer(file.read_text(encoding="utf-8"))]


def test_the_guide_can_be_typed(typist: Typist, project: Path) -> None:
    stripes.folder(typist.folder / "photos", 400)
    ids = sorted((file.stem, file.parent.name) for file in (typist.folder / "photos").rglob("*.png"))
    acts.write(typist.folder / "acts.csv", [stem for stem, _ in ids], [category for _, category in ids])
    (typist.folder / "photo.png").write_bytes(stripes.png(stripes.pixels(1, seed=99)[0][0]))
    typed = sum(typist.run_block(*block) for block in blocks(project / "docs" / "guide.md"))
    assert typed > 25


def test_the_readmes_commands_can_be_typed(typist: Typist, project: Path, tmp_path: Path) -> None:
    typist.folder = project
    typist.extra = {"ARGS": SMALL_DEMO, "DEMO": str(tmp_path / "demo")}
    assert sum(typist.run_block(*block) for block in blocks(project / "README.md")) >= 2


@pytest.mark.slow
def test_the_examples_commands_can_be_typed(typist: Typist, project: Path, shared_data: Path) -> None:
    typist.extra = {
        "FASHION_MNIST": str(shared_data / "fashion-mnist"),
        "MOVIELENS": str(shared_data / "ml-latest-small"),
        "COMPLETE_JOURNEY": str(shared_data / "complete-journey"),
        "GROCERY": str(shared_data / "grocery-store"),
        "GOOGLE_TAXONOMY": str(shared_data / "google-product-taxonomy"),
        "OMP_NUM_THREADS": "1",
    }
    (typist.folder / "examples").symlink_to(project / "examples")
    blocks_of_all = [block for file in sorted(project.glob("examples/*/README.md")) for block in blocks(file)]
    assert sum(typist.run_block(*block) for block in blocks_of_all) >= 1


def test_no_other_page_holds_a_command(project: Path) -> None:
    read = {project / "docs" / "guide.md"}
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
