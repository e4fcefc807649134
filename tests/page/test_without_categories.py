"""The page of a shop that has no classifier: nothing of it shows, and nothing breaks."""

from tests.page.conftest import Visitor, shown
from tests.shops import drawn_photo


def test_without_a_classifier_there_is_no_second_tree_and_no_answer_beside_a_photo(visitor: Visitor) -> None:
    page = visitor.get()
    assert len(shown(page, "grid")) == 30
    assert page.all("#classified") == [] and page.all(".aside-link") == []
    page, _ = visitor.upload(drawn_photo(17))
    assert len(shown(page, "like-photo")) == 30 and page.all(".told") == []


def test_the_page_of_categories_says_that_nothing_was_measured(visitor: Visitor) -> None:
    page = visitor.get("/?view=categories", status=404)
    assert page.one(".notice h1").text == "Nothing was measured yet"
    assert "etalage evaluate item_category" in page.one(".detail p").text
