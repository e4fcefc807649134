"""A classifier's export made in milliseconds: real ONNX files, opened by the real runtime, no training.

It looks at a photo's mean colour and at the words of a title that are leaves' own: what it answers can be
worked out by hand.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from etalage.features.photo import PhotoEncoder
from etalage.features.words import WordEncoder
from etalage.lake.taxonomy import Taxonomy
from etalage.runtime.classifier import CLASSIFIER_FILES, CONFUSION
from etalage.runtime.export_files import FORMAT, hash_export, write_verdict
from etalage.runtime.leaf_decision import LeafDecision
from etalage.shop import Shop
from tests.exports import tiny_export
from tests.shops import PASSED as PHOTOS_PASSED
from tests.shops import item_row, photo_row, rows_of

CLASSIFIER = "item_category"

LINES = """# Google_Product_Taxonomy_Version: 2021-09-21
1 - Food
20 - Food > Drinks
300 - Food > Drinks > Juice
301 - Food > Drinks > Milk
21 - Food > Apples
5 - Clothing
50 - Clothing > Dresses
"""
LEAVES: dict[str, tuple[str, tuple[int, int, int], str]] = {
    "300": ("Food > Drinks > Juice", (255, 160, 0), "juice"),
    "301": ("Food > Drinks > Milk", (230, 240, 255), "milk"),
    "21": ("Food > Apples", (200, 0, 0), "apple"),
    "50": ("Clothing > Dresses", (0, 60, 200), "dress"),
}
"""Leaf → its path, the colour that it is known by, and a word."""
SIDE = 16
SHARPNESS = 12.0
"""Of the photo's head; a word counts 4."""
PASSED: dict[str, Any] = {
    "model": "item_category",
    "metric": "accuracy",
    "passed": True,
    "measures": {"reliability": [0.1] * 500},
}
MATRIX = {
    "categories": [
        {"id": "50", "path": "Clothing > Dresses", "value": 410.5},
        {"id": "300", "path": "Food > Drinks > Juice", "value": 90.0},
        {"id": "21", "path": "Food > Apples", "value": 12.0},
    ],
    "counts": [[31, 2, 0], [4, 17, 1], [0, 0, 9]],
    "elsewhere": [1, 0, 3],
}


def coloured(leaf: str, number: int = 0, size: int = SIDE) -> bytes:
    """A PNG in the colour of `leaf`, no two of one number: a corner is a shade of its own."""
    colour = LEAVES[leaf][1]
    image = Image.new("RGB", (size, size), colour)
    ImageDraw.Draw(image).rectangle((0, 0, 2, 1 + number % 3), fill=(number % 256, number // 256, 90))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def tiny_taxonomy() -> Taxonomy:
    """LINES, as a taxonomy."""
    ids, paths = zip(*(line.split(" - ") for line in LINES.splitlines()[1:]), strict=True)
    parents = [paths.index(above) if (above := path.rpartition(" > ")[0]) else -1 for path in paths]
    return Taxonomy(ids, [path.split(" > ")[-1] for path in paths], np.array(parents))


def classifier_export(
    folder: Path,
    *,
    text: bool = True,
    sharpness: float = SHARPNESS,
    verdict: Mapping[str, Any] | None = PASSED,
    confusion: Mapping[str, Any] | None = MATRIX,
    name: str = CLASSIFIER,
) -> Path:
    """An export in `folder`; another `sharpness` is another model hash over the same photo network."""
    folder.mkdir(parents=True, exist_ok=True)
    taxonomy = tiny_taxonomy()
    words = WordEncoder(buckets=512, length=16)
    heads = _heads([taxonomy.ids[row] for row in taxonomy.leaves_L], words, sharpness, text)
    (folder / "trunk.onnx").write_bytes(_trunk().SerializeToString())
    (folder / "heads.onnx").write_bytes(heads.SerializeToString())
    deciding = LeafDecision({"photo": [1.0, 0.0], "title": [0.0, 1.0], "both": [1.0, 1.0]})
    texts = {
        "encoder.json": PhotoEncoder(SIDE, 3).to_json(),
        "words.json": words.to_json(),
        "taxonomy.json": taxonomy.to_json(),
        "deciding.json": deciding.to_json(),
    }
    for file, content in texts.items():
        (folder / file).write_text(content, encoding="utf-8")
    facts = {
        "format": FORMAT,
        "name": name,
        "role": "classifier",
        "kind": "classifier",
        "reads": ["photo", "title"] if text else ["photo"],
        "dimension": 3,
        "model_hash": hash_export(folder, CLASSIFIER_FILES),
    }
    (folder / "export.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    if verdict is not None:
        write_verdict(folder, {"model_hash": facts["model_hash"], **verdict})
    if confusion is not None:
        (folder / CONFUSION).write_text(json.dumps(confusion), encoding="utf-8")
    return folder


def _trunk() -> onnx.ModelProto:
    """Photos → mean colour, 0 … 1."""
    nodes = [
        helper.make_node("Cast", ["photos"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "full"], ["unit"]),
        helper.make_node("ReduceMean", ["unit"], ["features"], axes=[1, 2], keepdims=0),
    ]
    photos = helper.make_tensor_value_info("photos", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])
    return _model(nodes, [photos], [features], {"full": np.array(255, np.float32)})


def _heads(leaves: list[str], words: WordEncoder, sharpness: float, text: bool) -> onnx.ModelProto:
    """-sharpness · distance² to each leaf's colour; 4 for each of a title's words that is the leaf's."""
    colours = np.array([LEAVES[leaf][1] for leaf in leaves], np.float32) / 255
    known = np.zeros((words.buckets + 1, len(leaves)), np.float32)
    for place, leaf in enumerate(leaves):
        known[words.encode([LEAVES[leaf][2]])[0, 0], place] = 4
    constants = {
        "weight": 2 * sharpness * colours.T,
        "bias": -sharpness * (colours**2).sum(axis=1),
        "known": known,
    }
    nodes = [
        helper.make_node("MatMul", ["features", "weight"], ["near"]),
        helper.make_node("Add", ["near", "bias"], ["scores_photo"]),
        helper.make_node("Gather", ["known", "words"], ["each"], axis=0),
        helper.make_node("ReduceSum", ["each", "along"], ["scores_title"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("words", TensorProto.INT64, ["batch", "length"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(leaves)])
        for name in ("scores_photo", "scores_title")
    ]
    if not text:
        nodes, inputs, outputs = nodes[:2], inputs[:1], outputs[:1]
        constants = {name: constants[name] for name in ("weight", "bias")}
    else:
        constants["along"] = np.array([1], np.int64)
    return _model(nodes, inputs, outputs, constants)


def _model(nodes: Any, inputs: Any, outputs: Any, constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    kept = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9  # opset 17 belongs to it; older runtimes open it too
    onnx.checker.check_model(model)
    return model


def classified_shop(folder: Path, items: int = 24, *, photos: bool = True, text: bool = True) -> Shop:
    """A shop whose item n is of leaf n % 4 by its photo's colour, with a classifier, and a model of photos.

    Every sixth item (0, 6, …) has no photo; item 5 has a second one, in the colour of another leaf; items 8
    and 9 have no merchant's category. Nothing is classified or published yet.
    """
    shop = Shop.create(folder, "Corner")
    numbers = range(items)
    merchants = [
        item_row(n, title=f"Piece {n}", category_id=None if n in (8, 9) else f"Ours > Shelf {n % 3}")
        for n in numbers
    ]
    shop.lake.table("items").merge(rows_of("items", merchants))
    drawn = [photo_row(n, coloured(leaf_of(n), n)) for n in numbers if n % 6]
    drawn.append(photo_row(5, coloured("300", 99), url="drawn://5/back"))
    shop.lake.table("photos").merge(rows_of("photos", drawn))
    classifier_export(shop.exports(CLASSIFIER) / "0001-tiny", text=text)
    if photos:
        write_verdict(
            tiny_export(shop.exports("image_similarity") / "0001-tiny", size=12, channels=3), PHOTOS_PASSED
        )
    return shop


def leaf_of(number: int) -> str:
    return list(LEAVES)[number % len(LEAVES)]
