"""Criteo's logs as they come: tabs or commas, header or none, holes, negative counts."""

from pathlib import Path

import numpy as np
import pytest

from etalage.datasets.criteo import CATEGORIES, COLUMNS, COUNTS, read_criteo
from etalage.errors import InputUnreadable, TooLittleData


def line(label: int, counts: dict[str, int], categories: dict[str, str], delimiter: str = "\t") -> str:
    values = [
        str(label),
        *(str(counts.get(n, "")) for n in COUNTS),
        *(categories.get(n, "") for n in CATEGORIES),
    ]
    return delimiter.join(values) + "\n"


@pytest.fixture(params=["tab, no header", "comma, header"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    delimiter = "\t" if request.param.startswith("tab") else ","
    lines = [
        line(1, {"I1": 3, "I2": -2}, {"C1": "aa", "C26": "zz"}, delimiter),
        line(0, {"I1": 0}, {"C1": "bb", "C26": "zz"}, delimiter),
        line(0, {"I13": 7}, {"C1": "aa"}, delimiter),
    ]
    header = [] if delimiter == "\t" else [",".join(COLUMNS) + "\n"]
    (tmp_path / "log.txt").write_text("".join(header + lines))
    return tmp_path / "log.txt"


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_log_becomes_examples(log: Path, tmp_path: Path, in_folder: bool) -> None:
    folder = tmp_path / "arrays" if in_folder else None
    examples, vocabularies = read_criteo({"train": log, "test": log}, folder=folder)
    assert isinstance(examples.sparse, np.memmap) == in_folder
    assert examples.labels[:, 0].tolist() == [1, 0, 0] * 2
    assert examples.parts.tolist() == [0, 0, 0, 2, 2, 2]
    assert vocabularies["C1"].ids.to_pylist() == ["aa"]  # bb was seen once
    assert examples.sparse[:3, 0].tolist() == [1, 0, 1]
    assert examples.sparse[:3, 25].tolist() == [1, 1, 0]
    assert examples.sparse[:, 1].tolist() == [0] * 6
    assert examples.sizes[:2] == (2, 1)


def test_counts_are_logarithms_and_holes_are_told_apart_from_zero(log: Path) -> None:
    examples, _ = read_criteo({"train": log})
    at = examples.dense_names.index
    assert examples.dense[:, at("I1")] == pytest.approx([np.log(4), 0, 0])
    assert examples.dense[:, at("I1.missing")].tolist() == [0, 0, 1]
    assert examples.dense[0, at("I2")] == pytest.approx(-np.log(3))
    assert examples.dense[2, at("I13")] == pytest.approx(np.log(8))
    assert np.isfinite(examples.dense).all()


def test_vocabularies_are_of_the_training_rows_alone(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(line(1, {}, {"C1": "new"}) * 3)
    examples, vocabularies = read_criteo({"train": log, "test": other}, min_count=1)
    assert vocabularies["C1"].ids.to_pylist() == ["aa", "bb"]
    assert examples.sparse[examples.rows("test"), 0].tolist() == [0, 0, 0]


def test_one_file_is_cut_in_its_order_whatever_the_size_of_the_blocks(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    file.write_text("".join(line(n % 2, {"I1": n}, {"C1": f"c{n % 7}"}) for n in range(500)))
    whole, _ = read_criteo({"all": file})
    small, _ = read_criteo({"all": file}, block_bytes=512)
    assert [len(whole.rows(part)) for part in ("train", "validation", "test")] == [400, 50, 50]
    assert whole.fingerprint() == small.fingerprint()
    assert np.expm1(small.dense[:, 0]) == pytest.approx(np.arange(500), rel=1e-4)


@pytest.mark.parametrize(
    "text",
    ["1\t2\n", "x" + line(1, {}, {})[1:], line(1, {}, {})[1:], line(1, {}, {}).replace("\t", "\tx", 1)],
)
def test_what_is_no_log_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(line(1, {}, {}) + text)
    with pytest.raises(InputUnreadable, match=r"bad\.txt"):
        read_criteo({"train": file})


def test_a_missing_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match=r"none\.txt"):
        read_criteo({"train": tmp_path / "none.txt"})
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(TooLittleData, match=r"empty\.txt"):
        read_criteo({"train": tmp_path / "empty.txt"})


def test_the_real_samples_have_their_published_click_rates(shared_data: Path) -> None:
    folder = shared_data / "ctr-criteo-sample"
    names = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
    examples, _ = read_criteo({part: folder / name for part, name in names.items()})
    rates = [float(examples.labels[examples.rows(part)].mean()) for part in names]
    assert [len(examples.rows(part)) for part in names] == [7200, 409, 391]
    assert rates == pytest.approx([0.215, 0.227, 0.220], abs=6e-4)
    assert (examples.sparse < np.array(examples.sizes)).all()
    small, _ = read_criteo({"all": folder / "criteo_sample.txt"})
    assert len(small) == 200 and small.labels.mean() == pytest.approx(0.245)
