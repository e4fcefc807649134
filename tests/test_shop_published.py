"""Splits as they were published, by command: files of train and test, and the negatives of a protocol."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from etalage import Shop
from etalage.datasets.published import ncf
from etalage.errors import ConfigError, InputUnreadable
from etalage.features.behaviour_set import describe_facts
from etalage.shop.behaviour_steps import behaviour
from tests.test_shop_judging import typed

CONFIG = """
name = "Published"
[behaviour]
split = "published"
{more}
[evaluate]
bootstrap = 100
max_queries = 2000
"""


def made(folder: Path, more: str = "") -> Shop:
    folder.mkdir(exist_ok=True)
    (folder / "shop.toml").write_text(CONFIG.format(more=more), "utf-8")
    return Shop(folder)


# -- real ones ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lastfm(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """DeepCF's Last.fm: loaded, popularity and item_knn trained, by commands alone."""
    source = shared_data / "deepcf-amusic-lastfm"
    shop = made(tmp_path_factory.mktemp("lastfm") / "shop", 'negatives = "lastfm.test.negative"')
    shutil.copy(source / "lastfm.test.negative", shop.folder)
    for part in ("train", "test"):
        typed(shop, "ingest", str(source / f"lastfm.{part}.rating"), "interactions", "--format", "ncf")
    for model in ("popularity", "item_knn"):
        typed(shop, "train", model)
    return shop


def test_the_shop_has_the_split_that_was_published(lastfm: Shop, shared_data: Path) -> None:
    ours = behaviour(lastfm).data
    theirs = ncf(shared_data / "deepcf-amusic-lastfm", "lastfm")
    assert ours.items.ids.equals(theirs.items.ids) and ours.users.ids.equals(theirs.users.ids)
    assert len(ours.part("test")) == 1741 and len(ours.part("validation")) == len(theirs.part("validation"))
    assert len(ours.part("train")) + len(ours.part("validation")) == 67_408
    assert np.array_equal(np.sort(ours.truth("test").keys), np.sort(theirs.truth("test").keys))
    assert np.array_equal(ours.negatives["test"], theirs.negatives["test"])
    assert not ours.own_split and ours.facts["unknown_negatives"] == ours.facts["idle_negatives"] == 0


def test_the_protocols_figures_are_printed_as_published_and_without_its_faults(lastfm: Shop) -> None:
    """1.46% of the negatives were taken by their shoppers, or stand there twice: see the data's README."""
    for printed in (typed(lastfm, "evaluate", "item_knn"), typed(lastfm, "evaluate")):
        (line,) = [one for one in printed.splitlines() if one.startswith("item_knn, among the published")]
        assert "hit_at_10 0.89" in line and "1.46%" in line
        assert " 0.5198 [" in printed  # recall_at_20 of the whole catalogue, which is another figure
    for name in ("item_knn-0001", "behaviour"):
        (report,) = (lastfm.folder / "reports").glob(f"{name}*.html")
        assert "The published protocol" in report.read_text("utf-8")


@pytest.mark.slow
def test_a_split_in_two_files_of_pairs_without_a_header(shared_data: Path, tmp_path: Path) -> None:
    """LightGCN's Last.fm."""
    shop = made(tmp_path / "shop")
    for file, part, count in (("data1.txt", "train", 42_135), ("test1.txt", "test", 10_533)):
        source = str(shared_data / "lightgcn-lastfm" / file)
        printed = typed(shop, "ingest", source, "interactions", "--format", "pairs", "--part", part)
        assert f"read {count}: inserted {count}, updated 0" in printed
    typed(shop, "train", "popularity")
    assert "popularity (test): recall_at_20 0." in typed(shop, "evaluate", "popularity")
    data = behaviour(shop).data
    assert len(data.part("test")) == 10_533
    assert not np.isin(data.part("test").keys, data.before("test").keys).any()


# -- small ones --------------------------------------------------------------------------------


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, "utf-8")
    return folder


TRAIN = "".join(f"u{user}\ti{item}\t5\n" for user in range(4) for item in range(user, user + 4))
TEST = "".join(f"u{user}\ti{user + 5}\t5\n" for user in range(4))
NEGATIVE = "".join(f"(u{user},i{user + 5})\ti{user}\ti99\n" for user in range(4))


@pytest.fixture
def small(tmp_path: Path) -> Shop:
    shop = made(tmp_path / "shop", 'negatives = "x.test.negative"')
    files = written(tmp_path / "files", x_train_rating=TRAIN, x_test_rating=TEST)
    written(shop.folder, x_test_negative=NEGATIVE)
    for part in ("train", "test"):
        shop.ingest(files / f"x.{part}.rating", "interactions", format="ncf")
    return shop


def test_the_part_is_told_by_a_files_name_and_what_is_typed_comes_first(small: Shop, tmp_path: Path) -> None:
    rows = small.lake.table("interactions").read(columns=["part"])["part"].to_pylist()
    assert sorted(rows) == ["test"] * 4 + ["train"] * 16
    written(tmp_path / "files", x_train_rating="u9\ti9\t5\n")
    small.ingest(tmp_path / "files" / "x.train.rating", "interactions", format="ncf", part="validation")
    data = behaviour(small).data
    assert [data.users.id(int(row)) for row in data.part("validation").users] == ["u9"]


def test_loading_a_file_again_with_its_part_changes_its_rows_and_adds_none(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop")
    (tmp_path / "a.csv").write_text("user_id,item_id\nu,i\nu,j\nv,i\n", "utf-8")
    shop.ingest(tmp_path / "a.csv", "interactions")
    done = shop.ingest(tmp_path / "a.csv", "interactions", part="train")
    assert (done.inserted, done.updated) == (0, 3)


def test_a_column_of_a_table_may_say_the_part_in_words_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "user_id,item_id,fold\nu,i,fit\nu,j,fit\nv,i,fit\nv,j,fit\nu,k,hold\nv,k,hold\n", "utf-8"
    )
    shop = made(tmp_path / "shop")
    more = '[ingest.interactions.columns]\npart = "fold"\n[ingest.interactions.values.part]\nfit = "train"\n'
    toml = shop.folder / "shop.toml"
    toml.write_text(toml.read_text("utf-8") + more, "utf-8")
    Shop(shop.folder).ingest(tmp_path / "a.csv", "interactions")
    with pytest.raises(ConfigError, match=r"of the part 'hold'; .*\[ingest.interactions.values.part\]"):
        behaviour(Shop(shop.folder))
    toml.write_text(toml.read_text("utf-8") + 'hold = "test"\n', "utf-8")
    Shop(shop.folder).ingest(tmp_path / "a.csv", "interactions")
    data = behaviour(Shop(shop.folder)).data
    assert len(data.part("test")) == 2 and len(data.part("train")) == len(data.part("validation")) == 2


def test_a_rankers_part_is_taken_of_train_where_none_was_published(small: Shop) -> None:
    toml = small.folder / "shop.toml"
    toml.write_text(toml.read_text("utf-8").replace("[behaviour]", "[behaviour]\nrank = 0.3"), "utf-8")
    data = behaviour(Shop(small.folder)).data
    assert {n: len(data.part(n)) for n in ("train", "rank", "validation", "test")} == {
        "train": 8, "rank": 4, "validation": 4, "test": 4,
    }  # fmt: skip


def test_negatives_of_items_that_the_catalogue_lacks_and_of_users_who_are_not_asked_are_told(
    small: Shop, tmp_path: Path
) -> None:
    (tmp_path / "items.csv").write_text("item_id\n" + "".join(f"i{n}\n" for n in range(8)), "utf-8")
    small.ingest(tmp_path / "items.csv", "items")  # i8, which u3 took, and i99 are not in it
    data = behaviour(small).data
    assert data.negatives["test"].shape == (3, 2)
    lines = "\n".join(describe_facts(data.facts))
    assert "3 of the published negatives are of items that the catalogue lacks" in lines
    assert "1 lines of the published negatives are of users who are not asked" in lines


def test_acts_without_a_part_are_left_out_and_told(small: Shop, tmp_path: Path) -> None:
    (tmp_path / "late.csv").write_text("user_id,item_id\nu1,i1\nu2,i2\n", "utf-8")
    small.ingest(tmp_path / "late.csv", "interactions")
    facts = behaviour(small).data.facts
    assert facts["without_part"] == 2 and any(
        "2 interactions are of no part" in one for one in describe_facts(facts)
    )


def test_parts_that_the_split_does_not_look_at_are_told(small: Shop) -> None:
    toml = small.folder / "shop.toml"
    toml.write_text('name = "T"\n[behaviour]\nsplit = "random"\n', "utf-8")
    facts = behaviour(Shop(small.folder)).data.facts
    assert any(
        "20 interactions say their part" in one and 'set "published"' in one for one in describe_facts(facts)
    )


@pytest.mark.parametrize(
    ("negative", "says"),
    [
        (NEGATIVE.replace("(u2,i7)", "(u2,i8)"), r"line 3: item 'i8' is to be found for user 'u2', .* 'i7'"),
        (NEGATIVE.replace("u1", "u7"), "no line of user 'u1'"),
        (NEGATIVE.replace("i2\ti99", "i2"), "line 3: 1 negatives, the first line has 2"),
        ("u0\ti1\n", r"line 1: expected `\(user,item\)`"),
    ],
)
def test_negatives_of_another_split_are_refused(small: Shop, negative: str, says: str) -> None:
    (small.folder / "x.test.negative").write_text(negative, "utf-8")
    with pytest.raises(InputUnreadable, match=says):
        behaviour(small)


def test_what_is_missing_or_no_interaction_is_said(small: Shop, tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match=r"negatives are no interactions; .*\[behaviour\] split"):
        small.ingest(small.folder / "x.test.negative", "interactions", format="ncf")
    with pytest.raises(ConfigError, match="interactions have parts, items have none"):
        small.ingest(tmp_path / "files" / "x.train.rating", "items", part="train")
    (small.folder / "x.test.negative").unlink()
    with pytest.raises(InputUnreadable, match="relative to the shop's folder"):
        behaviour(small)
    empty = made(tmp_path / "empty")
    (tmp_path / "a.csv").write_text("user_id,item_id\nu,i\n", "utf-8")
    empty.ingest(tmp_path / "a.csv", "interactions")
    with pytest.raises(ConfigError, match="--part train"):
        behaviour(empty)


@pytest.mark.parametrize("line", ["u1,i1", "u1 i1", "u1\ti1", "u1, i1,", "u1\ti1\t5", "u1,i1,5,1700000000"])
def test_pairs_are_read_whatever_stands_between_them(tmp_path: Path, line: str) -> None:
    shop = made(tmp_path / "shop")
    (tmp_path / "pairs.txt").write_text(f"{line.rstrip(',')}\n", "utf-8")
    assert shop.ingest(tmp_path / "pairs.txt", "interactions", format="pairs").inserted == 1
    (row,) = shop.lake.table("interactions").read().to_pylist()
    assert (row["user_id"], row["item_id"]) == ("u1", "i1")
    assert row["kind"] == ("rating" if "5" in line else "view")


def test_a_line_that_is_no_pair_is_refused_with_its_number(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop")
    (tmp_path / "pairs.txt").write_text("u1 i1\nu2\nu1 i2 five\n", "utf-8")
    done = shop.ingest(tmp_path / "pairs.txt", "interactions", format="pairs")
    assert (done.inserted, done.refused) == (1, 2)
    rows = shop.lake.table("refused").read(columns=["line", "reason"]).sort_by("line").to_pylist()
    assert [row["line"] for row in rows] == [2, 3]
    assert "has 1 fields; expected user, item" in rows[0]["reason"] and "five" in rows[1]["reason"]
