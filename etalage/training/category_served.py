"""Which numbers a classifier's photo network is served in: int8 where it costs no accuracy, else float32.

Of two that are alike the cheaper one is served. What is compared are the validation items' answers of the two
exports, each as it would be served; the gate of the evaluation then judges what was chosen.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np

from etalage.features.category_set import CategorySet
from etalage.runtime.classifier import BATCH, ItemClassifier
from etalage.runtime.sessions import Session
from etalage.training.quantising import CALIBRATED_ON, quantised

POINT = 0.01
"""Of leaf accuracy that int8 may cost."""
FEWEST, MOST = 50, 1000
"""Validation items with photos: of fewer nothing can be told, more tell nothing new."""


def choose_precision(
    draft: Path,
    items: CategorySet,
    served: Literal["cheapest", "float32", "int8"],
    seed: int,
    rows: np.ndarray,
    features_NF: np.ndarray | None,
) -> dict[str, Any]:
    """Leave in `draft`, a whole export in float32, the trunk.onnx that is to be served.

    rows: (n,) validation items with a sure leaf; features_NF: (n, F) what the network makes of their photos,
    which nobody asks it again (None: there are none).
    → what export.json tells: `served`, and of int8 the validation `items`, their `accuracy` in either and
    the share of them that both answer `alike`. The hash in export.json is then no longer the draft's.
    """
    places = _judged(items, seed, rows)
    photos = items.photos_of(items.rows("train"))
    if served == "float32" or not len(photos) or (served == "cheapest" and len(places) < FEWEST):
        return {"served": "float32"}
    assert items.pixels_PHWC is not None
    small = draft / "int8.onnx"
    shutil.copyfile(draft / "trunk.onnx", small)
    if len(photos) > CALIBRATED_ON:
        photos = np.sort(np.random.default_rng(seed).choice(photos, CALIBRATED_ON, replace=False))
    quantised(small, items.pixels_PHWC[photos], seed)
    told: dict[str, Any] = {}
    if len(places) and features_NF is not None:
        classifier = ItemClassifier.open(draft)
        some = rows[places]
        whole_N = _answers(classifier, features_NF[places], items, some)
        small_N = _answers(classifier, _features(classifier, Session.open(small), items, some), items, some)
        truth_N = items.leaf_N[some]
        told = {
            "items": len(some),
            "accuracy": {
                "float32": round(float((whole_N == truth_N).mean()), 4),
                "int8": round(float((small_N == truth_N).mean()), 4),
            },
            "alike": round(float((whole_N == small_N).mean()), 4),
        }
    if served == "cheapest" and told["accuracy"]["int8"] < told["accuracy"]["float32"] - POINT:
        small.unlink()
        return {"served": "float32", **told}
    small.replace(draft / "trunk.onnx")
    return {"served": "int8", **told}


def _judged(items: CategorySet, seed: int, rows: np.ndarray) -> np.ndarray:
    """Places among `rows` of those with a photo, MOST at most."""
    places = np.flatnonzero(items.has_photo_N[rows])
    if len(places) > MOST:
        places = np.sort(np.random.default_rng(seed).choice(places, MOST, replace=False))
    return places


def _features(classifier: ItemClassifier, trunk: Session, items: CategorySet, rows: np.ndarray) -> np.ndarray:
    """(n, F) float32 of these items by another trunk."""
    assert items.pixels_PHWC is not None
    photos = items.pixels_PHWC[items.photos_of(rows)]
    return items.means(trunk.rows(photos, classifier.dimension, BATCH, "validation features"), rows)


def _answers(
    classifier: ItemClassifier, features: np.ndarray, items: CategorySet, rows: np.ndarray
) -> np.ndarray:
    """(n,) leaves, of photos and titles as they are."""
    titles = [items.titles[row] for row in rows]
    given = classifier.leaf_probabilities(features, np.ones(len(rows), bool), titles)
    return classifier.deciding.decide(given, classifier.taxonomy)
