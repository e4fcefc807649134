"""What an import costs, and what it must not bring along."""

import subprocess
import sys

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


def test_the_public_names_are_found() -> None:
    assert "etalage" in loaded(
        "from etalage import EtalageError, Recommender, Shop; import etalage; dir(etalage)"
    )


def test_the_command_line_helps_without_the_heavy_parts() -> None:
    assert not loaded("import etalage.cli") & {"torch", "mlflow", "faiss", "onnxruntime"}
