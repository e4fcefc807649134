"""The command line without its start: a process that has imported what commands import forks one for each.

A command is a process of its own here too, with its own environment, folder, streams and status; what it
saves is the second or more that the imports take. Whatever is about the start itself (the module path, what
is imported when, a kill) types the real command.
"""

import atexit
import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import run_stores, run_traces

ROOT = Path(__file__).resolve().parents[1]
SHAPING = ("COLUMNS", "FORCE_COLOR", "LC_ALL", "PYTHONIOENCODING", "ETALAGE_SHOP", "ETALAGE_KEY")
"""What would change what a command prints, or where it works."""


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


class WarmCommands:
    """Runs one command at a time; started by the first."""

    def __init__(self) -> None:
        self.run_folder: Path | None = None
        """Where the run's processes share what is made once a run: `share`."""
        self._process: subprocess.Popen[str] | None = None

    def run(self, words: Sequence[str], folder: Path, **changed: str) -> Done:
        """`etalage WORDS`, typed in `folder`; `changed` is added to the environment."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        with tempfile.TemporaryDirectory() as streams:
            out, err = Path(streams, "out"), Path(streams, "err")
            asked = {
                "words": list(words), "folder": str(folder), "out": str(out), "err": str(err),
                "environment": {**_environment(), **changed},
            }  # fmt: skip
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            status = process.stdout.readline()
            assert status, "the process that forks the commands has ended"
            texts = [file.read_text("utf-8") for file in (out, err)]
        return Done(int(status), *texts)

    def _start(self) -> "subprocess.Popen[str]":
        shared = [] if self.run_folder is None else [str(self.run_folder)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", *shared], cwd=ROOT, env=_environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        atexit.register(process.terminate)
        return process


COMMANDS = WarmCommands()


def share(run_folder: Path) -> None:
    """What other processes of the run have made is not made here again."""
    run_stores.share_empty_store(run_folder / "empty-mlflow.db")
    run_traces.share_traces(run_folder / "traces")


def _environment() -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SHAPING}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "160", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


# -- in the process that forks ------------------------------------------------------------------------------


def _import_what_commands_import() -> None:
    import mlflow.store.db.utils
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401

    import etalage.bundle.publish
    import etalage.cli
    import etalage.recommend
    import etalage.training.run  # noqa: F401


def _asked() -> dict[str, Any]:
    """Fork for every request; what the forked process is asked for."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    while line := requests.readline():
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
            continue
        requests.close()
        answers.close()
        return dict(json.loads(line))
    os._exit(0)


def _become(asked: dict[str, Any]) -> None:
    for descriptor, file in ((1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["etalage", *asked["words"]]
    main: Any = sys.modules["__main__"]
    main.__spec__ = None  # processes that this one spawns import nothing of here
    del main.__file__


def _run_and_end(command: Callable[[], object]) -> None:
    """As the interpreter ends, but for taking itself apart: that touches, and so copies, what is shared."""
    status = 0
    try:
        command()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _import_what_commands_import()
    if sys.argv[1:]:
        share(Path(sys.argv[1]))
    gc.collect()
    gc.freeze()  # or the forked ones' collections would touch, and so copy, all that is shared
    _become(_asked())
    from etalage.cli import main

    _run_and_end(main)
