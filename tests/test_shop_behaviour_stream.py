"""A model of behaviour trained by command on interactions that are read as a stream."""

from pathlib import Path

import pyarrow as pa
import pytest

from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.opening import open_scorer
from etalage.shop import Shop
from etalage.shop.behaviour_steps import behaviour, for_training
from tests.features.behaviour_tables import acts, catalogue

SETTINGS = {
    "history": "6", "width": "8", "epochs": "2", "batch_size": "64", "precision": "float32", "buffer": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop.create(tmp_path_factory.mktemp("shop"), "acts")
    table = acts(4000)
    table = table.filter(table["item_id"].is_valid())
    half = table.num_rows // 2
    for part in (table.slice(half), table.slice(0, half)):
        shop.lake.table("interactions").merge(part)
    shop.lake.table("items").merge(catalogue())
    shop.lake.table("users").merge(pa.table({"user_id": [f"u{n}" for n in range(70)]}))
    return shop


def test_two_tower_trains_by_command_as_a_stream_and_says_so(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    trained, exported = shop.train("two_tower", {**SETTINGS, "stream": "always"})
    assert "interactions, version 2:" in caplog.text
    assert "read as a stream, through a buffer of 1 MB" in caplog.text
    assert trained.metrics["ndcg_at_10"] > 0
    whole = behaviour(shop).data
    assert read_facts(exported)["data"] == whole.fingerprint()
    assert open_scorer(exported).items.ids.equals(whole.items.ids)
    made = list((shop.runs / "behaviour").iterdir())
    recipe = shop.models.find("two_tower")
    assert for_training(shop, recipe, recipe.config(stream="always")).stream is not None
    assert list((shop.runs / "behaviour").iterdir()) == made


def test_what_is_published_streams_everything_and_keeps_the_files_of_both(shop: Shop) -> None:
    _, judged = shop.train("two_tower", {**SETTINGS, "epochs": "1", "stream": "always"})
    shop.train("popularity")
    manifest = shop.publish(force=True)
    (served,) = [one for one in manifest.models if one.name == "two_tower"]
    assert served.fitted_on == "everything", served.as_judged
    again = read_facts(newest_export(shop.exports("two_tower") / "everything"))
    assert again["judged"] == read_facts(judged)["model_hash"]
    assert again["data"] == behaviour(shop, whole=True).data.fingerprint()
    names = sorted(one.name for one in (shop.runs / "behaviour").iterdir())
    assert len(names) == 2 and names[1] == f"{names[0]}-whole"


def test_what_fits_into_the_buffer_stays_in_memory(shop: Shop) -> None:
    recipe = shop.models.find("two_tower")
    for stream, streamed in (("auto", False), ("never", False), ("always", True)):
        found = for_training(shop, recipe, recipe.config(stream=stream))
        assert (found.stream is not None) is streamed


def test_an_erased_shopper_is_in_no_file_of_the_stream(shop: Shop, tmp_path: Path) -> None:
    recipe = shop.models.find("two_tower")
    config = recipe.config(stream="always")
    assert for_training(shop, recipe, config).data.users.row("u1")
    shop.erase("u1")
    assert not (shop.runs / "behaviour").exists()
    found = for_training(shop, recipe, config)
    assert not found.data.users.row("u1") and found.data.users.row("u2")
