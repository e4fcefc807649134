"""What an editor and mypy are told of the public names."""

import subprocess
import sys
from pathlib import Path

import pytest

SNIPPET = """
from pathlib import Path
import pyarrow as pa
from etalage import Client, Shop, model

shop = Shop("myshop")
reveal_type(shop.ingest(pa.table({}), "items", name="orders").refused)
reveal_type(shop.ingest(Path("feed.csv"), "items"))
reveal_type(shop.recommend("u1")[0].title)
reveal_type(shop.recommend("u1").answer.tier)
reveal_type(shop.similar("i1").to_polars())
reveal_type(shop.evaluate("item_knn").rows[0].value)
reveal_type(shop.evaluate().decisions[0].question)
reveal_type(shop.evaluate_all().best)
reveal_type(shop.table("items").to_arrow(["item_id"]))
reveal_type(shop.tables()[0].rows)
reveal_type(model("item_knn", neighbours=50).fit(pa.table({})).recommend("u1").slots)
reveal_type(model("item_knn").evaluate())
reveal_type(Client("http://127.0.0.1:8765"))
shop.ingest(17, "items")
shop.ingest("feed.csv", "itmes")
model(50)
"""
REVEALED = [
    "int", "etalage.lake.merging.Ingested", "str | None", "str", "polars.dataframe.frame.DataFrame", "float",
    "str", "dict[str, str]", "Any", "int", "list[etalage.api.Slot]",
    "etalage.evaluation.evaluation.Evaluation", "etalage.client.Client",
]  # fmt: skip
"""pyarrow is not typed: what it makes is Any."""


@pytest.mark.slow
def test_the_public_names_have_the_types_that_they_promise(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    config = ["--config-file", str(project / "pyproject.toml"), "--cache-dir", str(project / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", *config, str(file)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    found = [
        line.partition('type is "')[2].rstrip('"') for line in done.stdout.splitlines() if "Revealed" in line
    ]
    assert found == REVEALED, done.stdout
    errors = [line.rpartition("[")[2].rstrip("]") for line in done.stdout.splitlines() if ": error:" in line]
    assert errors == ["arg-type"] * 3, done.stdout
