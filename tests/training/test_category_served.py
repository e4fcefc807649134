"""int8 is served where it answers as float32 does; where it costs accuracy, float32 is."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.features.category_set import CategorySet
from etalage.models.item_category import RECIPE, ItemCategoryConfig
from etalage.models.layers import Residual
from etalage.models.recipe import Trained
from etalage.runtime.classifier import CLASSIFIER_FILES, ItemClassifier
from etalage.runtime.export_files import hash_export
from etalage.training.category_export import export_classifier
from etalage.training.loop import fit
from tests.category_sets import category_set, quick

Model = Trained[Any]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Model:
    items = category_set()
    config = ItemCategoryConfig(**quick())
    return fit(RECIPE, RECIPE.bind(config, items), config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def items(learned: Model, tmp_path_factory: pytest.TempPathFactory) -> CategorySet:
    """The true leaf of each item is what the network in float32 answers: whatever int8 changes is wrong."""
    drawn = category_set()
    opened = ItemClassifier.open(export_classifier(learned, drawn, tmp_path_factory.mktemp("float32")))
    features = opened.features(pixels(drawn))
    given = opened.leaf_probabilities(features, np.ones(len(drawn), bool), drawn.titles)
    answers_N = opened.deciding.decide(given, opened.taxonomy)
    assert len(np.unique(answers_N)) == 4, "nothing could be answered otherwise"
    return replace(drawn, labels_N=drawn.taxonomy.leaves_L[answers_N])


def pixels(items: CategorySet) -> np.ndarray:
    assert items.pixels_PHWC is not None
    return items.pixels_PHWC


def serving(model: Model, served: str) -> Model:
    return replace(model, config=model.config.model_copy(update={"served": served}))


def harmed(model: Model) -> Model:
    """The same network, and nothing that 255 steps could tell: every block holds one channel 900 times as
    wide as the others, whose readers divide by 900."""
    network: Any = deepcopy(model.network)
    with torch.no_grad():
        for block in (one for one in network.trunk.modules() if isinstance(one, Residual)):
            norm = next(one for one in block.first.modules() if isinstance(one, torch.nn.BatchNorm2d))
            reader = next(one for one in block.second.modules() if isinstance(one, torch.nn.Conv2d))
            norm.weight[1] *= 900
            norm.bias[1] *= 900
            reader.weight[:, 1] /= 900
    return replace(model, network=network)


def exported(trained: Model, items: CategorySet, folder: Path) -> tuple[dict[str, Any], Path]:
    made = export_classifier(trained, items, folder)
    facts: dict[str, Any] = json.loads((made / "export.json").read_text())
    assert facts["model_hash"] == hash_export(made, CLASSIFIER_FILES)
    assert not (made / "int8.onnx").exists()
    ItemClassifier.open(made)
    return facts, made


def test_where_both_answer_alike_int8_is_served_and_the_export_tells_why(
    learned: Model, items: CategorySet, tmp_path: Path
) -> None:
    facts, _ = exported(serving(learned, "cheapest"), items, tmp_path / "cheapest")
    whole, _ = exported(serving(learned, "float32"), items, tmp_path / "float32")
    numbers = facts["numbers"]
    assert numbers["served"] == "int8" and numbers["items"] == 60
    assert numbers["accuracy"]["float32"] == 1 and numbers["accuracy"]["int8"] >= 0.99
    assert numbers["alike"] == numbers["accuracy"]["int8"], "here the truth is what float32 answers"
    assert facts["model_hash"] != whole["model_hash"] and facts["megabytes"] < 0.6 * whole["megabytes"]
    assert whole["numbers"] == {"served": "float32"}


def test_where_int8_costs_more_than_a_point_float32_is_served(
    learned: Model, items: CategorySet, tmp_path: Path
) -> None:
    facts, made = exported(serving(harmed(learned), "cheapest"), items, tmp_path)
    numbers = facts["numbers"]
    assert numbers["served"] == "float32"
    assert numbers["accuracy"]["float32"] == 1 and numbers["accuracy"]["int8"] < 0.99
    some = pixels(items)[:20]
    network: Any = learned.network
    with torch.inference_mode():
        plain = network.trunk(torch.from_numpy(some)).numpy()
    assert np.allclose(ItemClassifier.open(made).features(some), plain, atol=1e-3)


def test_who_asks_for_int8_gets_it_and_reads_what_it_costs(
    learned: Model, items: CategorySet, tmp_path: Path
) -> None:
    facts, _ = exported(serving(harmed(learned), "int8"), items, tmp_path)
    assert facts["numbers"]["served"] == "int8" and facts["numbers"]["accuracy"]["int8"] < 0.99


def test_too_few_validation_items_tell_nothing_and_float32_is_served(
    learned: Model, items: CategorySet, tmp_path: Path
) -> None:
    few = replace(items, parts_N=np.where(np.arange(len(items)) < 40, "validation", "train"))
    facts, _ = exported(serving(learned, "cheapest"), few, tmp_path / "few")
    assert facts["numbers"] == {"served": "float32"}
    none = replace(items, parts_N=np.full(len(items), "train"))
    facts, _ = exported(serving(learned, "int8"), none, tmp_path / "none")
    assert facts["numbers"] == {"served": "int8"}
