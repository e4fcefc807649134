"""Fixtures that every room shares. Heavy parts are imported inside the fixtures that need them."""

import gc
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import hypothesis
import pytest

from tests import run_stores, run_traces, warm

if TYPE_CHECKING:
    from etalage.shop import Shop
    from tests.object_store import ObjectServer

# Before anything imports torch, faiss or onnxruntime: see docs/decisions/threads.md.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# gRPC (Milvus' client) would look after its threads in every child that is forked, and end it by SIGABRT
# where a descriptor of the parent's is gone; our children only start another program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

# No test may fail because the machine is busy: Hypothesis would want an example done in 0.2 s, and httpx an
# answer in 5.
hypothesis.settings.register_profile("etalage", deadline=None)
hypothesis.settings.load_profile("etalage")
for _step in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _step, 240.0)
# Every client of httpx would read all certificates of the world anew, 0.03 s of processor time a question.
httpx._transports.default.create_ssl_context = cache(httpx._transports.default.create_ssl_context)

PROJECT = Path(__file__).resolve().parents[1]


LONGEST = (
    "test_docs.py", "test_guide.py", "test_in_chromium.py", "test_online.py", "test_shop_categories.py",
    "test_fetch.py", "test_category_export.py", "test_category_served.py", "test_workers.py",
    "test_shop_behaviour.py", "test_shop_sources.py", "test_shop_judging.py", "test_openapi.py",
    "test_workers_contract.py", "test_planted_modules.py", "test_shopper.py", "test_erase.py",
)  # fmt: skip
"""Files, by how long they take."""


gc.disable()


def pytest_collection_finish() -> None:
    """What was collected stays to the end: nobody need look for garbage there, now or later."""
    gc.enable()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, so that no worker is left with it alone at the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


MISSING = ("could not import", "on this machine", "is not installed")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where all was installed, a test that is skipped for want of something is a fault."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("ETALAGE_ALL_INSTALLED") != "1" or terminal is None or exitstatus != 0:
        return
    reasons = [str(report.longrepr[2]) for report in terminal.stats.get("skipped", [])]
    missing = sorted({reason for reason in reasons if any(part in reason for part in MISSING)})
    if missing:
        terminal.write_line(f"skipped, although make installed all: {'; '.join(missing)}", red=True)
        session.exitstatus = 1


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all processes of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="module", autouse=True)
def _shared(request: pytest.FixtureRequest, run_folder: Path) -> None:
    """Before a file's own fixtures make anything."""
    warm.COMMANDS.run_folder = run_folder
    warm.share(run_folder)
    if request.node.get_closest_marker("traces"):
        run_traces.trace_every_network()


@pytest.fixture(autouse=True)
def _empty_store(run_folder: Path) -> None:
    """Again: MLflow may have been imported meanwhile."""
    run_stores.share_empty_store(run_folder / "empty-mlflow.db")


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
def upkept(tmp_path_factory: pytest.TempPathFactory) -> "Shop":
    """A small shop that was trained and published, for tests that copy it."""
    from tests.upkeep import trained_shop

    return trained_shop(tmp_path_factory.mktemp("upkept") / "shop")


@pytest.fixture(scope="session")
def torchmetrics() -> None:
    """`import torchmetrics` wants torchvision: this works beside a torch that it was not built for."""
    from etalage.models.backbones import timm_there

    timm_there()


@pytest.fixture(scope="session")
def shared_object_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ObjectServer]":
    """One S3 server for all tests of this process."""
    pytest.importorskip("moto")
    from tests.object_store import ObjectServer

    server = ObjectServer(tmp_path_factory.mktemp("object-store"))
    yield server
    server.stop()


@pytest.fixture
def object_server(shared_object_server: "ObjectServer", monkeypatch: pytest.MonkeyPatch) -> "ObjectServer":
    """The S3 server, and its credentials in the environment."""
    from tests.object_store import KEYS

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return shared_object_server
