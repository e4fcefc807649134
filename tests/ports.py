"""Ports for servers of tests that are told their port before they start."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_BELOW_EPHEMERAL = range(20_000, 32_000)
"""Linux gives none of these to whoever connects somewhere, so that nobody has taken it by chance when the
server comes to bind it."""


def free_port() -> int:
    """A port of loopback on which nobody listens; another one for every process that asks, mostly."""
    drawn = random.Random(f"{os.getpid()} {os.urandom(8).hex()}")  # the seeds of tests are not its business
    while True:
        port = drawn.choice(_BELOW_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def held_port(shared: bool = False) -> Iterator[int]:
    """A port of loopback that is bound, so that nobody gets it by chance, and on which nobody listens.

    shared: whoever asks for just this port may listen on it meanwhile (servers bind with SO_REUSEADDR).
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(shared))
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
