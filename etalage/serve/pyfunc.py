"""A bundle as an MLflow pyfunc: model and index in one artifact, loaded by this module, no pickle.

    mlflow models serve --env-manager local -m models:/etalage/1

answers `{"dataframe_split": {"columns": ["input"], "data": [[<base64 of an image file>], …]}}`, any
number of rows, with a table `row, rank, item_id, score, image`. Parameters: `k`, and `image`, the
photos' encoding: `png` (base64), `float32_hex` (pixels / 255 as little-endian float32, row by row of
the (H, W, C) image at the model's size, in hex) or `none`.
"""

import base64
import binascii
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from etalage.engine import local
from etalage.errors import RequestError, Unprocessable
from etalage.recommend import Recommender

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("row", "rank", "item_id", "score", "image")
ENCODINGS = ("png", "float32_hex", "none")
DEFAULTS: dict[str, Any] = {"k": 5, "image": "png"}
MAX_K = 1000
PINNED = (
    "faiss-cpu",
    "mlflow",
    "numpy",
    "onnxruntime",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
)
"""What loading and predicting imports; `import etalage` itself travels with the model, as code."""


class BundleModel:
    """Answers tables of photos with tables of items."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def predict(self, data: "pd.DataFrame", params: dict[str, Any] | None = None) -> "pd.DataFrame":
        """One answer per row of the column `input`; rows of the table in order of (row, rank).

        Raises RequestError that names the rows whose photo cannot be read; Unprocessable for k or
        image out of range.
        """
        import pandas as pd

        asked = {**DEFAULTS, **(params or {})}
        k, encoding = int(asked["k"]), str(asked["image"])
        if not 1 <= k <= MAX_K:
            raise Unprocessable(f"k = {k}: 1 to {MAX_K}")
        if encoding not in ENCODINGS:
            raise Unprocessable(f"image = {encoding!r}: one of {', '.join(ENCODINGS)}")
        table: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        photos = _decoded(data["input"].tolist())
        for answer in self._recommender.similar(photos=photos, k=k) if photos else []:
            for slot in answer.slate:
                table["row"].append(answer.row)
                table["rank"].append(slot.rank)
                table["item_id"].append(slot.item_id)
                table["score"].append(slot.score)
                table["image"].append(self._image(slot.item_id, encoding))
        types = {"row": "int64", "rank": "int64", "item_id": "object", "score": "float64", "image": "object"}
        return pd.DataFrame(table).astype(types)

    def _image(self, item_id: str, encoding: str) -> str:
        if encoding == "none":
            return ""
        pixels = self._recommender.embedder.encoder.decode(self._recommender.photo(item_id))
        return encoded(pixels, encoding)


def encoded(pixels_HWC: np.ndarray, encoding: str) -> str:
    """(H, W, C) uint8 as `png` or `float32_hex` text."""
    if encoding == "float32_hex":
        return (pixels_HWC.astype("<f4") / np.float32(255)).astype("<f4").tobytes().hex()
    flat = pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _decoded(texts: list[Any]) -> list[bytes]:
    photos, refused = [], []
    for row, text in enumerate(texts):
        try:
            photos.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, TypeError) as error:
            refused.append(f"row {row}: not base64: {error}")
    if refused:
        raise RequestError("; ".join(refused[:5]))
    return photos


class ServedModel(BundleModel):
    """What MLflow calls: refusals are MLflow's own, whose message its server passes on."""

    def predict(self, data: "pd.DataFrame", params: dict[str, Any] | None = None) -> "pd.DataFrame":
        """As BundleModel.predict. Raises MlflowException, answered with status 400."""
        try:
            return super().predict(data, params)
        except RequestError as error:
            from mlflow.exceptions import MlflowException
            from mlflow.protos.databricks_pb2 import BAD_REQUEST

            raise MlflowException(str(error), error_code=BAD_REQUEST) from error


def _load_pyfunc(data_path: str) -> ServedModel:
    """MLflow's entry: `data_path` is the bundle's folder. Raises BundleDamaged."""
    local.settle(threads=1)
    return ServedModel(Recommender.open(Path(data_path)))


def log_bundle(
    bundle: Path, tracking_uri: str, experiment: str = "etalage", registered_name: str = "etalage"
) -> str:
    """Log the bundle in folder `bundle` to MLflow and register it; `models:/<name>/<version>`.

    The signature is inferred from a real answer, the environment pinned to what is installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature

    recommender = Recommender.open(bundle)
    photo = _example(recommender)
    example = pd.DataFrame({"input": [base64.b64encode(photo).decode()]})
    answer = BundleModel(recommender).predict(example, DEFAULTS)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        with warnings.catch_warnings():
            # MLflow warns of whole numbers, which cannot be missing: ours never are.
            warnings.filterwarnings("ignore", message="Hint: Inferred schema")
            signature = infer_signature(example, answer, params=DEFAULTS)
        _choose(experiment, tracking_uri)
        with mlflow.start_run(run_name=recommender.bundle):
            mlflow.set_tags({"bundle": recommender.bundle, "model_hash": recommender.embedder.model_hash})
            logged = mlflow.pyfunc.log_model(
                name="bundle",
                loader_module="etalage.serve.pyfunc",
                data_path=str(bundle),
                code_paths=[str(Path(__file__).resolve().parents[1])],
                pip_requirements=pinned(),
                signature=signature,
                input_example=(example, DEFAULTS),
                metadata={"bundle": recommender.bundle},
                registered_model_name=registered_name,
            )
    finally:
        mlflow.set_tracking_uri(before)
    return f"models:/{registered_name}/{logged.registered_model_version}"


def pinned() -> list[str]:
    """`name==version` of everything that the model needs, as installed here."""
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in PINNED]


def _choose(experiment: str, tracking_uri: str) -> None:
    """Make `experiment` the active one; a new one keeps its files beside a sqlite store."""
    import mlflow

    if mlflow.get_experiment_by_name(experiment) is None:
        beside = None
        if tracking_uri.startswith("sqlite:///"):
            beside = (Path(tracking_uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
        mlflow.create_experiment(experiment, artifact_location=beside)
    mlflow.set_experiment(experiment)


def _example(recommender: Recommender) -> bytes:
    """The photo of the first item that has one; a white one where none has."""
    rows = np.flatnonzero(recommender.catalogue.has_photo)
    if len(rows):
        return recommender.catalogue.photo(int(rows[0]))
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 255).save(buffer, "PNG")
    return buffer.getvalue()
