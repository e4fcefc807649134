"""DLRM trained by command on a table of dense and sparse columns, and a photo model on photos from a file."""

import json
from pathlib import Path

import numpy as np
import pytest

from etalage.errors import ConfigError, TableDamaged
from etalage.features.table_encoder import TableEncoder
from etalage.runtime.export_files import TABLE, read_facts
from etalage.runtime.opening import open_scorer
from etalage.shop import Shop
from etalage.training import tracking
from tests.features.example_tables import ROWS, drawn, stored
from tests.shops import act_rows, rows_of

SETTINGS = {
    "table": "clicks", "dimension": "4", "bottom": "[8]", "top": "[8]", "batch_size": "128", "epochs": "2",
    "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    stored(folder / "clicks", drawn())
    return Shop.create(folder, "clicks")


def test_a_table_trains_by_command_as_a_stream_and_says_so(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    trained, exported = shop.train("dlrm", {**SETTINGS, "stream": "always"})
    assert "clicks: sparse colour, shop; dense price, weight, id; parts by the column `part`" in caplog.text
    assert f"{ROWS:,} rows in 30 row groups" in caplog.text
    assert "read as a stream" in caplog.text
    assert trained.metrics["auroc"] > 0.75
    assert trained.metrics["test.auroc"] > 0.6
    facts = read_facts(exported)
    assert facts["tables"] == {"clicks": 2}
    encoder = TableEncoder.from_folder(exported / TABLE)
    assert facts["sparse_inputs"] == list(encoder.vocabularies)
    # What it wrote answers for rows that are encoded by what lies beside it.
    batch = drawn(20).select(encoder.columns).to_batches()[0]
    rows = encoder.encode(batch, encoder.parts(batch, 0))
    assert open_scorer(exported).score_rows(rows.sparse.astype(np.int64), rows.dense).shape[0] == 20  # type: ignore[attr-defined]
    figures = tracking._client(shop.runs).get_run(facts["mlflow_run"]).data.metrics
    assert figures["test.auroc"] == pytest.approx(trained.metrics["test.auroc"])
    assert 0 < figures["waited_for_data"] < 1
    with pytest.raises(ConfigError, match="it learned from the table clicks"):
        shop.evaluate("dlrm")


def test_a_damaged_row_group_ends_the_training_and_is_named(tmp_path: Path) -> None:
    stored(tmp_path / "clicks", drawn(600))
    shop = Shop.create(tmp_path, "broken")
    file = sorted((tmp_path / "clicks").glob("*.parquet"))[1]
    content = bytearray(file.read_bytes())
    content[4:600] = b"\xff" * 596
    file.write_bytes(content)
    with pytest.raises(TableDamaged, match=f"{file.name}, row group 0: cannot be read"):
        shop.train("dlrm", SETTINGS)


def test_settings_of_a_table_do_nothing_without_one(shop: Shop, tmp_path: Path) -> None:
    other = Shop.create(tmp_path, "acts")
    other.lake.table("interactions").merge(rows_of("interactions", act_rows([("u", 1, "buy")])))
    for given in ({"buffer": "64"}, {"stream": "always"}, {"sparse": json.dumps(["colour"])}):
        with pytest.raises(ConfigError, match="does nothing here: it needs table"):
            other.train("dlrm", given)
    with pytest.raises(ConfigError, match="window = 100 does nothing here"):
        shop.train("dlrm", {"table": "clicks", "window": "100"})
