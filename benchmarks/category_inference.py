"""How many photos a second does one core classify, by which backbone, run how?

    OMP_NUM_THREADS=1 python benchmarks/category_inference.py [--photos FOLDER] [--backbones small,…]

Weights are drawn at random: they change no time. What the accuracies are is in item_category.md.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.engine.threads import configure_threads  # noqa: E402

BACKBONES = (
    "small",
    "tf_efficientnet_lite0",
    "mobilenetv3_large_100",
    "inception_v3",
    "xception41",
    "tf_efficientnet_b3",
    "tf_efficientnetv2_s",
    "eca_nfnet_l0",
)
"""The original's Inception v3, Xception and EfficientNet-B3, its later EfficientNetV2 and an NFNet, and three
for processors."""
BATCHES = (1, 64)
FEWEST, SECONDS = 3, 2.0
"""Each is run so often at least, and for so long."""
NOTE = (
    "One thread. Each backbone takes photos at the size that it was made for; the heads cost nothing beside "
    "it. `eager`: torch, float32; `onnx`: ONNX Runtime, float32; `int8`: the same, quantised, as an export "
    "is served where that costs no accuracy. Photos a second of processor time, by median; the interval is "
    "from the slowest to the fastest run. `decode`: a JPEG of {pixels} pixels decoded, brought to the size, "
    "by Pillow. `limit`: the multiply-adds of the backbone at the rate of a large float32 matrix product in "
    "torch on the same thread, {rate:.0f} billion a second; convolutions by Winograd's algorithm need fewer."
)


def main(
    photos: Annotated[
        Path | None, typer.Option(help="A folder of JPEGs, looked through to its depths.")
    ] = None,
    backbones: Annotated[str, typer.Option(help="By comma.")] = ",".join(BACKBONES),
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("category_inference", small, out)
    folder = bench.data(photos, "grocery-store", miniature.photos)
    backbones, enough = ("small", 0.1) if small else (backbones, SECONDS)
    configure_threads(1)
    import torch

    torch.set_num_threads(1)
    files = [file.read_bytes() for file in sorted(folder.rglob("*.jpg"))[::7][:64]]
    rate = _rate(enough)
    rows: list[Row] = []
    for name in backbones.split(","):
        rows += _measured(name, files, rate, enough)
        for row in rows[-4:]:
            print(row, flush=True)
    bench.write(
        rows,
        command="OMP_NUM_THREADS=1 python benchmarks/category_inference.py --photos FOLDER",
        seeds=[0],
        packages=["torch", "timm", "onnxruntime", "pillow"],
        note=NOTE.format(pixels=_pixels(files[0]), rate=rate / 1e9),
    )


def _measured(name: str, files: list[bytes], rate: float, enough: float) -> list[Row]:
    import torch

    from etalage.features.photo import PhotoEncoder
    from etalage.models.backbones import backbone
    from etalage.runtime.sessions import Session
    from etalage.training.category_export import write_trunk
    from etalage.training.quantising import quantised

    torch.manual_seed(0)
    trunk = backbone(name).eval()
    size = trunk.expected.size
    encoder = PhotoEncoder(size, 3, "pad", trunk.expected.resample)
    pixels = encoder.decode_all(files)
    case = f"{name}, {size} px"
    rows = [_row(case, "decode", _rates(lambda: encoder.decode_all(files), len(files), enough))]
    macs = _multiply_adds(trunk, pixels[:1])
    rows.append(Row(case, "limit", "photos a second", rate / macs, rate / macs, rate / macs))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        write_trunk(trunk, size, plain)
        small.write_bytes(plain.read_bytes())
        quantised(small, pixels)
        systems: dict[str, Callable[[np.ndarray], object]] = {
            "eager": lambda some: trunk(torch.from_numpy(some)),
            "onnx": _by(Session.open(plain)),
            "int8": _by(Session.open(small)),
        }
        megabytes = {"onnx": plain.stat().st_size / 2**20, "int8": small.stat().st_size / 2**20}
        for system, run in systems.items():
            for batch in BATCHES:
                some = pixels[:batch]
                rates = _rates(lambda r=run, s=some: r(s), batch, enough)
                rows.append(_row(case, system, rates, f", batch {batch}"))
        rows += [Row(case, system, "size", one, one, one, "MB") for system, one in megabytes.items()]
    return rows


def _by(session: object) -> Callable[[np.ndarray], object]:
    return lambda some: session.run({session.inputs[0]: some})  # type: ignore[attr-defined]


def _rates(work: Callable[[], object], count: int, enough: float) -> list[float]:
    """Photos a second of processor time, one a run, for `enough` seconds; the first run warms up."""
    work()
    found: list[float] = []
    started = time.process_time()
    while len(found) < FEWEST or time.process_time() - started < enough:
        before = time.process_time()
        work()
        found.append(count / max(time.process_time() - before, 1e-9))
    return found


def _row(case: str, system: str, rates: list[float], where: str = "") -> Row:
    return Row(case, system, f"photos a second{where}", float(np.median(rates)), min(rates), max(rates))


def _rate(enough: float) -> float:
    """Multiply-adds a second of a large product."""
    import torch

    side = 1024
    one = torch.randn(side, side)
    return max(_rates(lambda: one @ one, side**3, enough))


def _multiply_adds(trunk: object, pixels: np.ndarray) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        trunk(torch.from_numpy(pixels))  # type: ignore[operator]
    return counter.get_total_flops() / 2


def _pixels(photo: bytes) -> str:
    from etalage.features.photo import open_photo

    return "{} × {}".format(*open_photo(photo).size)


if __name__ == "__main__":
    run_main(main)
