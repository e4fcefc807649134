"""One place makes every optimiser and says how its learning rate goes."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from etalage.config import validated
from etalage.errors import ConfigError
from etalage.models import recipe as recipes
from etalage.models.dlrm import DlrmConfig
from etalage.models.embedding_tables import RowwiseAdagrad, RowwiseTables
from etalage.models.recipe import BaseTask, TrainingConfig
from etalage.training import optim


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = RowwiseTables((3, 4), 2)
        self.linear = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def groups(config: TrainingConfig, network: nn.Module) -> dict[str, dict[str, Any]]:
    """By parameter, the group that it is in."""
    task: Any = BaseTask()
    task.config = config
    built = optim.build(task, network, config)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(p)]: group for group in built.param_groups for p in group["params"]}


def test_what_learns_is_in_it_once_and_biases_are_not_decayed() -> None:
    found = groups(TrainingConfig(learning_rate=0.5, weight_decay=0.1), nn.Sequential(nn.Linear(2, 3)))
    assert found["0.weight"]["weight_decay"] == 0.1 and found["0.bias"]["weight_decay"] == 0
    assert {group["lr"] for group in found.values()} == {0.5}


def test_tables_have_their_own_rate_and_what_is_frozen_is_left_out() -> None:
    config = DlrmConfig(learning_rate=0.5, table_rate=0.25, table_decay=0.125, weight_decay=0.1)
    found = groups(config, Small())
    assert set(found) == {"tables.weight", "linear.weight", "linear.bias"}
    assert (found["tables.weight"]["lr"], found["tables.weight"]["decay"]) == (0.25, 0.125)
    assert found["linear.bias"]["weight_decay"] == 0.1  # of dlrm, all is decayed


def test_tables_without_a_rate_of_their_own_have_that_of_all() -> None:
    config = recipes.find("two_tower").config(embeddings="row_wise", learning_rate=0.5)
    assert groups(config, Small())["tables.weight"]["lr"] == 0.5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("adagrad", torch.optim.Adagrad),
        ("sgd", torch.optim.SGD),
    ],
)  # fmt: skip
def test_every_optimiser_is_what_its_name_says(name: Any, kind: type[torch.optim.Optimizer]) -> None:
    task: Any = BaseTask()
    task.config = TrainingConfig(optimiser=name)
    assert type(optim.build(task, nn.Linear(2, 2), task.config)) is kind
    task.config = DlrmConfig(optimiser=name)
    both = optim.build(task, Small(), task.config)
    assert isinstance(both, RowwiseAdagrad) and type(both.dense) is kind


@given(st.floats(0, 0.99), st.floats(0, 0.9), st.floats(0, 1))
def test_a_rate_rises_falls_and_ends_where_it_is_told(done: float, warm_up: float, final: float) -> None:
    for schedule in ("linear", "cosine"):
        config = TrainingConfig(schedule=schedule, warm_up=warm_up, final_rate=final)  # type: ignore[arg-type]
        assert 0 <= optim.rate(config, done) <= 1
        assert optim.rate(config, max(warm_up, 1e-9)) == pytest.approx(1, abs=1e-3)
        assert optim.rate(config, 1 - 1e-12) == pytest.approx(final, abs=1e-6)
    assert optim.rate(TrainingConfig(), done) == 1


def test_a_schedule_begins_anew_in_each_phase_and_warms_up_in_the_last() -> None:
    config = TrainingConfig(schedule="linear", warm_up=0.5)
    at = {done: optim.rate(config, done, (0.4,)) for done in (0.0, 0.2, 0.4, 0.55, 0.7, 0.85)}
    expected = {0.0: 1, 0.2: 0.5, 0.4: 0.01, 0.55: 0.5, 0.7: 1, 0.85: 0.5}
    assert at == pytest.approx(expected)
    assert optim.rate(config, 0.5, (1.0,)) == 0.5  # one phase alone, and not the last


@pytest.mark.parametrize(
    ("model", "given", "told"),
    [
        ("item2vec", {"schedule": "constant", "final_rate": 0.5}, "final_rate = 0.5 does nothing here"),
        ("two_tower", {"optimiser": "sgd", "betas": [0.5, 0.5]}, "betas = (0.5, 0.5) does nothing here"),
        ("two_tower", {"table_rate": 0.1}, "table_rate = 0.1 does nothing here"),
        ("dlrm", {"table_optimiser": "sgd", "table_start": 0.5}, "table_start = 0.5 does nothing here"),
        (
            "matrix_factorisation",
            {"network": "deep", "l2": 0.5},
            'l2 = 0.5 does nothing here: it needs network = "plain"',
        ),
        (
            "item_knn",
            {"similarity": "cosine", "k1": 2},
            'k1 = 2.0 does nothing here: it needs similarity = "bm25"',
        ),
        ("item_knn", {"reach": 3}, 'it needs similarity = "sequence"; set that, or leave reach out'),
        (
            "item_knn",
            {"similarity": "sequence", "strength": "log_count"},
            "strength = 'log_count' does nothing",
        ),
        ("matrix_factorisation", {"scale": 3}, 'scale = 3.0 does nothing here: it needs network = "deep"'),
        ("two_tower", {"negatives": 9}, 'negatives = 9 does nothing here: it needs objective = "binary"'),
        ("two_tower", {"history": 0, "user_id": True, "heads": 4}, "it needs history above 0"),
        ("dssm", {"power": 0.5}, 'power = 0.5 does nothing here: it needs loss = "bce"'),
        ("neumf", {"hidden": 0.5}, 'it needs user_by or item_by = "acts" or "both"'),
        ("image_similarity", {"softmax_weight": 0, "softmax_scale": 9}, "it needs softmax_weight above 0"),
        ("item_category", {"heads": "flat", "level_weights": [1.0]}, 'it needs heads = "levels"'),
        (
            "item_category",
            {"heads": "levels", "buckets": 64},
            'buckets = 64 does nothing here: it needs text = "late" or "joint"',
        ),
        ("item_category", {"heads": "flat", "words": 9}, "words = 9 does nothing here"),
        ("item_category", {"text_width": 9}, "text_width = 9 does nothing here"),
        (
            "item_category",
            {"text": "late", "hidden": 9},
            'hidden = 9 does nothing here: it needs text = "joint"',
        ),
        ("item_category", {"drop_photo": 0.2}, 'it needs text = "joint"'),
        ("item_category", {"text": "late", "drop_title": 0.2}, 'it needs text = "joint"'),
        (
            "item_category",
            {"light": 0.1},
            "light = 0.1 does nothing here: it needs frozen_epochs below epochs",
        ),
        ("item_category", {"frozen_epochs": 12, "keep_stages": 2}, "it needs frozen_epochs below epochs"),
        (
            "dlrm",
            {"table_sharding": "table_wise"},
            "table_sharding = 'table_wise' does nothing here: it needs embeddings = \"torchrec\"",
        ),
        (
            "dlrm",
            {"embeddings": "torchrec", "average": 0.9},
            'average = 0.9 does nothing here: it needs embeddings = "row_wise"',
        ),
        ("two_tower", {"tables": "row_wise"}, "this key is called embeddings now"),
        ("neumf", {"part": "gmf", "layers": [8]}, 'it needs part = "neumf" or "mlp"'),
        ("neumf", {"part": "mlp", "factors": 9}, 'it needs part = "neumf" or "gmf"'),
        ("dlrm", {"top": [], "dropout": 0.5}, "it needs a layer in top"),
        ("dssm", {"layers": [], "dropout": 0.5}, "it needs a layer in layers"),
        ("dlrm", {"batch": 3}, "batch = 3: this key is called batch_size now"),
        ("dlrm", {"falling": False}, "this key is called schedule ('linear' or 'constant') now"),
        ("matrix_factorisation", {"decay": 0.1}, "this key is called l2 (network = 'plain') or weight_decay"),
    ],
)
def test_a_setting_that_does_nothing_and_one_of_an_older_version_are_refused(
    model: str, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        validated(recipes.find(model).config, given, where=f"[models.{model}]")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("two_tower", {"preset": "original", "objective": "softmax"}),
        ("dssm", {"preset": "original", "loss": "softmax"}),
        ("neumf", {"preset": "interactions", "user_by": "id", "item_by": "id"}),
        ("dlrm", {"preset": "criteo_kaggle", "table_optimiser": "rowwise_adagrad"}),
        ("matrix_factorisation", {"network": "deep"}),
        ("item_knn", {"similarity": "bm25", "k1": 2, "b": 0.5}),
    ],
)
def test_what_a_preset_filled_in_is_held_against_nobody(model: str, given: dict[str, Any]) -> None:
    config = recipes.find(model).config
    once = validated(config, given, where=f"[models.{model}]")
    assert validated(config, once.model_dump(), where="as written down") == once


def test_every_model_has_one_name_for_one_setting() -> None:
    old = {"batch", "decay", "fall", "falling", "drawn", "sampled", "validate_users", "frozen_batch"}
    for name in recipes.names():
        fields = set(recipes.find(name).config.model_fields)
        assert not issubclass(recipes.find(name).config, TrainingConfig) or not fields & old, name
        assert not fields & set(recipes.find(name).config.RENAMED), name
