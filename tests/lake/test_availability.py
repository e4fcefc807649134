"""Words for stock."""

from typing import Any

import pytest

from etalage.lake.availability import can_be_bought


@pytest.mark.parametrize(
    "word",
    ["in stock", "in_stock", "In Stock", "instock", "available", "preorder", "pre-order", "backorder",
     "onbackorder", "available for order", "limited availability", "LimitedAvailability", "https://schema.org/InStock",
     "http://schema.org/PreOrder", "schema.org/BackOrder", "yes", "TRUE", "1", 1, True, "12", 12, "5.0",
     "ja", "J", "WAHR", "VRAI", "Auf Lager", "på lager", "op voorraad", "disponibile", "✓", "> 10", "10+",
     "12 Stück", "5 in stock", "only 3 left", "noch 2 auf Lager", "1.000", "1,000 pcs", "'12", "12 x",
     "vorbestellbar", "lagernd", "In stock (5)", "Auf Lager: 5 Stück"],
)  # fmt: skip
def test_what_can_be_bought_now_even_if_it_is_sent_later(word: Any) -> None:
    assert can_be_bought(word) is True


@pytest.mark.parametrize(
    "word",
    ["out of stock", "out_of_stock", "OutOfStock", "sold out", "discontinued", "https://schema.org/SoldOut",
     "https://schema.org/Discontinued", "no", "false", "0", 0, False, -2, "0.0",
     "nein", "FALSCH", "nicht auf Lager", "utsolgt", "uitverkocht", "esaurito", "нет", "0 in stock", "0 pcs",
     "-1", " -1 ", "−1", "-1.0", "In stock (0)", "nicht lagernd"],
)  # fmt: skip
def test_what_cannot(word: Any) -> None:
    assert can_be_bought(word) is False


def test_nothing_is_nothing_and_other_words_name_the_setting() -> None:
    assert can_be_bought(None) is None and can_be_bought("") is None
    for word in (
        "perhaps",
        "5 EUR",
        "< 5",
        "in 3 days",
        "x",
        "(5)",
        "on request",
        "1.2.3",
        [],
        "https://schema.org/",
    ):
        with pytest.raises(ValueError, match=r"\[ingest.items.values.in_stock\]"):
            can_be_bought(word)
