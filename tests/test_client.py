"""The client, against a real server; and what it makes of a table."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etalage.client import Act, Client, Event, Step, TableRow, ToClassify, ValuedCategory, decode_table
from etalage.errors import (
    EtalageError,
    KeyRefused,
    NoBundle,
    NotFound,
    PhotoRefused,
    RequestError,
    ServeError,
    Unprocessable,
)
from etalage.recommend import Recommender
from etalage.serve.tables import encoded
from tests.category_exports import classified_shop, coloured
from tests.serve.servers import ThreadServer
from tests.shops import behaviour_shop, drawn_photo, small_shop

KEY = "client-key"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, bundles, _ = small_shop(tmp_path_factory.mktemp("shop"), 30, without_photo=[7])
    return bundles.folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with ThreadServer(folder, key=KEY) as server, Client(server.url + "/", KEY) as client:
        yield client


def test_the_client_gets_what_the_recommender_answers(folder: Path, client: Client) -> None:
    bundle = (folder / "current").read_text().strip()
    recommender = Recommender.open(folder / bundle)
    photos = [drawn_photo(n) for n in (5, 11)]
    found = client.similar(photos=photos, k=4, category="Clothing", max_price=30, in_stock=True)
    from etalage.recommend import Filters

    expected = recommender.similar(photos=photos, k=4, filters=Filters("Clothing", None, 30, True))
    assert found.bundle == bundle == client.bundle()
    for ours, theirs in zip(found.answers, expected, strict=True):
        assert [(s.rank, s.item.item_id, s.score) for s in ours.slate] == [
            (s.rank, s.item_id, s.score) for s in theirs.slate
        ]
        assert [s.item.title for s in ours.slate] == [s.item["title"] for s in theirs.slate]
        assert (ours.row, ours.reason, ours.fallback) == (theirs.row, theirs.reason, theirs.fallback)


def test_every_question_has_its_typed_answer(client: Client) -> None:
    (one,) = client.similar(item_id="item-00003", k=2).answers
    assert len(one.slate) == 2 and one.fallback is None
    (none,) = client.similar(photo=drawn_photo(500), k=2, threshold=0.9999).answers
    assert none.slate == [] and none.reason == "no item is at least as similar as 0.9999"
    assert client.item("item-00003")["description"] == "The piece with number 3"
    assert client.photo("item-00003") == drawn_photo(3)
    page = client.items("piece", category="Bags", in_stock=True, min_price=10, offset=1, limit=2)
    # Bags in stock from 10 on: 7, 11, 19, 23, 27; none was bought.
    assert (page.total, page.offset) == (5, 1)
    assert [(i.item_id, i.photo) for i in page.items] == [
        ("item-00011", "/v1/photos/item-00011"),
        ("item-00019", "/v1/photos/item-00019"),
    ]
    assert [(c.path, c.count) for c in client.categories()][:2] == [("Bags", 7), ("Clothing", 16)]


def test_refusals_come_back_as_the_servers_own_classes(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="item-99999"):
        client.item("item-99999")
    with pytest.raises(NotFound, match="no photo"):
        client.photo("item-00007")
    with pytest.raises(PhotoRefused, match="row 1: not an image"):
        client.similar(photos=[drawn_photo(1), b"text"])
    with pytest.raises(Unprocessable, match="k = 0"):
        client.similar(item_id="item-00003", k=0)
    with pytest.raises(KeyRefused), Client(client.url, "another") as stranger:
        stranger.categories()
    with ThreadServer(tmp_path / "nothing") as server, Client(server.url) as early:
        assert early.bundle() is None
        with pytest.raises(NoBundle, match="nothing was published yet"):
            early.items()
    with pytest.raises(ServeError, match="is the server running"), Client("http://127.0.0.1:9") as nobody:
        nobody.items()


def test_the_client_sends_what_shoppers_do_and_gets_what_they_would_want(tmp_path: Path) -> None:
    _, bundles, manifest = behaviour_shop(tmp_path / "shop", 40)
    with ThreadServer(bundles.folder, key=KEY) as server, Client(server.url, KEY) as client:
        stranger = client.recommend("a/new one", k=3)
        assert (stranger.rung, stranger.known, stranger.trace) == ("popular", False, None)
        assert [slot.why for slot in stranger.slate] == [None] * 3
        bought = Event("e-1", "a/new one", Act("item-00010", "buy", 2.0, 1_700_000_000_000_000))
        done = client.send_events([bought, Event("e-2", "a/new one", Act("item-00016"))])
        assert (done.accepted, done.repeated, done.quarantined, done.reasons) == (2, 0, 0, [])
        assert client.send_events([bought]).repeated == 1
        past = client.history("a/new one")
        assert (past.bundle, past.user_id) == (manifest.id, "a/new one")
        assert past.acts[0].act == bought.act and past.acts[0].item is not None
        assert past.acts[0].item.title == "Piece 10"
        found = client.recommend("a/new one", k=4, explain=True, exclude=["item-00011"], max_price=50)
        reasons = {slot.item.item_id: slot.why for slot in found.slate}
        assert "item-00011" not in reasons and reasons["item-00012"] == "because you bought Piece 10"
        assert found.trace is not None and found.slate[0].trace is not None
        same = client.recommend(history=[bought.act, Act("item-00016")], k=4, brand="Corvo")
        assert same.user_id is None and {slot.item.brand for slot in same.slate} == {"Corvo"}
        assert client.users(1) == ["a/new one"]
        erased = client.erase("a/new one")
        assert (erased.user_id, erased.acts) == ("a/new one", 2) and erased.left
        assert client.history("a/new one").acts == []


def test_the_client_asks_about_pairs_and_shoppers(tmp_path: Path) -> None:
    _, bundles, _ = behaviour_shop(tmp_path / "shop", 40)
    with ThreadServer(bundles.folder) as server, Client(server.url) as client:
        client.send_events([Event(f"e{n}", "user-0", Act(f"item-{n:05d}", "buy")) for n in range(3)])
        high, low, unknown = client.rank(
            [("user-0", "item-00003"), ("user-0", "item-00020"), ("nobody", "no item")], threshold=0.7
        )
        assert high.score > low.score and (high.known_user, high.known_item) == (True, True)
        assert (unknown.row, unknown.known_user, unknown.known_item) == (2, False, False)
        liked = client.liked("user-0", k=2)
        assert len(liked) == 2 and liked[0].item is not None and liked[0].item.item_id == liked[0].item_id
        assert client.users_for_item("item-00001", 1)[0].user_id == "user-0"
        assert len(client.users_like("user-0", 2)) == 2
        with pytest.raises(NotFound, match="nothing is known"):
            client.liked("nobody")
        with pytest.raises(Unprocessable, match="exactly one of user_id, history"):
            client.recommend("a", history=[])


@pytest.mark.parametrize("channels", [1, 3])
def test_both_encodings_decode_to_the_same_pixels(channels: int) -> None:
    pixels = np.arange(4 * 4 * channels, dtype=np.uint8).reshape(4, 4, channels) * 5
    rows = [
        {"row": 0, "rank": 1, "item_id": "a", "score": 0.5, "image": encoded(pixels, "float32_hex")},
        {"row": 0, "rank": 2, "item_id": "b", "score": 0.25, "image": encoded(pixels, "png")},
        {"row": 1, "rank": 1, "item_id": "c", "score": -1, "image": ""},
    ]
    first, second, third = decode_table({"predictions": rows})
    assert first.image is not None and second.image is not None and third.image is None
    assert first.image.dtype == second.image.dtype == np.float32
    assert first.image.shape == (4, 4, channels)
    np.testing.assert_array_equal(first.image, pixels.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(second.image, first.image)
    assert decode_table(rows)[2] == TableRow(1, 1, "c", -1.0, None)


def test_the_hex_is_the_originals_little_endian_float32() -> None:
    # 1/255 and 1.0 as float32, low byte first.
    assert encoded(np.array([[[1]], [[255]]], dtype=np.uint8), "float32_hex") == "8180803b" + "0000803f"


def test_the_png_is_an_image_file() -> None:
    pixels = np.array([[[1], [200]], [[7], [90]]], dtype=np.uint8)
    opened = Image.open(io.BytesIO(base64.b64decode(encoded(pixels, "png"))))
    assert (opened.format, opened.mode) == ("PNG", "L")
    assert np.asarray(opened).tolist() == [[1, 200], [7, 90]]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [{"row": 0}],
        [{"row": 0, "rank": 1, "item_id": "a", "score": 1, "image": "xyz"}],
        [{"row": 0, "rank": 1, "item_id": "a", "score": 1, "image": "00000000" * 5}],
        "text",
    ],
)
def test_what_is_no_table_is_refused(answer: object) -> None:
    with pytest.raises(RequestError, match="not a table"):
        decode_table(answer)


def test_all_refusals_share_one_root() -> None:
    assert issubclass(ServeError, EtalageError) and issubclass(PhotoRefused, RequestError)


def test_the_client_decodes_what_things_are(tmp_path: Path) -> None:
    shop = classified_shop(tmp_path / "shop", photos=False)
    shop.classify()
    manifest = shop.publish()
    with ThreadServer(shop.bundles.folder, key=KEY) as server, Client(server.url, KEY) as client:
        found = client.classify(
            [ToClassify([coloured("21")]), ToClassify(title="oat milk"), ToClassify()], top=1
        )
        assert (found.bundle, found.model) == (manifest.id, manifest.classifiers[0].hash)
        apple, milk, nothing = found.answers
        assert (apple.row, apple.category_id, apple.path) == (0, "21", "Food > Apples")
        assert apple.steps[0] == Step("1", "Food", apple.steps[0].confidence) and len(apple.others) == 1
        assert milk.path == "Food > Drinks > Milk" and milk.reason is None and milk.stored is None
        assert (nothing.path, nothing.confidence, nothing.steps) == (None, None, []) and nothing.reason
        (item,) = client.classify_item("item-00005", threshold=1.0).answers
        assert item.category_id is None and item.stored is not None
        assert (item.stored.path, item.stored.own) == ("Food > Drinks > Juice", "Ours > Shelf 2")
        confusion = client.confusion()
        assert confusion.categories[0] == ValuedCategory("50", "Clothing > Dresses", 410.5)
        assert confusion.counts[1] == [4, 17, 1] and confusion.totals == [36, 19, 13]
        told = client.categories("classified")
        assert told[0].path == "Clothing" and client.categories()[0].path == "Ours"
        apples = client.items(classified="Food > Apples", min_confidence=0.9)
        assert {int(one.item_id[-5:]) for one in apples.items} == {2, 10, 14, 22}
        slate = client.recommend(history=[], classified="Food > Apples", min_confidence=0.9).slate
        assert {int(slot.item.item_id[-5:]) for slot in slate} <= {2, 10, 14, 22}
        (answer,) = client.similar(item_id="item-00003", classified="Food", min_confidence=0.5).answers
        assert {int(slot.item.item_id[-5:]) % 4 for slot in answer.slate} == {0, 1, 2}
        with pytest.raises(PhotoRefused, match="row 1: not an image"):
            client.classify([ToClassify([coloured("21")]), ToClassify([b"text"])])
        with pytest.raises(NotFound, match="item-99999"):
            client.classify_item("item-99999")


def test_the_client_passes_on_that_there_is_no_classifier(client: Client) -> None:
    with pytest.raises(Unprocessable, match="this bundle has no classifier"):
        client.classify([ToClassify(title="milk")])
    with pytest.raises(NotFound, match="no confusion matrix"):
        client.confusion()
