"""A shopper's own photo: how it is sent, kept, compared, and refused."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from etalage.client import Client
from etalage.errors import PhotoRefused
from etalage.page import app as application
from etalage.page import forms
from tests.page.conftest import Visitor, ids_of, opened, shown
from tests.serve.servers import ThreadServer
from tests.shops import drawn_photo


def test_an_uploaded_photo_shows_similar_items_within_the_filters(visitor: Visitor, client: Client) -> None:
    photo = drawn_photo(17)
    page, address = visitor.upload(photo)
    found = client.similar(photo=photo, k=30).answers[0].slate
    assert found[0].item_id == "item-00017"
    assert shown(page, "like-photo") == ids_of(found)
    assert address.startswith("/?photo=") and len(address) == len("/?photo=") + 22
    own = visitor.http.get(page.one(".uploaded")["src"])
    assert own.content == photo and own.headers["cache-control"].startswith("private")
    page = visitor.get(page.one("#categories a[data-value=Shoes]")["href"])
    shoes = client.similar(photo=photo, k=30, category="Shoes").answers[0]
    assert shown(page, "like-photo") == ids_of(shoes.slate)
    assert page.one(".reason").text == shoes.reason
    item = visitor.get(page.all("#like-photo a")[2]["href"])
    assert item.one("article h1").text == f"Piece {int(shoes.slate[2].item_id[-5:])}"
    assert item.one(".back").text == "Back to the photo's results"
    page = visitor.get(item.one(".back a")["href"])
    assert shown(page, "like-photo") == ids_of(shoes.slate)
    grid = visitor.get(page.all(".own a")[-1]["href"])
    assert shown(grid, "grid") == ids_of(client.items(category="Shoes", limit=30).items)


def test_a_photo_is_compared_within_what_was_filtered_before(visitor: Visitor, client: Client) -> None:
    page, address = visitor.upload(drawn_photo(3), place="/?category=Bags&q=piece")
    assert shown(page, "like-photo") == ids_of(
        client.similar(photo=drawn_photo(3), k=30, category="Bags").answers[0].slate
    )
    assert address.endswith("&category=Bags")


def test_what_is_no_photo_is_refused_in_a_shoppers_words(visitor: Visitor) -> None:
    page, _ = visitor.post(
        "/photo", 400, files={"photo": ("list.txt", b"milk, bread", "text/plain")}, data={"place": "/?q=coat"}
    )
    assert page.one(".notice h1").text == "We could not use this photo"
    assert "not an image" in page.one(".detail p").text
    assert page.one(".notice a")["href"] == "/?q=coat"


def test_a_photo_that_cannot_be_decoded_gets_the_servers_message(visitor: Visitor) -> None:
    page, _ = visitor.upload(drawn_photo(1)[:60], status=400)
    assert page.one(".notice h1").text == "We could not use this photo"
    assert page.one(".detail p").text


def vast(side: int) -> bytes:
    """A PNG that claims side × side pixels in a few bytes; nothing but its header can be read."""
    header, data = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(b"")
    parts = (
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in (header, data)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [6_400, 13_000, 20_000])
def test_a_photo_of_too_many_pixels_is_refused_by_its_header_in_the_servers_words(
    visitor: Visitor, client: Client, side: int
) -> None:
    page, _ = visitor.upload(vast(side), status=400)
    assert page.one(".notice h1").text == "We could not use this photo"
    with pytest.raises(PhotoRefused) as refused:
        client.similar(photo=vast(side))
    assert page.one(".detail p").text == str(refused.value).removeprefix("row 0: ")
    assert "more than 40,000,000" in page.one(".detail p").text


def test_an_own_photo_is_made_small_once(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(application, "thumbnail", lambda photo, side: made.append(side) or photo)
    page, _ = visitor.upload(drawn_photo(5))
    for _ in range(3):
        assert visitor.http.get(page.one(".uploaded")["src"]).content == drawn_photo(5)
    assert len(made) == 1


def test_no_photo_leads_back(visitor: Visitor) -> None:
    response = visitor.http.post("/photo", data={"place": "/?q=piece"}, files={"other": b""})
    assert str(response.url) == "http://127.0.0.1/?q=piece"


def test_a_photo_that_is_not_kept_any_more_is_asked_for_again(visitor: Visitor) -> None:
    page = visitor.get(f"/?photo={'a' * 22}&category=Bags", status=404)
    assert page.one(".notice h1").text == "That photo is no longer kept"
    assert page.one(".notice a")["href"] == "/?category=Bags"
    assert visitor.http.get(f"/photos/mine/{'a' * 22}").status_code == 404


@pytest.fixture
def forgetful(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visitor]:
    """A page that keeps one photo."""
    monkeypatch.setattr(application, "UPLOADS_BYTES", 10)
    yield opened(server.url)


def test_photos_kept_longest_are_dropped_for_newer_ones(forgetful: Visitor) -> None:
    _, first = forgetful.upload(drawn_photo(1))
    _, second = forgetful.upload(drawn_photo(2))
    forgetful.get(second)
    forgetful.get(first, status=404)


def test_a_photo_larger_than_allowed_is_said_so(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "UPLOAD_BYTES", 100)
    monkeypatch.setattr(forms, "FORM_BYTES", 200)
    page, _ = visitor.upload(drawn_photo(1) * 20, status=413)
    assert page.one(".notice h1").text == "This is too large"


@pytest.mark.parametrize(
    "sent",
    [
        {"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data"}},
    ],
)
def test_a_broken_form_is_no_crash(visitor: Visitor, sent: dict[str, Any]) -> None:
    response = visitor.http.post("/photo", **sent)
    assert response.status_code in (200, 400), response.text
