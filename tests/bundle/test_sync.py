"""etalage sync: only what changed is embedded, and the result is that of a full rebuild."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etalage.bundle.contents import gather
from etalage.bundle.files import ITEMS, PHOTOS, read_arrow, read_embeddings
from etalage.bundle.manifest import Manifest, verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.selfcheck import check_consistency
from etalage.bundle.sync import Synced, sync
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import (
    BundleDamaged,
    CatalogueShrank,
    GateRefused,
    NoBundle,
    PublishBusy,
    RecallTooLow,
    TableMissing,
)
from etalage.index import open_index
from etalage.lake.delta import Lake
from etalage.runtime.photos import PhotoEmbedder
from tests.shops import (
    PHOTO_EMBEDDINGS,
    PHOTO_INDEX,
    drafted,
    drawn_photo,
    embeddings_of,
    fill,
    interact,
    item_row,
    photo_row,
    published,
    rows_of,
    small_shop,
)

Shop = tuple[Lake, Bundles, Manifest]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """40 items, all but item 7 with a photo."""
    return small_shop(tmp_path, 40, without_photo=[7])


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of photos in each batch that really went through the network."""
    seen: list[int] = []
    real = PhotoEmbedder.embed_pixels

    def counted(self: PhotoEmbedder, pixels: np.ndarray, progress: Any = None) -> np.ndarray:
        seen.append(len(pixels))
        return real(self, pixels, progress)

    monkeypatch.setattr(PhotoEmbedder, "embed_pixels", counted)
    return seen


# The network also runs in the checks of publish: on 8 of the draft's photos.
CHECKED_AT_PUBLISH = 8


def synced(lake: Lake, bundles: Bundles, **more: Any) -> Synced:
    return sync(lake, bundles, config=PublishConfig(), index_config=IndexConfig(), **more)


def merge_items(lake: Lake, *rows: dict[str, Any]) -> None:
    lake.table("items").merge(rows_of("items", rows))


def merge_photos(lake: Lake, *rows: dict[str, Any]) -> None:
    lake.table("photos").merge(rows_of("photos", rows))


def ids_of(bundles: Bundles) -> list[str]:
    ids: list[str] = read_arrow(bundles.path(bundles.current_id()) / ITEMS)["item_id"].to_pylist()
    return ids


def column(bundles: Bundles, name: str) -> dict[str, Any]:
    items = read_arrow(bundles.path(bundles.current_id()) / ITEMS)
    return dict(zip(items["item_id"].to_pylist(), items[name].to_pylist(), strict=True))


def assert_like_a_full_rebuild(lake: Lake, bundles: Bundles) -> None:
    """The current bundle holds exactly what gathering and embedding everything again gives."""
    folder = bundles.path(bundles.current_id())
    manifest = verify(folder)
    check_consistency(folder, manifest)
    whole = drafted(lake, folder / "models" / manifest.photo_models[0].name)
    assert manifest.tables == whole.tables
    assert read_arrow(folder / ITEMS).equals(whole.items)
    assert read_arrow(folder / PHOTOS).equals(whole.photos)
    np.testing.assert_allclose(
        read_embeddings(folder, manifest.photo_models[0].embeddings), embeddings_of(whole), atol=2e-6
    )


def test_only_new_photos_are_embedded(shop: Shop, passed: list[int]) -> None:
    lake, bundles, first = shop
    fill(lake, range(40, 46))
    passed.clear()
    result = synced(lake, bundles)
    assert (result.embedded, result.carried, result.upserted, result.deleted) == (6, 39, 6, 0)
    assert passed == [6, CHECKED_AT_PUBLISH]
    assert result.whole is None
    assert result.manifest is not None
    assert result.manifest.id == bundles.current_id() != first.id
    assert result.manifest.synced_from == result.manifest.previous == first.id
    assert result.manifest.photo_models[0].verdict == first.photo_models[0].verdict
    assert_like_a_full_rebuild(lake, bundles)


def test_carried_embeddings_are_the_same_bits(shop: Shop) -> None:
    lake, bundles, first = shop
    fill(lake, [200])
    synced(lake, bundles)
    before = read_embeddings(bundles.path(first.id), PHOTO_EMBEDDINGS)
    after = read_embeddings(bundles.path(bundles.current_id()), PHOTO_EMBEDDINGS)
    np.testing.assert_array_equal(after[:41], before)


@pytest.mark.parametrize(
    "changed",
    [{"price": 3.0}, {"in_stock": True}, {"price": None}, {"title": "Old"}, {"category_id": "Bags"}],
)
def test_a_change_of_stock_or_price_alone_embeds_nothing(
    shop: Shop, passed: list[int], changed: dict[str, Any]
) -> None:
    lake, bundles, _ = shop
    merge_items(lake, item_row(5, **changed))
    passed.clear()
    result = synced(lake, bundles)
    assert (result.embedded, result.upserted) == (0, 1)
    assert passed == [CHECKED_AT_PUBLISH]
    (name,) = changed
    assert column(bundles, name)["item-00005"] == changed[name]
    assert_like_a_full_rebuild(lake, bundles)


def test_nothing_changed_publishes_nothing_and_says_so(shop: Shop) -> None:
    lake, bundles, first = shop
    result = synced(lake, bundles)
    assert result.manifest is None
    assert first.id in result.reason
    assert bundles.ids() == [first.id]
    # A new version whose net effect is nothing is no change either.
    merge_items(lake, item_row(5, price=1.0))
    merge_items(lake, item_row(5))
    result = synced(lake, bundles)
    assert (result.manifest, result.embedded) == (None, 0)
    assert bundles.ids() == [first.id]


def test_f48_the_same_link_with_new_content_is_embedded_again(shop: Shop, passed: list[int]) -> None:
    lake, bundles, _ = shop
    photo = drawn_photo(999)
    merge_photos(lake, photo_row(12, photo))
    passed.clear()
    assert synced(lake, bundles).embedded == 1
    assert passed == [1, CHECKED_AT_PUBLISH]
    assert column(bundles, "photo_sha256")["item-00012"] == hashlib.sha256(photo).hexdigest()
    assert_like_a_full_rebuild(lake, bundles)


def test_the_same_content_under_another_link_embeds_nothing(shop: Shop, passed: list[int]) -> None:
    lake, bundles, _ = shop
    merge_photos(lake, photo_row(12, url="moved://12"))
    merge_items(lake, item_row(12, photo_url="moved://12"), item_row(300, photo_url="drawn://300"))
    merge_photos(lake, photo_row(300, drawn_photo(3)))
    passed.clear()
    result = synced(lake, bundles)
    assert (result.embedded, result.upserted) == (0, 2)
    assert passed == [CHECKED_AT_PUBLISH]
    assert_like_a_full_rebuild(lake, bundles)


def test_f56_a_deleted_item_is_never_returned_again(shop: Shop) -> None:
    lake, bundles, _ = shop
    gone = ["item-00000", "item-00011", "item-00039"]
    lake.table("items").delete(pa.table({"item_id": gone}))
    result = synced(lake, bundles)
    assert (result.embedded, result.upserted, result.deleted) == (0, 0, 3)
    ids = ids_of(bundles)
    assert len(ids) == 37
    assert not set(gone) & set(ids)
    folder = bundles.path(bundles.current_id())
    index = open_index(folder / PHOTO_INDEX)
    answered = index.search(np.ascontiguousarray(read_embeddings(folder, PHOTO_EMBEDDINGS)), 40).rows
    assert answered.max() == 37
    assert len(index) == 36
    assert drawn_photo(11) not in read_arrow(folder / PHOTOS)["bytes"].to_pylist()
    assert_like_a_full_rebuild(lake, bundles)


def test_a_lost_main_photo_falls_back_to_the_items_next_one(shop: Shop) -> None:
    lake, bundles, _ = shop
    merge_photos(lake, photo_row(20, drawn_photo(501), url="aside://20"))
    synced(lake, bundles)
    main = hashlib.sha256(drawn_photo(20)).hexdigest()
    aside = hashlib.sha256(drawn_photo(501)).hexdigest()
    assert column(bundles, "photo_sha256")["item-00020"] == main
    lake.table("photos").delete(pa.table({"item_id": ["item-00020"], "url": ["drawn://20"]}))
    assert synced(lake, bundles).embedded == 1
    assert column(bundles, "photo_sha256")["item-00020"] == aside
    lake.table("photos").delete(pa.table({"item_id": ["item-00020"], "url": ["aside://20"]}))
    assert synced(lake, bundles).embedded == 0
    assert column(bundles, "photo_sha256")["item-00020"] is None
    assert_like_a_full_rebuild(lake, bundles)


def test_a_photo_that_arrives_later_makes_the_item_findable(shop: Shop) -> None:
    lake, bundles, first = shop
    assert first.photo_models[0].index.indexed == 39
    merge_photos(lake, photo_row(7))
    result = synced(lake, bundles)
    assert result.manifest is not None
    assert (result.embedded, result.manifest.photo_models[0].index.indexed) == (1, 40)
    assert_like_a_full_rebuild(lake, bundles)


def test_a_photo_that_cannot_be_decoded_leaves_the_item_without_photo(shop: Shop) -> None:
    lake, bundles, _ = shop
    broken = drawn_photo(50)[:60]
    fill(lake, [50, 51], photos=[51])
    merge_photos(lake, photo_row(50, broken))
    result = synced(lake, bundles)
    assert result.embedded == 1
    assert list(result.refused) == [hashlib.sha256(broken).hexdigest()]
    photos = column(bundles, "photo_sha256")
    assert photos["item-00050"] is None
    assert photos["item-00051"] is not None
    folder = bundles.path(bundles.current_id())
    assert not read_embeddings(folder, PHOTO_EMBEDDINGS)[ids_of(bundles).index("item-00050") + 1].any()
    check_consistency(folder, verify(folder))


def test_interactions_alone_change_popularity_and_embed_nothing(shop: Shop, passed: list[int]) -> None:
    lake, bundles, _ = shop
    assert column(bundles, "popularity")["item-00003"] == 2.0  # two shoppers
    interact(lake, [(1, "view"), (1, "buy"), (3, "cart"), (39, "view"), (3, "wish"), (3, "buy"), (8, "view")])
    passed.clear()
    result = synced(lake, bundles)
    assert (result.embedded, result.upserted) == (0, 2)
    popularity = column(bundles, "popularity")
    assert (popularity["item-00003"], popularity["item-00008"], popularity["item-00001"]) == (3.0, 1.0, 2.0)
    assert_like_a_full_rebuild(lake, bundles)


def test_many_changes_at_once_end_like_a_full_rebuild(shop: Shop) -> None:
    lake, bundles, _ = shop
    fill(lake, [90, 91, 92], photos=[90, 92])
    merge_items(lake, item_row(2, price=1.5), item_row(3, photo_url="nowhere://3"), item_row(91, brand=None))
    merge_photos(lake, photo_row(4, drawn_photo(700)), photo_row(5, status="404", bytes=None, sha256=None))
    merge_photos(lake, photo_row(1000, drawn_photo(1)))  # of an item that is not there
    lake.table("items").delete(pa.table({"item_id": ["item-00010", "item-00092"]}))
    interact(lake, [(91, "buy"), (10, "buy")])
    result = synced(lake, bundles)
    assert (result.embedded, result.deleted) == (2, 1)
    assert_like_a_full_rebuild(lake, bundles)


def test_a_vacuumed_change_feed_reads_everything_and_still_embeds_only_what_is_new(
    shop: Shop, passed: list[int]
) -> None:
    lake, bundles, _ = shop
    fill(lake, range(40, 44))
    merge_items(lake, item_row(5, price=1.0))
    shutil.rmtree(Path(lake.table("items").uri) / "_change_data")
    passed.clear()
    result = synced(lake, bundles)
    assert result.whole is not None
    assert "items" in result.whole
    assert (result.embedded, result.upserted) == (4, 5)
    assert passed == [4, CHECKED_AT_PUBLISH]
    assert_like_a_full_rebuild(lake, bundles)


def items_of(bundles: Bundles, bundle: str) -> list[str]:
    return list(read_arrow(bundles.path(bundle) / ITEMS)["item_id"].to_pylist())


def test_a_table_made_anew_that_has_as_many_versions_again_is_told_from_the_one_before(
    shop: Shop, tmp_path: Path
) -> None:
    """The number of a version means nothing in another table: there would be nothing new, or half of it."""
    lake, bundles, first = shop
    for more in range(2):
        shutil.rmtree(tmp_path / "tables" / "items")
        fill(lake, range(1 + more, 42), [])
        for one in range(more):
            fill(lake, [43 + one], [])
        assert lake.table("items").version() == first.tables["items"] + more
        result = synced(lake, bundles)
        assert result.manifest is not None and "was made anew" in str(result.whole)
        there = lake.table("items").read()["item_id"].sort().to_pylist()
        assert items_of(bundles, result.manifest.id) == there


def test_a_table_put_back_from_a_copy_and_written_on_since_is_read_whole(shop: Shop, tmp_path: Path) -> None:
    lake, bundles, _ = shop
    items = tmp_path / "tables" / "items"
    shutil.copytree(items, tmp_path / "copy")
    fill(lake, [50], [])
    second = synced(lake, bundles).manifest
    assert second is not None and "item-00050" in items_of(bundles, second.id)
    shutil.rmtree(items)
    shutil.copytree(tmp_path / "copy", items)
    fill(lake, [51], [])
    fill(lake, [52], [])
    assert lake.table("items").version() > second.tables["items"]
    result = synced(lake, bundles)
    assert result.manifest is not None and "put back from a copy" in str(result.whole)
    found = items_of(bundles, result.manifest.id)
    assert "item-00050" not in found and {"item-00051", "item-00052"} <= set(found)


def test_tables_made_anew_are_read_whole(shop: Shop, tmp_path: Path) -> None:
    lake, bundles, _ = shop
    merge_items(lake, item_row(5, price=1.0))
    synced(lake, bundles)
    shutil.rmtree(lake.root)
    fresh = Lake(lake.root)
    fill(fresh, range(38))
    result = synced(fresh, bundles)
    assert result.whole is not None
    assert "anew" in result.whole or "gone" in result.whole
    assert (result.embedded, result.deleted) == (1, 2)  # item 7 has a photo now
    assert_like_a_full_rebuild(fresh, bundles)


def test_sync_needs_a_whole_bundle_and_a_table(shop: Shop, tmp_path: Path) -> None:
    lake, bundles, first = shop
    with pytest.raises(NoBundle):
        synced(lake, Bundles(tmp_path / "elsewhere"))
    with pytest.raises(TableMissing):
        synced(Lake(tmp_path / "no-tables"), bundles)
    file = bundles.path(first.id) / PHOTO_EMBEDDINGS
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    fill(lake, [40])
    with pytest.raises(BundleDamaged, match=r"embeddings\.npy"):
        synced(lake, bundles)


def test_f52_a_sync_that_loses_half_the_catalogue_is_refused_without_force(shop: Shop) -> None:
    lake, bundles, first = shop
    lake.table("items").delete(pa.table({"item_id": [f"item-{n:05d}" for n in range(20)]}))
    with pytest.raises(CatalogueShrank, match="--force"):
        synced(lake, bundles)
    assert bundles.current_id() == first.id
    result = synced(lake, bundles, force=True)
    assert result.manifest is not None
    assert result.manifest.forced == ("shrink",)


def test_a_forced_model_stays_forced_in_its_syncs(tmp_path: Path) -> None:
    lake, bundles, first = small_shop(tmp_path, 30)
    failed = {**(first.photo_models[0].verdict or {}), "passed": False}
    export = bundles.path(first.id) / "models" / first.photo_models[0].name
    from etalage.bundle.publish import publish

    draft = drafted(lake, export, failed)
    with pytest.raises(GateRefused):
        publish(bundles, draft, config=PublishConfig(), index_config=IndexConfig())
    publish(bundles, draft, config=PublishConfig(), index_config=IndexConfig(), force=True)
    fill(lake, [30])
    result = synced(lake, bundles)
    assert result.manifest is not None
    assert result.manifest.forced == ("gate",)


def test_a_sync_overtaken_by_a_rollback_publishes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, bundles, first = shop
    merge_items(lake, item_row(5, price=1.0))
    second = synced(lake, bundles).manifest
    assert second is not None
    fill(lake, [40])
    from etalage.bundle import sync as module

    real = module.assemble

    def slow(*arguments: Any, **named: Any) -> Any:
        Bundles(bundles.folder).switch(first.id)  # somebody else, while we embed
        return real(*arguments, **named)

    monkeypatch.setattr(module, "assemble", slow)
    with pytest.raises(PublishBusy, match=first.id):
        synced(lake, bundles)
    assert bundles.current_id() == first.id
    assert [move["action"] for move in bundles.log()] == ["publish", "sync", "rollback"]


def test_the_approximate_index_keeps_its_centroids_and_its_gate(tmp_path: Path) -> None:
    wanted = IndexConfig(kind="ivf_flat", lists=8)
    lake, bundles, first = small_shop(tmp_path, 400, index_config=wanted)
    fill(lake, range(400, 420))
    result = sync(lake, bundles, config=PublishConfig(), index_config=wanted)
    assert result.manifest is not None
    assert (result.embedded, result.manifest.photo_models[0].index.kind) == (20, "ivf_flat")
    assert all(row.recall >= 0.95 for row in result.manifest.photo_models[0].index.recall)
    before: Any = open_index(bundles.path(first.id) / PHOTO_INDEX)
    after: Any = open_index(bundles.path(result.manifest.id) / PHOTO_INDEX)
    np.testing.assert_array_equal(before._centroids, after._centroids)
    fill(lake, range(420, 422))
    poor = IndexConfig(kind="ivf_flat", lists=8, probes=1)
    with pytest.raises(RecallTooLow):
        sync(lake, bundles, config=PublishConfig(min_recall=1.0), index_config=poor)
    assert bundles.current_id() == result.manifest.id


def test_the_feed_is_what_is_read_not_the_whole_items_table(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, bundles, _ = shop
    fill(lake, [40])
    items = lake.table("items")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the items table was read")

    monkeypatch.setattr(items, "read", never)
    monkeypatch.setattr(items, "batches", never)
    assert synced(lake, bundles).embedded == 1
    monkeypatch.undo()
    assert gather(lake).items.num_rows == 41


def test_a_second_bundle_after_a_sync_can_be_published_whole(shop: Shop) -> None:
    lake, bundles, first = shop
    fill(lake, [40])
    synced(lake, bundles)
    export = bundles.path(first.id) / "models" / first.photo_models[0].name
    third = published(lake, bundles, export)
    assert third.sequence == 3
    assert third.synced_from is None
