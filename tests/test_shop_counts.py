"""A whole shop whose closed-form models are counted by workers: what it trains and publishes is the same."""

from pathlib import Path

import pytest

from etalage import Shop
from etalage.features.array_blocks import ArrayLoop
from etalage.runtime.export_files import newest_export, read_facts
from tests.own_models import TINY, put, trust
from tests.test_shop_behaviour import fill

SETTINGS = """
name = "Cups"
[behaviour]
rank = 0.15
[models.ials]
dimension = 8
iterations = 2
"""


def made(folder: Path, engine: str) -> Shop:
    folder.mkdir()
    (folder / "shop.toml").write_text(SETTINGS + engine)
    shop = Shop(folder)
    fill(shop)
    put(folder, {"tiny.py": TINY})
    trust(folder)
    return Shop(folder)


@pytest.mark.timeout(300)
def test_what_workers_count_is_trained_and_published_as_one_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the shop's own, which knows nothing of blocks, among them."""
    hashes, begun = {}, []
    run = ArrayLoop.over

    def noted(self: ArrayLoop, arrays):  # type: ignore[no-untyped-def]
        if self.spool is not None and not self.measured:
            begun.append(len(arrays))
        return run(self, arrays)

    monkeypatch.setattr(ArrayLoop, "over", noted)
    for name, engine in (("one", ""), ("two", "[engine]\nworkers = 2\nsaving = 0\n")):
        shop = made(tmp_path / name, engine)
        for model in ("popularity", "item_knn", "ials", "tiny"):
            shop.train(model)
        manifest = shop.publish(force=True)
        hashes[name] = {
            model: [
                read_facts(newest_export(shop.exports(model)))["model_hash"],
                next(one.hash for one in manifest.models if one.name == model),
            ]
            for model in ("item_knn", "ials", "tiny")
        }
        assert bool(begun) == (name == "two"), "workers are begun only where the shop says so"
        assert not list((shop.runs / ".blocks").glob("*"))
    assert hashes["one"] == hashes["two"]
    assert all(trained != published for trained, published in hashes["one"].values()), "fitted on everything"
