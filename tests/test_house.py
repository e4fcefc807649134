"""The house's rules are enforced: a planted import breaks each contract, and no model is outside."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from etalage.models import recipe as recipes


def test_every_model_is_under_the_contract_that_keeps_models_apart(project: Path) -> None:
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {one["id"]: one for one in settings["tool"]["importlinter"]["contracts"]}
    listed = contracts["models-apart"]["modules"]
    assert listed == [f"etalage.models.{name}" for name in recipes.names()]


@pytest.mark.parametrize(
    ("file", "planted", "broken"),
    [
        ("index/exact.py", "import etalage.bundle.publish", "The house"),
        ("serve/routes.py", "import etalage.training.loop", "Serving never reaches torch"),
        ("recommend.py", "import torch", "Serving never reaches torch"),
        ("page/place.py", "import etalage.lake.schema", "The page knows the client alone"),
        ("lake/delta.py", "import pyspark", "Only engine.spark imports pyspark"),
    ],
)
def test_a_forbidden_import_is_found(
    project: Path, tmp_path: Path, file: str, planted: str, broken: str
) -> None:
    shutil.copytree(project / "etalage", tmp_path / "etalage", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project / "pyproject.toml", tmp_path)
    target = tmp_path / "etalage" / file
    target.write_text(f"{planted}\n{target.read_text(encoding='utf-8')}", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    assert any(line.startswith(broken) for line in lines), done.stdout
