"""The page of the categories: which of them the classifier takes for which, the most valuable first."""

from etalage.api import Confusion
from etalage.errors import NotFound
from etalage.page import pieces, wording
from etalage.page.navigation import within
from etalage.page.source import Mistakes, Source

WORST = 10


def shown(shop: Source) -> Mistakes | None:
    """The page; None where the server's bundle cannot say. Raises EtalageError and its kinds."""
    try:
        found = shop.confusion()
    except NotFound as error:
        pieces.notice(
            "Nothing was measured yet", "No classifier was evaluated for what is shown here.", str(error)
        )
        return None
    matrix = found.matrix
    right = sum(matrix.counts[n][n] for n in range(len(matrix.categories)))
    total = sum(matrix.totals)
    share = f", {wording.percent(right / total)} of them right" if total else ""
    pieces.heading("What is taken for what", f"{wording.amount(total, 'item', 'items')}{share}")
    pieces.note(
        "The most valuable categories, the most valuable one first. A column holds the items that truly are "
        "of a category, a row those that the classifier takes for one: colour off the diagonal is what it "
        "gets wrong."
    )
    pieces.confusion(matrix, lambda path: within(classified=path))
    if rows := worst(matrix, WORST):
        pieces.heading("Most often mistaken", "")
        pieces.table("mistakes", ("truly", "taken for", "items", "of that category"), rows)
    return found


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
