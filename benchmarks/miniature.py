"""Miniatures of the public data sets, drawn: the same files in the same form, a thousandth of the size.

What `--small` runs on, so that every script can be tried from a clean clone, without any download. What is
drawn has a little structure (shoppers like items of their own kind, a class has its own look), so that models
train; figures of it mean nothing. Each function fills a new folder and returns it.
"""

import csv
import gzip
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

EXAMPLE = Path(__file__).parents[1] / "examples" / "universal_catalogue"
KINDS = 5


def fashion(folder: Path, train: int = 600, test: int = 100) -> Path:
    """The four IDX files of Fashion-MNIST: ten classes, a pattern each, with noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    looks = np.kron(rng.integers(40, 220, (10, 7, 7)), np.ones((4, 4)))
    for prefix, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        pixels = np.clip(looks[labels] + rng.normal(0, 25, (count, 28, 28)), 0, 255).astype(np.uint8)
        head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes(), 1))
        head = b"\0\0\x08\x01" + count.to_bytes(4, "big")
        content = head + labels.astype(np.uint8).tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content, 1))
    return folder


def taste(users: int, items: int, acts: int, seed: int = 0) -> list[list[int]]:
    """For each user so many different items, mostly of the kind that they like; items are 0 … N - 1."""
    rng = np.random.default_rng(seed)
    found = []
    for user in range(users):
        liked = np.where(np.arange(items) % KINDS == user % KINDS, 6.0, 1.0) / (1 + np.arange(items) ** 0.5)
        found.append(rng.choice(items, acts, replace=False, p=liked / liked.sum()).tolist())
    return found


def movielens(folder: Path, users: int = 60, films: int = 120, ratings: int = 24) -> Path:
    """ratings.csv and movies.csv of ml-latest-small."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    rows = [
        (user + 1, film + 1, float(rng.integers(1, 11)) / 2, 1_000_000_000 + 86_400 * place + user)
        for user, seen in enumerate(taste(users, films, ratings))
        for place, film in enumerate(seen)
    ]
    _csv(folder / "ratings.csv", ("userId", "movieId", "rating", "timestamp"), rows)
    films_of = [(film + 1, f"Film {film + 1} (1999)", "Drama") for film in range(films)]
    _csv(folder / "movies.csv", ("movieId", "title", "genres"), films_of)
    return folder


def deepcf(folder: Path, names: Sequence[str] = ("lastfm", "AMusic"), users: int = 60) -> Path:
    """NAME.train.rating, NAME.test.rating and NAME.test.negative of each: one held out among 99."""
    folder.mkdir(parents=True)
    items = 160
    for seed, name in enumerate(names):
        rng = np.random.default_rng(seed)
        train, test, negative = [], [], []
        for user, (held, *seen) in enumerate(taste(users, items, 12, seed)):
            train += [f"{user}\t{item}\t{rng.integers(1, 6)}\t{1000 + n}" for n, item in enumerate(seen)]
            test.append(f"{user}\t{held}\t5\t9000")
            others = rng.permutation(np.setdiff1d(np.arange(items), [held, *seen]))[:99]
            negative.append("\t".join([f"({user},{held})", *map(str, others)]))
        for part, lines in (("train.rating", train), ("test.rating", test), ("test.negative", negative)):
            (folder / f"{name}.{part}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def lightgcn(folder: Path, users: int = 80, items: int = 120) -> Path:
    """data1.txt and test1.txt of LightGCN's Last.fm: user, item, listens, tabs between."""
    folder.mkdir(parents=True)
    parts: dict[str, list[str]] = {"data1.txt": [], "test1.txt": []}
    for user, seen in enumerate(taste(users, items, 15, 4)):
        for place, item in enumerate(seen):
            name = "test1.txt" if place % 5 == 4 else "data1.txt"
            parts[name].append(f"{user + 1}\t{item + 1}\t{100 - place}")
    for name, lines in parts.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def beauty(folder: Path, users: int = 120, items: int = 100) -> Path:
    """Beauty.txt, a user a line, and Beauty_item2attributes.json."""
    folder.mkdir(parents=True)
    lines = [
        " ".join(map(str, [user + 1, *(item + 1 for item in seen)]))
        for user, seen in enumerate(taste(users, items, 7))
    ]
    (folder / "Beauty.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    attributes = {str(item + 1): [item % KINDS + 1, item % 7 + 10] for item in range(items)}
    (folder / "Beauty_item2attributes.json").write_text(json.dumps(attributes), encoding="utf-8")
    return folder


def journey(folder: Path, homes: int = 60, goods: int = 150, weeks: int = 53) -> Path:
    """transactions, products and demographics of The Complete Journey: two baskets of three a month."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    begin = datetime(2017, 1, 1, 9)
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "household_id", "basket_id", "product_id", "quantity", "sales_value", "coupon_disc",
            "coupon_match_disc", "week", "transaction_timestamp",
        )
    }  # fmt: skip
    wanted = taste(homes, goods, 12)
    for home in range(homes):
        for week in range(1, weeks + 1):
            if rng.random() < 0.5:
                continue
            when = begin + timedelta(weeks=week - 1, minutes=int(rng.integers(0, 9000)))
            for product in rng.choice(wanted[home], 3, replace=False):
                row = (
                    home + 1, home * 1000 + week, int(product) + 1, 1, 2.5,
                    0.5 if rng.random() < 0.25 else 0.0, 0.0, week, when,
                )  # fmt: skip
                for name, value in zip(columns, row, strict=True):
                    columns[name].append(value)
    pq.write_table(pa.table(columns), folder / "transactions.parquet")
    numbers = list(range(1, goods + 1))
    types = [(row["product_category"], row["product_type"]) for row in _rows("values.csv")]
    products = {
        "product_id": numbers,
        "manufacturer_id": [n % 9 for n in numbers],
        "department": ["GROCERY"] * goods,
        "brand": ["National" if n % 2 else "Private" for n in numbers],
        "product_category": [types[n % len(types)][0] for n in numbers],
        "product_type": [types[n % len(types)][1] for n in numbers],
        "package_size": ["1 LB"] * goods,
    }
    pq.write_table(pa.table(products), folder / "products.parquet")
    people = {"household_id": list(range(1, homes + 1)), "age": ["45-54"] * homes}
    pq.write_table(pa.table(people), folder / "demographics.parquet")
    return folder


def criteo(folder: Path) -> Path:
    """train.csv, dev.csv and test.csv: label, 13 counts, 26 hashed categories, tabs between."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name, rows in (("train", 400), ("dev", 60), ("test", 60)):
        lines = []
        for _ in range(rows):
            codes = rng.integers(0, 12, 26)
            label = int(rng.random() < (0.6 if codes[0] < 6 else 0.2))
            counts = [str(n) if n < 40 else "" for n in rng.integers(0, 50, 13)]
            lines.append("\t".join([str(label), *counts, *(f"{code:08x}" for code in codes)]))
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def google(folder: Path) -> Path:
    """Two versions of Google's file with ids, some hundred categories: the example's, and made-up ones.

    A tenth of them read otherwise in the older one.
    """
    (folder / "2015-02-19").mkdir(parents=True)
    paths = [(1, "Goods")]
    for row in _rows("google.csv"):
        name = f"Goods > Fresh Foods > Produce > Kind {row['google_id']}"
        if (int(row["google_id"]), name) not in paths:
            paths.append((int(row["google_id"]), name))
    paths[1:1] = [(2, "Goods > Fresh Foods"), (3, "Goods > Fresh Foods > Produce")]
    words = ("Red", "Wide", "Long", "Soft", "Round", "Small", "Plain", "Bright")
    things = ("Boxes", "Lamps", "Chairs", "Shirts", "Brushes", "Candles")
    number = 900_000
    for thing in things:
        paths += [(number, f"Goods > {thing}"), (number + 1, f"Goods > {thing} > Indoor {thing}")]
        for place, word in enumerate(words, start=2):
            paths.append((number + place, f"Goods > {thing} > Indoor {thing} > {word} {thing}"))
        number += 100
    for file, old in (("taxonomy-with-ids.en-US.txt", False),
                      ("2015-02-19/taxonomy-with-ids.en-US.txt", True)):  # fmt: skip
        lines = [
            f"{id} - {path} & More" if old and path.count(" > ") == 3 and id % 10 == 0 else f"{id} - {path}"
            for id, path in paths
        ]
        text = "\n".join(["# Google_Product_Taxonomy_Version: 2021-09-21", *lines])
        (folder / file).write_text(text + "\n", encoding="utf-8")
    return folder


def grocery(folder: Path, classes: int = 8, train: int = 12, held: int = 4) -> Path:
    """The Grocery Store data set: a folder of photos for each of its first classes, and its lists."""
    dataset = folder / "dataset"
    dataset.mkdir(parents=True)
    rng = np.random.default_rng(4)
    kinds = _rows("google.csv")[:classes]
    columns = ("Class Name (str)", "Class ID (int)", "Coarse Class Name (str)", "Coarse Class ID (int)",
               "Iconic Image Path (str)", "Product Description Path (str)")  # fmt: skip
    rows = [
        (one["class_name"], n, f"Coarse {n // 2}", n // 2, f"/iconic/Fruit/Kind/{one['class_name']}.jpg", "-")
        for n, one in enumerate(kinds)
    ]
    _csv(dataset / "classes.csv", columns, rows)
    for part, count in (("train", train), ("val", held)):
        lines = []
        for number, one in enumerate(kinds):
            home = f"{part}/Fruit/Kind/{one['class_name']}"
            (dataset / home).mkdir(parents=True)
            for photo in range(count):
                name = f"{home}/{one['class_name']}_{photo + 1:03d}.jpg"
                _photo(dataset / name, number, rng, 96, burst=photo // 3)
                lines.append(f"{name}, {number}, {number // 2}")
        (dataset / f"{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def photos(folder: Path, count: int = 48) -> Path:
    """JPEGs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for number in range(count):
        _photo(folder / f"{number:04d}.jpg", number, rng, 200)
    return folder


def _photo(file: Path, kind: int, rng: np.random.Generator, side: int, burst: int = 0) -> None:
    """Shapes in the kind's colours, as the burst has them, with noise."""
    colours = np.random.default_rng(kind).integers(0, 256, (4, 3))
    draw = np.random.default_rng([kind, burst])
    picture = Image.new("RGB", (side, side), tuple(colours[0].tolist()))
    pen = ImageDraw.Draw(picture)
    shapes = (pen.ellipse, pen.rectangle, pen.line)
    for number in range(3 + burst % 4 * 3):
        ends = (*(side * draw.random(2) * 0.6), *(side * (0.4 + draw.random(2) * 0.6)))
        corners = [min(ends[0], ends[2]), min(ends[1], ends[3]), max(ends[0], ends[2]), max(ends[1], ends[3])]
        shapes[int(draw.integers(3))](corners, fill=tuple(colours[1 + number % 3].tolist()))
    noisy = np.clip(np.asarray(picture) + rng.normal(0, 8, (side, side, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, quality=90)


def _rows(name: str) -> list[dict[str, str]]:
    with (EXAMPLE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _csv(file: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(head)
        writer.writerows(rows)
