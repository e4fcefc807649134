"""Who may use the page, and what it lets a browser do: F38, F59, F60."""

import gzip
import re

import pytest

from etalage.errors import ConfigError, ServeError
from etalage.page.answers import HERE
from etalage.page.app import PageSettings, create_app
from tests.page.conftest import KEY, Visitor, opened
from tests.page.reading import read
from tests.page.test_grid import unharmed
from tests.serve.servers import ThreadServer
from tests.shops import drawn_photo

SENT = {"shopper": "stranger", "item": "item-00001", "once": "foreign", "kind": "buy"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:3000"},
    ],
)
def test_f59_a_form_of_another_sites_page_is_refused(
    visitor: Visitor, client: object, headers: dict[str, str]
) -> None:
    for address, body in (("/act", {"data": SENT}), ("/photo", {"files": {"photo": drawn_photo(1)}})):
        response = visitor.http.post(address, headers=headers, **body)
        assert response.status_code == 403 and "its own pages" in response.text
    assert "stranger" not in visitor.get("/?view=shopper").text


def test_a_link_from_another_site_leads_here(visitor: Visitor) -> None:
    headers = {"sec-fetch-site": "cross-site", "referer": "https://search.example/"}
    assert visitor.http.get("/?item=item-00003", headers=headers).status_code == 200


def test_f60_the_page_answers_by_its_own_names_alone(server: ThreadServer) -> None:
    visitor = opened(server.url, hosts=("shop.example",))
    for host, status in (
        ("localhost:8501", 200),
        ("127.0.0.1", 200),
        ("shop.example", 200),
        ("evil.example", 421),
        ("shop.example.evil.example", 421),
    ):
        response = visitor.http.get("/", headers={"host": host})
        assert response.status_code == status, host
        assert (KEY in response.text, "Piece" in response.text) == (False, status == 200)
    assert "--hosts evil.example" in visitor.http.get("/", headers={"host": "evil.example"}).text


@pytest.mark.parametrize(("hosts", "error"), [(("*",), ServeError), (("http://shop",), ConfigError)])
def test_a_host_that_is_no_name_is_refused_at_the_start(hosts: tuple[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        create_app(PageSettings("http://127.0.0.1:9", hosts=hosts))


def test_f38_no_script_or_style_runs_but_the_pages_own_files(visitor: Visitor) -> None:
    for address in ("/", "/?item=item-00003", "/?view=shopper", "/nowhere", "/static/none.js"):
        response = visitor.http.get(address)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "data:" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        page = read(response.text)
        assert unharmed(page)
        assert page.all("style") == [] and page.all("[style]") == []


def test_f38_no_template_takes_anything_as_it_is() -> None:
    templates = list((HERE / "templates").iterdir())
    assert len(templates) > 6
    for file in templates:
        assert not re.search(r"\bsafe\b|autoescape|tojson", file.read_text(encoding="utf-8")), file.name


def test_the_pages_files_are_packed_and_kept_for_good(visitor: Visitor) -> None:
    page = visitor.get()
    for address in (page.one("link[rel=stylesheet]")["href"], page.one("script")["src"]):
        response = visitor.http.get(address)
        assert response.headers["content-encoding"] == "gzip"
        assert "immutable" in response.headers["cache-control"]
        plain = visitor.http.get(address, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.content == response.content
    response = visitor.http.get("/")
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["cache-control"] == "no-cache"
    assert len(gzip.compress(response.content)) < 9_000


def test_the_key_is_never_in_what_the_page_sends(visitor: Visitor) -> None:
    for address in ("/", "/?item=item-00003", "/?view=shopper&shopper=x", "/?item=none"):
        response = visitor.http.get(address)
        assert KEY not in response.text and KEY not in str(response.headers)
    assert KEY not in repr(PageSettings("http://127.0.0.1:9", KEY, compare_key=KEY))
