"""An export laid onto the items of a bundle: the bundle's row b is row b + 1 of the placed model.

Everything by item is taken in the bundle's order, so that nothing has to be translated while a shopper
waits. Items that the model never saw have no score by counting; an embedder that looks at content, and a
ranker, meet them as the unknown item with features of its own.

    N items of the bundle   E entries of a matrix
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.bundle.opened import (
    FACTS,
    ITEM,
    ITEM_ENCODER,
    ITEM_FEATURES,
    ITEMS,
    PAIRS,
    TO_MODEL,
    USERS,
    VERDICT,
    Opened,
    hash_export,
    read_opened,
)
from etalage.bundle.sessions import Session
from etalage.errors import ExportDamaged
from etalage.features.encoder import Encoder, Features
from etalage.features.vocabulary import Vocabulary
from etalage.lake.erasures import Known, nameless

Dense = Mapping[str, tuple[pa.Array, np.ndarray]]
"""Dense features that no column holds: name → ids and their (n, D) float32, such as photo embeddings."""

ROWS_AT_ONCE = 4096
_BY_ITEM = (
    "scores.npy",
    "indptr.npy",
    "indices.npy",
    "weights.npy",
    "item_embeddings.npy",
    "history_embeddings.npy",
)


def place(
    export: Path, items: pa.Table, target: Path, dense: Dense | None = None, erased: Known | None = None
) -> None:
    """Write the model of `export` into `target` (made; must not exist) for `items`, sorted by item_id.

    Shoppers who are among the `erased` keep their row, which others stand behind, and lose their id.
    Raises ExportDamaged: the export cannot be opened, or asks for a feature that is not there.
    """
    opened = read_opened(export)
    if opened.to_model is not None:
        raise ExportDamaged(f"{export}: is placed already; place the export that it was made from")
    vocabulary = Vocabulary(items["item_id"])
    to_model = np.concatenate([[0], opened.items.rows(vocabulary.ids)])
    target.mkdir(parents=True)
    others = (*_BY_ITEM, ITEMS, FACTS, VERDICT)
    for file in sorted(export.iterdir()):
        # Tensors are there for other trainings to start from: no score is made of them.
        beside = file.name[0] == "." or file.suffix == ".safetensors"
        if file.is_file() and file.name not in others and not beside:
            shutil.copyfile(file, target / file.name)
    vocabulary.save(target / ITEMS)
    if (target / USERS).exists():
        users = Vocabulary(nameless(opened.users.ids, erased or {}))
        users.save(target / USERS)
    _save(target / TO_MODEL, to_model)
    scoring = opened.facts["scoring"]
    if scoring == "prior":
        _save(target / "scores.npy", _prior(opened, to_model))
    elif scoring == "item_item":
        for name, array in _matrix(opened, to_model).items():
            _save(target / f"{name}.npy", array)
    elif scoring == "embeddings":
        for name, array in _embeddings(opened, to_model, items, dense or {}).items():
            _save(target / f"{name}.npy", array)
    else:
        _pairs(opened, to_model, items, target, dense or {})
    facts = {**opened.facts, "export_hash": opened.facts["model_hash"], "model_hash": hash_export(target)}
    (target / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")


def _save(file: Path, array: np.ndarray) -> None:
    with file.open("wb") as sink:
        np.lib.format.write_array(sink, np.ascontiguousarray(array), allow_pickle=False)


def _prior(opened: Opened, to_model: np.ndarray) -> np.ndarray:
    """Items that the model never saw stand behind all that it did."""
    scores = np.array(opened.array("scores", 1), np.float32)
    known = scores[1:][np.isfinite(scores[1:])]
    scores[0] = min(float(known.min(initial=0.0)), 0.0)
    return scores[to_model]


def _matrix(opened: Opened, to_model: np.ndarray) -> dict[str, np.ndarray]:
    """Rows in the bundle's order, columns renamed; those of items that the bundle lacks fall away."""
    indptr, indices, weights = (opened.array(name, 1) for name in ("indptr", "indices", "weights"))
    to_bundle = np.zeros(len(opened.items), np.int64)
    to_bundle[to_model] = np.arange(len(to_model))
    to_bundle[0] = 0
    lengths = np.where(to_model > 0, indptr[to_model + 1] - indptr[to_model], 0)
    owner = np.repeat(np.arange(len(to_model)), lengths)
    at = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + indptr[to_model][owner]
    columns = to_bundle[indices[at]]
    keep = columns > 0
    counts = np.bincount(owner[keep], minlength=len(to_model))
    order = np.lexsort((columns[keep], owner[keep]))
    return {
        "indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "indices": columns[keep][order].astype(np.int32),
        "weights": np.asarray(weights[at][keep][order], np.float32),
    }


def _embeddings(opened: Opened, to_model: np.ndarray, items: pa.Table, dense: Dense) -> dict[str, np.ndarray]:
    """By content where the model looks at it: prices change, items are new; else as it was exported."""
    kept = {"item_embeddings": opened.array("item_embeddings", 2)[to_model]}
    if (opened.folder / "history_embeddings.npy").exists():
        kept["history_embeddings"] = opened.array("history_embeddings", 2)[to_model]
    encoded = features_of(opened, items, dense)
    if not (opened.folder / ITEM).exists() or encoded is None:
        return kept
    session = Session.open(opened.folder / ITEM)
    columns = encoded.with_unknown().columns
    missing = [n for n in session.inputs if n != "item" and n.removeprefix("item.") not in columns]
    if missing:
        return kept  # features that only the training set had: what it embedded still stands
    feed = {n: to_model if n == "item" else columns[n.removeprefix("item.")] for n in session.inputs}
    blocks = [
        session.run({name: values[start : start + ROWS_AT_ONCE] for name, values in feed.items()})
        for start in range(0, len(to_model), ROWS_AT_ONCE)
    ]
    return {name: np.concatenate([block[n] for block in blocks]) for n, name in enumerate(kept)}


def features_of(opened: Opened, items: pa.Table, dense: Dense) -> Features | None:
    """(N,) features of the bundle's items as this model was taught them; None without an encoder."""
    file = opened.folder / ITEM_ENCODER
    if not file.exists():
        return None
    features = Encoder.from_json(file.read_text(encoding="utf-8"), str(file)).encode(items)
    for name, (ids, numbers) in dense.items():
        rows = Vocabulary(ids).rows(items["item_id"])
        features = features.plus(name, np.concatenate([np.zeros_like(numbers[:1]), numbers])[rows])
    return features


def _pairs(opened: Opened, to_model: np.ndarray, items: pa.Table, target: Path, dense: Dense) -> None:
    source = opened.folder / ITEM_FEATURES
    if source.is_dir():
        (target / ITEM_FEATURES).mkdir()
        encoded = features_of(opened, items, dense)
        columns = {} if encoded is None else encoded.with_unknown().columns
        for file in sorted(source.glob("*.npy")):
            known = opened.array(f"{ITEM_FEATURES}/{file.stem}", np.load(file, mmap_mode="r").ndim)
            _save(target / ITEM_FEATURES / file.name, columns.get(file.stem, known[to_model]))
    if (opened.folder / PAIRS).is_dir():
        from etalage.features.pairs import PairEncoder

        PairEncoder.from_folder(opened.folder / PAIRS).placed(to_model).to_folder(target / PAIRS)
