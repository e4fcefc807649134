"""How files fill the tables: [ingest]."""

import codecs
from typing import Literal

from pydantic import Field, field_validator

from etalage.config.settings import Settings


class Joined(Settings):
    """Joins several columns of a file into one text: those that are not empty, with `by` between them."""

    join: tuple[str, ...] = Field(min_length=1)
    """The columns, in this order."""
    by: str = " "
    """What stands between them."""


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

    columns: dict[str, Source] = Field(
        default_factory=dict, examples=[{"item_id": "sku", "title": ("name", "short_name")}]
    )
    """Etalage's column → the file's; `attributes.<name>` is one attribute. Columns that already have
    Etalage's name need no entry."""
    constants: dict[str, str] = Field(default_factory=dict, examples=[{"kind": "buy"}])
    """Etalage's column → its value in every row or, if the column is mapped too, in rows where that is
    empty."""
    values: dict[str, dict[str, str]] = Field(default_factory=dict, examples=[{"kind": {"purchase": "buy"}}])
    """Etalage's column → {the file's word: Etalage's word}; other words stay as they are."""
    skip: dict[str, tuple[str, ...]] = Field(default_factory=dict, examples=[{"kind": ("heartbeat",)}])
    """Etalage's column → words of the file; rows with one of them are skipped."""
    first_of: dict[str, str] = Field(default_factory=dict, examples=[{"category_id": "|"}])
    """Etalage's column → the mark between the values of a list, such as `Action|Comedy`: of several values
    the first counts."""
    leave_out: tuple[str, ...] = Field((), examples=[("brand",)])
    """Columns of the file to ignore although they have the name of one of Etalage's."""
    keep_others: bool = False
    """For items and users: columns that Etalage has no place for become attributes of the same name. (Those
    of a known feed always do.)"""
    delimiter: str | None = Field(None, examples=[";"])
    """The delimiter of CSV files: one character (`tab`: the tab). None: found from the first lines."""
    encoding: str | None = Field(None, examples=["cp1252"])
    """The encoding of text files without a byte order mark, such as `cp1252`. None: UTF-8."""
    decimal: Literal[".", ","] | None = Field(None, examples=[","])
    """The decimal mark of prices and numbers. None: found from the numbers; an ambiguous number is not
    read."""
    timezone: str | None = Field(None, examples=["Europe/Berlin"])
    """The zone of times without an offset, such as `Europe/Berlin`. None: UTC."""
    dates: Literal["dmy", "mdy", "ymd"] | None = Field(None, examples=["dmy"])
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
    """Of the table items: see [ingest.TABLE]."""
    photos: MappingConfig = Field(default_factory=MappingConfig)
    """Of the table photos: see [ingest.TABLE]."""
    users: MappingConfig = Field(default_factory=MappingConfig)
    """Of the table users: see [ingest.TABLE]."""
    interactions: MappingConfig = Field(default_factory=MappingConfig)
    """Of the table interactions: see [ingest.TABLE]."""


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
