"""The classifier as an MLflow endpoint, really served, against the native server on the same bundle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from etalage.api import ToClassify
from etalage.client import Client, mlflow_classify
from etalage.errors import RequestError, Unprocessable
from etalage.recommend import Recommender
from etalage.serve.pyfunc import BundleModel, log_bundle
from etalage.shop import Shop
from tests.category_exports import classified_shop, coloured
from tests.serve.servers import MlflowServer, ThreadServer
from tests.shops import small_shop

QUESTIONS: list[tuple[bytes | None, str | None]] = [
    (coloured("21", 1), None),
    (None, "Oat milk 1 l"),
    (coloured("50", 2), "A dress"),
    (None, "Xyzzy"),
    (coloured("300", 3), "apple"),
]


class Logged(NamedTuple):
    uri: str
    tracking: str
    shop: Shop


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    shop = classified_shop(tmp_path_factory.mktemp("shop"))
    shop.classify()
    manifest = shop.publish()
    shop.runs.mkdir(exist_ok=True)
    tracking = f"sqlite:///{shop.runs / 'mlflow.db'}"
    uri = log_bundle(shop.bundles.path(manifest.id), tracking, "serving", "categories", "classify")
    return Logged(uri, tracking, shop)


@pytest.fixture(scope="module")
def endpoint(logged: Logged, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with MlflowServer(logged.uri, logged.tracking, tmp_path_factory.mktemp("mlflow") / "log") as server:
        yield server.url


@pytest.mark.parametrize("threshold", [None, 0.2, 0.97])
def test_it_equals_the_native_server(logged: Logged, endpoint: str, threshold: float | None) -> None:
    rows = mlflow_classify(endpoint, QUESTIONS, threshold)
    asked = [ToClassify([photo] if photo else [], title) for photo, title in QUESTIONS]
    with ThreadServer(logged.shop.bundles.folder) as server, Client(server.url) as client:
        native = client.classify(asked, threshold=threshold).answers
    assert [row.row for row in rows] == [0, 1, 2, 3, 4]
    told = [(row.category_id, row.path) for row in rows]
    assert told == [(one.category_id, one.path) for one in native]
    assert [row.confidence for row in rows] == pytest.approx([one.confidence for one in native], abs=2e-6)
    assert (told[3] == (None, None)) == (threshold != 0.2), (
        "0.25 is what it says of a word that it does not know"
    )


def invoke(endpoint: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{endpoint}/invocations", json=body, timeout=120)


def test_the_table_has_the_columns_of_the_contract_and_either_column_may_be_missing(endpoint: str) -> None:
    found = invoke(endpoint, dataframe_records=[{"title": "juice"}]).json()["predictions"]
    assert [list(row) for row in found] == [["row", "category_id", "path", "confidence"]]
    assert found[0]["path"] == "Food > Drinks > Juice"
    found = invoke(endpoint, dataframe_records=[{"title": None}, {"title": "juice"}]).json()["predictions"]
    assert (found[0]["category_id"], found[0]["path"]) == ("", "")
    (nothing,) = mlflow_classify(endpoint, [(None, None)])
    assert (nothing.category_id, nothing.path, nothing.confidence) == (None, None, None)
    (row,) = mlflow_classify(endpoint, [(coloured("21"), None)])
    assert row.path == "Food > Apples"


def test_f39_a_bad_row_is_refused_with_its_number(endpoint: str) -> None:
    with pytest.raises(RequestError, match=r"^row 2: not an image"):
        mlflow_classify(endpoint, [(coloured("21"), None), (None, "milk"), (b"no image", None)])
    text = invoke(endpoint, dataframe_records=[{"title": "milk"}, {"input": "*", "title": "x"}]).json()
    assert "row 1: not base64" in text["message"]
    with pytest.raises(RequestError, match=r"^threshold = 1\.5: 0 to 1"):
        mlflow_classify(endpoint, [(None, "milk")], 1.5)


def test_the_signature_is_the_tables(logged: Logged) -> None:
    import mlflow
    from mlflow.models import get_model_info

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(logged.tracking)
    try:
        signature = get_model_info(logged.uri).signature
    finally:
        mlflow.set_tracking_uri(before)
    assert signature is not None
    assert (
        signature.inputs.input_names() == ["input", "title"] and signature.inputs.required_input_names() == []
    )
    assert signature.outputs.input_names() == ["row", "category_id", "path", "confidence"]
    assert {param.name: param.default for param in signature.params} == {"threshold": 0.5}


def test_a_bundle_of_a_classifier_alone_is_for_that_and_one_without_cannot(tmp_path: Path) -> None:
    shop = classified_shop(tmp_path / "alone", 8, photos=False)
    shop.publish()
    assert BundleModel(shop.recommender()).table.defaults == {"threshold": 0.5}
    _, bundles, manifest = small_shop(tmp_path / "photos", 10)
    with pytest.raises(Unprocessable, match="no classifier"):
        BundleModel(Recommender.open(bundles.path(manifest.id)), "classify")
