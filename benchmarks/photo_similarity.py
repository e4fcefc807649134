"""Which photos of groceries are alike, of classes that were learned and of others? Ways of embedding, side by
side.

    OMP_NUM_THREADS=1 python benchmarks/photo_similarity.py [--data GROCERY] [--taxonomy GOOGLE.txt]

Each seed holds another third of the classes out of training; so over three seeds each class is new once. Each
system and seed is kept in --keep when it is done, so a run that was stopped goes on.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from grocery import KEPT, LITE0, Grocery, grocery  # noqa: E402
from item_category import GOOGLE  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.evaluation.protocols import raw_pixels  # noqa: E402
from etalage.features.photo import PhotoEncoder  # noqa: E402
from etalage.features.photo_set import PhotoSet  # noqa: E402
from etalage.models.class_choice import HeldOut, hit_at_1, judged  # noqa: E402
from etalage.models.feature_heads import HEADS, Head, solve_head  # noqa: E402
from etalage.models.image_similarity import RECIPE, ImageSimilarityConfig  # noqa: E402
from etalage.training.loop import fit  # noqa: E402

SIZE, FOLDS = 64, 3
RAW, SMALL_NETWORK = "raw pixels", "small network"
SEEN, NEW, ALL = "classes seen", "classes held out", "all classes learned"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/photo_similarity.py --data GROCERY --taxonomy GOOGLE.txt"
NOTE = (
    "{queries} photos of the published part `val` search in {index:,} of `train`, of all classes: hit@1, "
    "the share whose nearest photo has their class. `{seen}` and `{new}`: a third of the classes, another"
    " one for each seed, is held out of training, and queries are of the others, or of these. `{all}`: "
    "nothing is held out. Value: mean over seeds; interval: the lowest and the highest. {small}: "
    "Etalage's, from nothing, {epochs} epochs at {size} pixels, default settings. The others: features of"
    " EfficientNet-lite0 as ImageNet made them, at 224 pixels, and a head over them, default settings; "
    "`plain` is none. `seconds` is processor time of training alone, features not counted. Nothing was "
    "learned of `val`; the list of heads and their shrinkage was drawn up while looking at it."
)


def main(
    data: Annotated[Path | None, typer.Option(help="The Grocery Store data set.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Google's file with ids.")] = None,
    seeds: Annotated[str, typer.Option()] = "0,1,2",
    epochs: Annotated[int, typer.Option(help="Of the small network.")] = 10,
    keep: Annotated[Path | None, typer.Option(help="Where finished parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("photo_similarity", small, out)
    data = bench.data(data, "grocery-store", miniature.grocery)
    if taxonomy is None:
        taxonomy = bench.data(None, "google-product-taxonomy", miniature.google) / GOOGLE
    keep = bench.work(keep)
    keep.mkdir(parents=True, exist_ok=True)
    if small:
        seeds, epochs = "0", 1
    shop = grocery(
        data, taxonomy, PhotoEncoder(SIZE, 3, "pad"), kept=keep / "features.npy" if small else KEPT
    )
    photos = photo_set(shop)
    wanted = [int(seed) for seed in seeds.split(",")]
    found: dict[str, list[dict[str, float]]] = {}
    for name, embed in systems(shop, epochs).items():
        for seed in wanted:
            part = keep / f"{name.replace(' ', '-')}-{seed}-{epochs}.json"
            if not part.exists():
                part.write_text(json.dumps(measured(photos, embed, seed)), encoding="utf-8")
                print(name, seed, part.read_text(encoding="utf-8"), flush=True)
            found.setdefault(name, []).append(json.loads(part.read_text(encoding="utf-8")))
    bench.write(
        rows_of(found),
        command=COMMAND,
        seeds=wanted,
        packages=["torch", "timm", "onnxruntime"],
        note=NOTE.format(
            queries=int((photos.parts_N == "validation").sum()),
            index=int((photos.parts_N == "train").sum()),
            seen=SEEN, new=NEW, all=ALL, small=SMALL_NETWORK, epochs=epochs, size=SIZE,
        ),
    )  # fmt: skip


def photo_set(shop: Grocery) -> PhotoSet:
    """The photos with their fine classes; `val` is the part validation, all of `train` is learned from."""
    data = shop.data
    assert data.pixels_PHWC is not None
    parts = np.where(data.parts_N == "test", "validation", "train")
    names = [f"leaf {number:02d}" for number in range(int(data.leaf_N.max()) + 1)]
    return PhotoSet(list(data.item_ids), [], data.pixels_PHWC, data.leaf_N, names, parts)


Embed = Callable[[PhotoSet, int], np.ndarray]
"""Learns from the training photos, with this seed → (N, D) embeddings of all photos."""


def systems(shop: Grocery, epochs: int) -> dict[str, Embed]:
    """The simplest first."""
    found: dict[str, Embed] = {RAW: lambda photos, _: raw_pixels(photos.pixels_NHWC[:, ::2, ::2])}
    found[SMALL_NETWORK] = lambda photos, seed: small_network(photos, seed, epochs)
    for head in HEADS:
        found[f"{LITE0} {head}"] = lambda photos, _, head=head: with_head(photos, shop.features_NF, head)
    return found


def with_head(photos: PhotoSet, features_NF: np.ndarray, head: Head) -> np.ndarray:
    config, rows = ImageSimilarityConfig(backbone=LITE0), photos.rows("train")
    solved = solve_head(head, features_NF[rows], photos.labels_N[rows], config.components, config.shrink)
    return solved(features_NF)


def small_network(photos: PhotoSet, seed: int, epochs: int) -> np.ndarray:
    import torch

    config = ImageSimilarityConfig(backbone="small", size=SIZE, seed=seed, epochs=epochs)
    # The last epoch is taken: what is judged on must not choose it.
    blind = PhotoSet(
        photos.item_ids, [], photos.pixels_NHWC, photos.labels_N, photos.categories,
        np.where(photos.parts_N == "validation", "test", photos.parts_N),
    )  # fmt: skip
    task: Any = RECIPE.bind(config, blind)
    with tempfile.TemporaryDirectory() as folder:
        trained = fit(RECIPE, task, config, Path(folder))
    assert trained.network is not None
    with torch.inference_mode():
        found: np.ndarray = task.embed(trained.network.eval(), np.arange(len(photos.item_ids))).numpy()
    return found


def measured(photos: PhotoSet, embed: Embed, seed: int) -> dict[str, float]:
    """One seed of one system: with a third of the classes held out, and with none."""
    held = _third(photos, seed)
    found = judged(held, embed(held.photos, seed))
    started = time.process_time()
    every = embed(photos, seed)
    spent = time.process_time() - started
    whole = hit_at_1(every, photos.labels_N, photos.rows("validation"), photos.rows("train"))
    figures = {f"{SEEN}|hit@1": found.seen, f"{NEW}|hit@1": found.new, f"{ALL}|hit@1": whole}
    return {name: value for name, value in figures.items() if value is not None} | {f"{ALL}|seconds": spent}


def _third(photos: PhotoSet, seed: int) -> HeldOut:
    drawn = np.random.default_rng(0).permutation(len(photos.categories))[seed % FOLDS :: FOLDS]
    queries = photos.rows("validation")
    new_Q = np.isin(photos.labels_N[queries], drawn)
    names = tuple(photos.categories[one] for one in np.sort(drawn))
    without = photos.without(set(names))
    return HeldOut(names, without, photos.rows("train"), queries[~new_Q], queries[new_Q])


def rows_of(found: dict[str, list[dict[str, float]]]) -> list[Row]:
    rows = []
    for case in (ALL, SEEN, NEW):
        for name, parts in found.items():
            for key in (f"{case}|hit@1", f"{case}|seconds"):
                values = [one[key] for one in parts if key in one]
                if values:
                    unit = "s" if key.endswith("seconds") else ""
                    mean = float(np.mean(values))
                    rows.append(Row(case, name, key.partition("|")[2], mean, min(values), max(values), unit))
    return rows


if __name__ == "__main__":
    run_main(main)
