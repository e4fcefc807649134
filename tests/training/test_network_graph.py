"""A network to read: the table counts right, the drawing shows what is computed, all weights are there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from etalage.datasets.clicks import draw_clicks
from etalage.features.category_set import CategorySet
from etalage.features.photo_set import PhotoSet
from etalage.models import recipe as recipes
from etalage.models.recipe import TrainingConfig
from etalage.training.graph_layout import Box, Graph, _Layered
from etalage.training.network_graph import Calls, _boxes, _traced, draw, readable_weights, summary
from tests import stripes
from tests.behaviours import behaviour
from tests.category_sets import category_set, quick

GRADIENT = [name for name in recipes.names() if issubclass(recipes.find(name).config, TrainingConfig)]
SETTINGS: dict[str, dict[str, Any]] = {
    "image_similarity": stripes.SETTINGS,
    "item_category": quick(text="joint"),
    "dssm": {"feature_sources": "photo"},
    "dlrm": {"bottom": (8,), "top": (16,), "dimension": 4},
    "two_tower": {"width": 8, "history": 5},
    "neumf": {"preset": "interactions", "factors": 8},
}


class Crossed(nn.Module):
    """(B, 3) and (B, 3) → (B, 1): a product beside a perceptron, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.scale = nn.Parameter(torch.tensor([1.0, -2.0, 4.0]))
        self.head = nn.Linear(8, 1, bias=False)
        self.unused = nn.Linear(2, 2)

    def forward(self, left_B3: Tensor, right_B3: Tensor) -> Tensor:
        hidden = self.first(torch.cat([left_B3, right_B3], dim=1)).relu()
        found: Tensor = self.head(torch.cat([left_B3 * right_B3 * self.scale, hidden], dim=1))
        return found


def crossed() -> tuple[Crossed, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return Crossed(), (torch.zeros(4, 3), torch.ones(4, 3))


@pytest.fixture(params=GRADIENT)
def called(request: pytest.FixtureRequest) -> tuple[nn.Module, Calls]:
    """Every gradient model of the folder, and what it is called with."""
    recipe = recipes.find(request.param)
    torch.manual_seed(0)
    data: Any = DATA[recipe.data]()
    network = recipe.bind(recipe.config(**SETTINGS.get(recipe.name, {})), data).network()
    return network, examples_of(network, data)


def photos() -> PhotoSet:
    pixels, labels = stripes.pixels(40)
    return PhotoSet(
        [str(n) for n in range(40)], [b""] * 40, pixels, labels, stripes.NAMES, np.array(["train"] * 40)
    )


DATA: dict[str, Any] = {
    "photos": photos,
    "behaviour": behaviour,
    "categories": lambda: category_set(40),
    "examples": lambda: draw_clicks(2000, cardinalities=(3,) * 15, seed=1).examples,
}


def examples_of(network: Any, data: Any) -> Calls:
    rows = 3
    if isinstance(data, PhotoSet):
        return (torch.from_numpy(data.pixels_NHWC[:rows]),)
    if isinstance(data, CategorySet):
        assert data.pixels_PHWC is not None
        pixels = torch.from_numpy(data.pixels_PHWC[:rows])
        with torch.no_grad():
            features = network.eval().features(pixels)
        seen = torch.ones(rows, dtype=torch.bool)
        return {"features": (pixels,), "forward": (features, seen, torch.ones(rows, 8, dtype=torch.int64))}
    if hasattr(network, "sparse_inputs"):
        return (
            torch.ones(rows, len(network.sparse_inputs), dtype=torch.int64),
            torch.zeros(rows, len(network.dense_inputs)),
        )
    columns = {f"item.{n}": torch.from_numpy(c[:rows]) for n, c in data.item_features.columns.items()}
    columns |= {f"user.{n}": torch.from_numpy(c[:rows]) for n, c in data.user_features.columns.items()}
    length = network.history_length
    mask = torch.ones(rows, length, dtype=torch.bool)
    columns |= {"user": torch.ones(rows, dtype=torch.int64), "item": torch.ones(rows, dtype=torch.int64)}
    columns |= {
        "history_mask": mask,
        "history_kinds": mask.long(),
        "history": mask.long(),
        "history_ages": mask.float(),
    }
    calls = {"embed_item": tuple(columns[n] for n in network.item_inputs)}
    if "history_embeddings" in network.query_inputs:
        with torch.no_grad():
            width = network.eval().history_item(*calls["embed_item"]).shape[1]
        columns["history_embeddings"] = torch.ones(rows, length, width)
    return {"embed_query": tuple(columns[n] for n in network.query_inputs), **calls}


def test_every_gradient_model_can_be_read(called: tuple[nn.Module, Calls], tmp_path: Path) -> None:
    network, inputs = called
    table = summary(network, inputs)
    total = sum(parameter.numel() for parameter in network.parameters())
    assert table.startswith(type(network).__name__) and f"\n{total:,} parameters" in table
    file = draw(network, inputs, tmp_path / "model.png")
    with Image.open(file) as picture:
        colours = {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3)[::7].tolist()}
        inputs_and_output = {(219, 233, 246), (246, 219, 223)}
        assert min(picture.size) > 300 and inputs_and_output <= colours
    weights = readable_weights(network)
    assert set(weights) == set(network.state_dict())
    assert all(isinstance(array, np.ndarray) for array in weights.values())


def test_the_table_has_a_line_for_each_layer_its_shape_and_its_parameters() -> None:
    network, inputs = crossed()
    lines = [line.split() for line in summary(network, inputs).splitlines()]
    assert lines[0] == ["Crossed"]
    assert lines[4] == ["scale", "Parameter", "(3)", "3"]
    assert lines[5] == ["first", "Linear", "6", "→", "5", "(B,", "5)", "35"]
    assert lines[6] == ["head", "Linear", "8", "→", "1", "(B,", "1)", "8"]
    assert lines[7] == ["unused", "Linear", "2", "→", "2", "not", "called", "6"]
    assert lines[9] == ["52", "parameters,", "52", "of", "them", "learned,", "0.0", "MB"]


def test_what_is_frozen_is_not_counted_as_learned() -> None:
    network, inputs = crossed()
    network.first.requires_grad_(False)
    assert "52 parameters, 17 of them learned" in summary(network, inputs)


def test_reading_a_network_changes_nothing_about_it(tmp_path: Path) -> None:
    network, inputs = crossed()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    weights = readable_weights(network)
    summary(network, inputs)
    draw(network, inputs, tmp_path / "a.svg")
    weights["scale"][:] = 7
    assert network.training and not network.first._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_drawing_has_the_arrows_of_the_computation() -> None:
    network, inputs = crossed()
    graph = _boxes(_traced(network, "forward", inputs), network, 9)
    label = {name: box.text.split("\n")[0] for name, box in graph.boxes.items()}
    assert sorted((label[a], label[b]) for a, b in graph.arrows) == sorted(
        [
            ("left_B3", "concatenate"), ("right_B3", "concatenate"), ("concatenate", "first"),
            ("first", "relu"), ("left_B3", "×"), ("right_B3", "×"), ("×", "×"), ("scale", "×"),
            ("×", "concatenate"), ("relu", "concatenate"), ("concatenate", "head"),
            ("head", "output of forward"),
        ]
    )  # fmt: skip
    assert "unused" not in label.values()
    shapes = {box.text.split("\n")[0]: box.text.split("\n")[-1] for box in graph.boxes.values()}
    assert shapes["first"] == "(B, 5)" and shapes["head"] == "(B, 1)"


def test_a_deep_network_is_drawn_by_its_modules(tmp_path: Path) -> None:
    deep = nn.Sequential(*[nn.Sequential(*[nn.Linear(3, 3) for _ in range(12)]) for _ in range(6)])
    draw(deep, (torch.zeros(2, 3),), tmp_path / "deep.svg")
    text = (tmp_path / "deep.svg").read_text()
    assert "<!-- Sequential -->" in text and "<!-- Linear 3 → 3 -->" not in text


def test_an_unknown_kind_of_picture_is_refused(tmp_path: Path) -> None:
    network, inputs = crossed()
    with pytest.raises(ValueError, match="xyz"):
        draw(network, inputs, tmp_path / "a.xyz")


def layered(arrows: list[tuple[str, str]]) -> _Layered:
    names = dict.fromkeys(name for arrow in arrows for name in arrow)
    return _Layered(Graph({name: Box(name * 4, "layer") for name in names}, arrows))


def test_no_boxes_overlap_and_arrows_go_down() -> None:
    rng = np.random.default_rng(0)
    arrows = [(f"n{a}", f"n{b}") for a in range(24) for b in range(a + 1, 24) if rng.random() < 0.12]
    found = layered(arrows)
    boxes = [(found.place[n], box) for n, box in found.boxes.items()]
    for number, ((x, y), box) in enumerate(boxes):
        for (other_x, other_y), other in boxes[:number]:
            apart = abs(x - other_x) >= (box.width + other.width) / 2 + 0.1
            assert apart or abs(y - other_y) >= (box.height + other.height) / 2
    assert all(found.place[a][1] < found.place[b][1] for a, b in arrows)


def test_a_chain_stands_straight_though_an_arrow_passes_it() -> None:
    found = layered([("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")])
    assert np.ptp([found.place[name][0] for name in "abcd"]) < 0.1
    course = found.courses()[3]
    assert max(x for x, _ in course) - found.place["b"][0] > found.boxes["b"].width / 2 or (
        found.place["b"][0] - min(x for x, _ in course) > found.boxes["b"].width / 2
    )


def test_crossings_that_can_be_avoided_are() -> None:
    found = layered([("a", "q"), ("b", "r"), ("c", "p"), ("d", "p"), ("p", "z"), ("q", "z"), ("r", "z")])
    assert found._crossings() == 0


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        layered([("a", "b"), ("b", "c"), ("c", "a")])
