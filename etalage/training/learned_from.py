"""From how much a model learned: what the closing line of a training tells, and its export keeps."""

from typing import Any

import numpy as np

from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_stream import BehaviourStream
from etalage.features.category_set import CategorySet
from etalage.features.example_stream import ExampleStream
from etalage.features.examples import Examples
from etalage.features.photo_set import PhotoSet


def learned_from(data: Any) -> dict[str, int]:
    """The training part: what it holds → how many. Empty for rows in files that nobody counted."""
    if isinstance(data, BehaviourStream):
        data = data.data
    if isinstance(data, BehaviourSet):
        acts = data.part("train")
        shoppers = 1 + int(np.count_nonzero(acts.users[1:] != acts.users[:-1])) if len(acts) else 0
        items = int(np.count_nonzero(np.bincount(acts.items, minlength=1)))
        return {"interactions": len(acts), "shoppers": shoppers, "items": items}
    if isinstance(data, Examples):
        return {"examples": len(data.rows("train"))}
    if isinstance(data, ExampleStream):
        return {"examples": data.count("train")}
    if isinstance(data, CategorySet):
        rows = data.rows("train")
        return {"items": len(rows), "categories": len(np.unique(data.labels_N[rows]))}
    if isinstance(data, PhotoSet):
        rows = data.rows("train")
        return {"photos": len(rows), "categories": len(np.unique(data.labels_N[rows]))}
    return {}
