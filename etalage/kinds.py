"""Kinds of interactions that Etalage knows by name, and what they mean.

has         the shopper has the item from then on: it is not shown to them again
rating      the shopper has the item, and `value` is what they think of it
like        the shopper says that they like the item, or want it: an opinion
cart, view  interest
negative    the shopper does not want the item: an explicit negative, kept off the slate
undone      takes something back (refund, remove_from_cart): the act before it does not count
shown       the item was only shown, or something else happened (impression, search, login): not counted
other       a kind that Etalage does not know by name: interest
"""

import re
from functools import lru_cache
from typing import Literal

Meaning = Literal["has", "rating", "like", "cart", "view", "negative", "undone", "shown", "other"]

TAKEN_AGAIN_TELLING, TAKEN_AGAIN_OFTEN = 200, 0.2
"""From so many moments at which shoppers took something on, this share of what they had taken before says
that things are used up and bought again: [behaviour] repeat."""

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
            "initiate_checkout", "product_added", "buy_now",
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
            "notinterested", "hide", "hidden", "block", "blocked", "negative", "not_for_me", "notforme",
            "not_relevant", "negative_feedback", "swipe_left",
        ),
        "negative",
    ),
    **dict.fromkeys(
        (
            "like", "liked", "thumbs_up", "thumbsup", "thumb_up", "upvote", "favorite", "favourite",
            "add_to_wishlist", "addtowishlist", "wishlist", "bookmark", "save", "heart", "love",
            "swipe_right",
        ),
        "like",
    ),
    **dict.fromkeys(
        (
            "impression", "impressions", "view_item_list", "view_promotion", "product_list_viewed", "search",
            "searched", "products_searched", "view_search_results", "session_start", "first_visit",
            "user_engagement", "scroll", "login", "logout", "sign_up", "signup",
        ),
        "shown",
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
QUANTITIES = ("has", "cart", "view", "undone", "shown")
"""Meanings whose `value` is a quantity, an amount or a duration."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PURCHASE = _set(
    """
    buy buys bought purchase purchases purchased order orders ordered transaction transactions sale
    sales sold paid acquired invoice invoiced repurchase repurchased reorder reordered kauf käufe
    gekauft bestellung bestellungen bestellt achat achats acheté commande commandes commandé compra
    compras comprado pedido pedidos acquisto acquisti acquistato ordine ordini koop gekocht aankoop
    bestelling besteld köp köpt kjøp kjøpt køb købt zakup zakupy покупка покупки куплено заказ 购买 購買
    購入
    """
)
_PAYING = _set("checkout payment")
_DONE = _set(
    """
    completed complete success succeeded successful confirmed confirmation placed place created
    create paid fulfilled delivered shipped finished approved settled finalized done
    """
)
_UNDONE = _set(
    """
    cancel cancelled canceled cancels cancellation refund refunds refunded return returns returned
    chargeback void voided reversed reversal undo undone revoked storno storniert stornierung
    retoure retour zurückgegeben remboursement remboursé annulé annulation devolución devuelto
    reembolso reso rimborso remove removes removed delete deleted unlike unliked unfavorite
    unfavorited unfavourite unfavourited unfav unsave unsaved unbookmark
    """
)
_NEGATIVE = _set(
    """
    dislike dislikes disliked downvote downvoted hide hid hidden block blocked hate hated dismiss
    dismissed reject rejected ban banned irrelevant uninterested negative
    """
)
_CART = _set(
    """
    cart carted basket bag trolley checkout warenkorb einkaufswagen panier carrito carrello
    winkelwagen varukorg kundvagn handlekurv kurv
    """
)
_LIKE = _set(
    """
    like likes liked favorite favorites favorited favourite favourites favourited fav favs favorit
    heart hearted love loved wishlist wishlisted wish wished bookmark bookmarked save saved upvote
    upvoted merkliste wunschliste wunschzettel
    """
)
_VIEW = _set(
    """
    view views viewed viewing click clicks clicked clickthrough visit visited visits browse browsed
    detail details pageview pdp ansicht angesehen просмотр просмотры
    """
)
_RATING = _set(
    """
    rating ratings rate rated review reviews reviewed stars bewertung bewertet note notes valoración
    """
)
_SHOWN = _set("impression impressions impressed exposure exposures exposed")
_PUTTING = _set(
    """
    add adds added adding to the in into my begin began start started initiate initiated list up
    """
)
_BESIDE = _set(
    """
    item items product products article event events ecommerce app in web online offline shop store
    user customer new first repeat page screen content
    """
)
_TAKING = _set("from request requested requests partial partially full fully")
_FAMILIES: tuple[tuple[Meaning, frozenset[str], frozenset[str]], ...] = (
    # (meaning, one of these words is there, and besides them only these)
    ("undone", _UNDONE, _PURCHASE | _PAYING | _DONE | _CART | _LIKE | _PUTTING | _BESIDE | _TAKING),
    ("has", _PURCHASE, _PAYING | _DONE | _BESIDE),
    ("rating", _RATING, _DONE | _BESIDE | _set("movie book star")),
    ("shown", _SHOWN, _BESIDE | _set("ad ads banner widget list recommendation recommendations rec")),
    ("negative", _NEGATIVE, _BESIDE | _set("feedback")),
    ("cart", _CART, _PUTTING | _BESIDE),
    ("like", _LIKE, _PUTTING | _BESIDE),
    ("view", _VIEW, _BESIDE | _CART | _set("out through")),
)


@lru_cache(maxsize=4096)
def plain_kind(kind: str) -> str:
    """`AddToCart`, `Add to cart`, `add-to-cart` → `add_to_cart`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.strip())
    return re.sub(r"[^\w]+|_+", "_", apart.lower()).strip("_")


@lru_cache(maxsize=4096)
def known_meaning(kind: str) -> Meaning:
    """What a kind means by its name: one of KNOWN_KINDS, or made of words of one family alone (`Completed
    Order`, `Product Removed from Cart`), so that `order_viewed` and `cart_abandoned` are not known."""
    plain = plain_kind(kind)
    if plain in KNOWN_KINDS:
        return KNOWN_KINDS[plain]
    words = frozenset(plain.split("_"))
    if words & _PAYING and words & _DONE and words <= _PAYING | _DONE | _BESIDE:
        return "has"
    for meaning, telling, beside in _FAMILIES:
        if words & telling and words <= telling | beside:
            return meaning
    return "other"


@lru_cache(maxsize=4096)
def takes_back(kind: str) -> frozenset[Meaning]:
    """What an act of a kind that means `undone` takes back; nothing: it is of another meaning."""
    if known_meaning(kind) != "undone":
        return frozenset()
    plain = plain_kind(kind)
    words = frozenset(plain.split("_"))
    if words & _CART or "cart" in plain:
        return frozenset({"cart"})
    if words & _LIKE or plain.startswith("un"):
        return frozenset({"like"})
    removed = words & _set("remove removes removed delete deleted undo undone")
    return frozenset({"cart", "like"}) if removed else frozenset({"has"})
