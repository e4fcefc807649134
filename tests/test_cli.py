"""The command line as a user meets it: what it prints where, and with which status it ends."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from etalage import cli, console
from etalage.bundle.pointer import Bundles
from etalage.demo.command import CONFIG, show
from etalage.lake.delta import Lake
from etalage.shop import Shop
from tests.ports import held_port
from tests.shops import drawn_photo, fill, small_shop
from tests.warm import COMMANDS

PROJECT = Path(__file__).resolve().parents[1]
ITEMS = 40
TOML = """\
name = "Shoes"

[ingest.items.columns]
item_id = "sku"
title = "name"
"""
FEED = "sku,name,price\nboot,A boot,12.5\n,A sock,3\nhat\ncap,A cap,4\n"


@dataclass
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.out.splitlines()]


def environment(**changed: str) -> dict[str, str]:
    shaping = ("COLUMNS", "FORCE_COLOR", "LC_ALL", "PYTHONIOENCODING", "ETALAGE_SHOP", "ETALAGE_KEY")
    kept = {name: value for name, value in os.environ.items() if name not in shaping}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), **changed}


def typed(*words: str | Path) -> Said:
    """The command as it is typed, in a process of its own that has imported what it needs."""
    done = COMMANDS.run([*map(str, words)], Path.cwd())
    return Said(done.status, done.out, done.err)


def started(*words: str | Path, program: Sequence[str] = ("-m", "etalage.cli"), **changed: str) -> Said:
    """The same from its start: for what it imports, and what the interpreter makes of its surroundings."""
    command = [sys.executable, *program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment(**changed))
    return Said(done.returncode, done.stdout, done.stderr)


def quick(*words: str | Path) -> Said:
    """The same command in this process; an exception that `main` does not expect fails the test."""
    done = CliRunner().invoke(cli.app, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


def refuses(said: Said, status: int, *parts: str) -> None:
    """It ended with `status` and one message that holds `parts`, and shows nothing of our insides."""
    assert said.status == status, said.err
    assert "Traceback" not in said.err
    message = said.err.splitlines()[-1]
    for part in parts:
        assert part in message, message


@pytest.fixture(autouse=True)
def _as_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    # `pytest -s` in a terminal would make the tables as wide as that.
    monkeypatch.setattr(console.out, "_width", 1000)
    monkeypatch.delenv("ETALAGE_SHOP", raising=False)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    small_shop(folder, ITEMS)
    (folder / "shop.toml").write_text(TOML, encoding="utf-8")
    return folder


@pytest.fixture
def shop(published: Path, tmp_path: Path) -> Path:
    """A copy of the published shop, to be changed."""
    return Path(shutil.copytree(published, tmp_path / "shop"))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "shop.toml").write_text(TOML, encoding="utf-8")
    return folder


def feed(folder: Path, text: str = FEED, name: str = "feed.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def rows(shop: Path, table: str = "items") -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in Lake(shop / "tables").table(table).read().to_pylist()}


# -- errors ------------------------------------------------------------------------------------


def test_an_unknown_key_in_shop_toml_is_status_2_with_the_suggestion(empty: Path, tmp_path: Path) -> None:
    (empty / "shop.toml").write_text('nmae = "Shoes"\n')
    said = typed("ingest", feed(tmp_path), "--shop", empty)
    refuses(said, 2, "ConfigError", "shop.toml", "'nmae'", "did you mean 'name'?")
    assert said.out == ""


def test_a_missing_file_is_status_3(empty: Path, tmp_path: Path) -> None:
    missing = tmp_path / "a folder with quite a long name" / "and a file with another long name.csv"
    said = typed("ingest", missing, "--shop", empty)
    # The whole message on one line, however long: it is searched for and pasted.
    refuses(said, 3, f"InputUnreadable: {missing}: no such file")


def test_f51_too_many_refused_rows_are_status_4_and_the_good_ones_are_stored(
    empty: Path, tmp_path: Path
) -> None:
    said = typed("ingest", feed(tmp_path), "items", "--shop", empty)
    refuses(said, 4, "TooManyRefused", "2 rows refused", f"`etalage refused --shop {empty}`")
    assert said.lines[:-1] == [
        "read 4: inserted 2, updated 0, unchanged 0, refused 2",
        "  1 × line 4: has 1 fields, the header has 3",
        "  1 × line 3: item_id: is missing",
    ]
    assert set(rows(empty)) == {"boot", "cap"}
    assert rows(empty)["boot"]["title"] == "A boot"


def test_f7_a_torn_commit_is_status_5_and_named(shop: Path) -> None:
    commit = max((shop / "tables" / "items" / "_delta_log").glob("*.json"))
    commit.write_bytes(commit.read_bytes()[: commit.stat().st_size // 2])
    refuses(typed("tables", "--shop", shop), 5, "TableDamaged", "items", commit.name)


def test_f8_a_torn_data_file_is_status_5_and_named(empty: Path, tmp_path: Path) -> None:
    quick("ingest", feed(tmp_path), "--shop", empty)
    (data,) = (empty / "tables" / "refused").glob("*.parquet")
    data.write_bytes(data.read_bytes()[:100])
    refuses(typed("refused", "--shop", empty), 5, "TableDamaged", data.name)


def test_a_damaged_export_is_status_7(shop: Path) -> None:
    model = next((shop / "exports").rglob("model.onnx"))
    model.write_bytes(b"\0" * 64)
    refuses(quick("publish", "--shop", shop), 7, "ExportDamaged", model.parent.name)


def test_publishing_before_training_is_status_8(empty: Path) -> None:
    fill(Lake(empty / "tables"), range(3))
    refuses(typed("publish", "--shop", empty), 8, "NothingToPublish", "`etalage train image_similarity`")


def test_a_model_that_the_gate_refuses_is_status_9_and_can_be_forced(shop: Path) -> None:
    advice = "`etalage evaluate image_similarity`"
    refuses(quick("publish", "--shop", shop), 9, "GateRefused", advice, "--force")
    assert len(Bundles(shop / "bundles").ids()) == 1
    forced = quick("publish", "--shop", shop, "--force")
    current = Bundles(shop / "bundles").current_id()
    assert forced.status == 0
    assert forced.lines[0] == f"published {current}: {ITEMS} items"
    assert re.fullmatch(
        rf"the photo embedder: image_similarity [0-9a-f]{{8}}, {ITEMS} items in the exact index",
        forced.lines[1],
    )
    assert "forced past: gate" in forced.lines


def test_asking_before_publishing_is_status_10(empty: Path) -> None:
    refuses(typed("similar", "boot", "--shop", empty), 10, "NoBundle", "`etalage publish`")


def test_f35_serving_on_a_public_address_without_a_key_is_status_11(shop: Path) -> None:
    said = typed("serve", "--host", "0.0.0.0", "--port", "0", "--shop", shop)
    refuses(said, 11, "ServeError", "0.0.0.0", "--key-file")
    assert said.out == ""


def test_a_photo_that_is_none_is_status_12_and_a_missing_one_3(shop: Path, tmp_path: Path) -> None:
    said = typed("similar", "--photo", feed(tmp_path, name="photo.png"), "--shop", shop)
    refuses(said, 12, f"PhotoRefused: {tmp_path / 'photo.png'}: not an image")
    refuses(quick("similar", "--photo", tmp_path / "none.png", "--shop", shop), 3, "none.png: No such file")
    refuses(quick("similar", "--shop", shop), 12, "give an item_id or --photo FILE")
    refuses(quick("similar", "item-00001", "-k", "0", "--shop", shop), 12, "k = 0")


def test_a_shop_that_is_not_there_is_status_2_and_is_not_made(tmp_path: Path) -> None:
    for command in (["tables"], ["ingest", str(feed(tmp_path))], ["refused"], ["similar", "x"]):
        said = quick(*command, "--shop", tmp_path / "my shop")
        refuses(said, 2, "no such folder", f"`etalage new '{tmp_path}/my shop'`")
    assert not (tmp_path / "my shop").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["ingest", "feed.csv", "--format", "xlsx"],
        ["ingest", "feed.csv", "clothes"],
        ["ingest", "feed.csv", "--max-refused", "-1"],
        ["ingest", "feed.csv", "--attribute", "split"],
        ["train", "--set", "epochs"],
        ["refused", "--last", "0"],
        ["bundle"],
    ],
)
def test_words_that_make_no_sense_are_status_2(shop: Path, tmp_path: Path, words: list[str]) -> None:
    feed(tmp_path)
    said = quick(*words, "--shop", shop)
    assert said.status == 2, said
    assert said.out == ""
    assert any(word in said.err for word in words), said.err


def test_a_part_that_is_not_installed_is_named_and_loading_needs_none(empty: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules.update(torch=None, mlflow=None); from etalage.cli import main; main()"
    loaded = ("ingest", feed(tmp_path), "--attribute", "split=train", "--max-refused", "2")
    said = started(*loaded, "--shop", empty, program=("-c", code))
    assert said.status == 0, said.err
    assert rows(empty)["boot"]["attributes"] == '{"split": "train"}'
    said = started("train", "--shop", empty, program=("-c", code))
    refuses(said, 1, "torch is not installed: it comes with the extra train: `pip install '.[train]'`")


# -- loading -----------------------------------------------------------------------------------


def test_f51_the_refused_rows_are_listed_with_file_line_and_reason(empty: Path, tmp_path: Path) -> None:
    assert quick("refused", "--shop", empty).lines == ["nothing was refused"]
    folder = tmp_path / ("a long name " * 9).strip()
    folder.mkdir()
    file = feed(folder)
    assert quick("ingest", file, "--shop", empty, "--max-refused", "1").status == 4
    assert quick("ingest", file, "--shop", empty, "--max-refused", "2").status == 0
    said = typed("refused", "--shop", empty)
    assert said.status == 0
    assert [line.split()[0] for line in said.lines] == ["table", "items", "items"]
    assert said.lines[1].endswith("item_id: is missing")
    assert said.lines[2].endswith("has 1 fields, the header has 3")
    for line, number in zip(said.lines[1:], (3, 4), strict=True):
        assert f" {file}  {number} " in line, "neither cut nor broken to a screen's width"
    assert len(quick("refused", "--shop", empty, "--last", "1").lines) == 2


def test_the_counts_add_up_to_what_was_read(empty: Path, tmp_path: Path) -> None:
    twice = feed(
        tmp_path, "sku,name,photo_path\nhat,A hat,\nhat,A red hat,\ncap,A cap,none.png\n", "twice.csv"
    )
    said = quick("ingest", twice, "--shop", empty, "--max-refused", "1")
    assert said.status == 0
    assert said.lines[0] == (
        "read 3: inserted 2, updated 0, unchanged 0, repeated 1, refused 1 (photos of loaded items: 1)"
    )
    assert rows(empty)["hat"]["title"] == "A red hat"


def nothing_to_learn_from(shop: Path) -> str:
    """What comes next where items without photos are all there is."""
    why = "there are items, and neither interactions nor photos that a model could learn from"
    return f"next: etalage ingest FILE interactions --shop {shop}  ({why})"


def test_loading_the_same_again_changes_nothing_and_says_so(empty: Path, tmp_path: Path) -> None:
    good = feed(tmp_path, "sku,name\nhat,A hat\ncap,A cap\n")
    assert quick("ingest", good, "--shop", empty).lines == [
        "read 2: inserted 2, updated 0, unchanged 0, refused 0",
        nothing_to_learn_from(empty),
    ]
    feed(tmp_path, "sku,name\nhat,A hat\ncap,A cap with ears\n")
    assert quick("ingest", good, "--shop", empty).lines == [
        "read 2: inserted 0, updated 1, unchanged 1, refused 0",
        nothing_to_learn_from(empty),
    ]
    table = quick("tables", "--shop", empty).lines
    assert [line.split() for line in table] == [["table", "rows", "version"], ["items", "2", "2"]]


def test_progress_goes_to_stderr_and_the_answer_to_stdout(empty: Path, tmp_path: Path) -> None:
    said = typed("ingest", feed(tmp_path, "sku,name\nhat,A hat\n"), "--shop", empty)
    assert said.status == 0
    assert said.lines == [
        "read 1: inserted 1, updated 0, unchanged 0, refused 0",
        nothing_to_learn_from(empty),
    ]
    assert "ingest feed.csv" in said.err and "1/1" in said.err


def test_jsonl_and_parquet_are_mapped_by_shop_toml(empty: Path, tmp_path: Path) -> None:
    lines = [{"sku": "hat", "name": "A hat", "price": 3}, {"sku": "cap", "name": 5, "price": None}]
    feed(tmp_path, "".join(json.dumps(line) + "\n" for line in lines) + "[]\n", "feed.jsonl")
    said = quick("ingest", tmp_path / "feed.jsonl", "--shop", empty, "--max-refused", "1")
    assert (said.status, said.lines[0]) == (0, "read 3: inserted 2, updated 0, unchanged 0, refused 1")
    pq.write_table(pa.table({"sku": ["boot", "hat"], "name": ["A boot", "A high hat"]}), tmp_path / "feed.pq")
    said = quick("ingest", tmp_path / "feed.pq", "--shop", empty)
    assert (said.status, said.lines) == (
        0,
        [
            "read 2: inserted 1, updated 1, unchanged 0, refused 0",
            "  1 item of the catalogue is not in this file (cap); if the file is all there is: --whole",
            nothing_to_learn_from(empty),
        ],
    )
    found = {key: (row["title"], row["price"]) for key, row in rows(empty).items()}
    assert found == {"hat": ("A high hat", 3.0), "cap": ("5", None), "boot": ("A boot", None)}


def test_an_idx_pair_is_loaded_with_its_classes_named(empty: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    images.write_bytes(struct.pack(">4I", 0x803, 3, 28, 28) + pixels.tobytes())
    labels.write_bytes(struct.pack(">2I", 0x801, 3) + bytes([0, 1, 0]))
    words = ("ingest", images, "--class-names", "Boots,Hats", "--attribute", "split=test", "--shop", empty)
    said = quick(*words)
    assert (said.status, said.lines[0]) == (0, "read 3: inserted 3, updated 0, unchanged 0, refused 0")
    assert said.lines[1].startswith(f"next: etalage train image_similarity --shop {empty}")
    assert [row["category_id"] for _, row in sorted(rows(empty).items())] == ["Boots", "Hats", "Boots"]
    assert {row["attributes"] for row in rows(empty).values()} == {'{"split": "test"}'}
    assert len(rows(empty, "photos")) == 3
    labels.unlink()
    refuses(quick(*words), 3, images.name, labels.name)


def test_new_makes_a_shop_once_and_names_the_next_step(tmp_path: Path) -> None:
    folder = tmp_path / "my shop"
    said = quick("new", folder, "--name", "Café [red]")
    assert said.status == 0
    assert f"--shop '{folder}'" in said.out
    assert Shop(folder).config.name == "Café [red]"
    assert quick("new", folder, "--name", "Other").status == 0
    assert Shop(folder).config.name == "Café [red]"
    refuses(quick("new", feed(tmp_path)), 2, "feed.csv: cannot make a shop there")


# -- asking, publishing ------------------------------------------------------------------------


def test_similar_answers_for_an_item(shop: Path) -> None:
    said = typed("similar", "item-00007", "-k", "3", "--shop", shop)
    assert (said.status, said.err) == (0, "")
    assert said.lines[0].split() == ["rank", "item", "score", "title", "category", "price"]
    cells = [line.split() for line in said.lines[1:]]
    assert [cell[0] for cell in cells] == ["1", "2", "3"]
    assert "item-00007" not in {cell[1] for cell in cells}
    assert [float(cell[2]) for cell in cells] == sorted((float(cell[2]) for cell in cells), reverse=True)
    assert cells[0][-1] == "EUR"


def test_similar_answers_for_a_photo_and_says_why_there_are_fewer(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(drawn_photo(7))
    said = quick("similar", "--photo", tmp_path / "photo.png", "--shop", shop)
    assert said.lines[1].split()[:3] == ["1", "item-00007", "1.0000"]
    assert len(said.lines) == 6
    everything = quick("similar", "item-00007", "-k", "100", "--shop", shop)
    assert everything.lines[-1] == f"only {ITEMS - 1} items with a photo"
    nothing = quick("similar", "item-00007", "--threshold", "1.1", "--shop", shop)
    assert nothing.lines[-1] == "no item is at least as similar as 1.1"


def test_sync_says_what_it_did(shop: Path, tmp_path: Path) -> None:
    first = Bundles(shop / "bundles").current_id()
    said = quick("sync", "--shop", shop)
    assert said.lines[:-1] == [
        f"no table has a newer version than bundle {first}: "
        f"embedded 0, carried over {ITEMS}, changed 0, removed 0"
    ]
    (tmp_path / "new.png").write_bytes(drawn_photo(4711))
    file = feed(tmp_path, "sku,name,photo_path\nnew,New one,new.png\nitem-00001,Other title,\n")
    assert quick("ingest", file, "--shop", shop).status == 0
    said = typed("sync", "--shop", shop)
    second = Bundles(shop / "bundles").current_id()
    assert said.status == 0, said.err
    assert said.lines[:2] == [
        f"{first} → {second}: embedded 1, carried over {ITEMS}, changed 2, removed 0",
        f"published {second}: {ITEMS + 1} items",
    ]


def test_bundles_marks_the_current_one_and_rollback_moves_the_mark(shop: Path, tmp_path: Path) -> None:
    quick("ingest", feed(tmp_path, "sku,name\nitem-00001,Other title\n"), "--shop", shop)
    quick("sync", "--shop", shop)
    first, second = Bundles(shop / "bundles").ids()
    shown = quick("bundles", "--shop", shop).lines
    assert [line.split()[:2] for line in shown[1:]] == [[first, str(ITEMS)], ["→", second]]
    said = typed("rollback", "--shop", shop)
    assert (said.status, said.lines) == (0, [f"current: {first}"])
    assert [line.startswith("→") for line in quick("bundles", "--shop", shop).lines] == [False, True, False]
    refuses(quick("rollback", "--shop", shop), 10, first, "first bundle")
    refuses(quick("rollback", "b000009-00000000", "--shop", shop), 10, "no bundle 'b000009-00000000'")
    assert quick("rollback", second, "--shop", shop).lines == [f"current: {second}"]


def test_f13_a_damaged_bundle_is_shown_as_damaged_and_not_asked(shop: Path) -> None:
    (bundle,) = Bundles(shop / "bundles").ids()
    manifest = shop / "bundles" / bundle / "manifest.json"
    manifest.parent.chmod(0o755)
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes()[:-40])
    said = typed("bundles", "--shop", shop)
    assert said.status == 0, said.err
    assert said.lines[1].startswith(f"→  {bundle}")
    assert "damaged: " in said.lines[1] and "manifest.json" in said.lines[1]
    refuses(quick("similar", "item-00001", "--shop", shop), 10, "BundleDamaged", "manifest.json")


# -- text that is not ours ---------------------------------------------------------------------


TITLES = [
    "[red]Hot[/red] :heart:",
    "[/]",
    "[link=file:///etc]here",
    "two\nlines",
    "\x1b[31mred\x1b[0m",
    "Tür–靴 👢",
]
SHOWN = [*TITLES[:3], "two\\nlines", "\\x1b[31mred\\x1b[0m", TITLES[5]]


@pytest.fixture(scope="module")
def foreign(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of six items whose titles are TITLES."""
    folder = Path(shutil.copytree(published, tmp_path_factory.mktemp("foreign") / "shop"))
    lines = [{"sku": f"item-{n:05d}", "name": title} for n, title in enumerate(TITLES)]
    file = feed(folder, "".join(json.dumps(line) + "\n" for line in lines), "feed.jsonl")
    assert quick("ingest", file, "--shop", folder).status == 0
    assert quick("sync", "--shop", folder).status == 0
    return folder


def test_markup_line_breaks_and_escapes_in_a_title_are_text(foreign: Path) -> None:
    said = quick("similar", "item-00030", "-k", str(ITEMS), "--shop", foreign)
    assert said.status == 0
    assert len(said.lines) == ITEMS + 1, "a title took more than its line"
    for title in SHOWN:
        assert f"  {title}  " in said.out, title
    assert "\x1b" not in said.out


def test_markup_in_a_file_name_is_text_in_messages_bars_and_tables(empty: Path, tmp_path: Path) -> None:
    file = feed(tmp_path, name="[red] :heart: [b].csv")
    said = typed("ingest", file, "--shop", empty)
    refuses(said, 4, f"TooManyRefused: {file}: 2 rows")
    assert f"ingest {file.name}" in said.err
    assert f" {file} " in quick("refused", "--shop", empty).out
    refuses(quick("ingest", tmp_path / "[/].csv", "--shop", empty), 3, f"{tmp_path}/[/].csv: no such file")


def test_titles_are_written_in_utf8_where_the_locale_is_c(foreign: Path) -> None:
    said = started("similar", "item-00030", "-k", str(ITEMS), "--shop", foreign, LANG="C")
    assert said.status == 0, said.err
    assert TITLES[5] in said.out


def test_a_title_that_the_output_cannot_hold_is_escaped(foreign: Path) -> None:
    words = ("similar", "item-00030", "-k", str(ITEMS), "--shop", foreign)
    said = started(*words, PYTHONIOENCODING="ascii")
    assert said.status == 0, said.err
    assert "T\\xfcr\\u2013\\u9774 \\U0001f462" in said.out


def test_a_reader_that_has_gone_is_no_traceback(foreign: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = ["similar", "item-00030", "-k", str(ITEMS), "--shop", str(foreign)]
    done = subprocess.run(
        [sys.executable, "-m", "etalage.cli", *words], stdout=write, stderr=subprocess.PIPE, env=environment()
    )
    os.close(write)
    assert done.returncode != 0
    assert done.stderr == b""


def test_interrupting_is_no_traceback(shop: Path) -> None:
    words = [sys.executable, "-m", "etalage.cli", "serve", "--port", "0", "--shop", str(shop)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert server.stdout is not None
    assert server.stdout.readline().startswith(b"http://127.0.0.1:")
    server.send_signal(signal.SIGINT)
    _, err = server.communicate(timeout=240)
    assert b"Traceback" not in err
    assert server.returncode == 130
    assert b"stopped: the server has ended; to serve again: `etalage serve" in err.splitlines()[-1]


# -- the demo ----------------------------------------------------------------------------------


def listing(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def test_the_demo_never_replaces_a_shop_or_a_folder_of_something_else(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "tables").mkdir(parents=True)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "shop.toml").write_text(CONFIG, encoding="utf-8")
    feed(strange)
    for folder, why in ((shop, "is a shop"), (other, "holds tables"), (strange, "feed.csv")):
        before = listing(folder)
        refuses(quick("demo", folder, "--no-serve"), 3, str(folder), why)
        assert listing(folder) == before


def test_a_demo_of_no_size_leaves_the_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "tables").mkdir()
    refuses(quick("demo", tmp_path, "--items", "5", "--no-serve"), 3, "items=5")
    assert listing(tmp_path) == ["shop.toml", "tables"]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield busy.getsockname()[1]


def test_the_demos_end_is_the_servers_when_its_port_is_taken(shop: Path, taken: int) -> None:
    said: list[str] = []
    with held_port(shared=True) as page_port:
        assert show(Shop(shop), taken, page_port, said.append) == 11
    assert f"http://127.0.0.1:{taken}" in "".join(said)


@pytest.fixture
def two_ports() -> Iterator[tuple[int, int]]:
    with held_port(shared=True) as one, held_port(shared=True) as other:
        yield one, other


def test_the_demo_takes_server_and_page_with_it_when_it_is_ended(
    shop: Path, two_ports: tuple[int, int]
) -> None:
    port, page_port = two_ports
    code = (
        "import sys; from etalage.demo.command import show; from etalage.shop import Shop; "
        f"sys.exit(show(Shop({str(shop)!r}), {port}, {page_port}, lambda line: None))"
    )
    both = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=environment())
    urls = [f"http://127.0.0.1:{port}/healthz", f"http://127.0.0.1:{page_port}/healthz"]
    deadline = time.monotonic() + 240
    while not all(map(answers, urls)):
        assert both.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    both.terminate()
    assert both.wait(timeout=120) == 0
    assert not any(map(answers, urls))


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).is_success
    except httpx.TransportError:
        return False


def test_help_lists_every_command_whole_and_in_the_order_in_which_a_shop_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = quick("--help").out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed[:3]] == ["new", "demo", "ingest"]
    assert not [line for line in listed if line.endswith("...")]
