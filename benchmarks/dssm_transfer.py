"""A DSSM learned on all purchases, tuned on the few with a coupon: does what it learned there help?

    python benchmarks/dssm_transfer.py [--data FOLDER] [--seeds 0,1,2]

FOLDER: transactions.parquet of The Complete Journey. Every part (one system, one seed) runs in a process of
its own, so that its peak memory is its own, and is kept under build/: a benchmark that was stopped goes on
where it was. Everything was tuned on the validation weeks; the test weeks were scored once.
"""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))
import miniature  # noqa: E402
from dssm_parts import (  # noqa: E402
    ALONE,
    BASELINES,
    MODES,
    PRETRAIN_UNTIL,
    SHAPES,
    TEST_FROM,
    VALIDATE_FROM,
    domains,
    measure,
    part_name,
)
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.metrics import bootstrap_all, paired_bootstrap  # noqa: E402

METRICS = ("hit_at_10", "ndcg_at_10", "recall_at_20", "recall_at_100", "auroc")
NOTE = (
    "The Complete Journey (simulated from real shopping patterns). Sparse domain: the {coupon_rows} "
    "rows bought with a coupon (coupon_disc > 0) less {bookkeeping} of product 5978656, a bookkeeping "
    "line of quantity 0 that is in no catalogue: {coupon} rows. By week: trained on 1 to {train} "
    "({coupon_train} rows), validated on {validation} to {before_test} ({coupon_validation}), tested on"
    " {test} to 53 ({coupon_test}). Rich domain: all other purchases, of weeks 1 to {rich} alone, so "
    "nothing of the validation or test weeks is in any weight or vector. Full ranking, nothing sampled,"
    " of the {catalogue} items that were ever bought with a coupon, whether or not the household had "
    "them before; one query for each of the {queries} households with coupon purchases in the test "
    "weeks, asked with all that it bought before them. A right answer is an item that it then buys with"
    " a coupon. AUROC: within each household's ranking, then the mean. Value: the mean over households,"
    " of the mean over {seeds} seeds; interval: 95% bootstrap over households. `fine-tuned less X`: "
    "paired by household. Scratch: the same network and item vectors, its weights random. Frozen: only "
    "the other tower and the head, or the head alone, are tuned. Coupons alone: item vectors, histories"
    " and network of the sparse domain only. Seconds are processor seconds of training on one thread; "
    "memory is the peak of the process, with the data."
)
PAIRED = ("from scratch", "as pre-trained", "frozen item tower", "frozen towers", "coupons alone")


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of transactions.parquet.")] = None,
    seeds: Annotated[str, typer.Option(help="Of vectors, pre-training and tuning.")] = "0,1,2",
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    part: Annotated[str | None, typer.Option(help="Only this part, of the first seed.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("dssm_transfer", small, out)
    work, data = bench.work(work), bench.data(data, "complete-journey", miniature.journey)
    if small:
        seeds = "0"
    numbers = [int(number) for number in seeds.split(",")]
    if part is not None:
        measure(part, numbers[0], domains(data), work, small)
        return
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed in numbers:
        for name in _names():
            if name in BASELINES and seed != numbers[0]:
                continue
            found.setdefault(name, []).append(_part(bench, name, seed, data, work))
    facts = domains(data).facts
    queries = len(found["popularity"][0]["auroc"])
    note = NOTE.format(
        **facts, queries=queries, seeds=len(numbers), train=VALIDATE_FROM - 1, rich=PRETRAIN_UNTIL,
        validation=VALIDATE_FROM, before_test=TEST_FROM - 1, test=TEST_FROM,
    )  # fmt: skip
    command = f"OMP_NUM_THREADS=1 python benchmarks/dssm_transfer.py --data FOLDER --seeds {seeds}"
    packages = ["torch", "onnxruntime", "numpy", "scipy"]
    bench.write(_rows(found), command=command, seeds=numbers, packages=packages, note=note)


def _names() -> list[str]:
    """In an order in which what a part starts from comes before it."""
    names = [*BASELINES, "item2vec"]
    for shape in SHAPES:
        names += [f"{shape}, {mode}" for mode in ("as pre-trained", *MODES, ALONE)]
    return names


def _part(bench: Run, name: str, seed: int, data: Path, work: Path) -> dict[str, np.ndarray]:
    file = work / "parts" / f"{part_name(name, seed)}.npz"
    if not file.exists():
        bench.alone(_measured, name, seed, data, work, bench.small)
    with np.load(file, allow_pickle=False) as arrays:
        found = dict(arrays)
    figures = {metric: round(float(found[metric].mean()), 4) for metric in METRICS}
    print(name, seed, figures, f"{float(found['cpu']):.0f} s, {float(found['peak']):.0f} MiB", flush=True)
    return found


def _measured(name: str, seed: int, data: Path, work: Path, small: bool) -> None:
    measure(name, seed, domains(data), work, small)


def _rows(found: dict[str, list[dict[str, np.ndarray]]]) -> list[Row]:
    rows = []
    for name, parts in found.items():
        means = {metric: np.mean([part[metric] for part in parts], axis=0) for metric in METRICS}
        for metric, interval in bootstrap_all(means).items():
            rows.append(Row("coupon purchases of the test weeks", name, metric, *interval))
    for shape in SHAPES:
        for other in PAIRED:
            for metric in METRICS:
                ours, theirs = (
                    np.mean([part[metric] for part in found[f"{shape}, {mode}"]], axis=0)
                    for mode in ("fine-tuned", other)
                )
                gain = paired_bootstrap(ours, theirs)
                rows.append(Row("gain of transfer", f"{shape}, fine-tuned less {other}", metric, *gain))
    for name, parts in found.items():
        for metric, unit in (("cpu", "s"), ("peak", "MiB")):
            values = [float(part[metric]) for part in parts]
            rows.append(Row("cost", name, metric, float(np.mean(values)), min(values), max(values), unit))
    return rows


if __name__ == "__main__":
    run_main(main)
