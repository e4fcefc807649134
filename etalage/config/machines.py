"""Where it runs: [serve], [engine], [storage]."""

import re
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator, model_validator

from etalage.config.settings import Settings


class ServeConfig(Settings):
    """[serve]: the REST server and its online store."""

    host: str = "127.0.0.1"
    """The address that the server listens at; `0.0.0.0`: all of this machine's."""
    port: int = Field(8765, ge=0, le=65535)
    """The port that it listens at; 0: any free one."""
    hosts: tuple[str, ...] = Field((), examples=[("recommender.internal",)])
    """More names by which clients may call the server, besides loopback's and `host`, such as a proxy's or a
    metrics scraper's name for it: `shop.example`, or `*.shop.example` for all names beneath it."""
    origins: tuple[str, ...] = Field((), examples=[("https://www.shop.example",)])
    """Origins of web pages that may call the server from a browser: `https://www.shop.example`. Pages of all
    other sites are refused."""
    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    """A larger request body is refused (413)."""
    max_waiting: int = Field(64, ge=1)
    """How many requests may wait for the scorer; one more gets 503 with Retry-After."""
    max_connections: int = Field(1000, ge=2)
    """How many clients may be connected, and half as many from one address; one more gets 503 with
    Retry-After. Fewer if the system allows fewer open files."""
    reload_seconds: float = Field(0.5, gt=0)
    """Seconds between two looks at which bundle is current."""
    live: str | None = Field(None, examples=["redis://redis.internal:6379/0"])
    """The online store: a file, or redis://host:port/db. None: live/events.sqlite in the shop's folder."""


class EngineConfig(Settings):
    """[engine]: where loops over shards and the workers of a training run (docs/engine.md).

        [engine]
        kind = "spark"
        master = "spark://cluster:7077"
        workers = 16
        memory = "4g"
        settings = {"spark.executor.cores" = 4}

    `engine = "spark"` alone is `[engine] kind = "spark"`.
    """

    kind: Literal["local", "spark"] = Field("local", examples=["spark"])
    """`local`: processes of this machine. `spark`: tasks of Spark, from the extra spark; needs Java."""
    master: str | None = Field(None, examples=["spark://cluster:7077"])
    """Spark's URL, such as `spark://host:7077`; None: a Spark within this process, `local[workers]`."""
    workers: PositiveInt | None = Field(None, examples=[16])
    """Shards that run at once; None: one a core of this machine. A cluster's size has to be said here."""
    memory: str | None = Field(None, examples=["4g"])
    """What a worker's Python may hold, such as `2g`, on Linux; a shard that needs more fails. None: what
    there is."""
    saving: NonNegativeFloat = 10.0
    """Loops over files, photos, shoppers and arrays start workers where these save so many seconds; 0: at
    once."""
    settings: dict[str, str | bool | int | float] = Field(
        default_factory=dict, examples=[{"spark.executor.cores": 4}]
    )
    """More settings of Spark: `spark.executor.memory`, `spark.executorEnv.PYTHONPATH`, …"""

    @field_validator("memory")
    @classmethod
    def _a_size(cls, said: str | None) -> str | None:
        if said is not None:
            memory_size(said)
        return said

    @field_validator("settings")
    @classmethod
    def _of_spark(cls, said: dict[str, Any]) -> dict[str, Any]:
        for key in said:
            if not key.startswith("spark."):
                raise ValueError(f"{key} is no setting of Spark: those begin with `spark.`")
            if key in SPARK_RESERVED:
                raise ValueError(f"{key} cannot be set: {SPARK_RESERVED[key]}")
        return said

    @model_validator(mode="after")
    def _that_act(self) -> "EngineConfig":
        if self.kind == "local":
            for name in ("master", "settings"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name} is set, and kind is 'local': it would do nothing; set kind = 'spark'"
                    )
        elif self.master is not None and not self.master.startswith("local") and self.workers is None:
            raise ValueError(
                f"master is {self.master!r}: say in `workers` how many tasks may run there at once"
            )
        return self


SPARK_RESERVED = {
    "spark.master": "it is `master`",
    "spark.task.maxFailures": "the engine itself runs a shard that failed again, and counts how often",
}
"""Settings of Spark that the engine needs as they are."""


LEAST_MEMORY = 128 * 2**20
"""Bytes of a worker; Python and Arrow alone take about half of it."""


def memory_size(text: str) -> int:
    """`512m`, `2g` → bytes. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mg])", text.strip().lower())
    if found is None:
        raise ValueError("expected a size such as `512m` or `2g`")
    size = int(float(found[1]) * {"m": 2**20, "g": 2**30}[found[2]])
    if size < LEAST_MEMORY:
        raise ValueError(f"a worker needs `{LEAST_MEMORY >> 20}m` at least")
    return size


class StorageConfig(Settings):
    """[storage]: tables and bundles in an object store instead of the shop's folder (docs/object_stores.md).

        [storage]
        tables = "s3://bucket/shop/tables"
        bundles = "s3://bucket/shop/bundles"
        region = "eu-central-1"

    Credentials are never here: they come from where the AWS SDKs look (environment, ~/.aws, the instance).
    """

    tables: str | None = Field(None, examples=["s3://bucket/shop/tables"])
    """Where the Delta tables lie; None: tables/ of the shop's folder."""
    bundles: str | None = Field(None, examples=["s3://bucket/shop/bundles"])
    """Where the bundles lie; None: bundles/ of the shop's folder."""
    endpoint: str | None = Field(None, examples=["https://minio.example:9000"])
    """URL of the store's API, where it is not AWS's own: MinIO, Ceph, R2, …"""
    region: str | None = Field(None, examples=["eu-central-1"])
    """The bucket's region; None: as the environment says, else us-east-1."""
    allow_http: bool = False
    """Whether `endpoint` may be plain http, over which everything can be read and changed on its way."""

    @field_validator("tables", "bundles")
    @classmethod
    def _a_prefix(cls, given: str | None) -> str | None:
        if given is None:
            return None
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\s?#]+)+/?", given):
            raise ValueError(
                "expected a bucket and a prefix of its own in it, such as `s3://bucket/shop/tables`"
            )
        return given.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _a_url(cls, given: str | None) -> str | None:
        if given is None:
            return None
        if "@" in given:
            raise ValueError("credentials do not belong here: put them into the environment")
        if not re.fullmatch(r"https?://[^/\s?#]+/?", given):
            raise ValueError("expected a URL such as `https://minio.example:9000`")
        return given.rstrip("/")

    @model_validator(mode="after")
    def _that_act(self) -> "StorageConfig":
        if self.tables is None and self.bundles is None:
            for name in ("endpoint", "region", "allow_http"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name} is set, and neither tables nor bundles: it would do nothing; set one of them"
                    )
        plain = self.endpoint is not None and self.endpoint.startswith("http://")
        if plain and not self.allow_http:
            raise ValueError(
                f"endpoint is {self.endpoint!r}, plain http: use https, or set allow_http = true where "
                "nobody else can listen"
            )
        if self.allow_http and not plain:
            raise ValueError(
                "allow_http is set, and endpoint is not plain http: it would do nothing; remove it"
            )
        if self.tables is not None and self.bundles is not None:
            one, other = f"{self.tables}/", f"{self.bundles}/"
            if one.startswith(other) or other.startswith(one):
                raise ValueError(f"tables and bundles, {one} and {other}, lie in each other: set them apart")
        return self
