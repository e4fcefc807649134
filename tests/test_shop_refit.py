"""What the gate judged on a part of the acts is published as it was trained again on all of them."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from etalage import Shop
from etalage.bundle.manifest import Manifest, ModelEntry
from etalage.cli import app
from etalage.features.behaviour import BehaviourSet
from etalage.models.matrix_factorisation import RECIPE
from etalage.models.recipe import TrainingConfig
from etalage.runtime.export_files import newest_export, read_facts, write_verdict
from etalage.shop import refit_check
from etalage.shop.behaviour_steps import behaviour
from etalage.shop.refit_training import again_config, best_epoch
from tests.test_shop_behaviour import fill

MODEL = "matrix_factorisation"
CONFIG = """
name = "Cups"
[behaviour]
repeat = true
[funnel]
seen = "keep"
retrievers = {popularity = 40, matrix_factorisation = 40}
[evaluate]
bootstrap = 200
[models.matrix_factorisation]
dimension = 8
epochs = 4
schedule = "cosine"
batch_size = 512
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, and passed by a gate that lets it in whatever it found."""
    folder = tmp_path_factory.mktemp("refit") / "shop"
    folder.mkdir()
    (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    shop = Shop(folder)
    fill(shop)
    shop.train("popularity")
    _, export = shop.train(MODEL)
    write_verdict(export, {"passed": True, "rows": [], "model_hash": read_facts(export)["model_hash"]})
    return folder


@pytest.fixture
def shop(judged: Path, tmp_path: Path) -> Shop:
    shutil.copytree(judged, tmp_path / "shop")
    return Shop(tmp_path / "shop")


@pytest.fixture(scope="module")
def published(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "shop"
    shutil.copytree(judged, folder)
    Shop(folder).publish()
    return folder


def entry(manifest: Manifest, name: str = MODEL) -> ModelEntry:
    return next(one for one in manifest.models if one.name == name)


def facts_of(shop: Shop, *more: str) -> dict[str, Any]:
    return read_facts(newest_export(shop.exports(MODEL).joinpath(*more)))


def current(folder: Path) -> ModelEntry:
    shop = Shop(folder)
    return entry(shop.bundles.manifest(shop.bundles.current_id()))


# -- what is served ----------------------------------------------------------------------------


def test_what_is_served_learned_from_all_acts_as_long_as_the_judged_one_did(published: Path) -> None:
    shop = Shop(published)
    judged, again, served = facts_of(shop), facts_of(shop, "everything"), current(published)
    assert served.hash == again["model_hash"] != judged["model_hash"] == again["judged"]
    assert served.fitted_on == "everything" and served.as_judged is None
    acts = behaviour(shop, whole=True).data.part("train")
    assert served.refit is not None and served.refit.judged == judged["model_hash"]
    assert served.refit.interactions == len(acts) == again["learned_from"]["interactions"]
    assert len(again["history"]) == served.refit.epochs == best_epoch(judged)
    changed = {"stop_after"} if best_epoch(judged) < judged["config"]["epochs"] else set()
    assert {k for k, v in again["config"].items() if judged["config"][k] != v} == changed


def test_publishing_again_trains_nothing_while_the_acts_stay(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "shop")
    before = current(tmp_path / "shop")
    runs = sorted((tmp_path / "shop" / "runs" / MODEL).iterdir())
    assert entry(Shop(tmp_path / "shop").publish()).hash == before.hash
    assert sorted((tmp_path / "shop" / "runs" / MODEL).iterdir()) == runs


def test_it_is_said_where_people_look(published: Path) -> None:
    shop, served = Shop(published), current(published)
    assert served.refit is not None
    said = (
        f"{MODEL} was trained again on everything on {served.refit.at[:10]}, with the settings judged as "
        f"{facts_of(shop)['model_hash'][:8]}"
    )
    status = CliRunner().invoke(app, ["status", "--shop", str(published)])
    assert said in status.stdout.replace("\n", " "), status.stdout
    found = next(one for one in shop.status().models if one.name == MODEL)
    assert (found.published, found.learned) == ("yes", said)
    (told,) = [one for one in shop.recommender().facts.models if one.name == MODEL]
    assert (told.hash, told.judged, told.told) == (served.hash, served.refit.judged, said)


def test_a_sync_and_a_rollback_serve_what_was_trained_again(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "shop")
    shop, before = Shop(tmp_path / "shop"), current(published)
    shop.lake.table("items").merge(changed_item(shop))
    done = shop.sync()
    assert done.manifest is not None and entry(done.manifest).hash == before.hash
    assert entry(done.manifest).refit == before.refit
    shop.rollback()
    assert shop.recommender().facts.models


def changed_item(shop: Shop) -> Any:
    """One item, under another title."""
    one = shop.lake.table("items").read().slice(0, 1)
    return one.set_column(one.column_names.index("title"), "title", [["Another cup"]])


# -- what is not -------------------------------------------------------------------------------


def test_as_judged_and_the_setting_leave_it_as_the_gate_saw_it(shop: Shop) -> None:
    judged = facts_of(shop)["model_hash"]
    served = entry(shop.publish(as_judged=True))
    assert (served.hash, served.fitted_on, served.as_judged) == (judged, None, "--as-judged")
    (shop.folder / "shop.toml").write_text(f'{CONFIG}[publish]\nrefit = "closed_form"\n', encoding="utf-8")
    manifest = Shop(shop.folder).publish()
    assert entry(manifest).as_judged == '[publish] refit = "closed_form"'
    assert entry(manifest, "popularity").fitted_on == "everything"


def test_what_its_gate_keeps_out_is_not_trained_again(shop: Shop) -> None:
    export = newest_export(shop.exports(MODEL))
    verdict = {"passed": False, "rows": [], "model_hash": read_facts(export)["model_hash"]}
    write_verdict(export, verdict)
    assert [one.name for one in shop.publish().refused] == [MODEL]
    assert not (shop.exports(MODEL) / "everything").exists()


def test_what_came_out_broken_gives_way_to_what_was_judged(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its factors are drawn anew when it has gone through everything: it knows nothing."""
    from etalage.training import loop

    restored = loop._Fitting.restore_best

    def broken(fitting: Any) -> None:
        restored(fitting)
        for weights in fitting.network.parameters():
            weights.data.normal_()

    monkeypatch.setattr(loop._Fitting, "restore_best", broken)
    served = entry(shop.publish())
    assert served.hash == facts_of(shop)["model_hash"] and served.fitted_on is None
    assert served.as_judged is not None and "whose acts it has seen" in served.as_judged
    assert served.as_judged in caplog.text
    assert not list((shop.exports(MODEL) / "everything").glob("[0-9]*"))


def test_a_training_that_diverges_gives_way_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etalage.training.loop.clip_norm", lambda *given: torch.tensor(float("nan")))
    served = entry(shop.publish())
    assert served.fitted_on is None and "LossNotFinite" in str(served.as_judged)


# -- a training that is stopped ----------------------------------------------------------------


def test_one_that_was_stopped_goes_on_at_its_checkpoint_and_ends_alike(
    shop: Shop, published: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from etalage.training import loop

    remember, done = loop._Fitting._checkpoint, []

    def stop(fitting: Any) -> None:
        remember(fitting)
        done.append(fitting)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._Fitting, "_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            shop.publish()
    assert shop.bundles.survey() == [] and done
    with caplog.at_level(logging.INFO):
        served = entry(shop.publish())
    assert "resumed at step" in caplog.text
    assert served.hash == current(published).hash


# -- how long ----------------------------------------------------------------------------------


def facts_with(best: int, config: TrainingConfig) -> dict[str, Any]:
    history = [{"loss": 1.0 / n, "ndcg_at_10": 0.1 + 0.01 * (n == best)} for n in range(1, config.epochs + 1)]
    facts = {"history": history, "metrics": history[best - 1], "learned_from": {"interactions": 1000}}
    found: dict[str, Any] = json.loads(json.dumps(facts))
    return found


def test_it_stops_where_the_judged_one_was_best_on_the_same_schedule() -> None:
    config = RECIPE.config(epochs=10, schedule="cosine")
    assert again_config(config, facts_with(4, config), 1500) == RECIPE.config(
        epochs=10, schedule="cosine", stop_after=4
    )
    assert again_config(config, facts_with(10, config), 1500) == config


def test_steps_that_were_given_grow_as_the_acts_do() -> None:
    config = RECIPE.config(epochs=10, steps_per_epoch=20)
    assert again_config(config, facts_with(10, config), 1500).steps_per_epoch == 30


def test_the_check_asks_the_judged_one_by_its_own_ids(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shop has more items and shoppers now than either of the two knew: they do as well as before."""
    shop = Shop(published)
    whole = behaviour(shop, whole=True).data
    judged = newest_export(shop.exports(MODEL))
    again = newest_export(shop.exports(MODEL) / "everything")
    values: list[np.ndarray] = []
    kept = refit_check._values

    def note(*given: Any) -> np.ndarray:
        values.append(kept(*given))
        return values[-1]

    monkeypatch.setattr(refit_check, "_values", note)
    assert refit_check.why_worse(shop, judged, again, whole) is None
    before = values.copy()
    values.clear()
    assert refit_check.why_worse(shop, judged, again, moved(whole)) is None
    assert [one.mean() for one in values] == pytest.approx([one.mean() for one in before])


def moved(whole: BehaviourSet) -> BehaviourSet:
    """The same acts, where other items and shoppers come before and between them."""
    from dataclasses import replace

    from etalage.features.vocabulary import Vocabulary

    items = Vocabulary.fit([*whole.items.ids.to_pylist(), "a-first", "cup-010-b"])
    users = Vocabulary.fit([*whole.users.ids.to_pylist(), "a-first", "u010-b"])
    to_item = np.append(0, items.rows(whole.items.ids))
    to_user = np.append(0, users.rows(whole.users.ids))
    train = whole.part("train")
    train = replace(train, items=to_item[train.items], users=to_user[train.users])
    return replace(whole, items=items, users=users, parts={**whole.parts, "train": train})
