"""Trained classifier → two ONNX networks and what decides between leaves, as runtime/classifier.py opens it.

exports/item_category/0003-1a2b3c4d/
    trunk.onnx  heads.onnx  encoder.json  words.json  taxonomy.json  deciding.json  export.json

The trunk alone looks at pixels: its features are kept, averaged over an item's photos, and used again when
only the heads are new.
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
from etalage.models.backbones import Backbone
from etalage.models.item_category import ItemCategory, ItemCategoryConfig, ItemCategoryTask
from etalage.models.recipe import Trained
from etalage.runtime.classifier import CLASSIFIER_FILES, ItemClassifier
from etalage.runtime.leaf_decision import LeafDecision
from etalage.training.calibrating import calibrated, judged
from etalage.training.category_served import choose_precision
from etalage.training.export import ExportDraft, quiet

TOLERANCE = 2e-3
"""Largest difference of a leaf's probability between torch and ONNX Runtime, both float32."""
COMPARED = 8


def encoder_of(config: ItemCategoryConfig) -> PhotoEncoder:
    """How photos are brought to what the backbone was made for. Raises ConfigError: no such backbone."""
    from etalage.models.backbones import expected

    made_for = expected(config.backbone)
    return PhotoEncoder(config.size or made_for.size, 3, config.fit, made_for.resample)


def export_classifier(
    trained: Trained[Any], items: CategorySet, folder: Path, task: ItemCategoryTask | None = None
) -> Path:
    """Write the next `folder/NNNN-hash8`, opened and compared with the network before it gets its name.

    The scores are calibrated on the validation items, each of which is looked at once. task: the one that was
    trained, with the features that it has kept, and which says what is being done. Raises ExportDamaged when
    ONNX Runtime's probabilities are not the network's, ConfigError where the features were ready and there is
    no trunk.
    """
    network, config = trained.network, trained.config
    if not isinstance(network, ItemCategory) or network.trunk is None or items.pixels_PHWC is None:
        raise ConfigError("a classifier of ready features has no photo network: train it from photos")
    network = network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    task = task or ItemCategoryTask(config, items)
    rows = judged(task)
    features_NF = task.features(network, rows) if len(rows) else None
    task.say("write the export")
    encoder, words = encoder_of(config), WordEncoder(config.buckets, config.words)
    deciding, calibration = calibrated(task, network, features_NF)
    texts = {
        "encoder.json": encoder.to_json(),
        "words.json": words.to_json(),
        "taxonomy.json": items.taxonomy.to_json(),
        "deciding.json": deciding.to_json(),
    }
    with ExportDraft(trained, folder, "classifier", "classifier", CLASSIFIER_FILES) as draft:
        _write_networks(network, encoder, config, draft.path)
        for name, text in texts.items():
            (draft.path / name).write_text(text, encoding="utf-8")
        draft.tell(
            text=config.text,
            dimension=network.trunk.expected.features,
            leaves=len(items.taxonomy.leaves_L),
            taxonomy=items.taxonomy.version,
            calibration=calibration,
        )
        _compare(network, draft.path, deciding, task)
        task.say("compare int8 with float32")
        numbers = choose_precision(draft.path, items, config.served, config.seed, rows, features_NF)
        sizes = (draft.path / name for name in CLASSIFIER_FILES)
        draft.tell(numbers=numbers, megabytes=round(sum(file.stat().st_size for file in sizes) / 2**20, 2))
        return draft.named()


class _Heads(nn.Module):
    """The network without its trunk: what is exported must not hold it twice."""

    def __init__(self, network: ItemCategory) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, has_photo: Tensor, words: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.network(features, has_photo, words)
        return found


def _write_networks(
    network: ItemCategory, encoder: PhotoEncoder, config: ItemCategoryConfig, draft: Path
) -> None:
    assert network.trunk is not None
    width = network.trunk.expected.features
    length = config.words if config.text != "none" else 1
    looked_at = (torch.randn(2, width), torch.tensor([True, False]), torch.ones(2, length, dtype=torch.int64))
    write_trunk(network.trunk, encoder.size, draft / "trunk.onnx")
    outputs = [f"scores_{name}" for name in network.heads]
    _write(_Heads(network), looked_at, ["features", "has_photo", "words"], outputs, draft / "heads.onnx")


def write_trunk(trunk: Backbone, size: int, file: Path) -> None:
    """(B, size, size, 3) uint8 → (B, F) float32 as ONNX."""
    photos = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8))
    _write(trunk, (photos,), ["photos"], ["features"], file)


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


def _compare(network: ItemCategory, folder: Path, deciding: LeafDecision, task: ItemCategoryTask) -> None:
    """Some training items of every kind, through both."""
    items = task.items
    assert items.pixels_PHWC is not None and network.trunk is not None
    some = task.looks_M2[:: max(1, len(task.looks_M2) // COMPARED)][:COMPARED]
    has_photo_N = some[:, 1] >= 0
    titles = [items.titles[row] for row in some[:, 0]]
    pixels = items.pixels_PHWC[np.maximum(some[:, 1], 0)]
    with torch.inference_mode():
        features = network.trunk(torch.from_numpy(pixels)) * torch.from_numpy(has_photo_N)[:, None]
        words = task.words_NT[torch.from_numpy(some[:, 0])]
        scores = [one.numpy() for one in network(features, torch.from_numpy(has_photo_N), words)]
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
