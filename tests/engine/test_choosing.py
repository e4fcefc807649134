"""[engine] in shop.toml → the engine that the steps of a shop get."""

import sys
from pathlib import Path

import pytest

from etalage.engine.local import LocalEngine
from etalage.errors import ConfigError
from etalage.shop.workspace import Workspace


def workspace(folder: Path, text: str) -> Workspace:
    (folder / "shop.toml").write_text(text)
    return Workspace(folder)


def test_a_shop_that_says_nothing_has_processes_of_this_machine(tmp_path: Path) -> None:
    engine = workspace(tmp_path, "").engine
    assert isinstance(engine, LocalEngine)
    assert engine.memory is None


def test_the_settings_reach_the_local_engine(tmp_path: Path) -> None:
    engine = workspace(tmp_path, "[engine]\nworkers = 3\nmemory = '1g'\n").engine
    assert isinstance(engine, LocalEngine)
    assert (engine.workers, engine.memory) == (3, 2**30)


def test_the_settings_reach_spark(tmp_path: Path) -> None:
    spark = pytest.importorskip("etalage.engine.spark")
    text = "[engine]\nkind = 'spark'\nmaster = 'spark://a:7077'\nworkers = 3\nmemory = '1g'\n"
    engine = workspace(tmp_path, text + "settings = {'spark.ui.enabled' = true}\n").engine
    assert isinstance(engine, spark.SparkEngine)
    assert (engine.master, engine.workers, engine.memory) == ("spark://a:7077", 3, 2**30)
    assert engine.settings == {"spark.ui.enabled": True}
    short = workspace(tmp_path, "engine = 'spark'\n").engine
    assert isinstance(short, spark.SparkEngine) and short.master == f"local[{short.workers}]"


@pytest.mark.parametrize(("master", "workers"), [("local", 1), ("local[3]", 3), ("local[2,4]", 2)])
def test_a_spark_within_the_process_says_itself_how_many(master: str, workers: int) -> None:
    assert pytest.importorskip("etalage.engine.spark").SparkEngine(master).workers == workers


def test_spark_that_is_not_installed_is_said_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "etalage.engine.spark", raising=False)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ConfigError, match=r"pyspark is missing; .*pip install '\.\[spark\]'"):
        _ = workspace(tmp_path, "engine = 'spark'\n").engine


def test_no_java_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    spark = pytest.importorskip("etalage.engine.spark")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(spark.EngineError, match="needs Java 17"):
        list(spark.SparkEngine("local[2]").map(abs, [1]))


@pytest.mark.skipif(sys.platform != "linux", reason="that is where a limit holds")
def test_a_limit_that_nothing_enforces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="memory: darwin holds no process to a limit"):
        LocalEngine(2, 2**30)
