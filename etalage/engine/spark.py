"""Spark: the engine of a cluster, and the only file that imports pyspark.

A shard is a job of one task, so that one that fails, or is slow, is nobody else's business; a thread of the
caller waits for each (scheduling.py). Why so, and how `launch` maps: docs/decisions/engine.md.
"""

import logging
import logging.handlers
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyspark
from pyspark import BarrierTaskContext, SparkContext
from pyspark.cloudpickle import CloudPickler
from pyspark.sql import SparkSession

from etalage.engine.children import SAFE_PATH, python, safe_path
from etalage.engine.contract import RETRIES
from etalage.engine.memory import limit_memory, require_enforceable
from etalage.engine.outcome import Failed, Outcome, attempt
from etalage.engine.parcel import Parcel, pack
from etalage.engine.scheduling import Progress, map_ordered, map_unordered
from etalage.engine.shard_worker import outcome_of, relay, run_parcels
from etalage.engine.worker_spec import WorkerSpec
from etalage.errors import ConfigError, EngineError, WorkerLost

log = logging.getLogger(__name__)

S = TypeVar("S")
R = TypeVar("R")
_LARGE = 2**18
"""Bytes of a function from which on workers fetch it once, instead of with every shard."""
_GRACE_SECONDS = 30.0
_CANCEL_SECONDS = 30.0
_RECORDS = 1000
"""Log records of one shard that are brought back; the rest is counted."""


class SparkEngine:
    """Tasks of a Spark cluster, or of a Spark within this process; see Engine.

    master: Spark's URL; None: `local[workers]`. workers: tasks at once. memory: bytes that a worker's Python
    may have. settings: of Spark. Spark is started when it is first needed, once a process.
    """

    def __init__(
        self,
        master: str | None = None,
        workers: int | None = None,
        memory: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if memory is not None:
            require_enforceable()
        here = workers or os.cpu_count() or 1
        self.master = master or f"local[{here}]"
        local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", self.master)
        if local and workers is None:
            here = int(local[1]) if (local[1] or "*").isdecimal() else here if local[1] else 1
        self.workers = here
        self.memory = memory
        self.settings = dict(settings or {})

    @property
    def session(self) -> SparkSession:
        """The session of this process. Raises EngineError: Spark cannot be started, or runs otherwise."""
        return _session(self.master, self.workers, self.settings)

    def map(
        self,
        function: Callable[[S], R],
        shards: Iterable[S],
        workers: int | None = None,
        retries: int = RETRIES,
        progress: Progress | None = None,
    ) -> Iterator[R]:
        with self._slots(function, workers or self.workers) as slots:
            yield from map_ordered(shards, slots, retries, progress)

    def trials(
        self, objective: Callable[[S], R], settings: Iterable[S], parallel: int
    ) -> Iterator[tuple[int, Outcome[R]]]:
        with self._slots(objective, parallel) as slots:
            yield from map_unordered(settings, slots, retries=0)

    @contextmanager
    def _slots(self, function: Callable[[S], R], count: int) -> Iterator[list["_TaskSlot[S, R]"]]:
        """Slots that stop together."""
        parcel = pack(function, CloudPickler)
        context = self.session.sparkContext
        large = context.broadcast(parcel) if len(parcel.content) > _LARGE else None
        tag = f"etalage-{uuid.uuid4().hex}"
        try:
            yield [_TaskSlot(context, large or parcel, self.memory, tag) for _ in range(count)]
        finally:
            if large is not None:
                large.destroy()

    @contextmanager
    def launch(self, function: Callable[[WorkerSpec], object], workers: int) -> Iterator[WorkerSpec]:
        """The others are the tasks of a barrier job: all of them run, or none. It ends as `launch` of the
        local engine does. Files that the function names have to be where every worker sees them."""
        others = workers - 1
        if others > self.workers:
            raise ConfigError(
                f"workers = {workers} needs {others} tasks at once beside this process, and [engine] workers "
                f"is {self.workers}"
            )
        context = self.session.sparkContext
        with tempfile.TemporaryDirectory(prefix="etalage-") as folder:
            host = context.getConf().get("spark.driver.host") or socket.getfqdn()
            init_method = f"file://{folder}/rendezvous"
            if not on_this_machine(self.master):
                init_method = f"tcp://{host}:{_free_port(host)}"
            ranks = _Ranks(context, others)
            work = partial(_rank, pack(function, CloudPickler), workers, init_method, host, self.memory)
            ranks.start(work)
            try:
                yield WorkerSpec(0, workers, init_method, lost=ranks.lost)
                ranks.join()
            except WorkerLost:
                ranks.join(_GRACE_SECONDS)  # until Spark has told how it ended
                raise
            finally:
                ranks.cancel()
                if ended := ranks.lost():
                    log.error(ended)

    def stop(self) -> None:
        """End the Spark of this process; the next use starts another one."""
        _stop()


class _TaskSlot(Generic[S, R]):
    """Runs a shard as a job of one task, on whichever worker has room."""

    def __init__(self, context: SparkContext, function: Any, memory: int | None, tag: str) -> None:
        self._context, self._function, self._memory, self._tag = context, function, memory, tag
        self._level = logging.getLogger().getEffectiveLevel()
        self._tagged = self._stopped = False

    def run(self, shard: S) -> Outcome[R]:
        parcel = pack(shard, CloudPickler)
        if not self._tagged:
            self._context.addJobTag(self._tag)
            self._tagged = True
        if self._stopped:
            return Failed("the work was stopped")
        task = partial(_task, self._function, parcel, self._level, self._memory)
        try:
            outcome, records = self._context.parallelize([0], 1).mapPartitions(task).collect()[0]
        except Exception as error:
            if not _runs(self._context):
                return Failed.of(EngineError(f"the Spark application has ended: {_lost_task(str(error))}"))
            return Failed(_lost_task(str(error)))
        for record in records:
            relay(record)
        return outcome_of(outcome, self._memory)

    def stop(self) -> None:
        self._stopped = True
        if _runs(self._context):
            self._context.cancelJobsWithTag(self._tag)

    def leave(self) -> None:
        """py4j lets go of the thread's connection by itself."""


def _task(function: Any, shard: Parcel, level: int, memory: int | None, rows: Iterable[int]) -> list[Any]:
    """On a worker: the outcome of the shard, and what was logged on the way."""
    limit_memory(memory)  # Spark may have run another shard, with another limit, in this process
    with _collected(level) as records:
        parcel = function if isinstance(function, Parcel) else function.value
        outcome = run_parcels(parcel, shard, CloudPickler)
    return [(outcome, records)]


class _Collector(logging.handlers.QueueHandler):
    """Keeps log records, as far as there is room."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.records: list[logging.LogRecord] = []
        self.more = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if len(self.records) < _RECORDS:
            self.records.append(record)
        else:
            self.more += 1


@contextmanager
def _collected(level: int) -> Iterator[list[logging.LogRecord]]:
    logging.captureWarnings(True)
    root, collector = logging.getLogger(), _Collector()
    before = root.level
    root.addHandler(collector)
    root.setLevel(level)
    try:
        yield collector.records
    finally:
        root.removeHandler(collector)
        root.setLevel(before)
        if collector.more:
            told = f"{collector.more} more log records of this shard were left on the worker"
            collector.records.append(logging.makeLogRecord({"name": __name__, "msg": told, "levelno": 30,
                                                            "levelname": "WARNING"}))  # fmt: skip


class _Ranks:
    """The barrier job of a launch, waited for by a thread."""

    def __init__(self, context: SparkContext, others: int) -> None:
        self._context, self._others = context, others
        self._tag = f"etalage-{uuid.uuid4().hex}"
        self._failure: str | None = None
        self._cancelled = False
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[Iterable[int]], Iterable[Any]]) -> None:
        if not self._others:
            return
        self._thread = threading.Thread(target=self._wait, args=(work,), name="launch", daemon=True)
        self._thread.start()

    def _wait(self, work: Callable[[Iterable[int]], Iterable[Any]]) -> None:
        try:
            self._context.addJobTag(self._tag)
            self._context.parallelize(range(self._others), self._others).barrier().mapPartitions(
                work
            ).collect()
        except Exception as error:
            if not self._cancelled:
                self._failure = _lost_rank(str(error), self._others + 1)

    def lost(self) -> str | None:
        return self._failure

    def join(self, seconds: float | None = None) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def cancel(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._cancelled = True
            if _runs(self._context):
                self._context.cancelJobsWithTag(self._tag)
            self._thread.join(_CANCEL_SECONDS)


class _RankEnded(Exception):
    pass


def _rank(
    function: Parcel,
    world_size: int,
    init_method: str,
    driver: str,
    memory: int | None,
    rows: Iterable[int],
) -> list[int]:
    """On a worker: what one of the others does."""
    limit_memory(memory)
    context = BarrierTaskContext.get()
    place = context.partitionId()
    hosts = [driver, *(info.address.rsplit(":", 1)[0] for info in context.getTaskInfos())]
    rank = place + 1
    local_rank = hosts[:rank].count(hosts[rank])
    outcome = attempt(function.unpack(), WorkerSpec(rank, world_size, init_method, local_rank))
    if isinstance(outcome, Failed):
        raise _RankEnded(f"worker {rank} of {world_size} ended with {outcome.error}\n{outcome.traceback}")
    return []


def _lost_task(said: str) -> str:
    """Why a job of one task failed, out of what Spark says of it."""
    reason = said.rsplit("ost recent failure: ", 1)[-1].strip().splitlines() or [said]
    line = re.sub(r"^Lost task \S+ in stage \S+ \(TID \d+\) \(([^)]*)\): ", r"on \1: ", reason[0])
    line = re.sub(r"org\.apache\.spark\.SparkException: |\. Consider setting .*", "", line)
    return (
        f"the worker is gone: {line}"
        if re.search("Python worker exited|[Ee]xecutor(Lost|.*lost)", line)
        else line
    )


def _lost_rank(said: str, world_size: int) -> str:
    """Which of the others ended, and how, out of what Spark says of a barrier job."""
    if told := re.search(r"worker \d+ of \d+ ended with [^\n]*", said):
        return told[0]
    place = re.search(r"ResultTask\(\d+, (\d+)\)|Task (\d+) in stage", said)
    who = f"worker {int(place[1] or place[2]) + 1} of {world_size}" if place else "one of the workers"
    how = re.search(r"Python worker exited unexpectedly \([^)]*\)|ExecutorLostFailure[^\n]*", said)
    return f"{who} ended: {how[0] if how else _lost_task(said)}"


def on_this_machine(master: str) -> bool:
    """Whether nothing has to be reached from elsewhere."""
    return bool(re.match(r"local(\[|$)|spark://(127\.[\d.]+|localhost|\[::1\]):\d+$", master))


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as free:
        return int(free.getsockname()[1])


_started: tuple[tuple[Any, ...], SparkSession] | None = None
_starting = threading.Lock()


def _session(master: str, workers: int, settings: Mapping[str, Any]) -> SparkSession:
    global _started
    wanted = (master, workers, tuple(sorted(settings.items())))
    with _starting:
        if _started is not None and _runs(_started[1].sparkContext):
            if _started[0] != wanted:
                raise EngineError(
                    f"Spark runs in this process already, with master = {_started[0][0]!r}; a process can "
                    "have one only: use the same [engine], or another process"
                )
            return _started[1]
        if _started is not None:  # the cluster ended it
            _started[1].stop()
        session = _start(master, workers, settings)
        _started = wanted, session
        return session


def _runs(context: SparkContext) -> bool:
    return context._jsc is not None and not context._jsc.sc().isStopped()


def _stop() -> None:
    global _started
    with _starting:
        if _started is not None:
            _started[1].stop()
            _started = None


def _start(master: str, workers: int, settings: Mapping[str, Any]) -> SparkSession:
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise EngineError(
            "[engine] kind = 'spark' needs Java 17 or 21, and there is no `java` here: install it, or set "
            "JAVA_HOME"
        )
    builder = SparkSession.builder.master(master).appName("Etalage")
    for key, value in (_defaults(master, workers) | {k: _text(v) for k, v in settings.items()}).items():
        builder = builder.config(key, value)
    at_interrupt = signal.getsignal(signal.SIGINT)
    try:
        with safe_path(), _environment(master, settings):
            session = builder.getOrCreate()
    except Exception as error:
        raise EngineError(f"Spark at {master} did not start: {str(error).strip().splitlines()[0]}") from error
    finally:
        if at_interrupt is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, at_interrupt)  # pyspark put one of its own there
    if not master.startswith("local"):
        session.sparkContext.addArchive(f"{_own_code()}#etalage")
    return session


def _defaults(master: str, workers: int) -> dict[str, str]:
    found = {
        "spark.task.maxFailures": "1",
        "spark.stage.maxConsecutiveAttempts": "1",
        "spark.cores.max": str(workers),
        # A launch whose workers have not all registered is tried again soon, for some minutes.
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "300",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        f"spark.executorEnv.{SAFE_PATH}": "1",
        "spark.executorEnv.OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "spark.executorEnv.MLFLOW_DISABLE_TELEMETRY": "true",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}",
    }
    if on_this_machine(master):
        found |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    if master.startswith("local"):  # the JVM only hands out tasks: it need not be fast, but there soon
        found["spark.driver.extraJavaOptions"] += " -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    return found


_LOG4J = Path(__file__).with_name("log4j2.properties")


@contextmanager
def _environment(master: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """What pyspark takes from the environment alone: which Python workers run, and where Spark is."""
    given = {
        "PYSPARK_PYTHON": str(settings.get("spark.pyspark.python") or python()[0]),
        "SPARK_HOME": str(Path(pyspark.__file__).parent),
    }
    if on_this_machine(master):
        given["SPARK_LOCAL_IP"] = "127.0.0.1"
    missing = {key: value for key, value in given.items() if key not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for key in missing:
            os.environ.pop(key, None)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_packed: tempfile.TemporaryDirectory[str] | None = None


def _own_code() -> Path:
    """Etalage itself, packed, so that workers run what this process runs: an executor fetches it when it
    starts, which may be at any time while this process lives."""
    global _packed
    if _packed is None:
        _packed = tempfile.TemporaryDirectory(prefix="etalage-")
    root, target = Path(__file__).resolve().parents[1], Path(_packed.name, "etalage.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(root))
    return target
