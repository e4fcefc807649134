"""What `[evaluate]` may name, metrics and slices, and how names are shown. Nothing is imported: every command
checks them."""

ALL, COLD_ITEMS, COLD_AMONG_ALL, RARE_ITEMS, COLD_USERS = (
    "all",
    "cold items",
    "cold items among all",
    "rare items",
    "cold users",
)
TAKEN_AGAIN, TAKEN_ANEW = "taken again", "taken anew"
"""Slices of shops whose shoppers take the same again ([behaviour] repeat)."""
CLASSES_SEEN, CLASSES_HELD_OUT = "classes seen", "classes held out"
"""Of a photo embedder: categories that it learned from, and others; measured where a training compared."""
CATEGORY = "category: "
"""What the name of a slice of one category begins with; which there are, the data tells."""

OF_RANKS = ("recall", "ndcg", "hit", "precision", "map")
"""Metrics of models of behaviour, each with `_at_` and a number."""
WITHOUT_K = ("mrr", "auroc")
OF_LABELS = ("precision", "hit", "recall", "map", "ndcg", "knn_accuracy")
"""Metrics of models of photos, each with `_at_` and a number; and mrr."""


def slice_names(role: str, repeat: bool) -> tuple[str, ...]:
    """The slices, besides the categories, that a model of this role can be judged on.

    A ranker is judged by the order of candidates that were found for it, so none where only some items count.
    """
    among_themselves = () if role == "ranker" else (COLD_ITEMS,)
    again = (TAKEN_AGAIN, TAKEN_ANEW) if repeat else ()
    return (ALL, *among_themselves, COLD_AMONG_ALL, RARE_ITEMS, COLD_USERS, *again)


def cut_of(metric: str) -> tuple[str, int | None]:
    """A metric's name without its k, and the k: ("recall", 20); ("mrr", None). A k that is none: 0."""
    name, at, k = metric.rpartition("_at_")
    if not at:
        return metric, None
    return name, int(k) if k.isascii() and k.isdigit() else 0


def name_of_leaf(category: str) -> str:
    """The last step of a category's path."""
    return category.rpartition(" > ")[2]
