"""A command that test_ending.py ends: python -m tests.engine.keeps_on KIND MASTER FOLDER VERB

It says `ready` when both shards, or the launched worker, are at work.
"""

import atexit
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

from etalage.engine.contract import Engine
from etalage.engine.local import LocalEngine
from tests.conftest import PROJECT
from tests.engine import jobs, shard_jobs
from tests.spark_cluster import QUICK


def engine_of(master: str) -> Engine:
    if master == "none":
        return LocalEngine(2)
    from etalage.engine.spark import SparkEngine

    settings = {"spark.executorEnv.PYTHONPATH": str(PROJECT), "spark.executor.memory": "512m"}
    return SparkEngine(master, 2, settings=settings | {"spark.executor.extraJavaOptions": QUICK})


def say_when_there(folder: Path, names: tuple[str, ...]) -> None:
    while not all((folder / name).exists() and (folder / name).read_text() for name in names):
        time.sleep(0.05)
    print("ready", flush=True)


def main(master: str, folder: Path, verb: str) -> None:
    # What a shell starts in the background ignores SIGINT, and so does all that comes of it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Runs after the handlers of the engine's slots: what begins a shard again while they end the others has
    # the time to.
    until_given_up: list[threading.Thread] = []
    atexit.register(lambda: [thread.join() for thread in until_given_up])
    engine = engine_of(master)
    names = ("1",) if verb == "launch" else ("pid-0", "pid-1")
    threading.Thread(target=say_when_there, args=(folder, names), daemon=True).start()
    if verb == "map":
        list(engine.map(partial(shard_jobs.keeps_on, folder), range(5), workers=2))
    elif verb == "leave":
        # The results are asked for and never taken; the command ends with an error of its own.
        results = engine.map(partial(shard_jobs.keeps_on, folder), range(5), workers=2)
        taking = threading.Thread(target=next, args=(results,), daemon=True)
        taking.start()
        if master == "none":
            until_given_up.append(taking)
        while not all((folder / name).exists() for name in names):
            time.sleep(0.05)
        raise SystemExit(7)
    else:
        with engine.launch(partial(jobs.wait, folder), 2):
            time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
