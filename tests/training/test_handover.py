"""What one process hands to another arrives whole, and its arrays lie in memory once."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from etalage.training.workers import hand_over, handed

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
KINDS = st.sampled_from([np.dtype(name) for name in ("uint8", "int64", "float32", "float16", "bool", "<U3")])


@dataclass
class Several:
    one: np.ndarray
    same: np.ndarray
    names: list[str]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=st.lists(KINDS.flatmap(lambda kind: arrays.arrays(kind, SHAPES)), max_size=4))
def test_arrays_of_any_kind_and_shape_arrive_as_they_were(tmp_path: Path, given: list[np.ndarray]) -> None:
    hand_over({"arrays": given, "name": "ä"}, tmp_path)
    found = handed(tmp_path)
    assert found["name"] == "ä"
    for one, other in zip(given, found["arrays"], strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def test_what_is_written_to_them_stays_here(tmp_path: Path) -> None:
    pixels = np.arange(3000, dtype=np.uint8).reshape(10, 300)
    hand_over(Several(pixels, pixels, ["a", "b"]), tmp_path)
    mine, yours = handed(tmp_path), handed(tmp_path)
    mine.one[3, 7] = 255 - mine.one[3, 7]
    assert np.array_equal(yours.one, pixels) and not np.array_equal(mine.one, pixels)
    assert mine.names == ["a", "b"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_large_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    hand_over(np.zeros((60, 2**20), np.uint8), tmp_path)
    code = """
import sys
from pathlib import Path
from etalage.training.workers import handed
def private():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
before = private()
found = handed(Path(sys.argv[1]))
assert int(found.sum()) == 0
print(found.shape, private() - before)
"""
    told: Any = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    *shape, kilobytes = told.stdout.split()
    assert shape == ["(60,", "1048576)"] and int(kilobytes) < 20_000


def test_no_array_is_no_trouble(tmp_path: Path) -> None:
    hand_over(("name", {"batch": 3}), tmp_path)
    assert handed(tmp_path) == ("name", {"batch": 3})
    with pytest.raises(FileNotFoundError):
        handed(tmp_path / "elsewhere")
