"""What a column is likely to be, by its name: for telling, and for names that are ours but for case."""

from collections.abc import Collection

from etalage.lake.drafting.names import ACT_NAMES, ITEM_NAMES, rank_of
from etalage.lake.plain_names import plain

_USER_NAMES = {"user_id": ("id", *ACT_NAMES["user_id"])}
_PHOTO_NAMES = {"item_id": ITEM_NAMES["item_id"], "url": ("url", "link", "src", *ITEM_NAMES["photo_url"])}
_NAMES = {"items": ITEM_NAMES, "interactions": ACT_NAMES, "users": _USER_NAMES, "photos": _PHOTO_NAMES}


def alike(ours: str, names: Collection[str]) -> str | None:
    """The one of `names` that is `ours` but for case, blanks and marks; None: none is, or several are."""
    wanted = ours.replace("_", "")
    found = [name for name in names if plain(name).replace("_", "") == wanted]
    return found[0] if len(found) == 1 else None


def likely(table: str, name: str) -> str | None:
    """Which of our columns a file's column may be, the likeliest; None: nobody knows."""
    ranks = {
        ours: rank
        for ours, words in _NAMES.get(table, {}).items()
        if (rank := rank_of(name, words)) is not None
    }
    return min(ranks, key=lambda ours: ranks[ours], default=None)
