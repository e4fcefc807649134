"""The body of an answer: how much of it is read, and what it inflates to (F44)."""

import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from etalage.lake.photos.states import Ended, State

if TYPE_CHECKING:
    from aiohttp import StreamReader

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_BLOCK = 2**18


class Counter:
    """Bytes that came over the wire for one link, all hops together."""

    def __init__(self) -> None:
        self.bytes = 0


async def read_body(
    content: "StreamReader", length: int | None, encoding: str | None, most: int, counter: Counter
) -> bytes:
    """All of the body, inflated. `length`: what Content-Length says; a longer one than `most` is not begun.

    Raises Ended: too_large, as sent or inflated; broken: does not inflate, or is of another encoding.
    """
    if length is not None and length > most:
        raise Ended(State.too_large, f"{length:,} bytes by its Content-Length, more than {most:,}")
    inflate = _inflater(encoding)
    parts: list[bytes] = []
    size = 0
    while block := await content.readany():
        counter.bytes += len(block)
        for part in inflate(block):
            size += len(part)
            if size > most:
                kind = f"inflated ({encoding}) " if encoding else ""
                raise Ended(State.too_large, f"more than {most:,} {kind}bytes")
            parts.append(part)
    return b"".join(parts)


async def read_start(content: "StreamReader", encoding: str | None, most: int, counter: Counter) -> bytes:
    """As `read_body`, cut off after `most` bytes."""
    inflate = _inflater(encoding)
    start = bytearray()
    while len(start) < most and (block := await content.readany()):
        counter.bytes += len(block)
        for part in inflate(block):
            start += part
            if len(start) >= most:
                break
    return bytes(start[:most])


def _inflater(encoding: str | None) -> Callable[[bytes], Iterator[bytes]]:
    kinds = [kind.strip().lower() for kind in (encoding or "").split(",") if kind.strip()]
    if kinds in ([], ["identity"]):
        return _plain
    if kinds in (["gzip"], ["x-gzip"], ["deflate"]):
        return _Inflating()
    raise Ended(State.broken, f"Content-Encoding {encoding!r:.60}, which was not asked for")


def _plain(block: bytes) -> Iterator[bytes]:
    yield block


class _Inflating:
    """Yields at most _BLOCK bytes at a time, so that a small block cannot fill the memory."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)

    def __call__(self, block: bytes) -> Iterator[bytes]:
        try:
            while not self._inflater.eof:
                part = self._inflater.decompress(block, _BLOCK)
                yield part
                block = self._inflater.unconsumed_tail
                if not block and len(part) < _BLOCK:
                    return
        except zlib.error as error:
            raise Ended(State.broken, f"does not inflate: {error}") from error
