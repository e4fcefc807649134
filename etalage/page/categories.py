"""The page of the categories: which of them the classifier takes for which, the most valuable first."""

from dataclasses import dataclass

from etalage.api import Confusion
from etalage.errors import NotFound
from etalage.page import wording
from etalage.page.place import Place
from etalage.page.source import Source
from etalage.page.views import View, answered

WORST = 10
NUMBERED = 16
"""Categories up to which a cell has room for its count."""
SHADES = 20
"""Steps of a cell's colour; page.css has a class for each."""


@dataclass(frozen=True)
class Cell:
    """How many of one category were taken for another."""

    at: str
    text: str
    said: str
    right: bool
    shade: int


def view(place: Place, shop: Source) -> View:
    """The page; a word where the server's bundle cannot say. Raises EtalageError and its kinds."""
    try:
        found = shop.confusion()
    except NotFound as error:
        title, text = "Nothing was measured yet", "No classifier was evaluated for what is shown here."
        way = ("Back to the shop", "/")
        facts = {"place": place, "heading": title, "text": text, "detail": str(error), "way": way}
        return View("trouble.html.j2", title, facts, 404)
    matrix = found.matrix
    right = sum(matrix.counts[n][n] for n in range(len(matrix.categories)))
    total = sum(matrix.totals)
    share = f", {wording.percent(right / total)} of them right" if total else ""
    return View(
        "categories.html.j2",
        "What is taken for what",
        {
            "place": place,
            "amount": f"{wording.amount(total, 'item', 'items')}{share}",
            "columns": [(one.path, _leaf(one.path)) for one in matrix.categories],
            "rows": rows(matrix, place),
            "dense": len(matrix.categories) > NUMBERED,
            "mistakes": worst(matrix, WORST),
            **answered(found.bundle, found.seconds),
        },
    )


def rows(matrix: Confusion, place: Place) -> list[tuple[str, str, str, list[Cell], str]]:
    """Path, label and address of each predicted category; its cells; its value."""
    totals, named = matrix.totals, [_leaf(one.path) for one in matrix.categories]
    numbered = len(named) <= NUMBERED
    found = []
    for predicted, counts in enumerate(matrix.counts):
        cells = []
        for true, count in enumerate(counts):
            share = count / totals[true] if totals[true] else 0.0
            cells.append(
                Cell(
                    f"{predicted},{true}",
                    str(count) if count and numbered else "",
                    f"{count} of {totals[true]} of “{named[true]}” taken for “{named[predicted]}”",
                    predicted == true,
                    round(SHADES * min(1.0, share if predicted == true else 2.4 * share)),
                )
            )
        one = matrix.categories[predicted]
        found.append(
            (one.path, named[predicted], place.within(classified=one.path), cells, f"{one.value:,.0f}")
        )
    return found


def _leaf(path: str) -> str:
    return path.split(wording.SEPARATOR)[-1]


def worst(matrix: Confusion, most: int) -> list[tuple[str, str, str, str]]:
    """The largest cells off the diagonal: true path, predicted path, items, share of the true ones."""
    size = range(len(matrix.categories))
    totals = matrix.totals
    wrong = [(matrix.counts[p][t], p, t) for p in size for t in size if p != t and matrix.counts[p][t]]
    wrong.sort(key=lambda cell: (-cell[0], cell[1], cell[2]))
    paths = [one.path.replace(wording.SEPARATOR, " › ") for one in matrix.categories]
    return [
        (paths[t], paths[p], f"{count:,}", wording.percent(count / totals[t])) for count, p, t in wrong[:most]
    ]
