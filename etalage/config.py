"""shop.toml → frozen typed models. An unknown key is an error that suggests the right one."""

import codecs
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from etalage.errors import ConfigError
from etalage.nearest import nearest

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings model, the models' own configs included: frozen, no unknown keys, no number that
    is none (`nan`, `inf`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions, and what they are called now."""


class Joined(Settings):
    """Several of their columns as one text of ours: those that are not empty, with `by` between them."""

    join: tuple[str, ...] = Field(min_length=1)
    by: str = " "


Source = str | tuple[str, ...] | Joined
"""One of their columns; several, of which the first that is not empty counts; several that are joined. A
column may be a path into nested values: `ecommerce.transaction_id`, `items[].item_id` (a row for each
element)."""


def texts_of(source: Source) -> tuple[str, ...]:
    """The columns that a source names."""
    if isinstance(source, str):
        return (source,)
    return source.join if isinstance(source, Joined) else source


class MappingConfig(Settings):
    """How somebody's file becomes one of our tables (docs/files.md).

    [ingest.interactions.columns]
    user_id = ["user_id", "user_pseudo_id"]
    item_id = "items[].item_id"
    kind = "event_name"

    [ingest.interactions.values.kind]
    purchase = "buy"
    """

    columns: dict[str, Source] = Field(default_factory=dict)
    """Our column → theirs; `attributes.<name>` is one attribute. Columns of our own names need none."""
    constants: dict[str, str] = Field(default_factory=dict)
    """Our column → its value in every row; beside a mapping of the column: where that is empty."""
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Our column → {their word: ours}; other words stay as they are."""
    skip: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Our column → their words; rows with one of them are passed over."""
    leave_out: tuple[str, ...] = ()
    """Columns of the file that are not read although they are called as ours."""
    keep_others: bool = False
    """Of items and users: columns with no place of their own become attributes of their own names. (Those of
    a feed that Etalage knows do in any case.)"""
    delimiter: str | None = None
    """What stands between the fields of CSV files: one character (`tab`: the tab). None: told from the first
    lines."""
    encoding: str | None = None
    """Of text files without a mark (BOM) of their own, such as `cp1252`. None: UTF-8."""
    decimal: Literal[".", ","] | None = None
    """The decimal mark of prices and numbers; None: told from the numbers, and one that may mean two is
    none."""
    timezone: str | None = None
    """The zone of times without an offset, such as `Europe/Berlin`; None: UTC."""
    dates: Literal["dmy", "mdy", "ymd"] | None = None
    """The order of 03/04/2025; None: such a date is refused, where it may be two."""

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, said: str | None) -> str | None:
        return None if said is None else _delimiter(said)

    @field_validator("encoding")
    @classmethod
    def _of_text(cls, said: str | None) -> str | None:
        return None if said is None else _encoding(said)


class IngestConfig(Settings):
    """A mapping for each table that files are loaded into."""

    items: MappingConfig = Field(default_factory=MappingConfig)
    photos: MappingConfig = Field(default_factory=MappingConfig)
    users: MappingConfig = Field(default_factory=MappingConfig)
    interactions: MappingConfig = Field(default_factory=MappingConfig)


class SplitConfig(Settings):
    """Which items a model learns from (features/split_items.py).

    `published` names the attribute of an item that says `train`, `validation` or `test`; items
    without it, and all items when it is not set, are split by a hash of their `group` column.
    """

    published: str | None = None
    group: str = "item_id"
    validation: float = Field(0.1, ge=0, le=0.5)
    test: float = Field(0.1, ge=0, le=0.5)
    product: str | None = None
    """Attribute that names the product across merchants, such as a GTIN: its items fall together."""
    near_duplicates: bool = True
    """Items whose photos are near-duplicates fall together when categories are learned
    (features/grouping.py)."""
    phash_distance: int = Field(4, ge=0, le=31)
    """Bits, of 64, in which the perceptual hashes of near-duplicates may differ."""
    similarity: float | None = Field(None, gt=0, le=1)
    """Least cosine of what near-duplicates of one category have where, on a grid of colours: finds more than
    hashes do, and takes products of one shape on a white ground for one. None: hashes alone."""
    burst: float | None = Field(None, gt=0, le=1)
    """Photos of one category with consecutive file numbers are one burst from this cosine on, and fall
    together; None: no bursts."""
    burst_reach: int = Field(1, ge=0)
    """How far apart the file numbers of a burst's neighbours may be; 0: the numbers mean nothing (they were
    shuffled, or are hashes), any two photos of a category may be neighbours."""


class BehaviourConfig(Settings):
    """Which interactions models of behaviour learn from, and how they are split
    (features/split_interactions.py)."""

    weights: dict[str, float] = Field(default_factory=dict)
    """Kinds that count, and how much: one of weight 10 counts as ten of weight 1, one of weight 0 not at all.
    A weight below 0 makes the kind an explicit negative, which those that are so by name (`dislike`) are
    unless they are named here. Empty: every kind, each 1; those that take something back (`refund`) or were
    only shown (`impression`) 0."""
    has: tuple[str, ...] = ()
    """Kinds after which a shopper has the item, besides those known by name (`buy`, `purchase`, `order`,
    `transaction`, `rating`, …; `etalage tables` shows what each kind is taken for)."""
    kinds: tuple[str, ...] = ()
    """Kinds that events of the API may have besides those known by name, those that other settings here name
    and those of the table interactions: `etalage collect` holds events of any other kind back."""
    targets: tuple[str, ...] = ()
    """Kinds that count as a hit when a model is judged; empty: every kind that counts. After one of these a
    shopper has the item too."""
    positive_from: float | dict[str, float] | None = None
    """A value from here on is positive, a lower one an explicit negative. A number is about ratings, and not
    about purchases, carts and views, whose value is a quantity. By kind: {rating = 4, play = 3}. None: all
    are positive whose value is not below 0."""
    min_user: int = Field(1, ge=1)
    min_item: int = Field(1, ge=1)
    """Users and items with fewer interactions are left out of what models learn from."""
    max_user: int = Field(5000, ge=0)
    """A user who acted on more different items than this is taken for a crawler: their acts teach no model
    and make nothing popular. 0: nobody is."""
    split: Literal["time", "leave_one_out", "last_n", "random", "published"] = "time"
    """`published`: as whoever published the data split it; each interaction says its `part` (`etalage ingest
    FILE interactions --part test`). Where none is of the part validation, one of each user's train is."""
    negatives: str | None = None
    """Of a published split: the file of its negatives (NAME.test.negative), relative to the shop's folder.
    The protocol's figures then stand beside those of the whole catalogue."""
    last_n: int = Field(10, ge=1)
    """The newest so many of each user are the test part, for `last_n`."""
    validation: float = Field(0.1, gt=0, lt=0.5)
    test: float = Field(0.1, gt=0, lt=0.5)
    rank: float = Field(0.0, ge=0, lt=0.5)
    """Shares of the interactions, newest last: train, rank, validation, test."""
    seed: int = Field(0, ge=0)
    repeat: bool = False
    """May a shopper be shown again what they have (groceries), or not (films)?"""


class OrderConfig(Settings):
    """The last stage: scores → slate."""

    value: float = Field(0.0, ge=0)
    """Weight of the business value of an item, next to its score brought to 0 … 1."""
    value_of: str = "price"
    """What the value is: `price`, or `attributes.<key>` (a number, such as a margin)."""
    diversity: float = Field(0.0, ge=0, le=1)
    """Maximal marginal relevance: weight of being unlike what stands above, by embedding and category."""
    per_brand: int | None = Field(None, ge=1)
    per_category: int | None = Field(None, ge=1)
    """At most so many of a brand, of a category, in one slate."""
    per_group: int = Field(1, ge=0)
    """At most so many variants of one product (items of one item_group_id) in one slate, and among what is
    like an item, where the item itself is one of them; 0: any number."""


class FunnelConfig(Settings):
    """retrieve → filter → rank → order → slate."""

    retrievers: dict[str, PositiveInt] = Field(default_factory=dict)
    """Model → how many candidates it may bring. Empty: those that are trained, 200 each."""
    ranker: str | None = None
    photos: str | None = None
    """The photo embedder that answers where several are published; None: the first by name."""
    classifier: str | None = None
    """Likewise the classifier."""
    seen: Literal["drop_bought", "drop_all", "keep"] = "drop_bought"
    in_stock: bool = True
    """What is known to be sold out is not shown; an item whose stock is not known is."""
    history: int = Field(100, ge=1)
    """Acts of a shopper, newest first, that the funnel looks at."""
    enough: int = Field(3, ge=1)
    """Acts from which on the deep models speak; before, the collaborative ones do."""
    order: OrderConfig = Field(default_factory=OrderConfig)


class IndexConfig(Settings):
    kind: Literal["auto", "exact", "ivf_flat"] = "auto"
    """`auto`: exact up to 20,000 items, IVF-Flat above."""
    per_category: int | None = Field(None, ge=1)
    """Index only so many items of each category, always the same ones; None: every item with a photo."""
    lists: int | None = Field(None, ge=1)
    probes: int | None = Field(None, ge=1)


class PublishConfig(Settings):
    min_recall: float = Field(0.95, ge=0, le=1)
    """Recall@k of the approximate index against the exact one, for every allowed share."""
    recall_k: int = Field(10, ge=1)
    max_shrink: float = Field(0.5, ge=0, le=1)
    """Publish refuses when the catalogue lost this share of its items or more."""
    keep: int = Field(5, ge=2)
    """How many bundles stay on disk."""


class EvaluateConfig(Settings):
    metric: str = "precision_at_5"
    """What models of photos are judged by."""
    retrieval_metric: str = "recall_at_20"
    ranking_metric: str = "ndcg_at_10"
    """What retrievers and rankers of behaviour are judged by; or hit, precision, map_at_k, mrr, auroc."""
    slices: dict[str, str] = Field(default_factory=dict)
    """Model → the slice that it is there for, such as `cold items`; its gain is asked for there."""
    ks: tuple[PositiveInt, ...] = Field((1, 5, 10), min_length=1)
    bootstrap: int = Field(1000, ge=100)
    max_queries: int = Field(10_000, ge=1)
    match_precision: float = Field(0.9, gt=0, le=1)
    """The similarity is calibrated from which so many nearest neighbours are of the query's category."""


class TaxonomyConfig(Settings):
    """[taxonomy]: the one tree of categories for every merchant's items (docs/taxonomy.md).

    Files are named relative to the shop's folder:

        [taxonomy]
        file = "taxonomy-with-ids.en-US.txt"
        level = 4
        retired = ["2015/taxonomy-with-ids.en-US.txt"]
        names = {"de-DE" = "2015/taxonomy-with-ids.de-DE.txt"}
        merchant = "merchant"
        map = "map.csv"
    """

    file: str | None = None
    """Google's file with ids; or, when its name ends in .csv, a tree as id,parent,name. None: no taxonomy."""
    extend: str | None = None
    """A CSV (id,parent,name) of more categories beneath those of `file`."""
    level: int | None = Field(None, ge=1)
    """Cut there: a deeper category counts as the one above it. None: the whole tree."""
    names: dict[str, str] = Field(default_factory=dict)
    """Language → the same taxonomy in it, for names to show and for items that carry a path in it."""
    retired: tuple[str, ...] = ()
    """Older versions of `file`: an id that only they know is told as retired, not as unknown."""
    given: str = "google_product_category"
    """The attribute of an item that carries an id, or a whole path, of the taxonomy."""
    merchant: str | None = None
    """The attribute of an item that names its merchant; None: what a category is called does not depend on
    who sells it."""
    map: str | None = None
    """A CSV (merchant,category,id): what merchants' own categories are; `etalage taxonomy map` drafts it."""
    similar_from: float | None = Field(None, gt=0, le=1)
    """A merchant's category that is mapped nowhere becomes, from this similarity of text on, the most similar
    one, as a weak label. None: never."""
    outside: tuple[str, ...] = ()
    """More of what is no retail: ids (and all beneath them), or names that a merchant's path begins with."""
    values: str | None = None
    """A CSV (category_id,value) of what categories are worth; None: counted from purchases."""


class ClassifyConfig(Settings):
    """How `etalage classify` and `POST /v1/classify` decide."""

    threshold: float = Field(0.5, ge=0, le=1)
    """An item whose best leaf is less probable stays unclassified."""
    photos: int = Field(5, ge=1, le=10)
    """At most so many photos of an item are looked at, the main one first."""
    top: int = Field(3, ge=1, le=100)
    """How many other leaves an answer names."""


class PhotosConfig(Settings):
    """[photos]: how links become photos (docs/links.md).

    `hosts` answers for names instead of DNS, as a hosts file does, port included: another shop's machine, or
    many virtual hosts of one server on this machine:

        [photos]
        hosts = {"shop-a.test" = "127.0.0.1:8081", "*.shop-b.test" = "127.0.0.1:8082"}
        allow_networks = ["127.0.0.0/8"]

    `http://cdn.shop-b.test/1.jpg` is then asked of 127.0.0.1:8082 with `Host: cdn.shop-b.test`. A key is a
    name, `*.` and all names beneath it, or `name:port` for one port of the URL. A value is an address, or
    `address:port` (`[::1]:port`). The address is checked like any other: one that is not public needs
    `allow_networks`, which is for tests and a shop's own network alone.
    """

    contact: str | None = None
    """A mail address or page, told to every server in the user agent. Needed unless all hosts are local."""
    merchant: str | None = None
    """The attribute of an item that says whose link it is, for `probe`; None: the link's host."""
    hosts: dict[str, str] = Field(default_factory=dict)
    allow_networks: tuple[str, ...] = ()
    """Networks that may be connected to although they are not public, such as `10.1.0.0/16`."""
    ca_file: str | None = None
    """Certificates (PEM) that are trusted besides the system's."""
    workers: PositiveInt | None = None
    """Shards at once, each on a worker of its own; None: as many as [engine] has. A host belongs to one."""
    connections: int = Field(64, ge=1, le=1024)
    """Of one worker, at once."""
    per_host: int = Field(2, ge=1, le=64)
    """Connections to one host, at once."""
    spacing: float = Field(0.25, ge=0)
    """Seconds from the start of a request to the start of the next one to the same host, at least; a longer
    Crawl-delay of its robots.txt counts instead."""
    patience: float = Field(120.0, ge=0)
    """A host that asks for a longer pause than this (seconds) is left alone for this run."""
    tries: int = Field(3, ge=1, le=10)
    """Of one link in one run, where trying again may help."""
    backoff: float = Field(1.0, gt=0)
    """Seconds of the first pause after a failure of a host; doubled with each one that follows."""
    give_up: int = Field(6, ge=1)
    """Failures of a host in a row after which it is left alone for this run."""
    redirects: int = Field(5, ge=0, le=20)
    connect_seconds: float = Field(10.0, gt=0)
    deadline: float = Field(30.0, gt=0)
    """Seconds for one link, all redirects and the whole body included; polite pauses do not count."""
    max_bytes: int = Field(20 * 2**20, ge=1024)
    """Of one photo, as sent and after inflating."""
    min_side: int = Field(32, ge=1)
    """Pixels; a photo with a shorter side is too small (a pixel to count visits, a placeholder)."""
    max_pixels: int = Field(40_000_000, ge=1, le=40_000_000)
    side: int = Field(512, ge=16)
    """Longest side of what is stored, in pixels; nothing is enlarged."""
    format: Literal["jpeg", "keep"] = "jpeg"
    """`keep`: the file as it was sent, neither resized nor re-encoded."""
    quality: int = Field(90, ge=1, le=95)
    decode_seconds: float = Field(10.0, gt=0)
    """Processor seconds for one photo in the decoder's process; it may hang for twice as long."""
    decode_megabytes: int = Field(1024, ge=128)
    retry_after: float = Field(30.0, ge=0)
    """Days after which a link that failed for good (404, not an image, …) is asked for again."""
    retry_minutes: float = Field(10.0, ge=0)
    """Minutes after which a link that failed otherwise is; doubled with every run in which it fails again."""


class ServeConfig(Settings):
    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    """Names by which the server may be called, besides loopback's and `host`: what a proxy, or who scrapes
    its metrics, calls it. `shop.example`; `*.shop.example` for all beneath it."""
    origins: tuple[str, ...] = ()
    """Web pages that may ask from a browser: `https://www.shop.example`. No other site's pages may."""
    max_body_bytes: int = Field(16 * 2**20, ge=1024)
    max_waiting: int = Field(64, ge=1)
    """Requests that may wait for the scorer; one more is answered 503 with Retry-After."""
    max_connections: int = Field(1000, ge=2)
    """Clients at once, and half as many of one address; one more is answered 503 with Retry-After. Fewer
    where the system allows fewer open files."""
    reload_seconds: float = Field(0.5, gt=0)
    live: str | None = None
    """The online store: a file, or redis://host:port/db; None: live/events.sqlite in the shop."""


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


class ShopConfig(Settings):
    name: str = "A shop"
    currency: str | None = None
    """Of items that name none, by its ISO 4217 code, such as `EUR`; None: not known."""
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

    @field_validator("engine", mode="before")
    @classmethod
    def _by_kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @field_validator("currency")
    @classmethod
    def _a_code(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch("[A-Z]{3}", given):
            raise ValueError("an ISO 4217 code is needed, such as `EUR`")
        return given


def read_config(file: Path) -> ShopConfig:
    """Read a shop.toml; a missing file is the default shop.

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


def validated(kind: type[S], raw: dict[str, Any], where: str) -> S:
    """`raw` as a `kind`, or a ConfigError that names `where`, the key, the value and a remedy."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(kind, e, where) for e in error.errors())) from error


def parse_pairs(option: str, pairs: list[str] | None) -> dict[str, str] | None:
    """["epochs=3"] → {"epochs": "3"}; None for none. Raises ConfigError that names `option`."""
    split = [(pair, *pair.partition("=")) for pair in pairs or []]
    for pair, key, equals, _ in split:
        if not (key.strip() and equals):
            raise ConfigError(f"{option} {pair}: expected key=value")
    return {key.strip(): value.strip() for _, key, _, value in split} or None


def _encoding(name: str) -> str:
    """`name`, if it is an encoding of text. Raises ValueError: nobody knows it."""
    try:
        "".encode(name)
        text = codecs.lookup(name)
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(
            f"there is no text encoding {name!r}; use utf-8, utf-16, cp1252, iso-8859-1, shift_jis, …"
        ) from None
    if text.name in ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"):
        raise ValueError(f"{name!r} is no encoding of files")
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
    """What to write instead of `name`: the nearest of `known`, or which there are."""
    names = list(known)
    folded = name.casefold()
    near = nearest(name, names) or next((n for n in names if len(name) > 2 and n.startswith(folded)), None)
    return f"{listed}: {', '.join(names) or 'none'}" if near is None else f"did you mean {near!r}?"
