"""Run the server in this process, until SIGTERM or Ctrl-C; requests in flight are finished."""

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from etalage.config import ServeConfig
from etalage.errors import ServeError
from etalage.serve.app import ServedShop, create_app
from etalage.serve.connection import PatientProtocol, most_connections
from etalage.web.listening import Announced, bound, log_to_stderr, print_url, url_of

KEEP_ALIVE_SECONDS = 5
DRAIN_SECONDS = 10
"""How long requests in flight may take to finish after SIGTERM."""


def run(
    shop: Path | ServedShop,
    config: ServeConfig,
    key: str | None = None,
    *,
    announce: Callable[[str], None] | None = None,
    access_log: bool = False,
) -> None:
    """Serve the shop, as `create_app` takes it; port 0 takes a free one.

    `announce` gets the server's URL once it answers; by default it is printed, as the first line of
    standard output. Raises ServeError: a public address without a key, an empty key, a port in use.
    """
    check_address(config.host, key)
    server_socket = bound(config.host, config.port)
    url = url_of(server_socket)
    log_to_stderr("etalage", "uvicorn", "uvicorn.access")
    settings = uvicorn.Config(
        create_app(shop, config, key),
        loop="uvloop",
        http=protocol_of(config),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=access_log,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = Announced(settings, url, announce or print_url)
    try:
        server.run(sockets=[server_socket])
    finally:
        server_socket.close()


def protocol_of(config: ServeConfig) -> type[PatientProtocol]:
    """How clients are spoken to by a server with these settings."""

    class Protocol(PatientProtocol):
        max_connections = most_connections(config.max_connections)

    return Protocol


def read_key(file: Path) -> str:
    """The bearer key in a file; a newline at its end does not count. Raises ServeError."""
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"{file}: the key cannot be read: {error}") from error
    check_address("127.0.0.1", key)
    return key


def check_address(host: str, key: str | None) -> None:
    """Raises ServeError: a public address without a key, or a key that no header can carry."""
    if key is not None and (not key or not key.isascii() or not key.isprintable() or " " in key):
        raise ServeError("the key is empty or holds more than printable ASCII without spaces; make another")
    if key is None and not is_loopback(host):
        raise ServeError(
            f"{host or 'every address'} can be reached from outside: give a key (--key-file, or "
            "ETALAGE_KEY), or serve on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches. A name counts by what it stands for."""
    if not host:
        return False
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address).split("%")[0]).is_loopback for address in found)
