"""Where the shopper is, as it stands in the address bar."""

import pytest

from etalage.page.place import NO_PHOTO, Place

EVERYTHING = Place(
    item="a/b?c=d&e",
    for_shopper=True,
    shopper="no one & nobody",
    photo="0123456789abcdefABC_-x",
    search="wool coat",
    category="Clothing > Coats & jackets",
    classified="Apparel > Outerwear",
    brand="Ardent & sons",
    sort="-price",
    same_colour=True,
    in_stock=True,
    min_price=10.05,
    max_price=1234567.89,
    page=3,
)


def test_a_place_is_read_back_from_its_address() -> None:
    assert Place.from_query(EVERYTHING.to_query()) == EVERYTHING
    assert Place.from_query({}) == Place()
    assert Place().to_query() == {}
    told = Place(for_categories=True)
    assert told.to_query() == {"view": "categories"} and Place.from_query(told.to_query()) == told


@pytest.mark.parametrize(
    "query",
    [
        {"page": "0"},
        {"page": "-2"},
        {"page": "1e3"},
        {"page": "²"},
        {"page": "9" * 5000},
        {"min_price": "nan", "max_price": "inf"},
        {"min_price": "-1", "max_price": "cheap"},
        {"item": "", "category": "", "in_stock": "yes", "photo": "", "view": "grid"},
        {"sort": "score", "brand": "", "colour": "red"},
        {"something": "else"},
    ],
)
def test_an_address_that_makes_no_sense_asks_nothing(query: dict[str, str]) -> None:
    assert Place.from_query(query) == Place()


def test_a_photo_that_never_was_is_asked_for_by_no_name_of_its_own() -> None:
    assert Place.from_query({"photo": "../../etc"}) == Place(photo=NO_PHOTO)


def test_filters_hold_only_what_is_asked() -> None:
    assert Place(search="coat", page=2).filters() == {}
    assert Place(classified="A > B", item="x").filters() == {"classified": "A > B"}
    assert Place(min_price=0.0, in_stock=True).filters() == {"in_stock": True, "min_price": 0.0}


def test_a_search_is_not_counted_among_the_filters() -> None:
    assert Place(search="coat").filter_count == 0
    assert Place(search="coat", category="Bags", in_stock=True).filter_count == 2


def test_a_search_is_a_filter_of_the_grid_too() -> None:
    assert Place(search="coat").is_filtered
    assert Place(category="Bags").is_filtered
    assert not Place(page=2, item="item-1").is_filtered


def test_an_address_is_the_place_and_another_filter_begins_at_the_first_page() -> None:
    here = Place(category="A > B", page=3, search="wool coat")
    assert here.address() == "/?q=wool+coat&category=A+%3E+B&page=3"
    assert here.narrowed(brand="Ardent") == "/?q=wool+coat&category=A+%3E+B&brand=Ardent"
    assert Place().address() == "/" and here.within(classified="X") == "/?classified=X"
