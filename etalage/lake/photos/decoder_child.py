"""The process that decodes: `python -m etalage.lake.photos.decoder_child SETTINGS`, where stdin is a socket.

Asked: 4 bytes of length, the file. Answers: 4 bytes of length of the JSON, 4 bytes of length of the photo,
the JSON (state and reason, or facts), the photo. Lengths are big-endian. It ends when the socket is closed.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys
from dataclasses import asdict

from etalage.lake.photos.decoding import Keeping, kept
from etalage.lake.photos.states import Ended

ASKED, ANSWERED = struct.Struct(">I"), struct.Struct(">II")


def main(settings: str) -> None:
    """settings: JSON, {"keeping": those of Keeping, "seconds": of processor time a photo, "megabytes": that a
    photo may take}."""
    given = json.loads(settings)
    keeping = Keeping(**given["keeping"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ours = _address_space() + given["megabytes"] * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (ours, ours))
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as asked:
        asked.setblocking(True)
        while (source := _read(asked)) is not None:
            _allow_seconds(given["seconds"])
            facts, photo = _answer(source, keeping)
            said = json.dumps(facts).encode()
            asked.sendall(ANSWERED.pack(len(said), len(photo)) + said + photo)


def _answer(source: bytes, keeping: Keeping) -> tuple[dict[str, object], bytes]:
    try:
        photo, facts = kept(source, keeping)
    except Ended as ended:
        return {"state": ended.outcome.state, "reason": ended.outcome.reason}, b""
    return asdict(facts), photo


def _allow_seconds(seconds: float) -> None:
    """RLIMIT_CPU counts from the start of the process: what was used so far, and `seconds` more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _address_space() -> int:
    """Bytes of address space that this process has with everything imported."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux
        return 2**30


def _read(asked: socket.socket) -> bytes | None:
    head = _exactly(asked, ASKED.size)
    return None if head is None else _exactly(asked, ASKED.unpack(head)[0])


def _exactly(asked: socket.socket, size: int) -> bytes | None:
    """None where the other side is gone."""
    read = bytearray(size)
    view, got = memoryview(read), 0
    while got < size:
        count = asked.recv_into(view[got:])
        if not count:
            return None
        got += count
    return bytes(read)


if __name__ == "__main__":
    main(sys.argv[1])
