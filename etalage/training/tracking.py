"""Runs are kept in MLflow (a sqlite file in the shop) and as TensorBoard events.

Nothing here changes MLflow's global state, and figures go in batches, since a call a figure costs more than a
training step. MLflow itself is imported only where its tables are not those that run_rows.py knows.
"""

import json
import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import closing, redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.training.artifact_places import artifacts, bring_home, require_own
from etalage.training.experiment_store import MlflowRuns, RunStore
from etalage.training.run_rows import RunRows, known

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.tensorboard import SummaryWriter

    from etalage.training.tune import Trial

log = logging.getLogger(__name__)
PARENT = "mlflow.parentRunId"
SPREAD_OF = 8192
"""Values, about, that a histogram is of."""
PICTURED = 512
"""Rows and columns, at most, of a matrix that is drawn."""


def store(runs: Path) -> str:
    """The tracking URI of a shop's runs folder."""
    return f"sqlite:///{(runs / 'mlflow.db').resolve()}"


class Untracked:
    """A run of which nothing is kept."""

    id: None = None

    def parameters(self, values: Mapping[str, Any]) -> None: ...

    def metrics(self, step: int, values: dict[str, float]) -> None: ...

    def weights(self, step: int, network: "nn.Module") -> None: ...

    def graph(self, exported: Path) -> None: ...

    def file(self, path: Path, under: str) -> None: ...

    def __enter__(self) -> "Untracked":
        return self

    def __exit__(self, *_: object) -> None: ...


class Run:
    """One training run. Use it as a context: leaving by an exception marks the run as failed."""

    def __init__(self, runs: Path, model: str, name: str, resume: str | None = None) -> None:
        self._store = _runs_of(runs)
        number = _experiment(self._store, runs, model)
        kept = None if resume is None else _kept(self._store, runs, resume)
        if resume is None or kept is None:
            resume = self._store.make_run(number, name)
            kept = _kept(self._store, runs, resume)
        self.id: str = resume
        self._kept = kept
        self._folder = runs / model / name / "tensorboard"

    @cached_property
    def _events(self) -> "SummaryWriter":
        """Made when there is a figure of a step: a closed-form model has none, and torch is slow to load."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder))

    def parameters(self, values: Mapping[str, Any]) -> None:
        """The resolved config and the versions of the data. What a run that goes on has otherwise already
        (the tables have newer versions, of which nothing changes what it learns from) becomes a tag: MLflow
        changes no parameter."""
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
        there = self._store.run(self.id)
        known = {} if there is None else there.parameters
        new = {key: text for key, text in texts.items() if key not in known}
        changed = {key: text for key, text in texts.items() if known.get(key, text) != text}
        self._store.log(self.id, parameters=new, tags=changed)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """One batch of figures; names hold no `@`, which MLflow refuses."""
        self._store.log(self.id, metrics=values, step=step)
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def weights(self, step: int, network: "nn.Module") -> None:
        """For TensorBoard: how weights, and the gradients of the last step, are spread, and small matrices as
        pictures."""
        for name, weight in network.named_parameters():
            self._spread(f"weights/{name}", weight, step)
            if weight.grad is not None:
                self._spread(f"gradients/{name}", weight.grad, step)
            if weight.ndim == 2 and max(weight.shape) <= PICTURED and weight.numel():
                values = weight.detach().float().cpu()
                low, high = values.aminmax()
                picture = (values - low) / (high - low).clamp(min=1e-12)
                self._events.add_image(f"pictures/{name}", picture, step, dataformats="HW")

    def _spread(self, name: str, values: "Tensor", step: int) -> None:
        """Of some thousands of the values, evenly picked."""
        values = values.coalesce().values() if values.is_sparse else values
        flat = values.detach().flatten()
        if flat.numel():
            self._events.add_histogram(name, flat[:: flat.numel() // SPREAD_OF + 1].float().cpu(), step)

    def graph(self, exported: Path) -> None:
        """For TensorBoard: what is computed, of each ONNX file of the export."""
        from torch.utils.tensorboard import SummaryWriter

        for file in sorted(exported.rglob("*.onnx")):
            # It prints the names of a graph's inputs and outputs, where answers go.
            with closing(SummaryWriter(str(self._folder / file.stem))) as events, redirect_stdout(StringIO()):
                events.add_onnx_graph(str(file))

    def file(self, path: Path, under: str) -> None:
        """A picture, a report, or a whole folder such as the exported model."""
        _keep(self._kept, path, under)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if "_events" in self.__dict__:
            self._events.close()
        self._store.end(self.id, _status(kind))


class StudyRun:
    """A study of settings: one run, whose trials are runs nested under it. The same study, resumed, goes
    on."""

    def __init__(self, runs: Path, model: str, name: str) -> None:
        self._client = _client(runs)
        self._experiment = _experiment(MlflowRuns(self._client), runs, model)
        found = self._search(f"tags.study = '{name}'")
        made = found or [
            self._client.create_run(self._experiment, run_name=f"tune {name}", tags={"study": name})
        ]
        self.id: str = str(made[0].info.run_id)
        self._logged = {one.data.tags.get("trial") for one in self._search(f"tags.`{PARENT}` = '{self.id}'")}

    def _search(self, filter: str) -> list[Any]:
        return list(self._client.search_runs([self._experiment], filter, max_results=5000))

    def parameters(self, values: Mapping[str, Any]) -> None:
        """What the study was asked for; tags, since a resumed one may be asked for more trials."""
        from mlflow.entities import RunTag

        self._client.log_batch(
            self.id, tags=[RunTag(key, json.dumps(value)) for key, value in values.items()]
        )

    def trial(self, trial: "Trial", metric: str) -> None:
        """One that ended: its settings, its figures epoch by epoch, its error. Known ones are passed over."""
        from mlflow.entities import Metric, Param

        if str(trial.number) in self._logged:
            return
        self._logged.add(str(trial.number))
        tags = {PARENT: self.id, "trial": str(trial.number), "state": trial.state, "error": trial.error or ""}
        run = self._client.create_run(
            self._experiment, run_name=f"trial {trial.number}", tags=tags
        ).info.run_id
        now = int(time.time() * 1000)
        figures = [Metric(metric, value, now, epoch) for epoch, value in enumerate(trial.history, start=1)]
        if trial.value is not None:
            figures.append(Metric(f"best_{metric}", trial.value, now, 0))
        figures += [
            Metric("seconds", trial.seconds, now, 0),
            Metric("cpu_seconds", trial.cpu_seconds, now, 0),
        ]
        settings = [Param(name, json.dumps(value)) for name, value in trial.settings.items()]
        self._client.log_batch(run, metrics=figures, params=settings)
        states = {"done": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
        self._client.set_terminated(run, states[trial.state])

    def __enter__(self) -> "StudyRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._client.set_terminated(self.id, _status(kind))


def _status(ended_by: type[BaseException] | None) -> str:
    if ended_by is None:
        return "FINISHED"
    return "KILLED" if issubclass(ended_by, KeyboardInterrupt) else "FAILED"


def add(runs: Path, run_id: str, *, metrics: dict[str, float], files: Mapping[Path, str]) -> None:
    """Add what evaluation found to a finished run: figures, and file → folder under which it is kept.

    Where the store has no such run, that is said in the log. Raises DataError: its files are elsewhere.
    """
    runs_there = _runs_of(runs)
    kept = _kept(runs_there, runs, run_id)
    if kept is None:
        log.warning("%s: has no run %s: what was evaluated is not tracked", runs / "mlflow.db", run_id)
        return
    runs_there.log(run_id, metrics=metrics)
    for path, under in files.items():
        _keep(kept, path, under)


def require_own_experiment(runs: Path, name: str) -> None:
    """Raises DataError: an experiment of this name is there, and keeps its files outside of the shop."""
    found = _runs_of(runs).experiment(name)
    if found is not None:
        require_own(runs, found.location, f"the experiment {name}")


def _kept(there: RunStore, runs: Path, run_id: str) -> Path | None:
    """Where a run's files are. None: the store has no such run, it may have been moved away.

    Raises DataError: they are not in this shop.
    """
    found = there.run(run_id)
    return None if found is None else require_own(runs, found.location, f"the run {run_id}")


def _keep(kept: Path | None, path: Path, under: str) -> None:
    """A file, or what is in a folder, into a folder of the run's."""
    assert kept is not None
    target = kept / under
    target.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        shutil.copy2(path, target)


def _experiment(there: RunStore, runs: Path, model: str) -> str:
    """The id of the model's experiment, made where there is none. Raises DataError: its files are
    elsewhere."""
    found = there.experiment(model)
    if found is None:
        return there.make_experiment(model, artifacts(runs).as_uri())
    require_own(runs, found.location, f"the experiment {model}")
    return found.id


def _runs_of(runs: Path) -> RunStore:
    runs.mkdir(parents=True, exist_ok=True)
    bring_home(runs)
    return RunRows(runs) if known(runs / "mlflow.db") else MlflowRuns(_client(runs))


def _client(runs: Path) -> Any:
    logging.getLogger("mlflow.store").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    runs.mkdir(parents=True, exist_ok=True)
    bring_home(runs)
    return MlflowClient(tracking_uri=store(runs), registry_uri=store(runs))
