"""Trials of a model's settings: a study asks Optuna what to try, runs it on an engine, and keeps what came of
it.

Source of the sampler: J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011 (TPE);
of the pruner: D. Golovin et al., Google Vizier, KDD 2017 (median stopping).

A study is a folder with Optuna's journal. Workers open it themselves, so that each one asks with all results
that there are; a study that was killed is opened again and goes on. A trial belongs to a slot, its number
among those that were asked for: a slot that is run again marks the trial that died in it as failed, and
starts another.
"""

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.errors import CheckpointDamaged, EtalageError, TrainingError
from etalage.models.search_space import Choice, Dimension, FloatRange, SearchSpace, holds, sample

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

JOURNAL = "journal.log"
STARTUP = 8
"""Trials that are drawn at random, the current settings among them, before TPE has something to go by."""
NEVER_PRUNED = 5
"""No trial is stopped early before so many have ended, nor before a trial has had its first epochs."""
_SLOT, _ERROR, _PARAMS, _SECONDS, _CPU, _HISTORY = (
    "slot",
    "error",
    "settings",
    "seconds",
    "cpu_seconds",
    "history",
)
State = Literal["done", "pruned", "failed"]


class Pruned(Exception):
    """The trial is so far behind the others that it was stopped."""


class Report(Protocol):
    """What an objective tells of a trial while it goes on."""

    def __call__(self, epoch: int, value: float) -> None:
        """The metric after this epoch, counted from 1. Raises Pruned: it is to stop."""
        ...


Objective = Callable[[dict[str, Any], Report], float]
"""(settings, report) → the metric on validation, higher is better. It must pickle; it runs in a worker."""


@dataclass(frozen=True)
class Trial:
    """One trial as the study keeps it."""

    number: int
    state: State
    settings: dict[str, Any]
    value: float | None
    """Of a pruned one the last that it reported."""
    seconds: float
    cpu_seconds: float
    error: str | None = None
    history: tuple[float, ...] = ()
    """The metric after each epoch, for models that have epochs."""


@dataclass(frozen=True)
class Study:
    """What is tried: `space` within a config whose other settings are `given`.

    folder: where its journal is. seed: of what TPE draws. prunes: whether the objective reports epochs, by
    which a trial that is behind the others is stopped.
    """

    folder: Path
    space: SearchSpace
    given: Mapping[str, Any]
    seed: int = 0
    prunes: bool = False

    def trials(self) -> list[Trial]:
        """All that ended, in the order of their numbers."""
        return [_trial(one) for one in _opened(self, 0).get_trials(deepcopy=False) if one.state.is_finished()]

    def optuna(self) -> "optuna.Study":
        """Optuna's own, for its plots."""
        return _opened(self, 0)


def run_trials(
    study: Study,
    objective: Objective,
    count: int,
    *,
    parallel: int = 1,
    engine: Engine = LOCAL,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Go on with `study` until `count` trials have ended, `parallel` at a time; → all of them.

    The first trial of a study has the settings as they stand: what is found is never worse than that on
    validation. A trial that raises is failed, with its error, and the others go on. on_trial: called with
    each that ends. Raises TrainingError: every trial failed.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    _start(study)
    slots = _open_slots(study, count)
    for trial in engine.map(
        partial(_run_slot, study, objective), slots, workers=min(parallel, max(1, len(slots)))
    ):
        if on_trial is not None:
            on_trial(trial)
    done = study.trials()
    if not any(trial.state == "done" for trial in done):
        errors = [trial.error for trial in done if trial.error]
        raise TrainingError(
            f"all {len(done)} trials failed; the first: {errors[0] if errors else 'was killed'}"
        )
    return done


def best_of(trials: Sequence[Trial]) -> Trial:
    """The best one; of equal ones the first."""
    done = [trial for trial in trials if trial.state == "done" and trial.value is not None]
    return max(done, key=lambda trial: (trial.value, -trial.number))


def _start(study: Study) -> None:
    """Put the current settings first; mark what was running when an earlier process died as failed."""
    import optuna

    _mend(study.folder / JOURNAL)
    try:
        opened = _opened(study, 0)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(
            f"{study.folder / JOURNAL}: the study's journal cannot be read ({error}); tune with --fresh"
        ) from error
    if not opened.get_trials(deepcopy=False):
        first = sample(study.space, study.given, lambda name, _: study.given[name])
        inside = all(holds(study.space[name], value) for name, value in first.items())
        if inside:
            opened.enqueue_trial({name: _written(study.space[name], value) for name, value in first.items()})
        else:
            log.warning(
                "the current settings are outside of the search space, so no trial starts from them: %s",
                ", ".join(f"{k} = {v!r}" for k, v in first.items() if not holds(study.space[k], v)),
            )
    for trial in opened.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        _bury(opened, trial)


def _mend(journal: Path) -> None:
    """Cut off a last line that was not written to its end: the disk was full, or the machine went down."""
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("%s: its last line was cut short and is left out", journal)
        with journal.open("r+b") as file:
            file.truncate(whole)


def _open_slots(study: Study, count: int) -> list[int]:
    """Of `count` slots those in which no trial ended by itself."""
    ended = {
        one.user_attrs.get(_SLOT)
        for one in _opened(study, 0).get_trials(deepcopy=False)
        if one.state.is_finished() and _SECONDS in one.user_attrs
    }
    return [slot for slot in range(count) if slot not in ended]


def _run_slot(study: Study, objective: Objective, slot: int) -> Trial:
    """One trial, from asking to telling; in a worker."""
    import optuna

    opened = _opened(study, slot)
    for left in opened.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if left.user_attrs.get(_SLOT) == slot:  # its worker died, and the engine runs the slot again
            _bury(opened, left)
    trial = opened.ask()
    trial.set_user_attr(_SLOT, slot)
    began, cpu = time.perf_counter(), time.process_time()
    error: str | None = None
    value: float | None = None
    try:
        settings = sample(study.space, study.given, partial(_suggest, trial))
        trial.set_user_attr(_PARAMS, {name: _plain(value) for name, value in settings.items()})
        value = float(objective(settings, _Reporting(trial, study.prunes)))
        state = optuna.trial.TrialState.COMPLETE
        if value != value:
            raise TrainingError("the metric is not a number")
    except Pruned:
        state = optuna.trial.TrialState.PRUNED
    except EtalageError as failure:
        state, error = optuna.trial.TrialState.FAIL, f"{type(failure).__name__}: {failure}"
    except Exception:
        state, error = optuna.trial.TrialState.FAIL, traceback.format_exc(limit=-4)
    if error is not None:
        trial.set_user_attr(_ERROR, error)
        log.warning("trial %d failed: %s", trial.number, error.strip().splitlines()[-1])
    trial.set_user_attr(_CPU, time.process_time() - cpu)
    trial.set_user_attr(_SECONDS, time.perf_counter() - began)
    complete = state == optuna.trial.TrialState.COMPLETE
    return _trial(opened.tell(trial, value if complete else None, state=state))


class _Reporting:
    """Reports to the study, and says when to stop."""

    def __init__(self, trial: "optuna.Trial", prunes: bool) -> None:
        self.trial, self.prunes = trial, prunes

    def __call__(self, epoch: int, value: float) -> None:
        self.trial.report(value, epoch)
        if self.prunes and self.trial.should_prune():
            raise Pruned


def _opened(study: Study, slot: int) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP, seed=study.seed * 100_003 + slot, constant_liar=True
    )
    pruner = optuna.pruners.PercentilePruner(50.0, n_startup_trials=NEVER_PRUNED, n_warmup_steps=1)
    storage = JournalStorage(JournalFileBackend(str(study.folder / JOURNAL)))
    return optuna.create_study(
        study_name="study",
        storage=storage,
        sampler=sampler,
        pruner=pruner if study.prunes else optuna.pruners.NopPruner(),
        direction="maximize",
        load_if_exists=True,
    )


def _bury(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
    import optuna

    study._storage.set_trial_user_attr(trial._trial_id, _ERROR, "its process ended before the trial did")
    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    log.warning("trial %d died with its process, and is marked as failed", trial.number)


def _suggest(trial: "optuna.Trial", name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        texts = [_written(dimension, option) for option in dimension.options]
        return dimension.options[texts.index(trial.suggest_categorical(name, texts))]
    if isinstance(dimension, FloatRange):
        return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)


def _written(dimension: Dimension, value: Any) -> Any:
    """A value as Optuna keeps it: options of a choice may be tuples, which it takes as text alone."""
    return str(value) if isinstance(dimension, Choice) else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _trial(frozen: "optuna.trial.FrozenTrial") -> Trial:
    import optuna

    states: dict[Any, State] = {
        optuna.trial.TrialState.COMPLETE: "done",
        optuna.trial.TrialState.PRUNED: "pruned",
    }
    history = tuple(frozen.intermediate_values[epoch] for epoch in sorted(frozen.intermediate_values))
    facts = frozen.user_attrs
    return Trial(
        frozen.number,
        states.get(frozen.state, "failed"),
        dict(facts.get(_PARAMS, {})),
        frozen.value if frozen.value is not None else (history[-1] if history else None),
        float(facts.get(_SECONDS, 0.0)),
        float(facts.get(_CPU, 0.0)),
        facts.get(_ERROR),
        history,
    )
