"""Model exports made in milliseconds: real ONNX files, opened by the real runtime, no training."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from etalage.features.photo import PhotoEncoder
from etalage.runtime.export_files import FORMAT, hash_export
from etalage.runtime.photos import DECIDES


def tiny_export(
    folder: Path,
    size: int = 28,
    channels: int = 1,
    dimension: int = 16,
    seed: int = 0,
    name: str = "image_similarity",
) -> Path:
    """An embedder that is one fixed random projection of the pixels, L2-normalised.

    `photos` uint8 (B, size, size, channels) → `embeddings` float32 (B, dimension). The same
    `seed` gives the same file, byte for byte; another seed another model hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = PhotoEncoder(size=size, channels=channels)
    model = _network(size, channels, dimension, seed)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    described = encoder.to_json()
    text = described if isinstance(described, str) else json.dumps(described, indent=1)
    (folder / "encoder.json").write_text(text, encoding="utf-8")
    facts = {
        "format": FORMAT,
        "name": name,
        "role": "embedder",
        "kind": "photos",
        "dimension": dimension,
        "model_hash": hash_export(folder, DECIDES),
    }
    (folder / "export.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return folder


def _network(size: int, channels: int, dimension: int, seed: int) -> onnx.ModelProto:
    generator = np.random.default_rng(seed)
    # Centred pixels (x/255 - 1/2): white padding and dark photos then point in different directions.
    projection = generator.normal(size=(size * size * channels, dimension)).astype(np.float32)
    constants = [
        numpy_helper.from_array(np.array(255.0, dtype=np.float32), "full"),
        numpy_helper.from_array(np.array(0.5, dtype=np.float32), "half"),
        numpy_helper.from_array(projection, "projection"),
        numpy_helper.from_array(np.array(1e-12, dtype=np.float32), "tiny"),
    ]
    nodes = [
        helper.make_node("Cast", ["photos"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "full"], ["unit"]),
        helper.make_node("Sub", ["unit", "half"], ["centred"]),
        helper.make_node("Flatten", ["centred"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "projection"], ["projected"]),
        helper.make_node("ReduceL2", ["projected"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["safe"]),
        helper.make_node("Div", ["projected", "safe"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["batch", size, size, channels])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", dimension])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9  # opset 17 belongs to it; older runtimes open it too
    onnx.checker.check_model(model)
    return model
