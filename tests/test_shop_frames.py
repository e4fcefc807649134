"""A shop's answers as data frames, and as a notebook shows them."""

import io
import re
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from etalage import EtalageError, Shop
from etalage.api import Answer, Slot
from etalage.config import as_values
from etalage.errors import ConfigError, NotFound
from etalage.evaluation.comparison import ModelComparison, Row
from etalage.evaluation.figures import Figure, figures_html, figures_of
from etalage.evaluation.measured import SliceFigures
from etalage.metrics import Interval
from etalage.shop.answers import Slate
from etalage.shop.progress import line_bar, silent, usual_bar
from etalage.shop.showing import SIDE, thumbnail_uri
from etalage.tabular import Rows
from tests.shops import behaviour_shop, drawn_photo

COLUMNS = ["rank", "score", "item_id", "title", "brand", "price", "currency", "category_id", "in_stock"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("frames") / "shop"
    behaviour_shop(folder, 20, photos=True)
    return Shop(folder)


def test_a_slate_is_a_frame_and_a_sequence(shop: Shop) -> None:
    slate = shop.recommend("user-5", k=4, explain=True)
    arrow, pandas, polars = slate.to_arrow(), slate.to_pandas(), slate.to_polars()
    assert isinstance(pandas, pd.DataFrame) and isinstance(polars, pl.DataFrame)
    assert sorted(arrow.column_names) == sorted([*COLUMNS, "why"])
    assert [slot.item_id for slot in slate] == list(pandas["item_id"]) == polars["item_id"].to_list()
    assert len(slate) == 4 and slate[0].rank == 1 and slate[-1] is slate[3] and len(slate[:2]) == 2
    assert pandas["why"].notna().all()
    assert pl.DataFrame(slate).equals(polars) and pa.table(slate).equals(arrow)
    assert slate.answer.known


def test_a_slate_without_items_has_its_columns() -> None:
    empty = Slate("for nobody", Answer(0, None, "the catalogue is empty", []), [], Slot)
    assert empty.to_arrow().num_rows == 0
    assert dict(empty.to_pandas().dtypes.astype(str))["score"] == "float64"
    assert repr(empty) == "<for nobody: 0 items; the catalogue is empty>"


def test_questions_by_item_and_by_photo_have_frames_too(shop: Shop) -> None:
    alike = shop.similar("item-00003", k=3)
    assert alike.to_pandas().columns.tolist() == alike.to_arrow().column_names
    assert len(alike) == 3 and "item-00003" not in {slot.item_id for slot in alike}
    by_photo = shop.similar(photo=drawn_photo(3), k=1)
    assert by_photo[0].item_id == "item-00003"
    with pytest.raises(NotFound):
        shop.similar("item-99999")


def test_one_bundle_is_opened_once_for_all_questions(shop: Shop) -> None:
    shop.recommend("user-1")
    kept = shop.kept_recommender
    shop.similar("item-00001")
    assert shop.kept_recommender is kept is not None


def test_a_stranger_is_answered_and_said_to_be_one(shop: Shop) -> None:
    slate = shop.recommend("user-x")
    assert "nothing is known of shopper 'user-x'" in repr(slate)
    assert "\n" not in repr(slate) and not slate.answer.known
    assert repr(shop.recommend(had=["item-00001"])).startswith("<for somebody who has item-00001, ")


def test_a_slate_shows_small_photos_and_nothing_of_a_title_is_obeyed(shop: Shop) -> None:
    slate = shop.recommend("user-5", k=4)
    html = slate._repr_html_()
    photos = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert len(photos) == 4 and all(len(one) < 8_000 for one in photos)
    assert f"{slate[0].price:,.2f} EUR" in html
    slot = Slot(1, 0.5, "a", '<script>x("&")</script>', None, 1.0, None, None, None, None)
    shown = Slate("for <b>", Answer(0, None, None, [slot]), [slot], Slot)._repr_html_()
    assert "<script>" not in shown and "for <b>" not in shown
    assert '<script>x("&")</script>' in unescape(shown)


def test_a_thumbnail_is_made_anew_whatever_the_file_holds() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (900, 300), (255, 0, 0, 128)).save(buffer, "PNG")
    uri = thumbnail_uri(buffer.getvalue())
    assert uri is not None and uri.startswith("data:image/jpeg;base64,")
    assert thumbnail_uri(b"<svg onload=alert(1)>") is None
    assert SIDE <= 128


def test_a_table_is_a_frame_of_one_version(shop: Shop) -> None:
    items = shop.table("items")
    assert len(items) == 20 and items.to_polars().height == 20
    assert items.to_arrow(columns=["item_id"]).column_names == ["item_id"]
    assert repr(items).startswith("<table items, version ") and "20 rows" in repr(items)
    assert "… and 10 more rows" in items._repr_html_()
    assert "bytes&gt;" in shop.table("photos")._repr_html_()
    with pytest.raises(NotFound, match="did you mean 'items'"):
        shop.table("item")


def test_a_table_of_one_shop_goes_into_another(shop: Shop, tmp_path: Path) -> None:
    other = Shop.create(tmp_path / "other", "Other")
    done = other.ingest(shop.table("items"), "items", name="theirs")
    assert done.inserted == 20 and not done.refused
    columns = ["item_id", "title", "price", "in_stock", "attributes"]
    assert other.table("items").to_arrow(columns).equals(shop.table("items").to_arrow(columns))


def test_what_a_frame_calls_its_columns_is_guessed_and_said(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "Guessed")
    acts = pd.DataFrame(
        {"customerId": [f"c{n // 3}" for n in range(30)], "sku": [f"s{n % 7}" for n in range(30)],
         "stars": [n % 5 + 1 for n in range(30)], "timestamp": range(1_700_000_000, 1_700_000_030)}
    )  # fmt: skip
    done = shop.ingest(acts, "interactions")
    assert "guessed: user_id = customerId, item_id = sku" in str(done.notes[0])
    assert set(shop.table("interactions").to_pandas()["kind"]) == {"rating"}
    said = shop.ingest(acts, "interactions", columns={"item_id": "stars"})
    assert "item_id = " not in str(said.notes[0])
    assert set(shop.table("interactions").to_pandas()["item_id"]) > {"s1", "1", "5"}


def test_how_a_frame_writes_numbers_and_days_is_guessed_behind_what_shop_toml_says(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "Written")
    (shop.folder / "shop.toml").write_text('[ingest.items.columns]\nitem_id = "artikel"\ntitle = "name"\n')
    items = pd.DataFrame(
        {"artikel": [f"a{n}" for n in range(30)], "title": [f"A lamp {n}" for n in range(30)],
         "Preis": [f"{n + 1}.000,50" for n in range(30)],
         "updated": [f"{n % 28 + 1:02d}.03.2025" for n in range(30)]}
    )  # fmt: skip
    done = Shop(shop.folder).ingest(items, "items")
    assert (done.inserted, done.refused) == (30, 0), done.notes
    first = Shop(shop.folder).table("items").to_pandas().sort_values("price").iloc[0]
    assert (first["title"], first["price"]) == ("A lamp 0", 1000.5)


def test_what_no_table_takes_says_which_does(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="did you mean 'items'"):
        shop.ingest(pa.table({"item_id": ["a"]}), "itmes")  # type: ignore[arg-type]


def test_settings_are_values_in_python_and_texts_when_typed() -> None:
    given = {"neighbours": 50, "shrink": "2.5", "similarity": "bm25", "last": None}
    assert as_values(given) == {"neighbours": 50, "shrink": 2.5, "similarity": "bm25", "last": None}


def test_lists_of_answers_are_frames_too(shop: Shop) -> None:
    near = shop.users_like("user-1", 2)
    assert near.to_pandas()["user_id"].tolist() == [one.user_id for one in near]
    assert set(shop.tables().to_polars()["name"]) == {"items", "photos", "interactions"}
    assert shop.kinds().to_pandas().loc[0, "kind"] == "buy"
    assert isinstance(near, list) and "\n" not in repr(near)


def test_what_a_notebook_prints_is_one_line(shop: Shop) -> None:
    shown = [shop, shop.status(), shop.recommender(), shop.recommender().manifest, shop.tables()]
    for one in shown:
        assert "\n" not in repr(one) and len(repr(one)) < 250, type(one)
    assert "etalage" in shop._repr_html_() and "two_tower" in shop._repr_html_()


SCORES = {
    "ours": {"recall_at_2": Interval(0.5, 0.4, 0.6), "mrr": Interval(0.1, 0.0, 0.2)},
    "<i>": {"recall_at_2": Interval(0.25, 0.2, 0.3), "mrr": Interval(0.3, 0.2, 0.4)},
}
COLD = SliceFigures(
    "cold items", "new ones", 7, {"<i>": Interval(0.0, 0.0, 0.0), "ours": Interval(0.0, 0.0, 0.0)}
)


def test_figures_are_rows_and_the_best_is_told_of_the_deciding_metric() -> None:
    rows = figures_of(SCORES, "recall_at_2", [COLD])
    assert rows[0] == Figure("all", "ours", "recall_at_2", 0.5, 0.4, 0.6, True)
    assert [(one.slice, one.system, one.metric) for one in rows if one.best] == [
        ("all", "ours", "recall_at_2")
    ]
    assert len(rows) == 6
    html = figures_html(rows)
    assert "<b>0.5000</b>" in html and "[0.4000, 0.6000]" in html
    assert "<i>" not in html and "recall_at_2 by slice" in html


@dataclass(frozen=True)
class Point:
    name: str
    at: float | None
    marks: tuple[str, ...]


def test_rows_have_the_types_of_their_fields_with_and_without_rows() -> None:
    for rows in ([], [Point("a", None, ("x",)), Point("b", 1.0, ())]):
        schema = Rows(rows, Point).to_arrow().schema
        assert [str(one) for one in schema.types] == ["string", "double", "list<item: string>"]


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, *_):
        if name in ("pandas", "polars"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
import pyarrow
from etalage import Shop
from etalage.errors import ConfigError
shop = Shop.create(sys.argv[1], "Without")
print(shop.ingest(pyarrow.table({"item_id": [1]}), "items").inserted)
for ask in (shop.tables().to_pandas, shop.table("items").to_polars):
    try:
        ask()
    except ConfigError as error:
        print(error)
"""


def test_frames_of_arrow_do_without_pandas_and_polars(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *refused = done.stdout.splitlines()
    assert first == "1"
    assert refused == [
        f"{name} is not installed: `pip install {name}`; `.to_arrow()` does without"
        for name in ("pandas", "polars")
    ]


def test_a_bar_writes_one_line_and_is_silent_where_nobody_looks() -> None:
    out = io.StringIO()
    with line_bar(out)("train item_knn", 3) as meter:
        meter(2)
        meter.say("train item_knn: epoch 2", 4)
        meter(2)
    *_, last = out.getvalue().split("\r")
    assert last.startswith("train item_knn: epoch 2  4/4") and last.endswith("s\n")
    assert out.getvalue().count("\n") == 1
    assert usual_bar() is silent


def test_an_error_in_a_notebook_is_its_sentence() -> None:
    error: EtalageError = ConfigError("k = 0: at least 1")
    assert error._render_traceback_() == ["ConfigError: k = 0: at least 1"]


def test_what_orders_candidates_stands_beside_what_finds_them() -> None:
    at_10 = {
        name: {"ndcg_at_10": Interval(value, 0.0, 1.0)} for name, value in (("dlrm", 0.7), ("ours", 0.4))
    }
    row = Row("dlrm", "ranker", "ndcg_at_10", at_10["dlrm"]["ndcg_at_10"], "ours", None, "beats ours")
    compared = ModelComparison(
        "recall_at_2", "test", 7, "ours finds most", [row], SCORES, {}, at_10, [COLD], {}, ()
    )
    assert compared.best == {"all": "ours", "order of the candidates": "dlrm"}
    frame = compared.to_pandas()
    assert frame.groupby("slice").size().to_dict() == {
        "all": 4, "cold items": 2, "order of the candidates": 2
    }  # fmt: skip
    assert "\n" not in repr(compared) and "ours finds most" in compared._repr_html_()


def test_a_frames_column_of_photos_is_read_as_it_is_called(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "Photos")
    rows = [
        {"sku": f"k{number}", "name": f"Kettle {number}", "price": 9.5 + number, "photo": drawn_photo(number)}
        for number in range(4)
    ]
    done = shop.ingest(pa.Table.from_pylist(rows), "items")
    assert done.refused == 0 and any("item_id = sku" in str(note) for note in done.notes)
    assert shop.table("photos").to_arrow().num_rows == 4


def test_what_a_frame_holds_and_is_not_taken_is_said(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "Films")
    genres = ["Drama|Crime", "Comedy", "Crime|Drama|War", "War|Comedy", "Drama|War", "Comedy|Crime"]
    rows = [
        {
            "item_id": f"f{n}",
            "title": f"Film {n}",
            "price": 5.0 + n,
            "genres": genres[n % 6],
            "photo": f"no. {n}",
        }
        for n in range(30)
    ]
    (note,) = [
        str(one) for one in shop.ingest(pa.Table.from_pylist(rows), "items").notes if "guessed" in str(one)
    ]
    assert "photo is left out" in note and "of category_id the first before '|' is taken" in note
