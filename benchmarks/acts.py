"""Interactions of a public set as Etalage's table has them."""

from typing import Any

import pyarrow as pa


def acts_of(users: Any, items: Any, times: Any, kind: str, values: Any = None) -> pa.Table:
    """users, items, times, values: columns of equal length; times in microseconds, UTC; no values: none has
    any."""
    count = len(users)
    return pa.table(
        {
            "interaction_id": pa.array([f"{n:07d}" for n in range(count)]),
            "user_id": users.cast(pa.string()),
            "item_id": items.cast(pa.string()),
            "kind": pa.array([kind] * count),
            "value": pa.nulls(count, pa.float64()) if values is None else values.cast(pa.float64()),
            "time": times,
        }
    )


def instants(seconds: Any) -> Any:
    """A column of whole seconds since 1970 as times."""
    return seconds.cast(pa.timestamp("s")).cast(pa.timestamp("us", "UTC"))
