"""A link → what is asked of which host; where a redirect leads; what a home page is. No network here."""

import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from etalage.lake.photos.addresses import check_port, literal
from etalage.lake.photos.states import Ended, State

_LONGEST = 8000
_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_LANGUAGES = (
    "ar bg cs da de el en es et fi fr ga he hi hr hu id it ja ko lt lv ms nb nl no pl pt ro ru sk sl sr sv "
    "th tr uk vi zh au ca eu gb us"
)
_HOME = re.compile(
    rf"(/({'|'.join(_LANGUAGES.split())})([-_][a-z]{{2}})?)?(/((index|default|home)(\.(x?html?|php\d?|aspx?|jspx?|cfm|do))?/?)?)?",
    re.I,
)
"""`/`, `/index.html`, `/home`, and each of them beneath a language: `/en/`, `/fr-be/index.php`."""


@dataclass(frozen=True)
class Target:
    """One thing to ask for. `host`: ASCII, lower case. `url`: as it is sent: no credentials, no fragment."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_root(self) -> bool:
        return self.path == "/"

    @property
    def is_home(self) -> bool:
        """Where shops send those who ask for what is gone."""
        return self.may_be_home and not (self._is_script and "?" in self.url)

    @property
    def may_be_home(self) -> bool:
        """Also a script with a query, which may give anything: the answer tells."""
        return _HOME.fullmatch(self.path) is not None

    @property
    def _is_script(self) -> bool:
        return "." in self.path


def target(link: str) -> Target:
    """Raises Ended: invalid, with the reason; refused_by_policy: a port that is not the web's."""
    text = link.strip(" \t\r\n")
    if len(text) > _LONGEST:
        raise Ended(State.invalid, f"{len(text)} characters, more than {_LONGEST}")
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        raise Ended(State.invalid, "holds control characters")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Ended(State.invalid, f"not a URL: {error}") from error
    if parts.scheme.lower() not in _PORTS:
        raise Ended(State.invalid, f"{parts.scheme or 'no scheme'}: neither http nor https")
    if not host:
        raise Ended(State.invalid, "no host")
    scheme, host = parts.scheme.lower(), _ascii(host)
    port = _PORTS[scheme] if port is None else port
    check_port(port)
    shown = f"[{host}]" if ":" in host else host
    named = shown if port == _PORTS[scheme] else f"{shown}:{port}"
    path = _quoted(parts.path) or "/"
    query = f"?{_quoted(parts.query)}" if parts.query else ""
    return Target(f"{scheme}://{named}{path}{query}", scheme, host, port, path)


def host_of(link: str) -> str | None:
    """The host that a link names; None where it is no link."""
    try:
        return target(link).host
    except Ended as ended:
        if ended.outcome.state != State.refused_by_policy:
            return None
        return urlsplit(link.strip()).hostname


def redirected(start: Target, location: str | None) -> Target:
    """Where an answer with this Location leads. Raises Ended: not http(s), a downgrade, no Location."""
    if not location:
        raise Ended(State.http_error, "a redirect that does not say where to")
    try:
        joined = urljoin(start.url, location.strip())
    except ValueError as error:
        raise Ended(State.http_error, f"a redirect to what is no URL: {error}") from error
    scheme = urlsplit(joined).scheme.lower()
    if scheme not in _PORTS:
        raise Ended(State.refused_by_policy, f"a redirect to {scheme}:")
    if start.scheme == "https" and scheme == "http":
        raise Ended(State.refused_by_policy, "a redirect from https to http")
    try:
        return target(joined)
    except Ended as ended:
        if ended.outcome.state is State.invalid:
            raise Ended(State.http_error, f"a redirect to what is no URL: {ended.outcome.reason}") from ended
        raise


def _ascii(host: str) -> str:
    """A host as DNS has it. Raises Ended (invalid)."""
    if (address := literal(host)) is not None:
        return str(address)  # `127.1` → `127.0.0.1`, as C libraries read it
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise Ended(State.invalid, f"{host!r} is no host name: {error}") from error
    name = name.lower().removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise Ended(State.invalid, f"{host!r} is no host name")
    return name


def _quoted(part: str) -> str:
    """What may not stand in a URL is escaped; what is escaped, or signed over, stays as it is."""
    return "".join(c if "!" <= c <= "~" and c not in '"<>\\^`{|}' else _escaped(c) for c in part)


def _escaped(c: str) -> str:
    return "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))
