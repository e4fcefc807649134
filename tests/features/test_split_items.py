"""Splits: by a stable hash of the group, by what shows the same thing, or as published."""

import json
import logging

import numpy as np
import pyarrow as pa
import pytest

from etalage.config import SplitConfig
from etalage.errors import ConfigError
from etalage.features.split_items import (
    PARTS,
    SeenPhotos,
    assign,
    assign_groups,
    grouped,
    product_keys,
    split_groups,
)


def items(count: int, said: dict[int, str] | None = None) -> pa.Table:
    attributes = [json.dumps({"part": (said or {})[n]}) if n in (said or {}) else None for n in range(count)]
    return pa.table(
        {
            "item_id": [f"i{n}" for n in range(count)],
            "brand": [f"b{n % 7}" for n in range(count)],
            "attributes": pa.array(attributes, pa.string()),
        }
    )


def test_shares_are_as_asked() -> None:
    parts = assign(items(5000), SplitConfig(validation=0.2, test=0.1))
    assert abs((parts == "validation").mean() - 0.2) < 0.02
    assert abs((parts == "test").mean() - 0.1) < 0.02


def test_an_item_keeps_its_part_when_the_catalogue_grows() -> None:
    small, large = assign(items(100), SplitConfig()), assign(items(900), SplitConfig())
    assert np.array_equal(small, large[:100])
    assert len(set(small)) == 3


def test_a_group_falls_together() -> None:
    table = items(400)
    parts = assign(table, SplitConfig(group="brand", validation=0.3, test=0.3))
    by_brand: dict[str, set[str]] = {}
    for brand, part in zip(table["brand"].to_pylist(), parts, strict=True):
        by_brand.setdefault(brand, set()).add(part)
    assert all(len(found) == 1 for found in by_brand.values())


def test_published_parts_are_kept_and_validation_comes_out_of_train_alone() -> None:
    said = {n: "test" if n % 4 == 0 else "train" for n in range(2000)}
    parts = assign(items(2000, said), SplitConfig(published="part", validation=0.1, test=0.5))
    for n, part in enumerate(parts):
        assert (part == "test") == (n % 4 == 0)
    assert 0.05 < (parts == "validation").mean() < 0.1


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(ConfigError, match=r"i1 says 'exam'"):
        assign(items(3, {1: "exam"}), SplitConfig(published="part"))


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(ConfigError, match="colour"):
        assign(items(3), SplitConfig(group="colour"))


def hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**63), 2**63 - 1, count)


def seen(count: int, **changes: object) -> SeenPhotos:
    """One photo an item, no two alike."""
    content: dict[str, object] = {"owners_P": np.arange(count), "phashes_P": hashes(count)}
    return SeenPhotos(**(content | changes))  # type: ignore[arg-type]


def with_gtins(gtins: list[object]) -> pa.Table:
    table = items(len(gtins))
    attributes = [None if gtin is None else json.dumps({"gtin": gtin}) for gtin in gtins]
    return table.set_column(2, "attributes", pa.array(attributes, pa.string()))


def test_without_anything_alike_every_item_has_the_part_it_always_had() -> None:
    config = SplitConfig(near_duplicates=True, validation=0.2, test=0.2)
    assert assign_groups(items(500), config, seen(500)).tolist() == assign(items(500), config).tolist()


def test_items_of_one_product_fall_together_whoever_sells_them() -> None:
    gtins: list[object] = [f"{n // 4:013}" if n % 4 else n // 4 for n in range(4, 400)]
    parts = assign_groups(with_gtins(gtins), SplitConfig(product="gtin", test=0.4, validation=0.3), seen(396))
    four = parts.reshape(-1, 4)
    assert (four == four[:, :1]).all() and set(four[:, 0]) == set(PARTS)
    assert product_keys(with_gtins(["0012", "12", 12, " ", "000", None, "AB-0"]), "gtin") == [
        "12", "12", "12", None, None, None, "AB-0",
    ]  # fmt: skip


def test_large_groups_fall_no_other_way_than_small_ones() -> None:
    gtins: list[object] = [f"9{n // 10}" for n in range(10_000)]
    config = SplitConfig(product="gtin", validation=0.15, test=0.15)
    parts = assign_groups(with_gtins(gtins), config, seen(10_000))
    for part, share in zip(PARTS, (0.70, 0.15, 0.15), strict=True):
        assert abs((parts == part).mean() - share) < 0.04, part


def test_items_with_near_duplicate_photos_fall_together() -> None:
    pairs = hashes(200)
    phashes = np.concatenate([pairs, pairs ^ 0b1001])
    config = SplitConfig(near_duplicates=True, phash_distance=2, validation=0.3, test=0.3)
    parts = assign_groups(items(400), config, seen(400, phashes_P=phashes))
    assert (parts[:200] == parts[200:]).all()
    assert (assign(items(400), config)[:200] != parts[:200]).any(), "by id alone they would not"
    apart = assign_groups(
        items(400), config.model_copy(update={"phash_distance": 1}), seen(400, phashes_P=phashes)
    )
    assert (apart[:200] != apart[200:]).any()


def test_items_of_the_same_file_fall_together_whatever_its_hash_says() -> None:
    blank = np.zeros(40, np.int64)  # says nothing, and joins nothing
    files = [f"{n // 2:064x}" for n in range(40)]
    parts = assign_groups(
        items(40), SplitConfig(validation=0.3, test=0.3), seen(40, phashes_P=blank, sha256_P=files)
    )
    assert (parts[::2] == parts[1::2]).all() and len(set(parts)) == 3
    apart = SplitConfig(near_duplicates=False, validation=0.3, test=0.3)
    alone = assign_groups(items(40), apart, seen(40, phashes_P=blank, sha256_P=files))
    assert (alone[1::2] != parts[1::2]).any()


def test_all_photos_of_an_item_count_and_embeddings_too() -> None:
    # Item 0 is like item 1 by its second photo, item 1 is like item 2 by embedding.
    phashes = hashes(5)
    phashes[3] = phashes[1]
    embeddings = np.eye(5, 6)
    embeddings[2] = embeddings[4]
    photos = SeenPhotos(np.array([0, 0, 1, 1, 2]), phashes, embeddings)
    config = SplitConfig(similarity=0.95, validation=0.5, test=0.5)
    for start in range(30):
        table = items(start + 3).slice(start)
        assert len(set(assign_groups(table, config, photos))) == 1


def test_alike_embeddings_join_within_a_class_and_where_one_has_none() -> None:
    embeddings = np.repeat(np.eye(3), 2, axis=0)
    photos = seen(6, embeddings_PD=embeddings, classes_N=["tea", "coffee", "milk", "milk", None, "tea"])
    config = SplitConfig(similarity=0.95)
    numbers = grouped(items(6), config, photos)
    assert numbers[0] != numbers[1], "two classes"
    assert numbers[2] == numbers[3] and numbers[4] == numbers[5]


def test_a_burst_falls_together_and_needs_names() -> None:
    names = [f"shelf_{n:03}.jpg" for n in range(40)]
    embeddings = np.repeat(np.eye(10), 4, axis=0)
    config = SplitConfig(near_duplicates=False, burst=0.9, validation=0.3, test=0.3)
    photos = seen(40, embeddings_PD=embeddings, names_P=names, classes_N=["one"] * 40)
    parts = assign_groups(items(40), config, photos).reshape(10, 4)
    assert (parts == parts[:, :1]).all() and len(set(parts.ravel())) > 1
    with pytest.raises(ConfigError, match="burst"):
        assign_groups(items(40), config, seen(40))


def test_a_burst_whose_numbers_were_shuffled_falls_together() -> None:
    order = np.random.default_rng(0).permutation(40)
    embeddings = np.repeat(np.eye(10), 4, axis=0)[order]
    names = [f"shelf_{n:03}.jpg" for n in range(40)]
    photos = seen(40, embeddings_PD=embeddings, names_P=names, classes_N=["one"] * 40)
    config = SplitConfig(near_duplicates=False, burst=0.9, burst_reach=0, validation=0.3, test=0.3)
    parts = assign_groups(items(40), config, photos)
    shelves = embeddings.argmax(axis=1)
    assert all(len(set(parts[shelves == shelf])) == 1 for shelf in range(10)) and len(set(parts)) > 1
    by_number = assign_groups(items(40), config.model_copy(update={"burst_reach": 1}), photos)
    assert any(len(set(by_number[shelves == shelf])) > 1 for shelf in range(10))


def test_an_item_keeps_its_part_when_others_are_added() -> None:
    gtins: list[object] = [f"9{n % 150}" for n in range(600)]
    config = SplitConfig(product="gtin", validation=0.2, test=0.2)
    small = assign_groups(with_gtins(gtins[:300]), config, seen(300))
    more = [f"8{n}" for n in range(300)]
    large = assign_groups(with_gtins([*gtins[:300], *more]), config, seen(600))
    assert small.tolist() == large[:300].tolist()


def test_a_group_that_swallows_the_catalogue_is_told(caplog: pytest.LogCaptureFixture) -> None:
    phashes = hashes(50)
    phashes[10:30] = phashes[10]
    with caplog.at_level(logging.WARNING):
        assign_groups(items(50), SplitConfig(near_duplicates=True), seen(50, phashes_P=phashes))
    assert "20 of 50 items are one group" in caplog.text and "i10" in caplog.text


def test_published_parts_stay_whatever_looks_alike() -> None:
    said = {n: "test" if n % 3 == 0 else "train" for n in range(90)}
    config = SplitConfig(near_duplicates=True, published="part", validation=0)
    parts = assign_groups(items(90, said), config, seen(90, phashes_P=np.repeat(hashes(30), 3)))
    assert [part == "test" for part in parts] == [n % 3 == 0 for n in range(90)]


def test_groups_are_split_by_their_smallest_id_in_any_order() -> None:
    ids = [f"p{n:04}" for n in range(3000)]
    groups = np.arange(3000) // 3
    parts = split_groups(groups, ids)
    three = parts.reshape(-1, 3)
    assert (three == three[:, :1]).all()
    for part, share in zip(PARTS, (0.70, 0.15, 0.15), strict=True):
        assert abs((parts == part).mean() - share) < 0.03
    order = np.random.default_rng(1).permutation(3000)
    renamed = 7 - groups[order]  # the numbers themselves mean nothing
    assert split_groups(renamed, [ids[n] for n in order]).tolist() == parts[order].tolist()
    assert split_groups(groups[:900], ids[:900]).tolist() == parts[:900].tolist()
    assert split_groups(groups, ids, seed=1).tolist() != parts.tolist()


def test_with_labels_every_class_has_its_shares_so_far_as_groups_allow() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(12), rng.integers(15, 80, 12))
    groups = labels * 100 + rng.integers(0, 9, len(labels))
    ids = [f"p{n}" for n in range(len(labels))]
    parts = split_groups(groups, ids, labels_N=labels)
    assert all(len(set(parts[groups == number])) == 1 for number in np.unique(groups))
    stratified = [abs((parts[labels == label] == "test").mean() - 0.15) for label in range(12)]
    free = split_groups(groups, ids)
    assert max(stratified) < 0.13
    assert max(stratified) < max(abs((free[labels == label] == "test").mean() - 0.15) for label in range(12))
    single = split_groups(np.arange(len(labels)), ids, labels_N=labels)
    for label in range(12):
        own = single[labels == label]
        assert all(
            abs((own == part).sum() - f * len(own)) <= 1
            for part, f in zip(PARTS, (0.7, 0.15, 0.15), strict=True)
        )
    order = rng.permutation(len(labels))
    again = split_groups(groups[order], [ids[n] for n in order], labels_N=labels[order])
    assert again.tolist() == parts[order].tolist()


def test_a_share_of_nothing_gets_nothing() -> None:
    labels = np.arange(64) % 4
    parts = split_groups(np.arange(64), [str(n) for n in range(64)], (0.5, 0.0, 0.5), labels)
    assert set(parts) == {"train", "test"} and (parts == "test").sum() == 32
    assert "validation" not in split_groups(np.arange(64), [str(n) for n in range(64)], (0.5, 0.0, 0.5))


def test_split_groups_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="1 of them different"):
        split_groups(np.arange(2), ["a", "a"])
    with pytest.raises(ValueError, match="1 in all"):
        split_groups(np.arange(1), ["a"], (0.7, 0.2, 0.2))
    with pytest.raises(ValueError, match="labels"):
        split_groups(np.arange(2), ["a", "b"], labels_N=np.zeros(3, int))
    assert split_groups(np.zeros(0, int), []).tolist() == []
