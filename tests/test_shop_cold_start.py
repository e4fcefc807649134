"""A shop whose newest items nobody bought: they are found, judged on what they are there for, published."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from etalage.cli import app
from etalage.runtime.export_files import newest_export, read_facts, read_verdict
from etalage.shop import Shop
from tests.models.test_cold_start import tables
from tests.test_shop_behaviour import rows_of

pytestmark = pytest.mark.traces


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("cold") / "shop"
    folder.mkdir()
    config = '[behaviour]\nsplit = "published"\n[evaluate]\nretrieval_metric = "recall_at_3"\n'
    (folder / "shop.toml").write_text(config, "utf-8")
    made = Shop(folder)
    acts, items = tables()
    made.lake.table("items").merge(rows_of("items", {k: v for k, v in items.items() if k != "attributes"}))
    made.lake.table("interactions").merge(rows_of("interactions", acts))
    made.train("popularity")
    made.train("cold_start", {"dimension": 16})
    return made


def test_it_is_judged_on_cold_items_without_being_told_to(shop: Shop) -> None:
    done = CliRunner().invoke(app, ["evaluate", "cold_start", "--shop", str(shop.folder)])
    assert done.exit_code == 0, done.output
    assert "of cold items" in done.stdout
    verdict = read_verdict(newest_export(shop.exports("cold_start")))
    assert verdict is not None and verdict["passed"] and verdict["slice"] == "cold items"


def test_what_is_published_is_solved_again_on_everything_by_the_same_settings(shop: Shop) -> None:
    shop.evaluate("cold_start")
    judged = read_facts(newest_export(shop.exports("cold_start")))
    manifest = shop.publish()
    again = read_facts(newest_export(shop.folder / "exports" / "cold_start" / "everything"))
    assert again["judged"] == judged["model_hash"] != again["model_hash"]
    assert again["config"] == judged["config"] and again["fitted_on"] == "everything"
    (published,) = [one for one in manifest.models if one.name == "cold_start"]
    assert published.hash == again["model_hash"]
    assert shop.publish().models == manifest.models, "what is there is not solved once more"


def test_without_a_ranker_or_a_quota_its_items_stand_on_no_slate(shop: Shop) -> None:
    shop.publish()
    answer = Shop(shop.folder).recommend("u4", k=5)
    assert len(answer.slots) == 5
    told = (Path(shop.folder) / "shop.toml").read_text("utf-8")
    (Path(shop.folder) / "shop.toml").write_text(
        told + "[funnel]\nretrievers = {cold_start = 10, popularity = 10}\n", "utf-8"
    )
    asked = Shop(shop.folder)
    asked.publish()
    new = {f"i{number:02d}" for number in range(90, 96)}
    assert not new & {slot.item_id for slot in answer.slots}
    assert new & {slot.item_id for slot in asked.recommend("u4", k=8).slots}
