"""One meaning of behaviour: what shops reported, with the right value."""

from tests.cases.conftest import Play


def test_behaviour_weights_weigh(play: Play) -> None:
    slate = play("behaviour_weights_have_no_weight").last("recommend")
    assert slate.items == ["bought", "viewed"]
    # Seven shoppers bought, eleven viewed: shopper z counts too, since it is fitted on everything.
    assert "70.0000" in slate.text and "11.0000" in slate.text


def test_what_was_bought_does_not_come_back_after_any_number_of_views(play: Play) -> None:
    assert "p1" not in play("bought_comes_back_after_many_views").last("recommend").items


def test_what_was_disliked_is_kept_off_the_slate(play: Play) -> None:
    slate = play("disliked_item_first").last("recommend").items
    assert "p3" not in slate
    assert len(slate) == 3


def test_what_is_popular_now_knows_the_newest_acts(play: Play) -> None:
    slate = play("newest_fifth_never_learned").last("recommend")
    assert slate.items[0] == "hit"
    assert "8.0000" in slate.text


def test_a_crawler_makes_nothing_popular(play: Play) -> None:
    assert play("one_bot_makes_it_popular").last("recommend").items[0] == "p1"


def test_a_purchase_by_any_common_name_is_a_purchase(play: Play) -> None:
    assert sorted(play("purchase_is_not_buy").last("recommend").items) == ["p3", "p4", "p5"]


def test_a_threshold_of_stars_leaves_quantities_alone(play: Play) -> None:
    slate = play("stars_threshold_hits_purchases").last("recommend")
    assert slate.items == ["bought", "rated"]
    assert "12.0000" in slate.text


def test_one_variant_of_a_product_stands_for_all(play: Play) -> None:
    slate = play("variants_fill_the_slate").last("recommend").items
    assert sorted(slate)[:2] == ["mug", "rug"]
    assert len(slate) == 3
