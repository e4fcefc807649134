"""What workers of the tests run: they write parts of tables."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from etalage.lake.parts import Part, write_part
from etalage.lake.places import Place


def write_items(place: Place, shard: Sequence[int]) -> Part:
    """The items with these numbers; said when they changed, so that a shard writes the same twice."""
    at = pa.array([datetime(2026, 3, 1, tzinfo=UTC)] * len(shard), pa.timestamp("us", "UTC"))
    rows = {"item_id": [f"i{n}" for n in shard], "price": [float(n) for n in shard], "updated_at": at}
    return write_part(place, "items", pa.table(rows))
