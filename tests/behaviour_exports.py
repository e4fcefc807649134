"""Exports of models of behaviour made in milliseconds: the real files, opened by the real scorers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etalage.features.vocabulary import Vocabulary
from etalage.runtime.export_files import FACTS, FORMAT, ITEMS, RANK, USERS, hash_export

KINDS = ("buy", "cart", "view")


def behaviour_export(
    folder: Path,
    name: str,
    scoring: str,
    arrays: dict[str, np.ndarray],
    items: Sequence[str],
    users: Sequence[str] = (),
    *,
    role: str = "closed_form",
    **facts: Any,
) -> Path:
    """Write `arrays` by name as an export of `scoring`; rows 1 … N are those of `items` as given."""
    folder.mkdir(parents=True)
    for file, array in arrays.items():
        np.save(folder / f"{file}.npy", array, allow_pickle=False)
    return sealed(folder, name, scoring, items, users, role=role, **facts)


def sealed(
    folder: Path,
    name: str,
    scoring: str,
    items: Sequence[str],
    users: Sequence[str] = (),
    *,
    role: str,
    **facts: Any,
) -> Path:
    """Ids and export.json of a folder whose other files are there."""
    Vocabulary(list(items)).save(folder / ITEMS)
    Vocabulary(list(users)).save(folder / USERS)
    written = {"format": FORMAT, "name": name, "role": role, "kind": scoring, "kinds": list(KINDS)}
    written |= {"settings": {}, **facts, "model_hash": hash_export(folder)}
    (folder / FACTS).write_text(json.dumps(written), encoding="utf-8")
    return folder


def prior_export(folder: Path, items: Sequence[str], scores: Sequence[float]) -> Path:
    """A model `popularity` with these scores."""
    prior = np.array([0.0, *scores], np.float32)
    return behaviour_export(folder, "popularity", "prior", {"scores": prior}, items)


def item_item_export(folder: Path, items: Sequence[str], matrix: np.ndarray, name: str = "item_knn") -> Path:
    """A model with the weights `matrix` (N, N): row speaks for column."""
    whole = np.zeros((len(items) + 1, len(items) + 1), np.float32)
    whole[1:, 1:] = matrix
    counts = (whole != 0).sum(axis=1)
    arrays = {
        "indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "indices": np.nonzero(whole)[1].astype(np.int32),
        "weights": whole[whole != 0],
    }
    return behaviour_export(folder, name, "item_item", arrays, items)


def embedding_export(
    folder: Path,
    items: Sequence[str],
    embeddings: np.ndarray,
    name: str = "two_tower",
    role: str = "embedder",
    alpha: float = 1.0,
) -> Path:
    """An embedder of items (N, D); a query is folded in from its history, as in implicit ALS."""
    whole = np.concatenate([np.zeros_like(embeddings[:1]), embeddings]).astype(np.float32)
    arrays = {"item_embeddings": whole, "gram": (whole.T @ whole).astype(np.float32)}
    settings = {"alpha": alpha, "reg": 0.1}
    dimension = int(embeddings.shape[1])
    return behaviour_export(
        folder, name, "embeddings", arrays, items, role=role, settings=settings, dimension=dimension
    )


def ranker_export(
    folder: Path, items: Sequence[str], users: Sequence[str], table: np.ndarray, name: str = "neumf"
) -> Path:
    """A ranker whose logit of (user row u, item row i) is `table[u, i]`, (U + 1, N + 1) float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    constants = [numpy_helper.from_array(table.astype(np.float32), "table")]
    nodes = [
        helper.make_node("GatherND", ["table", "sparse"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "one"], ["scores"]),
    ]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("sparse", TensorProto.INT64, ["rows", 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    (folder / RANK).write_bytes(model.SerializeToString())
    return sealed(
        folder,
        name,
        "pairs",
        items,
        users,
        role="ranker",
        sparse_inputs=["user", "item"],
        dense_inputs=[],
        objectives=[{"name": "liked", "kind": "binary", "classes": []}],
    )
