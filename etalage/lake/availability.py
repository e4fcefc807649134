"""Words for whether something can be bought now: those of feeds, of schema.org, of shop systems, and
counts."""

import re
from decimal import Decimal
from typing import Any

from etalage.lake.amounts import read_amount
from etalage.lake.shown import shown
from etalage.lake.spreadsheets import bare

_SCHEMA_ORG = re.compile(r"(?:https?://)?(?:www\.)?schema\.org/", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s_\-/.]+")
_YES_WORDS = """
true t yes y 1 on ja j oui si sí da tak sim sann verdadero vrai vero wahr waar prawda ✓ ✔ ✅
instock available availablenow preorder preordered presale availableforpreorder backorder backordered
onbackorder availableonbackorder availablefororder availabletoorder madetoorder toorder limitedavailability
limited limitedstock lowstock lowinstock fewleft instoreonly onlineonly onhand auflager lieferbar
sofortlieferbar sofortverfügbar vorbestellbar vorbestellung nachbestellbar bestellbar lagernd lagerware
verfügbar vorrätig disponible enstock disponibile disponível emestoque emstock inmagazzino
opvoorraad voorradig leverbaar ilager finnsilager pålager dostępny dostępna dostępne wmagazynie skladem
nastanie enexistencia есть да вналичии 有货 在庫あり
"""
_YES = frozenset(_YES_WORDS.split())
_NO_WORDS = """
false f no n 0 off nein non nej nee não nie falskt falsk falso faux falsch onwaar fałsz ✗ ✘ ❌
outofstock notinstock nostock soldout sold unavailable notavailable discontinued temporarilyoutofstock
temporarilyunavailable currentlyunavailable permanentlyunavailable reserved retired markassold endoflife
nichtauflager nichtlagernd nichtlieferbar nichtverfügbar nichtvorrätig ausverkauft agotado agotada sinstock
épuisé épuisée rupturedestock indisponible nodisponible nondisponible esaurito esaurita esgotado esgotada
indisponível uitverkocht nietopvoorraad nietleverbaar slutsåld slutilager udsolgt utsolgt ikkepålager
niedostępny niedostępna niedostępne brak vyprodáno нет нетвналичии 缺货 無货 在庫なし
"""
_NO = frozenset(_NO_WORDS.split())
_SIGNED = re.compile(r"\s*[-−]")
"""Fewer than none: `-1` of what was sold more often than it was there."""
_PIECES = re.compile(
    r"(?:only|just|noch|nur|over|über|more than|mehr als|plus de|>=?|≥"
    r"|(?:in stock|available|auf lager|lagernd|verfügbar|vorrätig|en stock|i lager|på lager)\s*[:(]?)?\s*"
    r"(?P<count>[\d.,]+)\s*[+)]?\s*"
    r"(?:x|stk\.?|st\.?|stück|pcs\.?|pc\.?|pieces?|pièces?|units?|items?|szt\.?|ks)?\s*"
    r"(?:in stock|left|available|auf lager|am lager|lagernd|verfügbar|vorhanden|vorrätig|en stock|i lager"
    r"|på lager)?\)?",
    re.IGNORECASE,
)
"""A number of pieces, with words beside it: `> 10`, `12 Stück`, `only 3 left`, `In stock (5)`."""


def can_be_bought(value: Any) -> bool | None:
    """Whether a word, a flag or a number of pieces says that the thing can be bought now; empty is None.

    What is ordered now and sent later (preorder, backorder, made to order) can be bought. Case, blanks,
    underscores and hyphens do not matter, nor does `https://schema.org/` before the word. Raises ValueError.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        value = bare(value) if value[:1] in ("'", "=") else value
        word = _BETWEEN.sub("", _SCHEMA_ORG.sub("", value.strip().lower()))
        if word in _YES and not _SIGNED.match(value):
            return True
        if word in _NO:
            return False
        if value == "":
            return None
    if isinstance(value, int | float | Decimal | str):
        found = _PIECES.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 40 else None
        try:
            # 1.000 and 1,000 pieces are some, whichever is meant.
            pieces = read_amount(value if found is None else found["count"], None, ".")
        except ValueError:
            pieces = None
        if pieces is not None and pieces.currency is None:
            return pieces.value > 0
    raise ValueError(
        f"{shown(value)} is neither yes nor no, nor a word for stock; use true or false, or say what it "
        "means: [ingest.items.values.in_stock]"
    )
