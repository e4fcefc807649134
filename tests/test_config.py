"""shop.toml: what is not understood is an error that helps."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import EngineConfig, ShopConfig, memory_size, read_config
from etalage.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    file = folder / "shop.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_missing_file_is_the_default_shop(tmp_path: Path) -> None:
    assert read_config(tmp_path / "shop.toml") == ShopConfig()


def test_settings_are_read(tmp_path: Path) -> None:
    config = read_config(
        written(tmp_path, '[index]\nkind = "exact"\n[ingest.items.columns]\ntitle = "name"\n')
    )
    assert config.index.kind == "exact"
    assert config.ingest.items.columns == {"title": "name"}


def test_an_engine_is_named_in_short_or_in_full(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "engine = 'spark'\n")).engine == EngineConfig(kind="spark")
    full = (
        "[engine]\nkind = 'spark'\nmaster = 'spark://a:7077'\nworkers = 8\nmemory = '1.5g'\n"
        "settings = {'spark.executor.cores' = 4, 'spark.ui.enabled' = true}\n"
    )
    engine = read_config(written(tmp_path, full)).engine
    assert (engine.master, engine.workers) == ("spark://a:7077", 8)
    assert memory_size(engine.memory or "") == 3 * 2**29
    assert engine.settings == {"spark.executor.cores": 4, "spark.ui.enabled": True}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[publish]\nmin_recal = 0.9\n", "'publish.min_recal'; did you mean 'min_recall'"),
        ("[indx]\n", "'indx'; did you mean 'index'"),
        ("[ingest.items]\ncolums = {}\n", "'ingest.items.colums'; did you mean 'columns'"),
        ("[ingest.item]\n", "'ingest.item'; did you mean 'items'"),
        ("[evaluate]\nks = []\n", "evaluate.ks = []"),
        ("[index]\nkind = 'annoy'\n", "index.kind = 'annoy'"),
        ("[publish]\nmin_recall = 2\n", "publish.min_recall = 2"),
        ("name = ", "not valid TOML"),
        ("[engine]\nkind = 'ray'\n", "engine.kind = 'ray': Input should be 'local' or 'spark'"),
        ("engine = 'sparc'\n", "engine.kind = 'sparc'"),
        ("[engine]\nmasters = 'local[2]'\n", "'engine.masters'; did you mean 'master'"),
        ("[engine]\nmaster = 'local[2]'\n", "master is set, and kind is 'local': it would do nothing"),
        ("[engine.settings]\n'spark.ui.enabled' = true\n", "settings is set, and kind is 'local'"),
        ("[engine]\nkind = 'spark'\nmaster = 'spark://a:7077'\n", "say in `workers` how many tasks"),
        ("[engine]\nmemory = '2'\n", "engine.memory = '2': expected a size such as `512m` or `2g`"),
        ("[engine]\nmemory = '1m'\n", "a worker needs `128m` at least"),
        ("[engine]\nkind = 'spark'\nsettings = {cores = 2}\n", "cores is no setting of Spark"),
        (
            "[engine]\nkind = 'spark'\n[engine.settings]\n'spark.task.maxFailures' = 4\n",
            "spark.task.maxFailures cannot be set: the engine itself runs a shard that failed again",
        ),
    ],
)
def test_a_wrong_line_is_named_with_its_remedy(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "shop.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        read_config(file)
