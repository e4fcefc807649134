"""What every command keeps to, whatever it does: its help, --json, --quiet, --verbose. New ones are found."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from etalage.cli import app
from etalage.cli.app import Acting, Command
from etalage.cli.interrupts import GROUPS, KEPT, interrupted
from etalage.lake.delta import Lake
from etalage.shop import Shop
from tests.shops import act_rows, rows_of, small_shop
from tests.test_advice import wrong
from tests.test_cli import feed, quick, refuses
from tests.test_planted_modules import COMMANDS, SERVING, TAXONOMY, commands

NOT_ANSWERING = {*SERVING, "demo"}
"""They go on until they are ended, or show the whole way while they walk it."""
TOP: Any = get_command(app)
NAMES = list(commands(TOP))


def command(name: str) -> Any:
    found = TOP
    for word in name.split():
        found = found.commands[word]
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A published shop with acts and a taxonomy, that the commands are typed in."""
    folder = tmp_path_factory.mktemp("contract") / "shop"
    folder.mkdir()
    small_shop(folder, 12)
    (folder / "taxonomy.txt").write_text(TAXONOMY)
    (folder / "shop.toml").write_text(
        'name = "Chez Zoë 👜"\n[taxonomy]\nfile = "taxonomy.txt"\n', encoding="utf-8"
    )
    (folder / "feed.csv").write_text("item_id,title\ni1,A hat\ni2,A cap\n")
    acts = [(f"user-{user}", item, "buy") for user in range(8) for item in range(user % 4, 12, 2)]
    Lake(folder / "tables").table("interactions").merge(rows_of("interactions", act_rows(acts)))
    Shop(folder).backup(folder.parent / "backups")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        yield folder


@pytest.mark.parametrize("name", NAMES)
def test_every_help_has_examples_that_can_be_typed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = quick(*name.split(), "--help").out
    examples = [line.strip() for line in shown.split("Examples:\n")[1].split("\n\n")[0].splitlines()]
    assert examples
    for example in examples:
        assert example.startswith(f"etalage {name}"), example
        assert wrong(example.removeprefix("etalage ").replace('"', "")) is None, example
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("group", [(), *((name,) for name in GROUPS)])
def test_no_summary_is_cut(group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = quick(*group, "--help").out.split("Commands:\n")[1]
    assert "..." not in listed


def test_every_command_takes_quiet_and_verbose_and_all_that_answer_take_json() -> None:
    for name in NAMES:
        found = command(name)
        options = {option for one in found.params for option in one.opts}
        assert isinstance(found, Acting) and {"--quiet", "--verbose"} <= options, name
        assert isinstance(found, Command) == ("--json" in options) == (name not in NOT_ANSWERING), name


def test_every_answering_command_is_tried_below() -> None:
    assert {name for name in NAMES if name not in NOT_ANSWERING} == {*COMMANDS} - NOT_ANSWERING


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in NOT_ANSWERING])
def test_with_json_a_command_prints_one_document_or_says_as_json_why_not(shop: Path, name: str) -> None:
    arguments, statuses = COMMANDS[name]
    said = quick(*name.split(), *arguments.split(), "--json")
    assert said.status in statuses, said.err
    if said.status == 0 or said.out:
        assert json.loads(said.out) is not None
    else:
        error = json.loads(said.err.splitlines()[-1])
        assert set(error) == {"class", "message", "exit_code"} and error["exit_code"] == said.status


def test_the_keys_are_the_fields_of_the_answer(shop: Path) -> None:
    found = json.loads(quick("status", "--json").out)
    assert {"name", "tables", "models", "bundle", "next"} <= set(found)
    assert {"name", "rows", "version"} == set(found["tables"][0])
    slate = json.loads(quick("--json", "recommend", "user-1", "-k", "2").out)["slate"]
    assert [one["rank"] for one in slate] == [1, 2]


def test_json_is_json_where_an_output_can_write_ascii_alone(shop: Path) -> None:
    said = quick("status", "--json")
    assert said.out.isascii() and json.loads(said.out)["name"] == "Chez Zoë 👜"
    said = quick("--json", "statüs")
    assert said.err.isascii() and "statüs" in json.loads(said.err)["message"]


def test_a_word_that_makes_no_sense_is_json_too(shop: Path) -> None:
    for words in (["status", "--jsn", "--json"], ["--json", "statsu"], ["refused", "--last", "x", "--json"]):
        said = quick(*words)
        assert (said.status, said.out) == (2, "")
        assert json.loads(said.err)["exit_code"] == 2


def test_quiet_says_the_answer_alone_and_verbose_what_ran_and_how_long(shop: Path) -> None:
    quiet = quick("--quiet", "ingest", "feed.csv")
    assert quiet.err == "" and quiet.out.startswith("read 2")
    assert quick("ingest", "feed.csv", "--quiet").err == ""
    refuses(quick("ingest", "none.csv", "--quiet"), 3, "none.csv: no such file")
    told = quick("tables", "--verbose").err
    assert "pyarrow" in told.splitlines()[0] and "etalage tables: " in told.splitlines()[-1]
    assert quick("tables").err == "", "the next command speaks as usual"


def test_verbose_shows_what_was_behind_an_error(shop: Path, tmp_path: Path) -> None:
    file = feed(tmp_path, "", "photo.png")
    assert "Traceback" not in quick("similar", "--photo", file).err
    assert "Traceback" in quick("similar", "--photo", file, "--verbose").err


def test_what_is_kept_is_said_of_every_command_that_writes() -> None:
    assert set(KEPT) <= set(NAMES)
    said = interrupted(["photos", "fetch", "--shop", "my shop"])
    assert said.startswith("stopped: photos downloaded until now are kept")
    assert said.endswith("`etalage photos fetch --shop 'my shop'`")
    assert "checkpoints" in interrupted(["train", "two_tower"])
    assert "checkpoints" not in interrupted(["train", "ease"])
    assert interrupted(["tune", "ease", "--fresh"]).endswith("`etalage tune ease`")
    said = "stopped: nothing was changed; to ask again: `etalage --quiet status`"
    assert interrupted(["--quiet", "status"]) == said
