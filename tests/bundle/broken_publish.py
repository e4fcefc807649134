"""Publishes under strace, again and again, each time broken at another system call.

Run by test_crash.py as `python -m tests.bundle.broken_publish FOLDER KIND WAY SHARE OF`. It warms up
once, and forks for each publish, so that a point costs a fraction of a second. It prints one JSON
line a point: the system call, its number, how the publish ended, and what was wrong afterwards
(null: nothing).

KIND: `exact` and `ivf` publish over old bundles, `first` into an empty folder. WAY: `kill` at each system
call that changes the disk; `fsync`: each fsync fails with EIO; `write`: each write with ENOSPC.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from etalage.bundle.draft import Draft
from etalage.bundle.manifest import verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import EtalageError, NoBundle
from tests.shops import drafted, fill, published, small_shop

CHANGING = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,rename,renameat,renameat2,mkdir,mkdirat,rmdir,"
    "fsync,fdatasync,unlink,unlinkat,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,ftruncate,truncate,"
    "fallocate,sendfile,copy_file_range"
)
KEEP = 2
WAYS: dict[str, tuple[str | None, str]] = {
    "kill": (None, "signal=SIGKILL"),
    "fsync": ("fsync", "error=EIO"),
    "write": ("write", "error=ENOSPC"),
}
PR_SET_PTRACER, ANY = 0x59616D61, -1


class Point(NamedTuple):
    """The `number`-th time (from 1) that the publish makes the system call `call`."""

    call: str
    number: int


class Stage:
    """A folder of bundles as it is before the publish, and the draft that is published."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.config = PublishConfig(keep=KEEP)
        wanted = "ivf_flat" if kind == "ivf" else "exact"
        self.index_config = IndexConfig(kind=wanted, lists=3 if kind == "ivf" else None)  # type: ignore[arg-type]
        small = {"size": 8, "dimension": 4}
        lake, bundles, _ = small_shop(folder / "shop", 24, **small, index_config=self.index_config)
        export = folder / "shop" / "exports" / "image_similarity" / "0001-tiny"
        for more in (24, 25):  # one bundle more than is kept: the publish removes the oldest
            fill(lake, [more])
            config = PublishConfig(keep=9)
            published(lake, bundles, export, config=config, index_config=self.index_config)
        bundles.switch(bundles.ids()[-1])
        fill(lake, [26])
        self.draft: Draft = drafted(lake, export)
        self.template = folder / "template"
        if kind == "first":
            self.template.mkdir()
        else:
            bundles.folder.rename(self.template)
            (self.template / ".staging-dead").mkdir()
            (self.template / ".staging-dead" / "items.arrow").write_bytes(b"half")
            (self.template / ".current-dead").write_bytes(b"b0000")
        self.before = self.current(self.template)

    def current(self, folder: Path) -> str | None:
        """The current bundle, verified."""
        try:
            bundle = Bundles(folder).current_id()
        except NoBundle:
            return None
        verify(folder / bundle)
        return bundle

    def publish(self, folder: Path) -> str:
        bundles = Bundles(folder)
        return publish(bundles, self.draft, config=self.config, index_config=self.index_config).id

    def copy(self, name: str) -> Path:
        folder = self.folder / name
        shutil.copytree(self.template, folder, symlinks=True)
        return folder

    def run(self, folder: Path, *options: str) -> int:
        """Publish in a forked child with strace attached; the child's wait status."""
        waiting, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(waiting, 1)
            try:
                self.publish(folder)
            except EtalageError as error:
                print(f"child: {error}", file=sys.stderr, flush=True)
                os._exit(error.exit_code)
            except BaseException as error:
                print(f"child: {error!r}", file=sys.stderr, flush=True)
                os._exit(99)
            os._exit(0)
        os.close(waiting)
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "0", *options, "-p", str(child)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text(encoding="ascii"):
                if tracer.poll() is not None:
                    raise RuntimeError("strace could not attach")
                time.sleep(0.002)
            os.write(go, b"g")
        finally:
            os.close(go)
            _, status = os.waitpid(child, 0)
            tracer.wait()
        return status

    def points(self) -> list[Point]:
        """Every system call by which a publish changes the disk, from one recorded publish."""
        folder, record = self.copy("recorded"), self.folder / "recorded.trace"
        status = self.run(folder, "-e", f"trace={CHANGING}", "-o", str(record))
        if status != 0:
            raise RuntimeError(f"the recorded publish ended with {status}")
        counts: Counter[str] = Counter()
        found = []
        for line in record.read_text(encoding="utf-8", errors="replace").splitlines():
            match = re.match(r"\d+\s+(\w+)\((.*)", line)
            if match is None:
                continue
            call, rest = match.groups()
            counts[call] += 1
            changes = "O_CREAT" in rest if call.startswith("open") else True
            if changes and str(folder) in rest:
                found.append(Point(call, counts[call]))
        return found


def after_kill(stage: Stage, folder: Path, status: int) -> str | None:
    """What is wrong after a kill: nothing, when old or new is current and whole, and a rerun works."""
    if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        return f"the publish was not killed: wait status {status}"
    current = stage.current(folder)
    if current != stage.before and current not in Bundles(folder).ids()[-1:]:
        return f"{current} is current: neither the old nor the new bundle"
    return rerun(stage, folder)


def after_error(stage: Stage, folder: Path, status: int) -> str | None:
    """What is wrong after a failed system call: nothing, when publish said so and moved nothing."""
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status) != 8:
        return f"the publish did not fail as a PublishError: wait status {status}"
    if (current := stage.current(folder)) != stage.before:
        return f"the pointer moved to {current}"
    if left := [one for one in os.listdir(folder) if one.startswith((".staging", ".current", ".removing"))]:
        return f"left behind: {left}"
    return rerun(stage, folder)


def rerun(stage: Stage, folder: Path) -> str | None:
    bundle = stage.publish(folder)
    if stage.current(folder) != bundle:
        return "the next publish is not current"
    hidden = {name for name in os.listdir(folder) if name.startswith(".")}
    if hidden != {".lock", ".publishing"}:
        return f"leftovers: {sorted(hidden)}"
    bundles = Bundles(folder)
    if any(one.damage for one in bundles.survey()):
        return "a damaged bundle is left"
    if bundles.log()[-1]["to"] != bundle:
        return "the log does not end with the current bundle"
    return None


def sweep(folder: Path, kind: str, way: str, share: int, of: int) -> Iterator[dict[str, object]]:
    """Every `of`-th point, from `share`, with its outcome."""
    stage = Stage(folder, kind)
    shutil.rmtree(stage.copy("warm"))
    stage.publish(stage.copy("warm"))
    call, fault = WAYS[way]
    points = [point for point in stage.points() if call in (None, point.call)]
    for at, point in enumerate(points[share::of]):
        target = stage.copy(f"point-{at}")
        inject = f"inject={point.call}:{fault}:when={point.number}"
        status = stage.run(target, "-e", f"trace={CHANGING}", "-e", inject, "-o", os.devnull)
        try:
            wrong = (after_kill if call is None else after_error)(stage, target, status)
        except EtalageError as error:
            wrong = repr(error)
        yield {"call": point.call, "number": point.number, "status": status, "wrong": wrong}
        shutil.rmtree(target)


def main() -> None:
    """See the module."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)  # strace is our child's sibling, not its parent
    folder, kind, way, share, of = sys.argv[1:]
    for result in sweep(Path(folder), kind, way, int(share), int(of)):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
