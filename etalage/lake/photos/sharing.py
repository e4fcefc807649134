"""What is known of a link already → the items that came to it since: nothing is downloaded twice."""

import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.delta import Lake
from etalage.lake.photos.plan import Plan
from etalage.lake.photos.spool import by_owner
from etalage.lake.photos.states import State

_ROWS = 256


def share(lake: Lake, plan: Plan) -> int:
    """Give photos that some item has to the other items with that link, and failures to items that do not say
    so yet; → how many rows of `photos`."""
    return _share_photos(lake, plan) + _share_failures(lake, plan)


def _share_photos(lake: Lake, plan: Plan) -> int:
    links = plan.links.filter(pc.and_(plan.links["held"], plan.links["lacking"]))
    if not links.num_rows:
        return 0
    pairs = plan.pairs.filter(pc.invert(plan.pairs["held"]))
    lacking = pairs.filter(pc.is_in(pairs["url"], value_set=links["url"].combine_chunks()))
    owners = lacking.group_by("url", use_threads=False).aggregate([("item_id", "list")])
    urls, whose = owners["url"].combine_chunks(), owners["item_id_list"].combine_chunks()
    given: set[str] = set()
    written = 0
    for batch in lake.table("photos").batches(rows=_ROWS):
        photos = pa.Table.from_batches([batch])
        held = pc.and_(pc.is_in(photos["url"], value_set=urls), pc.is_valid(photos["sha256"]))
        photos = photos.filter(held).drop_columns(["item_id"])
        rows = {url: row for row, url in enumerate(photos["url"].to_pylist()) if url not in given}
        if not rows:
            continue
        given.update(rows)
        photos = photos.take(pa.array(rows.values(), pa.int64()))
        to = whose.take(pc.index_in(photos["url"].combine_chunks(), value_set=urls))
        spread = by_owner(photos.append_column("owners", to), tuple(photos.column_names))
        done = lake.table("photos").merge(spread)
        written += done.inserted + done.updated
    return written


def _share_failures(lake: Lake, plan: Plan) -> int:
    links = plan.links
    failed = pc.and_(pc.not_equal(links["status"], State.ok.value), pc.invert(links["held"]))
    failed = links.filter(pc.fill_null(failed, False))
    if not failed.num_rows:
        return 0
    at = pc.index_in(plan.pairs["url"], value_set=failed["url"].combine_chunks())
    pairs, at = plan.pairs.filter(pc.is_valid(at)), at.drop_null()
    status = failed["status"].take(at.combine_chunks() if isinstance(at, pa.ChunkedArray) else at)
    stale = pc.fill_null(pc.not_equal(pairs["status"], status), True)
    rows = pa.table({"item_id": pairs["item_id"], "url": pairs["url"], "status": status}).filter(stale)
    if not rows.num_rows:
        return 0
    done = lake.table("photos").merge(rows)
    return done.inserted + done.updated
