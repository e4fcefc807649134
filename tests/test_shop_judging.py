"""A shop whose behaviour is known: which models may speak, who says so, and what is trained for that."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from etalage import Shop, cli
from etalage.bundle.admission import FEWEST, standing
from etalage.errors import ConfigError, GateRefused, NothingToPublish, TableMissing, TooLittleData
from etalage.runtime.export_files import newest_export, read_verdict
from tests.test_shop_behaviour import rows_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = """
name = "Tins"
[models.item_knn]
neighbours = 10
shrink = 0.0
[models.two_tower]
width = 16
epochs = 1
steps_per_epoch = 1
[evaluate]
bootstrap = 200
"""
ITEMS, USERS = 300, 260


def fill(shop: Shop, tastes: bool, users: int = USERS) -> None:
    """Purchases of best-sellers, whoever buys; with `tastes`, each shopper keeps to one of six shelves."""
    rng = np.random.default_rng(3)
    columns: dict[str, list[Any]] = {n: [] for n in ("interaction_id", "user_id", "item_id", "kind", "time")}
    share = 1 / np.arange(1, ITEMS + 1) ** 1.1
    for user in range(users):
        weights = share * (1 + 60 * tastes * (np.arange(ITEMS) % 6 == user % 6))
        bought = rng.choice(ITEMS, 9, replace=False, p=weights / weights.sum())
        for step, item in enumerate(bought):
            columns["interaction_id"].append(f"{user}-{step}")
            columns["user_id"].append(f"u{user:03d}")
            columns["item_id"].append(f"tin-{item:03d}")
            columns["kind"].append("buy")
            columns["time"].append(BEGIN + timedelta(minutes=int(rng.integers(0, 500_000))))
    items = {"item_id": [f"tin-{n:03d}" for n in range(ITEMS)], "title": [f"Tin {n}" for n in range(ITEMS)]}
    shop.lake.table("items").merge(rows_of("items", items))
    shop.lake.table("interactions").merge(rows_of("interactions", columns))


def made(folder: Path, tastes: bool, users: int = USERS, config: str = CONFIG) -> Shop:
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text(config, "utf-8")
    shop = Shop(folder)
    fill(shop, tastes, users)
    return shop


@pytest.fixture(scope="module")
def untasteful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everybody buys what sells best: neighbours can only lose to it. Two models are trained."""
    shop = made(tmp_path_factory.mktemp("shop") / "shop", tastes=False)
    for model in ("popularity", "item_knn"):
        shop.train(model)
    return shop.folder


@pytest.fixture(scope="module")
def networked(untasteful: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a shop with a network, too."""
    folder = tmp_path_factory.mktemp("networked") / "shop"
    shutil.copytree(untasteful, folder)
    Shop(folder).train("two_tower")
    return folder


@pytest.fixture
def bestsellers_and_network(networked: Path, tmp_path: Path) -> Shop:
    shutil.copytree(networked, tmp_path / "copy")
    return Shop(tmp_path / "copy")


@pytest.fixture
def bestsellers(untasteful: Path, tmp_path: Path) -> Shop:
    shutil.copytree(untasteful, tmp_path / "copy")
    return Shop(tmp_path / "copy")


def typed(shop: Shop, *words: str) -> str:
    """What the command printed; it succeeded."""
    done = CliRunner().invoke(cli.app, [*words, "--shop", str(shop.folder)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def trained(shop: Shop) -> set[str]:
    return {folder.name for folder in (shop.folder / "exports").iterdir() if folder.is_dir()}


# -- what is published -------------------------------------------------------------------------


def test_a_model_that_loses_to_popularity_is_not_published_and_the_command_says_by_how_much(
    bestsellers: Shop,
) -> None:
    """Nobody evaluated it: whoever publishes judges it."""
    printed = typed(bestsellers, "publish")
    (line,) = [one for one in printed.splitlines() if one.startswith("left out: item_knn")]
    verdict = read_verdict(newest_export(bestsellers.exports("item_knn")))
    assert verdict is not None and standing(verdict) == "loses"
    ours, floor = verdict["rows"][0], verdict["rows"][1]
    assert f"{ours['value']:.4f} against {floor['value']:.4f} at recall_at_20" in line
    assert "[models.item_knn]" in line and "--force" in line
    recommender = bestsellers.recommender()
    assert [one.name for one in recommender.manifest.models] == ["popularity"]
    assert [one.name for one in recommender.manifest.refused] == ["item_knn"]
    with bestsellers.live_store() as live:
        assert recommender.recommend(user_id="u007", k=5, live=live).tier == "popular"


def test_the_next_publish_reads_the_verdict_that_lies_beside_the_export(bestsellers: Shop) -> None:
    bestsellers.publish()
    export = newest_export(bestsellers.exports("item_knn"))
    (export / "evaluation.json").write_text(
        (export / "evaluation.json").read_text("utf-8").replace('"recall_at_20"', '"recall_at_19"'), "utf-8"
    )
    assert "recall_at_19" in bestsellers.publish().refused[0].reason


def test_a_loser_is_published_by_force_and_named(bestsellers: Shop) -> None:
    printed = typed(bestsellers, "publish", "--force")
    assert "item_knn loses to popularity" in printed and "forced past: gate" in printed
    assert "item_knn" in {one.name for one in bestsellers.recommender().manifest.models}


def test_what_evaluate_tells_to_publish_is_published_when_it_was_split_another_way(bestsellers: Shop) -> None:
    """Fitted on everything it is the same numbers as before, and another verdict is about them."""
    as_it_is = "[models.popularity]\nsearch = false\n"  # settings of another validation would be others
    toml = bestsellers.folder / "shop.toml"
    toml.write_text(CONFIG + as_it_is, "utf-8")
    Shop(bestsellers.folder).train("popularity")
    first = Shop(bestsellers.folder).publish()
    toml.write_text(CONFIG + as_it_is + "[behaviour]\nvalidation = 0.2\n", "utf-8")
    changed = Shop(bestsellers.folder)
    changed.train("popularity")
    assert "Publish popularity" in typed(changed, "evaluate")
    second = changed.publish()
    (before,), (after,) = first.models, second.models
    assert after.hash == before.hash and after.verdict != before.verdict
    bestsellers.rollback(first.id)
    bestsellers.lake.table("items").merge(rows_of("items", {"item_id": ["tin-300"], "title": ["A tin"]}))
    assert [one.verdict for one in bestsellers.sync().manifest.models] == [before.verdict]  # type: ignore[union-attr]


def test_a_model_that_other_settings_trained_is_left_out_and_the_next_command_trains_it(
    bestsellers: Shop,
) -> None:
    typed(bestsellers, "evaluate")
    toml = bestsellers.folder / "shop.toml"
    toml.write_text(CONFIG + "[behaviour]\nrepeat = true\n", "utf-8")
    changed = Shop(bestsellers.folder)
    said = "popularity was trained with other [behaviour] settings (repeat false, now true): `etalage train"
    step = changed.status().next
    assert step.command == "etalage train item_knn" or step.command == "etalage train popularity"
    assert said in step.why
    with pytest.raises(GateRefused) as refused:
        changed.publish()
    assert said in str(refused.value) and "item_knn was trained with other" in str(refused.value)
    with pytest.raises(ConfigError, match=r"settings \(repeat false, now true\)"):
        changed.evaluate("item_knn")
    printed = typed(changed, "train", "popularity")
    assert "next: `etalage evaluate popularity" in printed
    assert [one.name for one in changed.publish().models] == ["popularity"]


def test_popularity_alone_is_a_setting(bestsellers: Shop) -> None:
    said = "let [funnel] of shop.toml say `retrievers = {popularity = 200}`"
    printed = typed(bestsellers, "evaluate")
    assert "out of exports/" not in printed
    (bestsellers.folder / "shop.toml").write_text(
        CONFIG + "[funnel]\nretrievers = {popularity = 200}\n", "utf-8"
    )
    alone = Shop(bestsellers.folder)
    assert said not in typed(alone, "evaluate")
    manifest = alone.publish()
    assert [one.name for one in manifest.models] == ["popularity"] and not manifest.refused
    assert alone.status().next.command == "etalage serve"


def test_where_most_judged_shoppers_are_cold_it_is_said(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", tastes=False, users=0)
    columns: dict[str, list[Any]] = {n: [] for n in ("interaction_id", "user_id", "item_id", "kind", "time")}
    for at in range(800):
        columns["interaction_id"].append(f"{at}")
        columns["user_id"].append(f"u{at // 2:03d}")
        columns["item_id"].append(f"tin-{(at * at) % 31:03d}")
        columns["kind"].append("buy")
        columns["time"].append(BEGIN + timedelta(minutes=37 * at % 800))
    shop.lake.table("interactions").merge(rows_of("interactions", columns))
    shop.train("item_knn")
    printed = typed(shop, "evaluate", "item_knn")
    assert "judged shoppers have fewer than 3 acts" in printed.replace("\n", " ")
    assert "leave_one_out" in printed


def test_where_nothing_is_left_to_publish_every_model_says_why(bestsellers_and_network: Shop) -> None:
    shutil.rmtree(bestsellers_and_network.exports("popularity"))
    with pytest.raises(GateRefused) as refused:
        bestsellers_and_network.publish()
    said = str(refused.value)
    assert "item_knn loses to popularity" in said and "two_tower was not evaluated" in said
    assert said.endswith(
        "So none of the models is left to publish; `etalage publish --force` publishes all the same"
    )


def test_where_shoppers_have_tastes_their_neighbours_are_published(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", tastes=True)
    for model in ("popularity", "item_knn"):
        shop.train(model)
    printed = typed(shop, "publish")
    assert "item_knn beats popularity: 0." in printed and "left out" not in printed
    with shop.live_store() as live:
        assert shop.recommender().recommend(user_id="u007", k=5, live=live).tier == "collaborative"


def test_without_popularity_trained_it_is_held_against_popularity_all_the_same(bestsellers: Shop) -> None:
    shutil.rmtree(bestsellers.exports("popularity"))
    with pytest.raises(GateRefused, match="item_knn loses to popularity"):
        bestsellers.publish()


def test_what_learned_from_older_data_is_published_unjudged_and_that_is_said(bestsellers: Shop) -> None:
    late = {"interaction_id": ["late"], "user_id": ["u001"], "item_id": ["tin-299"], "kind": ["buy"]}
    bestsellers.lake.table("interactions").merge(rows_of("interactions", {**late, "time": [BEGIN]}))
    printed = typed(bestsellers, "publish")
    assert "not judged: item_knn, published all the same: it was trained on other data" in printed
    assert "`etalage train item_knn` again" in printed


def test_what_is_trained_again_is_of_the_data_of_today_though_its_counts_are_the_same(
    bestsellers: Shop,
) -> None:
    """Else the advice to train it again would lead nowhere."""
    before = newest_export(bestsellers.exports("item_knn"))
    words = {"item_id": ["tin-003"], "title": ["Another tin"]}
    bestsellers.lake.table("items").merge(rows_of("items", words))
    for model in ("popularity", "item_knn"):
        bestsellers.train(model)
    after = newest_export(bestsellers.exports("item_knn"))
    assert after != before and after.name.partition("-")[2] == before.name.partition("-")[2]
    assert "item_knn does not beat" in typed(bestsellers, "evaluate", "item_knn")
    assert bestsellers.train("item_knn")[1] == after, "what is the same in all is exported once"


def test_a_shop_too_small_to_judge_by_is_told_so(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", tastes=False, users=8)
    for model in ("popularity", "item_knn"):
        shop.train(model)
    printed = typed(shop, "publish")
    assert f"too few to tell, {FEWEST} are needed" in printed
    assert "item_knn" in {one.name for one in shop.recommender().manifest.models}


# -- what is trained for a judgement -----------------------------------------------------------


def test_a_metric_that_any_order_satisfies_judges_nobody_and_that_is_said(tmp_path: Path) -> None:
    """Of twenty items everything is among the first twenty."""
    shop = made(tmp_path / "shop", tastes=False, config=CONFIG + 'retrieval_metric = "recall_at_300"\n')
    for model in ("popularity", "item_knn"):
        shop.train(model)
    for words in (["publish"], ["evaluate"], ["evaluate", "item_knn"]):
        assert "recall_at_300 is 1 for items in any order" in typed(shop, *words).replace("\n", " ")


def test_a_shop_of_behaviour_in_which_nothing_was_trained_is_not_asked_for_photos(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", tastes=False, users=4)
    done = CliRunner().invoke(cli.app, ["evaluate", "--shop", str(shop.folder)])
    assert done.exit_code == NothingToPublish.exit_code and "`etalage train popularity`" in done.stderr


def test_a_counter_is_evaluated_beside_popularity_and_nothing_is_trained(bestsellers: Shop) -> None:
    shutil.rmtree(bestsellers.exports("popularity"))
    printed = typed(bestsellers, "evaluate", "item_knn")
    assert "item_knn does not beat the best simple system, popularity" in printed
    assert trained(bestsellers) == {"item_knn"}
    assert not (bestsellers.runs / "yardsticks").exists()


def test_what_learned_from_the_answers_is_not_evaluated(bestsellers: Shop) -> None:
    """Split by another rule, what is to be found now stood in what the model was trained on."""
    (bestsellers.folder / "shop.toml").write_text(CONFIG + '[behaviour]\nsplit = "random"\n', "utf-8")
    changed = Shop(bestsellers.folder)
    with pytest.raises(ConfigError, match=r"item_knn was trained with other .* `etalage train item_knn`"):
        changed.evaluate("item_knn")
    assert read_verdict(newest_export(changed.exports("item_knn"))) is None


def test_popularity_is_evaluated_beside_chance(bestsellers: Shop) -> None:
    assert "popularity beats the best simple system, chance" in typed(bestsellers, "evaluate", "popularity")


def test_the_yardsticks_of_a_network_are_not_published(bestsellers_and_network: Shop) -> None:
    """What it has to beat is trained for the comparison, and lies where nobody publishes from."""
    bestsellers = bestsellers_and_network
    printed = typed(bestsellers, "evaluate", "two_tower")
    assert all(f"{name} (test)" in printed for name in ("popularity", "item_knn", "ease"))
    assert trained(bestsellers) == {"popularity", "item_knn", "two_tower"}
    yardsticks = bestsellers.runs / "yardsticks"
    assert {one.name for one in yardsticks.iterdir()} == {"ease"}  # item_knn is trained: nobody needs another
    before = newest_export(yardsticks / "ease")
    typed(bestsellers, "evaluate", "two_tower")
    assert newest_export(yardsticks / "ease") == before
    manifest = bestsellers.publish()
    assert [one.name for one in manifest.models] == ["popularity"]
    assert {one.name for one in manifest.refused} == {"item_knn", "two_tower"}


# -- which one should I publish? ---------------------------------------------------------------


def test_the_decision_is_printed_first_and_the_page_last(bestsellers: Shop) -> None:
    lines = typed(bestsellers, "evaluate").splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("What would this shopper want?"))
    table = next(n for n, line in enumerate(lines) if line.startswith("system "))
    assert lines[first] == "What would this shopper want? Publish popularity" and first < table
    assert any(line.startswith("  kept out: item_knn: item_knn loses to popularity") for line in lines)
    assert lines[-1].startswith("report: ") and lines[-1].endswith("shop.html")
    page = (bestsellers.folder / "reports" / "shop.html").read_text("utf-8")
    assert "Publish popularity" in page and 'href="behaviour.html"' in page
    assert "What is like this?" not in "".join(lines), "a shop without photos is not asked about them"


def test_what_the_decision_says_of_a_model_is_what_publish_does(bestsellers: Shop) -> None:
    (decision,) = bestsellers.evaluate_shop().decisions
    manifest = bestsellers.publish()
    assert [one.name for one in manifest.models] == [decision.publish] == ["popularity"]
    assert [(one.name, one.reason) for one in manifest.refused] == list(decision.refused)
    assert decision.settings == "" and decision.cost.milliseconds is not None and not decision.cost.photos


def test_examples_name_nobody_and_show_the_systems_that_the_decision_is_between(bestsellers: Shop) -> None:
    done = bestsellers.evaluate_shop().behaviour
    assert done is not None and 3 <= len(done.examples) <= 5
    for one in done.examples:
        assert one.shopper.startswith("…") and {"popularity", "item_knn"} <= set(one.slates)
        assert all(place <= 6 or right for slate in one.slates.values() for _, place, right in slate)
        assert one.items == {*one.items} and all(item.startswith("tin-") for item in one.items)


def test_where_nothing_can_be_measured_the_reason_is_raised(bestsellers: Shop) -> None:
    """All that was trained is of older data, so there is no page to write."""
    late = {"interaction_id": ["late"], "user_id": ["u001"], "item_id": ["tin-299"], "kind": ["buy"]}
    bestsellers.lake.table("interactions").merge(rows_of("interactions", {**late, "time": [BEGIN]}))
    with pytest.raises(NothingToPublish, match="item_knn was trained on other data"):
        bestsellers.evaluate_shop()
    assert not (bestsellers.folder / "reports" / "shop.html").exists()


def test_a_question_that_cannot_be_measured_does_not_keep_the_others_from_being_decided(
    bestsellers: Shop,
) -> None:
    """It has an embedder of photos, and no photo: the page is written, and the error ends the command."""
    export = bestsellers.exports("image_similarity") / "0001-aaaaaaaa"
    export.mkdir(parents=True)
    (export / "export.json").write_text('{"name": "image_similarity", "model_hash": "a"}', "utf-8")
    done = CliRunner().invoke(
        cli.app, ["evaluate", "--shop", str(bestsellers.folder)], env={"COLUMNS": "200"}
    )
    assert done.exit_code in {TableMissing.exit_code, TooLittleData.exit_code, NothingToPublish.exit_code}
    assert "What would this shopper want? Publish popularity" in done.output
    assert "What is like this? Publish nothing: image_similarity could not be measured: " in done.output
    assert "shop.html" in done.stdout.splitlines()[-1]
    page = (bestsellers.folder / "reports" / "shop.html").read_text("utf-8")
    assert "image_similarity could not be measured" in page


def test_without_a_name_all_that_is_trained_is_judged_in_one_table_and_nothing_is_trained(
    bestsellers: Shop,
) -> None:
    bestsellers.train("buy_again")
    before = {file for file in bestsellers.folder.rglob("export.json")}
    printed = typed(bestsellers, "evaluate")
    assert {file for file in bestsellers.folder.rglob("export.json")} == before
    lines = {line.split("  ")[0].strip(): line for line in printed.splitlines()}
    assert "loses to popularity: not published" in lines["item_knn"]
    assert "beats chance" in lines["popularity"] and {"buy_again", "the funnel", "chance"} <= set(lines)
    assert "popularity finds most: recall_at_20" in printed
    assert any(line.startswith("left out: item_knn loses to popularity: 0.") for line in lines.values())
    report = (bestsellers.folder / "reports" / "behaviour.html").read_text("utf-8")
    assert "Which one?" in report and "item_knn" in report
    for name in ("item_knn", "buy_again", "popularity"):
        assert read_verdict(newest_export(bestsellers.exports(name))) is not None
    manifest = bestsellers.publish()
    assert f"would build the funnel from {', '.join(one.name for one in manifest.models)}" in printed


def test_the_verdict_of_all_is_the_verdict_of_one(bestsellers: Shop) -> None:
    typed(bestsellers, "evaluate")
    together = read_verdict(newest_export(bestsellers.exports("item_knn")))
    typed(bestsellers, "evaluate", "item_knn")
    assert read_verdict(newest_export(bestsellers.exports("item_knn"))) == together


def test_a_network_is_judged_only_where_its_rivals_are_trained(bestsellers_and_network: Shop) -> None:
    bestsellers = bestsellers_and_network
    printed = typed(bestsellers, "evaluate")
    assert "two_tower has figures, and no verdict: it has to beat ease too" in printed
    assert read_verdict(newest_export(bestsellers.exports("two_tower"))) is None
    assert trained(bestsellers) == {"popularity", "item_knn", "two_tower"}
    bestsellers.train("ease")
    assert "does not beat popularity: not published" in typed(bestsellers, "evaluate")
    verdict = read_verdict(newest_export(bestsellers.exports("two_tower")))
    assert verdict is not None and not verdict["passed"]


def test_what_learned_from_older_data_is_named_and_not_compared(bestsellers: Shop) -> None:
    late = {"interaction_id": ["late"], "user_id": ["u001"], "item_id": ["tin-299"], "kind": ["buy"]}
    bestsellers.lake.table("interactions").merge(rows_of("interactions", {**late, "time": [BEGIN]}))
    bestsellers.train("popularity")
    printed = typed(bestsellers, "evaluate")
    assert "item_knn was trained on other data than the tables hold now: `etalage train item_knn`" in printed
    assert "\nitem_knn  " not in printed


def test_a_funnel_that_names_what_was_not_trained_says_so(untasteful: Path, tmp_path: Path) -> None:
    shutil.copytree(untasteful, tmp_path / "copy")
    (tmp_path / "copy" / "shop.toml").write_text(f"{CONFIG}\n[funnel]\nretrievers = {{ials = 50}}\n", "utf-8")
    printed = typed(Shop(tmp_path / "copy"), "evaluate")
    assert "the funnel is not measured: [funnel] retrievers names ials" in printed
    assert "\nitem_knn  " in printed


def test_a_shop_in_which_nothing_was_trained_says_what_to_do(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", tastes=False, users=8)
    with pytest.raises(NothingToPublish, match="etalage train popularity"):
        shop.evaluate_all()
