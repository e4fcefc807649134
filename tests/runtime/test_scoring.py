"""Exported models of behaviour, opened: their scores are those of the formulas, placed or not."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etalage.errors import ExportDamaged
from etalage.features.behaviour import NEVER, Queries
from etalage.features.history import Histories
from etalage.features.sources import FeatureSource
from etalage.features.vocabulary import Vocabulary
from etalage.runtime.aligning import align, source_rows
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import FACTS, hash_export, read_export
from etalage.runtime.item_item import ItemItemScorer
from etalage.runtime.opening import open_scorer

IDS = ["ant", "bee", "cat", "dog"]
"""Rows 1 to 4 of the model."""


def written(folder: Path, scoring: str, arrays: dict[str, np.ndarray], **facts: object) -> Path:
    """An export as training writes it."""
    folder.mkdir(parents=True)
    Vocabulary(IDS).save(folder / "items.arrow")
    Vocabulary(["uma", "vic"]).save(folder / "users.arrow")
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    fixed = {"format": 1, "name": "it", "role": "closed_form", "kinds": ["view", "buy"]}
    whole = {**fixed, "kind": scoring, **facts}
    whole["model_hash"] = hash_export(folder)
    (folder / FACTS).write_text(json.dumps(whole), encoding="utf-8")
    return folder


def histories(*rows: list[int], users: list[int] | None = None) -> Queries:
    flat = np.array([row for some in rows for row in some], np.int64)
    starts = np.concatenate([[0], np.cumsum([len(some) for some in rows])]).astype(np.int64)
    count = len(rows)
    who = np.zeros(count, np.int64) if users is None else np.array(users)
    never = np.full(len(flat), NEVER)
    return Queries(who, starts, flat, np.zeros(len(flat), np.int64), never, np.full(count, NEVER))


MATRIX = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 0, 0.5, 0.25, 0],
        [0, 0.4, 0, 0, 0.1],
        [0, 0.2, 0, 0, 0.9],
        [0, 0, 0.3, 0, 0],
    ],
    np.float32,
)


def item_item(folder: Path, **settings: object) -> Path:
    rows, columns = np.nonzero(MATRIX)
    indptr = np.searchsorted(rows, np.arange(6))
    arrays = {"indptr": indptr, "indices": columns.astype(np.int32), "weights": MATRIX[rows, columns]}
    return written(folder, "item_item", arrays, settings=settings)


def test_a_matrix_adds_the_rows_of_the_history(tmp_path: Path) -> None:
    scorer = open_scorer(item_item(tmp_path / "m"))
    found = scorer.scores(histories([1, 3], [], [0, 4]))
    np.testing.assert_allclose(found[0, 1:], (MATRIX[1] + MATRIX[3])[1:], rtol=1e-6)
    assert (found[1, 1:] == 0).all() and np.isneginf(found[:, 0]).all()
    np.testing.assert_allclose(found[2, 1:], MATRIX[4][1:], rtol=1e-6)
    assert scorer.knows(histories([1, 3], [], [0])).tolist() == [True, False, False]


def test_sparse_and_dense_matrices_score_alike(tmp_path: Path) -> None:
    scorer = open_scorer(item_item(tmp_path / "m", decay=0.5))
    assert isinstance(scorer, ItemItemScorer) and scorer._dense is not None  # 7 of 25 entries
    asked = histories([2, 1, 3, 1], [4], [])
    dense = scorer.scores(asked)
    scorer._dense = None
    np.testing.assert_allclose(scorer.scores(asked), dense, rtol=1e-6)


def test_a_repeated_act_counts_once_by_its_newest(tmp_path: Path) -> None:
    scorer = open_scorer(item_item(tmp_path / "m", decay=0.5))
    found = scorer.scores(histories([1, 3, 1]))[0, 1:]
    np.testing.assert_allclose(found, (MATRIX[1] + 0.5 * MATRIX[3])[1:], rtol=1e-6)


def test_every_act_counts_where_that_was_asked_for(tmp_path: Path) -> None:
    scorer = open_scorer(item_item(tmp_path / "m", decay=0.5, every_act=True))
    found = scorer.scores(histories([1, 3, 1]))[0, 1:]
    np.testing.assert_allclose(found, (1.25 * MATRIX[1] + 0.5 * MATRIX[3])[1:], rtol=1e-6)


def test_only_the_last_acts_speak(tmp_path: Path) -> None:
    scorer = open_scorer(item_item(tmp_path / "m", last=1))
    np.testing.assert_allclose(scorer.scores(histories([1, 2, 3]))[0, 1:], MATRIX[3][1:], rtol=1e-6)


def test_scores_of_are_those_of_scores(tmp_path: Path) -> None:
    asked, items = histories([1, 3], [2]), np.array([[4, 2, 0], [1, 1, 3]])
    embeddings = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    gram = embeddings[1:].T @ embeddings[1:]
    folders = [
        item_item(tmp_path / "m"),
        written(tmp_path / "p", "prior", {"scores": np.array([0, 4, 1, 9, 2], np.float32)}),
        written(tmp_path / "e", "embeddings", {"item_embeddings": embeddings, "gram": gram}),
    ]
    for folder in folders:
        scorer = open_scorer(folder)
        whole = np.take_along_axis(scorer.scores(asked), items, axis=1)
        np.testing.assert_allclose(scorer.scores_of(asked, items), whole, rtol=1e-5)


@pytest.mark.parametrize(
    ("more", "ridge"),
    [
        ({}, lambda length: 0.7),
        ({"others": 4, "frequency": 0.5}, lambda length: 0.7 * (4 + 3.0 * length) ** 0.5),
    ],
    ids=["an export from before the ridge grew with the history", "one of today"],
)
@pytest.mark.parametrize("history", [[2, 4], [1, 2, 3, 4]], ids=["short", "as long as embeddings are wide"])
def test_a_query_is_folded_in_as_the_normal_equations_say(
    tmp_path: Path, more: dict[str, float], ridge: Callable[[int], float], history: list[int]
) -> None:
    embeddings = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    gram = embeddings[1:].T @ embeddings[1:]
    arrays = {"item_embeddings": embeddings, "gram": gram}
    folder = written(tmp_path / "e", "embeddings", arrays, settings={"alpha": 3.0, "reg": 0.7, **more})
    scorer = open_scorer(folder)
    assert isinstance(scorer, EmbeddingScorer)
    confidence = np.ones(4)
    confidence[[row - 1 for row in history]] += 3.0
    preference = np.isin(np.arange(1, 5), history).astype(float)
    items = embeddings[1:].astype(np.float64)
    left = items.T @ np.diag(confidence) @ items + ridge(len(history)) * np.eye(3)
    expected = np.linalg.solve(left, items.T @ (confidence * preference))
    np.testing.assert_allclose(scorer.embed_queries(histories(history))[0], expected, rtol=1e-4)


def test_a_user_table_answers_by_the_users_row(tmp_path: Path) -> None:
    items = np.arange(15, dtype=np.float32).reshape(5, 3)
    users = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 2]], np.float32)
    folder = written(tmp_path / "e", "embeddings", {"item_embeddings": items, "user_embeddings": users})
    scorer = open_scorer(folder)
    found = scorer.scores(histories([], [], users=[2, 0]))
    np.testing.assert_allclose(found[0, 1:], 2 * items[1:, 2])
    assert scorer.knows(histories([], [1], users=[2, 0])).tolist() == [True, False]


def test_a_question_has_the_kinds_as_the_model_codes_them(tmp_path: Path) -> None:
    scorer = open_scorer(item_item(tmp_path / "m"))
    told = Histories(np.array([0, 2]), np.array([3, 0]), np.array([1, 0]), np.array([5, 6]), ("wish", "buy"))
    asked = scorer.ask(scorer.users.rows(["vic"]), told, np.array([9]))
    assert asked.users.tolist() == [2] and asked.kinds.tolist() == [2, 0]
    assert asked.items.tolist() == [3, 0] and asked.now.tolist() == [9]


# -- placing -----------------------------------------------------------------------------------


def catalogue(*ids: str) -> pa.Table:
    return pa.table({"item_id": list(ids)})


def test_a_placed_matrix_scores_the_same_items_alike(tmp_path: Path) -> None:
    """The bundle lacks `bee` and has the new `aaa` and `cow`: cat, dog and ant keep their weights."""
    export = item_item(tmp_path / "m")
    align(export, catalogue("aaa", "ant", "cat", "cow", "dog"), tmp_path / "placed")
    before, after = open_scorer(export), open_scorer(tmp_path / "placed")
    old = before.scores(histories([1, 3]))[0]
    new = after.scores(histories([2, 3]))[0]
    assert {i: round(float(new[after.items.row(i)]), 4) for i in ("ant", "cat", "dog")} == {
        i: round(float(old[before.items.row(i)]), 4) for i in ("ant", "cat", "dog")
    }
    assert new[after.items.row("aaa")] == new[after.items.row("cow")] == 0
    assert after.model_hash == before.model_hash


def test_a_placed_prior_puts_new_items_last(tmp_path: Path) -> None:
    export = written(tmp_path / "p", "prior", {"scores": np.array([0, 4, 1, 9, 2], np.float32)})
    align(export, catalogue("ant", "bee", "cat", "new"), tmp_path / "placed")
    found = open_scorer(tmp_path / "placed").scores(histories([]))[0]
    assert found[1:].tolist() == [4, 1, 9, 0]


def test_placed_embeddings_follow_their_items(tmp_path: Path) -> None:
    embeddings = np.arange(15, dtype=np.float32).reshape(5, 3)
    arrays = {"item_embeddings": embeddings, "gram": np.eye(3, dtype=np.float32)}
    export = written(tmp_path / "e", "embeddings", arrays)
    align(export, catalogue("cat", "dog", "eel"), tmp_path / "placed")
    scorer = open_scorer(tmp_path / "placed")
    assert isinstance(scorer, EmbeddingScorer)
    np.testing.assert_array_equal(scorer.item_embeddings, embeddings[[0, 3, 4, 0]])


NOW = FeatureSource(["dog", "new"], np.array([[5, 5], [6, 7]], np.float32), "f00d")
"""Made by `f00d` of the catalogue as it is now; the export's own copy is 1 … 4 of ant, bee, cat, dog."""


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"feature_sources": {"photo": "f00d"}}, [[0, 0], [0, 0], [5, 5], [6, 7]]),
        ({"feature_sources": {"photo": "another"}}, [[0, 0], [3, 3], [4, 4], [0, 0]]),
        ({"feature_sources": {}}, None),
        ({}, [[0, 0], [0, 0], [5, 5], [6, 7]]),  # written before exports kept what they read
    ],
)
def test_a_source_of_the_export_that_was_learned_from_is_asked_anew_and_any_other_is_what_was_kept(
    tmp_path: Path, facts: dict[str, object], expected: list[list[float]] | None
) -> None:
    arrays = {"item_embeddings": np.zeros((5, 3), np.float32), "gram": np.eye(3, dtype=np.float32)}
    export = written(tmp_path / "e", "embeddings", arrays, **facts)
    (export / "feature_sources").mkdir()
    kept = np.repeat(np.arange(5, dtype=np.float32)[:, None], 2, axis=1)
    np.save(export / "feature_sources" / "photo.npy", kept)
    to_model, items = np.array([0, 3, 4, 0]), Vocabulary(["cat", "dog", "new"])
    found = source_rows(read_export(export, verify=False), to_model, items, {"photo": NOW})
    assert {name: rows.tolist() for name, rows in found.items()} == (
        {} if expected is None else {"photo": expected}
    )


def test_what_is_placed_is_not_placed_again(tmp_path: Path) -> None:
    align(item_item(tmp_path / "m"), catalogue("ant"), tmp_path / "placed")
    with pytest.raises(ExportDamaged, match="aligned already"):
        align(tmp_path / "placed", catalogue("ant"), tmp_path / "again")


# -- damage ------------------------------------------------------------------------------------


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    folder = item_item(tmp_path / "m")
    file = folder / "weights.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ExportDamaged, match="hash"):
        open_scorer(folder)


def test_arrays_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "p", "prior", {"scores": np.zeros(4, np.float32)})
    with pytest.raises(ExportDamaged, match="4 scores for 5 rows"):
        open_scorer(folder)


def test_a_pickled_array_is_never_opened(tmp_path: Path) -> None:
    folder = written(tmp_path / "p", "prior", {"scores": np.array([object()] * 5)})
    with pytest.raises(ExportDamaged, match=r"scores\.npy"):
        open_scorer(folder)


def test_a_newer_format_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path / "p", "prior", {"scores": np.zeros(5, np.float32)}, format=9)
    with pytest.raises(ExportDamaged, match="format 9"):
        open_scorer(folder)
