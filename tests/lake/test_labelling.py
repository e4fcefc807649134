"""Which category an item carries itself, and what is told of those that carry none."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.category_text import read_map
from etalage.lake.labelling import (
    NOTHING,
    OUTSIDE,
    PATH,
    RETIRED,
    UNKNOWN,
    UNMAPPED,
    CategoryReader,
    CategoryReading,
    GivenCategory,
)
from etalage.lake.taxonomy import Taxonomy

ROWS = (
    ("1", -1, "Food"), ("10", 0, "Fruit"), ("11", 1, "Apples"), ("12", 0, "Bread"),
    ("2", -1, "Gifts"), ("20", 4, "Gift Cards"), ("21", 4, "Ribbons"),
)  # fmt: skip
GERMAN = {"1": "Essen", "11": "Essen > Obst > Äpfel"}
OLDER = {"11": "Food > Fruit > Apple", "900": "Food > Tapes"}
MAP = "merchant,category,id\nAnn,Obst,10\nAnn,Kurse,outside\n,Services > Wrapping,21\n"


def row(id: str) -> int:
    return [one for one, _, _ in ROWS].index(id)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> CategoryReader:
    tree = Taxonomy([id for id, _, _ in ROWS], [n for _, _, n in ROWS], np.array([up for _, up, _ in ROWS]))
    made = CategoryReader(tree, [GERMAN], [OLDER], ["20", "Kurzwaren"])
    file: Path = tmp_path_factory.mktemp("map") / "map.csv"
    file.write_text(MAP, encoding="utf-8")
    made.map = read_map(tree, file, made.book)
    return made


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (GivenCategory("11", "Ann", "Food > Bread"), CategoryReading(row("11"), "given")),
        (GivenCategory(" 11 ", None, None), CategoryReading(row("11"), "given")),
        (GivenCategory("food > fruit", None, None), CategoryReading(row("10"), "given")),
        (GivenCategory("Essen > Obst > Äpfel", None, None), CategoryReading(row("11"), "given")),
        (GivenCategory("Food > Fruit > Apple", None, None), CategoryReading(row("11"), "given")),
        (GivenCategory(None, "Ann", "OBST"), CategoryReading(row("10"), "mapped")),
        (GivenCategory(None, "Bob", "Services > Wrapping"), CategoryReading(row("21"), "mapped")),
        (GivenCategory(None, "Bob", "food > bread"), CategoryReading(row("12"), "exact")),
        (GivenCategory(None, "Bob", "APPLES"), CategoryReading(row("11"), "ending")),
        (GivenCategory(None, "Bob", "Fruit / Apples"), CategoryReading(row("11"), "ending")),
        (GivenCategory(None, "Bob", "Obst > Äpfel"), CategoryReading(row("11"), "ending")),
    ],
)
def test_the_surest_way_counts(reader: CategoryReader, said: GivenCategory, told: CategoryReading) -> None:
    assert reader.surely(said) == told


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (GivenCategory("900", None, None), RETIRED),
        (GivenCategory("Food > Tapes", None, None), RETIRED),
        (GivenCategory("777", None, None), UNKNOWN),
        (GivenCategory("0011", None, None), UNKNOWN),
        (GivenCategory("Food > Cake", None, None), PATH),
        (GivenCategory(None, "Bob", "Obst"), UNMAPPED),
        (GivenCategory(None, "Bob", None), NOTHING),
    ],
)
def test_what_cannot_be_known_is_told(reader: CategoryReader, said: GivenCategory, reason: str) -> None:
    assert reader.surely(said) == CategoryReading(-1, None, (reason,))


@pytest.mark.parametrize(
    "said",
    [
        GivenCategory(None, "Bob", "Services > Repairs of apples"),
        GivenCategory(None, "Bob", "TRAVEL/Hotels"),
        GivenCategory("Services > Repairs", None, None),
        GivenCategory(None, "Ann", "Kurse"),
        GivenCategory(None, "Bob", "Kurzwaren > Knöpfe"),
        GivenCategory("20", None, None),
        GivenCategory(None, None, "Gifts > Gift Cards"),
    ],
)
def test_what_is_no_retail_is_outside_and_has_no_label(reader: CategoryReader, said: GivenCategory) -> None:
    told = reader.surely(said)
    assert told.outside
    assert (told.row, told.how) == (-1, None)


def test_an_ending_of_several_paths_says_nothing() -> None:
    rows = (("1", -1, "Men"), ("2", -1, "Women"), ("10", 0, "Shoes"), ("20", 1, "Shoes"))
    tree = Taxonomy([id for id, _, _ in rows], [n for _, _, n in rows], np.array([up for _, up, _ in rows]))
    said = [GivenCategory(None, None, path) for path in ("Shoes", "Women / shoes", "Sale > Women > Shoes")]
    told = CategoryReader(tree).tell(said)
    assert [(one.row, one.how) for one in told.values()] == [(-1, None), (3, "exact"), (-1, None)]


def test_an_ending_counts_behind_what_is_outside(reader: CategoryReader) -> None:
    assert reader.surely(GivenCategory(None, "Bob", "Gift cards")).outside


def test_a_known_id_says_more_than_the_shelf_that_it_stands_on(reader: CategoryReader) -> None:
    assert reader.surely(GivenCategory("21", "Bob", "Services > Wrapping paper")) == CategoryReading(
        row("21"), "given"
    )


def test_f51_an_unknown_id_is_told_even_where_a_map_or_a_path_knows_better(reader: CategoryReader) -> None:
    assert reader.surely(GivenCategory("777", "Ann", "Obst")) == CategoryReading(
        row("10"), "mapped", (UNKNOWN,)
    )
    assert reader.surely(GivenCategory("900", "Bob", "Food > Bread")) == CategoryReading(
        row("12"), "exact", (RETIRED,)
    )
    assert reader.surely(GivenCategory("900", "Bob", "Services > X")) == CategoryReading(
        -1, None, (RETIRED, OUTSIDE)
    )


def test_similar_wording_is_asked_for_and_from_where_it_is_asked_for(reader: CategoryReader) -> None:
    said = GivenCategory(None, "Bob", "Fresh fruit / Apples")
    assert reader.tell([said])[said] == CategoryReading(-1, None, (UNMAPPED,))
    assert reader.tell([said], 0.3)[said] == CategoryReading(row("11"), "similar")
    assert reader.tell([said], 1.0)[said] == CategoryReading(-1, None, (UNMAPPED,))


def test_an_item_with_an_unknown_or_retired_id_gets_no_similar_category(reader: CategoryReader) -> None:
    said = [GivenCategory(id, "Bob", "Fresh fruit / Apples") for id in ("777", "900", "Food > Cake")]
    told = reader.tell(said, 0.01)
    assert [told[one] for one in said] == [
        CategoryReading(-1, None, (why,)) for why in (UNKNOWN, RETIRED, PATH)
    ]


def test_what_is_most_similar_to_something_outside_is_outside(reader: CategoryReader) -> None:
    said = GivenCategory(None, "Bob", "Gift card")
    assert reader.tell([said], 0.3)[said].outside


texts = st.none() | st.sampled_from(
    ["11", "900", "Food > Fruit", "Obst", "Kurse", "Services > X", "Äpfel"]
) | st.text(min_size=1, max_size=12)  # fmt: skip


@given(
    said=st.builds(GivenCategory, texts, st.sampled_from([None, "Ann", "Bob"]), texts),
    least=st.floats(0.01, 1),
)
def test_an_item_has_either_a_label_or_a_reason_why_not(
    reader: CategoryReader, said: GivenCategory, least: float
) -> None:
    told = reader.tell([said], least)[said]
    assert (told.row >= 0) == (told.how is not None)
    assert told.row >= 0 or told.reasons
    assert not (told.outside and told.row >= 0)
