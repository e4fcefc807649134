"""What a file's column is likely to be, by its name: for telling, and for names that are ours but for
case."""

import re
import unicodedata
from collections.abc import Collection

_WORDS: dict[str, dict[str, str]] = {
    "items": {
        "item_id": "id sku product_id productid item itemid article_id article_number articlenumber artnr "
        "artikelnummer product_code variant_id handle asin ean gtin mpn offer_id parent_asin ref reference",
        "title": "name product_name product_title productname item_name titel bezeichnung artikelname "
        "produktname nom nombre nome namn navn nazwa naam",
        "description": "desc body body_html product_description beschreibung long_description descripcion",
        "brand": "vendor manufacturer make maker marke hersteller marque marca brand_name",
        "price": "regular_price preis prix precio prezzo pris cena unit_price sale_price list_price "
        "current_price amount cost price_eur price_usd price_gbp variant_price",
        "currency": "currency_code waehrung devise moneda valuta price_currency",
        "category_id": "category categories product_type product_category category_path categoryid kategorie "
        "categorie categoria google_product_category department category_name breadcrumb",
        "item_group_id": "group_id parent_id parent_sku model_id style_id product_group group",
        "photo_url": "image image_url image_link imageurl picture picture_url photo img images img_url bild "
        "image_src thumbnail",
        "in_stock": "stock availability available qty quantity inventory stock_status stock_quantity instock "
        "lager bestand inventory_quantity stock_level on_hand is_in_stock",
        "updated_at": "updated modified last_modified modified_at date_modified lastmod last_updated changed "
        "changed_at updated_on update_time",
    },
    "interactions": {
        "user_id": "user customer customer_id customerid visitor_id visitorid client_id shopper_id member_id "
        "anonymous_id userid email user_pseudo_id session_id reviewer_id account_id buyer_id",
        "item_id": "item product_id product itemid productid sku article_id asin movie_id movieid book_id "
        "content_id parent_asin track_id isbn",
        "kind": "event event_type event_name type action behavior behaviour activity event_kind "
        "interaction_type verb",
        "value": "rating stars score quantity qty count amount weight overall play_count",
        "time": "timestamp ts date datetime event_time created_at created event_timestamp time_stamp "
        "unix_review_time purchase_date order_date created_on occurred_at t_dat event_date zeit datum",
    },
    "users": {
        "user_id": "id user customer customer_id customerid visitor_id client_id member_id userid email"
    },
    "photos": {
        "item_id": "id sku product_id item itemid article_id",
        "url": "image image_url image_link link photo_url picture src",
    },
}
_LIKELY = {
    table: {word: ours for ours, words in columns.items() for word in words.split()}
    for table, columns in _WORDS.items()
}


def plain_name(name: str) -> str:
    """`Item ID`, `itemId`, ` ITEM-ID ` → `item_id`."""
    text = unicodedata.normalize("NFKC", name).strip("\ufeff\u200b ")
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[\W_]+", "_", apart.lower()).strip("_")


def alike(ours: str, names: Collection[str]) -> str | None:
    """The one of `names` that is `ours` but for case, blanks and marks; None: none is, or several are."""
    wanted = ours.replace("_", "")
    found = [name for name in names if plain_name(name).replace("_", "") == wanted]
    return found[0] if len(found) == 1 else None


def likely(table: str, name: str) -> str | None:
    """Which of our columns a file's column may be; None: nobody knows."""
    words = _LIKELY.get(table, {})
    plain = plain_name(name)
    return words.get(plain) or words.get(plain.replace("_", ""))
