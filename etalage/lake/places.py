"""Where the files of tables and bundles lie: a folder of this machine, or a prefix of a bucket.

A `Place` is told in shop.toml, goes to workers (it pickles, and never holds credentials), and gives the
client of the store that it is in.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etalage.lake.object_store import ObjectStore

SCHEME = "s3://"


@dataclass(frozen=True)
class Place:
    """`uri`: a folder, or s3://bucket/prefix; the rest is of stores alone, as in [storage] of shop.toml."""

    uri: str
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def of(cls, given: "Place | Path | str") -> "Place":
        """The place that a folder or a URI means."""
        return given if isinstance(given, Place) else cls(str(given).removeprefix("file://"))

    @property
    def folder(self) -> Path | None:
        """None: it lies in an object store."""
        return None if self.uri.startswith(SCHEME) else Path(self.uri)

    @property
    def bucket(self) -> str:
        """Of a place in an object store."""
        return self.uri.removeprefix(SCHEME).partition("/")[0]

    @property
    def prefix(self) -> str:
        """What every key beneath it begins with, with its slash. Of a place in an object store."""
        prefix = self.uri.removeprefix(SCHEME).partition("/")[2].strip("/")
        return f"{prefix}/" if prefix else ""

    @property
    def plain_options(self) -> dict[str, str]:
        """How delta-rs finds the store, without credentials; nothing for a folder."""
        if self.folder is not None:
            return {}
        options = {"AWS_REGION": self.region} if self.region else {}
        if self.endpoint:
            options["AWS_ENDPOINT_URL"] = self.endpoint
            if self.endpoint.startswith("http://"):
                options["AWS_ALLOW_HTTP"] = "true"
        return options

    def at(self, name: str) -> "Place":
        """What is called `name` there."""
        return replace(self, uri=f"{self.uri.rstrip('/')}/{name}")

    def store(self) -> "ObjectStore":
        """A client of the store. Raises ConfigError: its library is missing."""
        from etalage.lake.object_store import ObjectStore

        return ObjectStore(self)
