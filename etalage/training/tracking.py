"""Runs are kept in MLflow (a sqlite file in the shop) and as TensorBoard events.

The client is used directly, with its own store: nothing here changes MLflow's global state, and
figures go in batches, since a call a figure costs more than a training step.
"""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def store(runs: Path) -> str:
    """The tracking URI of a shop's runs folder."""
    return f"sqlite:///{(runs / 'mlflow.db').resolve()}"


class Run:
    """One training run. Use it as a context: leaving by an exception marks the run as failed."""

    def __init__(self, runs: Path, model: str, name: str, resume: str | None = None) -> None:
        client = _client(runs)
        experiment = client.get_experiment_by_name(model)
        number = (
            experiment.experiment_id
            if experiment is not None
            else client.create_experiment(model, artifact_location=(runs / "mlartifacts").resolve().as_uri())
        )
        self._client = client
        self.id: str = resume or client.create_run(number, run_name=name).info.run_id
        from torch.utils.tensorboard import SummaryWriter

        self._events = SummaryWriter(str(runs / model / name / "tensorboard"))

    def parameters(self, values: Mapping[str, Any]) -> None:
        """The resolved config and the versions of the data; logging the same again is allowed."""
        from mlflow.entities import Param

        texts = [
            Param(key, value if isinstance(value, str) else json.dumps(value))
            for key, value in values.items()
        ]
        self._client.log_batch(self.id, params=texts)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """One batch of figures; names hold no `@`, which MLflow refuses."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[Metric(k, float(v), now, step) for k, v in values.items()])
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def file(self, path: Path, under: str) -> None:
        """A picture, a report, or a whole folder such as the exported model."""
        keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        keep(self.id, str(path), under)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._events.close()
        self._client.set_terminated(self.id, "FINISHED" if kind is None else "FAILED")


def add(runs: Path, run_id: str, *, metrics: dict[str, float], files: Mapping[Path, str]) -> None:
    """Add what evaluation found to a finished run: figures, and file → folder under which it is kept."""
    from mlflow.entities import Metric

    client = _client(runs)
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(k, float(v), now, 0) for k, v in metrics.items()])
    for path, under in files.items():
        client.log_artifact(run_id, str(path), under)


def _client(runs: Path) -> Any:
    logging.getLogger("mlflow.store").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    runs.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=store(runs), registry_uri=store(runs))
