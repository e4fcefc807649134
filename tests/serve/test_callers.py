"""Who may call, as headers tell it: F59, F60. What real browsers do: test_browsers.py."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import ConfigError, HostRefused, RequestError, ServeError
from etalage.web.callers import Callers
from tests.serve.servers import ThreadServer

SHOP = "https://www.shop.example"
EVENT = {"event_id": "e-callers", "user_id": "stranger", "item_id": "item-00001", "kind": "buy"}


@pytest.fixture(scope="module")
def named(shoppers_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that is also called api.shop.example, and may be asked by the pages of SHOP."""
    import shutil

    folder = tmp_path_factory.mktemp("named") / "shop"
    shutil.copytree(shoppers_shop.parent, folder)
    settings = {"hosts": ("api.shop.example", "*.inside.example"), "origins": (SHOP, "http://localhost:3000")}
    with ThreadServer(folder / "bundles", **settings) as server, httpx.Client(base_url=server.url) as http:
        yield http


def refused(response: httpx.Response, status: int, name: str, *parts: str) -> None:
    assert (response.status_code, response.json()["error"]["class"]) == (status, name), response.text
    for part in parts:
        assert part in response.json()["error"]["message"]


# -- F59: from whose page ----------------------------------------------------------------------

FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
    {"origin": "null"},
    {"origin": "null", "sec-fetch-site": "cross-site"},
    {"origin": "http://localhost:9999", "sec-fetch-site": "same-site"},
    {"origin": "http://127.0.0.1"},
    {"origin": "https://www.shop.example.evil.example"},
    {"origin": "https://www.shop.example:8443"},
    {"origin": "http://www.shop.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "referer": "http://evil.example/https://www.shop.example"},
    {"sec-fetch-site": "cross-site", "referer": "https://www.shop.example@evil.example/"},
    {"sec-fetch-site": "something new"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_f59_another_sites_page_is_refused_whatever_it_asks(
    named: httpx.Client, headers: dict[str, str]
) -> None:
    for method, path, body in (
        ("POST", "/v1/events", {"events": [EVENT]}),
        ("DELETE", "/v1/users/user-1", None),
        ("GET", "/v1/users/user-1/history", None),
        ("GET", "/v1/photos/item-00001", None),
        ("GET", "/metrics", None),
        ("GET", "/nowhere", None),
    ):
        response = named.request(method, path, json=body, headers=headers)
        refused(response, 403, "OriginRefused", "[serve] origins")
        assert "access-control-allow-origin" not in response.headers
    assert named.get("/v1/users/stranger/history").json()["acts"] == []
    assert named.get("/v1/users/user-1/history").json()["acts"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {"origin": SHOP, "sec-fetch-site": "cross-site"},
        {"origin": SHOP},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "referer": f"{SHOP}/products/1?a=b"},
    ],
)
def test_f59_our_own_pages_no_browser_and_allowed_pages_are_answered(
    named: httpx.Client, headers: dict[str, str]
) -> None:
    assert named.get("/v1/items", headers=headers).is_success
    assert named.post("/v1/similar", json={"item_id": "item-00001"}, headers=headers).is_success


def test_f59_an_old_browser_says_only_origin_and_our_own_page_is_known_by_it(named: httpx.Client) -> None:
    own = str(named.base_url).rstrip("/")
    assert named.get("/v1/items", headers={"origin": own}).is_success
    behind = {"origin": "https://api.shop.example", "host": "api.shop.example"}  # a proxy did the TLS
    assert named.get("/v1/items", headers=behind).is_success


BODY = b'{"events": [{"event_id": "e-blob", "user_id": "stranger", "item_id": "item-00001"}]}'


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
)
def test_f59_a_body_that_does_not_say_it_is_json_is_415(named: httpx.Client, kind: str | None) -> None:
    for path in ("/v1/events", "/v1/similar", "/v1/recommend", "/v1/rank", "/v1/users", "/v1/classify"):
        headers = {} if kind is None else {"content-type": kind}
        response = named.post(path, content=BODY, headers=headers)
        refused(response, 415, "UnsupportedMedia", "Content-Type: application/json")
    assert named.get("/v1/users/stranger/history").json()["acts"] == []


def test_f59_json_with_its_charset_is_taken(named: httpx.Client) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert named.post("/v1/similar", content=b'{"item_id": "item-00001"}', headers=headers).is_success


def test_f59_an_allowed_pages_browser_is_told_so(named: httpx.Client) -> None:
    asked = {
        "origin": SHOP,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-deadline-ms",
    }
    told = named.options("/v1/events", headers=asked)
    assert told.status_code == 204 and told.content == b""
    assert told.headers["access-control-allow-origin"] == SHOP
    assert {"GET", "POST", "DELETE"} <= set(told.headers["access-control-allow-methods"].split(", "))
    assert {"authorization", "content-type", "x-deadline-ms"} <= set(
        told.headers["access-control-allow-headers"].split(", ")
    )
    assert "access-control-allow-credentials" not in told.headers
    answer = named.post("/v1/similar", json={"item_id": "item-00001"}, headers={"origin": SHOP})
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["vary"] == "Origin" == named.get("/v1/items").headers["vary"]
    assert "x-etalage-bundle" in answer.headers["access-control-expose-headers"]
    wrong = named.get("/v1/items/nothing", headers={"origin": SHOP})
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (404, SHOP)
    refused(
        named.options("/v1/events", headers={**asked, "origin": "http://evil.example"}), 403, "OriginRefused"
    )
    assert named.options("/v1/events").status_code == 405, "who is no browser asks nothing of the kind"


def test_f59_an_allowed_page_needs_the_key_all_the_same(served_shop: Path) -> None:
    with (
        ThreadServer(served_shop, key="k", origins=(SHOP,)) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        asked = {"origin": SHOP, "access-control-request-method": "GET"}
        assert http.options("/v1/items", headers=asked).status_code == 204, "a browser asks without the key"
        without = http.get("/v1/items", headers={"origin": SHOP})
        assert (without.status_code, without.headers["access-control-allow-origin"]) == (401, SHOP)
        assert http.get("/v1/items", headers={"origin": SHOP, "authorization": "Bearer k"}).is_success


def test_f59_a_server_that_names_no_origins_says_nothing_of_them(http: httpx.Client) -> None:
    assert not [name for name in http.get("/v1/items").headers if name.startswith(("access-control", "vary"))]


# -- F60: by which name ------------------------------------------------------------------------

OURS = [
    *(
        "localhost",
        "LOCALHOST",
        "localhost.",
        "localhost:1",
        "127.0.0.1",
        "127.9.9.9:8765",
        "[::1]",
        "[::1]:80",
    ),
    *(
        "[::ffff:127.0.0.1]",
        "api.shop.example",
        "API.shop.example:443",
        "a.inside.example",
        "a.b.inside.example",
    ),
]
OTHERS = [
    *(
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "10.0.0.7",
        "[::2]",
    ),
    *(
        "2130706433",
        "0.0.0.0",
        "shop.example",
        "inside.example",
        "xinside.example",
        "x",
        "localhost.localdomain",
    ),
]
BROKEN = [
    "",
    "evil.example/",
    "a b",
    "localhost:port",
    "[::1",
    "user@localhost",
    "localhost,evil.example",
    "é",
]


@pytest.mark.parametrize("host", OURS)
def test_f60_called_by_a_name_of_ours_it_answers(named: httpx.Client, host: str) -> None:
    assert named.get("/v1/items", headers={"host": host}).is_success


@pytest.mark.parametrize("host", OTHERS)
def test_f60_called_by_another_name_it_neither_reads_nor_erases(named: httpx.Client, host: str) -> None:
    for method, path in (
        ("GET", "/v1/users/user-1/history"),
        ("DELETE", "/v1/users/user-1"),
        *(("GET", path) for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json")),
        ("OPTIONS", "/v1/events"),
    ):
        same = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        refused(
            named.request(method, path, headers=same), 421, "HostRefused", "[serve] hosts", host.split(":")[0]
        )
    assert named.get("/v1/users/user-1/history").json()["acts"]


@pytest.mark.parametrize("host", BROKEN)
def test_f60_what_is_no_name_is_400(named: httpx.Client, host: str) -> None:
    refused(named.get("/v1/items", headers={"host": host.encode()}), 400, "RequestError", "Host")  # type: ignore[dict-item]


def asked(*headers: tuple[str, str], version: str = "1.1", server: str = "127.0.0.1") -> dict[str, object]:
    coded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return {
        "type": "http",
        "method": "GET",
        "headers": coded,
        "http_version": version,
        "server": (server, 80),
    }


def test_f60_no_host_at_all_is_what_only_http_1_0_may_say() -> None:
    callers = Callers("127.0.0.1", (), (), has_key=False)
    callers.check(asked(version="1.0"))
    with pytest.raises(RequestError, match="Host is missing"):
        callers.check(asked())
    with pytest.raises(RequestError, match="host is there 2 times"):
        callers.check(asked(("host", "localhost"), ("host", "evil.example")))
    with pytest.raises(HostRefused):
        callers.check(asked(("host", "evil.example"), version="1.0"))


def test_f60_the_address_that_it_listens_on_is_a_name_of_its() -> None:
    Callers("shop.internal", (), (), True).check(asked(("host", "Shop.Internal:8765")))
    Callers("fe80::1", (), (), True).check(asked(("host", "[FE80:0::1]:8765")))
    # Bound to every address, it is called by the one that the connection came in at.
    everywhere = Callers("0.0.0.0", (), (), True)
    everywhere.check(asked(("host", "192.168.7.7:8765"), server="192.168.7.7"))
    everywhere.check(asked(("host", "192.168.7.7"), server="::ffff:192.168.7.7"))
    for host in ("192.168.7.8", "shop.internal"):
        with pytest.raises(HostRefused):
            everywhere.check(asked(("host", host), server="192.168.7.7"))


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_f60_whatever_host_says_only_our_own_names_pass(host: str) -> None:
    callers = Callers("127.0.0.1", ("shop.example",), (), has_key=False)
    try:
        callers.check(asked(("host", host)))
    except RequestError:
        return
    name = host.strip().lower()
    assert name.startswith(("localhost", "shop.example", "127.", "[::1]", "[::ffff:127.", "[0")), name


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.sampled_from(["", "http://", "https://"]))
def test_f59_whatever_origin_says_only_ours_and_those_named_pass(text: str, scheme: str) -> None:
    callers = Callers("127.0.0.1", (), (SHOP,), has_key=False)
    origin = scheme + text
    for headers in ([("origin", origin)], [("sec-fetch-site", "cross-site"), ("referer", origin)]):
        try:
            callers.check(asked(("host", "127.0.0.1:8765"), *headers))
        except RequestError:
            continue
        assert SHOP in origin.lower() or "127.0.0.1:8765" in origin


@pytest.mark.parametrize(
    "host", ["http://shop.example", "shop.example:80", "shop example", "", "*.", "a/b", "**"]
)
def test_a_setting_that_is_no_host_is_refused_with_an_example(host: str) -> None:
    with pytest.raises(ConfigError, match=r"\[serve\] hosts.*such as shop\.example"):
        Callers("127.0.0.1", (host,), (), has_key=False)


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/a", "null", "", "ftp://shop.example", "https://"]
)
def test_a_setting_that_is_no_origin_is_refused_with_an_example(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"\[serve\] origins.*such as https://"):
        Callers("127.0.0.1", (), (origin,), has_key=False)


def test_a_usual_port_and_a_slash_at_the_end_mean_nothing() -> None:
    for written in ("https://Www.Shop.example:443", "https://www.shop.example/"):
        Callers("127.0.0.1", (), (written,), False).check(asked(("host", "localhost"), ("origin", SHOP)))


@pytest.mark.parametrize("setting", ["hosts", "origins"])
def test_everybody_is_let_in_only_with_a_key(setting: str) -> None:
    anybody = {"hosts": (), "origins": (), setting: ("*",)}
    with pytest.raises(ServeError, match=f"{setting}.*give a key"):
        Callers("127.0.0.1", **anybody, has_key=False)
    given_ = [("host", "evil.example" if setting == "hosts" else "localhost"), ("sec-fetch-site", "none")]
    if setting == "origins":
        given_[1:] = [("origin", "http://evil.example")]
    Callers("127.0.0.1", **anybody, has_key=True).check(asked(*given_))
