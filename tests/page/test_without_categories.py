"""The page of a shop that has no classifier: nothing of it shows, and nothing breaks."""

from etalage.client import Client
from tests.page.conftest import Visit
from tests.page.test_storefront import GRID, expect_ids, expect_part, expect_text, ids_of
from tests.shops import drawn_photo


def test_without_a_classifier_there_is_no_second_tree_and_no_answer_beside_a_photo(
    visit: Visit, client: Client
) -> None:
    page = visit()
    expect_ids(page, GRID, ids_of(client.items(limit=30).items))
    assert page.locator(".st-key-told-tree").count() == 0
    assert page.get_by_role("button", name="What is taken for what").count() == 0
    photo = {"name": "mine.png", "mimeType": "image/png", "buffer": drawn_photo(17)}
    page.locator("input[type=file]").set_input_files(photo)
    page.locator(".st-key-like-photo .card").first.wait_for()
    assert page.locator(".told").count() == 0


def test_the_page_of_categories_says_that_nothing_was_measured(visit: Visit) -> None:
    page = visit("?view=categories")
    expect_text(page, ".notice h2", "Nothing was measured yet")
    expect_part(page, ".notice .detail", "etalage evaluate item_category")
