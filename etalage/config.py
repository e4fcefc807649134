"""Reads shop.toml into frozen typed models. An unknown key is an error that suggests the right one."""

import codecs
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from etalage.errors import ConfigError
from etalage.nearest import nearest

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings model, also of the recommender models' configs. It is frozen, and refuses
    unknown keys and the numbers `nan` and `inf`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions → their present names."""


class Joined(Settings):
    """Joins several columns of a file into one text: those that are not empty, with `by` between them."""

    join: tuple[str, ...] = Field(min_length=1)
    by: str = " "


Source = str | tuple[str, ...] | Joined
"""Where a value comes from: one column of the file; several columns, of which the first that is not empty
counts; or several joined. A column may be a path into nested values: `ecommerce.transaction_id`,
`items[].item_id` (one row for each element)."""


def texts_of(source: Source) -> tuple[str, ...]:
    """The columns that a source names."""
    if isinstance(source, str):
        return (source,)
    return source.join if isinstance(source, Joined) else source


class MappingConfig(Settings):
    """How a file's columns fill one of Etalage's tables (docs/files.md).

    [ingest.interactions.columns]
    user_id = ["user_id", "user_pseudo_id"]
    item_id = "items[].item_id"
    kind = "event_name"

    [ingest.interactions.values.kind]
    purchase = "buy"
    """

    columns: dict[str, Source] = Field(default_factory=dict)
    """Etalage's column → the file's; `attributes.<name>` is one attribute. Columns that already have
    Etalage's name need no entry."""
    constants: dict[str, str] = Field(default_factory=dict)
    """Etalage's column → its value in every row or, if the column is mapped too, in rows where that is
    empty."""
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Etalage's column → {the file's word: Etalage's word}; other words stay as they are."""
    skip: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Etalage's column → words of the file; rows with one of them are skipped."""
    leave_out: tuple[str, ...] = ()
    """Columns of the file to ignore although they have the name of one of Etalage's."""
    keep_others: bool = False
    """For items and users: columns that Etalage has no place for become attributes of the same name. (Those
    of a known feed always do.)"""
    delimiter: str | None = None
    """The delimiter of CSV files: one character (`tab`: the tab). None: found from the first lines."""
    encoding: str | None = None
    """The encoding of text files without a byte order mark, such as `cp1252`. None: UTF-8."""
    decimal: Literal[".", ","] | None = None
    """The decimal mark of prices and numbers. None: found from the numbers; an ambiguous number is not
    read."""
    timezone: str | None = None
    """The zone of times without an offset, such as `Europe/Berlin`. None: UTC."""
    dates: Literal["dmy", "mdy", "ymd"] | None = None
    """The order of 03/04/2025. None: found from the other dates of the file; else such a date is refused."""

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, said: str | None) -> str | None:
        return None if said is None else _delimiter(said)

    @field_validator("encoding")
    @classmethod
    def _of_text(cls, said: str | None) -> str | None:
        return None if said is None else _encoding(said)


class IngestConfig(Settings):
    """[ingest]: a mapping for each table that files are loaded into."""

    items: MappingConfig = Field(default_factory=MappingConfig)
    photos: MappingConfig = Field(default_factory=MappingConfig)
    users: MappingConfig = Field(default_factory=MappingConfig)
    interactions: MappingConfig = Field(default_factory=MappingConfig)


class SplitConfig(Settings):
    """[split]: which items a model learns from (features/split_items.py).

    `published` names the attribute of an item that says `train`, `validation` or `test`. Items without it,
    and all items if it is not set, are split by a hash of their `group` column.
    """

    published: str | None = None
    group: str = "item_id"
    validation: float = Field(0.1, ge=0, le=0.5)
    test: float = Field(0.1, ge=0, le=0.5)
    product: str | None = None
    """Attribute that identifies a product across merchants, such as a GTIN: its items stay in one part."""
    near_duplicates: bool = True
    """Whether items with near-duplicate photos stay in one part when categories are learned
    (features/grouping.py)."""
    phash_distance: int = Field(4, ge=0, le=31)
    """How many of the 64 bits of their perceptual hashes near-duplicates may differ in."""
    similarity: float | None = Field(None, gt=0, le=1)
    """Least cosine, on a grid of colours, of near-duplicates in one category. It finds more than hashes do,
    but mistakes products of one shape on a white background for one product. None: only hashes."""
    burst: float | None = Field(None, gt=0, le=1)
    """Photos of one category with consecutive file numbers are one burst, and stay in one part, if their
    cosine is at least this. None: no bursts."""
    burst_reach: int = Field(1, ge=0)
    """How far apart the file numbers of neighbours in a burst may be. 0: the numbers mean nothing (they were
    shuffled, or are hashes), so any two photos of a category may be neighbours."""


class BehaviourConfig(Settings):
    """[behaviour]: which interactions the models learn from, and how they are split
    (features/split_interactions.py)."""

    weights: dict[str, float] = Field(default_factory=dict)
    """Kind → how much it counts: one interaction of weight 10 counts as ten of weight 1, one of weight 0 not
    at all. A weight below 0 makes the kind an explicit negative. Kinds that are negative by name (`dislike`)
    are so unless they are named here. Empty: every kind counts 1, except 0 for those that take something back
    (`refund`) or were only shown (`impression`)."""
    has: tuple[str, ...] = ()
    """Kinds after which the shopper owns the item, besides those known by name (`buy`, `purchase`, `order`,
    `transaction`, `rating`, …; `etalage tables` shows what each kind counts as)."""
    kinds: tuple[str, ...] = ()
    """More kinds that events of the API may have, besides those known by name, those that other settings here
    name, and those in the table interactions. `etalage collect` holds back events of any other kind."""
    targets: tuple[str, ...] = ()
    """Kinds that count as a hit when a model is judged; after one of them the shopper also owns the item.
    Empty: every kind that counts."""
    positive_from: float | dict[str, float] | None = None
    """A value of at least this is positive, a lower one an explicit negative. A single number applies to
    ratings, not to purchases, carts and views, whose value is a quantity. By kind: {rating = 4, play = 3}.
    None: every value that is not below 0 is positive."""
    min_user: int = Field(1, ge=1)
    min_item: int = Field(1, ge=1)
    """Models do not learn from users and items with fewer interactions than this."""
    max_user: int = Field(5000, ge=0)
    """A user who touched more different items than this is taken for a crawler: no model learns from them,
    and they make nothing popular. 0: no limit."""
    split: Literal["time", "leave_one_out", "last_n", "random", "published"] = "time"
    """`published`: the split that was published with the data; each interaction states its `part` (`etalage
    ingest FILE interactions --part test`). If no interaction is of the part validation, one of each user's
    train is taken for it."""
    negatives: str | None = None
    """For a published split: the file of its negatives (NAME.test.negative), relative to the shop's folder.
    The evaluation then shows the protocol's figures beside those of the whole catalogue."""
    last_n: int = Field(10, ge=1)
    """For `last_n`: how many of each user's newest interactions are the test part."""
    validation: float = Field(0.1, gt=0, lt=0.5)
    test: float = Field(0.1, gt=0, lt=0.5)
    rank: float = Field(0.0, ge=0, lt=0.5)
    """`rank`, `validation` and `test` are shares of the interactions; train is the rest. By time they come in
    the order train, rank, validation, test."""
    seed: int = Field(0, ge=0)
    repeat: bool = False
    """Whether a shopper may be shown again what they own: yes for groceries, no for films."""


class OrderConfig(Settings):
    """[funnel] order: the last stage, from scores to the slate."""

    value: float = Field(0.0, ge=0)
    """Weight of an item's business value, relative to its score scaled to 0 … 1."""
    value_of: str = "price"
    """The business value: `price`, or `attributes.<key>` (a number, such as a margin)."""
    diversity: float = Field(0.0, ge=0, le=1)
    """Maximal marginal relevance: weight of being different, by embedding and category, from the items
    above."""
    per_brand: int | None = Field(None, ge=1)
    per_category: int | None = Field(None, ge=1)
    """At most this many items of one brand, or of one category, in a slate."""
    per_group: int = Field(1, ge=0)
    """At most this many variants of one product (items of one item_group_id) in a slate. Among the items
    similar to an item, that item counts as one of them. 0: any number."""


class FunnelConfig(Settings):
    """[funnel]: retrieve → filter → rank → order → slate."""

    retrievers: dict[str, PositiveInt] = Field(default_factory=dict)
    """Model → how many candidates it retrieves. Empty: all trained retrievers, 200 each."""
    ranker: str | None = None
    photos: str | None = None
    """Which photo embedder answers if several are published. None: the first by name."""
    classifier: str | None = None
    """Which classifier answers if several are published. None: the first by name."""
    seen: Literal["drop_bought", "drop_all", "keep"] = "drop_bought"
    in_stock: bool = True
    """Leave out items that are known to be sold out; items of unknown stock are shown."""
    history: int = Field(100, ge=1)
    """How many of a shopper's newest interactions the funnel uses."""
    enough: int = Field(3, ge=1)
    """From this many interactions on, the deep models answer a shopper; with fewer, the closed-form ones
    do."""
    order: OrderConfig = Field(default_factory=OrderConfig)


class IndexConfig(Settings):
    """[index]: how a bundle searches its embeddings."""

    kind: Literal["auto", "exact", "ivf_flat", "milvus"] = "auto"
    """`auto`: exact up to 20,000 items, IVF-Flat above. `milvus`: in a vector database (docs/vectors.md)."""
    per_category: int | None = Field(None, ge=1)
    """Index only this many items of each category, always the same ones. None: every item with a photo."""
    lists: int | None = Field(None, ge=1)
    probes: int | None = Field(None, ge=1)
    milvus: dict[str, Any] = Field(default_factory=dict)
    """[index.milvus]: the settings in index/milvus.py; only with kind `milvus`."""

    @model_validator(mode="after")
    def _that_act(self) -> "IndexConfig":
        if self.kind != "milvus":
            if self.milvus:
                raise ValueError(
                    f"[index.milvus] is set, and kind is {self.kind!r}: it would do nothing; set kind = "
                    "'milvus'"
                )
            return self
        for name in ("lists", "probes"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is set, and kind is 'milvus': it would do nothing; its numbers are in "
                    "[index.milvus] build and search"
                )
        if "uri" not in self.milvus:
            raise ValueError(
                "kind is 'milvus': [index.milvus] uri = \"http://host:19530\" says where, or a file such as "
                '"milvus.db"'
            )
        return self


class PublishConfig(Settings):
    """[publish]: the gates of a bundle, and how many bundles stay."""

    min_recall: float = Field(0.95, ge=0, le=1)
    """Least recall@k of the approximate index against the exact one, for every share of allowed items."""
    recall_k: int = Field(10, ge=1)
    max_shrink: float = Field(0.5, ge=0, le=1)
    """Publish refuses if the catalogue lost this share of its items or more."""
    keep: int = Field(5, ge=2)
    """How many bundles stay on disk."""


class EvaluateConfig(Settings):
    """[evaluate]: what models are judged by."""

    metric: str = "precision_at_5"
    """The metric that photo models are judged by."""
    retrieval_metric: str = "recall_at_20"
    ranking_metric: str = "ndcg_at_10"
    """The metrics that retrievers and rankers are judged by; also hit, precision, map_at_k, mrr, auroc."""
    slices: dict[str, str] = Field(default_factory=dict)
    """Model → the slice that it is there for, such as `cold items`; it must gain on that slice."""
    ks: tuple[PositiveInt, ...] = Field((1, 5, 10), min_length=1)
    bootstrap: int = Field(1000, ge=100)
    max_queries: int = Field(10_000, ge=1)
    match_precision: float = Field(0.9, gt=0, le=1)
    """The evaluation finds the similarity above which this share of nearest neighbours has the query's
    category."""


class TaxonomyConfig(Settings):
    """[taxonomy]: one tree of categories for every merchant's items (docs/taxonomy.md).

    Paths of files are relative to the shop's folder:

        [taxonomy]
        file = "taxonomy-with-ids.en-US.txt"
        level = 4
        retired = ["2015/taxonomy-with-ids.en-US.txt"]
        names = {"de-DE" = "2015/taxonomy-with-ids.de-DE.txt"}
        merchant = "merchant"
        map = "map.csv"
    """

    file: str | None = None
    """Google's file with ids, or a .csv with columns id,parent,name. None: no taxonomy."""
    extend: str | None = None
    """A CSV (id,parent,name) with more categories beneath those of `file`."""
    level: int | None = Field(None, ge=1)
    """Cut the tree at this level: a deeper category counts as the one above it. None: the whole tree."""
    names: dict[str, str] = Field(default_factory=dict)
    """Language → the same taxonomy in that language, to show names and to read paths that items carry."""
    retired: tuple[str, ...] = ()
    """Older versions of `file`: an id that only they have is reported as retired, not as unknown."""
    given: str = "google_product_category"
    """The attribute of an item that holds an id, or a whole path, of the taxonomy."""
    merchant: str | None = None
    """The attribute of an item that names its merchant. None: a category's name means the same at every
    merchant."""
    map: str | None = None
    """A CSV (merchant,category,id) that maps merchants' own categories; `etalage taxonomy map` drafts it."""
    similar_from: float | None = Field(None, gt=0, le=1)
    """If a merchant's category is not mapped, the most similar category becomes its weak label, if the text
    similarity is at least this. None: never."""
    outside: tuple[str, ...] = ()
    """More categories that are not retail: ids (with all beneath them), or names that a merchant's path
    begins with."""
    values: str | None = None
    """A CSV (category_id,value) with the value of categories. None: added up from purchases."""


class ClassifyConfig(Settings):
    """[classify]: how `etalage classify` and `POST /v1/classify` decide."""

    threshold: float = Field(0.5, ge=0, le=1)
    """An item whose best leaf is less probable than this stays unclassified."""
    photos: int = Field(5, ge=1, le=10)
    """At most this many photos of an item are used, the main one first."""
    top: int = Field(3, ge=1, le=100)
    """How many other leaves an answer lists."""


class PhotosConfig(Settings):
    """[photos]: how photos are downloaded from links (docs/links.md).

    `hosts` gives the addresses of names in place of DNS, as a hosts file does, with ports: for another shop's
    machine, or for many virtual hosts of one server on this machine:

        [photos]
        hosts = {"shop-a.test" = "127.0.0.1:8081", "*.shop-b.test" = "127.0.0.1:8082"}
        allow_networks = ["127.0.0.0/8"]

    Etalage then requests `http://cdn.shop-b.test/1.jpg` from 127.0.0.1:8082 with `Host: cdn.shop-b.test`. A
    key is a name, `*.` with a name for all names beneath it, or `name:port` for one port of the URL. A value
    is an address, or `address:port` (`[::1]:port`). The address is checked like any other: one that is not
    public needs `allow_networks`, which is only for tests and for a shop's own network.
    """

    contact: str | None = None
    """A mail address or web page that every server sees in the user agent. Needed unless all hosts are
    local."""
    merchant: str | None = None
    """For `probe`: the attribute of an item that names the merchant of its link. None: the link's host."""
    hosts: dict[str, str] = Field(default_factory=dict)
    allow_networks: tuple[str, ...] = ()
    """Networks that Etalage may connect to although they are not public, such as `10.1.0.0/16`."""
    ca_file: str | None = None
    """A file of certificates (PEM) to trust besides the system's."""
    workers: PositiveInt | None = None
    """How many shards run at once, each on a worker of its own. None: as many as [engine] has. Each host
    belongs to one of them."""
    connections: int = Field(64, ge=1, le=1024)
    """Simultaneous connections of one worker."""
    per_host: int = Field(2, ge=1, le=64)
    """Simultaneous connections to one host."""
    spacing: float = Field(0.25, ge=0)
    """Least seconds from the start of one request to the start of the next to the same host; a longer
    Crawl-delay in its robots.txt takes precedence."""
    patience: float = Field(120.0, ge=0)
    """If a host asks for a longer pause than this (seconds), it is left alone for this run."""
    tries: int = Field(3, ge=1, le=10)
    """How often to try one link in one run, if trying again may help."""
    backoff: float = Field(1.0, gt=0)
    """Seconds of the first pause after a host fails; doubled with each further failure."""
    give_up: int = Field(6, ge=1)
    """After this many failures in a row, a host is left alone for this run."""
    redirects: int = Field(5, ge=0, le=20)
    connect_seconds: float = Field(10.0, gt=0)
    deadline: float = Field(30.0, gt=0)
    """Seconds for one link, including all redirects and the whole body; polite pauses do not count."""
    max_bytes: int = Field(20 * 2**20, ge=1024)
    """Largest size of one photo, as sent and after inflating."""
    min_side: int = Field(32, ge=1)
    """Least pixels of each side; a smaller photo is a tracking pixel or a placeholder."""
    max_pixels: int = Field(40_000_000, ge=1, le=40_000_000)
    side: int = Field(512, ge=16)
    """Longest side of a stored photo, in pixels; photos are never enlarged."""
    format: Literal["jpeg", "keep"] = "jpeg"
    """`keep`: store the file as it was sent, neither resized nor re-encoded."""
    quality: int = Field(90, ge=1, le=95)
    decode_seconds: float = Field(10.0, gt=0)
    """Processor seconds for decoding one photo; by the clock it may take twice as long."""
    decode_megabytes: int = Field(1024, ge=128)
    retry_after: float = Field(30.0, ge=0)
    """Days until a link that failed for good (404, not an image, …) is asked for again."""
    retry_minutes: float = Field(10.0, ge=0)
    """Minutes until a link that failed otherwise is asked for again; doubled with every run in which it
    fails."""


class ServeConfig(Settings):
    """[serve]: the REST server and its online store."""

    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    """More names by which clients may call the server, besides loopback's and `host`, such as a proxy's or a
    metrics scraper's name for it: `shop.example`, or `*.shop.example` for all names beneath it."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may call the server from a browser: `https://www.shop.example`. Pages of all
    other sites are refused."""
    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    max_waiting: int = Field(64, ge=1)
    """How many requests may wait for the scorer; one more gets 503 with Retry-After."""
    max_connections: int = Field(1000, ge=2)
    """How many clients may be connected, and half as many from one address; one more gets 503 with
    Retry-After. Fewer if the system allows fewer open files."""
    reload_seconds: float = Field(0.5, gt=0)
    live: str | None = None
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

    kind: Literal["local", "spark"] = "local"
    """`local`: processes of this machine. `spark`: tasks of Spark, from the extra spark; needs Java."""
    master: str | None = None
    """Spark's URL, such as `spark://host:7077`; None: a Spark within this process, `local[workers]`."""
    workers: PositiveInt | None = None
    """Shards that run at once; None: one a core of this machine. A cluster's size has to be said here."""
    memory: str | None = None
    """What a worker's Python may hold, such as `2g`, on Linux; a shard that needs more fails. None: what
    there is."""
    saving: NonNegativeFloat = 10.0
    """Loops over files, photos, shoppers and arrays start workers where these save so many seconds; 0: at
    once."""
    settings: dict[str, str | bool | int | float] = Field(default_factory=dict)
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

    tables: str | None = None
    """Where the Delta tables lie; None: tables/ of the shop's folder."""
    bundles: str | None = None
    """Where the bundles lie; None: bundles/ of the shop's folder."""
    endpoint: str | None = None
    """URL of the store's API, where it is not AWS's own: MinIO, Ceph, R2, …"""
    region: str | None = None
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


class ShopConfig(Settings):
    """A whole shop.toml."""

    name: str = "A shop"
    currency: str | None = None
    """The currency of items that name none, as an ISO 4217 code such as `EUR`. None: not known."""
    ingest: IngestConfig = Field(default_factory=IngestConfig)
    photos: PhotosConfig = Field(default_factory=PhotosConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    behaviour: BehaviourConfig = Field(default_factory=BehaviourConfig)
    funnel: FunnelConfig = Field(default_factory=FunnelConfig)
    index: IndexConfig = Field(default_factory=IndexConfig)
    publish: PublishConfig = Field(default_factory=PublishConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    classify: ClassifyConfig = Field(default_factory=ClassifyConfig)
    taxonomy: TaxonomyConfig = Field(default_factory=TaxonomyConfig)
    serve: ServeConfig = Field(default_factory=ServeConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    storage: StorageConfig = Field(default_factory=StorageConfig)

    @field_validator("engine", mode="before")
    @classmethod
    def _by_kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _that_go_together(self) -> "ShopConfig":
        if self.storage.bundles is not None and self.index.kind == "milvus":
            raise ValueError(
                "[storage] bundles and [index] kind = 'milvus' do not go together: which collections belong "
                "to which bundle is remembered in the shop's folder; leave one of them out"
            )
        return self

    @field_validator("currency")
    @classmethod
    def _a_code(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch("[A-Z]{3}", given):
            raise ValueError("an ISO 4217 code is needed, such as `EUR`")
        return given


def read_config(file: Path) -> ShopConfig:
    """Read a shop.toml; if the file is missing, return the defaults.

    Raises ConfigError: not TOML, an unknown key (with the nearest known one), a wrong value.
    """
    if not file.exists():
        return ShopConfig()
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    return validated(ShopConfig, raw, where=str(file))


def as_values(settings: Mapping[str, str]) -> dict[str, Any]:
    """Settings that were typed, `--set key=value`: JSON where the text parses as JSON, else the text."""
    given: dict[str, Any] = {}
    for key, text in settings.items():
        try:
            given[key] = json.loads(text)
        except ValueError:
            given[key] = text
    return given


def validated(kind: type[S], raw: dict[str, Any], where: str) -> S:
    """Return `raw` as a `kind`. Raises ConfigError that names `where`, the key, the value and a remedy."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(kind, e, where) for e in error.errors())) from error


def parse_pairs(option: str, pairs: list[str] | None) -> dict[str, str] | None:
    """["epochs=3"] → {"epochs": "3"}; None if there are no pairs. Raises ConfigError that names `option`."""
    split = [(pair, *pair.partition("=")) for pair in pairs or []]
    for pair, key, equals, _ in split:
        if not (key.strip() and equals):
            raise ConfigError(f"{option} {pair}: expected key=value")
    return {key.strip(): value.strip() for _, key, _, value in split} or None


def _encoding(name: str) -> str:
    """Return `name` if Python knows it as an encoding of text. Raises ValueError otherwise."""
    try:
        "".encode(name)
        text = codecs.lookup(name)
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(
            f"there is no text encoding {name!r}; use utf-8, utf-16, cp1252, iso-8859-1, shift_jis, …"
        ) from None
    if text.name in ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"):
        raise ValueError(f"{name!r} is not an encoding of files")
    return name


def _delimiter(delimiter: str) -> str:
    r"""One character; `tab` and `\t` mean the tab. Raises ValueError."""
    named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
    delimiter = named.get(delimiter.lower(), delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n' or "\ud800" <= delimiter <= "\udfff":
        raise ValueError(f"{delimiter!r} is no delimiter; use one character, such as , ; | or tab")
    return delimiter


def _explain(kind: type[Settings], error: Any, where: str) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        said = error["msg"].removeprefix("Value error, ")  # pydantic's word for our own messages
        return f"{where}: {path} = {error['input']!r}: {said}" if path else f"{where}: {said}"
    owner: Any = kind
    for part in error["loc"][:-1]:
        if get_origin(owner) is dict:
            owner = get_args(owner)[1]
        else:
            field = getattr(owner, "model_fields", {}).get(part)
            owner = field.annotation if field else None
    now = getattr(owner, "RENAMED", {}).get(str(error["loc"][-1]))
    if now is not None:
        return f"{where}: {path} = {error['input']!r}: this key is called {now} now"
    known = list(getattr(owner, "model_fields", {}))
    return f"{where}: unknown key {path!r}; {suggestion(str(error['loc'][-1]), known, 'known keys')}"


def suggestion(name: str, known: Iterable[str], listed: str = "there are") -> str:
    """What to write instead of `name`: the nearest of `known` or, if none is near, the list of all."""
    names = list(known)
    folded = name.casefold()
    near = nearest(name, names) or next((n for n in names if len(name) > 2 and n.startswith(folded)), None)
    return f"{listed}: {', '.join(names) or 'none'}" if near is None else f"did you mean {near!r}?"
