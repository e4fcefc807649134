"""F62: a file that came along in a shop's folder is data; no command runs it, nor any process it starts."""

import ast
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from etalage import cli
from etalage.engine.children import SAFE_PATH, python, safe_path, without_script
from etalage.lake.delta import Lake
from etalage.shop import Shop
from tests.lake.photos.hostile import Hostile
from tests.ports import free_port
from tests.serve.servers import until
from tests.shops import act_rows, rows_of, small_shop
from tests.spark_cluster import require_spark
from tests.test_cli import environment

OURS = [
    *("etalage", "numpy", "pyarrow", "PIL", "torch", "mlflow", "typer", "uvicorn", "faiss"),
    *("starlette", "jinja2", "python_multipart", "anyio", "httpx"),
    *("onnxruntime", "aiohttp", "sitecustomize", "usercustomize", "models", "conftest", "setup"),
]
"""Module names besides Python's own that a process of ours may look for."""
TAXONOMY = "# Google_Product_Taxonomy_Version: 2021-09-21\n1 - Clothing\n2 - Clothing > Dresses\n"


def plant(folder: Path, mark: Path) -> None:
    """A file for every module of Python, and of others, that says in `mark` who ran it, and how."""
    code = (
        f"import sys\nwith open({str(mark)!r}, 'a') as mark:\n    print(__name__, sys.orig_argv, file=mark)\n"
    )
    for name in sorted({*sys.stdlib_module_names, *OURS}):
        if not name.startswith("_"):
            (folder / f"{name}.py").write_text(code)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A published shop with acts, links and a taxonomy, whose folder holds a file for every module; beside
    it `ran`, where such a file would say that it was run."""
    folder = tmp_path_factory.mktemp("planted") / "shop"
    folder.mkdir()
    with Hostile() as server:
        small_shop(folder, 12)
        (folder / "taxonomy.txt").write_text(TAXONOMY)
        (folder / "shop.toml").write_text(
            '[taxonomy]\nfile = "taxonomy.txt"\n[photos]\n'
            f'hosts = {{"*.test" = "127.0.0.1:{server.port}"}}\n'
            'allow_networks = ["127.0.0.0/8"]\nspacing = 0\nworkers = 2\n'
        )
        links = [f"i{n},http://shop-{n}.test/photo/{n}.jpg" for n in range(4)]
        (folder / "feed.csv").write_text("\n".join(["item_id,photo_url", *links]))
        acts = [(f"user-{user}", item, "buy") for user in range(8) for item in range(user % 4, 12, 2)]
        Lake(folder / "tables").table("interactions").merge(rows_of("interactions", act_rows(acts)))
        Shop(folder).backup(folder.parent / "backups")
        plant(folder, folder.parent / "ran")
        yield folder


@pytest.fixture
def untouched(shop: Path) -> Iterator[None]:
    """At the test's end no planted file has been run."""
    mark = shop.parent / "ran"
    mark.unlink(missing_ok=True)
    yield
    assert not mark.exists(), mark.read_text()


# What a command is typed with, and how it may end: what is not trained, say, cannot be classified.
COMMANDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "new": ("another", (0,)),
    "ingest": ("feed.csv items", (0,)),
    "status": ("", (0,)),
    "doctor": ("", (0, 1)),
    "tables": ("", (0,)),
    "refused": ("", (0,)),
    "photos probe": ("", (0,)),
    "photos fetch": ("", (0,)),
    "taxonomy show": ("", (0,)),
    "taxonomy check": ("", (0,)),
    "taxonomy map": ("", (0,)),
    "models": ("", (0,)),
    "trust": ("", (0,)),
    "train": ("popularity", (0,)),
    "tune": ("popularity --trials 2", (0, 6)),
    "evaluate": ("popularity", (0,)),
    "compare": ("", (8,)),
    "classify": ("", (8,)),
    "publish": ("--force", (0,)),
    "sync": ("--force", (0,)),
    "bundles": ("", (0,)),
    "register": ("", (0,)),
    "similar": ("item-00001", (0,)),
    "recommend": ("user-1", (0,)),
    "vectors": ("--to table", (0,)),
    "users best": ("", (0, 12)),
    "users for": ("item-00001", (0, 12)),
    "users like": ("user-1", (0, 12)),
    "collect": ("", (0,)),
    "erase": ("user-2", (0,)),
    "delete": ("items item-00011 --yes", (0,)),
    "undo": ("items", (0,)),
    "vacuum": ("--yes", (0,)),
    "backup": ("../backups", (0,)),
    "restore": ("../backups --check", (0,)),
    "reset": ("held", (3,)),
    "rollback": ("", (0,)),
    "demo": ("nowhere --items 5 --no-serve", (3,)),
}
SERVING = ("serve", "page")
"""These go on until they are ended: see below."""


def commands(group: Any, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def typed(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("etalage")), *words]


def test_every_command_is_tried_here() -> None:
    group = typer.main.get_command(cli.app)
    assert set(commands(group)) == {*COMMANDS, *SERVING}


FEW = ("ingest", "photos fetch", "taxonomy map", "train", "recommend")
"""One of each kind: they start processes, read photos and text, import torch and MLflow, open a bundle."""


@pytest.mark.parametrize("name", FEW)
@pytest.mark.usefixtures("untouched")
def test_f62_a_command_runs_nothing_of_the_folder_that_it_is_typed_in(shop: Path, name: str) -> None:
    type_there(shop, name)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("untouched")
def test_f62_no_command_runs_anything_of_the_folder_that_it_is_typed_in(shop: Path) -> None:
    for name in COMMANDS:
        type_there(shop, name)


def type_there(shop: Path, name: str) -> None:
    arguments, statuses = COMMANDS[name]
    command = typed(*name.split(), *arguments.split())
    done = subprocess.run(command, cwd=shop, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode in statuses, done.stderr[-3000:]
    assert not (shop.parent / "ran").exists(), f"{name}: {(shop.parent / 'ran').read_text()}"


@pytest.mark.parametrize("name", SERVING)
@pytest.mark.usefixtures("untouched")
def test_f62_servers_run_nothing_of_the_folder_that_they_are_started_in(shop: Path, name: str) -> None:
    port = free_port()
    started = subprocess.Popen(typed(name, "--port", str(port)), cwd=shop, env=environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip

    def is_up() -> bool:
        assert started.poll() is None, started.stderr and started.stderr.read().decode()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        until(is_up, 240)
    finally:
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=240)


@pytest.mark.usefixtures("untouched")
def test_f62_several_workers_run_nothing_of_the_folder_that_they_are_started_in(shop: Path) -> None:
    script = (
        "from etalage.engine.local import LOCAL, launch\n"
        "if __name__ == '__main__':\n"
        "    print(list(LOCAL.map(abs, [-1, -2, -3], workers=2)))\n"
        "    with launch(repr, 2) as worker:\n"
        "        print(worker.rank)\n"
    )
    (shop.parent / "script.py").write_text(script)
    command = [sys.executable, "-P", str(shop.parent / "script.py")]
    done = subprocess.run(command, cwd=shop, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.stdout.split("\n")[:2] == ["[1, 2, 3]", "0"], done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("untouched")
def test_f62_spark_runs_nothing_of_the_folder_that_it_is_started_in(shop: Path) -> None:
    require_spark()
    script = (
        "from etalage.engine.spark import SparkEngine\n"
        "engine = SparkEngine('local[2]')\n"
        "print(list(engine.map(abs, [-1, -2, -3])))\n"
    )
    (shop.parent / "on_spark.py").write_text(script)
    command = [sys.executable, "-P", str(shop.parent / "on_spark.py")]
    done = subprocess.run(command, cwd=shop, env=environment(), capture_output=True, text=True, timeout=800)
    assert done.stdout == "[1, 2, 3]\n", done.stderr


@pytest.mark.parametrize("guarded", [True, False])
def test_f62_the_planted_files_would_tell(tmp_path: Path, guarded: bool) -> None:
    """A process without the guard runs them: the tests above would notice."""
    plant(tmp_path, tmp_path / "ran")
    command = python("-m", "etalage.lake.photos.decoder_child", "{}")
    if not guarded:
        command.remove("-P")
    given = environment(PYTHONSAFEPATH="")
    subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, env=given)
    assert (tmp_path / "ran").exists() == (not guarded)


def test_f62_the_module_may_be_called_in_a_shops_folder_too(tmp_path: Path) -> None:
    """`python -m etalage.cli` looks there for `etalage`, as Python does, and for nothing else."""
    for name in ("resource", "random", "json", "typer", "numpy", "shlex"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('ran')")
    command = [sys.executable, "-m", "etalage.cli", "new", "there"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "shop.toml").exists()


def test_f62_what_was_set_before_holds_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "", "1"):
        monkeypatch.delenv(SAFE_PATH, raising=False)
        if before is not None:
            monkeypatch.setenv(SAFE_PATH, before)
        with safe_path():
            assert os.environ[SAFE_PATH] == "1"
        assert os.environ.get(SAFE_PATH) == before


def test_f62_no_python_is_started_but_by_the_guarded_command(project: Path) -> None:
    """`sys.executable` stands in one place: where the command is made, with -P."""
    found = {}
    for file in sorted((project / "etalage").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
                found[str(file.relative_to(project / "etalage"))] = ast.unparse(node.elts[1])
        text = file.read_text(encoding="utf-8")
        assert text.count("sys.executable") == (str(file.relative_to(project / "etalage")) in found), file
    assert found == {"engine/children.py": "'-P'"}


def test_two_threads_that_start_processes_at_once_leave_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(SAFE_PATH, raising=False)
    script = sys.modules["__main__"]
    file = getattr(script, "__file__", None)
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with safe_path(), without_script():
            inside.set()
            leave.wait()

    def second() -> None:
        with safe_path(), without_script():
            assert os.environ[SAFE_PATH] == "1"

    threads = [threading.Thread(target=one) for one in (first, second)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join()
    assert SAFE_PATH not in os.environ and getattr(script, "__file__", None) == file
