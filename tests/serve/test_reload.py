"""A new bundle takes over while the server answers: F19, F20."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.exports import tiny_export
from tests.serve.servers import ProcessServer, ThreadServer, metric, until
from tests.shops import PHOTO_EMBEDDINGS, Bundles, Lake, fill, item_row, published, rows_of

ITEMS = 12
RELOADS = 100


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Bundles, dict[str, str]]]:
    """Two bundles of the same items; title, price and brand of each item say which it is."""
    lake, bundles = Lake(tmp_path / "tables"), Bundles(tmp_path / "bundles")
    letters = {}
    for seed, letter in enumerate("AB"):
        fill(lake, range(ITEMS))
        rows = [item_row(n, title=f"{letter}{n}", brand=letter, price=float(n)) for n in range(ITEMS)]
        lake.table("items").merge(rows_of("items", rows))
        export = tiny_export(tmp_path / "exports" / "image_similarity" / f"000{seed + 1}-x", seed=seed)
        letters[published(lake, bundles, export).id] = letter
    yield bundles, letters


class Shopper(threading.Thread):
    """Asks without pause and checks every answer; `wrong` must stay empty."""

    def __init__(
        self, url: str, letters: dict[str, str], scores: dict[str, Any], stop: threading.Event
    ) -> None:
        super().__init__()
        self.url, self.letters, self.scores, self.stop = url, letters, scores, stop
        self.asked = 0
        self.seen: set[str] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=120) as http:
            while not self.stop.is_set():
                try:
                    self.check(http.post("/v1/similar", json={"item_id": "item-00003", "k": 5}))
                    self.check_list(http.get("/v1/items"))
                except Exception as error:
                    self.wrong.append(repr(error))

    def check(self, response: httpx.Response) -> None:
        self.asked += 1
        if response.status_code != 200:
            self.wrong.append(f"{response.status_code} {response.text}")
            return
        body = response.json()
        bundle = body["bundle"]
        self.seen.add(bundle)
        slate = body["answers"][0]["slate"]
        told = {slot["title"][0] for slot in slate} | {slot["brand"] for slot in slate}
        found = [(slot["item_id"], round(slot["score"], 4)) for slot in slate]
        if response.headers["x-etalage-bundle"] != bundle or told != {self.letters[bundle]}:
            self.wrong.append(f"mixed: {response.headers} {body}")
        if found != self.scores[bundle]:
            self.wrong.append(f"other scores than the bundle's: {body}")

    def check_list(self, response: httpx.Response) -> None:
        body = response.json()
        told = {item["title"][0] for item in body["items"]} | {item["brand"] for item in body["items"]}
        if told != {self.letters[body["bundle"]]} or response.headers["x-etalage-bundle"] != body["bundle"]:
            self.wrong.append(f"mixed: {body}")


def test_f19_100_reloads_under_load_fail_no_request_and_mix_no_answer(
    two: tuple[Bundles, dict[str, str]], tmp_path: Path
) -> None:
    from etalage.recommend import Recommender

    bundles, letters = two
    scores = {}
    for bundle in letters:
        (answer,) = Recommender.open(bundles.path(bundle)).similar(item_id="item-00003", k=5)
        scores[bundle] = [(slot.item_id, round(slot.score, 4)) for slot in answer.slate]
    assert len({tuple(found) for found in scores.values()}) == 2, "the two bundles must answer differently"
    stop = threading.Event()
    with ProcessServer(bundles.folder, tmp_path / "log", reload_seconds=0.01) as server:
        shoppers = [Shopper(server.url, letters, scores, stop) for _ in range(2)]
        for shopper in shoppers:
            shopper.start()
        with httpx.Client(base_url=server.url) as http:
            try:
                order = list(letters)
                for turn in range(RELOADS):
                    wanted = order[turn % 2]  # the second one is current at the start
                    bundles.switch(wanted)
                    until(lambda wanted=wanted: http.get("/healthz").json()["bundle"] == wanted)  # type: ignore[misc]
                    until(lambda turn=turn: all(one.asked > turn + 1 for one in shoppers))  # type: ignore[misc]
            finally:
                stop.set()
                for shopper in shoppers:
                    shopper.join()
        assert metric(server.url, 'etalage_reloads_total{result="ok"}') == RELOADS + 1
        assert metric(server.url, 'etalage_reloads_total{result="failed"}') == 0
    assert [shopper.wrong[:3] for shopper in shoppers] == [[], []]
    assert all(shopper.asked > RELOADS for shopper in shoppers)
    assert all(shopper.seen == set(letters) for shopper in shoppers)


def damage_one_byte(folder: Path) -> None:
    file = folder / PHOTO_EMBEDDINGS
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(content))


def lose_a_file(folder: Path) -> None:
    (folder / "models" / "image_similarity").chmod(0o755)
    (folder / "models" / "image_similarity" / "model.onnx").unlink()


def lose_the_manifest(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [damage_one_byte, lose_a_file, lose_the_manifest])
def test_f20_a_bad_new_bundle_changes_nothing_but_a_metric(
    two: tuple[Bundles, dict[str, str]], damage: Any, tmp_path: Path
) -> None:
    bundles, letters = two
    old, new = letters
    good = tmp_path / "good"
    shutil.copytree(bundles.path(new), good)
    bundles.switch(old)
    with ThreadServer(bundles.folder) as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/healthz").json()["bundle"] == old
        damage(bundles.path(new))
        (bundles.folder / "current").write_text(f"{new}\n")  # as a publisher would whose disk then fails
        until(lambda: metric(server.url, "etalage_reload_failing") == 1)
        assert metric(server.url, 'etalage_reloads_total{result="failed"}') >= 1
        ready = http.get("/readyz")
        assert ready.status_code == 200 and ready.json()["bundle"] == old
        assert ready.json()["problem"] == "BundleDamaged: see the server's log"
        answer = http.post("/v1/similar", json={"item_id": "item-00003"})
        assert answer.is_success and answer.json()["bundle"] == old
        shutil.rmtree(bundles.path(new))  # mended: the same id, whole again, is taken over
        shutil.copytree(good, bundles.folder / new)
        until(lambda: http.get("/readyz").json()["problem"] is None)
        assert http.get("/readyz").json() == {
            "status": "ready",
            "bundle": new,
            "problem": None,
            "degraded": None,
        }
        assert metric(server.url, "etalage_reload_failing") == 0


@pytest.mark.parametrize("content", [b"", b"../../etc\n", b"b000009-00000000\n", b"\xff\xfe"])
def test_f14_a_bad_pointer_keeps_the_bundle_that_serves(
    two: tuple[Bundles, dict[str, str]], content: bytes
) -> None:
    bundles, letters = two
    _, new = letters
    with ThreadServer(bundles.folder) as server, httpx.Client(base_url=server.url) as http:
        (bundles.folder / "current").write_bytes(content)
        until(lambda: metric(server.url, "etalage_reload_failing") == 1)
        assert http.get("/readyz").json()["bundle"] == new
        assert http.post("/v1/similar", json={"item_id": "item-00003"}).is_success
        (bundles.folder / "current").write_text(f"{new}\n")
        until(lambda: metric(server.url, "etalage_reload_failing") == 0)
        assert http.get("/readyz").json()["problem"] is None


def test_a_server_without_a_bundle_waits_for_the_first_one(tmp_path: Path) -> None:
    from tests.shops import small_shop

    bundles = tmp_path / "shop" / "bundles"
    with ThreadServer(bundles) as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").status_code == 503
        for response in (http.post("/v1/similar", json={"item_id": "a"}), http.get("/v1/items")):
            assert response.status_code == 503 and "retry-after" in response.headers
            assert response.json()["error"]["class"] == "NoBundle"
            assert "etalage publish" in response.json()["error"]["message"]
        _, _, manifest = small_shop(tmp_path / "shop", 6)
        until(lambda: http.get("/readyz").status_code == 200)
        assert http.post("/v1/similar", json={"item_id": "item-00001"}).json()["bundle"] == manifest.id
