"""The classifiers that item_category.py compares: settings, training, answers."""

import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent)]
from grocery import LITE0, LITE2, LITE2_WEIGHTS, WEIGHTS, Grocery  # noqa: E402

HEADS: dict[str, Any] = {
    "epochs": 12, "frozen_epochs": 12, "frozen_batch_size": 64, "learning_rate": 2e-3, "average": 0.99,
}  # fmt: skip
LEARNED: dict[str, Any] = {
    "epochs": 12, "frozen_epochs": 0, "learning_rate": 1e-3, "trunk_rate": 3e-4,
    "crop": 0.4, "light": 0.15, "average": 0.98,
}  # fmt: skip
"""Twelve epochs of the whole network: what thirty minutes of two cores hold (docs/log.md)."""
FINE_TUNED, INT8 = "levels, fine-tuned", "levels, fine-tuned, int8"
SYSTEMS: dict[str, dict[str, Any]] = {
    FINE_TUNED: LEARNED,
    "levels, fine-tuned lite2": LEARNED
    | {"backbone": LITE2, "weights": LITE2_WEIGHTS, "size": 224, "epochs": 10},
    "levels": HEADS,
    "flat": HEADS | {"heads": "flat"},
    "levels, least risk": HEADS | {"decision": "risk"},
    "flat, least risk": HEADS | {"heads": "flat", "decision": "risk"},
    "levels, balanced": HEADS | {"balance": 1.0},
    "photo + title, late": HEADS | {"text": "late"},
    "photo + title, joint": HEADS | {"text": "joint"},
    "small network, from nothing": {
        "backbone": "small", "weights": None, "epochs": 40, "frozen_epochs": 0, "learning_rate": 3e-3,
        "trunk_rate": 3e-3, "crop": 0.35, "light": 0.1, "average": 0.99, "batch_size": 64,
    },
}  # fmt: skip
"""Name → settings over LITE0 with its weights. Those that are not fine-tuned share the kept features."""


@dataclass(frozen=True)
class Done:
    """What one system with one seed answered on the photos that figures are of."""

    probabilities_NL: np.ndarray
    decided_N: np.ndarray
    minutes: float
    """Of processor time, features included."""
    megabytes: float


class _Told:
    """An epoch takes minutes: each says how far it is."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        print(f"epoch {step}:", {name: round(value, 4) for name, value in values.items()}, flush=True)


def made(name: str, seed: int, shop: Grocery, keep: Path, small: bool = False) -> Done:
    """Train it, for one epoch if `small`, and ask it; what is exported stays in `keep`."""
    if name == INT8:
        return _in_int8(seed, shop, keep)
    settings = {"backbone": LITE0, "weights": WEIGHTS, "served": "float32", **SYSTEMS[name]}
    settings["checkpoint_steps"] = 10**6
    if small:
        settings |= {"epochs": 1, "frozen_epochs": min(1, settings["frozen_epochs"]), "steps_per_epoch": 2}
    if settings["frozen_epochs"] == settings["epochs"]:
        return _on_features(settings | {"seed": seed}, shop)
    return _exported(settings | {"seed": seed}, shop, keep / f"exports-{slug(name)}-{seed}")


def size_of(name: str) -> int:
    """Pixels a side."""
    settings = SYSTEMS.get(name, LEARNED)
    return int(settings.get("size", 64 if settings.get("backbone") == "small" else 224))


def slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "_")


def _exported(settings: dict[str, Any], shop: Grocery, kept: Path) -> Done:
    """Answered by the export, as it would be served."""
    from etalage.models import recipe as recipes
    from etalage.runtime.classifier import ItemClassifier
    from etalage.training.category_export import export_classifier
    from etalage.training.loop import fit

    recipe = recipes.find("item_category")
    config = recipe.config(**settings)
    with tempfile.TemporaryDirectory() as folder:
        task = recipe.bind(config, shop.data)
        trained = fit(recipe, task, config, Path(folder), tracker=_Told())
        export = export_classifier(trained, shop.data, kept)
    return _answered(shop, ItemClassifier.open(export, threads=1), export)


def _answered(shop: Grocery, classifier: Any, export: Path) -> Done:
    rows = shop.data.rows("test")
    assert shop.data.pixels_PHWC is not None
    features = classifier.features(shop.data.pixels_PHWC[rows])
    titles = [shop.data.titles[row] for row in rows]
    given = classifier.leaf_probabilities(features, np.ones(len(rows), bool), titles)
    facts = json.loads((export / "export.json").read_text())
    decided = classifier.deciding.decide(given, classifier.taxonomy)
    return Done(given, decided, facts["cpu_seconds"] / 60, facts["megabytes"])


def _in_int8(seed: int, shop: Grocery, keep: Path) -> Done:
    """The fine-tuned model of this seed with its backbone in int8."""
    from etalage.runtime.classifier import CLASSIFIER_FILES, ItemClassifier
    from etalage.runtime.export_files import hash_export
    from etalage.training.quantising import quantised

    (export,) = (keep / f"exports-{slug(FINE_TUNED)}-{seed}").glob("0*")
    with tempfile.TemporaryDirectory() as folder:
        small = Path(shutil.copytree(export, Path(folder) / "small"))
        assert shop.data.pixels_PHWC is not None
        quantised(small / "trunk.onnx", shop.data.pixels_PHWC[shop.data.rows("train")])
        facts = json.loads((small / "export.json").read_text())
        facts["model_hash"] = hash_export(small, CLASSIFIER_FILES)
        facts["megabytes"] = sum(file.stat().st_size for file in small.iterdir()) / 2**20
        (small / "export.json").write_text(json.dumps(facts))
        return _answered(shop, ItemClassifier.open(small, threads=1), small)


def _on_features(settings: dict[str, Any], shop: Grocery) -> Done:
    """Heads over the untouched backbone's features, which all of these systems share."""
    import torch

    from etalage.models import recipe as recipes
    from etalage.training.calibrating import calibrated
    from etalage.training.loop import fit

    recipe = recipes.find("item_category")
    config = recipe.config(**settings)
    task: Any = recipe.bind(config, shop.data.with_features(shop.features_NF))
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trained = fit(recipe, task, config, Path(folder))
    minutes = (time.process_time() - started) / 60
    deciding, _ = calibrated(task, trained.network)  # type: ignore[arg-type]
    rows = shop.data.rows("test")
    with torch.inference_mode():
        scores = [one for one, _ in task.scores(trained.network, rows)]
    has_title = (task.words_NT[torch.from_numpy(rows)] > 0).any(dim=1).numpy()
    given = deciding.probabilities(scores, np.ones(len(rows), bool), has_title)
    return Done(given, deciding.decide(given, shop.data.taxonomy), minutes, float("nan"))
