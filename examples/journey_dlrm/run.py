"""Retrieve and rank on a year of real-looking receipts: several retrievers, then DLRM.

python examples/journey_dlrm/run.py --data FOLDER [--weeks 12] [--households 300]
"""

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

from etalage.console import bar
from etalage.errors import EtalageError
from etalage.lake.transactions import journey
from etalage.shop import Shop

MODELS = ("popularity", "buy_again", "item_knn", "ials", "dlrm")
BEGIN = datetime(2017, 1, 1, tzinfo=UTC)


def load(folder: Path, data: Path, weeks: int | None = None, households: int | None = None) -> Shop:
    """A shop at `folder` that holds products, households and receipts: of the first weeks only, of some."""
    shop = Shop.create(folder, "The Complete Journey", bar)
    shutil.copy(Path(__file__).with_name("shop.toml"), folder / "shop.toml")
    some: pa.Array | None = None
    bought: list[pa.Array] = []
    parts: dict[str, list[pa.Table]] = {}
    for name, rows in journey(data):
        if name == "interactions":
            if weeks is not None:
                rows = rows.filter(pc.less(rows["time"], pa.scalar(BEGIN + timedelta(weeks=weeks))))
            if households is not None:
                some = pc.unique(rows["user_id"])[:households] if some is None else some
                rows = rows.filter(pc.is_in(rows["user_id"], value_set=some))
            bought.append(pc.unique(rows["item_id"]))
        parts.setdefault(name, []).append(rows)
    sold = pc.unique(
        pa.concat_arrays(
            [one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one for one in bought]
        )
    )
    for name, tables in parts.items():
        whole = pa.concat_tables(tables)
        if name == "items" and (weeks or households):
            whole = whole.filter(pc.is_in(whole["item_id"], value_set=sold))
        print(f"{name}: {shop.lake.table(name).merge(whole).inserted:,} rows")
    return shop


def main(
    data: Annotated[Path, typer.Option(help="Folder of the Parquet files of The Complete Journey.")],
    shop: Annotated[Path, typer.Option(help="Where the shop is made.")] = Path("build/journey"),
    weeks: Annotated[int | None, typer.Option(min=8, help="Only the first weeks.")] = None,
    households: Annotated[int | None, typer.Option(min=50, help="Only so many households.")] = None,
) -> None:
    opened = load(shop, data, weeks, households)
    for model in MODELS:
        trained, exported = opened.train(model)
        print(f"{exported.parent.name} {exported.name}: {trained.seconds:.1f} s {trained.metrics}")
    done = opened.evaluate("dlrm")
    print(done.summary())
    manifest = opened.publish(force=True)
    print(f"published {manifest.id}: {', '.join(one.name for one in manifest.funnel)}")
    with opened.live_store() as live:
        user = live.users(1)[0]
        answer = opened.recommender().recommend(user_id=user, k=5, explain=True, live=live)
    for slot in answer.slate:
        print(f"{slot.rank}. {slot.item['title']} ({slot.item['category_id']}): {slot.why}")
    print(f"serve it: etalage serve --shop {shop}; report: {done.report}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
