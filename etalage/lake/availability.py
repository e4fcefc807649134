"""Words for whether something can be bought now: those of feeds, of schema.org, of shop systems, and
counts."""

import re
from decimal import Decimal
from typing import Any

from etalage.lake.amounts import read_amount
from etalage.lake.shown import shown

_SCHEMA_ORG = re.compile(r"(?:https?://)?(?:www\.)?schema\.org/", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s_\-/.]+")
_YES_WORDS = """
true t yes y 1 on ja oui si sí instock available availablenow preorder preordered presale
availableforpreorder backorder backordered onbackorder availableonbackorder availablefororder
availabletoorder madetoorder toorder limitedavailability limited lowstock lowinstock fewleft instoreonly
onlineonly auflager lieferbar sofortlieferbar verfügbar disponible enstock
"""
_YES = frozenset(_YES_WORDS.split())
_NO_WORDS = """
false f no n 0 off nein non outofstock notinstock soldout sold unavailable notavailable discontinued
temporarilyoutofstock temporarilyunavailable currentlyunavailable permanentlyunavailable reserved retired
markassold nichtauflager nichtlieferbar nichtverfügbar ausverkauft agotado épuisé rupturedestock
"""
_NO = frozenset(_NO_WORDS.split())


def can_be_bought(value: Any) -> bool | None:
    """Whether a word, a flag or a number of pieces says that the thing can be bought now; empty is None.

    What is ordered now and sent later (preorder, backorder, made to order) can be bought. Case, blanks,
    underscores and hyphens do not matter, nor does `https://schema.org/` before the word. Raises ValueError.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = _BETWEEN.sub("", _SCHEMA_ORG.sub("", value.strip().lower()))
        if word in _YES:
            return True
        if word in _NO:
            return False
        if value == "":
            return None
    if isinstance(value, int | float | Decimal | str):
        try:
            pieces = read_amount(value)
        except ValueError:
            pieces = None
        if pieces is not None and pieces.currency is None:
            return pieces.value > 0
    raise ValueError(
        f"{shown(value)} is neither yes nor no, nor a word for stock; use true or false, or say what it "
        "means: [ingest.items.values.in_stock]"
    )
