"""Kinds of interactions that Etalage knows by name, and what they mean.

has         the shopper has the item from then on: it is not shown to them again
rating      the shopper has the item, and `value` is what they think of it
cart, view  interest
negative    the shopper does not want the item: an explicit negative, kept off the slate
undone      takes something back (remove_from_cart): says nothing for the item, and is not counted
other       a kind that Etalage does not know by name: interest
"""

import re
from functools import lru_cache
from typing import Literal

Meaning = Literal["has", "rating", "cart", "view", "negative", "undone", "other"]

KNOWN_KINDS: dict[str, Meaning] = {
    **dict.fromkeys(
        (
            "buy", "bought", "buys", "purchase", "purchased", "purchases", "order", "ordered", "orders",
            "transaction", "transactions", "sale", "sold", "paid", "payment", "checkout_completed",
            "checkout_complete", "order_completed", "order_placed", "place_order", "completed_purchase",
            "complete_purchase", "purchase_completed", "buy_with_coupon", "subscribe", "own", "owned",
            "acquired",
        ),
        "has",
    ),
    **dict.fromkeys(("rating", "rate", "rated", "ratings", "review", "reviewed", "stars", "star",
                     "set_rating"), "rating"),
    **dict.fromkeys(
        (
            "cart", "carted", "add_to_cart", "addtocart", "cart_add", "added_to_cart", "basket",
            "add_to_basket", "addtobasket", "add_to_bag", "begin_checkout", "checkout", "checkout_started",
            "initiate_checkout",
        ),
        "cart",
    ),
    **dict.fromkeys(
        (
            "view", "viewed", "views", "view_item", "viewitem", "product_view", "product_viewed",
            "detail_view", "detail", "page_view", "pageview", "view_content", "viewcontent", "click",
            "clicked", "clicks", "select_item", "impression_click", "pv",
        ),
        "view",
    ),
    **dict.fromkeys(
        (
            "dislike", "disliked", "thumbs_down", "thumbsdown", "thumb_down", "downvote", "not_interested",
            "notinterested", "hide", "hidden", "block", "blocked", "negative",
        ),
        "negative",
    ),
    **dict.fromkeys(
        (
            "remove_from_cart", "removefromcart", "cart_remove", "removed_from_cart", "remove_from_wishlist",
            "refund", "refunded", "return", "returned", "cancel", "cancelled", "canceled", "unlike",
        ),
        "undone",
    ),
}  # fmt: skip
"""Common names, as `plain_kind` writes them."""
QUANTITIES = ("has", "cart", "view", "undone")
"""Meanings whose `value` is a quantity, an amount or a duration: no threshold of stars is about it."""


@lru_cache(maxsize=4096)
def plain_kind(kind: str) -> str:
    """`AddToCart`, `Add to cart`, `add-to-cart` → `add_to_cart`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.strip())
    return re.sub(r"[^\w]+|_+", "_", apart.lower()).strip("_")


def known_meaning(kind: str) -> Meaning:
    """What a kind means by its name."""
    return KNOWN_KINDS.get(plain_kind(kind), "other")
