"""Photos that are kept in memory for the next who asks: those used longest ago are dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Hashable


class KeptPhotos:
    """At most so many bytes of photos, by name. Safe between threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._photos: OrderedDict[Hashable, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, name: Hashable) -> bytes | None:
        """The photo; None: it was never kept, or had to go."""
        with self._lock:
            found = self._photos.get(name)
            if found is not None:
                self._photos.move_to_end(name)
            return found

    def keep(self, name: Hashable, photo: bytes) -> None:
        """Keep it; the last one stays whatever its size."""
        with self._lock:
            self._size += len(photo) - len(self._photos.pop(name, b""))
            self._photos[name] = photo
            while self._size > self._most and len(self._photos) > 1:
                _, dropped = self._photos.popitem(last=False)
                self._size -= len(dropped)
