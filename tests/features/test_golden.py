"""The golden set: fixed once, and nothing of it is learned from, under whatever name it comes back."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import GoldenChanged, LeakageFound, TooLittleData
from etalage.features.golden import Golden, check_golden, make_golden, read_golden, write_golden

COUNT = 12
HASHES = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 2 * COUNT)


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def golden(count: int = COUNT, **changes: object) -> Golden:
    content: dict[str, object] = {
        "item_ids": [f"g{n}" for n in range(count)],
        "sha256s": [sha(f"g{n}") for n in range(count)],
        "phashes": HASHES[:count],
        "keys": [f"400{n}" if n % 2 else None for n in range(count)],
        "category_ids": [f"{n % 3}" for n in range(count)],
    }
    return make_golden(**(content | changes), phash_distance=3)  # type: ignore[arg-type]


def check(one: Golden, **changes: object) -> None:
    content: dict[str, object] = {
        "item_ids": [f"t{n}" for n in range(COUNT)],
        "sha256s": [sha(f"t{n}") for n in range(COUNT)],
        "phashes": HASHES[COUNT:].copy(),
        "keys": [f"500{n}" if n % 3 else None for n in range(COUNT)],
    }
    check_golden(one, **(content | changes))  # type: ignore[arg-type]


def with_one(values: list[object], place: int, value: object) -> list[object]:
    return [*values[:place], value, *values[place + 1 :]]


def test_rows_that_share_nothing_pass() -> None:
    check(golden())


def test_an_item_of_the_set_is_refused_by_its_id() -> None:
    with pytest.raises(LeakageFound, match=r"1 by id: 'g4' \(the id of golden 'g4'\)"):
        check(golden(), item_ids=with_one([f"t{n}" for n in range(COUNT)], 7, "g4"))


def test_the_same_product_at_another_merchant_is_refused() -> None:
    keys = with_one([f"500{n}" for n in range(COUNT)], 2, "4005")
    with pytest.raises(LeakageFound, match=r"1 by product: 't2' \(the product '4005' of golden 'g5'\)"):
        check(golden(), keys=keys)


def test_the_same_photo_under_another_id_is_refused() -> None:
    shas = with_one([sha(f"t{n}") for n in range(COUNT)], 9, sha("g1"))
    with pytest.raises(LeakageFound, match=r"1 by photo: 't9' \(the photo [0-9a-f]{12} of golden 'g1'\)"):
        check(golden(), sha256s=shas)


@pytest.mark.parametrize(("bits", "refused"), [(0, True), (1, True), (3, True), (4, False)])
def test_a_retouched_photo_is_refused_up_to_the_distance(bits: int, refused: bool) -> None:
    phashes = HASHES[COUNT:].copy()
    phashes[6] = HASHES[2] ^ sum(1 << 9 * n for n in range(bits))
    if refused:
        with pytest.raises(
            LeakageFound, match=r"1 by near-duplicate: 't6' \(hash [0-9a-f]{16}, near that of golden 'g2'\)"
        ):
            check(golden(), phashes=phashes)
    else:
        check(golden(), phashes=phashes)


def test_blank_photos_and_missing_ones_are_no_leak() -> None:
    blank = with_one(HASHES[:COUNT].tolist(), 0, 0)
    check(
        golden(phashes=blank, sha256s=[None] * COUNT),
        phashes=[0, -1] + [0] * 10,
        sha256s=[None] * COUNT,
        keys=[None] * COUNT,
    )


def test_every_kind_of_leak_is_told_with_the_first_few() -> None:
    with pytest.raises(LeakageFound) as found:
        check(golden(), item_ids=[f"g{n}" for n in range(COUNT)], phashes=HASHES[:COUNT])
    text = str(found.value)
    assert "12 by id: 'g0'" in text and "12 by near-duplicate" in text and "…" in text
    assert text.count("'g2' (") == 2 and "'g3' (" not in text and "by product" not in text


def test_the_set_survives_its_file_and_its_hash_is_of_its_rows(tmp_path: Path) -> None:
    one = golden()
    write_golden(one, tmp_path / "new" / "golden.json")
    write_golden(one, tmp_path / "new" / "golden.json")
    again = read_golden(tmp_path / "new" / "golden.json")
    assert again == one and again.hash == one.hash and len(one.hash) == 64
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["golden.json"]
    order = np.random.default_rng(0).permutation(COUNT)
    mixed = golden(
        item_ids=[f"g{n}" for n in order], sha256s=[sha(f"g{n}") for n in order], phashes=HASHES[order],
        keys=[f"400{n}" if n % 2 else None for n in order], category_ids=[f"{n % 3}" for n in order],
    )  # fmt: skip
    assert mixed.hash == one.hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"g3"', '"g99"'),
        ('"category_id": "2"', '"category_id": "1"'),
        ('"phash_distance": 3', '"phash_distance": 0'),
    ],
)
def test_a_changed_set_is_refused(tmp_path: Path, old: str, new: str) -> None:
    file = tmp_path / "golden.json"
    write_golden(golden(), file)
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(GoldenChanged, match=r"golden.json: its rows have the hash"):
        read_golden(file)


def test_a_row_taken_out_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    raw = json.loads(golden().to_json())
    del raw["rows"][5]
    file.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(GoldenChanged, match="its rows have the hash"):
        read_golden(file)


def test_another_set_does_not_replace_the_first(tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    write_golden(golden(), file)
    with pytest.raises(GoldenChanged, match="holds another golden set"):
        write_golden(golden(COUNT - 1), file)
    assert read_golden(file) == golden()


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_stands_in_the_file_is_read_or_refused(data: st.DataObject) -> None:
    import tempfile

    text = golden().to_json()
    at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 40))
    cut = text[:at] + data.draw(st.text(max_size=12)) + text[at + length :]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "golden.json"
        file.write_text(cut, encoding="utf-8")
        try:
            assert read_golden(file) == golden()
        except GoldenChanged as error:
            assert "golden.json" in str(error)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 3}', '{"rows": [[]]}', "\x00"])
def test_what_is_no_golden_set_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "golden.json").write_text(text, encoding="utf-8")
    with pytest.raises(GoldenChanged, match="not a golden set"):
        read_golden(tmp_path / "golden.json")
    with pytest.raises(GoldenChanged):
        read_golden(tmp_path / "none.json")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    raw = json.loads(golden().to_json()) | {"format": 2}
    (tmp_path / "golden.json").write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(GoldenChanged, match="format 2"):
        read_golden(tmp_path / "golden.json")


def test_f49_an_empty_test_part_makes_no_golden_set() -> None:
    with pytest.raises(TooLittleData, match="golden"):
        golden(0)
