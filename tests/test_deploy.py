"""deploy/ and docs/deploy.md: what they type exists, and does what they say."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.main import get_command

from etalage.cli import app
from etalage.config import ServeConfig
from etalage.errors import EtalageError
from tests.serve.servers import ThreadServer
from tests.shops import small_shop

UNIT = "deploy/etalage.service"
PORT = ServeConfig().port


@pytest.fixture(scope="module")
def steps(project: Path) -> list[tuple[str, str]]:
    """(instruction, its words) of the Dockerfile, lines joined."""
    text = (project / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined if line.strip()]


@pytest.fixture(scope="module")
def service(project: Path) -> dict[str, list[str]]:
    """The unit's settings; one that is there twice has two values."""
    found: dict[str, list[str]] = {}
    for line in (project / UNIT).read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    folder = tmp_path_factory.mktemp("deployed")
    small_shop(folder, 12)
    with ThreadServer(folder / "bundles") as running:
        yield running


def parsed(words: list[str]) -> dict[str, object]:
    """The settings of `etalage WORDS`, as the command line takes them; unknown ones raise."""
    command = getattr(get_command(app), "commands", {})[words[0]]
    return dict(command.make_context(words[0], words[1:]).params)


def value_of(steps: list[tuple[str, str]], instruction: str) -> list[str]:
    return [words for name, words in steps if name == instruction]


def test_the_image_serves_the_shop_that_is_mounted(steps: list[tuple[str, str]]) -> None:
    entry, command = (json.loads(value_of(steps, name)[-1]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == ["etalage"]
    settings = parsed(command)
    assert (settings["host"], settings["port"]) == ("0.0.0.0", PORT)
    (volume,) = value_of(steps, "VOLUME")
    variables = dict(word.split("=", 1) for word in shlex.split(value_of(steps, "ENV")[-1]))
    assert variables["ETALAGE_SHOP"] == volume
    assert value_of(steps, "EXPOSE") == [str(PORT)]


def test_the_image_is_of_two_stages_runs_as_nobody_and_has_no_torch(
    steps: list[tuple[str, str]], project: Path
) -> None:
    bases = value_of(steps, "FROM")
    assert [one.split()[0] for one in bases] == ["python:3.11-slim"] * 2
    assert value_of(steps, "USER") == ["10001"]
    names = [name for name, _ in steps]
    assert names.index("USER") > max(n for n, name in enumerate(names) if name == "RUN")
    assert value_of(steps, "ARG") == ["EXTRAS="]
    install = next(words for words in value_of(steps, "RUN") if "pip install" in words)
    assert install.endswith('--constraint requirements/lock.txt ".${EXTRAS}"')


def test_what_is_copied_into_the_image_is_there_and_not_ignored(
    steps: list[tuple[str, str]], project: Path
) -> None:
    rules = (project / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    copied = [words.split()[:-1] for words in value_of(steps, "COPY") if "--from" not in words]
    sources = [source for words in copied for source in words]
    assert rules[0] == "*"
    assert sorted(f"!{source}" for source in sources) == sorted(rule for rule in rules if rule[0] == "!")
    assert all((project / source).exists() for source in sources)


def health_check(steps: list[tuple[str, str]], port: int) -> int:
    (words,) = value_of(steps, "HEALTHCHECK")
    program, *rest = json.loads(words.split("CMD", 1)[1])
    assert program == "python"
    script = [word.replace(str(PORT), str(port)).replace("timeout=4", "timeout=240") for word in rest]
    return subprocess.run([sys.executable, *script], capture_output=True).returncode


def test_the_health_check_is_well_where_a_bundle_is_open(
    steps: list[tuple[str, str]], server: ThreadServer, tmp_path: Path
) -> None:
    assert health_check(steps, server.port) == 0
    (tmp_path / "bundles").mkdir()
    with ThreadServer(tmp_path / "bundles") as empty:
        assert health_check(steps, empty.port) == 1


def test_the_unit_serves_with_options_that_there_are(service: dict[str, list[str]]) -> None:
    program, *words = shlex.split(service["ExecStart"][0])
    assert program == "/opt/etalage/bin/etalage"
    settings = parsed(words)
    assert (settings["host"], settings["port"]) == ("0.0.0.0", PORT)
    shop = dict(word.split("=", 1) for word in service["Environment"][0].split())["ETALAGE_SHOP"]
    assert Path(shop).is_relative_to(f"/var/lib/{service['StateDirectory'][0]}")


def test_the_unit_is_hardened_and_starts_again(service: dict[str, list[str]]) -> None:
    wanted = {
        "ProtectSystem": "strict", "NoNewPrivileges": "yes", "Restart": "on-failure", "User": "etalage",
        "EnvironmentFile": "/etc/etalage/key.env", "CapabilityBoundingSet": "",
    }  # fmt: skip
    assert {name: service[name][0] for name in wanted} == wanted
    assert not {"ReadWritePaths", "ReadWriteDirectories"} & set(service)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze to ask")
def test_systemd_understands_the_unit(project: Path, tmp_path: Path) -> None:
    text = (project / UNIT).read_text(encoding="utf-8")
    unit = tmp_path / "etalage.service"
    unit.write_text(text.replace("/opt/etalage/bin/etalage", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_names_every_metric_and_no_other(project: Path, server: ThreadServer) -> None:
    page = (project / "docs" / "deploy.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(etalage_\w+)`", page, re.MULTILINE))
    text = httpx.get(f"{server.url}/metrics").text
    kinds = dict(re.findall(r"^# TYPE (etalage_\w+) (\w+)$", text, re.MULTILINE))
    assert named == {name for name in kinds if not name.endswith("_created")}


def test_the_pages_exit_codes_are_those_of_errors(project: Path) -> None:
    page = (project / "docs" / "deploy.md").read_text(encoding="utf-8")
    named = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}

    def below(kind: type[EtalageError]) -> Iterator[type[EtalageError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    assert named and named <= {kind.exit_code for kind in below(EtalageError)}


def test_the_commands_of_the_page_name_files_that_there_are(project: Path) -> None:
    page = (project / "docs" / "deploy.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bdeploy/[\w.]+\w", page))
    assert named == {"deploy/Dockerfile", "deploy/etalage.service"}
    assert all((project / path).is_file() for path in named)
