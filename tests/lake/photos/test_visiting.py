"""A link ends in exactly one state, whatever its server does; and none makes us ask where we must not."""

import io
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from etalage.lake.photos.links import Link
from etalage.lake.photos.states import Ended, Outcome, State
from etalage.lake.photos.visiting import user_agent
from tests.lake.photos.conftest import Visits
from tests.lake.photos.hostile import HTML, Hostile, certificate, jpeg

Visit = Callable[..., Outcome]


def redirect(where: str, code: int = 302) -> str:
    return f"http://shop.test/to?code={code}&where={quote(where, safe='')}"


def test_a_photo_is_got_with_its_facts(visit: Visit, hostile: Hostile) -> None:
    outcome = visit("/photo/1.jpg")
    assert outcome.state is State.ok
    assert outcome.photo is not None and outcome.facts is not None
    assert Image.open(io.BytesIO(outcome.photo)).size == (96, 64)
    assert (outcome.facts.width, outcome.facts.height) == (96, 64)
    assert outcome.downloaded == len(jpeg(1))
    assert outcome.seconds > 0
    assert hostile.paths(robots=True) == ["/robots.txt", "/photo/1.jpg"]


def test_the_user_agent_says_who_asks_and_where_to_complain(visit: Visit, hostile: Hostile) -> None:
    visit("/photo/1.jpg", contact="photos@shop.example")
    for asked in hostile.asked:
        assert asked.headers["user-agent"].startswith("Etalage/")
        assert asked.headers["user-agent"].endswith(" (+photos@shop.example)")
        assert asked.headers["accept-encoding"] == "identity"
    assert user_agent(None).startswith("Etalage/")


def test_a_connection_is_kept_for_the_next_link(visits: Visits, hostile: Hostile) -> None:
    visits([f"http://shop.test/photo/{n}.jpg" for n in range(4)])
    assert len({asked.connection for asked in hostile.asked}) == 1


def test_credentials_in_a_link_are_not_sent(visit: Visit, hostile: Hostile) -> None:
    assert visit("http://user:secret@shop.test/photo/1.jpg").state is State.ok
    assert all("authorization" not in asked.headers for asked in hostile.asked)
    assert "secret" not in repr(hostile.asked)


# -- F40, F41, F42: where a link must not lead --------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1",
     "169.254.169.254", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "[fe80::1]", "224.0.0.1",
     "localhost"],
)  # fmt: skip
def test_f40_no_link_leads_into_our_own_network(visit: Visit, hostile: Hostile, host: str) -> None:
    outcome = visit(f"http://{host}:{hostile.port}/photo/1.jpg", allow_networks=(), contact="a@b.example")
    assert outcome.state is State.refused_by_policy
    assert outcome.http_status is None
    assert hostile.asked == []


def test_f40_a_name_that_means_a_private_address_is_refused(visit: Visit, hostile: Hostile) -> None:
    async def answers(name: str) -> list[str]:
        return ["10.1.2.3"]

    outcome = visit(
        f"http://rebound.example:{hostile.port}/photo/1.jpg", look_up=answers, contact="a@b.example"
    )
    assert outcome.state is State.refused_by_policy
    assert outcome.reason == "10.1.2.3 is in 10.0.0.0/8, not public"


def test_f40_without_a_contact_nothing_but_this_machine_is_asked(visit: Visit) -> None:
    async def answers(name: str) -> list[str]:
        return ["93.184.216.34"]

    outcome = visit("http://somewhere.example/photo/1.jpg", look_up=answers)
    assert outcome.state is State.refused_by_policy
    assert "contact" in (outcome.reason or "")


def test_f41_what_was_checked_is_what_is_connected_to(visit: Visit, hostile: Hostile) -> None:
    """DNS says a good address when it is asked first, and a bad one ever after."""
    said: list[str] = []

    async def changes(name: str) -> list[str]:
        said.append("127.0.0.1" if not said else "10.0.0.1")
        return [said[-1]]

    outcome = visit(f"http://fickle.example:{hostile.port}/photo/1.jpg", look_up=changes)
    assert outcome.state is State.ok
    assert said == ["127.0.0.1"]


def test_f41_an_answer_that_changes_between_two_connections_is_checked_again(
    visits: Visits, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etalage.lake.photos.connecting._NAMES_KEPT_SECONDS", 0)
    said: list[str] = []

    async def changes(name: str) -> list[str]:
        said.append("127.0.0.1" if len(said) < 2 else "10.0.0.1")
        return [said[-1]]

    host = f"http://fickle.example:{hostile.port}"
    hung_up, refused = visits([f"{host}/hang-up", f"{host}/photo/1.jpg"], look_up=changes, give_up=9)
    assert hung_up.state is State.host_down
    assert refused.state is State.refused_by_policy
    assert "/photo/1.jpg" not in hostile.paths()


def test_f41_of_several_addresses_only_public_ones_are_connected_to(visit: Visit, hostile: Hostile) -> None:
    async def both(name: str) -> list[str]:
        return ["10.0.0.1", "127.0.0.1"]

    assert visit(f"http://two.example:{hostile.port}/photo/1.jpg", look_up=both).state is State.ok


@pytest.mark.parametrize(
    ("where", "state"),
    [
        ("http://169.254.169.254/latest/meta-data/", State.refused_by_policy),
        ("http://10.0.0.1/", State.refused_by_policy),  # a home page, but not one that may be asked
        ("http://[::ffff:10.0.0.1]/a.jpg", State.refused_by_policy),
        ("http://2130706433.:22/a.jpg", State.refused_by_policy),
        ("file:///etc/passwd", State.refused_by_policy),
        ("ftp://shop.test/a.jpg", State.refused_by_policy),
        ("data:image/png;base64,AAAA", State.refused_by_policy),
        ("gopher://shop.test/", State.refused_by_policy),
        ("http://shop.test:25/a.jpg", State.refused_by_policy),
        ("http://[::1", State.http_error),
    ],
)
def test_f42_a_redirect_is_checked_like_a_link(
    visit: Visit, hostile: Hostile, where: str, state: State
) -> None:
    assert visit(redirect(where), contact="a@b.example").state is state
    assert len(hostile.paths()) == 1


def test_f42_a_redirect_that_says_nothing_is_an_error(visit: Visit) -> None:
    assert visit("/nowhere").state is State.http_error


def test_f42_a_redirect_from_https_to_http_is_refused(tmp_path: Path, visit: Visit, hostile: Hostile) -> None:
    authority, context = certificate(tmp_path, "safe.test")
    with Hostile(tls=context) as safe:
        hosts = {"safe.test": f"127.0.0.1:{safe.port}", "shop.test": f"127.0.0.1:{hostile.port}"}
        there = f"https://safe.test/to?where={quote('http://shop.test/photo/1.jpg', safe='')}"
        outcome = visit(there, hosts=hosts, ca_file=str(authority))
        assert outcome.state is State.refused_by_policy
        assert outcome.reason == "a redirect from https to http"
        assert visit("https://safe.test/photo/1.jpg", hosts=hosts, ca_file=str(authority)).state is State.ok
    assert hostile.asked == []


def test_f42_redirects_are_followed_five_times(visit: Visit) -> None:
    good = visit("/chain/5")
    assert (good.state, good.final_url) == (State.ok, "http://shop.test/photo/1.jpg")
    bad = visit("/chain/6")
    assert (bad.state, bad.reason) == (State.too_many_redirects, "more than 5")


@pytest.mark.parametrize("start", ["http://shop.test/loop-a", redirect("/to?where=/loop-b")])
def test_f42_a_circle_ends(visit: Visit, hostile: Hostile, start: str) -> None:
    assert visit(start).state is State.too_many_redirects
    assert len(hostile.paths()) <= 4


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(visit: Visit, code: int) -> None:
    assert visit(redirect("http://other.test/photo/2.jpg", code)).state is State.ok


# -- F43: answers without a photo ----------------------------------------------------------------


@pytest.mark.parametrize(
    "home", ["/", "http://shop.test", "/en/", "/index.html", "/fr-be/index.php", "/home"]
)
def test_f43_a_redirect_to_the_home_page_is_told_from_a_photo(
    visit: Visit, hostile: Hostile, home: str
) -> None:
    hostile.files["/"] = jpeg(1)  # whatever lies there
    outcome = visit(redirect(home))
    assert outcome.state is State.redirected_home
    assert outcome.photo is None
    assert len(hostile.paths()) == 1  # the home page is not asked once more for each product that is gone


def test_f43_of_a_script_with_a_query_the_answer_tells(visit: Visit, hostile: Hostile) -> None:
    hostile.files["/index.php"] = jpeg(3)
    assert visit(redirect("/index.php?img=5")).state is State.ok
    hostile.files["/fr-be/index.php"] = b"<html>Welcome"
    assert visit(redirect("/fr-be/index.php?from=x")).state is State.redirected_home
    assert visit("/fr-be/index.php?from=x").state is State.not_an_image, "nobody led there"


def test_f43_a_photo_at_the_root_of_its_host_is_a_photo(visit: Visit, hostile: Hostile) -> None:
    hostile.files["/"] = jpeg(2)
    assert visit("http://cdn.test/").state is State.ok


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        ("html", "text/html; charset=utf-8", "is text/html"),
        ("html", "image/jpeg", "an HTML page"),
        ("svg", "image/svg+xml", "is image/svg+xml"),
        ("svg", "image/jpeg", "an SVG drawing"),
        ("noise", "image/png", "begins with 0001020304050607"),
        ("nothing", "image/jpeg", "begins with nothing"),
    ],
)
def test_f43_what_is_no_image_is_told_by_its_content(
    visit: Visit, content: str, kind: str, told: str
) -> None:
    outcome = visit(f"/file-of-type?content={content}&type={quote(kind)}")
    assert outcome.state is State.not_an_image
    assert told in (outcome.reason or "")
    assert outcome.photo is None and outcome.facts is None


def test_f43_a_photo_that_is_called_something_else_is_a_photo(visit: Visit) -> None:
    assert visit("/file-of-type?content=photo&type=text/plain").state is State.ok


# -- F44: bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/drip", "/drip-head", "/silent"])
def test_f44_a_slow_answer_ends_at_the_deadline(visit: Visit, path: str) -> None:
    began = time.monotonic()
    outcome = visit(path, deadline=0.6)
    assert outcome.state is State.timeout
    assert time.monotonic() - began < 120
    assert 0.5 < outcome.seconds < 120


def test_f44_the_deadline_is_of_all_redirects_together(visit: Visit, hostile: Hostile) -> None:
    hostile.delay = 0.25
    assert visit("/chain/5", deadline=1.0).state is State.timeout
    assert visit("/chain/5", deadline=60.0).state is State.ok


@pytest.mark.parametrize("path", ["/endless", "/inflating"])
def test_f44_an_endless_body_is_read_up_to_the_cap(visit: Visit, path: str) -> None:
    outcome = visit(path, max_bytes=2**20, deadline=60.0)
    assert outcome.state is State.too_large
    assert outcome.downloaded < 3 * 2**20


def test_f44_an_endless_head_is_not_read_for_ever(visit: Visit) -> None:
    outcome = visit("/endless-head", deadline=3.0)
    assert outcome.state in (State.http_error, State.timeout)


def test_f44_a_body_that_promises_too_much_is_not_begun(visit: Visit) -> None:
    began = time.monotonic()
    outcome = visit("/promise")
    assert outcome.state is State.too_large
    assert time.monotonic() - began < 120


def test_f44_a_body_that_is_shorter_than_promised_is_broken(visit: Visit) -> None:
    outcome = visit("/short")
    assert outcome.state is State.broken and not outcome.lasting


@pytest.mark.parametrize(
    ("encoding", "state"), [("gzip", State.ok), ("br", State.broken), ("deflate", State.ok)]
)
def test_f44_a_packed_photo_is_unpacked_by_us_or_not_at_all(
    visit: Visit, encoding: str, state: State
) -> None:
    assert visit(f"/packed?as={encoding}").state is state


def test_f45_half_a_photo_is_broken(visit: Visit) -> None:
    assert visit("/cut").state is State.broken


# -- F47: hosts in trouble ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "state", "lasting"),
    [
        (404, State.dead, True),
        (410, State.dead, True),
        (401, State.http_error, True),
        (403, State.http_error, True),
        (418, State.http_error, True),
        (204, State.http_error, True),
        (206, State.http_error, True),
        (304, State.http_error, True),  # we did not say what we have
        (429, State.throttled, False),
        (500, State.http_error, False),
        (503, State.http_error, False),
    ],
)
def test_f47_a_status_is_a_state(visit: Visit, code: int, state: State, lasting: bool) -> None:
    outcome = visit(f"/status?code={code}")
    assert (outcome.state, outcome.lasting, outcome.http_status) == (state, lasting, code)


def test_f47_what_may_pass_is_tried_again_at_once(visit: Visit, hostile: Hostile) -> None:
    assert visit("/recovering?fails=2&code=500", tries=3).state is State.ok
    assert len(hostile.paths()) == 3


def test_f47_what_will_not_pass_is_not_tried_again(visit: Visit, hostile: Hostile) -> None:
    assert visit("/status?code=404", tries=3).state is State.dead
    assert len(hostile.paths()) == 1


@pytest.mark.parametrize("how", ["seconds", "date"])
def test_f47_retry_after_is_waited_for(visit: Visit, hostile: Hostile, how: str) -> None:
    assert visit(f"/later?after=2&as={how}", tries=2, patience=10).state is State.ok
    first, second = (asked.when for asked in hostile.asked if asked.path.startswith("/later"))
    assert second - first > 0.9  # a date has whole seconds


def test_f47_a_host_that_asks_for_too_long_a_pause_is_left_alone(visits: Visits, hostile: Hostile) -> None:
    links = [
        "http://shop.test/later?after=3600",
        "http://shop.test/photo/1.jpg",
        "http://other.test/photo/1.jpg",
    ]
    first, second, other = visits(links, tries=3)
    assert first.state is second.state is State.throttled
    assert first.again_after == second.again_after == 3600
    assert other.state is State.ok
    assert hostile.paths("shop.test") == ["/later?after=3600"]


@pytest.mark.parametrize("path", ["/hang-up", "/garbage", "/status?code=500"])
def test_f47_a_host_that_fails_in_a_row_is_given_up(visits: Visits, hostile: Hostile, path: str) -> None:
    links = [f"http://bad.test{path}"] * 5 + ["http://good.test/photo/1.jpg"]
    *bad, good = visits(links, give_up=3)
    assert good.state is State.ok
    assert {outcome.state for outcome in bad[3:]} == {State.host_down}
    # aiohttp asks a second time where a connection that was kept turns out to be closed.
    assert len(hostile.paths("bad.test")) == (6 if path == "/hang-up" else 3)


def test_f47_one_answer_makes_up_for_failures(visits: Visits, hostile: Hostile) -> None:
    links = ["http://s.test/status?code=500", "http://s.test/status?code=404"] * 4
    outcomes = visits(links, give_up=3)
    assert [outcome.state for outcome in outcomes] == [State.http_error, State.dead] * 4


def test_f47_nothing_listens_there(visit: Visit, hostile: Hostile) -> None:
    outcome = visit("http://down.test/a.jpg", hosts={"down.test": "127.0.0.1:9"})
    assert (outcome.state, outcome.lasting) == (State.dead, False)


def test_f47_a_name_that_is_none_is_dead_for_all_its_links(visits: Visits) -> None:
    asked: list[str] = []

    async def unknown(name: str) -> list[str]:
        asked.append(name)
        raise Ended(State.dead, f"{name}: no such name in DNS", lasting=False)

    links = [f"http://gone.example/{n}.jpg" for n in range(3)]
    outcomes = visits(links, look_up=unknown, contact="a@b.example")
    assert [outcome.state for outcome in outcomes] == [State.dead] * 3
    assert asked == ["gone.example"]


def test_f47_dns_that_does_not_answer_is_no_verdict_on_the_link(visit: Visit) -> None:
    async def silent(name: str) -> list[str]:
        raise OSError("temporary failure in name resolution")

    outcome = visit("http://some.example/1.jpg", look_up=silent, contact="a@b.example")
    assert (outcome.state, outcome.lasting) == (State.host_down, False)


@pytest.mark.parametrize(("name", "days"), [("other.test", 1), ("safe.test", -1)])
def test_f47_a_bad_certificate_is_told(tmp_path: Path, visit: Visit, name: str, days: int) -> None:
    """Of another name; expired."""
    authority, context = certificate(tmp_path, name, days)
    with Hostile(tls=context) as safe:
        hosts = {"safe.test": f"127.0.0.1:{safe.port}"}
        outcome = visit("https://safe.test/photo/1.jpg", hosts=hosts, ca_file=str(authority), tries=3)
        unknown = visit("https://safe.test/photo/1.jpg", hosts=hosts)
    assert outcome.state is unknown.state is State.bad_certificate
    assert not outcome.lasting
    assert safe.asked == []


def test_f47_http_where_https_is_meant_is_a_bad_certificate(visit: Visit) -> None:
    assert visit("https://shop.test/photo/1.jpg").state is State.bad_certificate


# -- robots ---------------------------------------------------------------------------------------


def test_robots_txt_is_asked_for_once_and_kept_to(visits: Visits, hostile: Hostile) -> None:
    hostile.robots["shop.test"] = (
        200,
        b"User-agent: etalage\nDisallow: /photo/2\n\nUser-agent: *\nDisallow: /\n",
    )
    wanted, unwanted = visits([f"http://shop.test/photo/{n}.jpg" for n in (1, 2)])
    assert wanted.state is State.ok
    assert unwanted.state is State.refused_by_robots
    assert hostile.paths(robots=True) == ["/robots.txt", "/photo/1.jpg"]


def test_robots_txt_counts_where_a_redirect_leads_too(visit: Visit, hostile: Hostile) -> None:
    hostile.robots["cdn.test"] = (200, b"User-agent: *\nDisallow: /photo/\n")
    assert visit(redirect("http://cdn.test/photo/1.jpg")).state is State.refused_by_robots
    assert hostile.paths("cdn.test") == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_robots_txt_that_fails_refuses_everything_for_now(
    visit: Visit, hostile: Hostile, status: int
) -> None:
    hostile.robots["shop.test"] = (status, b"")
    outcome = visit("/photo/1.jpg", tries=3)
    assert (outcome.state, outcome.lasting) == (State.refused_by_robots, False)
    assert hostile.paths() == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_robots_txt_that_is_not_there_refuses_nothing(visit: Visit, hostile: Hostile, status: int) -> None:
    hostile.robots["shop.test"] = (status, b"User-agent: *\nDisallow: /\n")
    assert visit("/photo/1.jpg").state is State.ok


def test_a_robots_txt_is_read_up_to_a_cap(visit: Visit, hostile: Hostile) -> None:
    noise = b"# nothing\n" * 100_000
    hostile.robots["shop.test"] = (200, b"User-agent: *\nDisallow: /photo/\n" + noise)
    assert visit("/photo/1.jpg").state is State.refused_by_robots
    hostile.robots["late.test"] = (200, noise + b"User-agent: *\nDisallow: /photo/\n")
    assert visit("http://late.test/photo/1.jpg").state is State.ok


def test_a_crawl_delay_is_kept(visits: Visits, hostile: Hostile) -> None:
    hostile.robots["shop.test"] = (200, b"User-agent: *\nCrawl-delay: 0.3\n")
    began = time.monotonic()
    visits([f"http://shop.test/photo/{n}.jpg" for n in range(3)])
    # From the first one's sending: it may come late to a busy server, and the next seem too early.
    assert hostile.asked[-1].when - began > 2 * 0.28


def test_a_crawl_delay_beyond_patience_leaves_the_host_alone(visit: Visit, hostile: Hostile) -> None:
    hostile.robots["shop.test"] = (200, b"User-agent: *\nCrawl-delay: 86400\n")
    assert visit("/photo/1.jpg").state is State.throttled
    assert hostile.paths() == []


@pytest.mark.parametrize("tag", ["noindex", "NoImageIndex", "noarchive, noai", "etalage: noai", "none"])
def test_a_photo_that_says_not_to_be_used_is_not_stored(visit: Visit, tag: str) -> None:
    outcome = visit(f"/tagged?tag={quote(tag)}")
    assert outcome.state is State.refused_by_robots
    assert outcome.photo is None


# -- conditional requests ---------------------------------------------------------------------------


def test_a_photo_that_has_not_changed_is_not_sent_again(visit: Visit, hostile: Hostile) -> None:
    hostile.files["/a.jpg"] = jpeg(1)
    first = visit("/a.jpg")
    held = Link(
        "http://shop.test/a.jpg",
        held=True,
        etag=first.etag,
        final_url=first.final_url,
        source_sha256=first.source_sha256,
    )
    second = visit(held)
    assert second.state is State.ok and second.unchanged and second.photo is None
    assert (second.downloaded, second.etag) == (0, first.etag)


def test_validators_are_told_only_to_the_url_that_gave_them(visit: Visit, hostile: Hostile) -> None:
    hostile.files["/a.jpg"] = jpeg(1)
    there = redirect("http://cdn.test/a.jpg")
    first = visit(there)
    visit(
        Link(there, held=True, etag=first.etag, final_url=first.final_url, source_sha256=first.source_sha256)
    )
    told = {asked.host: asked.headers.get("if-none-match") for asked in hostile.asked[-3:]}
    assert told["cdn.test"] == first.etag
    assert told["shop.test"] is None


def test_f48_the_same_link_with_new_content_is_a_new_photo(visit: Visit, hostile: Hostile) -> None:
    hostile.files["/a.jpg"] = jpeg(1)
    first = visit("/a.jpg")
    hostile.files["/a.jpg"] = jpeg(2)
    held = Link("http://shop.test/a.jpg", held=True, etag=first.etag, final_url=first.final_url,
                source_sha256=first.source_sha256)  # fmt: skip
    second = visit(held)
    assert second.state is State.ok and not second.unchanged
    assert second.photo is not None and first.facts and second.facts
    assert second.facts.sha256 != first.facts.sha256


def test_content_that_is_sent_again_unchanged_is_not_decoded_again(visit: Visit) -> None:
    first = visit("/photo/1.jpg")
    second = visit(Link("http://shop.test/photo/1.jpg", held=True, final_url=first.final_url,
                        source_sha256=first.source_sha256))  # fmt: skip
    assert second.unchanged and second.photo is None and second.downloaded > 0


def test_html_is_what_it_says(visit: Visit, hostile: Hostile) -> None:
    hostile.files["/page.jpg"] = HTML
    assert visit("/page.jpg").state is State.not_an_image


def test_tls_has_a_floor() -> None:
    from etalage.lake.photos.connecting import tls

    assert tls(None).verify_mode is ssl.CERT_REQUIRED
    assert tls(None).check_hostname
