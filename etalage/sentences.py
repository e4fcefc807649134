"""What an answer was made of, in sentences that the terminal and the page share."""

from collections.abc import Sequence

SEPARATOR = " > "
"""Between the steps of a category path."""
BOTH = "its category, then of the shop"
RUNGS = {
    "deep": "By the models that learnt from many shoppers' behaviour.",
    "collaborative": "By what others did who acted on the same items.",
    "photo": "By photos like those of the items that were looked at.",
    "popular": "What is popular now, and not all alike.",
}
"""By tier of a slate."""
NOBODY_YET = "Nobody did anything here yet: from the shop, in its own order."
"""Of a slate of popular items in a shop without any act."""


def called(title: str | None, brand: str | None, category_id: str | None, item_id: str) -> str:
    """What an item is called: its title, or else its brand and the last step of its category, or else its
    id."""
    category = (category_id or "").split(SEPARATOR)[-1]
    return title or " · ".join(filter(None, (brand, category))) or item_id


def is_within(path: str | None, node: str) -> bool:
    """Whether a category path is `node` or lies beneath it."""
    return path is not None and (path == node or path.startswith(node + SEPARATOR))


def tier(name: str, acted: bool = True) -> str:
    """Who made a slate. acted: whether anybody acted on any item of the shop."""
    return NOBODY_YET if name == "popular" and not acted else RUNGS.get(name, name)


def whose(category: str | None, shown: Sequence[str | None]) -> str:
    """Whose items stand in for similar ones: `its category`, `the shop`, or the one before the other.

    category: of the item that was asked about; shown: the categories of the items that are shown.
    """
    own = sum(category is not None and is_within(one, category) for one in shown)
    if own == 0:
        return "the shop"
    return "its category" if own == len(shown) else BOTH


def in_place_of_similar(of: str, acted: bool = True) -> str:
    """What is shown where there is no photo to compare; of: as `whose` says."""
    return f"the most popular of {of}" if acted else f"others of {of}, in the shop's own order"
