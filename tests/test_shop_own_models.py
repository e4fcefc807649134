"""A shop's own models, a closed-form one and an embedder, live as ours do, by nothing but their files."""

import hashlib
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from etalage import Shop
from etalage.cli import app
from etalage.errors import ConfigError, NothingToPublish, NotTrusted
from etalage.lake.delta import Lake
from etalage.models.own import SOURCE
from etalage.runtime.export_files import newest_export, read_facts, read_verdict
from tests.own_models import TINY, put, shown, trust
from tests.ports import free_port
from tests.serve.servers import until
from tests.shops import rows_of
from tests.test_cli import environment, typed

pytestmark = pytest.mark.timeout(900)
CUPS, SHOPPERS = 60, 300
CONFIG = """
name = "Cups"
[evaluate]
retrieval_metric = "ndcg_at_10"
bootstrap = 200
slices = {fossil = "all"}
[funnel]
retrievers = {also_bought = 40, fossil = 40, popularity = 40}
[models.item_knn]
search = false
[models.also_bought]
shrink = 2.0
[models.fossil]
workers = 2
epochs = 12
"""


def fill(lake: Lake) -> None:
    """Shoppers who mostly take the next cup of a series, from any cup on."""
    draw = random.Random(1)
    acts = []
    for user in range(SHOPPERS):
        cup, time = draw.randrange(CUPS), datetime(2026, 1, 1, tzinfo=UTC)
        time += timedelta(hours=draw.randrange(1500))
        for _ in range(draw.randrange(5, 14)):
            acts.append(
                {
                    "interaction_id": f"{len(acts)}", "user_id": f"u{user:03d}", "item_id": f"cup-{cup:02d}",
                    "kind": "buy", "time": time,
                }
            )  # fmt: skip
            cup = (cup + draw.choice([1, 1, 1, 2, 2, draw.randrange(CUPS)])) % CUPS
            time += timedelta(hours=draw.randrange(1, 100))
    cups = [{"item_id": f"cup-{n:02d}", "title": f"Cup {n}"} for n in range(CUPS)]
    for name, rows in (("items", cups), ("interactions", acts)):
        every = [dict.fromkeys(lake.table(name).spec.schema.names) | row for row in rows]
        lake.table(name).merge(rows_of(name, every))


def code_of_etalage(project: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted((project / "etalage").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Any:
    """Trained, evaluated and published, with two models of its own beside popularity, item_knn and EASE."""
    state, folder = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("own") / "shop"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        before = code_of_etalage(project)
        folder.mkdir()
        (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
        put(folder, shown("also_bought", "fossil"))
        fill(Shop(folder).lake)
        trust(folder)
        shop = Shop(folder)
        for model in ("popularity", "item_knn", "ease", "also_bought", "fossil"):
            shop.train(model)
        for model in ("also_bought", "fossil"):
            shop.evaluate(model)
        shop.publish()
        assert code_of_etalage(project) == before
        yield folder


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Shop:
    """A copy, trusted anew: trust is of the folder."""
    shutil.copytree(built, tmp_path / "shop")
    trust(tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_the_closed_form_model_is_judged_like_ours(shop: Shop) -> None:
    verdict = read_verdict(newest_export(shop.exports("also_bought")))
    assert verdict is not None and verdict["passed"], verdict
    assert [row["system"] for row in verdict["rows"] if row["system"] != "chance"] == [
        "also_bought",
        "popularity",
    ]


def test_the_embedder_that_two_workers_trained_beats_the_simple_ones(shop: Shop) -> None:
    export = newest_export(shop.exports("fossil"))
    verdict, facts = read_verdict(export), read_facts(export)
    assert verdict is not None and verdict["passed"], verdict
    assert facts["config"]["workers"] == 2
    assert {"popularity", "item_knn", "ease"} <= {row["system"] for row in verdict["rows"]}
    assert (export / "query.onnx").exists() or list(export.glob("*query*.onnx"))


def test_the_export_says_which_file_it_is_of(shop: Shop) -> None:
    for name in ("also_bought", "fossil"):
        content = (shop.folder / "models" / f"{name}.py").read_bytes()
        assert read_facts(newest_export(shop.exports(name)))[SOURCE] == hashlib.sha256(content).hexdigest()
    assert SOURCE not in read_facts(newest_export(shop.exports("popularity")))


def test_both_are_published_and_answer(shop: Shop) -> None:
    recommender = shop.recommender()
    assert {"also_bought", "fossil"} <= {one.name for one in recommender.manifest.models}
    assert not recommender.manifest.refused and not recommender.manifest.forced
    with shop.live_store() as live:
        answer = recommender.recommend(user_id="u007", k=5, explain=True, live=live)
    assert len(answer.slate) == 5 and answer.tier == "deep"
    assert {"also_bought", "fossil", "popularity"} <= set(answer.trace["retrievers"])


def test_the_embedder_is_published_as_two_workers_trained_it_again_on_everything(shop: Shop) -> None:
    (served,) = [one for one in shop.recommender().manifest.models if one.name == "fossil"]
    judged = read_facts(newest_export(shop.exports("fossil")))
    assert served.fitted_on == "everything" and served.as_judged is None
    assert served.refit is not None and served.refit.judged == judged["model_hash"] != served.hash


def test_the_closed_form_model_is_published_as_fitted_on_everything(shop: Shop) -> None:
    published = {one.name: one.hash for one in shop.recommender().manifest.models}
    everything = newest_export(shop.exports("also_bought") / "everything")
    facts = read_facts(everything)
    assert facts["fitted_on"] == "everything" and facts["model_hash"] == published["also_bought"]
    assert facts[SOURCE] == read_facts(newest_export(shop.exports("also_bought")))[SOURCE]


def test_all_together_names_them(shop: Shop) -> None:
    done = shop.evaluate_all()
    assert {"also_bought", "fossil"} <= {row.system for row in done.rows}
    assert {"also_bought", "fossil"} <= {*done.members}


def test_its_settings_are_checked_like_ours(shop: Shop) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'neighbors'; did you mean 'neighbours'"):
        shop.train("also_bought", {"neighbors": "3"})


def test_a_name_near_one_of_the_shops_own_is_told(shop: Shop) -> None:
    (shop.folder / "shop.toml").write_text(CONFIG.replace("fossil = 40", "fosil = 40"), "utf-8")
    with pytest.raises(ConfigError, match="no retriever 'fosil'; did you mean 'fossil'"):
        _ = Shop(shop.folder).config


# -- what is edited ----------------------------------------------------------------------------


def edit(shop: Shop, name: str, before: str, after: str) -> None:
    file = shop.folder / "models" / f"{name}.py"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_an_edited_model_is_trained_anew_and_not_found_done(shop: Shop) -> None:
    """Config and data are as before: only the file's hash tells that the weights are not of it."""
    short = {"workers": "1", "epochs": "1"}
    old = shop.train("fossil", short)[1]
    edit(shop, "fossil", "std=0.1", "std=0.2")
    with pytest.raises(NotTrusted, match=r"fossil\.py: this file changed"):
        shop.train("fossil", short)
    trust(shop.folder)
    new = shop.train("fossil", short)[1]
    assert new != old and read_facts(new)["data"] == read_facts(old)["data"]


def test_what_was_edited_since_it_was_judged_is_published_as_it_was_judged(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    edit(shop, "also_bought", "+ self.config.shrink", "+ 2 * self.config.shrink")
    with caplog.at_level(logging.WARNING):
        manifest = shop.publish()  # nobody trusted the file as it is now, and nothing of it is run
    judged = read_facts(newest_export(shop.exports("also_bought")))["model_hash"]
    assert {one.name: one.hash for one in manifest.models}["also_bought"] == judged
    assert "also_bought is published as it was judged" in caplog.text and "changed since" in caplog.text


def test_one_whose_file_is_gone_is_named_by_evaluate_publish_and_the_list(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    file = shop.folder / "models" / "also_bought.py"
    file.unlink()
    config = CONFIG.replace("also_bought = 40, ", "").replace("[models.also_bought]\nshrink = 2.0\n", "")
    (shop.folder / "shop.toml").write_text(config, encoding="utf-8")
    done = Shop(shop.folder).evaluate_all()
    assert "also_bought" not in {row.system for row in done.rows}
    exports = shop.exports("also_bought")
    (note,) = [note for note in done.notes if "also_bought" in note]
    assert f"its file {file} is gone" in note and f"put it back, or remove its exports, {exports}" in note
    assert note in (done.report or file).read_text("utf-8").replace("&#39;", "'")
    Shop(shop.folder).publish(force=True)
    assert note in caplog.text
    listed = CliRunner().invoke(app, ["models", "--shop", str(shop.folder)])
    assert listed.exit_code == 0 and note in " ".join(listed.output.split())
    shutil.rmtree(exports)
    assert Shop(shop.folder).orphan_exports() == []


def test_one_that_funnel_names_and_whose_file_is_gone_stops_publish(shop: Shop) -> None:
    (shop.folder / "models" / "fossil.py").unlink()
    with pytest.raises(ConfigError, match=r"\[funnel\]: no model 'fossil'"):
        Shop(shop.folder).publish()


def test_a_sync_needs_no_file_of_them(shop: Shop) -> None:
    shutil.rmtree(shop.folder / "models")
    new = {"item_id": "cup-new", "title": "Another cup"}
    table = shop.lake.table("items")
    table.merge(rows_of("items", [dict.fromkeys(table.spec.schema.names) | new]))
    done = Shop(shop.folder).sync()
    assert done.manifest is not None and done.upserted == 1
    assert {"also_bought", "fossil"} <= {one.name for one in done.manifest.models}


def test_one_that_was_not_trained_is_named_when_it_is_published(shop: Shop) -> None:
    put(shop.folder, {"tiny.py": TINY})
    text = CONFIG.replace("popularity = 40", "popularity = 40, tiny = 40")
    (shop.folder / "shop.toml").write_text(text, "utf-8")
    with pytest.raises(NothingToPublish, match="names tiny, which was not trained: `etalage train tiny`"):
        Shop(shop.folder).publish()


def test_nothing_of_an_untrusted_copy_is_run(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "copy")
    for step in ("train", "evaluate"):
        with pytest.raises(NotTrusted, match="etalage trust"):
            getattr(Shop(tmp_path / "copy"), step)("also_bought")


@pytest.mark.slow
def test_processes_that_torchrun_starts_train_it(shop: Shop) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--no-python", str(Path(sys.executable).with_name("etalage")), "train", "fossil"]
    command += ["--shop", str(shop.folder), "--set", "epochs=1"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_facts(newest_export(shop.exports("fossil")))["config"]["epochs"] == 1


# -- serving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["poisoned", "not Python", "absent"])
def test_a_server_never_reads_the_folder(shop: Shop, tmp_path: Path, how: str) -> None:
    """Even where somebody trusts it: what is served lies in the bundle."""
    mark, models = tmp_path / "ran", shop.folder / "models"
    if how == "absent":
        shutil.rmtree(models)
    else:
        first = "" if how == "poisoned" else "def half(:\n"
        poison = f"{first}open({str(mark)!r}, 'w').write('ran')\nraise SystemExit('ran')\n"
        for file in models.glob("*.py"):
            file.write_text(poison + file.read_text(encoding="utf-8"), encoding="utf-8")
        if how == "poisoned":
            trust(shop.folder)
    port = free_port()
    command = [str(Path(sys.executable).with_name("etalage")), "serve", "--port", str(port)]
    started = subprocess.Popen(
        command, cwd=shop.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )

    def is_up() -> bool:
        assert started.poll() is None, started.stderr and started.stderr.read().decode()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        until(is_up)
        asked = {"user_id": "u007", "k": 5, "explain": True}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/recommend", json=asked, trust_env=False)
    finally:
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=240)
    assert answer.is_success and "fossil" in json.dumps(answer.json())
    said = typed("recommend", "u007", "--shop", shop.folder)
    assert said.status == 0 and "cup-" in said.out
    assert not mark.exists()


# -- the commands ------------------------------------------------------------------------------


def test_models_and_help_list_the_shops_own(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = CliRunner().invoke(app, ["models", "--shop", str(shop.folder)])
    assert listed.exit_code == 0 and "item_knn" in listed.output and "fossil.py (trusted)" in listed.output
    monkeypatch.setenv("ETALAGE_SHOP", str(shop.folder))
    assert "The shop's own: also_bought, fossil" in CliRunner().invoke(app, ["train", "--help"]).output
    with pytest.raises(ConfigError, match="no model 'fosil'; did you mean 'fossil'"):
        shop.train("fosil")


def test_trust_shows_the_files_asks_and_can_be_taken_back(shop: Shop) -> None:
    def said(*words: str, answer: str | None = None) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["trust", "--shop", str(shop.folder), *words], input=answer)
        return done.exit_code, done.output

    edit(shop, "fossil", "std=0.1", "std=0.2")
    sha256 = hashlib.sha256((shop.folder / "models" / "fossil.py").read_bytes()).hexdigest()
    for answer in (None, "n\n"):
        status, text = said(answer=answer)
        assert status == 1 and "changed" in text and sha256 in text
        assert [one.state for one in shop.own_files()] == ["trusted", "changed"]
    assert said(answer="y\n")[0] == 0
    assert [one.state for one in shop.own_files()] == ["trusted", "trusted"]
    assert "all files are trusted already" in said()[1]
    assert said("--forget")[0] == 0
    assert [one.state for one in shop.own_files()] == ["new", "new"]
    assert said("--yes")[0] == 0 and {one.state for one in shop.own_files()} == {"trusted"}


def test_an_error_of_the_command_names_file_and_remedy(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "copy")
    done = typed("train", "fossil", "--shop", tmp_path / "copy")
    assert done.status == 2 and done.out == ""
    assert "fossil.py: this file is not trusted yet" in done.err and "etalage trust --shop" in done.err
