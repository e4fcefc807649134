"""Types what README and docs say to type, as a reader would."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_HERE = ("make test", "make slow", "make bench")
SERVERS = ("etalage serve", "etalage page", "mlflow models serve")


def blocks(file: Path) -> list[tuple[str, str | None, str]]:
    """(kind, the file's name where it is one, text) of each fenced block."""
    return [(m[1], m[2], m[3]) for m in FENCE.finditer(file.read_text(encoding="utf-8"))]


@dataclass
class Typist:
    """Types commands in a folder, each in a process of its own; `cd` and `export` hold for those that follow,
    servers stay up until it leaves."""

    folder: Path
    project: Path
    extra: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.project), **self.extra}

    def type(self, command: str) -> None:
        word, _, rest = command.partition(" ")
        if word == "cd":
            self.folder = self.folder / rest
            return
        if word == "export":
            name, _, value = rest.partition("=")
            self.extra[name] = value
            return
        if command.startswith(SERVERS):
            self.start(command)
            return
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def start(self, command: str) -> None:
        port = re.search(r"--port (\d+)", command)
        assert port is not None, f"{command}: a server of the docs names its port"
        words = shlex.split(command)
        self.running.append(
            subprocess.Popen(words, cwd=self.folder, env=self.environment, start_new_session=True)
        )
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            assert self.running[-1].poll() is None, f"{command}: ended with {self.running[-1].returncode}"
            url = f"http://127.0.0.1:{port[1]}/"
            if subprocess.run(["curl", "--silent", "--output", "/dev/null", url]).returncode == 0:
                return
            time.sleep(0.2)
        raise AssertionError(f"{command}: nothing answers on port {port[1]}")

    def run_block(self, kind: str, name: str | None, text: str) -> int:
        """Type the block, or see that it is the file that the folder has; a file of code is written by the
        reader. How many commands it held."""
        if name is not None and kind == "python":
            (self.folder / name).write_text(text, encoding="utf-8")
        elif name is not None:
            there = (self.folder / name).read_text(encoding="utf-8")
            assert there == text, f"{name}: the page shows another file than the one that was written"
        elif kind == "python":
            self.type(f"python -c {shlex.quote(text)}")
        elif kind == "sh":
            lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
            for line in lines:
                if line not in NOT_HERE:
                    self.type(line)
            return len(lines)
        return 0

    def leave(self) -> None:
        for process in self.running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
