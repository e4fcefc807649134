"""A standalone Spark on loopback: a master, and workers of one core each, as processes of this machine."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from etalage.engine.children import child

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For a JVM that lives for minutes: it starts sooner, and keeps its hands off the other cores."""


class SparkCluster:
    """`master`: its URL. `workers`: their processes, by name. All end with this process."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        spec = find_spec("pyspark")
        assert spec is not None and spec.origin is not None
        self._folder, self._home = folder, Path(spec.origin).parent
        self._java = [
            str(Path(os.environ["JAVA_HOME"], "bin/java")) if "JAVA_HOME" in os.environ else "java",
            *("-cp", f"{self._home}/jars/*", "-Xmx256m", *QUICK.split()),
            # What Spark's own scripts add for a Java of modules.
            *("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED"),
            *("--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED"),
        ]
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._master = self._start("master", "master.Master", "--port", "0", "--webui-port", "0")
        self.master = self._said("master", r"Starting Spark master at (spark://\S+)")
        for number in range(workers):
            self.add_worker(f"worker-{number}")

    @property
    def processes(self) -> "list[subprocess.Popen[bytes]]":
        """The master's, and the workers'."""
        return [self._master, *self.workers.values()]

    def add_worker(self, name: str, cores: int = 1) -> "subprocess.Popen[bytes]":
        """Start one more, and wait until the master knows it."""
        words = ("--port", "0", "--webui-port", "0", "--cores", str(cores), "--memory", "1g")
        self.workers[name] = self._start(
            name, "worker.Worker", *words, "--work-dir", str(self._folder / name), self.master
        )
        self._said(name, "(Successfully registered) with master")
        return self.workers[name]

    def _start(self, name: str, kind: str, *words: str) -> "subprocess.Popen[bytes]":
        log = f"-Dlog4j2.configurationFile={self._log4j().as_uri()}"
        command = [*self._java, log, f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1", *words]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment = kept | {
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_HOME": str(self._home),
            "SPARK_SCALA_VERSION": "2.13",  # else it looks for where Spark was built
        }
        file = str(self._folder / f"{name}.log")
        Path(file).touch()
        shell = ["/bin/sh", "-c", 'log=$1; shift; exec "$@" > "$log" 2>&1', "sh", file, *command]
        return child(shell, env=environment, cwd=self._folder)

    def _log4j(self) -> Path:
        file = self._folder / "log4j2.properties"
        file.write_text(
            "rootLogger.level = info\nrootLogger.appenderRef.out.ref = out\nappender.out.type = Console\n"
            "appender.out.name = out\nappender.out.layout.type = PatternLayout\n"
            "appender.out.layout.pattern = %d %p %c: %m%n%ex\n"
        )
        return file

    def _said(self, name: str, what: str) -> str:
        until = time.monotonic() + 600
        while True:
            text = (self._folder / f"{name}.log").read_text(errors="replace")
            if found := re.search(what, text):
                return found[1]
            process = self._master if name == "master" else self.workers[name]
            if time.monotonic() > until or process.poll() is not None:
                raise AssertionError(f"{name} did not start: {text[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all of them."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def missing() -> str | None:
    """What a Spark needs and is not here."""
    if find_spec("pyspark") is None:
        return "pyspark is not installed: pip install 'etalage[spark]'"
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        return "there is no Java on this machine (17 or 21)"
    return None


@contextmanager
def running_cluster(folder: Path, workers: int = 2) -> Iterator[SparkCluster]:
    """A cluster whose logs and working folders are in `folder`, while this is open."""
    cluster = SparkCluster(folder, workers)
    try:
        yield cluster
    finally:
        cluster.stop()
