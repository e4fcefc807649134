"""`etalage.model`: a model on a data frame, with a shop's code and a shop's figures."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import etalage
from etalage import FrameModel, Shop, model
from etalage.demo.tables import DemoSize, catalogue, interactions
from etalage.errors import ConfigError, InputUnreadable, NotFound, TooLittleData, Unprocessable
from tests import run_stores

if TYPE_CHECKING:
    from etalage.evaluation.evaluation import Evaluation

SIZE = DemoSize(items=100, shoppers=80)
RULES = {"targets": ["cart", "buy"]}
FAST = {"bootstrap": 100}


@pytest.fixture(scope="module")
def acts() -> pd.DataFrame:
    frame = interactions(SIZE).to_pandas()[["user_id", "item_id", "kind", "time"]]
    return frame.rename(columns={"user_id": "customerId", "item_id": "sku", "time": "timestamp"})


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    frame: pl.DataFrame = pl.DataFrame(catalogue(SIZE))
    return frame.select("item_id", "title", "brand", "price", "currency", "category_id")


@pytest.fixture(scope="module")
def fitted(acts: pd.DataFrame, items: pl.DataFrame) -> Iterator[FrameModel]:
    with_settings = model("item_knn", neighbours=20, behaviour=RULES, evaluate=FAST)
    yield with_settings.fit(acts, items)
    with_settings.close()


@pytest.fixture(scope="module", autouse=True)
def _mlflow(run_folder: Path) -> None:
    """Shops of these tests begin with the run's empty store of MLflow."""
    import mlflow.store.db.utils  # noqa: F401

    run_stores.share_empty_store(run_folder / "empty-mlflow.db")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, acts: pd.DataFrame, items: pl.DataFrame) -> Path:
    """A shop with the same data."""
    return filled(tmp_path_factory.mktemp("beside") / "shop", items, {None: acts})


def filled(folder: Path, items: pl.DataFrame, acts: dict[str | None, pd.DataFrame]) -> Path:
    """A shop of these items and, by the part of a published split, acts."""
    shop = Shop.create(folder, "Beside")
    shop.ingest(items, "items")
    columns = {"user_id": "customerId", "item_id": "sku", "time": "timestamp"}
    for part, some in acts.items():
        shop.ingest(some, "interactions", part=part, columns=columns)
    return folder


def judged(folder: Path, split: str) -> "Evaluation":
    """What the shop finds of the same model by the same settings."""
    (folder / "shop.toml").write_text(
        f'[behaviour]\ntargets = ["cart", "buy"]\nsplit = "{split}"\n[evaluate]\nbootstrap = 100\n'
        "[models.item_knn]\nneighbours = 20\n"
    )
    shop = Shop(folder)
    shop.train("item_knn")
    return shop.evaluate("item_knn")


@pytest.mark.parametrize("split", ["time", "leave_one_out"])
def test_its_figures_are_those_of_a_shop_with_the_same_data(
    fitted: FrameModel, folder: Path, split: str
) -> None:
    theirs, mine = judged(folder, split), fitted.evaluate(split=split)
    assert mine.rows == theirs.rows
    assert mine.verdict == theirs.verdict
    assert {row.slice for row in mine.rows} > {"all", "cold items"}


def test_a_frame_to_test_on_is_a_split_that_was_published(
    fitted: FrameModel, acts: pd.DataFrame, items: pl.DataFrame, tmp_path: Path
) -> None:
    last = acts["timestamp"] >= acts["timestamp"].quantile(0.9)
    older = model("item_knn", neighbours=20, behaviour=RULES, evaluate=FAST).fit(acts[~last], items)
    mine = older.evaluate(acts[last])
    shop = filled(tmp_path / "shop", items, {"train": acts[~last], "test": acts[last]})
    assert mine.rows == judged(shop, "published").rows
    assert mine.about[0].startswith("interactions by test frame: ")
    assert mine.part == "test"


def test_it_says_what_it_learned_from_and_what_it_guessed(fitted: FrameModel, acts: pd.DataFrame) -> None:
    learned = fitted.learned
    assert (learned.interactions, learned.shoppers) == (len(acts), acts["customerId"].nunique())
    assert (learned.held_back, learned.refused) == (0, 0)
    said = f"<model item_knn, neighbours=20: learned from {len(acts):,} interactions"
    assert repr(fitted).startswith(said)
    (guess,) = fitted.loaded["interactions"].notes
    assert "user_id = customerId, item_id = sku, time = timestamp" in str(guess)


def test_it_recommends_what_the_shopper_does_not_have(fitted: FrameModel, acts: pd.DataFrame) -> None:
    user = acts["customerId"].value_counts().index[0]
    had = set(acts.loc[(acts["customerId"] == user) & acts["kind"].isin(["buy", "cart"]), "sku"])
    slate = fitted.recommend(user, 8)
    assert len(slate) == 8 and not had & {slot.item_id for slot in slate}
    assert [slot.score for slot in slate] == sorted((slot.score for slot in slate), reverse=True)
    frame = slate.to_pandas()
    assert list(frame["rank"]) == list(range(1, 9))
    assert frame["title"].notna().all() and frame["price"].notna().all()


def test_a_history_is_answered_without_a_shopper(fitted: FrameModel, acts: pd.DataFrame) -> None:
    ids = acts["sku"].value_counts().index[:2].tolist()
    slate = fitted.recommend(history=ids, n=3)
    assert len(slate) == 3 and not set(ids) & {slot.item_id for slot in slate}


def test_numbers_as_ids_are_asked_as_numbers() -> None:
    rows = [(user, user + step, 1_700_000_000 + 60 * step) for user in range(20) for step in range(5)]
    frame = pd.DataFrame(rows, columns=["userId", "movieId", "timestamp"]).assign(rating=5.0)
    asked = model("item_knn").fit(pl.from_pandas(frame).lazy())
    slate = asked.recommend(3, n=2)
    assert slate[0].item_id in {str(n) for n in range(25)}
    assert slate == asked.recommend(3.0, n=2) == asked.recommend(np.int64(3), n=2)
    assert asked.recommend(history=[4, 5], n=2)
    assert "kind is 'rating' in every row" in str(asked.loaded["interactions"].notes[0])


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("item_knnn", {}, "did you mean 'item_knn'"),
        ("item_knn", {"neighbors": 5}, "did you mean 'neighbours'"),
        ("item_knn", {"k1": 2.0}, "does nothing here"),
        ("item_knn", {"behaviour": {"positive": 4}}, "positive"),
        ("image_similarity", {}, "takes a shop"),
        ("dlrm", {}, "takes a shop"),
    ],
)
def test_a_model_or_setting_that_cannot_be_is_refused_at_once(
    name: str, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        model(name, **settings)


def test_questions_that_have_no_answer_say_what_to_ask(fitted: FrameModel, acts: pd.DataFrame) -> None:
    with pytest.raises(NotFound, match="did you mean 'u000001'"):
        fitted.recommend("u00001")
    with pytest.raises(NotFound, match="no such item 'i99999x'"):
        fitted.recommend(history=["i99999x"])
    with pytest.raises(Unprocessable, match="one of them"):
        fitted.recommend()
    with pytest.raises(Unprocessable, match="at least 1"):
        fitted.recommend("u000001", n=0)
    with pytest.raises(ConfigError, match="one of them"):
        fitted.evaluate(acts, split="time")
    with pytest.raises(ConfigError, match=r"not fitted yet: `\.fit"):
        model("popularity").recommend("u000001")


def test_frames_that_teach_nothing_are_refused(acts: pd.DataFrame) -> None:
    asked = model("popularity")
    with pytest.raises(TooLittleData, match=r"frame 'interactions': none of 2 rows .* row 0: item_id"):
        asked.fit(acts.assign(sku=None).iloc[:2], columns={"item_id": "sku"})
    with pytest.raises(InputUnreadable, match="str is no data frame"):
        asked.fit("acts.csv")  # type: ignore[arg-type]
    with pytest.raises(InputUnreadable, match="no column for user_id, item_id"):
        asked.fit(pd.DataFrame({"x": [1, 2], "y": [3, 4]}))


def test_its_folder_goes_with_it(acts: pd.DataFrame) -> None:
    asked = model("popularity").fit(acts)
    folder = Path(asked._folder.name)
    assert folder.is_dir()
    asked.close()
    assert not folder.exists()


@pytest.mark.slow
def test_a_network_holds_back_what_it_is_validated_on(acts: pd.DataFrame, items: pl.DataFrame) -> None:
    asked = model("two_tower", epochs=1, behaviour=RULES, evaluate=FAST).fit(acts, items)
    assert asked.learned.held_back > 0
    assert len(asked.recommend("u000001", 5)) == 5
    assert asked.evaluate().scores.keys() >= {"two_tower", "popularity", "item_knn", "ease"}


def test_the_public_names_are_completed() -> None:
    assert {"Client", "Shop", "model", "FrameModel", "Recommender"} <= set(dir(etalage))
