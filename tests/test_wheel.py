"""The wheel: all that Etalage needs is in it, and what it says that it needs is enough.

An environment here is empty but for the wheel and the packages that its metadata asks for, each of which is a
link to the one that the tests run with: nothing is downloaded, and nothing is there that was not asked for.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_docs import SMALL_DEMO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def needed(wheel: Path, *extras: str) -> set[str]:
    """Names of the distributions that the wheel asks for with these extras, and what those ask for."""
    with zipfile.ZipFile(wheel) as files:
        metadata = next(name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        head = files.read(metadata).decode().partition("\n\n")[0]
    wanted = [line.partition(": ")[2] for line in head.splitlines() if line.startswith("Requires-Dist: ")]
    waiting = [(Requirement(line), set(extras)) for line in wanted]
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, asked = waiting.pop()
        marker = requirement.marker
        if marker is not None and not any(
            marker.evaluate({"extra": extra}) for extra in (asked or {""}) | {""}
        ):
            continue
        key = (canonicalize_name(requirement.name), ",".join(sorted(requirement.extras)))
        if key not in seen:
            seen.add(key)
            found.add(key[0])
            below = distribution(requirement.name).requires or []
            waiting += [(Requirement(line), set(requirement.extras)) for line in below]
    return found


def link(name: str, place: Path) -> None:
    """The distribution's packages and metadata, as links in `place`; its commands are left out."""
    one = distribution(name)
    for top in sorted({file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}):
        source, target = Path(str(one.locate_file(top))), place / top
        if not target.exists() and source.exists():
            target.symlink_to(source)


def environment(folder: Path, wheel: Path, *extras: str) -> Path:
    """The commands' folder of a new environment that holds the wheel with these extras."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    said = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in sorted(needed(wheel, *extras)):
        link(name, Path(said.stdout.strip()))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return folder / "bin"


def run(binaries: Path, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As somebody would who has no checkout: in `folder`, with nothing of ours in the environment."""
    ours = ("PYTHONPATH", "ETALAGE_SHOP", "ETALAGE_KEY", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    program, *words = command.split()
    extra = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [binaries / program, *words], cwd=folder, env=kept | extra, capture_output=True, text=True
    )


def done(binaries: Path, command: str, folder: Path) -> str:
    """What the command printed; it must end well."""
    ended = run(binaries, command, folder)
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what lies in the checkout's build/ from an earlier time must not come along."""
    source, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(project / "etalage", source / "etalage", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project / name, source)
    # Without isolation setuptools is the one that is there; with it, pip would download one.
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(target), str(source)], check=True, capture_output=True)
    (built,) = target.glob("etalage-*.whl")
    return built


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of `pip install etalage`, without any extra."""
    return environment(tmp_path_factory.mktemp("core") / "env", wheel)


@pytest.fixture(scope="module")
def demo(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo shop, made by `pip install etalage[train]`."""
    folder = tmp_path_factory.mktemp("train")
    binaries = environment(folder / "env", wheel, "train")
    said = done(binaries, f"etalage demo shop {SMALL_DEMO}", folder)
    assert "done in" in said
    return folder / "shop"


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path, project: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        held = {name for name in files.namelist() if name.startswith("etalage/")}
    there = {file for file in (project / "etalage").rglob("*") if file.is_file()}
    wanted = {str(file.relative_to(project)) for file in there if "__pycache__" not in file.parts}
    assert held == wanted


def test_the_core_helps_and_makes_a_shop(core: Path, tmp_path: Path) -> None:
    assert "recommend" in done(core, "etalage --help", tmp_path)
    items = "\n".join(["sku,name,price", *(f"A{n},Lamp {n},{n}.50" for n in range(30))])
    (tmp_path / "items.csv").write_text(items + "\n")
    done(core, "etalage new lamps --from items.csv", tmp_path)
    said = done(core, "etalage ingest items.csv items --shop lamps", tmp_path)
    assert "30" in said


def test_the_core_alone_has_nothing_of_the_extras(core: Path, tmp_path: Path) -> None:
    """Every module that serving needs imports, from the environment and not from the sources."""
    code = (
        "import importlib.util as u, etalage, etalage.recommend, etalage.serve.app, etalage.client; "
        "print([n for n in ('torch', 'mlflow', 'jinja2', 'aiohttp', 'pandas') if u.find_spec(n)]); "
        "print(etalage.__file__)"
    )
    ended = subprocess.run(
        [core / "python", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    missing, file = ended.stdout.splitlines()
    assert missing == "[]"
    assert file.startswith(str(core.parent))


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("etalage train item_knn --shop lamps", "train"),
        ("etalage train two_tower --shop lamps", "train"),
        ("etalage photos probe --shop lamps", "photos"),
        ("etalage page", "page"),
    ],
)
def test_what_an_extra_brings_is_named_where_it_is_missing(
    core: Path, tmp_path: Path, command: str, extra: str
) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,title,photo_url\na,A,http://a.test/a.jpg\nb,B,http://a.test/b.jpg\n"
    )
    (tmp_path / "acts.csv").write_text(
        "user_id,item_id,time\n" + "".join(f"u{n},a,2024-01-0{n}\n" for n in range(1, 9))
    )
    done(core, "etalage new lamps", tmp_path)
    done(core, "etalage ingest items.csv items --shop lamps", tmp_path)
    done(core, "etalage ingest acts.csv interactions --shop lamps", tmp_path)
    ended = run(core, command, tmp_path)
    assert ended.returncode != 0
    said = " ".join(ended.stderr.split())
    assert f"it comes with the extra {extra}" in said, said
    assert "Traceback" not in said


def test_the_demo_is_made_from_the_wheel(demo: Path) -> None:
    assert (demo / "shop.toml").is_file()
    assert any((demo / "bundles").iterdir())
