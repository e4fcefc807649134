"""Every script in benchmarks/ can be tried: by `make bench-small`, and by --help, which writes nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(file.stem for file in HOME.glob("*.py") if "__main__" in file.read_text(encoding="utf-8"))


def typed(
    *words: str, folder: Path | None = None, data: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    if data is not None:
        environment["ETALAGE_DATA"] = str(data)
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def results() -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (HOME / "results").iterdir()}


def test_make_bench_small_runs_every_script(project: Path) -> None:
    words = ["make", "--silent", "--eval", "names: ; @echo $(BENCHMARKS)", "names"]
    named = subprocess.run(words, cwd=project, capture_output=True, text=True, check=True).stdout.split()
    assert named == SCRIPTS
    assert len(named) > 15
    assert "make bench-small\n" in (project / ".ci" / "run").read_text(encoding="utf-8")


HELP = """
import gc, os, runpy, sys
import torch, scipy.sparse
import etalage.shop, etalage.training.run, etalage.bundle.publish
home, folder, *names = sys.argv[1:]
sys.path[0] = home
gc.freeze()  # and no end of an interpreter: both would touch, and so copy, what is shared
for name in names:
    one = os.path.join(folder, name)
    os.mkdir(one)
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        print(name, os.waitstatus_to_exitcode(status), flush=True)
        continue
    os.chdir(one)
    for stream in (1, 2):
        os.dup2(os.open(f"{one}.printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = [f"{home}/{name}.py", "--help"]
    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        status = ended.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Every script's --help, each in a folder and a process of its own; they are forked from one that has
    imported torch once for all. What they printed lies beside their folders; and their statuses."""
    folder = tmp_path_factory.mktemp("helped")
    before = results()
    done = typed("-c", HELP, str(HOME), str(folder), *SCRIPTS)
    assert done.returncode == 0, done.stderr
    assert results() == before
    return folder, dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_writes_nothing_and_offers_a_small_run(name: str, helped: tuple[Path, dict[str, str]]) -> None:
    folder, statuses = helped
    printed = (folder / f"{name}.printed").read_text(encoding="utf-8")
    assert statuses[name] == "0", printed
    assert "--small" in printed
    assert "--out" in printed
    assert not list((folder / name).iterdir())


def test_a_small_run_writes_into_its_own_folder(tmp_path: Path) -> None:
    before = results()
    done = typed(str(HOME / "category_text.py"), "--small", "--out", str(tmp_path / "out"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "category_text.json").read_text(encoding="utf-8"))
    assert facts["rows"]
    assert facts["command"].endswith("--small")
    assert results() == before


def test_a_small_run_does_not_overwrite_the_results(tmp_path: Path) -> None:
    before = results()
    done = typed(str(HOME / "scale.py"), "--small", "--out", str(HOME / "results"), folder=tmp_path)
    assert done.returncode != 0
    assert "name another folder" in done.stderr
    assert results() == before


def test_what_a_script_starts_elsewhere_finds_the_small_data_too(
    tmp_path: Path,
) -> None:
    """`make bench-small` names a folder from here; some scripts type commands in folders of their own."""
    said = "from pathlib import Path; from table import Run; print(Run.of('x', True, Path('out')).out)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOME), str(HOME.parent)])}
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str((tmp_path / "out").resolve()), done.stderr


def test_a_script_without_its_data_says_what_it_wants(tmp_path: Path) -> None:
    done = typed(str(HOME / "category_text.py"), folder=tmp_path, data=tmp_path / "nowhere")
    assert done.returncode != 0
    assert "ETALAGE_DATA" in done.stderr
    assert "google-product-taxonomy" in done.stderr
