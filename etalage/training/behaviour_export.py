"""Trained or counted → the folder that runtime/opening.py opens: arrays, ONNX, vocabularies, encoders.

exports/<model>/0003-1a2b3c4d/. Everything is opened again and compared with the network before the
folder gets its name.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from etalage.errors import ExportDamaged
from etalage.features.encoder import Features
from etalage.models.recipe import WEIGHTS, Recipe, Trained
from etalage.runtime.export_files import (
    FEATURE_SOURCES,
    ITEM,
    ITEM_FEATURES,
    PAIRS,
    QUERY,
    RANK,
    TABLE,
    ModelKind,
    save_array,
)
from etalage.runtime.opening import open_scorer
from etalage.runtime.sessions import Session
from etalage.training.closed_form import export_closed_form
from etalage.training.export import TOLERANCE, quiet
from etalage.training.export_draft import ExportDraft
from etalage.training.export_source import Source, write_ids

ROWS_AT_ONCE = 4096


def export_behaviour(recipe: Recipe[Any], trained: Trained[Any], data: Source, folder: Path) -> Path:
    """Write the next `folder/NNNN-hash8`; the newest one, if it is this very model.

    Raises ExportDamaged when what ONNX Runtime computes is not what the network does.
    """
    if trained.counted is not None:
        return export_closed_form(recipe, trained, data, folder)
    kind: ModelKind = "pairs" if recipe.role == "ranker" else "embeddings"
    with ExportDraft(trained, folder, recipe.role, kind) as draft:
        write = _write_ranker if recipe.role == "ranker" else _write_embedder
        facts = write(draft.path, _network(trained), data)
        write_ids(draft.path, data)
        if recipe.transfers:
            save_file(_network(trained).state_dict(), draft.path / WEIGHTS)
        draft.tell(**{"feature_sources": {}, **facts}, kinds=list(data.kinds))
        open_scorer(draft.path)
        return draft.named()


def _network(trained: Trained[Any]) -> nn.Module:
    assert trained.network is not None
    network: nn.Module = trained.network.eval().float()
    return network


# -- embedders ---------------------------------------------------------------------------------


class _Named(nn.Module):
    """A method of the network as a module of its own: the exporter takes a forward."""

    def __init__(self, network: nn.Module, methods: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.methods = methods

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(getattr(self.network, method)(*inputs) for method in self.methods)


def _write_embedder(folder: Path, network: Any, data: Source) -> dict[str, Any]:
    asks_history = "history_embeddings" in network.query_inputs
    methods = ("embed_item", "history_item") if asks_history else ("embed_item",)
    rows = np.arange(len(data.items))
    item_feed = _item_feed(network.item_inputs, rows, data.item_features)
    found = _in_blocks(_Named(network, methods), item_feed)
    save_array(folder / "item_embeddings.npy", found[0])
    if asks_history:
        save_array(folder / "history_embeddings.npy", found[1])
    query_feed = _query_sample(network, data, found[-1].shape[1] if asks_history else 0)
    _write_onnx(_Named(network, ("embed_query",)), query_feed, folder / QUERY, ("query_embedding",))
    # Items by id alone have no embedding that is not in the table.
    if any(name != "item" for name in network.item_inputs):
        sample = {name: values[:3] for name, values in item_feed.items()}
        _write_onnx(
            _Named(network, methods),
            sample,
            folder / ITEM,
            ("item_embedding", "history_embedding")[: len(methods)],
        )
    return {
        "dimension": int(found[0].shape[1]),
        "feature_sources": _write_sources(folder, network.item_inputs, data),
        "finds_new": bool(getattr(network, "finds_new", False)),
        "history_length": int(network.history_length),
        "query_inputs": list(network.query_inputs),
        "item_inputs": list(network.item_inputs),
    }


def _write_sources(folder: Path, item_inputs: Sequence[str], data: Source) -> dict[str, str]:
    """What it read of other models' embeddings, kept beside it: a bundle, or a training elsewhere that starts
    from here, then needs no export but this one. → the hash of the export that made each."""
    read = {name: made for name, made in data.feature_sources.items() if f"item.{name}" in item_inputs}
    if read:
        (folder / FEATURE_SOURCES).mkdir()
    for name in read:
        save_array(folder / FEATURE_SOURCES / f"{name}.npy", data.item_features.dense[name])
    return read


def _item_feed(names: Iterable[str], rows: np.ndarray, features: Features) -> dict[str, np.ndarray]:
    columns = features.columns
    return {n: rows if n == "item" else columns[n.removeprefix("item.")][rows] for n in names}


def _in_blocks(module: nn.Module, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The module's outputs for all rows of `feed`, some at a time."""
    count = len(next(iter(feed.values())))
    parts: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for start in range(0, count, ROWS_AT_ONCE):
            some = (torch.from_numpy(v[start : start + ROWS_AT_ONCE]) for v in feed.values())
            parts.append(module(*some))
    return [torch.cat(columns).float().numpy() for columns in zip(*parts, strict=True)]


def _query_sample(network: Any, data: Source, width: int) -> dict[str, np.ndarray]:
    """Two shoppers to export and compare with, the second without a history."""
    rng = np.random.default_rng(0)
    length = max(int(network.history_length), 1)
    history = rng.integers(1, max(len(data.items), 2), (2, length))
    history[1] = 0
    history[0, : length // 2] = 0
    every: dict[str, Callable[[], np.ndarray]] = {
        "user": lambda: np.array([min(1, len(data.users) - 1), 0]),
        "history": lambda: history,
        "history_kinds": lambda: np.where(history > 0, min(1, len(data.kinds)), 0),
        "history_ages": lambda: np.where(history > 0, 1.5, 0).astype(np.float32),
        "history_embeddings": lambda: (
            rng.normal(size=(2, length, width)) * (history > 0)[:, :, None]
        ).astype(np.float32),
        "history_mask": lambda: history > 0,
    }
    users = data.user_features.columns
    feed = {}
    for name in network.query_inputs:
        if name in every:
            feed[name] = every[name]()
        else:
            column = users[name.removeprefix("user.")]
            feed[name] = column[np.array([min(1, len(column) - 1), 0])]
    return feed


# -- rankers -----------------------------------------------------------------------------------


def _write_ranker(folder: Path, network: Any, data: Source) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    sizes = [data.sizes[name] for name in network.sparse_inputs]
    sparse = rng.integers(0, np.maximum(sizes, 1), (3, len(sizes)))  # there may be none: items without facts
    dense = rng.normal(size=(3, len(network.dense_inputs))).astype(np.float32)
    _write_onnx(_Named(network, ("forward",)), {"sparse": sparse, "dense": dense}, folder / RANK, ("scores",))
    if data.pairs is not None:
        data.pairs.to_folder(folder / PAIRS)
    if data.table is not None:
        data.table.to_folder(folder / TABLE)
    asked = {name.removeprefix("item.") for name in network.sparse_inputs if name.startswith("item.")}
    columns = {**data.item_features.sparse, **data.item_features.bags}
    kept = {name for name in columns if name in asked or asked & {f"{name}.first", f"{name}.last"}}
    if kept:
        (folder / ITEM_FEATURES).mkdir()
    for name in sorted(kept):
        save_array(folder / ITEM_FEATURES / f"{name}.npy", columns[name])
    return {
        "sparse_inputs": list(network.sparse_inputs),
        "dense_inputs": list(network.dense_inputs),
        "objectives": [asdict(objective) for objective in network.objectives],
    }


# -- ONNX --------------------------------------------------------------------------------------


def _write_onnx(module: nn.Module, feed: dict[str, np.ndarray], file: Path, outputs: tuple[str, ...]) -> None:
    """Export with a free batch, run it again on other rows, compare. Raises ExportDamaged."""
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(values)) for values in feed.values())
    module.eval()
    with quiet(), torch.inference_mode():
        torch.onnx.export(
            module,
            tensors,
            str(file),
            input_names=list(feed),
            output_names=list(outputs),
            dynamic_shapes=(tuple({0: torch.export.Dim("batch")} for _ in tensors),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    # Another number of rows than it was exported with: a batch that was baked in would show.
    some = {name: np.concatenate([values, values[:1], values]) for name, values in feed.items()}
    with torch.inference_mode():
        expected = module(*(torch.from_numpy(values) for values in some.values()))
    session = Session.open(file)
    found = session.run({name: some[name] for name in session.inputs})
    for name, ours, theirs in zip(outputs, expected, found, strict=True):
        worst = float(np.abs(ours.numpy() - theirs).max(initial=0))
        allowed = TOLERANCE * max(1.0, float(ours.abs().max()))
        if not worst < allowed:
            raise ExportDamaged(
                f"{file}: {name} differs from the network's by {worst:.2e}, allowed {allowed:.0e}; "
                "nothing was exported"
            )
