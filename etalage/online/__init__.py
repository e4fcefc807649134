"""The online store: what shoppers did a moment ago, and what is in stock at which price now.

The tables of the lake are what models learn from; this is what a request needs within a millisecond.
One SQLite file on one machine; Redis where several machines serve one shop.

    open_live("shop/live.sqlite")        open_live("redis://cache:6379/0?prefix=myshop")
"""

from pathlib import Path
from urllib.parse import urlsplit

from etalage.api import Act, Event
from etalage.errors import ConfigError
from etalage.online.contract import PATIENT, About, Appended, LiveStore, Patience

__all__ = ["About", "Act", "Appended", "Event", "LiveStore", "Patience", "open_live"]


def open_live(uri: str | Path, patience: Patience = PATIENT) -> LiveStore:
    """The store at `uri`: a file's path or `sqlite:<path>` (made if missing), or redis://, rediss://, unix://.

    Raises ConfigError: another scheme, or Redis without its client. StoreUnavailable: not now.
    """
    text = str(uri)
    scheme = "" if isinstance(uri, Path) else urlsplit(text).scheme
    if scheme in ("redis", "rediss", "unix"):
        from etalage.online.redis_store import RedisStore

        return RedisStore.open(text, patience)
    if scheme in ("sqlite", "file"):
        rest = text[len(scheme) + 1 :]
        text = rest[2:] if rest.startswith("//") else rest
    elif "://" in text:
        raise ConfigError(f"live store {text!r}: a path, sqlite:<path> or redis://host:port/db")
    from etalage.online.sqlite_store import SqliteStore

    return SqliteStore(Path(text), patience)
