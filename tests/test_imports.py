"""What an import costs, and what it must not bring along."""

import subprocess
import sys
from pathlib import Path

import pytest


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = {
        "torch",
        "numpy",
        "pyarrow",
        "deltalake",
        "mlflow",
        "faiss",
        "onnxruntime",
        "fastapi",
        "jinja2",
    }
    assert not loaded("import etalage") & heavy


@pytest.mark.parametrize(
    "module", ["etalage.recommend", "etalage.serve.app", "etalage.serve.pyfunc", "etalage.client"]
)
def test_serving_imports_no_torch(module: str) -> None:
    assert not loaded(f"import {module}") & {"torch", "pyspark", "matplotlib", "jinja2"}


def test_a_client_brings_nothing_heavy_along() -> None:
    heavy = {"numpy", "PIL", "pyarrow", "pydantic", "orjson", "fastapi", "onnxruntime"}
    assert not loaded("import etalage.client") & heavy


def test_names_are_completed_before_anything_heavy_is_imported() -> None:
    assert not loaded("import etalage; assert {'Shop', 'model', 'Client'} <= set(dir(etalage))") & {
        "numpy", "pyarrow", "pydantic",
    }  # fmt: skip


def test_a_client_by_its_public_name_brings_nothing_heavy_along() -> None:
    assert not loaded("from etalage import Client") & {"numpy", "pyarrow", "pydantic", "torch"}


def test_the_public_names_are_found() -> None:
    assert "etalage" in loaded(
        "from etalage import EtalageError, Recommender, Shop, model; import etalage; dir(etalage)"
    )


def test_the_command_line_helps_without_the_heavy_parts() -> None:
    assert not loaded("import etalage.cli") & {"torch", "mlflow", "faiss", "onnxruntime"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train two_towr", "no model 'two_towr'; did you mean 'two_tower'?"),
        ("train two_tower --set widht=8", "unknown key 'widht'; did you mean 'width'?"),
        ("train two_tower", "there are no interactions"),
        ("train item_category", "there are no items"),
        ("train image_similarity", "the shop has no photo"),
        ("tune neumf --trials 2", "there are no interactions"),
        ("evaluate two_tower", "etalage train two_tower"),
        ("publish", "no trained model"),
    ],
)
def test_what_is_missing_is_said_before_anything_heavy_is_loaded(
    tmp_path: Path, words: str, said: str
) -> None:
    (tmp_path / "shop.toml").write_text('name = "A shop"\n', encoding="utf-8")
    code = (
        "import atexit, sys; sys.argv = ['etalage', *sys.argv[1:]]\n"
        "atexit.register(lambda: print(*{m.split('.')[0] for m in sys.modules}))\n"
        "from etalage.cli import main; main()"
    )
    typed = [sys.executable, "-c", code, *words.split(), "--shop", str(tmp_path)]
    done = subprocess.run(typed, capture_output=True, text=True)
    assert done.returncode not in (0, 1) and said in done.stderr, done.stderr
    assert not {"torch", "mlflow", "onnxruntime", "faiss", "optuna", "matplotlib"} & set(done.stdout.split())
