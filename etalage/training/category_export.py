"""Trained classifier → two ONNX networks and what decides between leaves, as runtime/classifier.py opens it.

exports/item_category/0003-1a2b3c4d/
    trunk.onnx  heads.onnx  encoder.json  words.json  taxonomy.json  deciding.json  export.json

The trunk alone looks at pixels: its features are kept, averaged over an item's photos, and used again when
only the heads are new. What a model looks at is what its config has encoders for; one that looks at no photos
has neither trunk.onnx nor encoder.json.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from etalage.errors import ConfigError, ExportDamaged
from etalage.features.category_set import CategorySet
from etalage.features.photo import PhotoEncoder
from etalage.features.words import WordEncoder
from etalage.models.classifier_task import ClassifierTask, require_classifier, trunk_of, width_of
from etalage.models.recipe import Trained
from etalage.runtime.classifier import ItemClassifier, classifier_files
from etalage.runtime.leaf_decision import LeafDecision
from etalage.training.calibrating import calibrated, judged
from etalage.training.category_served import choose_precision
from etalage.training.export import quiet
from etalage.training.export_draft import ExportDraft

TOLERANCE = 2e-3
"""Largest difference of a leaf's probability between torch and ONNX Runtime, both float32."""
COMPARED = 8


def export_classifier(trained: Trained[Any], items: CategorySet, folder: Path, task: object = None) -> Path:
    """Write the next `folder/NNNN-hash8`, opened and compared with the network before it gets its name.

    The scores are calibrated on the validation items, each of which is looked at once. task: the one that was
    trained, with the features that it has kept, and which says what is being done. Raises ExportDamaged when
    ONNX Runtime's probabilities are not the network's, ConfigError where the features were ready and there is
    no trunk.
    """
    network, config = trained.network, trained.config
    assert network is not None
    task = task if isinstance(task, ClassifierTask) else ClassifierTask(config, items)
    _, sees = require_classifier(network, task.reads)
    encoder, words = config.photo_encoder(), config.word_encoder()
    if encoder is not None and (trunk_of(network) is None or items.pixels_PHWC is None):
        raise ConfigError("a classifier of ready features has no photo network: train it from photos")
    network = network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    rows = judged(task)
    features_NF = task.features(network, rows) if len(rows) else None
    task.say("write the export")
    deciding, calibration = calibrated(task, network, features_NF)
    texts = {
        "words.json": (words or WordEncoder()).to_json(),
        "taxonomy.json": items.taxonomy.to_json(),
        "deciding.json": deciding.to_json(),
    }
    files = classifier_files(task.reads)
    with ExportDraft(trained, folder, "classifier", "classifier", files) as draft:
        dimension = 0 if encoder is None else _write_trunk(network, encoder, draft.path)
        _write_heads(network, dimension, words, list(sees), draft.path / "heads.onnx")
        for name, text in texts.items():
            (draft.path / name).write_text(text, encoding="utf-8")
        draft.tell(
            reads=list(task.reads),
            dimension=dimension,
            leaves=len(items.taxonomy.leaves_L),
            taxonomy=items.taxonomy.version,
            calibration=calibration,
        )
        _compare(network, draft.path, deciding, task)
        numbers = {"served": "float32"}
        if encoder is not None:
            task.say("compare int8 with float32")
            numbers = choose_precision(draft.path, items, config.served, config.seed, rows, features_NF)
        sizes = (draft.path / name for name in files)
        draft.tell(numbers=numbers, megabytes=round(sum(file.stat().st_size for file in sizes) / 2**20, 2))
        return draft.named()


def _write_trunk(network: nn.Module, encoder: PhotoEncoder, draft: Path) -> int:
    """Write trunk.onnx and encoder.json; → F."""
    trunk = trunk_of(network)
    assert trunk is not None
    (draft / "encoder.json").write_text(encoder.to_json(), encoding="utf-8")
    write_trunk(trunk, encoder.size, draft / "trunk.onnx", encoder.channels)
    return width_of(trunk, (encoder.size, encoder.size, encoder.channels))


def write_trunk(trunk: nn.Module, size: int, file: Path, channels: int = 3) -> None:
    """(B, size, size, channels) uint8 → (B, F) float32 as ONNX."""
    shape = (2, size, size, channels)
    photos = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    _write(trunk, (photos,), ["photos"], ["features"], file)


def _write_heads(
    network: nn.Module, dimension: int, words: WordEncoder | None, heads: list[str], file: Path
) -> None:
    """The network without its trunk, which no head asks."""
    length = 1 if words is None else words.length
    known = {
        "features": torch.randn(2, dimension),
        "has_photo": torch.tensor([True, False]),
        "words": torch.ones(2, length, dtype=torch.int64),
    }
    inputs: list[str] = list(network.inputs)  # type: ignore[arg-type]
    _write(network, tuple(known[name] for name in inputs), inputs, [f"scores_{name}" for name in heads], file)


def _write(
    network: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], file: Path
) -> None:
    with quiet():
        torch.onnx.export(
            network.eval(),
            example,
            str(file),
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in example),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _compare(network: nn.Module, folder: Path, deciding: LeafDecision, task: ClassifierTask) -> None:
    """Some training items of every kind, through both."""
    items, trunk = task.items, trunk_of(network)
    some = task.looks_M2[:: max(1, len(task.looks_M2) // COMPARED)][:COMPARED]
    has_photo_N = some[:, 1] >= 0
    titles = [items.titles[row] for row in some[:, 0]]
    pixels = np.zeros((len(some), 0), np.uint8)
    if trunk is not None and items.pixels_PHWC is not None:
        pixels = items.pixels_PHWC[np.maximum(some[:, 1], 0)]
    with torch.inference_mode():
        made = torch.zeros(len(some), 0) if trunk is None else trunk(torch.from_numpy(pixels)).float()
        words = task.words_NT[torch.from_numpy(some[:, 0])]
        heads = task.heads(network, made, torch.from_numpy(has_photo_N), words)
        scores = [one.numpy() for one, _ in heads]
    has_title_N = np.asarray((words.numpy() > 0).any(axis=1))
    expected = deciding.probabilities(scores, has_photo_N, has_title_N)
    opened = ItemClassifier.open(folder)
    found = opened.leaf_probabilities(opened.features(pixels) * has_photo_N[:, None], has_photo_N, titles)
    worst = float(np.abs(found - expected).max())
    if not worst < TOLERANCE:
        raise ExportDamaged(
            f"{folder}: the export's probabilities differ from the network's by {worst:.2e}, "
            f"allowed {TOLERANCE:.0e}; nothing was exported"
        )
