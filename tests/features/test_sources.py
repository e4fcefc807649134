import numpy as np
import pytest

from etalage.errors import ConfigError
from etalage.features.encoder import Features
from etalage.features.sources import FeatureSource, require_features, unknown_items, with_sources
from etalage.features.vocabulary import Vocabulary

ITEMS = Vocabulary(["a", "b", "c", "d"])


def source() -> FeatureSource:
    """It knows b and d, has seen too little of a, and knows an item that is not sold here."""
    rows = np.array([[3, 4], [0, 0], [9, 9], [1, 2]], np.float32)
    return FeatureSource(["d", "a", "gone", "b"], rows, "f00d")


def test_embeddings_stand_by_row_and_what_is_not_known_is_zeros() -> None:
    rows = source().by_row(ITEMS)
    assert rows.tolist() == [[0, 0], [0, 0], [1, 2], [0, 0], [3, 4]] and rows.dtype == np.float32
    assert unknown_items(rows) == 2


def test_each_source_is_one_more_dense_feature() -> None:
    sparse = Features(sparse={"brand": np.arange(5)}, sizes={"brand": 5})
    found = with_sources(sparse, {"item2vec": source(), "photo": source()}, ITEMS)
    assert list(found.columns) == ["brand", "item2vec", "photo"]
    assert found.dense["photo"].tolist() == source().by_row(ITEMS).tolist()


def test_ids_and_embeddings_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 items with embeddings of shape \(2, 3\)"):
        FeatureSource(["a"], np.zeros((2, 3), np.float32), "f00d")


def test_a_feature_that_items_lack_is_named_beside_those_they_have() -> None:
    features = with_sources(Features(), {"photo": source()}, ITEMS)
    require_features(features, ("photo",), "dssm")
    with pytest.raises(ConfigError, match=r"items lack the numbers of 'item2vec' \(they have: photo\)"):
        require_features(features, ("photo", "item2vec"), "dssm")
