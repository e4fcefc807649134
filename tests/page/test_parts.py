"""What the templates are given."""

import pytest

from etalage.page import parts
from etalage.page.place import Place


@pytest.mark.parametrize(
    ("page", "count", "numbers"),
    [
        (1, 2, [1, 2]),
        (1, 9, [1, 2, None, 9]),
        (5, 9, [1, None, 4, 5, 6, None, 9]),
        (9, 9, [1, None, 8, 9]),
        (3, 4, [1, 2, 3, 4]),
    ],
)
def test_pages_near_and_at_the_ends_are_named(page: int, count: int, numbers: list[int | None]) -> None:
    found = parts.pages(Place(page=page), count)
    assert found is not None
    assert [None if one is None else one[0] for one in found.numbers] == numbers
    assert (found.before is None, found.after is None) == (page == 1, page == count)


def test_one_page_needs_no_links() -> None:
    assert parts.pages(Place(), 1) is None and parts.pages(Place(), 0) is None


def test_a_photos_address_escapes_the_id_and_names_the_bundle() -> None:
    assert parts.photo_address("b1", "a/b?c#d", 480) == "/photos/shop/b1/480/a%2Fb%3Fc%23d"
