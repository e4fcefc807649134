"""The one training loop: every model with gradients goes through `fit`.

Exact resume: a batch is a pure function of (seed, epoch, step, rank), and a checkpoint holds the network,
the optimiser, the averaged and the best weights and torch's random state.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from etalage.errors import CheckpointDamaged, ConfigError, LossNotFinite
from etalage.features.array_blocks import ArrayLoop
from etalage.models.ranks import ALONE, Gathers
from etalage.models.recipe import Batch, C, ClosedForm, Recipe, Solves, Task, Trained, TrainingConfig
from etalage.training import checkpoint, optim
from etalage.training.checkpoint import Checkpoint
from etalage.training.closed_form import solve
from etalage.training.context import Context
from etalage.training.optim import clip_norm
from etalage.training.prefetch import Prefetched
from etalage.training.shards import Shards

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Where the figures of a run go (training/tracking.py)."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...


@runtime_checkable
class DrawsWeights(Protocol):
    """A tracker that looks at the network at the end of each epoch."""

    def weights(self, step: int, network: nn.Module) -> None: ...


@dataclass
class _Progress:
    """What changes from step to step, beside the tensors."""

    step: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    step_seconds: float = 0.0
    waited: float = 0.0
    """Seconds of the steps, and those of them that they waited for their batches."""
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    recipe: Recipe[C],
    task: Task | Solves | ClosedForm,
    config: C,
    run: Path,
    *,
    tracker: Tracker | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    context: Context | None = None,
    blocks: ArrayLoop | None = None,
) -> Trained[C]:
    """Train `task`; a run folder that has checkpoints is resumed and ends like an uninterrupted one.
    A closed-form model is solved or counted, and is done; so is a network that is solved.

    progress: called after each step with (steps done, steps in all, a short line). context: which of the
    workers this is that train it together (training/context.py), and on which device; those after rank 0
    learn, and write nothing. None: this one alone, where the config says. blocks: where a closed-form model
    that can be split is counted; None: in this process.
    Raises ConfigError: no such device; WorkerLost; LossNotFinite at the first loss or gradient that is NaN or
    infinite, and names the batch; the checkpoints before it stay.
    """
    if recipe.role == "closed_form":
        return solve(recipe, cast(ClosedForm, task), config, run, blocks)
    if isinstance(task, Solves):
        return _solved(recipe, task, config, run)
    task = cast(Task, task)
    assert isinstance(config, TrainingConfig)
    torch.manual_seed(config.seed)
    context = context or Context.of(config)
    fitting = _Fitting(task, config, run, context)
    fitting.resume()
    with closing(fitting.batches):
        while not context.broadcast_flag(fitting.finished):
            fitting.epoch(tracker, progress)
    fitting.restore_best()
    done = fitting.progress
    metrics = done.history[done.best_epoch] if done.best_epoch >= 0 else (done.history or [{}])[-1]
    return Trained(
        recipe=recipe.name,
        config=config.model_copy(update=task.chosen(fitting.network)),
        network=fitting.network.to("cpu").eval(),
        metrics=metrics,
        history=done.history,
        seconds=done.seconds,
        cpu_seconds=done.cpu_seconds,
        run=run,
    )


def _solved(recipe: Recipe[C], task: Solves, config: C, run: Path) -> Trained[C]:
    """A network whose weights are solved."""
    started = time.perf_counter(), time.process_time()
    found = task.solve()
    seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    settled = config.model_copy(update=found.chosen)
    network, facts = found.network.eval(), {"solved": True}
    return Trained(recipe.name, settled, network, found.figures, [], seconds, cpu, run, facts=facts)


class _Fitting:
    def __init__(self, task: Task, config: TrainingConfig, run: Path, context: Context) -> None:
        self.task, self.config, self.context = task, config, context
        self.folder = run / "checkpoints"
        _require(task, config, context)
        self.steps = config.steps_per_epoch or task.steps
        self.total = self.steps * config.epochs
        """What the schedules are of."""
        self.last = self.steps * (config.stop_after or config.epochs)
        # Channels-last suits convolutions; it changes no value.
        with _training_together(task, context):
            made = task.network()
        self.network: nn.Module = made.to(device=context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = optim.build(task, self.network, config)
        self.batches = Prefetched(task, self.steps, context.rank, context.world_size, config.accumulate)
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.average = _copy(self.network) if config.average else None
        self.best = _copy(self.network)
        self.shards = Shards(self.network, run, context)
        self.progress = _Progress()
        self._best_written: int | None = None
        """The epoch of the best weights that the newest checkpoint has; None: this process wrote none."""

    @property
    def finished(self) -> bool:
        done, patience = self.progress, self.config.patience
        waited = len(done.history) - 1 - done.best_epoch
        stopped = patience is not None and done.best_epoch >= 0 and waited >= patience
        return done.step >= self.last or stopped

    def epoch(self, tracker: Tracker | None, progress: Callable[[int, int, str], None] | None) -> None:
        epoch, first = divmod(self.progress.step, self.steps)
        self.context.broadcast_weights(self.network)
        before = self.progress.cpu_seconds
        self.batches.waited = self.progress.waited
        for step in range(first, self.steps):
            started = time.perf_counter(), time.process_time()
            loss = self._step(epoch, step)
            self._clock(started)
            self.progress.step_seconds += time.perf_counter() - started[0]
            self.progress.waited = self.batches.waited
            if progress is not None:
                progress(self.progress.step, self.last, f"epoch {epoch + 1}, loss {loss:.4f}")
            if self.progress.step % self.config.checkpoint_steps == 0 and step + 1 < self.steps:
                self._checkpoint()
        started = time.perf_counter(), time.process_time()
        values = self._validated()
        self._clock(started)
        self.progress.cpu_seconds = before + self.context.sum(self.progress.cpu_seconds - before)
        self._remember(epoch, values, tracker)
        self._checkpoint()

    def _step(self, epoch: int, step: int) -> float:
        task, config = self.task, self.config
        factor = optim.rate(config, self.progress.step / self.total, task.phases)
        for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
        self.network.train()
        context = self.context
        self.optimiser.zero_grad(set_to_none=True)
        with _training_together(task, context):
            parts = self.batches.parts(epoch, step)
            whole = context.count(parts)
            context.seed_rank(config.seed, self.progress.step)
            value = sum((self._learn(part, whole) for part in parts), 0.0)
        value = context.sum_gradients(self.network, value)
        norm = clip_norm(self.network, config.clip_norm)
        if not (math.isfinite(value) and bool(torch.isfinite(norm))):
            raise LossNotFinite(self._describe(epoch, step, value, float(norm), parts))
        self.optimiser.step()
        if self.average is not None and context.first:
            self._average()
        self.progress.step += 1
        self.progress.loss_sum += value
        self.progress.loss_steps += 1
        return value

    def _learn(self, part: Batch, whole: Mapping[str, Tensor]) -> float:
        """The gradient of a part's share of the loss → that share. whole: what `Context.count` says."""
        context, rows = self.context, len(part["rows"])
        # The last batch of an epoch may have fewer rows than there are parts.
        if not rows and not self.shards and _gathers(self.task) == "nothing":
            return 0.0
        counts = {name: total for name, total in whole.items() if name in part and name != "rows"}
        batch = {**context.on_device(part), **counts}
        with context.autocast():
            loss = self.task.loss(self.network, batch)
        if not counts:  # the mean over these rows
            loss = loss * (rows / whole["rows"].clamp(min=1))
        if loss.requires_grad:  # not where the model can see nothing of these rows
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _describe(self, epoch: int, step: int, value: float, norm: float, parts: Sequence[Batch]) -> str:
        rows = torch.cat([part["rows"] for part in parts]).tolist()
        named = f", rows {rows[:8]}{'…' if len(rows) > 8 else ''}" if rows else ""
        return (
            f"epoch {epoch + 1}, step {step}{named}: loss {value}, gradient norm {norm}; "
            f"lower the learning rate or set clip_norm. The last finite checkpoint is in {self.folder}"
        )

    def _average(self) -> None:
        assert self.average is not None and self.config.average is not None
        # A young average follows quickly, or the first weights would linger for 1 / (1 - decay) steps.
        decay = min(self.config.average, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                kept = self.average[name]
                if kept.is_floating_point():
                    kept.lerp_(tensor, 1 - decay)
                else:
                    kept.copy_(tensor)

    def _validated(self) -> dict[str, float]:
        """What rank 0 found; of sharded tables all keep what they have, where it was the best."""
        context = self.context
        if not self.shards:
            return self._validate() if context.first else {}
        values: dict[str, float] = {}
        if context.first:
            with self.shards.followed():
                values = self._validate()
        else:
            self.network.eval()
            self.shards.follow()
        if context.broadcast_flag(self.progress.best_epoch == len(self.progress.history)):
            self.shards.keep_best()
        return values

    def _validate(self) -> dict[str, float]:
        trained = _copy(self.network) if self.average is not None else None
        if self.average is not None:
            self.network.load_state_dict(self.average)
        self.network.eval()
        try:
            with torch.inference_mode(), self.context.autocast():
                values = self.task.validate(self.network)
            found = values.get(self.task.metric, -math.inf) if values else float(len(self.progress.history))
            if found > self.progress.best:
                self.progress.best = found
                self.progress.best_epoch = len(self.progress.history)
                self.best = _copy(self.network)
            return values
        finally:
            if trained is not None:
                self.network.load_state_dict(trained)

    def _remember(self, epoch: int, values: dict[str, float], tracker: Tracker | None) -> None:
        done = self.progress
        values = {"loss": done.loss_sum / max(done.loss_steps, 1), **values}
        done.loss_sum, done.loss_steps = 0.0, 0
        done.history.append(values)
        log.info("epoch %d: %s", epoch + 1, ", ".join(f"{k} {v:.4f}" for k, v in values.items()))
        if tracker is not None:
            seconds = {"seconds": done.seconds, "cpu_seconds": done.cpu_seconds}
            waited = done.waited / done.step_seconds if done.step_seconds else 0.0
            tracker.metrics(epoch + 1, {**values, **seconds, "waited_for_data": waited})
        if isinstance(tracker, DrawsWeights):
            tracker.weights(epoch + 1, self.network)

    def restore_best(self) -> None:
        """Rank 0's best weights, in every rank; tables that were sharded are whole then, in rank 0."""
        self.network.load_state_dict(self.best)
        self.context.broadcast_weights(self.network)
        self.shards.restore_best()
        self.shards.unshard()

    def _clock(self, started: tuple[float, float]) -> None:
        self.progress.seconds += time.perf_counter() - started[0]
        self.progress.cpu_seconds += time.process_time() - started[1]

    def _checkpoint(self) -> None:
        tables = self._write_shards() if self.shards else None
        if not self.context.first:
            return
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise LossNotFinite(
                    f"step {self.progress.step}: {name} is not finite after the optimiser's step; lower the "
                    f"learning rate or set clip_norm. The last finite checkpoint is in {self.folder}"
                )
        slots, rest = checkpoint.pack_optimiser(self.optimiser)
        tensors = {**slots, **_random_states(self.context.device)}
        for kind, weights in self._weights():
            tensors |= {f"{kind}/{name}": tensor for name, tensor in weights.items()}
        # `best` may share nothing with the network's tensors: safetensors refuses shared memory.
        state = {"progress": vars(self.progress), "optimiser": rest}
        unchanged = ("best",) if self._best_written == self.progress.best_epoch else ()
        checkpoint.write(self.folder, self.progress.step, Checkpoint(tensors, state), unchanged, tables)
        self._best_written = self.progress.best_epoch

    def _write_shards(self) -> dict[str, str]:
        """Every rank its own, into the draft that rank 0 begins."""
        if self.context.first:
            checkpoint.begin(self.folder, self.progress.step)
        self.context.broadcast_flag(True)
        return self.shards.write(checkpoint.draft_of(self.folder, self.progress.step))

    def _weights(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "network", self.network.state_dict()
        yield "best", self.best
        if self.average is not None:
            yield "average", self.average

    def resume(self) -> None:
        found = checkpoint.newest(self.folder)
        if found is None:
            return
        try:
            for kind, weights in self._weights():
                for name, tensor in weights.items():
                    tensor.copy_(found.tensors[f"{kind}/{name}"])
            checkpoint.unpack_optimiser(self.optimiser, found.tensors, found.state["optimiser"])
            _set_random_states(self.context.device, found.tensors)
            self.progress = _Progress(**found.state["progress"])
            if self.shards and found.folder is not None:
                self.shards.read(found.folder)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointDamaged(
                f"{self.folder}: a checkpoint of another network or version ({error!r}); train with --fresh"
            ) from error
        log.info("resumed at step %d of %d", self.progress.step, self.last)


def _require(task: Task, config: TrainingConfig, context: Context) -> None:
    """Raises ConfigError: settings that ask of several workers, or of parts, what they cannot do."""
    if config.sharded and context.world_size == 1:
        raise ConfigError(
            'embeddings = "torchrec" divides tables among several workers, and there is one: set workers, or '
            "take other embeddings"
        )
    if config.accumulate > 1 and _gathers(task) == "rows":
        raise ConfigError(
            f"accumulate = {config.accumulate}: this model's loss compares all rows of a batch with each "
            "other, so they cannot be gone through in parts; leave accumulate out"
        )


def _gathers(task: Task) -> Gathers:
    return getattr(task, "gathers", "nothing")


@contextmanager
def _training_together(task: Task, context: Context) -> Iterator[None]:
    """Meanwhile the task knows who trains it; at any other time it is asked as if there were one."""
    task.ranks = context
    try:
        yield
    finally:
        task.ranks = ALONE


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """Those of the processor, which batches are drawn by, and of the device, which draws dropout."""
    states = {"random/processor": torch.get_rng_state()}
    if device.type != "cpu":
        states["random/device"] = torch.get_device_module(device).get_rng_state(device)
    return states


def _set_random_states(device: torch.device, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["random/processor"])
    if device.type != "cpu" and "random/device" in states:
        torch.get_device_module(device).set_rng_state(states["random/device"], device)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
