"""What shoppers of the guide's shop did: each likes one category, and acts a little at random."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def write(file: Path, item_ids: list[str], categories: list[str], shoppers: int = 60, seed: int = 0) -> int:
    """A CSV of `shopper, sku, what, when`; → its rows."""
    rng = np.random.default_rng(seed)
    names = sorted(set(categories))
    of_category = {
        name: [i for i, c in zip(item_ids, categories, strict=True) if c == name] for name in names
    }
    rows = []
    for shopper in range(shoppers):
        liked = of_category[names[shopper % len(names)]]
        for _ in range(int(rng.integers(15, 40))):
            item = str(rng.choice(liked if rng.random() < 0.8 else item_ids))
            when = BEGIN + timedelta(minutes=int(rng.integers(0, 200_000)))
            what = str(rng.choice(["view", "cart", "buy"], p=[0.7, 0.2, 0.1]))
            rows.append([f"u{shopper:03d}", item, what, when.isoformat()])
    with file.open("w", newline="", encoding="utf-8") as sink:
        csv.writer(sink).writerows([["shopper", "sku", "what", "when"], *rows])
    return len(rows)
