"""What a category is worth: the sales of its like in a year of receipts (The Complete Journey).

python examples/universal_catalogue/values.py JOURNEY

values.csv says which product type of the receipts each of the 81 classes is: its `own`, or the `nearest`
where there is none. Classes that share a product type share its sales equally: nothing is counted twice.
"""

import csv
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = Path(__file__).parent


def sales(journey: Path) -> dict[tuple[str, str], float]:
    """{(product category, product type): the year's sales in dollars}."""
    products = pq.read_table(
        journey / "products.parquet", columns=["product_id", "product_category", "product_type"]
    )
    sold = pq.read_table(journey / "transactions.parquet", columns=["product_id", "sales_value"])
    by_product = sold.group_by("product_id").aggregate([("sales_value", "sum")])
    joined = by_product.join(products, "product_id", join_type="inner")
    known = joined.filter(pc.is_valid(joined["product_type"]))
    summed = known.group_by(["product_category", "product_type"]).aggregate([("sales_value_sum", "sum")])
    rows = summed.to_pylist()
    return {(row["product_category"], row["product_type"]): row["sales_value_sum_sum"] for row in rows}


def class_values(journey: Path) -> dict[str, float]:
    """{class: dollars}. Raises KeyError when values.csv names a product type that nobody bought."""
    with (HERE / "values.csv").open(encoding="utf-8") as file:
        types = {row["class"]: (row["product_category"], row["product_type"]) for row in csv.DictReader(file)}
    sharing = Counter(types.values())
    sold = sales(journey)
    return {name: sold[kind] / sharing[kind] for name, kind in types.items()}


def write(journey: Path, ids: dict[str, str], file: Path) -> None:
    """A table `category_id,value` for `etalage evaluate`. ids: {class: category}; those of one id add up."""
    total: dict[str, float] = defaultdict(float)
    for name, value in class_values(journey).items():
        if name in ids:
            total[ids[name]] += value
    lines = [f"{category},{value:.2f}" for category, value in total.items()]
    file.write_text("\n".join(["category_id,value", *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name, value in sorted(class_values(Path(sys.argv[1])).items(), key=lambda pair: -pair[1]):
        print(f"{value:10,.0f}  {name}")
