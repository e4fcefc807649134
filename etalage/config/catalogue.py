"""What is done with products and photos: [photos], [classify], [taxonomy]."""

from typing import Literal

from pydantic import Field, PositiveInt

from etalage.config.settings import Settings


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

    contact: str | None = Field(None, examples=["photos@shop.example"])
    """A mail address or web page that every server sees in the user agent. Needed unless all hosts are
    local."""
    merchant: str | None = Field(None, examples=["merchant"])
    """For `probe`: the attribute of an item that names the merchant of its link. None: the link's host."""
    hosts: dict[str, str] = Field(default_factory=dict, examples=[{"cdn.shop.test": "127.0.0.1:8081"}])
    """Addresses of names in place of DNS, as above."""
    allow_networks: tuple[str, ...] = Field((), examples=[("10.1.0.0/16",)])
    """Networks that Etalage may connect to although they are not public, such as `10.1.0.0/16`."""
    ca_file: str | None = Field(None, examples=["/etc/ssl/shop-ca.pem"])
    """A file of certificates (PEM) to trust besides the system's."""
    workers: PositiveInt | None = Field(None, examples=[4])
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
    """How many redirects are followed."""
    connect_seconds: float = Field(10.0, gt=0)
    """Seconds for connecting to a server, TLS included."""
    deadline: float = Field(30.0, gt=0)
    """Seconds for one link, including all redirects and the whole body; polite pauses do not count."""
    max_bytes: int = Field(20 * 2**20, ge=1024)
    """Largest size of one photo, as sent and after inflating."""
    min_side: int = Field(32, ge=1)
    """Least pixels of each side; a smaller photo is a tracking pixel or a placeholder."""
    max_pixels: int = Field(40_000_000, ge=1, le=40_000_000)
    """A photo of more pixels is refused before it is decoded."""
    side: int = Field(512, ge=16)
    """Longest side of a stored photo, in pixels; photos are never enlarged."""
    format: Literal["jpeg", "keep"] = "jpeg"
    """`keep`: store the file as it was sent, neither resized nor re-encoded."""
    quality: int = Field(90, ge=1, le=95)
    """Quality of the stored JPEG files."""
    decode_seconds: float = Field(10.0, gt=0)
    """Processor seconds for decoding one photo; by the clock it may take twice as long."""
    decode_megabytes: int = Field(1024, ge=128)
    """Memory that decoding one photo may take."""
    retry_after: float = Field(30.0, ge=0)
    """Days until a link that failed for good (404, not an image, …) is asked for again."""
    retry_minutes: float = Field(10.0, ge=0)
    """Minutes until a link that failed otherwise is asked for again; doubled with every run in which it
    fails."""


class ClassifyConfig(Settings):
    """[classify]: how `etalage classify` and `POST /v1/classify` decide."""

    threshold: float = Field(0.5, ge=0, le=1)
    """An item whose best leaf is less probable than this stays unclassified."""
    photos: int = Field(5, ge=1, le=10)
    """At most this many photos of an item are used, the main one first."""
    top: int = Field(3, ge=1, le=100)
    """How many other leaves an answer lists."""


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

    file: str | None = Field(None, examples=["taxonomy-with-ids.en-US.txt"])
    """Google's file with ids, or a .csv with columns id,parent,name. None: no taxonomy."""
    extend: str | None = Field(None, examples=["more.csv"])
    """A CSV (id,parent,name) with more categories beneath those of `file`."""
    level: int | None = Field(None, ge=1, examples=[4])
    """Cut the tree at this level: a deeper category counts as the one above it. None: the whole tree."""
    names: dict[str, str] = Field(default_factory=dict, examples=[{"de-DE": "taxonomy-with-ids.de-DE.txt"}])
    """Language → the same taxonomy in that language, to show names and to read paths that items carry."""
    retired: tuple[str, ...] = Field((), examples=[("2015/taxonomy-with-ids.en-US.txt",)])
    """Older versions of `file`: an id that only they have is reported as retired, not as unknown."""
    given: str = "google_product_category"
    """The attribute of an item that holds an id, or a whole path, of the taxonomy."""
    merchant: str | None = Field(None, examples=["merchant"])
    """The attribute of an item that names its merchant. None: a category's name means the same at every
    merchant."""
    map: str | None = Field(None, examples=["map.csv"])
    """A CSV (merchant,category,id) that maps merchants' own categories; `etalage taxonomy map` drafts it."""
    similar_from: float | None = Field(None, gt=0, le=1, examples=[0.6])
    """If a merchant's category is not mapped, the most similar category becomes its weak label, if the text
    similarity is at least this. None: never."""
    outside: tuple[str, ...] = Field((), examples=[("5032", "Gift cards")])
    """More categories that are not retail: ids (with all beneath them), or names that a merchant's path
    begins with."""
    values: str | None = Field(None, examples=["values.csv"])
    """A CSV (category_id,value) with the value of categories. None: added up from purchases."""
