"""What a training asks of the store of its runs: MLflow's client behind it, or its tables (run_rows.py)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Experiment:
    """The runs of one model, and the URI or path beneath which their files are."""

    id: str
    location: str


@dataclass(frozen=True)
class KnownRun:
    """A run that is there: where its files are, and its parameters."""

    location: str
    parameters: Mapping[str, str]


class RunStore(Protocol):
    """Experiments and runs."""

    def experiment(self, name: str) -> Experiment | None: ...
    def make_experiment(self, name: str, location: str) -> str: ...
    def make_run(self, experiment: str, name: str) -> str: ...
    def run(self, run: str) -> KnownRun | None: ...
    def log(
        self,
        run: str,
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> None: ...
    def end(self, run: str, status: str) -> None: ...


class MlflowRuns:
    """The same, by MLflow's own client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def experiment(self, name: str) -> Experiment | None:
        found = self.client.get_experiment_by_name(name)
        return None if found is None else Experiment(str(found.experiment_id), str(found.artifact_location))

    def make_experiment(self, name: str, location: str) -> str:
        return str(self.client.create_experiment(name, artifact_location=location))

    def make_run(self, experiment: str, name: str) -> str:
        return str(self.client.create_run(experiment, run_name=name).info.run_id)

    def run(self, run: str) -> KnownRun | None:
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(run)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return KnownRun(str(found.info.artifact_uri), dict(found.data.params))

    def log(
        self,
        run: str,
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self.client.log_batch(
            run,
            params=[Param(key, value) for key, value in (parameters or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
            metrics=[Metric(key, float(value), now, step) for key, value in (metrics or {}).items()],
        )

    def end(self, run: str, status: str) -> None:
        self.client.set_terminated(run, status)
