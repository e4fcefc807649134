"""What a stranger may send, and what it gets, over real HTTP."""

import base64
import gzip
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.conftest import STRANGE
from tests.serve.servers import ProcessServer, ThreadServer
from tests.shops import drawn_photo

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def b64(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def ask(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/similar", json=body)


def message(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert set(error) == {"class", "message"}
    return str(error["message"])


def test_every_answer_names_the_bundle_in_body_and_header(http: httpx.Client) -> None:
    bundle = http.get("/readyz").json()["bundle"]
    for response in (
        ask(http, item_id="item-00003"),
        ask(http, item_id="item-00003", k=0),
        http.get("/v1/items"),
        http.get("/v1/items/item-00003"),
        http.get("/v1/items/nothing"),
        http.get("/v1/categories"),
        http.get("/healthz"),
        http.get("/no/such/route"),
        http.delete("/v1/similar"),
    ):
        assert response.json()["bundle"] == bundle
        assert response.headers["x-etalage-bundle"] == bundle
    assert http.get("/v1/photos/item-00003").headers["x-etalage-bundle"] == bundle


def test_a_slate_carries_what_a_page_shows(http: httpx.Client) -> None:
    (answer,) = ask(http, item_id="item-00003", k=3, filters={"max_price": 60}).json()["answers"]
    slot = answer["slate"][0]
    assert set(slot) == {
        "rank", "item_id", "score", "title", "brand", "price", "currency", "category_id", "in_stock", "photo",
    }  # fmt: skip
    shown = http.get(f"/v1/items/{slot['item_id']}").json()["item"]
    assert [shown[name] for name in ("title", "price", "photo")] == [
        slot["title"],
        slot["price"],
        slot["photo"],
    ]
    photo = http.get(slot["photo"])
    assert photo.headers["content-type"] == "image/png"
    assert photo.content == drawn_photo(int(slot["item_id"][-5:]))


def test_an_items_attributes_are_an_object(http: httpx.Client) -> None:
    assert http.get("/v1/items/item-00003").json()["item"]["attributes"] == {"split": "train"}


def test_browsing_pages_through_all_items_once(http: httpx.Client) -> None:
    seen: list[str] = []
    for offset in (0, 20, 40):
        page = http.get("/v1/items", params={"offset": offset, "limit": 20}).json()
        assert page["total"] == 40 + len(STRANGE) and page["offset"] == offset
        seen += [item["item_id"] for item in page["items"]]
    assert sorted(seen) == sorted([*(f"item-{n:05d}" for n in range(40)), *STRANGE.values()])
    found = http.get("/v1/items", params={"search": "piece 12", "category": "Clothing", "in_stock": "true"})
    assert [item["item_id"] for item in found.json()["items"]] == ["item-00012"]


# -- F27 ---------------------------------------------------------------------------------------


def test_f27_a_body_over_the_cap_is_413_whether_announced_or_chunked(http: httpx.Client) -> None:
    body = json.dumps({"photo": "A" * 200_000}).encode()
    announced = http.post("/v1/similar", content=body, headers={"content-type": "application/json"})
    assert (announced.status_code, announced.json()["error"]["class"]) == (413, "BodyTooLarge")
    chunks = (body[at : at + 7_000] for at in range(0, len(body), 7_000))
    chunked = http.post("/v1/similar", content=chunks, headers={"content-type": "application/json"})
    assert (chunked.status_code, chunked.json()["error"]["class"]) == (413, "BodyTooLarge")
    whole = json.dumps({"item_id": "item-00001", "k": 1}).ljust(200_000).encode()
    assert http.post("/v1/similar", content=whole, headers={"content-type": "application/json"}).is_success


def test_f27_the_answer_comes_before_the_body_does(server: ThreadServer) -> None:
    head = b"POST /v1/similar HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for framing, start in (
        (b"Content-Length: 9000000000\r\n\r\n", b'{"photo": "AAAA'),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"40000\r\n" + b"A" * 0x40000 + b"\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as raw:
            raw.sendall(head + framing + start)
            assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_f27_what_is_too_large_is_not_held_in_memory(served_shop: Path, tmp_path: Path) -> None:
    """200 MB in chunks, on a connection that the server answers after the first 16."""
    with ProcessServer(served_shop, tmp_path / "log") as server:
        port = int(server.url.rsplit(":", 1)[1])
        before = peak_megabytes(server.process.pid)
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=120) as raw:
            raw.sendall(
                b"POST /v1/similar HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(200):
                raw.sendall(chunk)
            assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")
        assert peak_megabytes(server.process.pid) - before < 60
        assert httpx.get(f"{server.url}/healthz").is_success


def peak_megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "GZIP"])
def test_f27_a_compressed_body_is_never_inflated(http: httpx.Client, coding: str) -> None:
    bomb = gzip.compress(b" " * 20_000_000 + b"{}")
    headers = {"content-type": "application/json", "content-encoding": coding}
    response = http.post("/v1/similar", content=bomb[:100_000], headers=headers)
    assert (response.status_code, response.json()["error"]["class"]) == (415, "UnsupportedMedia")


def test_a_form_is_no_json(http: httpx.Client) -> None:
    response = http.post("/v1/similar", data={"item_id": "item-00001"})
    assert response.status_code == 415 and "application/json" in message(response)


# -- F28, F29 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"item_id": "a", "k": NaN}', "k: NaN"),
        ('{"item_id": "a", "filters": {"max_price": 1e999}}', "filters.max_price: 1e999"),
        ('{"item_id": "a", "item_id": "b"}', "item_id: given twice"),
        ('{"item_id": ' + "[" * 5000 + "]" * 5000 + "}", "item_id.0.0"),
    ],
)
def test_f28_bad_json_is_400_and_names_the_field(http: httpx.Client, body: str, says: str) -> None:
    response = http.post("/v1/similar", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert message(response).startswith(says)


@pytest.mark.parametrize("k", [0, -1, 10**9, "ten", "10", 1.5, None, True, [1], 10**40])
def test_f29_a_k_out_of_range_is_422_and_named(http: httpx.Client, k: Any) -> None:
    response = ask(http, item_id="item-00003", k=k)
    assert response.status_code == 422
    assert message(response).startswith("k = ")


@given(k=st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.none())
@QUICK
def test_f29_any_k_is_answered_or_422(http: httpx.Client, k: Any) -> None:
    response = ask(http, item_id="item-00003", k=k)
    whole = not isinstance(k, (bool, str)) and k is not None and k == int(k) and 1 <= k <= 1000
    assert response.status_code == (200 if whole else 422)
    if whole:
        assert len(response.json()["answers"][0]["slate"]) == min(k, 38 + len(STRANGE))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "body: give exactly one of item_id, photo, photos; given: none"),
        ({"item_id": "a", "photo": "b"}, "body: give exactly one of"),
        ({"item_id": "a", "colour": "red"}, "colour = 'red'"),
        ({"item_id": 7}, "item_id = 7"),
        ({"item_id": "a", "filters": {"min_price": "1"}}, "filters.min_price = '1'"),
        ({"item_id": "a", "filters": {"in_stock": "yes"}}, "filters.in_stock = 'yes'"),
        ({"photos": []}, "photos = []"),
        ({"photos": ["eA=="] * 65}, "photos = "),
        ([], "body: a JSON object"),
    ],
)
def test_a_body_of_the_wrong_shape_is_422_and_names_the_field(
    http: httpx.Client, body: Any, says: str
) -> None:
    response = http.post("/v1/similar", json=body)
    assert (response.status_code, response.json()["error"]["class"]) == (422, "Unprocessable")
    assert message(response).startswith(says)


def test_a_query_parameter_out_of_range_is_422_and_named(http: httpx.Client) -> None:
    response = http.get("/v1/items", params={"limit": 201})
    assert response.status_code == 422
    assert message(response).startswith("query.limit = '201'")


# -- F30, F31, F36, F37 ------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRANGE)
def test_f30_an_id_is_taken_exactly_as_it_is(http: httpx.Client, name: str) -> None:
    item_id = STRANGE[name]
    # A slash may come bare, unless the client would itself resolve the ../
    for safe in ("",) if ".." in item_id else ("", "/"):
        found = http.get(f"/v1/items/{quote(item_id, safe=safe)}")
        assert found.json()["item"]["title"] == f"Strange {name}"
    photo = http.get(found.json()["item"]["photo"])
    assert photo.content == drawn_photo(100 + list(STRANGE).index(name))
    (answer,) = ask(http, item_id=item_id, k=3).json()["answers"]
    assert answer["fallback"] is None and item_id not in [slot["item_id"] for slot in answer["slate"]]


def test_f30_ids_come_back_as_they_are(http: httpx.Client) -> None:
    (answer,) = ask(http, item_id="item-00001", k=1000).json()["answers"]
    assert set(STRANGE.values()) <= {slot["item_id"] for slot in answer["slate"]}


@pytest.mark.parametrize(
    "raw",
    ["%00", "a%00b", "%ff", "%ed%a0%80", "x" * 513, quote("é" * 257), "x" * 10_240],
    ids=["nul", "nul-inside", "not-utf8", "surrogate", "513-bytes", "514-bytes", "10-KB"],
)
def test_f30_what_cannot_be_an_id_is_400(http: httpx.Client, raw: str) -> None:
    for route in ("/v1/items/", "/v1/photos/"):
        response = http.get(route + raw)
        assert response.status_code == 400 and message(response).startswith("item_id: ")


@pytest.mark.parametrize("item_id", ["a\0b", "é" * 257, "x" * 10_240, ""])
def test_f30_the_same_in_a_body(http: httpx.Client, item_id: str) -> None:
    response = ask(http, item_id=item_id)
    assert response.status_code == 400 and message(response).startswith("item_id: ")


def test_f30_an_escape_is_decoded_once(http: httpx.Client) -> None:
    assert http.get("/v1/items/" + quote(quote("item-0000/3", safe=""), safe="")).status_code == 404
    assert http.get("/v1/items/item%2D00003").json()["item"]["item_id"] == "item-00003"
    assert http.get("/v1/items/item%252D00003").status_code == 404


@given(item_id=st.text(min_size=1, max_size=200))
@QUICK
def test_f31_an_unknown_item_is_200_with_the_fallback(http: httpx.Client, item_id: str) -> None:
    if item_id in STRANGE.values():
        return
    response = ask(http, item_id=item_id, k=2)
    if "\0" in item_id or len(item_id.encode()) > 512:
        assert response.status_code == 400
        return
    (answer,) = response.json()["answers"]
    assert response.status_code == 200 and answer["fallback"] == "unknown_item"
    # Item 1: a view and a buy; item 5, with a buy alone, is out of stock; item 3: a cart.
    assert [slot["item_id"] for slot in answer["slate"]] == ["item-00001", "item-00003"]


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%5c..%5cwindows%5cwin.ini",
        "%252e%252e%252fetc%252fpasswd",
        "%2fetc%2fpasswd",
        "..%c0%af..%c0%afetc",
        "....//....//etc/passwd",
        "../manifest.json",
        "..%2fbundles%2fcurrent",
    ],
)
def test_f36_a_path_out_of_the_shop_leads_nowhere(server: ThreadServer, path: str) -> None:
    for route in ("/v1/photos/", "/v1/items/", "/", "/v1/"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as raw:  # sent as it stands
            raw.sendall(
                f"GET {route}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        not_text = "%c0" in path and route in ("/v1/photos/", "/v1/items/")
        assert answer.startswith(b"HTTP/1.1 400 " if not_text else b"HTTP/1.1 404 "), answer[:200]
        assert b"root:" not in answer


def test_items_that_must_not_come_do_not(http: httpx.Client) -> None:
    for query in ({"item_id": "item-00003"}, {"photo": b64(drawn_photo(3))}):
        (answer,) = ask(http, **query, k=5).json()["answers"]
        first, second, *_ = [slot["item_id"] for slot in answer["slate"]]
        excluded = {"exclude": [first, "nobody knows it"]}
        (answer,) = ask(http, **query, k=5, filters=excluded).json()["answers"]
        found = [slot["item_id"] for slot in answer["slate"]]
        assert found[0] == second and first not in found and len(found) == 5


def test_a_photo_is_never_taken_for_anything_else_by_a_browser(http: httpx.Client) -> None:
    assert http.get("/v1/photos/item-00003").headers["x-content-type-options"] == "nosniff"


def test_a_method_that_a_stranger_makes_up_is_no_label_of_a_metric(http: httpx.Client) -> None:
    assert http.request("BREW", "/v1/items").status_code in (400, 405)
    assert http.request("PURGE", "/v1/items").status_code == 405
    told = http.get("/metrics").text
    assert "BREW" not in told and "PURGE" not in told and 'method="OTHER"' in told


def test_f37_filters_that_exclude_everything_are_200_empty_with_the_reason(http: httpx.Client) -> None:
    response = ask(http, item_id="item-00003", filters={"category": "Bags", "max_price": 6})
    (answer,) = response.json()["answers"]
    assert response.status_code == 200 and answer["slate"] == []
    assert "no item passes the filters" in answer["reason"]
    assert "category 'Bags' leaves" in answer["reason"] and "max_price 6 leaves 1" in answer["reason"]


# -- F39 ---------------------------------------------------------------------------------------


def test_f39_several_good_photos_are_all_answered_in_their_order(http: httpx.Client) -> None:
    numbers = [9, 2, 30, 2]
    answers = ask(http, photos=[b64(drawn_photo(n)) for n in numbers], k=1).json()["answers"]
    assert [a["row"] for a in answers] == [0, 1, 2, 3]
    assert [a["slate"][0]["item_id"] for a in answers] == [f"item-{n:05d}" for n in numbers]
    assert [a["slate"] for a in ask(http, photo=b64(drawn_photo(30)), k=1).json()["answers"]] == [
        answers[2]["slate"]
    ]


def test_f39_a_photo_of_another_size_is_resized(http: httpx.Client) -> None:
    (answer,) = ask(http, photo=b64(drawn_photo(9, size=57)), k=1).json()["answers"]
    assert len(answer["slate"]) == 1


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("%%%not base64", "row 1: not base64"),
        ("abc", "row 1: not base64"),
        ("", "photos.1 = ''"),
        (b64(b"plain text"), "row 1: not an image (10 bytes)"),
        (b64(drawn_photo(4)[:70]), "row 1: the image file is broken"),
        (b64(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "row 1: not an image"),
    ],
)
def test_f39_a_bad_photo_is_refused_with_its_row(http: httpx.Client, bad: str, says: str) -> None:
    good = b64(drawn_photo(1))
    response = ask(http, photos=[good, bad, good])
    assert response.status_code == (422 if bad == "" else 400)
    assert message(response).startswith(says)


@given(st.binary(max_size=300))
@QUICK
def test_f39_any_bytes_are_answered_or_400(http: httpx.Client, photo: bytes) -> None:
    response = ask(http, photos=[b64(drawn_photo(1)), b64(photo)] if photo else ["not base64"])
    assert response.status_code == 400
    assert message(response).startswith("row ")
