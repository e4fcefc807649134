"""A standalone Spark for tests: a master and two workers of one core each, on loopback."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etalage.engine.children import child

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For a JVM that lives for some tests."""


class SparkCluster:
    """`master`: its URL. The processes end with this one."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        import pyspark

        self._folder, self._home = folder, Path(pyspark.__file__).parent
        self._java = [
            str(Path(os.environ["JAVA_HOME"], "bin/java")) if "JAVA_HOME" in os.environ else "java",
            *("-cp", f"{self._home}/jars/*", "-Xmx256m", *QUICK.split()),
            # What Spark's own scripts add for a Java of modules.
            *("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED"),
            *("--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED"),
        ]
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start("master", "master.Master", "--port", "0", "--webui-port", "0")
        self.master = self._said("master", r"Starting Spark master at (spark://\S+)")
        for number in range(workers):
            self.add_worker(f"worker-{number}")

    def add_worker(self, name: str, cores: int = 1) -> "subprocess.Popen[bytes]":
        words = ("--port", "0", "--webui-port", "0", "--cores", str(cores), "--memory", "1g")
        process = self._start(
            name, "worker.Worker", *words, "--work-dir", str(self._folder / name), self.master
        )
        self._said(name, "(Successfully registered) with master")
        return process

    def _start(self, name: str, kind: str, *words: str) -> "subprocess.Popen[bytes]":
        log = f"-Dlog4j2.configurationFile={self._log4j().as_uri()}"
        command = [*self._java, log, f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1", *words]
        with (self._folder / f"{name}.log").open("wb") as file:
            kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
            environment = kept | {
                "SPARK_LOCAL_IP": "127.0.0.1",
                "SPARK_HOME": str(self._home),
                "SPARK_SCALA_VERSION": "2.13",  # else it looks for where Spark was built
            }
            shell = ["/bin/sh", "-c", 'log=$1; shift; exec "$@" > "$log" 2>&1', "sh", file.name, *command]
            process = child(shell, env=environment, cwd=self._folder)
        self.processes.append(process)
        return process

    def _log4j(self) -> Path:
        file = self._folder / "log4j2.properties"
        file.write_text(
            "rootLogger.level = info\nrootLogger.appenderRef.out.ref = out\nappender.out.type = Console\n"
            "appender.out.name = out\nappender.out.layout.type = PatternLayout\n"
            "appender.out.layout.pattern = %d %p %c: %m%n%ex\n"
        )
        return file

    def _said(self, name: str, what: str) -> str:
        until = time.monotonic() + 120
        while True:
            text = (self._folder / f"{name}.log").read_text(errors="replace")
            if found := re.search(what, text):
                return found[1]
            if time.monotonic() > until or any(one.poll() is not None for one in self.processes):
                raise AssertionError(f"{name} did not start: {text[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def require_spark() -> None:
    """Skip the test where Spark or Java is missing."""
    pytest.importorskip("pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java on this machine")


@contextmanager
def running_cluster(folder: Path, workers: int = 2) -> Iterator[SparkCluster]:
    require_spark()
    cluster = SparkCluster(folder, workers)
    try:
        yield cluster
    finally:
        cluster.stop()
