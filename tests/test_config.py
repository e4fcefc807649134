"""shop.toml: what is not understood is an error that helps."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import ShopConfig, read_config
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
