"""What examples share: claims that are checked and counted, and a shop's server while it is asked."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from etalage.client import Client
from etalage.errors import EtalageError, ServeError
from etalage.shop import Shop


@dataclass
class Claims:
    """What was claimed and found; `broken` names what did not hold."""

    broken: list[str] = field(default_factory=list)

    def that(self, claim: str, holds: bool, found: object = "") -> None:
        """Print the claim, and remember it where it does not hold."""
        more = f": {found}" if found != "" else ""
        print(f"  {'ok    ' if holds else 'BROKEN'}  {claim}{more}", flush=True)
        if not holds:
            self.broken.append(claim)


@contextmanager
def shop_serves(shop: Shop) -> Iterator[Client]:
    """`etalage serve` of the shop, while this is open."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "etalage.cli", "serve", "--shop", str(shop.folder), "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        client = Client(f"http://127.0.0.1:{port}")
        until = time.monotonic() + 600
        while not ready(client):
            if process.poll() is not None or time.monotonic() > until:
                raise ServeError(f"nothing answers on port {port}")
            time.sleep(0.2)
        yield client
    finally:
        process.terminate()
        process.wait()


def ready(client: Client) -> bool:
    try:
        client.items(limit=1)
    except EtalageError:
        return False
    return True
