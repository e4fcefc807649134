"""docs/python.md and the notebook run as they stand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import notebooks, run_stores
from tests.typist import blocks


@pytest.fixture
def namespace(tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    import mlflow.store.db.utils  # noqa: F401

    run_stores.share_empty_store(run_folder / "empty-mlflow.db")
    monkeypatch.chdir(tmp_path)
    return {"__name__": "__main__"}


def test_the_pages_blocks_run_from_top_to_bottom(project: Path, namespace: dict[str, Any]) -> None:
    codes = [text for kind, _, text in blocks(project / "docs" / "python.md") if kind == "python"]
    shown = [notebooks.run(code, namespace) for code in codes]
    assert len(shown) > 5
    assert not [one.err for one in shown if "Traceback" in one.err or "%" in one.err]
    assert "learned from" in shown[1].out
    assert "text/html" in shown[-1].value


def test_the_notebook_shows_what_it_was_recorded_with(project: Path, namespace: dict[str, Any]) -> None:
    file = project / "examples" / "first_hour.ipynb"
    shown = [notebooks.run(code, namespace) for code in notebooks.cells(file)]
    stored = [one for one in json.loads(file.read_text("utf-8"))["cells"] if one["cell_type"] == "code"]
    for cell, one in zip(stored, shown, strict=True):
        kinds = {kind for output in cell["outputs"] for kind in output.get("data", ())}
        assert set(one.value) == kinds, f"{cell['source']}: record it anew: python -m tests.notebooks {file}"
    slates = [one.value["text/html"] for one in shown if 'class="slot"' in one.value.get("text/html", "")]
    assert len(slates) >= 2
    assert all("data:image/jpeg;base64," in one for one in slates)


def test_the_recorded_notebook_is_small_and_looks_like_what_it_says(project: Path) -> None:
    file = project / "examples" / "first_hour.ipynb"
    text = file.read_text("utf-8")
    assert len(text) < 150_000
    assert "Traceback" not in text and "/tmp/" not in text
    counts = [one["execution_count"] for one in json.loads(text)["cells"] if one["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
