"""What shops call their columns, by language, and which of ours a file's column may be.

`plain` takes away what only a name's spelling is; the lists hold names as `plain` writes them, the likelier
first.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """`ArtikelNr.`, `artikel-nr`, `Artikel Nr` → `artikel_nr`; `Währung` → `wahrung`."""
    bare = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    bare = "".join(c for c in bare if not unicodedata.combining(c))
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare)
    return re.sub(r"[^a-z0-9]+", "_", apart.lower()).strip("_")


_ITEM_ID = """
item_id product_id sku article_id artikelnummer artikelnr artikel_nr art_nr artnr artikel_id
produktnummer produkt_id produktnr item_number item_no item_code product_code product_number stock_code
stockcode article_number article_no article_code variant_id variation_id offer_id asin parent_asin
id_article id_produit codigo codigo_producto id_producto codice codice_articolo codice_prodotto
id_prodotto artikelcode product_sku item_sku variant_sku master_sku productid itemid articleid movie_id
movieid track_id song_id book_id recipe_id content_id id reference ref article item product artikel
produkt produit producto prodotto handle mpn ean gtin isbn upc barcode
"""
_USER_ID = """
user_id customer_id visitor_id client_id shopper_id member_id buyer_id account_id person_id
user_pseudo_id anonymous_id distinct_id full_visitor_id fullvisitorid visitorid userid customerid
clientid kunden_id kundennummer kundennr kunden_nr benutzer_id id_client id_utilisateur numero_client
id_cliente codigo_cliente id_utente codice_cliente klantnummer klant_id reviewer_id reviewerid profile_id
household_key household_id household hshd_num panelist_id loyalty_id loyalty_card loyalty_number
loyalty_card_id card_id card_no card_number membership_id membership_no member_no lylty_card_nbr
customer_no customer_number cust_id cust_no guest_id contact_id subscriber_id
user customer visitor client shopper member kunde nutzer benutzer
utilisateur cliente utente klant reviewer author_id user_name username device_id cookie_id session_id
session email customer_email
"""
_KIND = """
event_type event_name event kind action interaction_type interaction behavior_type behaviour_type
behavior behaviour activity event_action action_type activity_type ereignis aktion evenement evento
accion azione type
"""
_TIME = """
timestamp event_time event_timestamp datetime date_time time created_at occurred_at ordered_at order_date
purchase_date purchased_at invoice_date invoicedate transaction_date event_date server_time
unix_review_time unixreviewtime review_time created ts date datum zeit zeitpunkt zeitstempel bestelldatum
kaufdatum date_commande date_achat fecha fecha_pedido fecha_compra data_ordine data_acquisto orderdatum
besteldatum data t_dat day when
"""
_VALUE = """
rating stars score review_score overall value quantity qty item_quantity menge anzahl stuckzahl bewertung
sterne quantite note cantidad valoracion quantita voto aantal count units play_count plays amount
"""
_TITLE = """
title name product_name item_name product_title item_title title_de bezeichnung artikelbezeichnung
artikelname produktname produktbezeichnung titel nom nom_produit libelle designation titre nombre
nombre_producto titulo nome nome_prodotto titolo naam productnaam short_title display_name label caption
prod_name
"""
_DESCRIPTION = """
description product_description long_description item_description body body_html desc beschreibung
produktbeschreibung langtext langbeschreibung artikelbeschreibung description_longue descripcion
descrizione beschrijving omschrijving details short_description kurzbeschreibung summary about
detail_desc text
"""
_BRAND = """
brand brand_name vendor manufacturer maker marke hersteller marque fabricant marca fabricante produttore
merk fabrikant publisher label_name
"""
_PRICE = """
price regular_price unit_price list_price retail_price selling_price price_gross gross_price vk
verkaufspreis vk_preis vk_brutto bruttopreis preis_brutto preis uvp prix_ttc prix prix_vente pvp precio
precio_venta prezzo prezzo_vendita verkoopprijs prijs price_eur price_vat
price_usd price_gbp price_incl_tax msrp
rrp unitprice cost sale_price
"""
_CURRENCY = "currency currency_code price_currency wahrung waehrung devise moneda divisa valuta"
_CATEGORY = """
category_path category_id category product_category categories category_name product_type
product_type_name breadcrumb breadcrumbs kategorie kategoriepfad warengruppe produktgruppe rubrik
sortiment categorie famille rayon categoria familia reparto categorie_naam productgroep main_category
category_l1 department section genre genres type class index_group_name taxonomy path
"""
_GROUP = """
item_group_id group_id product_group_id parent_id parent_sku parent_product_id master_id master_sku
model_id style_id style_code variant_group vater_id vaterartikel hauptartikel hauptartikelnummer modell
modele modelo parent parent_asin product_id
"""
_PHOTO = """
image_url image_link photo_url picture_url image image_src img_url img main_image image_1 image1 images
image_urls photo photos picture pictures thumbnail thumbnail_url imurl imageurl bild bild_url bildurl
imgurl picture_link
bilder hauptbild bildlink foto foto_url image_principale url_image imagen url_imagen immagine
url_immagine afbeelding afbeelding_url additional_image_link additional_images gallery media_gallery
picture1 bild1 bild_1
"""
_STOCK = """
in_stock availability available is_in_stock is_available stock_status stock stock_quantity stock_qty
quantity qty inventory inventory_quantity quantity_available on_hand stock_level bestand lagerbestand
lager verfugbarkeit verfugbar lieferbar disponibilite disponible en_stock stock_disponible existencias
disponibilita giacenza voorraad op_voorraad beschikbaarheid
"""
_UPDATED = """
updated_at modified_at last_modified last_updated date_modified update_time updated modified changed_at
aenderungsdatum geandert geandert_am letzte_anderung date_modification fecha_modificacion data_modifica
gewijzigd lastmod last_update
"""
ITEM_NAMES: dict[str, tuple[str, ...]] = {
    "item_id": tuple(_ITEM_ID.split()),
    "title": tuple(_TITLE.split()),
    "description": tuple(_DESCRIPTION.split()),
    "brand": tuple(_BRAND.split()),
    "price": tuple(_PRICE.split()),
    "currency": tuple(_CURRENCY.split()),
    "category_id": tuple(_CATEGORY.split()),
    "item_group_id": tuple(_GROUP.split()),
    "photo_url": tuple(_PHOTO.split()),
    "in_stock": tuple(_STOCK.split()),
    "updated_at": tuple(_UPDATED.split()),
}
ACT_NAMES: dict[str, tuple[str, ...]] = {
    "user_id": tuple(_USER_ID.split()),
    "item_id": tuple(_ITEM_ID.split()),
    "kind": tuple(_KIND.split()),
    "value": tuple(_VALUE.split()),
    "time": tuple(_TIME.split()),
}
_OF_PARENT = ("amount", "value", "text", "current", "gross")
"""What stands beneath a name and is what the name says: `price.amount`."""
_ORDERS = """
order_id order_number order_no orderid invoice invoice_no invoiceno invoice_number invoice_id receipt_id
receipt_no basket_id transaction_id bestellnummer bestellung_id auftragsnummer rechnungsnummer
belegnummer bon_id numero_commande id_commande pedido numero_pedido id_pedido ordine numero_ordine
ordernummer order
"""
_LINES = "lineitem lineitems line_item line_items order_item order_items orderitem order_line order_lines"
_RATINGS = "rating stars score review_score overall bewertung sterne valoracion voto note"
_WEAK = """
id type reference ref path class note data t amount cost text label session_id session device_id
cookie_id email customer_email product_id day count parent sale_price ean gtin isbn upc barcode mpn
handle article label_name
"""
ORDER_NAMES = frozenset(_ORDERS.split())
"""Columns of which a row is part of an order: what was done is buying."""
_ANONYMOUS = """
anonymous_id visitor_id user_pseudo_id client_id full_visitor_id fullvisitorid visitorid distinct_id
device_id cookie_id session_id email customer_email
"""
ANONYMOUS_NAMES = tuple(_ANONYMOUS.split())
"""Who did something, where nobody has logged in."""
_SIZES = ("hi_res hires original full zoom", "large big xl", "", "small thumb thumbnail mini icon tiny xs")
_LINE = re.compile(f"(?:{'|'.join(_LINES.split())})_(?P<of_it>.+)")
RATING_NAMES = frozenset(_RATINGS.split())
WEAK_NAMES = frozenset(_WEAK.split())
"""Names that mean several things: a guess by one of them alone is said to be unsure."""


def spellings(name: str) -> list[str]:
    """How a column, or a path, may be meant: `customer.id` as `customer_id`, then as `id`."""
    whole = plain(name)
    last = name.replace("[]", "").rpartition(".")
    found = [whole]
    if last[1]:
        parent = plain(last[0].rpartition(".")[2])
        single = parent.removesuffix("s")
        found = [f"{single}_{plain(last[2])}", plain(last[2])]
        if plain(last[2]) in _OF_PARENT:
            found.insert(0, single)
    line = _LINE.fullmatch(whole)
    if line is not None:
        found.append(line["of_it"])
    return list(dict.fromkeys([*found, *(one.replace("_", "") for one in found)]))


def is_line_of_order(name: str) -> bool:
    """Whether a column, or a path, says something of one line of an order: `Lineitem sku`."""
    return _LINE.fullmatch(plain(name)) is not None


def rank_of(name: str, words: tuple[str, ...]) -> int | None:
    """The place of a column's name among `words`; None: it is none of them."""
    joined = {word.replace("_", ""): n for n, word in reversed(list(enumerate(words)))}
    places = [joined[one.replace("_", "")] for one in spellings(name) if one.replace("_", "") in joined]
    return min(places, default=None)


def near_rank(name: str, words: tuple[str, ...]) -> int | None:
    """The place of a word that is part of a column's name (`main product image`); None: none is."""
    parts = plain(name.rpartition(".")[2]).split("_")
    runs = {"_".join(parts[a:b]) for a in range(len(parts)) for b in range(a + 1, len(parts) + 1)}
    return min((n for n, word in enumerate(words) if word in runs and len(word) > 2), default=None)


def size_rank(name: str) -> int:
    """The place of a picture by the size that its column's name says, the largest first."""
    words = f"_{plain(name.rpartition('.')[2])}_"
    named = (n for n, sizes in enumerate(_SIZES) if any(f"_{size}_" in words for size in sizes.split()))
    return next(named, _SIZES.index(""))


SMALL = len(_SIZES) - 1
"""The place of pictures that are too small for a main one."""


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
