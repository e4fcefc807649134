"""A link is asked for as it is written, or is invalid with its reason (F51: bad rows stay among the good
ones)."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.lake.photos.states import Ended, State
from etalage.lake.photos.urls import host_of, redirected, target


@pytest.mark.parametrize(
    ("link", "sent", "host"),
    [
        ("http://shop.example/a.jpg", "http://shop.example/a.jpg", "shop.example"),
        ("HTTPS://Shop.Example:443/A.jpg", "https://shop.example/A.jpg", "shop.example"),
        ("http://shop.example:8080", "http://shop.example:8080/", "shop.example"),
        ("  http://shop.example/a.jpg\n", "http://shop.example/a.jpg", "shop.example"),
        ("http://user:word@shop.example/a", "http://shop.example/a", "shop.example"),
        ("http://shop.example/a b.jpg?c=d e", "http://shop.example/a%20b.jpg?c=d%20e", "shop.example"),
        ("http://shop.example/caf\u00e9.jpg", "http://shop.example/caf%C3%A9.jpg", "shop.example"),
        ("http://shop.example/a%2Fb%20c?s=%2C,", "http://shop.example/a%2Fb%20c?s=%2C,", "shop.example"),
        ("http://shop.example/a.jpg#top", "http://shop.example/a.jpg", "shop.example"),
        ("http://b\u00fccher.example/a", "http://xn--bcher-kva.example/a", "xn--bcher-kva.example"),
        ("http://shop.example./a", "http://shop.example/a", "shop.example"),
        ("http://[2606:4700::1]:8080/a", "http://[2606:4700::1]:8080/a", "2606:4700::1"),
        ("http://127.1/a", "http://127.0.0.1/a", "127.0.0.1"),
        ("http://0x7f.1:8080/a", "http://127.0.0.1:8080/a", "127.0.0.1"),
        ("http://a_b.shop.example/a", "http://a_b.shop.example/a", "a_b.shop.example"),
    ],
)
def test_a_link_becomes_what_is_sent(link: str, sent: str, host: str) -> None:
    found = target(link)
    assert (found.url, found.host) == (sent, host)
    assert target(sent) == found


@pytest.mark.parametrize(
    "link",
    ["", "n/a", "shop.example/a.jpg", "//shop.example/a", "htp://shop.example/a", "ftp://shop.example/a",
     "file:///etc/passwd", "javascript:alert(1)", "data:image/png;base64,AA", "http://", "http:///a.jpg",
     "http://shop.example:port/a", "http://shop.example:99999/a", "http://[::1/a", "http://-shop.example/a",
     "http://shop..example/a", "http://sh op.example/a", "http://shop.example/a\r\nHost: other", "http://a\x00b/c",
     "http://" + "a" * 64 + ".example/", "http://shop.example/" + "a" * 9000, "http://\ud800.example/"],
)  # fmt: skip
def test_f51_a_bad_link_is_invalid_with_its_reason(link: str) -> None:
    with pytest.raises(Ended) as ended:
        target(link)
    assert ended.value.outcome.state is State.invalid
    assert ended.value.outcome.reason
    assert host_of(link) is None


def test_a_link_to_a_port_that_is_not_the_webs_has_a_host_all_the_same() -> None:
    with pytest.raises(Ended, match="port 25"):
        target("http://mail.example:25/a.jpg")
    assert host_of("http://mail.example:25/a.jpg") == "mail.example"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_target_or_ends(text: str) -> None:
    for link in (text, f"http://{text}", f"http://shop.example/{text}"):
        with contextlib.suppress(Ended):
            found = target(link)
            assert found.url.isascii() and " " not in found.url
            assert found.host and found.path.startswith("/")


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_location_is_a_target_or_ends(text: str) -> None:
    with contextlib.suppress(Ended):
        found = redirected(target("https://shop.example/a/b.jpg"), text)
        assert found.scheme == "https"


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/b.jpg", "https://shop.example/b.jpg"),
        ("b.jpg", "https://shop.example/a/b.jpg"),
        ("?v=2", "https://shop.example/a/photo.jpg?v=2"),
        ("//cdn.example/b.jpg", "https://cdn.example/b.jpg"),
        ("https://cdn.example/b.jpg", "https://cdn.example/b.jpg"),
    ],
)
def test_a_location_is_read_from_where_it_was_said(location: str, sent: str) -> None:
    assert redirected(target("https://shop.example/a/photo.jpg"), location).url == sent


HOMES = ["/", "/en", "/en/", "/fr-BE/", "/index.html", "/Default.aspx", "/de/home", "/?a=b", "/home?from=404"]
OTHERS = [
    "/a.jpg",
    "/to",
    "/en/a.jpg",
    "/homeware",
    "/index.jpg/a",
    "/indexes",
    "/home/a",
    "/home.png",
    "/en/index.jpeg",
]
OTHERS += ["/index.php?img=5", "/ca/default.aspx?id=5"]


@pytest.mark.parametrize("path", HOMES)
def test_f43_a_home_page_is_known(path: str) -> None:
    assert target(f"http://shop.example{path}").is_home


@pytest.mark.parametrize("path", OTHERS)
def test_f43_what_is_not_one_is_not_called_one(path: str) -> None:
    assert not target(f"http://shop.example{path}").is_home
