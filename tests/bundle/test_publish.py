"""publish: what is refused and in which order, what is written, what is kept."""

import shutil
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etalage.bundle.draft import Draft
from etalage.bundle.files import MODELS, read_arrow, read_embeddings
from etalage.bundle.manifest import Manifest, verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.bundle.selfcheck import check_consistency
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import (
    CatalogueShrank,
    ExportDamaged,
    GateRefused,
    IndexMismatch,
    NothingToPublish,
    RecallTooLow,
)
from etalage.lake.delta import Lake
from etalage.recommend import Recommender
from tests.exports import tiny_export
from tests.shops import PASSED, changed, drafted, embeddings_of, fill, published, small_shop

Shop = tuple[Lake, Bundles, Manifest]


def send(bundles: Bundles, draft: Draft, force: bool = False, **settings: Any) -> Manifest:
    config = PublishConfig(**settings)
    return publish(bundles, draft, config=config, index_config=IndexConfig(), force=force)


def test_the_manifest_says_what_the_bundle_is_made_of(shop: Shop) -> None:
    lake, bundles, first = shop
    assert first.tables == lake.versions()
    assert (first.items, first.photo_models[0].index.indexed, first.sequence) == (30, 29, 1)
    assert (first.previous, first.synced_from, first.forced) == (None, None, ())
    assert first.photo_models[0].index.kind == "exact"
    assert first.photo_models[0].index.recall[0].recall == 1.0
    assert first.photo_models[0].verdict == PASSED
    folder = bundles.path(first.id)
    check_consistency(folder, verify(folder))
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o444}
    names = read_arrow(folder / "items.arrow")["item_id"].to_pylist()
    assert names == sorted(names)
    assert not read_embeddings(folder, str(first.photo_models[0].embeddings))[5].any()


def few_of(draft: Draft, count: int, **model: Any) -> Draft:
    """The draft of its first items alone."""
    few = replace(draft, items=draft.items.slice(0, count))
    return changed(few, embeddings_of(draft)[: count + 1], **model)


def test_refusals_come_in_order_and_move_nothing(shop: Shop, draft: Draft, tmp_path: Path) -> None:
    _, bundles, first = shop
    failed = {**PASSED, "passed": False}
    empty = few_of(draft, 0, verdict=failed)
    with pytest.raises(NothingToPublish, match="no model"):
        send(bundles, replace(empty, models=()))
    with pytest.raises(NothingToPublish, match="etalage ingest"):
        send(bundles, empty)
    few = few_of(draft, 9, verdict=failed)
    with pytest.raises(GateRefused, match="precision_at_5"):
        send(bundles, few)
    with pytest.raises(GateRefused, match="etalage evaluate"):
        send(bundles, changed(few, verdict=None))
    with pytest.raises(GateRefused, match="another model"):
        send(bundles, changed(few, verdict={**PASSED, "model_hash": "0" * 64}))
    with pytest.raises(GateRefused):
        send(bundles, changed(few, verdict={**PASSED, "passed": "yes"}))
    with pytest.raises(CatalogueShrank, match="70%"):
        send(bundles, changed(few, verdict=PASSED))
    assert bundles.current_id() == first.id
    assert bundles.ids() == [first.id]
    assert len(bundles.log()) == 1


def test_force_publishes_and_the_manifest_says_what_was_forced(shop: Shop, draft: Draft) -> None:
    _, bundles, first = shop
    few = few_of(draft, 9, verdict=None)
    manifest = send(bundles, few, force=True)
    assert manifest.forced == ("gate", "shrink")
    assert bundles.current_id() == manifest.id
    assert manifest.previous == first.id


@pytest.mark.parametrize(("left", "refused"), [(15, True), (16, False), (14, True)])
def test_f52_a_catalogue_that_shrinks_by_half_is_refused(tmp_path: Path, left: int, refused: bool) -> None:
    lake, bundles, first = small_shop(tmp_path, 30)
    draft = drafted(lake, tmp_path / "exports" / "image_similarity" / "0001-tiny")
    few = few_of(draft, left)
    if refused:
        with pytest.raises(CatalogueShrank, match=rf"has {left} items.*{first.id} has 30.*--force"):
            send(bundles, few)
        assert bundles.current_id() == first.id
    else:
        assert send(bundles, few).items == left


def test_f52_losing_half_of_the_photos_is_refused_too(shop: Shop) -> None:
    lake, bundles, first = shop
    urls = [(f"item-{n:05d}", f"drawn://{n}") for n in range(16)]
    lake.table("photos").delete(pa.table({"item_id": [u[0] for u in urls], "url": [u[1] for u in urls]}))
    with pytest.raises(CatalogueShrank, match="items with a photo"):
        published(lake, bundles, bundles.path(first.id) / MODELS / first.photo_models[0].name)


def test_f55_an_approximate_index_below_its_gate_is_not_published(tmp_path: Path) -> None:
    lake, bundles, first = small_shop(tmp_path, 300)
    export = tmp_path / "exports" / "image_similarity" / "0001-tiny"
    bad = IndexConfig(kind="ivf_flat", lists=60, probes=1)
    with pytest.raises(RecallTooLow, match=r"index\.probes"):
        published(lake, bundles, export, index_config=bad)
    assert bundles.current_id() == first.id
    assert bundles.ids() == [first.id]
    forced = published(lake, bundles, export, index_config=bad, force=True)
    assert forced.forced == ("recall",)
    assert min(row.recall for row in forced.photo_models[0].index.recall) < 0.95
    good = published(lake, bundles, export, index_config=IndexConfig(kind="ivf_flat", lists=60))
    assert good.forced == ()
    assert min(row.recall for row in good.photo_models[0].index.recall) >= 0.95
    every = good.photo_models[0].index.recall
    assert {row.share for row in every if row.filter is None} == {None, 0.5, 0.05, 0.01}
    filters = [row.filter for row in every if row.filter is not None]
    assert [words.split()[0] for words in filters] == ["category", "category", "brand", "brand", "price"]


def test_embeddings_that_are_not_the_exports_are_refused(shop: Shop, draft: Draft, tmp_path: Path) -> None:
    _, bundles, first = shop
    other = tiny_export(tmp_path / "other", seed=5)
    wide = tiny_export(tmp_path / "wide", dimension=24)
    for wrong, words in (
        (changed(draft, export=other), "does not make"),
        (changed(draft, export=wide), "ask for"),
        (changed(draft, embeddings_of(draft) * 2), "length 1"),
        (changed(draft, embeddings_of(draft)[::-1].copy()), "length 1|does not make"),
        (changed(draft, embeddings_of(draft) * np.nan), "length 1"),
        (replace(draft, photos=draft.photos.slice(0, 1)), "not among"),
    ):
        with pytest.raises(IndexMismatch, match=words):
            send(bundles, wrong)
    (other / "encoder.json").write_text('{"size": 14, "channels": 1}')
    with pytest.raises(ExportDamaged):
        send(bundles, changed(draft, export=other))
    assert bundles.ids() == [first.id]


def test_only_the_newest_are_kept_besides_the_current_and_the_previous(shop: Shop, draft: Draft) -> None:
    _, bundles, first = shop
    made = [first, *(send(bundles, draft, keep=3) for _ in range(3))]
    assert bundles.ids() == [m.id for m in made[1:]]
    bundles.switch(made[1].id)
    made += [send(bundles, draft, keep=2)]
    # Current, the one before it (made[1], by rollback), and the newest two.
    assert bundles.ids() == [made[1].id, made[3].id, made[4].id]
    assert made[4].previous == made[1].id
    for bundle in bundles.ids():
        verify(bundles.path(bundle))


def test_f3_what_a_killed_publish_left_is_collected_by_the_next(shop: Shop, draft: Draft) -> None:
    _, bundles, first = shop
    half = bundles.folder / ".staging-1234abcd"
    shutil.copytree(bundles.path(first.id), half)
    (half / "manifest.json").unlink()
    shutil.copytree(half, bundles.folder / ".removing-b000000-00000000")
    (bundles.folder / ".current-99").write_bytes(b"b0")
    assert bundles.current_id() == first.id
    assert [m.id for m in bundles.list()] == [first.id]
    send(bundles, draft)
    hidden = {entry.name for entry in bundles.folder.iterdir() if entry.name.startswith(".")}
    assert hidden == {".lock", ".publishing"}


def test_the_same_twice_is_another_bundle_with_the_same_payload(shop: Shop, draft: Draft) -> None:
    lake, bundles, first = shop
    second = send(bundles, draft)
    assert second.id != first.id
    assert second.files == first.files
    fill(lake, [31])
    assert published(lake, bundles, draft.models[0].export).items == 31


def test_an_index_of_some_items_per_category_holds_just_those_and_stays_the_same(shop: Shop) -> None:
    lake, bundles, before = shop
    few = IndexConfig(per_category=3)
    draft = drafted(lake, bundles.path(before.id) / MODELS / before.photo_models[0].name)
    manifest = publish(bundles, draft, config=PublishConfig(), index_config=few)
    recommender = Recommender.open(bundles.path(manifest.id))
    found = recommender.similar(photos=[recommender.photo(recommender.catalogue.ids[1])], k=40)[0]
    counts = Counter(slot.category_id for slot in found.slate)
    assert set(counts.values()) == {3}
    assert manifest.photo_models[0].index.indexed == len(found.slate) < manifest.items
    again = publish(bundles, draft, config=PublishConfig(), index_config=few)
    other = Recommender.open(bundles.path(again.id))
    repeated = other.similar(photos=[recommender.photo(recommender.catalogue.ids[1])], k=40)[0]
    assert [slot.item_id for slot in repeated.slate] == [slot.item_id for slot in found.slate]
