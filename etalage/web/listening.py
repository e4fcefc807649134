"""Where a server listens, when it says so, and where it logs."""

import errno
import logging.config
import socket
import sys
from collections.abc import Callable

import uvicorn

from etalage.errors import ServeError


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at host:port; port 0 takes a free one. Raises ServeError: it cannot."""
    if not 0 <= port <= 65535:  # the resolver would silently take it modulo 65,536
        raise ServeError(f"{host}:{port}: cannot listen there: a port is 0 to 65535; choose another --port")
    try:
        family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, UnicodeError) as error:
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "another program already does" if in_use else str(error)
        raise ServeError(f"{host}:{port}: cannot listen there: {why}; choose another --port") from error
    return found


def url_of(listening: socket.socket) -> str:
    """The address that is typed into a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Announced(uvicorn.Server):
    """A server that tells its URL once it answers."""

    def __init__(self, config: uvicorn.Config, url: str, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._url = url
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce(self._url)


def print_url(url: str) -> None:
    """As the first line of standard output."""
    print(url, flush=True)


def log_to_stderr(*loggers: str) -> None:
    """What these loggers say from now on, a line each."""
    line = {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    handler = {"class": "logging.StreamHandler", "formatter": "line", "stream": sys.stderr}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": line},
            "handlers": {"stderr": handler},
            "loggers": {
                name: {"handlers": ["stderr"], "level": "INFO", "propagate": False} for name in loggers
            },
        }
    )
