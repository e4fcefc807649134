"""How prices, categories and facts are said to a shopper."""

import pytest

from etalage.page import wording
from etalage.page.wording import Branch

TREE = [
    ("Bags", 3),
    ("Clothing", 9),
    ("Clothing > Dresses", 4),
    ("Clothing > Dresses > Maxi", 1),
    ("Clothing > Shirts", 5),
    ("Clothing > Shirts > Long", 5),
    ("Clothing for men", 2),
    ("Clothing for men > Ties", 2),
]


@pytest.mark.parametrize(
    ("value", "currency", "said"),
    [
        (12.5, "EUR", "€12.50"),
        (1234.0, "usd", "$1,234.00"),
        (1500.0, "JPY", "¥1,500"),
        (7.25, "SEK", "7.25 SEK"),
        (7.25, None, "7.25"),
        (0.0, "GBP", "£0.00"),
        (None, "EUR", ""),
    ],
)
def test_a_price_is_said_in_its_currency(value: float | None, currency: str | None, said: str) -> None:
    assert wording.price(value, currency) == said


def test_the_tree_is_open_only_on_the_way_to_the_selected_category() -> None:
    assert [b.path for b in wording.branches(TREE, None)] == ["Bags", "Clothing", "Clothing for men"]
    opened = wording.branches(TREE, "Clothing > Dresses")
    assert opened == [
        Branch("Bags", "Bags", 0, 3, False),
        Branch("Clothing", "Clothing", 0, 9, True),
        Branch("Clothing > Dresses", "Dresses", 1, 4, True),
        Branch("Clothing > Dresses > Maxi", "Maxi", 2, 1, False),
        Branch("Clothing > Shirts", "Shirts", 1, 5, False),
        Branch("Clothing for men", "Clothing for men", 0, 2, False),
    ]


def test_breadcrumbs_lead_down_to_the_category() -> None:
    assert wording.crumbs("A > B > C") == [("A", "A"), ("A > B", "B"), ("A > B > C", "C")]
    assert wording.crumbs(None) == []


def test_facts_are_the_attributes_and_the_shops_own_columns() -> None:
    item = {
        "item_id": "i1",
        "title": "Coat",
        "popularity": 3.0,
        "updated_at": "2026-03-01",
        "attributes": {"second_colour": "red", "lined": True, "sizes": ["S", "M"], "empty": ""},
        "made_in": "Portugal",
        "returned": None,
        "weight": 0,
    }
    assert wording.facts(item) == [
        ("Second colour", "red"),
        ("Lined", "yes"),
        ("Sizes", "S, M"),
        ("Made in", "Portugal"),
        ("Weight", "0"),
    ]
    assert wording.facts({"item_id": "i1", "attributes": "not an object"}) == []


def test_amounts_and_durations_are_short() -> None:
    assert wording.amount(1, "item", "items") == "1 item"
    assert wording.amount(1204, "item", "items") == "1,204 items"
    assert wording.took(0.0084) == "8 ms"
    assert wording.took(1.234) == "1.2 s"


def test_acts_and_tiers_are_said_plainly() -> None:
    said = [wording.done(kind) for kind in ("buy", "rating", "lent")]
    assert [*said, wording.done("rating", 4.5)] == ["bought", "rated", "lent", "rated 4.5"]
    known, unknown = wording.tier("popular", True), wording.tier("popular", False)
    assert unknown == f"Nothing is known of this shopper yet. {known}"
    assert wording.tier("collaborative", True) != known and wording.tier("new", True) == "new"


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "<1%"),
        (0.0099, "<1%"),
        (0.01, "1%"),
        (0.934, "93%"),
        (0.99, "99%"),
        (0.9901, ">99%"),
        (1.0, ">99%"),
    ],
)
def test_nothing_that_a_classifier_says_is_certain(share: float, said: str) -> None:
    assert wording.percent(share) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "almost certainly"), (0.75, "very likely"), (0.6, "probably"), (0.2, "perhaps"), (0.1, "hardly")],
)
def test_how_sure_something_is_is_said_in_words(share: float, said: str) -> None:
    assert wording.sureness(share) == said


def test_the_sign_of_a_currency_is_that_of_all_prices_or_none() -> None:
    assert wording.currency_sign(["EUR", "eur", None]) == "€"
    assert wording.currency_sign(["SEK"]) == "SEK"
    assert wording.currency_sign(["EUR", "USD"]) == wording.currency_sign([None]) == ""
