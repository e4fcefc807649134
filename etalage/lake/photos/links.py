"""One link as a shard is given it, and the rows of what came of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from etalage.config import PhotosConfig
from etalage.lake.photos.decoding import Keeping
from etalage.lake.photos.states import Outcome, State
from etalage.lake.schema import TABLES

_LONGEST_WAIT = timedelta(days=3650)
ASKED = pa.schema(
    [
        ("url", pa.string()),
        ("host", pa.string()),
        ("owners", pa.list_(pa.string())),
        ("held", pa.bool_()),
        ("attempts", pa.int32()),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("final_url", pa.string()),
        ("source_sha256", pa.string()),
    ]
)
"""What a shard is given, a row a link. owners: whoever wants the photo; held: they have one already."""
_PHOTO = ("bytes", "width", "height", "sha256", "phash")
RESULT = pa.schema(
    [
        *((field.name, field.type) for field in TABLES["links"].schema),
        ("owners", pa.list_(pa.string())),
        ("held", pa.bool_()),
        ("unchanged", pa.bool_()),
        ("stored", pa.int64()),
        *((name, TABLES["photos"].column(name).type) for name in _PHOTO),
    ]
)
"""What a shard gives: a row of table `links`, and the photo where there is a new one, of `stored` bytes."""


@dataclass(frozen=True)
class Link:
    """One link to ask for. What is known of the photo that is held already is given only where that photo
    would be stored in the same way again."""

    url: str
    host: str | None = None
    owners: tuple[str, ...] = ()
    held: bool = False
    attempts: int = 0
    etag: str | None = None
    last_modified: str | None = None
    final_url: str | None = None
    source_sha256: str | None = None

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Link":
        """From a row of ASKED."""
        return cls(**row | {"owners": tuple(row["owners"])})

    def conditions(self, url: str) -> dict[str, str]:
        """Headers that ask for the photo only if it has changed; validators are of the URL that gave them."""
        if self.source_sha256 is None or url != self.final_url:
            return {}
        given = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in given.items() if value}


def keeping_of(config: PhotosConfig) -> Keeping:
    return Keeping(config.side, config.format, config.quality, config.min_side, config.max_pixels)


def result_of(link: Link, outcome: Outcome, config: PhotosConfig, now: datetime) -> dict[str, Any]:
    """A row of RESULT. A link that fails keeps what was known of its photo."""
    ok = outcome.state is State.ok
    attempts = 0 if ok else link.attempts + 1
    known = link if not ok else outcome
    facts, photo = outcome.facts, outcome.photo
    return {
        "url": link.url,
        "host": link.host,
        "status": outcome.state.value,
        "reason": outcome.reason,
        "http_status": outcome.http_status,
        "final_url": link.final_url if not ok and link.final_url else outcome.final_url,
        "etag": known.etag,
        "last_modified": known.last_modified,
        "source_sha256": known.source_sha256,
        "stored_as": keeping_of(config).name if known.source_sha256 else None,
        "attempts": attempts,
        "retry_at": None if ok else now + pause(outcome, attempts, config),
        "checked_at": now,
        "downloaded": outcome.downloaded,
        "milliseconds": 1000 * outcome.seconds,
        "owners": list(link.owners),
        "held": link.held,
        "unchanged": outcome.unchanged,
        "stored": None if photo is None else len(photo),
        "bytes": photo,
        **({name: getattr(facts, name) for name in _PHOTO[1:]} if facts else dict.fromkeys(_PHOTO[1:])),
    }


def pause(outcome: Outcome, attempts: int, config: PhotosConfig) -> timedelta:
    """How long a link that failed is left alone: `retry_after` days where that is lasting; else minutes,
    doubled with each run that failed, up to as many days; and as long as the server asked for."""
    longest = timedelta(days=config.retry_after)
    if outcome.lasting:
        return longest
    doubled = config.retry_minutes * 2.0 ** min(attempts - 1, 30)
    wait = min(timedelta(minutes=min(doubled, 1e7)), longest)
    return min(max(wait, timedelta(seconds=outcome.again_after or 0)), _LONGEST_WAIT)
