"""Networks that stay as they are, as ONNX Runtime runs them; and embedders that are a linear head over one.

runs/backbones/<key>/               model.onnx  encoder.json  export.json: photos → features
exports/image_similarity/0003-1a2b3c4d/   the same graph with the head at its end: photos → embeddings

The features that a head is solved over and those that are served come from one graph, so they are the same.
A backbone's folder is opened as a photo embedder is: its embeddings are the features.

    B batch   F features   D embedding dimension
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.errors import ExportDamaged, TooLittleData
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_set import FeatureSet
from etalage.models.class_choice import hit_at_1
from etalage.models.feature_heads import SMALLEST, LinearHead, solve_head
from etalage.models.recipe import Trained
from etalage.runtime.export_files import FORMAT, hash_export, read_facts
from etalage.runtime.photos import DECIDES, PhotoEmbedder
from etalage.training.export_draft import ExportDraft

if TYPE_CHECKING:
    import onnx

    from etalage.models.backbones import Looks

TOLERANCE = 2e-4
"""Largest difference of an embedding's component between the head in numpy and in the export."""
COMPARED = 4


def frozen_backbone(
    folder: Path, name: str, weights: str, encoder: PhotoEncoder, looks: "Looks" = "last"
) -> PhotoEmbedder:
    """The network `name` of timm with these weights: made as ONNX once, then found in `folder`.

    looks: what of it the features are, as `backbone` says.
    Raises ConfigError: no such network, weights that are not there or not its.
    """
    from etalage.models.backbones import located

    made_of = [name, hashlib.sha256(located(weights).read_bytes()).hexdigest(), encoder.to_json()]
    made_of += [] if looks == "last" else [looks]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    target, threads = folder / key, os.cpu_count() or 1
    if (target / "export.json").is_file():
        try:
            return PhotoEmbedder.open(target, threads)
        except ExportDamaged:
            shutil.rmtree(target)
    _make(target, name, weights, encoder, looks)
    return PhotoEmbedder.open(target, threads)


def _make(target: Path, name: str, weights: str, encoder: PhotoEncoder, looks: "Looks") -> None:
    from etalage.models.backbones import backbone
    from etalage.training.category_export import write_trunk

    draft = target.with_name(f".draft-{os.getpid()}-{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        made = backbone(name, weights, features=looks).eval()
        write_trunk(made, encoder.size, draft / "model.onnx", encoder.channels)
        (draft / "encoder.json").write_text(encoder.to_json(), encoding="utf-8")
        facts = {
            "format": FORMAT,
            "name": name,
            "role": "embedder",
            "kind": "photos",
            "weights": weights,
            "dimension": made.expected.features,
            "model_hash": hash_export(draft, DECIDES),
        }
        (draft / "export.json").write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@dataclass(frozen=True)
class SolvedHead:
    """A head, and the model that it makes of a run's folder."""

    head: LinearHead
    trained: Callable[[Path], Trained[Any]]


def solve_frozen(name: str, config: Any, features: FeatureSet) -> SolvedHead:
    """Solve config.head over the training photos; hit@1 is of validation photos in those. Raises
    TooLittleData: there is no training photo with a category."""
    started = time.perf_counter(), time.process_time()
    photos, found_NF = features.photos, features.features_NF
    rows = photos.rows("train")
    if not len(rows):
        raise TooLittleData("no training photo has a category: nothing to learn what is alike from")
    head = solve_head(config.head, found_NF[rows], photos.labels_N[rows], config.components, config.shrink)
    hits = hit_at_1(head(found_NF), photos.labels_N, photos.choosing(), rows)
    metrics = {} if hits is None else {"hit_at_1": hits}
    seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]

    def trained(run: Path) -> Trained[Any]:
        return Trained(name, config, None, metrics, [], seconds, cpu, run)

    return SolvedHead(head, trained)


def export_frozen(trained: Trained[Any], backbone: PhotoEmbedder, head: LinearHead, folder: Path) -> Path:
    """Write the next `folder/NNNN-hash8`: the backbone's graph with the head at its end.

    Raises ExportDamaged when ONNX Runtime's embeddings are not those of the head over the backbone's
    features.
    """
    with ExportDraft(trained, folder, "embedder", "photos", DECIDES) as draft:
        (draft.path / "model.onnx").write_bytes(
            with_head(backbone.folder / "model.onnx", head).SerializeToString(deterministic=True)
        )
        (draft.path / "encoder.json").write_text(backbone.encoder.to_json(), encoding="utf-8")
        draft.tell(dimension=head.dimension, features=backbone.model_hash)
        _compare(draft.path, backbone, head)
        return draft.named()


def with_head(trunk: Path, head: LinearHead) -> "onnx.ModelProto":
    """The graph of a file, whose one output (B, F) becomes (B, D) of length 1."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(trunk))
    graph = model.graph
    (features,) = (one.name for one in graph.output)
    at = features

    def held(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"head.{name}"))
        return f"head.{name}"

    def step(kind: str, *inputs: str, to: str) -> str:
        graph.node.append(helper.make_node(kind, list(inputs), [to], name=f"head.{kind}"))
        return to

    if head.weights_FD is not None:
        at = step("Sub", at, held("mean", head.mean_F), to="head.centred")
        at = step("MatMul", at, held("weights", head.weights_FD), to="head.projected")
    axes = held("axes", np.array([1], np.int64))
    length = step("ReduceL2", at, axes, to="head.length")
    length = step("Max", length, held("smallest", np.array(SMALLEST, np.float32)), to="head.divisor")
    step("Div", at, length, to="embeddings")
    batch = graph.output[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [batch, head.dimension])
    )
    onnx.checker.check_model(model)
    return model


def head_of(export: Path) -> LinearHead:
    """The head at the end of an export's graph. Raises ExportDamaged: there is none."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(export / "model.onnx")).graph
    held = {one.name: one for one in graph.initializer if one.name.startswith("head.")}
    if "head.axes" not in held:
        raise ExportDamaged(f"{export}: its network does not end in a head over features; train it again")
    if "head.weights" not in held:
        return LinearHead(np.zeros(int(read_facts(export)["dimension"]), np.float32), None)
    mean, weights = (numpy_helper.to_array(held[f"head.{name}"]) for name in ("mean", "weights"))
    return LinearHead(mean, weights)


def _compare(folder: Path, backbone: PhotoEmbedder, head: LinearHead) -> None:
    encoder = backbone.encoder
    shape = (COMPARED, encoder.size, encoder.size, encoder.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = PhotoEmbedder.open(folder).embed_pixels(pixels)
    worst = float(np.abs(found - head(backbone.embed_pixels(pixels))).max())
    if not worst < TOLERANCE:
        raise ExportDamaged(
            f"{folder}: the export's embeddings differ from the head's by {worst:.2e}, allowed "
            f"{TOLERANCE:.0e}; nothing was exported"
        )
