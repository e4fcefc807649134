"""The MLflow endpoint, really served, against the native server on the same bundle: S0.16–S0.21."""

import base64
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from etalage.client import Client, mlflow_similar
from etalage.errors import RequestError
from etalage.features.photo import PhotoEncoder
from etalage.serve.pyfunc import PINNED, _own_code, log_bundle
from tests.serve.servers import MlflowServer, ThreadServer
from tests.shops import drawn_photo, small_shop

ITEMS = 30


class Logged(NamedTuple):
    uri: str
    tracking: str
    runs: Path
    bundles: Path
    bundle: str


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder = tmp_path_factory.mktemp("shop")
    _, bundles, manifest = small_shop(folder, ITEMS, without_photo=[7], size=12, channels=3)
    (folder / "runs").mkdir()
    tracking = f"sqlite:///{folder / 'runs' / 'mlflow.db'}"
    uri = log_bundle(bundles.path(manifest.id), tracking, "serving", "window")
    return Logged(uri, tracking, folder / "runs", bundles.folder, manifest.id)


@pytest.fixture(scope="module")
def endpoint(logged: Logged, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with MlflowServer(logged.uri, logged.tracking, tmp_path_factory.mktemp("mlflow") / "log") as server:
        yield server.url


def test_it_equals_the_native_server_item_for_item(logged: Logged, endpoint: str) -> None:
    drawn = ((3, 28), (500, 28), (29, 61), (0, 28), (501, 40), (3, 28))
    photos = [drawn_photo(number, size=size) for number, size in drawn]
    for k in (1, 4, 100):
        table = mlflow_similar(endpoint, photos, k=k)
        with ThreadServer(logged.bundles) as server, Client(server.url) as client:
            native = client.similar(photos=photos, k=k)
            alone = [client.similar(photo=photo, k=k).answers[0] for photo in photos]
        assert native.bundle == logged.bundle
        for answers in (native.answers, alone):
            expected = [
                (row, slot.rank, slot.item_id) for row, answer in enumerate(answers) for slot in answer.slate
            ]
            assert [(r.row, r.rank, r.item_id) for r in table] == expected
            scores = [slot.score for answer in answers for slot in answer.slate]
            np.testing.assert_allclose([r.score for r in table], scores, atol=2e-6)
        assert len(table) == len(photos) * min(k, ITEMS - 1)


def test_the_images_are_the_items_photos_in_both_encodings(endpoint: str) -> None:
    encoder = PhotoEncoder(size=12, channels=3)
    as_hex = mlflow_similar(endpoint, [drawn_photo(3)], k=3, image="float32_hex")
    as_png = mlflow_similar(endpoint, [drawn_photo(3)], k=3, image="png")
    without = mlflow_similar(endpoint, [drawn_photo(3)], k=3, image="none")
    assert as_hex[0].item_id == "item-00003"
    for one, other, bare in zip(as_hex, as_png, without, strict=True):
        pixels = encoder.decode(drawn_photo(int(one.item_id[-5:])))
        assert one.image is not None and other.image is not None and bare.image is None
        np.testing.assert_array_equal(one.image, pixels.astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(other.image, one.image)


def invoke(endpoint: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{endpoint}/invocations", json=body, timeout=120)


def test_the_table_has_the_columns_of_the_contract(endpoint: str) -> None:
    text = base64.b64encode(drawn_photo(3)).decode()
    records = invoke(endpoint, dataframe_records=[{"input": text}], params={"k": 2}).json()["predictions"]
    assert [list(row) for row in records] == [["row", "rank", "item_id", "score", "image"]] * 2
    assert [(row["row"], row["rank"]) for row in records] == [(0, 1), (0, 2)]
    split = {"columns": ["input"], "data": [[text]]}
    assert invoke(endpoint, dataframe_split=split, params={"k": 2}).json()["predictions"] == records
    assert len(invoke(endpoint, dataframe_split=split).json()["predictions"]) == 5, "k is 5 if not given"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"dataframe_split": {"columns": ["photo"], "data": [["x"]]}}, "input"),
        ({"dataframe_split": {"columns": ["input"], "data": [[7]]}}, "input"),
        ({"dataframe_split": {"columns": ["input"], "data": [["x"]]}, "params": {"k": "many"}}, "k"),
    ],
)
def test_the_signature_is_enforced(endpoint: str, body: dict[str, Any], says: str) -> None:
    response = invoke(endpoint, **body)
    assert response.status_code == 400 and says in response.json()["message"]


def test_f39_a_bad_row_is_refused_with_its_number(endpoint: str) -> None:
    with pytest.raises(RequestError, match=r"^row 1: not an image"):
        mlflow_similar(endpoint, [drawn_photo(1), b"no image", drawn_photo(2)])
    with pytest.raises(RequestError, match=r"^k = 0"):
        mlflow_similar(endpoint, [drawn_photo(1)], k=0)
    with pytest.raises(RequestError, match=r"^image = 'jpeg'"):
        mlflow_similar(endpoint, [drawn_photo(1)], image="jpeg")


def test_the_logged_model_is_registered_pinned_and_holds_no_pickle(logged: Logged) -> None:
    import mlflow
    from mlflow.models import get_model_info

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(logged.tracking)
    try:
        info = get_model_info(logged.uri)
        folder = Path(mlflow.artifacts.download_artifacts(logged.uri, dst_path=str(logged.runs / "again")))
    finally:
        mlflow.set_tracking_uri(before)
    assert logged.uri == "models:/window/1"
    assert info.metadata == {"bundle": logged.bundle}
    assert info.signature is not None and info.signature.inputs.input_names() == ["input"]
    assert info.signature.outputs.input_names() == ["row", "rank", "item_id", "score", "image"]
    assert {param.name: param.default for param in info.signature.params} == {"k": 5, "image": "png"}
    pins = (folder / "requirements.txt").read_text().split()
    assert pins == [f"{name}=={version(name)}" for name in PINNED]
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == "items.arrow" for file in files), "the bundle is in the artifact"
    assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".joblib", ".pt")]
    starts = {file: file.read_bytes()[:2] for file in files}
    assert not [file for file, start in starts.items() if start[:1] == b"\x80" and start[1:] <= b"\x05"]
    assert "cloudpickle" not in (folder / "MLmodel").read_text()


def test_logging_again_makes_the_next_version(logged: Logged) -> None:
    again = log_bundle(logged.bundles / logged.bundle, logged.tracking, "serving", "window")
    assert again == "models:/window/2"


def test_the_code_that_travels_with_a_model_is_sources_alone() -> None:
    with _own_code() as code:
        assert (code / "serve" / "pyfunc.py").exists()
        assert not [file for file in code.rglob("*") if file.suffix in (".pyc", ".pyo")]
