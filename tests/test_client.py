"""The client, against a real server; and what it makes of a table."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etalage.client import Client, TableRow, decode_table
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
from etalage.serve.pyfunc import encoded
from tests.serve.servers import ThreadServer
from tests.shops import drawn_photo, small_shop

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
