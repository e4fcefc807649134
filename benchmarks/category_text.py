"""A merchant's category text → a category of Google's tree: by whole path, its end, last step, wording.

    OMP_NUM_THREADS=1 python benchmarks/category_text.py [--taxonomy FOLDER] [--seed 0]

Texts whose category is known, of three kinds. Renamed: English paths of 2015 that read otherwise in 2021;
the id, which stayed, is the truth. A grocer's receipts: the product types of examples/universal_catalogue's
values.csv, with the categories that google.csv says of their classes. Spoiled: all paths of 2021, changed as
merchants change them, one way a case. Nothing was fitted to any of them: the lengths of the n-grams and the
weight of the steps above are those of the code.
"""

import csv
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.lake.category_text import CategoryText, PathBook, folded, steps_of  # noqa: E402
from etalage.lake.schema import CATEGORY_SEPARATOR  # noqa: E402
from etalage.lake.taxonomy import Taxonomy  # noqa: E402
from etalage.lake.taxonomy_files import read_google, read_paths  # noqa: E402
from etalage.metrics import bootstrap_all  # noqa: E402

EXAMPLE = Path(__file__).parents[1] / "examples" / "universal_catalogue"
NOW, THEN = "taxonomy-with-ids.en-US.txt", "2015-02-19/taxonomy-with-ids.en-US.txt"
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
AT_ONCE = 10_000
SIDE = 3_000
REPEATS = 3
NOTE = (
    "Share of the texts that are told the right category, and one beneath the right top category; a text "
    "that a system tells nothing of counts as wrong. Distance: edges of the tree between the told and the "
    "right category. At a threshold: the share of texts whose similarity reaches it, and how many of those "
    "are right. Intervals: 95% bootstrap over the texts; of times, the lowest and the highest of "
    f"{REPEATS} runs."
)
Words = random.Random
Spoil = Callable[[list[str], Words], str]


# -- how merchants write -----------------------------------------------------------------------


def last_step(steps: list[str], draw: Words) -> str:
    return steps[-1]


def separators(steps: list[str], draw: Words) -> str:
    """Another separator, `and` for &, small letters."""
    return draw.choice((" / ", " | ", " » ", "::")).join(steps).replace("&", "and").lower()


def number(steps: list[str], draw: Words) -> str:
    """The singular of a last step that is a plural, or the other way."""
    return CATEGORY_SEPARATOR.join([*steps[:-1], other_number(steps[-1])])


def other_number(name: str) -> str:
    for plural, singular in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("xes", "x"), ("s", "")):
        if name.endswith(plural) and not name.endswith("ss"):
            return name[: -len(plural)] + singular
    return f"{name}s"


def own_tree(steps: list[str], draw: Words) -> str:
    """Other steps above, and another number."""
    above = draw.choice(("All products", "Shop", "Home > Our range", "Sale", "Store > New in"))
    return f"{above} > {other_number(steps[-1])}"


def word_left_out(steps: list[str], draw: Words) -> str:
    """The step above, and the last one without one of its words, where it has several."""
    words = re.findall(r"[^\W_]+", steps[-1])
    if len(words) > 1:
        words.pop(draw.randrange(len(words)))
    return CATEGORY_SEPARATOR.join([*steps[-2:-1], " ".join(words)])


def typing_error(steps: list[str], draw: Words) -> str:
    """Two neighbouring letters of the last step change places, and nothing stands above it."""
    name = steps[-1]
    places = [at for at in range(len(name) - 1) if name[at : at + 2].isalpha() and name[at] != name[at + 1]]
    at = draw.choice(places)
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]


CASES: dict[str, Spoil] = {
    "the last step alone": last_step,
    "other separators, and for &": separators,
    "singular for plural": number,
    "other steps above, singular": own_tree,
    "a word left out, one step above": word_left_out,
    "a typing error in the last step alone": typing_error,
}


# -- measured ----------------------------------------------------------------------------------


def main(
    taxonomy: Annotated[Path | None, typer.Option(help="Folder of Google's files with ids.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn while spoiling.")] = 0,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("category_text", small, out)
    taxonomy = bench.data(taxonomy, "google-product-taxonomy", miniature.google)
    tree = read_google(taxonomy / NOW)
    draw = random.Random(seed)
    then = read_paths(taxonomy / THEN)
    renamed = [(path, row) for id, path in then.items() if path != tree.path(row := tree.row(id))]
    receipts = of_receipts(tree)
    tasks = {
        f"renamed since 2015 ({len(renamed)} texts)": renamed,
        f"a grocer's receipts ({len(receipts)} texts)": receipts,
    }
    for case, spoil in CASES.items():
        tasks[case] = [
            (spoil([tree.names[step] for step in tree.steps(row)], draw), row) for row in range(len(tree))
        ]
    systems = Systems(tree)
    rows = [row for case, task in tasks.items() for row in systems.measured(case, task)]
    spoiled = list({text: None for case in CASES for text, _ in tasks[case]})
    draw.shuffle(spoiled)
    rows += seconds(taxonomy / NOW, spoiled[:AT_ONCE])
    command = f"OMP_NUM_THREADS=1 python benchmarks/category_text.py --taxonomy FOLDER --seed {seed}"
    bench.write(
        rows,
        command=command,
        seeds=[seed],
        packages=["numpy", "scipy", "etalage"],
        note=NOTE,
    )


def of_receipts(tree: Taxonomy) -> list[tuple[str, int]]:
    """Product types that are a class's own, and the category of the class; of several classes, the one that
    is above all of them."""
    of_class = {row["class_name"]: tree.row(row["google_id"]) for row in _csv("google.csv")}
    found: dict[str, int] = {}
    for row in _csv("values.csv"):
        if row["match"] == "own":
            text = f"{row['product_category']} > {row['product_type']}"
            category = of_class[row["class"]]
            found[text] = tree.common_ancestor(found.get(text, category), category)
    return [(text, row) for text, row in found.items() if row >= 0]


def _csv(name: str) -> list[dict[str, str]]:
    with (EXAMPLE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Systems:
    """Four ways to find a category, beside each other."""

    def __init__(self, tree: Taxonomy) -> None:
        self.tree = tree
        self.book, self.text = PathBook(tree), CategoryText(tree)
        self.named: dict[str, list[int]] = {}
        for row, name in enumerate(tree.names):
            self.named.setdefault(folded(name), []).append(row)
        self.top_N = np.array([tree.ancestor(row, 1) for row in range(len(tree))])

    def measured(self, case: str, task: Sequence[tuple[str, int]]) -> list[Row]:
        texts, truth = [text for text, _ in task], np.array([row for _, row in task])
        nearest, similar = self.text.nearest(texts)
        found = {
            "a whole path": np.array([self.book.row(text) for text in texts]),
            "the end of one path alone": np.array([self.book.row_of_ending(text) for text in texts]),
            "the last step, word for word": np.array([self._by_name(text) for text in texts]),
            "similar wording": nearest[:, 0],
        }
        rows = []
        for system, told in found.items():
            values = {
                "right": (told == truth) * 100.0,
                "right top category": ((told >= 0) & (self.top_N[told] == self.top_N[truth])) * 100.0,
            }
            rows += _rows(case, system, values, "%")
        told, near = nearest[:, 0], similar[:, 0]
        apart = [self.tree.distance(int(a), int(b)) for a, b in zip(told, truth, strict=True) if a >= 0]
        rows += _rows(case, "similar wording", {"distance": np.array(apart)}, "")
        for threshold in THRESHOLDS:
            enough = near >= threshold
            rows += _rows(case, "similar wording", {f"from {threshold:g}": enough * 100.0}, "%")
            if enough.any():
                right = (told == truth)[enough] * 100.0
                rows += _rows(case, "similar wording", {f"from {threshold:g}, of those right": right}, "%")
        return rows

    def _by_name(self, text: str) -> int:
        """-1: no category of that name, or several."""
        rows = self.named.get(folded(steps_of(text)[-1]), [])
        return rows[0] if len(rows) == 1 else -1


def _rows(case: str, system: str, values: dict[str, np.ndarray], unit: str) -> list[Row]:
    return [
        Row(case, system, metric, one.value, one.low, one.high, unit)
        for metric, one in bootstrap_all(values).items()
    ]


def seconds(file: Path, texts: Sequence[str]) -> list[Row]:
    """How long it takes to read the file, to compare categories, and to find texts."""
    tree = read_google(file)
    some = np.arange(min(SIDE, len(tree)))
    text = CategoryText(tree)
    steps: dict[str, Callable[[], object]] = {
        f"read {len(tree):,} categories": lambda: read_google(file),
        f"distances {len(some):,} x {len(some):,}": lambda: tree.distances(some, some),
        "first text, which builds the n-grams": lambda: CategoryText(tree).nearest(["Boots"]),
        f"{len(texts):,} different texts": lambda: text.nearest(texts),
    }
    text.nearest(["Boots"])
    rows = []
    for case, step in steps.items():
        taken = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            step()
            taken.append((time.perf_counter() - begun) * 1000)
        rows.append(Row(case, "etalage", "time", float(np.median(taken)), min(taken), max(taken), "ms"))
    return rows


if __name__ == "__main__":
    run_main(main)
