"""The decoder as its worker sees it: a process with limits, which is started again when a photo kills it."""

import asyncio
import json
import signal
import socket
import subprocess
from dataclasses import asdict
from types import TracebackType
from typing import Any

from etalage.engine.children import python
from etalage.lake.photo_facts import PhotoFacts
from etalage.lake.photos.decoder_child import ANSWERED, ASKED
from etalage.lake.photos.decoding import Keeping
from etalage.lake.photos.states import Ended, State

_LARGEST_ANSWER = 512 * 2**20
_START_SECONDS = 60.0


class Decoder:
    """One photo at a time. Use as an `async with`.

    seconds: processor time of one photo; it is killed after twice that by the clock. megabytes: memory that a
    photo may take.
    """

    def __init__(self, keeping: Keeping, seconds: float, megabytes: int) -> None:
        self.started = 0
        """How many processes it took so far."""
        given = {"keeping": asdict(keeping), "seconds": seconds, "megabytes": megabytes}
        self._settings = json.dumps(given)
        self._hang = 2 * seconds
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._warm = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def kept(self, source: bytes) -> tuple[bytes, PhotoFacts]:
        """The photo to store, and its facts.

        Raises Ended, as `decoding.kept`; and decoder_failed: it crashed or hung.
        """
        async with self._turn:
            if self._process is None or self._process.poll() is not None:
                await self._start()
            try:
                async with asyncio.timeout(self._hang if self._warm else self._hang + _START_SECONDS):
                    said, photo = await self._ask(source)
            except TimeoutError as error:
                await self._end()
                raise Ended(State.decoder_failed, f"not decoded within {self._hang:g} s") from error
            except (OSError, EOFError) as error:
                raise Ended(State.decoder_failed, f"the decoder ended with {await self._end()}") from error
            except BaseException:
                await self._end()  # cancelled: what it answers next would be the answer to this photo
                raise
            self._warm = True
        if "state" in said:
            raise Ended(State(said["state"]), str(said["reason"]))
        return photo, PhotoFacts(**said)

    async def _start(self) -> None:
        await self._end()
        ours, theirs = socket.socketpair()
        with theirs:
            command = python("-m", "etalage.lake.photos.decoder_child", self._settings)
            self._process = subprocess.Popen(command, stdin=theirs.fileno())
        ours.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=2**20)
        self.started += 1
        self._warm = False

    async def _ask(self, source: bytes) -> tuple[dict[str, Any], bytes]:
        assert self._reader and self._writer
        self._writer.write(ASKED.pack(len(source)))
        self._writer.write(source)
        await self._writer.drain()
        facts, photo = ANSWERED.unpack(await self._reader.readexactly(ANSWERED.size))
        if facts + photo > _LARGEST_ANSWER:
            raise EOFError("an answer that makes no sense")
        body = await self._reader.readexactly(facts + photo)
        return json.loads(body[:facts]), body[facts:]

    async def _end(self) -> str:
        """Kill what is left of the process; → how it ended."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
        if self._process is None:
            return "nothing"
        # A process that ended by itself is about to be seen so; the others are killed.
        status = await asyncio.to_thread(_ended, self._process)
        self._process = None
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"

    async def __aenter__(self) -> "Decoder":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()


def _ended(process: "subprocess.Popen[bytes]") -> int:
    try:
        return process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
