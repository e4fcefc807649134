"""The funnel and the ranker as MLflow models, against the recommender on the same bundle: S2.18, S3.12."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pandas as pd
import pytest

from etalage.api import Act
from etalage.client import mlflow_recommend
from etalage.errors import RequestError, Unprocessable
from etalage.online import open_live
from etalage.recommend import Recommender
from etalage.serve.pyfunc import BundleModel, log_bundle
from tests.serve.servers import MlflowServer


class Logged(NamedTuple):
    bundle: Path
    live: Path
    tracking: str
    recommend: str
    rank: str


@pytest.fixture(scope="module")
def logged(shoppers_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder = tmp_path_factory.mktemp("funnel")
    bundle = shoppers_shop / (shoppers_shop / "current").read_text().strip()
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    uris = [log_bundle(bundle, tracking, "funnel", f"shop_{task}", task) for task in ("recommend", "rank")]
    return Logged(bundle, shoppers_shop.parent / "live" / "events.sqlite", tracking, *uris)


@pytest.fixture(scope="module")
def recommender(logged: Logged) -> Recommender:
    return Recommender.open(logged.bundle)


def test_the_served_funnel_equals_the_recommender_item_for_item(
    logged: Logged, recommender: Recommender, tmp_path: Path
) -> None:
    history = [Act("item-00010", "buy"), Act("item-00016", "view", None, 1_700_000_000_000_000)]
    shoppers: list[str | list[Act]] = ["user-1", history, "nobody", []]
    live = open_live(logged.live)
    expected = []
    for row, shopper in enumerate(shoppers):
        from etalage.online import Act as Kept

        found = (
            recommender.recommend(user_id=shopper, k=4, explain=True, live=live)
            if isinstance(shopper, str)
            else recommender.recommend(
                history=[Kept(act.item_id, act.kind, act.value, act.time) for act in shopper],
                k=4,
                explain=True,
            )
        )
        expected += [(row, slot.rank, slot.item_id, slot.why) for slot in found.slate]
    live.close()
    log = tmp_path / "log"
    with MlflowServer(logged.recommend, logged.tracking, log, ETALAGE_LIVE=str(logged.live)) as server:
        rows = mlflow_recommend(server.url, shoppers, k=4)
        assert [(row.row, row.rank, row.item_id, row.why) for row in rows] == expected
        assert "because you bought Piece 10" in {row.why for row in rows if row.row == 1}
        with pytest.raises(RequestError, match=r"^row 1: neither user_id nor history"):
            send(server, [{"user_id": "a"}, {"user_id": None}])
        with pytest.raises(RequestError, match=r"^row 0: history\.1"):
            send(server, [{"history": '["item-00001", 7]'}])
        with pytest.raises(RequestError, match="user_id"):
            send(server, [{"user_id": 7}])
        with pytest.raises(RequestError, match=r"^k = 0"):
            mlflow_recommend(server.url, ["user-1"], k=0)


def send(server: MlflowServer, records: list[dict[str, Any]]) -> None:
    response = httpx.post(f"{server.url}/invocations", json={"dataframe_records": records}, timeout=120)
    if response.status_code == 400:
        raise RequestError(str(response.json()["message"]).split("\nError: ")[-1])


def test_the_ranker_alone_gives_score_and_probability_of_pairs(
    logged: Logged, recommender: Recommender
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(logged.tracking)
    try:
        model = mlflow.pyfunc.load_model(logged.rank)
        info = mlflow.models.get_model_info(logged.rank)
        slates = mlflow.models.get_model_info(logged.recommend)
    finally:
        mlflow.set_tracking_uri(before)
    pairs = [("user-1", "item-00038"), ("nobody", "item-00002"), ("user-1", "item-00003")]
    found = model.predict(pd.DataFrame(pairs, columns=["user_id", "item_id"]))
    ranked = recommender.rank(pairs)
    assert found["score"].tolist() == pytest.approx([one.score for one in ranked])
    chances = [None if one.probability is None else pytest.approx(one.probability) for one in ranked]
    assert [None if pd.isna(value) else value for value in found["probability"]] == chances
    assert chances[0] is not None and chances[1] is None
    assert info.signature is not None and slates.signature is not None
    assert info.signature.inputs.input_names() == ["user_id", "item_id"]
    assert info.signature.inputs.required_input_names() == ["user_id", "item_id"]
    assert slates.signature.inputs.input_names() == ["user_id", "history"]
    assert slates.signature.inputs.required_input_names() == [], "either will do"
    assert slates.signature.outputs.input_names() == ["row", "rank", "item_id", "score", "why"]
    with pytest.raises(Exception, match="item_id"):
        model.predict(pd.DataFrame({"user_id": ["user-1"]}))


def test_a_logged_funnel_holds_no_pickle_and_knows_its_task(logged: Logged, tmp_path: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(logged.tracking)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(logged.recommend, dst_path=str(tmp_path)))
    finally:
        mlflow.set_tracking_uri(before)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".joblib", ".pt")]
    assert "task: recommend" in (folder / "MLmodel").read_text()


@pytest.mark.parametrize(
    ("history", "says"),
    [
        ("{}", "history: a JSON list"),
        ("[", "history: not JSON"),
        (json.dumps(["a"] * 1001), "history: a JSON list of at most 1000"),
        ('[{"kind": "buy"}]', r"history\.0: item_id and kind"),
        ('[{"item_id": "a", "price": 1}]', r"history\.0: an item_id, or an object"),
        ('["a", {"item_id": "a", "value": NaN}]', r"history\.1\.value"),
        ('[{"item_id": "a", "value": true}]', r"history\.0\.value"),
        ('[{"item_id": "a", "time": 1.5}]', r"history\.0\.time"),
    ],
)
def test_a_history_that_is_none_is_refused_with_its_place(
    recommender: Recommender, history: str, says: str
) -> None:
    model = BundleModel(recommender, "recommend")
    good = json.dumps(["item-00001"])
    with pytest.raises(RequestError, match=f"^row 1: {says}"):
        model.predict(pd.DataFrame({"history": [good, history]}))


def test_a_task_that_the_bundle_cannot_do_is_refused(recommender: Recommender, tmp_path: Path) -> None:
    from tests.shops import behaviour_shop

    with pytest.raises(Unprocessable, match="task = 'guess': there are: similar, recommend, rank"):
        BundleModel(recommender, "guess")
    _, bundles, manifest = behaviour_shop(tmp_path / "shop", 20)
    plain = Recommender.open(bundles.path(manifest.id))
    with pytest.raises(Unprocessable, match="no model of photos"):
        BundleModel(plain, "similar")
    rows = BundleModel(plain).predict(pd.DataFrame({"user_id": ["nobody"]}), {"k": 3})
    assert rows["rank"].tolist() == [1, 2, 3], "without photos, the task is `recommend`"
