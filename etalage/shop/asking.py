"""Questions of the command line: a name that nobody knows fails there, with the one that was meant.

A server answers the same questions with what is popular (F31): a page must never be empty. Who types a
command wants to know of the typing error.
"""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from etalage.errors import NotFound, Unprocessable
from etalage.nearest import nearest

if TYPE_CHECKING:
    from etalage.recommend import Answer, Recommended, Recommender
    from etalage.shop.shop import Shop

EXAMPLES = 3


def similar(
    shop: "Shop",
    item_id: str | None,
    photos: Sequence[bytes] | None,
    k: int,
    threshold: float | None,
) -> "Answer":
    """What is like one item, or one photo. Raises NotFound, PhotoRefused, Unprocessable, BundleError."""
    recommender = shop.recommender()
    if item_id is not None and photos is None:
        require_items(shop, recommender, [item_id], "item")
    (answer,) = recommender.similar(item_id=item_id, photos=photos, k=k, threshold=threshold)
    return answer


def recommend(
    shop: "Shop", user_id: str | None, had: Sequence[str] | None, k: int, explain: bool
) -> "tuple[Recommended, str | None]":
    """What a shopper would want, by what they did until now; or one who had these items; and, of one that
    nobody knows, who may have been meant: a newcomer is answered as on the page.

    Raises NotFound: an item of `had` is in no bundle; Unprocessable: a user and `had`; BundleError.
    """
    from etalage.lake.live import Act
    from etalage.lake.live.contract import clock

    if user_id is not None and had:
        raise Unprocessable(f"give a user or --had, not both: {user_id!r} has a history of their own")
    recommender = shop.recommender()
    require_items(shop, recommender, had or (), "--had")
    history = [Act(item_id) for item_id in had] if had else None
    with shop.live_store() as live:
        answer = recommender.recommend(
            user_id=user_id, history=history, k=k, explain=explain, live=live, now=clock()
        )
    return answer, None if answer.known else _stranger(recommender, user_id)


def require_items(shop: "Shop", recommender: "Recommender", item_ids: Sequence[str], named: str) -> None:
    """Raises NotFound that names the first of `item_ids` that the bundle does not hold, and what to do."""
    catalogue = recommender.catalogue
    for item_id in item_ids:
        if catalogue.row(item_id) is not None:
            continue
        said = f"{named} {item_id[:60]!r}: no such item in bundle {recommender.bundle}"
        if _in_tables(shop, item_id):
            raise NotFound(f"{said}; the table items has it: `etalage sync --shop {_typed(shop)}`")
        near = nearest(item_id, catalogue.ids)
        examples = ", ".join(repr(one) for one in catalogue.ids[:EXAMPLES])
        raise NotFound(
            f"{said}; " + (f"did you mean {near!r}?" if near else f"its ids are such as {examples}")
        )


def _stranger(recommender: "Recommender", user_id: str | None) -> str:
    if user_id is None:
        return "nothing is known of this shopper"
    near = nearest(user_id, recommender.users.ids.ids.to_pylist())
    said = f"nothing is known of shopper {user_id[:60]!r}"
    return said if near is None else f"{said}; did you mean {near!r}?"


def _in_tables(shop: "Shop", item_id: str) -> bool:
    table = shop.lake.table("items")
    if not table.exists():
        return False
    return bool(pc.any(pc.equal(table.read(columns=["item_id"])["item_id"], item_id)).as_py())


def _typed(shop: "Shop") -> str:
    return shlex.quote(str(shop.folder))
