"""`etalage doctor`: what it finds of a shop that is well, and of one that is not; it changes nothing."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etalage.bundle.pointer import PUBLISHING, Bundles
from etalage.shop.doctor import check
from etalage.shop.findings import Finding, looked_at
from etalage.shop.shop_checks import _left_behind
from tests.ports import held_port
from tests.shops import small_shop
from tests.test_cli import feed, listing, quick


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "shop"
    folder.mkdir()
    small_shop(folder, 6)
    (folder / "shop.toml").write_text('name = "Well"\n[serve]\nport = 0\n', encoding="utf-8")
    return folder


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port that is taken, and on which nobody answers."""
    with held_port() as port:
        yield port


def found(folder: Path, subject: str) -> Finding:
    (one,) = [one for one in check(folder).findings if one.subject == subject]
    return one


def test_a_shop_that_is_well_has_no_problem_and_nothing_is_changed(well: Path) -> None:
    before = listing(well)
    said = quick("doctor", "--shop", well)
    assert said.status == 0, said.out
    assert "PROBLEM" not in said.out and "Well" in said.out and "`etalage " in said.out
    assert [one for one in listing(well) if one not in before] == []
    assert found(well, "table items").said.startswith("6 rows")
    assert "files are those that were published" in found(well, "bundle").said


def test_where_there_is_no_shop_the_machine_is_looked_at_all_the_same(tmp_path: Path) -> None:
    one = found(tmp_path / "none", "shop")
    assert one.state == "problem" and "etalage new" in one.said, "it was named"
    assert found(tmp_path / "none", "python").state == "ok"


def test_each_damage_is_a_problem_of_its_own_and_the_exit_code_is_1(well: Path) -> None:
    (model,) = (well / "exports").rglob("model.onnx")
    (photos,) = (well / "tables" / "photos").glob("*.parquet")
    manifest = next((well / "bundles").glob("*/manifest.json"))
    for file in (model, photos, manifest):
        kept = file.read_bytes()
        file.parent.chmod(0o755)
        file.chmod(0o644)
        file.write_bytes(kept[: len(kept) // 2])
        said = quick("doctor", "--shop", well, "--json")
        problems = [one for one in json.loads(said.out)["findings"] if one["state"] == "problem"]
        assert said.status == 1 and len(problems) >= 1, file
        assert any(file.name in one["said"] or one["next"] for one in problems), problems
        file.write_bytes(kept)
    assert quick("doctor", "--shop", well).status == 0


def test_settings_that_cannot_be_read_are_the_one_problem_of_the_shop(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("nmae = 1\n", encoding="utf-8")
    one = found(tmp_path, "settings")
    assert one.state == "problem" and "did you mean 'name'?" in one.said
    assert not [one for one in check(tmp_path).findings if one.subject == "tables"]


def test_what_is_named_outside_of_the_folder_is_asked_for(tmp_path: Path, deaf: int) -> None:
    (tmp_path / "shop.toml").write_text(
        f'[index]\nkind = "milvus"\n[index.milvus]\nuri = "http://127.0.0.1:{deaf}"\n', encoding="utf-8"
    )
    assert found(tmp_path, "[index.milvus]").state == "problem"


def test_the_encoder_of_texts_is_opened(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('[text]\nencoder = "wordllama"\n', encoding="utf-8")
    assert found(tmp_path, "[text] encoder").said == "wordllama: 256 numbers of a text"
    (tmp_path / "shop.toml").write_text('[text]\nencoder = "ues"\n', encoding="utf-8")
    one = found(tmp_path, "[text] encoder")
    assert one.state == "problem" and "say `use`, `wordllama`, or an ONNX file" in one.said


def test_a_port_that_is_taken_and_what_a_killed_run_left_are_warnings(tmp_path: Path, deaf: int) -> None:
    (tmp_path / "exports" / "ease" / ".draft-1").mkdir(parents=True)
    feed(tmp_path / "exports" / "ease" / ".draft-1", name="half.npy")
    (tmp_path / "shop.toml").write_text(f"[serve]\nport = {deaf}\n", encoding="utf-8")
    assert found(tmp_path, "port").state == "warning"
    left = found(tmp_path, "left behind")
    assert left.state == "warning" and "exports/ease/.draft-1" in left.said
    assert f"`etalage vacuum --yes --shop {tmp_path}`" in (left.next or "")


def test_a_port_that_is_taken_by_what_speaks_no_http_is_a_warning(tmp_path: Path) -> None:
    def greet(taken: socket.socket) -> None:
        peer, _ = taken.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"220 mail.example ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "shop.toml").write_text(f"[serve]\nport = {port}\n", encoding="utf-8")
        threading.Thread(target=greet, args=(taken,), daemon=True).start()
        assert found(tmp_path, "port").state == "warning"


def test_what_a_run_removes_while_it_is_counted_is_no_error(tmp_path: Path) -> None:
    inner = tmp_path / "runs" / ".ingest"
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            for number in range(20):
                (inner / str(number) / "parts").mkdir(parents=True)
                feed(inner / str(number) / "parts", name="half.npy")
            shutil.rmtree(inner)

    run_goes_on = threading.Thread(target=run)
    run_goes_on.start()
    try:
        seen = {looked_at("left behind", lambda: _left_behind(tmp_path)).state for _ in range(400)}
    finally:
        done.set()
        run_goes_on.join()
    assert seen <= {"ok", "warning"}


def test_who_publishes_is_seen_and_who_comes_meanwhile_is_not_refused(well: Path) -> None:
    bundles = Bundles(well / "bundles")
    assert found(well, "publishing").said == "nobody publishes"
    with bundles.publishing():
        assert found(well, "publishing").said == "somebody publishes now"
    (bundles.folder / PUBLISHING).unlink()
    assert found(well, "publishing").said == "nobody publishes"
    assert not (bundles.folder / PUBLISHING).exists(), "to look is not to take the lock"
