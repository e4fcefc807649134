"""aiohttp as it is used here: it connects to checked addresses, and neither follows nor inflates anything."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from etalage.config import PhotosConfig
from etalage.errors import ConfigError
from etalage.lake.photos.addresses import Guard
from etalage.lake.photos.states import Ended, State

_NAMES_KEPT_SECONDS = 60
_IDLE_SECONDS = 15.0
ACCEPT = "image/jpeg, image/png, image/webp, image/gif, image/*;q=0.5, */*;q=0.1"
FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
"""What asking may raise; `ended_by` says what it means."""


class GuardedResolver(AbstractResolver):
    """aiohttp connects to what this answers, and to nothing else: there is no second look at DNS in between.

    Addresses in place of names are not asked of a resolver; who asks for such a URL checks it by the guard.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=there,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address, there in await self._guard.places(host, port)
        ]

    async def close(self) -> None:
        return None


@asynccontextmanager
async def session(config: PhotosConfig, guard: Guard, agent: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Raises ConfigError: [photos] ca_file is no file of certificates."""
    connector = aiohttp.TCPConnector(
        resolver=GuardedResolver(guard),
        ttl_dns_cache=_NAMES_KEPT_SECONDS,
        ssl=tls(config.ca_file),
        limit=0,  # the slots and the paces count
        keepalive_timeout=_IDLE_SECONDS,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": agent, "Accept": ACCEPT, "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.connect_seconds),
        trust_env=False,
    ) as opened:
        yield opened


def tls(ca_file: str | None) -> ssl.SSLContext:
    """The system's authorities, and those of `ca_file`. Raises ConfigError."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"[photos] ca_file = {ca_file!r}: {error}; name a PEM file") from error
    return context


def ended_by(error: Exception) -> Ended:
    """What an error of a connection means for the link; none of them is for ever."""

    def ended(state: State, reason: str) -> Ended:
        return Ended(state, reason, lasting=False)

    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ended(State.host_down, f"DNS does not answer: {error.os_error}")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ended(State.bad_certificate, str(error.certificate_error))
    if isinstance(error, aiohttp.ClientSSLError):
        return ended(State.bad_certificate, f"TLS: {error}")
    if isinstance(error, TimeoutError):  # first of the OSErrors, which it is one of
        where = "no connection" if isinstance(error, aiohttp.ConnectionTimeoutError) else "not complete"
        return ended(State.timeout, f"{where} in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ended(State.dead, f"no connection: {error.os_error.strerror or error.os_error}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return ended(State.broken, f"cut short: {error}")
    if isinstance(error, aiohttp.InvalidURL):
        return Ended(State.invalid, f"not a URL: {error}")
    if isinstance(error, aiohttp.ServerDisconnectedError | OSError):
        return ended(State.host_down, f"hung up: {error}")
    return ended(State.http_error, f"an answer that is no HTTP: {error}")
