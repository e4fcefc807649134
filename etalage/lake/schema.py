"""What the shop knows: every table, its columns, their types, units and meaning. Said once, here.

All tables are Delta tables with the change data feed on. A row is found by its table's key;
text is kept exactly as given (no stripping, no Unicode normalising).
"""

from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

INSTANT = pa.timestamp("us", tz="UTC")
PHOTO_OK = "ok"
PHOTO_PENDING = "pending"
"""A link that nobody has asked for yet; every other status is a state of lake/photos/states.py."""
CATEGORY_SEPARATOR = " > "
"""A category is its path: `Clothing > Dresses > Maxi dress`; a filter on `Clothing` holds all beneath."""

CLEARED = "_cleared"
"""Beside the columns of rows that are to be merged: for each row, which of its nulls are meant (a list of
names); other nulls are empty cells."""


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type and what a value means (with its unit)."""

    name: str
    type: pa.DataType
    meaning: str
    required: bool = False


@dataclass(frozen=True)
class TableSpec:
    """One table.

    `key`: the columns that identify a row, never null.
    `stamp`: a time column that Etalage fills when a written row leaves it null; a null there is
    "not given", and so no difference from what is stored.
    `time`: the column by which an older row never overwrites a newer one, where both have it.
    `stands_for`: {column: big column} where equal values of the first mean equal values of the
    second, so that merges compare hashes and not megabytes.
    `shopper`: the column that says whose row it is, and `acted` when; of shoppers who were erased nothing
    older is written (lake/erasures.py).
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    stamp: str | None = None
    time: str | None = None
    shopper: str | None = None
    acted: str | None = None
    stands_for: dict[str, str] = field(default_factory=dict)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; each field carries its meaning as `comment` metadata."""
        return pa.schema(
            [
                pa.field(c.name, c.type, nullable=not c.required, metadata={"comment": c.meaning})
                for c in self.columns
            ]
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.required)

    def column(self, name: str) -> Column:
        """The column called `name`; KeyError when the table has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.name} has no column {name!r}; it has {', '.join(self.names)}")


_TEXT = pa.string()

_ITEMS = TableSpec(
    "items",
    "the catalogue: anything that can be recommended",
    (
        Column("item_id", _TEXT, "the shop's own id, exactly as given", required=True),
        Column("title", _TEXT, "name shown to a shopper"),
        Column("description", _TEXT, "plain text"),
        Column("brand", _TEXT, "name of the maker"),
        Column("price", pa.float64(), "in units of `currency`, never negative; null = not known"),
        Column("currency", _TEXT, "ISO 4217 code, e.g. EUR"),
        Column("category_id", _TEXT, "path from the root, joined by ' > '"),
        Column("item_group_id", _TEXT, "what variants of one product (sizes, colours) share; null = none"),
        Column("photo_url", _TEXT, "names the item's main photo; joins photos.url"),
        Column("in_stock", pa.bool_(), "can be bought now; null = not known"),
        Column("attributes", _TEXT, "JSON object of strings, keys sorted"),
        Column("updated_at", INSTANT, "when the source changed the row, else when we stored it"),
        Column("source_updated_at", INSTANT, "the same as the source gave it; null = it never did"),
    ),
    ("item_id",),
    stamp="updated_at",
    time="source_updated_at",
)

_PHOTOS = TableSpec(
    "photos",
    "product images; the main one of an item is the one that items.photo_url names, else the first by url",
    (
        Column("item_id", _TEXT, "whose photo", required=True),
        Column("url", _TEXT, "where it came from: a link, or the file it was read from", required=True),
        Column("status", _TEXT, "`ok`, `pending` (a link not asked for yet), or why there is no photo"),
        Column("bytes", pa.binary(), "the image file as given (IDX: PNG), or as [photos] stores downloads"),
        Column("width", pa.int32(), "pixels, as stored in the file"),
        Column("height", pa.int32(), "pixels, as stored in the file"),
        Column("sha256", _TEXT, "hex SHA-256 of `bytes`"),
        Column(
            "phash", pa.int64(), "64-bit difference hash of the grey 9 x 8 reduction, for near-duplicates"
        ),
        Column("fetched_at", INSTANT, "when the bytes were read or downloaded, or the status was found out"),
    ),
    ("item_id", "url"),
    stamp="fetched_at",
    stands_for={"sha256": "bytes"},
)

_USERS = TableSpec(
    "users",
    "shoppers",
    (
        Column("user_id", _TEXT, "the shop's own id, exactly as given", required=True),
        Column("attributes", _TEXT, "JSON object of strings, keys sorted"),
    ),
    ("user_id",),
    shopper="user_id",
)

_INTERACTIONS = TableSpec(
    "interactions",
    "what users did with items, one row each",
    (
        Column(
            "interaction_id", _TEXT, "given, or the hash of the row and its occurrence number", required=True
        ),
        Column("user_id", _TEXT, "who", required=True),
        Column("item_id", _TEXT, "with what", required=True),
        Column("kind", _TEXT, "`view`, `cart`, `buy`, `rating`, ..."),
        Column("value", pa.float64(), "stars, count or amount, as `kind` means it; null = none"),
        Column("time", INSTANT, "when; null = not known"),
        Column(
            "part",
            _TEXT,
            "of a split published with the data: `train`, `rank`, `validation` or `test`; null = none",
        ),
    ),
    ("interaction_id",),
    shopper="user_id",
    acted="time",
)

_HELD = TableSpec(
    "held",
    "events of the API that `collect` keeps out of `interactions` until their item and their kind are known",
    (
        *_INTERACTIONS.columns,
        Column("reason", _TEXT, "what nobody knows: the item, the kind, or both"),
        Column("held_at", INSTANT, "when"),
    ),
    ("interaction_id",),
    stamp="held_at",
    shopper="user_id",
    acted="time",
)

_EMBEDDINGS = TableSpec(
    "embeddings",
    "embeddings by a model: of photos and texts, to embed only fresh ones; of items and users, for others",
    (
        Column("owner", _TEXT, "what was embedded: `photo`, `text`, `item`, `user`", required=True),
        Column("id", _TEXT, "its id (of a photo or a text, its sha256)", required=True),
        Column("model", _TEXT, "hash of the model's export, or of the sentence encoder", required=True),
        Column("embedding", pa.list_(pa.float32()), "(D,) float32"),
        Column("name", _TEXT, "the model's name, of items and users (`etalage vectors`); else null"),
    ),
    ("owner", "id", "model"),
)

_RECOMMENDATIONS = TableSpec(
    "recommendations",
    "the best items of every shopper by one retriever, as of `etalage users best`",
    (
        Column("user_id", _TEXT, "who", required=True),
        Column("model", _TEXT, "the retriever's name", required=True),
        Column("items", pa.list_(_TEXT), "item_ids, the best first"),
        Column("scores", pa.list_(pa.float32()), "of the retriever, one for each of `items`"),
        Column("export", _TEXT, "hash of the retriever's export"),
        Column("bundle", _TEXT, "id of the bundle that was asked"),
        Column("made_at", INSTANT, "when the row was written"),
    ),
    ("user_id", "model"),
    stamp="made_at",
    shopper="user_id",
)

_REFUSED = TableSpec(
    "refused",
    "rows that an ingest could not take, and values that it left out, with file, line and reason",
    (
        Column("refused_id", _TEXT, "hash of what, file, line and reason", required=True),
        Column("what", _TEXT, "the table that the row was meant for"),
        Column("file", _TEXT, "the file that it came from, or `frame 'NAME'`"),
        Column(
            "line",
            pa.int64(),
            "physical line in CSV and JSONL; position (from 0) in a data frame; else row number (from 1)",
        ),
        Column("reason", _TEXT, "what is wrong with it: field and value"),
        Column("row", _TEXT, "the raw row as JSON, shortened"),
        Column("key", _TEXT, "the id of the row; null = it cannot be read, or the rows have none"),
        Column(
            "field", _TEXT, "the column of a value that was left out of a row taken; null = the whole row"
        ),
        Column("refused_at", INSTANT, "when"),
    ),
    ("refused_id",),
    stamp="refused_at",
)

_LINKS = TableSpec(
    "links",
    "how asking for each link went the last time, one row a link whatever number of items have it",
    (
        Column("url", _TEXT, "the link, exactly as the items have it", required=True),
        Column("host", _TEXT, "its host, lower case; null = the link has none"),
        Column("status", _TEXT, "one of the states of lake/photos/states.py", required=True),
        Column("reason", _TEXT, "what happened, for a person; null = all went well"),
        Column("http_status", pa.int32(), "of the last answer; null = there was none"),
        Column("final_url", _TEXT, "where redirects led; null = nowhere was anything asked"),
        Column("etag", _TEXT, "of the last answer with a photo, for asking whether it changed"),
        Column("last_modified", _TEXT, "likewise, as the server wrote it"),
        Column("source_sha256", _TEXT, "hex SHA-256 of the last photo as it was sent"),
        Column("stored_as", _TEXT, "how that photo was resized and re-encoded"),
        Column("attempts", pa.int32(), "runs in a row that asked for it without success; 0 = `ok`"),
        Column("retry_at", INSTANT, "not asked for again before this; null = `ok`"),
        Column("checked_at", INSTANT, "when it was asked for"),
        Column("downloaded", pa.int64(), "bytes of bodies that came over the wire then"),
        Column("milliseconds", pa.float64(), "that its requests took, without polite pauses"),
    ),
    ("url",),
    stamp="checked_at",
)

_CLASSIFICATIONS = TableSpec(
    "classifications",
    "what the classifier says of each item, beside what the item carried itself; never merged into `items`",
    (
        Column("item_id", _TEXT, "whose category", required=True),
        Column("category_id", _TEXT, "the leaf's id in the taxonomy; null: not classified, see `status`"),
        Column("path", _TEXT, "the leaf's path from the root, joined by ' > '; null with category_id"),
        Column(
            "confidence", pa.float64(), "calibrated probability of the best leaf, 0 … 1; null = not asked"
        ),
        Column("best_id", _TEXT, "the most probable leaf, also where it is below the threshold"),
        Column("best_path", _TEXT, "its path"),
        Column("status", _TEXT, "`classified`, `below_threshold`, `no_input` or `outside` (of the taxonomy)"),
        Column("model", _TEXT, "hash of the classifier's export"),
        Column("photo_sha256", _TEXT, "the main photo of those that were looked at; null = none"),
        Column(
            "input", _TEXT, "hash of all that was looked at: photos, and the title where the model reads it"
        ),
        Column("given_id", _TEXT, "the category of the taxonomy that the item came with; null = none"),
        Column("given_path", _TEXT, "its path"),
        Column("given_how", _TEXT, "`given` by id; else by wording: `mapped`, `exact`, `ending`, `similar`"),
        Column("classified_at", INSTANT, "when the row was written"),
    ),
    ("item_id",),
    stamp="classified_at",
)

TABLES: dict[str, TableSpec] = {
    spec.name: spec
    for spec in (
        _ITEMS,
        _PHOTOS,
        _USERS,
        _INTERACTIONS,
        _HELD,
        _EMBEDDINGS,
        _RECOMMENDATIONS,
        _REFUSED,
        _LINKS,
        _CLASSIFICATIONS,
    )
}
