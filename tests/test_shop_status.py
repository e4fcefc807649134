"""`etalage status` names the command that a shop needs next, from an empty folder to one that serves."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etalage import cli
from etalage.shop import Shop
from etalage.shop.status_steps import ShopStatus
from tests.test_shop_stored import files


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.create(tmp_path_factory.mktemp("status") / "shop", "Cups")


def next_of(shop: Shop) -> str:
    return Shop(shop.folder).status().next.command


def standing(found: ShopStatus) -> dict[str, tuple[str, str]]:
    return {one.name: (one.verdict, one.published) for one in found.models}


def test_each_command_that_is_named_leads_to_the_next(shop: Shop, tmp_path: Path) -> None:
    items, acts = files(tmp_path)
    assert next_of(shop) == "etalage ingest FILE items"
    shop.ingest(items, "items")
    assert next_of(shop) == "etalage ingest FILE interactions", "there is no photo to learn from either"
    shop.ingest(acts, "interactions")
    assert next_of(shop) == "etalage train popularity"
    shop.train("popularity")
    assert next_of(shop) == "etalage train item_knn"
    shop.train("item_knn")
    assert next_of(shop) == "etalage evaluate"
    assert standing(shop.status())["item_knn"] == ("not evaluated", "no")
    shop.evaluate_all()
    assert next_of(shop) == "etalage publish"
    published = shop.publish()
    found = Shop(shop.folder).status()
    assert found.next.command == "etalage serve" and found.bundle is not None
    assert (found.bundle.id, found.bundle.items, found.bundle.behind) == (published.id, 60, ())
    assert {published for _, published in standing(found).values()} == {"yes"}

    items.write_text(items.read_text() + "\ni61,Item 61,61.5,A")
    shop.ingest(items, "items")
    found = Shop(shop.folder).status()
    assert found.next.command == "etalage sync" and "items changed" in found.next.why
    assert found.bundle is not None and found.bundle.behind == ("items",)
    assert [one.behind for one in found.models] == [("items",)] * 2
    shop.sync()
    assert next_of(shop) == "etalage serve"


def test_the_next_command_can_be_pasted(shop: Shop) -> None:
    done = CliRunner().invoke(cli.app, ["status", "--shop", str(shop.folder)], env={"COLUMNS": "300"})
    assert f"next: etalage serve --shop {shop.folder}" in done.output
    done = CliRunner().invoke(cli.app, ["--json", "status", "--shop", str(shop.folder)])
    assert json.loads(done.stdout)["next"]["command"] == f"etalage serve --shop {shop.folder}"
    done = CliRunner().invoke(cli.app, ["sync", "--shop", str(shop.folder)], env={"COLUMNS": "300"})
    assert f"next: etalage serve --shop {shop.folder}" in done.output


def test_a_shop_whose_models_are_all_refused_is_told_what_helps(shop: Shop, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shop.folder, copy)
    shutil.rmtree(copy / "bundles")
    for export in (copy / "exports").glob("*/[0-9]*-*"):
        verdict = {
            "model": "x",
            "model_hash": "another",
            "metric": "recall_at_20",
            "passed": False,
            "rows": [],
        }
        (export / "evaluation.json").write_text(json.dumps(verdict), "utf-8")
    step = Shop(copy).status().next
    assert step.command == "etalage models" and "no model would be published" in step.why
    assert "`etalage publish --force`" in step.why


def test_a_model_that_the_funnel_names_is_trained_first(shop: Shop, tmp_path: Path) -> None:
    items, acts = files(tmp_path)
    named = Shop.create(tmp_path / "named", "Named")
    (named.folder / "shop.toml").write_text("[funnel.retrievers]\nease = 100\n")
    Shop(named.folder).ingest(items, "items")
    Shop(named.folder).ingest(acts, "interactions")
    step = Shop(named.folder).status().next
    assert (step.command, step.why) == ("etalage train ease", "[funnel] names it, and it was not trained")


def test_a_bundle_that_cannot_be_read_is_told(shop: Shop) -> None:
    (shop.folder / "bundles" / "current").write_text("b000099-00000000\n")
    found = Shop(shop.folder).status()
    assert found.bundle is None and found.problem is not None and "PointerDamaged" in found.problem
    assert found.next.command == "etalage publish"
