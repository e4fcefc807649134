"""The funnel of one bundle, against a search written out in plain numpy."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from etalage.api import Act, Answer
from etalage.bundle.draft import DraftedModel
from etalage.config import IndexConfig
from etalage.errors import BundleDamaged, PhotoRefused, Unprocessable
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.history import Acts, Judged
from etalage.features.vocabulary import Vocabulary
from etalage.funnel.browsing import Wish, browse
from etalage.models import item_knn, popularity
from etalage.recommend import Filters, Recommender
from etalage.runtime.item_item import ItemItemScorer
from etalage.runtime.opening import open_scorer
from tests.behaviour_exports import behaviour_export
from tests.shops import (
    BRANDS,
    PHOTO_EMBEDDINGS,
    PHOTO_INDEX,
    behaviour_shop,
    drawn_photo,
    item_row,
    published,
    rows_of,
    small_shop,
)

ITEMS = 40
WITHOUT_PHOTO = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, bundles, manifest = small_shop(tmp_path_factory.mktemp("shop"), ITEMS, without_photo=[WITHOUT_PHOTO])
    return bundles.path(manifest.id)


@pytest.fixture(scope="module")
def recommender(folder: Path) -> Recommender:
    return Recommender.open(folder)


def name(number: int) -> str:
    return f"item-{number:05d}"


def ids(answer: Answer) -> list[str]:
    return [slot.item_id for slot in answer.slate]


def by_hand(folder: Path, query: np.ndarray, allowed: list[int], k: int) -> list[tuple[str, float]]:
    """Item rows are in order of item_id here, so number = row."""
    embeddings = np.load(folder / PHOTO_EMBEDDINGS)[1:]
    scored = sorted((-float(embeddings[n] @ query), n) for n in allowed if n != WITHOUT_PHOTO)
    return [(name(n), -score) for score, n in scored[:k]]


def test_the_slate_of_an_item_is_its_nearest_neighbours_and_never_itself(
    folder: Path, recommender: Recommender
) -> None:
    for number in (0, 3, ITEMS - 1):  # the first and the last row too
        (answer,) = recommender.similar(item_id=name(number), k=5)
        others = [n for n in range(ITEMS) if n != number]
        expected = by_hand(folder, np.load(folder / PHOTO_EMBEDDINGS)[1:][number], others, 5)
        assert ids(answer) == [item_id for item_id, _ in expected]
        np.testing.assert_allclose([s.score for s in answer.slate], [s for _, s in expected], atol=1e-5)
        assert [slot.rank for slot in answer.slate] == [1, 2, 3, 4, 5]
        assert (answer.fallback, answer.reason, answer.row) == (None, None, 0)


def test_the_slate_of_a_photo_starts_with_the_item_that_has_it(recommender: Recommender) -> None:
    answers = recommender.similar(photos=[drawn_photo(9), drawn_photo(2)], k=3)
    assert [(a.row, a.slate[0].item_id) for a in answers] == [(0, name(9)), (1, name(2))]
    assert answers[0].slate[0].score == pytest.approx(1, abs=1e-5)


def test_a_photos_answer_does_not_depend_on_its_neighbours_in_the_request(recommender: Recommender) -> None:
    photos = [drawn_photo(n) for n in (200, 201, 202)]
    together = recommender.similar(photos=photos, k=4)
    for photo, answer in zip(photos, together, strict=True):
        (alone,) = recommender.similar(photos=[photo], k=4)
        assert ids(alone) == ids(answer)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (Filters(category="Clothing"), lambda n: n % 4 in (0, 1)),
        (Filters(category="Clothing > Shirts"), lambda n: n % 4 == 1),
        (Filters(category="Cloth"), lambda n: False),
        (Filters(min_price=20.0), lambda n: 5 + n * 1.25 >= 20),
        (Filters(max_price=20.0), lambda n: 5 + n * 1.25 <= 20),
        (Filters(in_stock=True), lambda n: n % 5 != 0),
        (Filters(in_stock=False), lambda n: n % 5 == 0),
        (Filters("Bags", 10.0, 50.0, True), lambda n: n % 4 == 3 and 4 <= n <= 36 and n % 5 != 0),
    ],
)
def test_a_filter_keeps_exactly_the_items_that_pass_it(
    folder: Path, recommender: Recommender, filters: Filters, passes: Any
) -> None:
    (answer,) = recommender.similar(item_id=name(6), k=ITEMS, filters=filters)
    query = np.load(folder / PHOTO_EMBEDDINGS)[1:][6]
    allowed = [n for n in range(ITEMS) if passes(n) and n != 6]
    assert ids(answer) == [item_id for item_id, _ in by_hand(folder, query, allowed, ITEMS)]


def test_f37_filters_that_exclude_everything_say_what_each_of_them_leaves(recommender: Recommender) -> None:
    filters = Filters(category="Bags", max_price=6.0)
    (answer,) = recommender.similar(item_id=name(6), k=5, filters=filters)
    assert answer.slate == []
    # 38: all 40 but the query and the one without a photo. Bags: 3, 11, …, 39 without 7. Price: 0.
    assert answer.reason == (
        "no item passes the filters: of 38 items with a photo, category 'Bags' leaves 9, max_price 6 leaves 1"
    )


def test_fewer_than_k_comes_with_the_reason(recommender: Recommender) -> None:
    (answer,) = recommender.similar(item_id=name(3), k=500)
    assert len(answer.slate) == 38
    assert answer.reason == "only 38 items with a photo"
    (answer,) = recommender.similar(item_id=name(3), k=10, filters=Filters(category="Bags"))
    assert len(answer.slate) == 8
    assert answer.reason == ("only 8 pass the filters: of 38 items with a photo, category 'Bags' leaves 8")


def test_f31_an_unknown_item_is_answered_with_the_most_popular_in_stock(recommender: Recommender) -> None:
    (answer,) = recommender.similar(item_id="never heard of", k=3)
    # Item 1: two shoppers; item 3: two; item 39: one; all in stock.
    assert answer.fallback == "unknown_item"
    assert [(s.item_id, s.score) for s in answer.slate] == [(name(1), 2), (name(3), 2), (name(39), 1)]
    (bags,) = recommender.similar(item_id="never heard of", k=2, filters=Filters(category="Bags"))
    assert ids(bags) == [name(3), name(39)]
    (rest,) = recommender.similar(item_id="never heard of", k=ITEMS)
    assert set(ids(rest)) == {name(n) for n in range(ITEMS) if n % 5}
    assert rest.reason == "only 32 pass the filters: of 40 items in all, not sold out leaves 32"


def test_an_item_without_photo_is_answered_with_the_most_popular_of_its_category(
    recommender: Recommender,
) -> None:
    (answer,) = recommender.similar(item_id=name(WITHOUT_PHOTO), k=11)
    assert answer.fallback == "item_without_photo"
    # Bags, popular first, then by row: 15 and 35 are out of stock, 7 is the query itself.
    bags = [name(n) for n in (3, 39, 11, 19, 23, 27, 31)]
    assert ids(answer) == [*bags, name(1), name(2), name(4), name(6)]


def test_a_threshold_tells_a_match_from_no_match(recommender: Recommender) -> None:
    (match,) = recommender.similar(photos=[drawn_photo(9)], k=5, threshold=0.999)
    assert ids(match) == [name(9)]
    assert match.reason == "only 1 item is at least as similar as 0.999"
    (nothing,) = recommender.similar(photos=[drawn_photo(777)], k=5, threshold=0.999)
    assert (nothing.slate, nothing.reason) == ([], "no item is at least as similar as 0.999")
    (unknown,) = recommender.similar(item_id="never heard of", k=5, threshold=0.5)
    assert unknown.slate == [] and "no item is at least as similar as 0.5" in str(unknown.reason)


def test_a_photo_that_cannot_be_read_is_refused_with_its_row(recommender: Recommender) -> None:
    with pytest.raises(PhotoRefused, match=r"^row 1: not an image.*; row 3: "):
        recommender.similar(photos=[drawn_photo(1), b"no", drawn_photo(2), drawn_photo(3)[:60]])


def test_a_question_must_be_one_question(recommender: Recommender) -> None:
    with pytest.raises(Unprocessable):
        recommender.similar()
    with pytest.raises(Unprocessable):
        recommender.similar(item_id=name(1), photos=[drawn_photo(1)])
    with pytest.raises(Unprocessable):
        recommender.similar(item_id=name(1), k=0)


def test_an_approximate_index_answers_the_same_questions(tmp_path: Path) -> None:
    config = IndexConfig(kind="ivf_flat", lists=4, probes=4)
    _, bundles, manifest = small_shop(tmp_path, 60, index_config=config)
    folder = bundles.path(manifest.id)
    recommender = Recommender.open(folder)
    (answer,) = recommender.similar(item_id=name(5), k=6, filters=Filters(category="Bags"))
    query = np.load(folder / PHOTO_EMBEDDINGS)[1:][5]
    embeddings = np.load(folder / PHOTO_EMBEDDINGS)[1:]
    bags = sorted((-float(embeddings[n] @ query), n) for n in range(60) if n % 4 == 3)[:6]
    assert ids(answer) == [name(n) for _, n in bags]


def test_browsing_finds_every_word_whatever_its_case(recommender: Recommender) -> None:
    catalogue = recommender.catalogue
    found = browse(catalogue, Wish("PIECE short ardent"), 0, 100)
    # Short sleeves: n % 4 == 1; Ardent: n % 3 == 0.
    assert [catalogue.ids[row] for row in found.rows] == [name(9), name(21), name(33)]
    assert (found.total, found.instead, found.brands) == (3, None, [])
    found = browse(catalogue, Wish(filters=Filters(in_stock=False)), 2, 3)
    assert ([catalogue.ids[row] for row in found.rows], found.total) == ([name(10), name(15), name(20)], 8)
    assert browse(catalogue, Wish("sandwich"), 0, 10).total == 0


def test_a_word_that_nobody_has_is_read_as_the_nearest_one_if_that_is_wished_for(
    recommender: Recommender,
) -> None:
    catalogue = recommender.catalogue
    found = browse(catalogue, Wish("peice SHORD ardent", forgiving=True), 0, 100)
    assert [catalogue.ids[row] for row in found.rows] == [name(9), name(21), name(33)]
    assert found.instead == "piece short ardent"
    assert browse(catalogue, Wish("peice ardent"), 0, 100).total == 0
    nothing = browse(catalogue, Wish("peice sandwich", forgiving=True), 0, 100)
    assert (nothing.total, nothing.instead) == (0, "piece sandwich")


def test_brands_are_counted_whatever_brand_is_asked_for(recommender: Recommender) -> None:
    catalogue = recommender.catalogue
    wish = Wish("short", Filters(brand="Ardent", max_price=40.0))
    found = browse(catalogue, wish, 0, 100, brands=True)
    short = [n for n in range(28) if n % 4 == 1]
    assert found.total == len([n for n in short if n % 3 == 0])
    assert found.brands == sorted(
        ((brand, len([n for n in short if n % 3 == k])) for k, brand in enumerate(BRANDS)),
        key=lambda pair: (-pair[1], pair[0]),
    )


def test_items_are_sorted_by_price_and_title_and_what_has_none_comes_last(recommender: Recommender) -> None:
    catalogue = recommender.catalogue
    priced = catalogue.stock_after(
        {name(4): {"price": 0.5, "time": 2**60}, name(5): {"price": float("nan"), "time": 2**60}}
    )
    by = {
        sort: [catalogue.ids[row] for row in browse(catalogue, Wish(sort=sort), 0, 100, priced).rows]
        for sort in ("price", "-price", "title")
    }
    rest = [name(n) for n in range(40) if n not in (4, 5)]
    assert by["price"] == [name(4), *rest, name(5)]
    assert by["-price"] == [*rest[::-1], name(4), name(5)]
    titles = sorted(range(40), key=lambda n: f"piece {n}")
    assert by["title"] == [name(n) for n in titles]


def test_the_category_tree_counts_what_is_beneath(recommender: Recommender) -> None:
    assert recommender.catalogue.categories() == [
        ("Bags", 10),
        ("Clothing", 20),
        ("Clothing > Dresses", 10),
        ("Clothing > Shirts", 10),
        ("Clothing > Shirts > Short sleeves", 10),
        ("Shoes", 10),
        ("Shoes > Boots", 10),
    ]


def test_a_photo_is_served_as_it_was_ingested(recommender: Recommender) -> None:
    row = recommender.catalogue.known_row(name(12))
    assert recommender.catalogue.photo(row) == drawn_photo(12)


@pytest.mark.parametrize(
    "file", ["items.arrow", f"{PHOTO_INDEX}/index.json", "models/image_similarity/model.onnx"]
)
def test_f13_a_bundle_with_a_flipped_byte_is_not_opened(tmp_path: Path, folder: Path, file: str) -> None:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 4
    (copy / file).chmod(0o644)
    (copy / file).write_bytes(bytes(content))
    with pytest.raises(BundleDamaged, match=file):
        Recommender.open(copy)


def test_f45_photos_that_are_too_large_together_are_refused_before_decoding(
    recommender: Recommender,
) -> None:
    sink = io.BytesIO()
    Image.new("1", (5000, 5000)).save(sink, "PNG")
    assert len(recommender.similar(photos=[sink.getvalue()], k=2)) == 1
    with pytest.raises(PhotoRefused, match="2 photos have 50,000,000 pixels together"):
        recommender.similar(photos=[sink.getvalue()] * 2, k=2)


# -- the whole way -----------------------------------------------------------------------------


def test_what_is_served_by_counted_models_is_what_their_exports_score(tmp_path: Path) -> None:
    """Counted on some items, published with others: items are found by their id, scores stay the same."""
    known = [name(n) for n in range(1, 31)]
    rng = np.random.default_rng(8)
    users = np.repeat(np.arange(1, 41), 8)
    items = (users + rng.integers(0, 7, len(users)) ** 2) % 30 + 1  # acts of one shopper are near each other
    acts = Interactions.sorted(users, items, times=np.arange(len(users)))
    data = BehaviourSet(Vocabulary([f"u{n}" for n in range(40)]), Vocabulary(known), (), {"train": acts})
    exports = []
    for recipe in (item_knn.RECIPE, popularity.RECIPE):
        counted = recipe.bind(recipe.config(), data).count()
        folder = tmp_path / "exports" / recipe.name / "0001-counted"
        behaviour_export(
            folder, recipe.name, counted.scoring, counted.arrays, known, settings=counted.settings
        )
        exports.append(DraftedModel(folder))
    _, bundles, manifest = behaviour_shop(tmp_path / "shop", 40, models=(), extra=exports)
    shop = Recommender.open(bundles.path(manifest.id))
    offline = open_scorer(exports[0].export)
    assert isinstance(offline, ItemItemScorer)
    for history in ([5], [3, 17, 9], [30, 2]):
        rows = offline.items.rows([name(n) for n in history])
        told = Acts.of_one(rows.tolist(), ["view"] * len(rows), [None] * len(rows), rows.tolist())
        asked = Judged(told, shop.funnel.rules).histories(1)
        scores = offline.scores(offline.ask(np.zeros(1, np.int64), asked, rows[-1:]))[0]
        allowed = [n for n in range(1, 31) if scores[n] > 0 and n % 5]
        expected = sorted(allowed, key=lambda n: -scores[n])[:4]
        found = shop.recommend(history=[Act(name(n)) for n in history], k=4)
        assert [slot.item_id for slot in found.slate] == [name(n) for n in expected]
        explained = shop.recommend(history=[Act(name(n)) for n in history], k=4, explain=True).slate
        served = [slot.trace["retrievers"]["item_knn"] for slot in explained if slot.trace]
        np.testing.assert_allclose(served, scores[expected], rtol=1e-5)
    shoppers = np.bincount(np.unique(np.stack([users, items]), axis=1)[1], minlength=31)
    bestseller = int(shoppers[[n for n in range(31) if n % 5]].argmax())
    strangers = shop.recommend(k=1).slate[0].item_id
    assert strangers == name([n for n in range(31) if n % 5][bestseller])


@pytest.fixture(scope="module")
def of_variants(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Ten products: four with five variants each, six of a kind alone and without a product's id."""
    folder = tmp_path_factory.mktemp("variants")
    lake, bundles, _ = small_shop(folder, 26, without_photo=[WITHOUT_PHOTO])
    groups = [item_row(n, item_group_id=f"tee-{n // 5}") for n in range(20)]
    lake.table("items").merge(rows_of("items", groups))
    manifest = published(lake, bundles, folder / "exports" / "image_similarity" / "0001-tiny")
    return Recommender.open(bundles.path(manifest.id))


def products(answer: Answer) -> list[str]:
    numbers = [int(one.removeprefix("item-")) for one in ids(answer)]
    return [f"tee-{n // 5}" if n < 20 else f"alone {n}" for n in numbers]


@pytest.mark.parametrize("asked", [3, WITHOUT_PHOTO, 21])
def test_what_is_like_an_item_has_one_variant_a_product_and_none_of_its_own(
    of_variants: Recommender, asked: int
) -> None:
    (answer,) = of_variants.similar(item_id=name(asked), k=5)
    found = products(answer)
    assert len(set(found)) == len(found) == 5
    assert products(of_variants.similar(item_id=name(asked), k=26)[0])[:5] == found
    own = f"tee-{asked // 5}" if asked < 20 else f"alone {asked}"
    (whole,) = of_variants.similar(item_id=name(asked), k=26)
    everything = {*(f"tee-{n}" for n in range(4)), *(f"alone {n}" for n in range(20, 26))}
    if asked == WITHOUT_PHOTO:  # by popularity: what is sold out is no answer then
        everything -= {"alone 20", "alone 25"}
    assert sorted(products(whole)) == sorted(everything - {own})
    assert "variants of what is shown or asked about" in str(whole.reason)


def test_photos_find_the_best_variant_of_each_product(of_variants: Recommender) -> None:
    answers = of_variants.similar(photos=[drawn_photo(12), drawn_photo(23)], k=6)
    assert [ids(answer)[0] for answer in answers] == [name(12), name(23)]
    assert all(len(set(products(answer))) == 6 for answer in answers)
    assert answers[0].reason is None
