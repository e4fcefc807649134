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


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_writes_nothing_and_offers_a_small_run(name: str, tmp_path: Path) -> None:
    before = results()
    done = typed(str(HOME / f"{name}.py"), "--help", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--small" in done.stdout
    assert "--out" in done.stdout
    assert results() == before
    assert not list(tmp_path.iterdir())


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


def test_a_script_without_its_data_says_what_it_wants(tmp_path: Path) -> None:
    done = typed(str(HOME / "category_text.py"), folder=tmp_path, data=tmp_path / "nowhere")
    assert done.returncode != 0
    assert "ETALAGE_DATA" in done.stderr
    assert "google-product-taxonomy" in done.stderr
