"""Fixtures that every room shares. Heavy parts are imported inside the fixtures that need them."""

import os
from pathlib import Path

import hypothesis
import pytest

# Before anything imports torch, faiss or onnxruntime: see docs/decisions/threads.md.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# No test may fail because the machine is busy.
hypothesis.settings.register_profile("etalage", deadline=None)
hypothesis.settings.load_profile("etalage")

PROJECT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, so that no worker is left with it alone at the end."""
    items.sort(key=lambda item: item.path.name not in ("test_guide.py", "test_docs.py"))


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, read in place; tests of real data need it."""
    folder = Path(os.environ.get("ETALAGE_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set ETALAGE_DATA")
    return folder


@pytest.fixture(scope="session")
def torchmetrics() -> None:
    """`import torchmetrics` wants torchvision: this works beside a torch that it was not built for."""
    from etalage.models.backbones import timm_there

    timm_there()
