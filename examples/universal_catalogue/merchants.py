"""The three merchants, and what each calls the 81 classes of the Grocery Store data set."""

import csv
import random
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DEPARTMENTS = {"Fruit": "41", "Vegetables": "42", "Packages": "50"}
"""Kassa 24's codes of the three top classes."""
VAGUE = {
    "ga": ("{shelf}, loose", "From our {lower} counter", "{first}", "Daily fresh"),
    "fk": ("{shelf}, Klasse I", "{shelf} vom Markt", "{first}", "Frisch heute"),
}
"""Titles that tell the shelf, the first word of the class, or nothing."""


@dataclass(frozen=True)
class Merchant:
    """One shop: how it names things, what it sells, and which Google ids it has looked up.

    share: of the photos. fine, google: shares of its items that carry the id of their class, of Google's
    category above it.
    """

    name: str
    domain: str
    prefix: str
    file: str
    share: float
    fine: float
    google: float


MERCHANTS = (
    Merchant("Green Aisle", "green-aisle.test", "ga", "green-aisle.csv", 0.45, 0.90, 0.06),
    Merchant("Frischkorb", "frischkorb.test", "fk", "frischkorb.tsv", 0.35, 0.75, 0.15),
    Merchant("Kassa 24", "kassa24.test", "k", "kassa24.jsonl", 0.20, 0.60, 0.0),
)


@dataclass(frozen=True)
class Class:
    """One of the 81 classes, and what the merchants call it."""

    name: str
    coarse: int
    top: str
    english: str
    aisle: str
    german: str
    regal: str


def classes(data: Path) -> list[Class]:
    """The 81 classes in their published order."""
    with (HERE / "names.csv").open(encoding="utf-8") as file:
        names = {row["class"]: row for row in csv.DictReader(file)}
    with (data / "dataset" / "classes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Class(
            row["Class Name (str)"],
            int(row["Coarse Class ID (int)"]),
            row["Iconic Image Path (str)"].split("/")[2],
            *(names[row["Class Name (str)"]][column] for column in ("english", "aisle", "german", "regal")),
        )
        for row in rows
    ]


def own_ids() -> dict[str, tuple[str, str]]:
    """{class: (its id in fine.csv, the id of Google's category above it)}."""
    with (HERE / "google.csv").open(encoding="utf-8") as file:
        return {
            row["class_name"]: (f"grocery-{row['class_id']}", row["google_id"])
            for row in csv.DictReader(file)
        }


def wording(merchant: Merchant, one: Class, draw: random.Random) -> tuple[str, str]:
    """A title and a category in the merchant's words; about half of the titles tell the class."""
    luck = draw.random()
    if merchant.prefix not in VAGUE:
        title = receipt(one.english) if luck < 0.6 else f"ART {draw.randrange(10**5):05d}"
        return title, f"{DEPARTMENTS[one.top]}{one.coarse:02d}"
    name, own = (one.english, one.aisle) if merchant.prefix == "ga" else (one.german, one.regal)
    if luck < 0.5:
        return name, own
    shelf = re.split(" [>/] ", own)[-1]
    first = name.split()[0] if merchant.prefix == "ga" else re.split("[ -]", name)[0]
    return draw.choice(VAGUE[merchant.prefix]).format(shelf=shelf, lower=shelf.lower(), first=first), own


def receipt(name: str) -> str:
    """As a till prints it: `Golden Delicious apples` → `GLDN DLCS APPLS`."""
    words = name.upper().split()
    return " ".join(word[0] + "".join(c for c in word[1:] if c not in "AEIOU")[:4] for word in words)[:18]
