"""A bundle as an MLflow pyfunc: models and indexes in one artifact, loaded by this module, no pickle.

    etalage register          (or `log_bundle` below)
    mlflow models serve --env-manager local -m models:/etalage/1

A logged model does one task, which is chosen when it is logged, for each has a signature of its own:

`similar` (of a bundle with photos, where it is what is meant if nothing is said)
    {"dataframe_split": {"columns": ["input"], "data": [[<base64 of an image file>], …]}}
    → row, rank, item_id, score, image. Parameters: `k`, and `image`, the photos' encoding: `png` (base64),
    `float32_hex` (pixels / 255 as little-endian float32, row by row of the (H, W, C) image at the model's
    size, in hex) or `none`.

`recommend` (the whole funnel)
    {"dataframe_records": [{"user_id": "ada"},
                           {"history": "[{\\"item_id\\": \\"i7\\", \\"kind\\": \\"buy\\"}]"}, …]}
    → row, rank, item_id, score, why. Parameter: `k`. A row has a user_id, a history (JSON, oldest first), or
    both. A bundle keeps no histories: for a row with a user_id alone they are read from the online store
    whose address is in ETALAGE_LIVE; without one, models that know the id speak, else what is popular.

`rank` (the ranker alone)
    {"dataframe_split": {"columns": ["user_id", "item_id"], "data": [["ada", "i7"], …]}}
    → row, score, probability (null where no ranker knows both). ETALAGE_LIVE as above.

`classify` (the classifier alone)
    {"dataframe_records": [{"input": <base64 of an image file>, "title": "Oat milk 1 l"}, {"title": …}, …]}
    → row, category_id, path, confidence. Parameter: `threshold`, below which category_id and path are empty.
    A row has a photo, a title, or both.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.engine.threads import configure_threads
from etalage.errors import RequestError
from etalage.online import LiveStore
from etalage.recommend import Recommender
from etalage.serve.online import Online
from etalage.serve.tables import table_of

if TYPE_CHECKING:
    import pandas as pd

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
    """Answers tables of questions with tables of answers."""

    def __init__(
        self, recommender: Recommender, task: str | None = None, live: LiveStore | None = None
    ) -> None:
        """Raises Unprocessable: a task that is none, or that this bundle cannot do."""
        self.table = table_of(recommender, task, live)

    def predict(self, data: "pd.DataFrame", params: dict[str, Any] | None = None) -> "pd.DataFrame":
        """The answers to all rows, in order of (row, rank).

        Raises RequestError that names the rows which cannot be answered; Unprocessable for a parameter
        out of range.
        """
        return self.table.answer(data, {**self.table.defaults, **(params or {})})


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


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any] | None = None) -> ServedModel:
    """MLflow's entry: `data_path` is the bundle's folder. Raises BundleDamaged, Unprocessable."""
    configure_threads(1)
    where = os.environ.get("ETALAGE_LIVE")
    recommender = Recommender.open(Path(data_path))
    live = Online(where).start().view() if where else None
    return ServedModel(recommender, (model_config or {}).get("task"), live)


def log_bundle(
    bundle: Path,
    tracking_uri: str,
    experiment: str = "etalage",
    registered_name: str = "etalage",
    task: str | None = None,
) -> str:
    """Log the bundle in folder `bundle` to MLflow for one task and register it; `models:/<name>/<version>`.

    task: `similar`, `recommend`, `rank` or `classify`; None: what the bundle is for (tables.table_of). The
    signature is inferred from a real answer, the environment pinned to what is installed. Raises
    Unprocessable: a task that is none, or that this bundle cannot do.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from mlflow.models import infer_signature

    recommender = Recommender.open(bundle)
    model = BundleModel(recommender, task)
    example, defaults = model.table.example(), dict(model.table.defaults)
    answer = model.predict(example)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        with warnings.catch_warnings():
            # MLflow warns of whole numbers, which cannot be missing: ours never are.
            warnings.filterwarnings("ignore", message="Hint: Inferred schema")
            signature = infer_signature(example, answer, params=defaults or None)
        _choose(experiment, tracking_uri)
        with mlflow.start_run(run_name=recommender.bundle), _own_code() as code:
            hashes = {f"model_hash.{name}": digest for name, digest in recommender.models.items()}
            learned = {f"learned.{one.name}": one.told for one in recommender.facts.models if one.told}
            mlflow.set_tags({"bundle": recommender.bundle, **hashes, **learned})
            logged = mlflow.pyfunc.log_model(
                name="bundle",
                loader_module="etalage.serve.pyfunc",
                data_path=str(bundle),
                code_paths=[str(code)],
                pip_requirements=pinned(),
                signature=signature,
                input_example=(example, defaults) if defaults else example,
                metadata={"bundle": recommender.bundle},
                model_config=None if task is None else {"task": task},
                registered_model_name=registered_name,
            )
    finally:
        mlflow.set_tracking_uri(before)
    return f"models:/{registered_name}/{logged.registered_model_version}"


@contextmanager
def _own_code() -> Iterator[Path]:
    """Etalage's own package as it travels with the model: its sources, and nothing that Python compiled."""
    with tempfile.TemporaryDirectory(prefix="etalage-code-") as folder:
        package = Path(__file__).resolve().parents[1]
        copy = Path(folder) / package.name
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        yield copy


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
