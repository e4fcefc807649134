"""Which category an item carries itself, and what is told of those that carry none."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.category_text import read_map
from etalage.lake.labelling import NOTHING, OUTSIDE, PATH, RETIRED, UNKNOWN, UNMAPPED, Reader, Said, Told
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
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    tree = Taxonomy([id for id, _, _ in ROWS], [n for _, _, n in ROWS], np.array([up for _, up, _ in ROWS]))
    made = Reader(tree, [GERMAN], [OLDER], ["20", "Kurzwaren"])
    file: Path = tmp_path_factory.mktemp("map") / "map.csv"
    file.write_text(MAP, encoding="utf-8")
    made.map = read_map(tree, file, made.book)
    return made


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Said("11", "Ann", "Food > Bread"), Told(row("11"), "given")),
        (Said(" 11 ", None, None), Told(row("11"), "given")),
        (Said("food > fruit", None, None), Told(row("10"), "given")),
        (Said("Essen > Obst > Äpfel", None, None), Told(row("11"), "given")),
        (Said("Food > Fruit > Apple", None, None), Told(row("11"), "given")),
        (Said(None, "Ann", "OBST"), Told(row("10"), "mapped")),
        (Said(None, "Bob", "Services > Wrapping"), Told(row("21"), "mapped")),
        (Said(None, "Bob", "food > bread"), Told(row("12"), "exact")),
        (Said(None, "Bob", "APPLES"), Told(row("11"), "ending")),
        (Said(None, "Bob", "Fruit / Apples"), Told(row("11"), "ending")),
        (Said(None, "Bob", "Obst > Äpfel"), Told(row("11"), "ending")),
    ],
)
def test_the_surest_way_counts(reader: Reader, said: Said, told: Told) -> None:
    assert reader.surely(said) == told


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said("900", None, None), RETIRED),
        (Said("Food > Tapes", None, None), RETIRED),
        (Said("777", None, None), UNKNOWN),
        (Said("0011", None, None), UNKNOWN),
        (Said("Food > Cake", None, None), PATH),
        (Said(None, "Bob", "Obst"), UNMAPPED),
        (Said(None, "Bob", None), NOTHING),
    ],
)
def test_what_cannot_be_known_is_told(reader: Reader, said: Said, reason: str) -> None:
    assert reader.surely(said) == Told(-1, None, (reason,))


@pytest.mark.parametrize(
    "said",
    [
        Said(None, "Bob", "Services > Repairs of apples"),
        Said(None, "Bob", "TRAVEL/Hotels"),
        Said("Services > Repairs", None, None),
        Said(None, "Ann", "Kurse"),
        Said(None, "Bob", "Kurzwaren > Knöpfe"),
        Said("20", None, None),
        Said(None, None, "Gifts > Gift Cards"),
    ],
)
def test_what_is_no_retail_is_outside_and_has_no_label(reader: Reader, said: Said) -> None:
    told = reader.surely(said)
    assert told.outside
    assert (told.row, told.how) == (-1, None)


def test_an_ending_of_several_paths_says_nothing() -> None:
    rows = (("1", -1, "Men"), ("2", -1, "Women"), ("10", 0, "Shoes"), ("20", 1, "Shoes"))
    tree = Taxonomy([id for id, _, _ in rows], [n for _, _, n in rows], np.array([up for _, up, _ in rows]))
    told = Reader(tree).tell([Said(None, None, "Shoes"), Said(None, None, "Women / shoes"),
                              Said(None, None, "Sale > Women > Shoes")])  # fmt: skip
    assert [(one.row, one.how) for one in told.values()] == [(-1, None), (3, "exact"), (-1, None)]


def test_an_ending_counts_behind_what_is_outside(reader: Reader) -> None:
    assert reader.surely(Said(None, "Bob", "Gift cards")).outside


def test_a_known_id_says_more_than_the_shelf_that_it_stands_on(reader: Reader) -> None:
    assert reader.surely(Said("21", "Bob", "Services > Wrapping paper")) == Told(row("21"), "given")


def test_f51_an_unknown_id_is_told_even_where_a_map_or_a_path_knows_better(reader: Reader) -> None:
    assert reader.surely(Said("777", "Ann", "Obst")) == Told(row("10"), "mapped", (UNKNOWN,))
    assert reader.surely(Said("900", "Bob", "Food > Bread")) == Told(row("12"), "exact", (RETIRED,))
    assert reader.surely(Said("900", "Bob", "Services > X")) == Told(-1, None, (RETIRED, OUTSIDE))


def test_similar_wording_is_asked_for_and_from_where_it_is_asked_for(reader: Reader) -> None:
    said = Said(None, "Bob", "Fresh fruit / Apples")
    assert reader.tell([said])[said] == Told(-1, None, (UNMAPPED,))
    assert reader.tell([said], 0.3)[said] == Told(row("11"), "similar")
    assert reader.tell([said], 1.0)[said] == Told(-1, None, (UNMAPPED,))


def test_an_item_with_an_unknown_or_retired_id_gets_no_similar_category(reader: Reader) -> None:
    said = [Said(id, "Bob", "Fresh fruit / Apples") for id in ("777", "900", "Food > Cake")]
    told = reader.tell(said, 0.01)
    assert [told[one] for one in said] == [Told(-1, None, (why,)) for why in (UNKNOWN, RETIRED, PATH)]


def test_what_is_most_similar_to_something_outside_is_outside(reader: Reader) -> None:
    said = Said(None, "Bob", "Gift card")
    assert reader.tell([said], 0.3)[said].outside


texts = st.none() | st.sampled_from(
    ["11", "900", "Food > Fruit", "Obst", "Kurse", "Services > X", "Äpfel"]
) | st.text(min_size=1, max_size=12)  # fmt: skip


@given(said=st.builds(Said, texts, st.sampled_from([None, "Ann", "Bob"]), texts), least=st.floats(0.01, 1))
def test_an_item_has_either_a_label_or_a_reason_why_not(reader: Reader, said: Said, least: float) -> None:
    told = reader.tell([said], least)[said]
    assert (told.row >= 0) == (told.how is not None)
    assert told.row >= 0 or told.reasons
    assert not (told.outside and told.row >= 0)
