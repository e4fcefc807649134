"""Ports for servers of tests that are told their port before they start."""

import os
import random
import socket

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
