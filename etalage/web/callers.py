"""Who may call, as a browser tells it: by which name the server was called, and from whose page.

A server on loopback is out of reach for the network, and within reach of every page that a browser on this
machine shows. Two ways lead there, and both are closed before a request means anything:

- a stranger's page posts to http://127.0.0.1:8765 (F59). Browsers say so in `Sec-Fetch-Site` and `Origin`,
  which no script can set;
- a stranger's name is made to stand for 127.0.0.1 while their page is open (DNS rebinding, F60). Then the
  page counts as our own, may read answers and use any method; but `Host` says by which name we were called.

What is no browser sends neither `Origin` nor `Sec-Fetch-Site`, and calls by a name that is allowed.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import Scope

from etalage.errors import ConfigError, HostRefused, OriginRefused, RequestError, ServeError

Headers = list[tuple[bytes, bytes]]

ANY = "*"
LOOPBACK = "localhost"
MINE = ("same-origin", "none")
"""`Sec-Fetch-Site` of our own pages, and of what a user typed."""
METHODS = "GET, HEAD, POST, DELETE"
TAKEN = "authorization, content-type, x-deadline-ms"
"""What a page of an allowed origin may send, and see of an answer's head."""
SHOWN = "x-etalage-bundle, retry-after"
PREFLIGHT_SECONDS = 600


@dataclass(frozen=True)
class Advice:
    """What is to be done about a refusal: for a host, whose name stands for `{}`, and for an origin."""

    host: str
    origin: str


OF_SERVE = Advice(
    'name what it is called in shop.toml, [serve] hosts = ["{}"]',
    "what may ask from a browser is named in shop.toml, [serve] origins",
)


class Callers:
    """What one server lets in."""

    def __init__(
        self,
        bound: str,
        hosts: Iterable[str],
        origins: Iterable[str],
        has_key: bool,
        advice: Advice = OF_SERVE,
    ) -> None:
        """`bound`: the address or name that it listens on; hosts, origins: of [serve]; `advice`: what whoever
        is refused is told to do.

        Raises ConfigError: no host, no origin. ServeError: anybody is let in without a key.
        """
        self._advice = advice
        self._names = frozenset({LOOPBACK, bound.lower(), *map(read_host, hosts)})
        self._beneath = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._origins = frozenset(map(read_origin, origins))
        for setting, values in (("hosts", self._names), ("origins", self._origins)):
            if ANY in values and not has_key:
                raise ServeError(
                    f'[serve] {setting} = ["*"] lets every page in the world use this server: name them, or '
                    "give a key (--key-file, or ETALAGE_KEY)"
                )

    def check(self, scope: Scope) -> None:
        """Raises HostRefused, OriginRefused; RequestError: more than one Host, or none that can be read."""
        self.check_host(scope)
        self._check_origin(_one(scope, b"host") or "", scope)

    def check_host(self, scope: Scope) -> None:
        """By which name we are called alone. Raises HostRefused, RequestError."""
        host = _one(scope, b"host")
        if host is not None:
            self._check_host(host, scope)
        elif scope.get("http_version") != "1.0":  # a browser always says it
            raise RequestError("the header Host is missing")

    def cors(self, scope: Scope) -> Headers:
        """What an answer's head says so that the browser shows the answer to a page that is allowed."""
        if not self._origins:
            return []
        vary = (b"vary", b"Origin")  # a cache must not give one page what was said to another
        origin = _one(scope, b"origin")
        if origin is None or not self._is_allowed(origin):
            return [vary]
        allow = (b"access-control-allow-origin", origin.encode("latin-1"))
        return [vary, allow, (b"access-control-expose-headers", SHOWN.encode())]

    def preflight(self, scope: Scope) -> Headers | None:
        """What a browser is told that asks whether an allowed page may send something; None: it asks no such
        thing."""
        names = {name for name, _ in scope["headers"]}
        if scope["method"] != "OPTIONS" or not {b"origin", b"access-control-request-method"} <= names:
            return None
        headers = [
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-allow-headers", TAKEN.encode()),
            (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
        ]
        if b"access-control-request-private-network" in names:  # a public page, and this machine
            headers.append((b"access-control-allow-private-network", b"true"))
        return headers

    def _check_host(self, host: str, scope: Scope) -> None:
        name = _name(host)
        if name is None:
            raise RequestError(f"the header Host, {host[:80]!r}, is no name and no address")
        if ANY in self._names or name in self._names or name.endswith(self._beneath or ("\0",)):
            return
        try:
            address = _plain(name)
        except ValueError:
            pass
        else:
            # An address cannot be made to stand for another machine, as a name can.
            if address.is_loopback or str(address) in self._names or _is(address, scope.get("server")):
                return
        raise HostRefused(f"this server is not called {name[:80]!r}: {self._advice.host.format(name[:80])}")

    def _check_origin(self, host: str, scope: Scope) -> None:
        origin, site = _one(scope, b"origin"), _one(scope, b"sec-fetch-site")
        if site in MINE or (site is None and origin is None):
            return
        if site is None and origin is not None and _netloc(origin) == _netloc(f"http://{host}"):
            return  # our own page, in a browser that does not say more; http or https, behind a proxy
        page = origin
        if page is None and (referer := _one(scope, b"referer")):  # a picture is asked for without Origin
            page = _origin_of(referer)
        if page is not None and self._is_allowed(page):
            return
        raise OriginRefused(
            f"asked by a page of {'another site' if page is None else repr(page[:80])}: {self._advice.origin}"
        )

    def _is_allowed(self, origin: str) -> bool:
        return ANY in self._origins or origin.lower() in self._origins


def read_host(text: str) -> str:
    """An entry of [serve] hosts: a name, an address, `*.` and all names beneath it, or `*`.

    Raises ConfigError.
    """
    name = text.strip().lower()
    beneath = name.removeprefix("*.")
    if name != ANY and (_name(f"[{beneath}]" if ":" in beneath else beneath) != beneath or not beneath):
        raise ConfigError(
            f"[serve] hosts: {text!r} is no host: a name such as shop.example or *.shop.example, or an "
            "address, without a port"
        )
    return name


def read_origin(text: str) -> str:
    """An entry of [serve] origins, as browsers write it: https://shop.example, with the port where it is
    another than usual; or `*`. Raises ConfigError."""
    found = ANY if text.strip() == ANY else _origin_of(text.strip())
    if found is None or urlsplit(text.strip()).path not in ("", "/", ANY):
        raise ConfigError(
            f"[serve] origins: {text!r} is no origin, such as https://shop.example or http://localhost:3000"
        )
    return found


def _one(scope: Scope, name: bytes) -> str | None:
    """The value of a header; None where there is none. Raises RequestError: it is there twice."""
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise RequestError(f"the header {name.decode()} is there {len(found)} times")
    return found[0].decode("latin-1").strip() if found else None


def _name(host: str) -> str | None:
    """`Name:80` → `name`, `[::1]:80` → `::1`; None: it is neither."""
    text = host.strip().lower()
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        good = bool(bracket) and set(name) <= set("0123456789abcdef:.")
    else:
        name, _, port = text.partition(":")
        port = f":{port}" if _ else ""
        good = all(c.isalnum() or c in "-._" for c in name) and name.isascii()
    if not good or not name or not (port == "" or (port[0] == ":" and port[1:].isdecimal())):
        return None
    return name.removesuffix(".") or None


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; the IPv4 one that an IPv6 one stands for. Raises ValueError."""
    address = ipaddress.ip_address(text.split("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _is(address: ipaddress.IPv4Address | ipaddress.IPv6Address, server: object) -> bool:
    """Whether it is the address at which the connection came in."""
    try:
        return isinstance(server, tuple | list) and _plain(str(server[0])) == address
    except ValueError:
        return False


def _origin_of(url: str) -> str | None:
    """`https://Shop.example:443/a?b` → `https://shop.example`; None: no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        return None
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{name}" + ("" if port in (None, usual) else f":{port}")


def _netloc(url: str) -> tuple[str, int | None] | None:
    """Name and port, for origins of which it does not matter whether they are encrypted."""
    origin = _origin_of(url)
    if origin is None:
        return None
    parts = urlsplit(origin)
    return parts.hostname or "", parts.port
