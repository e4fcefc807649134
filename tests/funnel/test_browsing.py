"""Searches of several words, each of which may have a slip."""

from collections.abc import Sequence

import pyarrow as pa
import pytest

from etalage.funnel.browsing import Wish, browse
from etalage.funnel.catalogue import Catalogue

FILMS = ("Toy Story (1995)", "Toy Soldiers", "Matrix, The (1999)")


def catalogue_of(titles: Sequence[str | None], **more: Sequence[str | None]) -> Catalogue:
    columns = {
        "item_id": [f"f{n}" for n in range(len(titles))],
        "title": list(titles),
        **dict.fromkeys(("category_id", "photo_sha256"), pa.nulls(len(titles), pa.string())),
        **dict.fromkeys(("popularity", "price"), pa.nulls(len(titles), pa.float64())),
        "in_stock": pa.nulls(len(titles), pa.bool_()),
        **more,
    }
    photos = pa.table({"sha256": pa.array([], pa.string()), "bytes": pa.array([], pa.binary())})
    return Catalogue(pa.table(columns), photos)


@pytest.mark.parametrize(
    ("typed", "read", "rows"),
    [
        ("toy stori", "toy story", [1]),
        ("toy soldirs", "toy soldiers", [2]),
        ("matrx", "matrix", [3]),
        ("stori soldirs", "stori soldiers", []),
    ],
)
def test_each_word_with_a_slip_is_read_as_the_nearest(typed: str, read: str, rows: list[int]) -> None:
    # `stori` stands within a word of another film: it is a slip only beside `toy`.
    found = browse(catalogue_of([*FILMS, "True Stories"]), Wish(typed, forgiving=True), 0, 5)
    assert (found.instead, found.rows.tolist()) == (read, rows)


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("metrx", "matrix"),
        ("toy matrix", "matrix"),
        ("stori soldirs", "soldiers"),
        ("qqqqq", None),
        ("matrix", None),
    ],
)
def test_where_nothing_is_found_a_search_is_proposed_that_finds_something(
    typed: str, proposed: str | None
) -> None:
    found = browse(catalogue_of([*FILMS, "True Stories"]), Wish(typed, forgiving=True), 0, 5)
    assert found.proposed == proposed and (proposed is None) == (typed in ("matrix", "qqqqq"))
    assert proposed is None or found.total == 0
    assert browse(catalogue_of(FILMS), Wish(typed), 0, 5).proposed is None


def test_words_that_stand_within_others_are_left_as_they_are_where_some_item_has_them_all() -> None:
    found = browse(catalogue_of([*FILMS, "True Stories"]), Wish("tru stori", forgiving=True), 0, 5)
    assert (found.instead, found.rows.tolist()) == (None, [4])


def test_an_item_without_a_title_is_called_by_its_brand_and_category_else_by_its_id() -> None:
    titles, brands = ["Toy Story", None, None, None], ["Pixar", "Pixar", None, None]
    films = catalogue_of(titles, brand=brands, category_id=["Film", "Film > Toys", "Film > War", None])
    assert [films.title(row) for row in (1, 2, 3, 4)] == ["Toy Story", "Pixar · Toys", "War", "f3"]
    assert films.own_title(2) is None
