"""Till receipts in Parquet, as The Complete Journey publishes them → rows of items, users and interactions.

    transactions  household_id, product_id, basket_id, quantity, coupon_disc, coupon_match_disc,
                  transaction_timestamp
    products      product_id, department, product_category, product_type, brand, manufacturer_id, package_size
    demographics  household_id, and any other columns

The rows fit lake/schema.py as they are: `for name, rows in journey(folder): lake.table(name).merge(rows)`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etalage.errors import InputUnreadable
from etalage.lake.casting import attributes_json
from etalage.lake.schema import CATEGORY_SEPARATOR, INSTANT, TABLES

BOUGHT, WITH_COUPON = "buy", "buy_with_coupon"
_RECEIPT = ("household_id", "product_id", "basket_id", "quantity", "coupon_disc", "coupon_match_disc",
            "transaction_timestamp")  # fmt: skip
_LEVELS = ("department", "product_category", "product_type")
_PRODUCT = ("product_id", "brand", "manufacturer_id", "package_size", *_LEVELS)


def journey(folder: Path, rows: int = 100_000) -> Iterator[tuple[str, pa.Table]]:
    """(name of our table, its next rows): products, households with demographics, then receipts by chunks.

    Raises InputUnreadable: a file is missing, not Parquet, or lacks a column.
    """
    yield from (("items", table) for table in products(folder / "products.parquet", rows))
    yield from (("users", table) for table in households(folder / "demographics.parquet", rows))
    yield from (("interactions", table) for table in receipts(folder / "transactions.parquet", rows))


def receipts(file: Path, rows: int = 100_000) -> Iterator[pa.Table]:
    """Interactions, one for each product of a basket: kind `buy`, or `buy_with_coupon` where a coupon (the
    maker's or the shop's) took something off; value: the quantity, 0 for what was taken back.

    The id is `<basket>:<product>`, so that loading again changes nothing.
    """
    for batch in _batches(file, _RECEIPT, rows):
        basket, product = _ids(batch, "basket_id"), _ids(batch, "product_id")
        off = pc.or_(pc.greater(batch["coupon_disc"], 0), pc.greater(batch["coupon_match_disc"], 0))
        yield _fitted(
            "interactions",
            interaction_id=pc.binary_join_element_wise(basket, product, ":"),
            user_id=_ids(batch, "household_id"),
            item_id=product,
            kind=pc.if_else(pc.fill_null(off, False), WITH_COUPON, BOUGHT),
            value=batch["quantity"].cast(pa.float64()),
            time=_instants(batch["transaction_timestamp"]),
        )


def products(file: Path, rows: int = 100_000) -> Iterator[pa.Table]:
    """Items: the path `department > category > type` as far as it is known, the type as title too, as there
    are no names; the maker's number and the size of the package are attributes."""
    for batch in _batches(file, _PRODUCT, rows):
        levels = zip(*(batch[name].to_pylist() for name in _LEVELS), strict=True)
        yield _fitted(
            "items",
            item_id=_ids(batch, "product_id"),
            title=batch["product_type"],
            brand=batch["brand"],
            category_id=pa.array([_path(steps) for steps in levels], pa.string()),
            attributes=_attributes(batch, {"manufacturer": "manufacturer_id", "package": "package_size"}),
        )


def households(file: Path, rows: int = 100_000) -> Iterator[pa.Table]:
    """Users: every other column of the file is an attribute."""
    for batch in _batches(file, ("household_id",), rows, others=True):
        names = {name: name for name in batch.column_names if name != "household_id"}
        yield _fitted("users", user_id=_ids(batch, "household_id"), attributes=_attributes(batch, names))


def _batches(file: Path, columns: Sequence[str], rows: int, others: bool = False) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            missing = [name for name in columns if name not in names]
            if missing:
                raise InputUnreadable(
                    f"{file}: no column {', '.join(missing)}; it has {', '.join(names)}. For another shop's "
                    f"columns: `etalage ingest FILE TABLE` with [ingest.TABLE.columns] in shop.toml"
                )
            wanted = None if others else list(columns)
            for batch in parquet.iter_batches(rows, columns=wanted, use_threads=False):
                yield pa.table(batch)
    except FileNotFoundError as error:
        raise InputUnreadable(f"{file}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputUnreadable(f"{file}: not a Parquet file that can be read: {first}") from error


def _ids(batch: pa.Table, name: str) -> pa.ChunkedArray:
    if batch[name].null_count:
        raise InputUnreadable(f"{name}: {batch[name].null_count} rows have none; take them out of the file")
    return batch[name].cast(pa.string())


def _instants(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without a zone: UTC. Nanoseconds are cut off."""
    times = times.cast(pa.timestamp("us", times.type.tz), safe=False)
    return times.cast(INSTANT) if times.type.tz else pc.assume_timezone(times, "UTC")


def _path(steps: tuple[str | None, ...]) -> str | None:
    known = []
    for step in steps:
        if not step:
            break
        known.append(step.replace(CATEGORY_SEPARATOR, "/"))
    return CATEGORY_SEPARATOR.join(known) or None


def _attributes(batch: pa.Table, names: dict[str, str]) -> pa.Array:
    columns = [batch[theirs].to_pylist() for theirs in names.values()]
    said = (
        {ours: str(value) for ours, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    )
    return pa.array([attributes_json(row) for row in said], pa.string())


def _fitted(name: str, **columns: pa.Array) -> pa.Table:
    """Columns in the order and of the types of the schema."""
    fields = [field for field in TABLES[name].schema if field.name in columns]
    return pa.table([columns[field.name].cast(field.type) for field in fields], schema=pa.schema(fields))
