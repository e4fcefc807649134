"""How asking for a link can end: exactly one of these."""

from dataclasses import dataclass, field
from enum import StrEnum

from etalage.lake.photo_facts import PhotoFacts


class State(StrEnum):
    """Table `links`, column status; also that of the photos that such a link has none of."""

    ok = "ok"
    invalid = "invalid"
    dead = "dead"
    http_error = "http_error"
    throttled = "throttled"
    timeout = "timeout"
    host_down = "host_down"
    bad_certificate = "bad_certificate"
    refused_by_policy = "refused_by_policy"
    refused_by_robots = "refused_by_robots"
    too_many_redirects = "too_many_redirects"
    redirected_home = "redirected_home"
    not_an_image = "not_an_image"
    too_small = "too_small"
    too_large = "too_large"
    broken = "broken"
    decoder_failed = "decoder_failed"


MEANING: dict[State, str] = {
    State.ok: "the photo is stored, or has not changed since",
    State.invalid: "not an http or https URL",
    State.dead: "404, 410, no such name in DNS, or nothing listens there",
    State.http_error: "another status that does not belong to a photo, or an answer that is not HTTP",
    State.throttled: "the host asks for a longer pause than `patience`, or asked for a pause too often",
    State.timeout: "not complete within `deadline`, or no connection within `connect_seconds`",
    State.host_down: "the host failed `give_up` times in a row and was left alone, or it closed the connection",  # noqa: E501
    State.bad_certificate: "the certificate is expired, belongs to another name, or comes from an unknown authority",  # noqa: E501
    State.refused_by_policy: "Etalage does not ask this address, port or scheme (private networks, https → http)",  # noqa: E501
    State.refused_by_robots: "robots.txt or X-Robots-Tag forbids it",
    State.too_many_redirects: "more than `redirects`, or in a circle",
    State.redirected_home: "the link leads to the home page: the product is gone",
    State.not_an_image: "HTML, SVG or anything else, whatever its Content-Type says",
    State.too_small: "a side is shorter than `min_side` pixels",
    State.too_large: "more than `max_bytes`, also after inflating, or more than `max_pixels`",
    State.broken: "cut short, or not decodable",
    State.decoder_failed: "decoding it crashed or took too long",
}
"""As docs/links.md has them."""


@dataclass(frozen=True)
class Outcome:
    """What came of one link. `photo`, `facts`: what is to be stored; None unless `state` is ok and it is new.

    `lasting`: asking again soon would not help. `again_after`: seconds that the server asked to wait.
    """

    state: State
    reason: str | None = None
    lasting: bool = True
    again_after: float | None = None
    http_status: int | None = None
    final_url: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    source_sha256: str | None = None
    unchanged: bool = False
    photo: bytes | None = field(default=None, repr=False)
    facts: PhotoFacts | None = None
    downloaded: int = 0
    seconds: float = 0.0


class Ended(Exception):
    """A link is done with, from wherever that turns out. Never leaves etalage.lake.photos."""

    def __init__(
        self, state: State, reason: str, lasting: bool = True, again_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.outcome = Outcome(state, reason, lasting, again_after)

    def again(self) -> "Ended":
        """The same, to be raised for another link: one that is raised twice keeps the traces of both."""
        one = self.outcome
        return Ended(one.state, str(one.reason), one.lasting, one.again_after)
