"""Bundles whose indexes are in a Milvus: published, rolled back, removed; what happens without its server."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from etalage.bundle.collections import COLLECTIONS, Collections, indexes_of
from etalage.bundle.pointer import Bundles
from etalage.bundle.sync import sync
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import BundleDamaged, ConfigError, IndexUnavailable, RecallTooLow
from etalage.funnel.catalogue import Filters
from etalage.index import build, milvus_settings
from etalage.index import milvus as milvus_file
from etalage.index.milvus import MOVED
from etalage.index.milvus_collection import IDS_AT_ONCE, Collection
from etalage.lake.delta import Lake
from etalage.online import Act
from etalage.recommend import Recommender
from etalage.shop import vector_steps
from etalage.shop.workspace import Workspace
from tests.milvus_server import Milvus, running_milvus
from tests.serve.servers import ThreadServer, until
from tests.shops import behaviour_shop, fill, published, small_shop

ITEMS = 60
HISTORY = [Act("item-00007", "buy"), Act("item-00008", "buy"), Act("item-00009", "buy")]
FILTERS = [
    Filters(),
    Filters(category="Shoes"),
    Filters(category="Shoes > Boots"),
    Filters(brand="Corvo", max_price=60),
    Filters(in_stock=True, exclude=("item-00011", "item-00012")),
    Filters(not_sold_out=True, min_price=20),
    Filters(attributes={"split": "train"}, brand="Ardent"),
    Filters(attributes={'with "quotes" \\ and é': "x"}),
    Filters(brand="line\nbreak"),
    Filters(classified="Nothing > Such"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Milvus]:
    with running_milvus(tmp_path_factory.mktemp("milvus")) as one:
        yield one


@pytest.fixture
def milvus(server: Milvus) -> Iterator[Milvus]:
    """The same server, up again and empty after each test."""
    yield server
    if server.process.poll() is not None:
        server.start()
    milvus = server.client()
    for name in milvus.list_collections():
        Collection(milvus_settings(server.config()).server, name).drop()


def export_of(folder: Path) -> Path:
    return folder / "exports" / "image_similarity" / "0001-tiny"


def slate(answer) -> list[tuple[str, float]]:
    return [(slot.item_id, round(slot.score, 4)) for slot in answer.slate]


def answers(recommender: Recommender, filters: Filters) -> list:
    asked = recommender.recommend(history=HISTORY, k=8, filters=filters)
    return [slate(asked), slate(recommender.similar(item_id="item-00010", k=9, filters=filters)[0])]


@pytest.mark.parametrize("index", ["FLAT", "HNSW", "IVF_SQ8"])
def test_a_bundle_in_milvus_answers_as_one_on_the_disk_does(
    milvus: Milvus, tmp_path: Path, index: str
) -> None:
    _, bundles, manifest = behaviour_shop(
        tmp_path / "far", ITEMS, photos=True, index_config=milvus.config(index)
    )
    _, near, theirs = behaviour_shop(tmp_path / "near", ITEMS, photos=True)
    for entry in manifest.models:
        if entry.index is not None:
            assert entry.index.kind == "milvus" and min(row.recall for row in entry.index.recall) >= 0.95
    far = Recommender.open(bundles.path(manifest.id))
    here = Recommender.open(near.path(theirs.id))
    for filters in FILTERS:
        assert answers(far, filters) == answers(here, filters), filters
    assert not far.parts.problems


def test_a_filter_travels_as_an_expression_and_no_mask_does(
    milvus: Milvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more items than an expression names, and half of them allowed, nothing but the fields is told."""
    monkeypatch.setattr(milvus_file, "IDS_AT_ONCE", 5)
    _, bundles, manifest = small_shop(tmp_path, ITEMS, index_config=milvus.config())
    recommender = Recommender.open(bundles.path(manifest.id))
    told: list[str] = []
    search = Collection.search
    monkeypatch.setattr(
        Collection, "search", lambda self, *given: told.append(given[2]) or search(self, *given)
    )
    for filters, expected in [
        (Filters(brand="Corvo"), '(brand == "Corvo")'),
        (
            Filters(category="Clothing", max_price=70),
            '(category == "Clothing" or category like "Clothing > %") and (price <= 70.0)',
        ),
        (Filters(in_stock=True, attributes={"split": "train"}),
         '(in_stock == true) and (attributes["split"] == "train")'),
        (Filters(not_sold_out=True), "(in_stock is null or in_stock != false)"),
    ]:  # fmt: skip
        found = recommender.similar(item_id="item-00010", k=4, filters=filters)[0]
        assert len(found.slate) == 4
        assert told[-1] == expected


def test_stock_that_changed_since_the_bundle_was_made_is_found(milvus: Milvus, tmp_path: Path) -> None:
    _, bundles, manifest = small_shop(tmp_path, ITEMS, index_config=milvus.config())
    recommender = Recommender.open(bundles.path(manifest.id))
    catalogue = recommender.catalogue
    changes = {
        "item-00010": {"in_stock": True, "time": 2**60},
        "item-00011": {"in_stock": False, "time": 2**60},
    }
    stock = catalogue.stock_after(changes)
    index = recommender.parts.photos.index
    for filters in (Filters(in_stock=True), Filters(not_sold_out=True), Filters(in_stock=False)):
        mask = catalogue.mask(filters, stock)
        queries = recommender.parts.photos.embeddings[[10, 11, 12]]
        found = index.search(queries, ITEMS, mask).rows
        assert {int(row) for row in found[0] if row >= 0} == set(mask.nonzero()[0].tolist())


def test_publish_moves_the_alias_rollback_moves_it_back_and_old_collections_go(
    milvus: Milvus, tmp_path: Path
) -> None:
    config = milvus.config()
    lake, bundles, first = small_shop(tmp_path, 30, index_config=config)
    name = f"etalage_{first.models[0].name}"
    collection = {first.id: indexes_of(bundles.path(first.id))[first.models[0].name][0]}
    assert milvus.aliases() == {name: collection[first.id]}
    kept = [first.id]
    for number in range(3):
        fill(lake, [30 + number])
        one = published(lake, bundles, export_of(tmp_path), config=PublishConfig(keep=2), index_config=config)
        collection[one.id] = indexes_of(bundles.path(one.id))[one.models[0].name][0]
        kept = [*kept, one.id][-2:]
        assert milvus.aliases() == {name: collection[one.id]}
        assert milvus.collections() == {collection[bundle] for bundle in kept}
    bundles.switch(kept[0])
    assert milvus.aliases() == {name: collection[kept[0]]}
    published(lake, bundles, export_of(tmp_path))  # without Milvus: its aliases go
    assert milvus.aliases() == {}


def test_a_publish_that_is_refused_leaves_no_collection(milvus: Milvus, tmp_path: Path) -> None:
    lake, bundles, first = small_shop(tmp_path, 200, index_config=milvus.config())
    before, aliases = milvus.collections(), milvus.aliases()
    bad = milvus.config("IVF_FLAT", build={"nlist": 8}, search={"nprobe": 1})
    with pytest.raises(RecallTooLow, match=r"raise \[index.milvus\] search"):
        published(lake, bundles, export_of(tmp_path), config=PublishConfig(min_recall=1.0), index_config=bad)
    assert (milvus.collections(), milvus.aliases(), bundles.current_id()) == (before, aliases, first.id)


def test_a_collection_that_a_kill_left_is_dropped_by_the_next_publish(milvus: Milvus, tmp_path: Path) -> None:
    config = milvus.config()
    lake, bundles, _ = small_shop(tmp_path, 20, index_config=config)
    settings = milvus_settings(config)
    left = Collections(bundles.folder).name(settings)
    Collection(settings.server, left).create(4, "FLAT", {}, "")
    stranger = "etalage_0123456789ab"
    Collection(settings.server, stranger).create(4, "FLAT", {}, "of another shop on the same server")
    published(lake, bundles, export_of(tmp_path), index_config=config)
    assert left not in milvus.collections() and stranger in milvus.collections()


def test_the_copy_of_a_shop_drops_nothing_of_the_shop(
    milvus: Milvus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small_shop(tmp_path / "shop", 20, index_config=milvus.config())
    there = milvus.collections()
    shutil.copytree(tmp_path / "shop", tmp_path / "copy")
    lake, copied = Lake(tmp_path / "copy" / "tables"), Bundles(tmp_path / "copy" / "bundles")
    for _ in range(3):
        published(
            lake, copied, export_of(tmp_path / "copy"), config=PublishConfig(keep=2),
            index_config=milvus.config(prefix="copy"),
        )  # fmt: skip
    assert there <= milvus.collections()
    assert f"{COLLECTIONS} is of the shop in" in caplog.text


# -- without the server ------------------------------------------------------------------------


def test_while_the_server_is_gone_the_bundle_answers_from_its_own_embeddings_and_says_so(
    milvus: Milvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, bundles, manifest = behaviour_shop(tmp_path, ITEMS, photos=True, index_config=milvus.config())
    recommender = Recommender.open(bundles.path(manifest.id))
    expected = [answers(recommender, filters) for filters in FILTERS]
    milvus.stop()
    assert [answers(recommender, filters) for filters in FILTERS] == expected
    assert milvus.uri in recommender.parts.problems[0]
    assert "searched here instead" in caplog.text
    again = Recommender.open(bundles.path(manifest.id))  # as a server does that is started now
    assert [answers(again, filters) for filters in FILTERS] == expected
    assert again.parts.problems
    monkeypatch.setattr(milvus_file, "PAUSE", 0.0)
    milvus.start()
    for one in (recommender, again):
        for index in one.parts.indexes:
            index._again_at = 0.0
        until(lambda one=one: one.parts.ask_again() or not one.parts.problems)
        assert [answers(one, filters) for filters in FILTERS] == expected
        assert not one.parts.problems
    assert "answers again" in caplog.text


def test_a_bundle_with_more_items_than_are_searched_here_cannot_do_without_its_server(
    milvus: Milvus, tmp_path: Path
) -> None:
    _, bundles, manifest = small_shop(tmp_path, 20, index_config=milvus.config(scan_up_to=19))
    recommender = Recommender.open(bundles.path(manifest.id))
    milvus.stop()
    with pytest.raises(IndexUnavailable, match=f"{milvus.uri}.*20 items are more than scan_up_to"):
        recommender.similar(item_id="item-00003")
    with pytest.raises(IndexUnavailable, match=milvus.uri):
        Recommender.open(bundles.path(manifest.id))


def test_without_the_server_publish_is_refused_and_rollback_is_not(
    milvus: Milvus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = milvus.config()
    lake, bundles, first = small_shop(tmp_path, 20, index_config=config)
    fill(lake, [20])
    second = published(lake, bundles, export_of(tmp_path), index_config=config)
    aliases = milvus.aliases()
    milvus.stop()
    fill(lake, [21])
    with pytest.raises(IndexUnavailable, match=milvus.uri):
        published(lake, bundles, export_of(tmp_path), index_config=config)
    assert bundles.current_id() == second.id and bundles.ids() == [first.id, second.id]
    bundles.switch(first.id)
    assert bundles.current_id() == first.id
    assert f"`etalage rollback {first.id}` sets them when it is back" in caplog.text
    milvus.start()
    assert milvus.aliases() == aliases
    bundles.switch(first.id)
    assert milvus.aliases() != aliases


def test_a_milvus_that_is_gone_for_good_can_be_given_up(
    milvus: Milvus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake, bundles, first = small_shop(tmp_path, 20, index_config=milvus.config())
    milvus.stop()
    fill(lake, [20])
    second = published(lake, bundles, export_of(tmp_path))
    assert bundles.current_id() == second.id
    assert "alias etalage_image_similarity still names a collection" in caplog.text
    assert sync(lake, bundles, config=PublishConfig(), index_config=IndexConfig()).manifest is None
    fill(lake, [21])
    assert sync(lake, bundles, config=PublishConfig(), index_config=IndexConfig()).manifest is not None
    bundles.switch(first.id)
    recommender = Recommender.open(bundles.path(first.id))
    assert recommender.parts.problems and recommender.similar(item_id="item-00003")[0].slate


def test_many_blocks_are_written_by_the_engine_and_few_by_the_command(milvus: Milvus, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("")
    workspace, handed = Workspace(tmp_path), []

    class Elsewhere:
        """Takes and gives only what can be pickled, as other processes do."""

        def map(self, function, blocks):
            handed.append(pickle.dumps([function, list(blocks)]))
            function, blocks = pickle.loads(handed[-1])  # noqa: S301
            return map(function, blocks)

    workspace.__dict__["engine"] = Elsewhere()
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(90, 8)).astype(np.float32)
    for batch, by_engine in ((30, 0), (4, 1)):
        index = build(
            np.arange(90), embeddings, milvus.config(batch=batch), norm="none",
            spread=vector_steps.spread(workspace),
        )  # fmt: skip
        assert len(handed) == by_engine
        exact = build(np.arange(90), embeddings, IndexConfig(kind="exact"), norm="none")
        assert index.search(embeddings[:9], 5).rows.tolist() == exact.search(embeddings[:9], 5).rows.tolist()


def test_readiness_says_that_embeddings_are_searched_here(milvus: Milvus, tmp_path: Path) -> None:
    _, bundles, _ = small_shop(tmp_path, 20, index_config=milvus.config())
    with ThreadServer(bundles.folder) as server, httpx.Client(base_url=server.url, timeout=60) as served:
        until(lambda: served.get("/readyz").json()["status"] == "ready")
        milvus.stop()
        said = served.post("/v1/similar", json={"item_id": "item-00003", "k": 3}).json()
        assert len(said["answers"][0]["slate"]) == 3
        ready = served.get("/readyz")
        assert ready.status_code == 200 and ready.json()["status"] == "degraded"
        assert "the vector database does not answer" in ready.json()["degraded"]
        milvus.start()
        until(lambda: served.get("/readyz").json()["status"] == "ready")


def test_a_collection_that_somebody_dropped_or_emptied_is_said(milvus: Milvus, tmp_path: Path) -> None:
    _, bundles, manifest = small_shop(tmp_path, 20, index_config=milvus.config())
    name, settings = indexes_of(bundles.path(manifest.id))["image_similarity"]
    collection = Collection(settings.server, name)
    collection.delete(np.array([3, 4]))
    with pytest.raises(BundleDamaged, match="holds 18 items, not 20"):
        Recommender.open(bundles.path(manifest.id))
    collection.drop()
    with pytest.raises(BundleDamaged, match=f"no collection {name}: somebody dropped it"):
        Recommender.open(bundles.path(manifest.id))


def test_a_milvus_that_moved_is_found_by_the_environment(
    milvus: Milvus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bundles, manifest = small_shop(tmp_path, 20, index_config=milvus.config())
    monkeypatch.setenv(MOVED, milvus.uri.replace("127.0.0.1", "localhost"))
    recommender = Recommender.open(bundles.path(manifest.id))
    assert "localhost" in recommender.parts.indexes[0].collection.server.uri
    assert len(recommender.similar(item_id="item-00003", k=4)[0].slate) == 4


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ('kind = "milvus"', "uri"),
        ('kind = "exact"\n[index.milvus]\nuri = "m.db"', "it would do nothing; set kind = 'milvus'"),
        ('kind = "milvus"\nprobes = 3\n[index.milvus]\nuri = "m.db"', "probes is set.*build and search"),
        ('kind = "milvus"\n[index.milvus]\nuri = "http://me:secret@host:1"', "no user or password"),
        ('kind = "milvus"\n[index.milvus]\nuri = "m.sqlite"', "ends with .db"),
        ('kind = "milvus"\n[index.milvus]\nuri = "m.db"\nindex = "DISKANN"', "Milvus Lite has FLAT"),
        ('kind = "milvus"\n[index.milvus]\nuri = "m.db"\nbuild = {m = 3}', "build.m is no number.*'M'"),
        ('kind = "milvus"\n[index.milvus]\nuri = "m.db"\nsearch = {nprobe = 3}', "search.nprobe.*it has ef"),
        ('kind = "milvus"\n[index.milvus]\nuri = "m.db"\nbuild = {M = 1}', "build.M = 1: must be 2"),
        ('kind = "milvus"\n[index.milvus]\nuri = "m.db"\ntokn = "x"', "unknown key 'tokn'"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_when_shop_toml_is_read(
    tmp_path: Path, index: str, says: str
) -> None:
    (tmp_path / "shop.toml").write_text(f"[index]\n{index}\n")
    with pytest.raises(ConfigError, match=says):
        _ = Workspace(tmp_path).config


def test_a_file_of_milvus_lite_lies_in_the_shops_folder(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('[index]\nkind = "milvus"\n[index.milvus]\nuri = "m.db"\n')
    config: IndexConfig = Workspace(tmp_path).config.index
    assert config.milvus["uri"] == str((tmp_path / "m.db").resolve())


def test_an_expression_names_no_more_items_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    from etalage.index.conditions import Condition
    from etalage.index.milvus_collection import told

    allowed = np.arange(10 * IDS_AT_ONCE)
    cheap, brand = Condition("price", "at_most", 5.0), Condition("brand", "is", "A")
    none = np.empty(0, np.int64)
    assert told([cheap, brand], allowed, none, none) == ('(price <= 5.0) and (brand == "A")', True)
    assert told([cheap, brand], allowed, np.array([7, 10**9]), none) == (
        '((price <= 5.0) and (brand == "A")) or row in [7]', True,
    )  # fmt: skip
    many = np.arange(IDS_AT_ONCE + 1)
    assert told([cheap, brand], allowed, many, none) == ('(brand == "A")', False)
    assert told([cheap], allowed, many, none) == ("", False)
    assert told([brand], allowed, many, none) == ('(brand == "A")', True)
    assert told([brand], allowed, none, np.array([3])) == ('((brand == "A")) or row in [3]', True)
