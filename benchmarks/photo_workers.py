"""From how many photos on do workers pay? Photos decoded and embedded in one process, and by several.

    python benchmarks/photo_workers.py [--photos FOLDER] [--workers 2] [--rounds 3]

FOLDER: JPEGs, looked through to its depths. Weights are drawn at random: they change no time.
"""

import json
import os
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

from etalage.engine.local import LOCAL  # noqa: E402
from etalage.engine.threads import configure_threads  # noqa: E402

PHOTOS = 512
CASES: dict[str, tuple[str | None, int]] = {
    "decode to 64 px": (None, 64),
    "decode to 224 px": (None, 224),
    "embed, small network, 64 px": ("small", 64),
    "embed, EfficientNet-lite0, 224 px": ("tf_efficientnet_lite0", 224),
}
FEWER = {"embed, EfficientNet-lite0, 224 px": 96}
NOTE = (
    "JPEGs of about {pixels} pixels, {workers} cores, {workers} workers of one thread each; `one process`: "
    "the network may use {workers} threads there, decoding uses one. Seconds by the clock and of processor "
    "time (of all processes, starting them included) for so many photos; median of {rounds} rounds, the "
    "interval is from the fastest to the slowest. Systems take turns; other work ran on the machine, which a "
    "clock shows and processor time hardly does. `start`: of workers that have one photo each to look at. "
    "`worth it from`: photos from which workers save what a loop asks for ({worth:.0f} s), by the rule it "
    "goes by: processor time of the thread that asks, less that of the process divided by the workers. "
    "`differ`: the largest difference of any number that came back."
)


def main(
    photos: Annotated[Path | None, typer.Option(help="A folder of JPEGs.")] = None,
    workers: Annotated[int, typer.Option(min=2)] = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("photo_workers", small, out)
    folder = bench.data(photos, "grocery-store", miniature.photos)
    configure_threads()
    from etalage.engine.worth import WORTH_SECONDS

    files = [file.read_bytes() for file in sorted(folder.rglob("*.jpg"))]
    count, rounds = (48, 1) if small else (PHOTOS, rounds)
    files = [files[n % len(files)] for n in range(count)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        cases = {name: case for name, case in CASES.items() if not small or "EfficientNet" not in name}
        for name, (backbone, size) in cases.items():
            some = files[: FEWER.get(name, count)]
            rows += _measured(name, backbone, size, some, workers, rounds, Path(made))
            for row in rows[-7:]:
                print(row, flush=True)
    bench.write(
        rows,
        command=f"python benchmarks/photo_workers.py --photos FOLDER --workers {workers}",
        seeds=[0],
        packages=["onnxruntime", "pillow", "timm", "torch"],
        note=NOTE.format(pixels=_pixels(files[0]), workers=workers, rounds=rounds, worth=WORTH_SECONDS),
    )


def _measured(
    name: str, backbone: str | None, size: int, files: list[bytes], workers: int, rounds: int, made: Path
) -> list[Row]:
    from etalage.engine.worth import WORTH_SECONDS
    from etalage.features.photo import PhotoEncoder
    from etalage.features.photo_blocks import BLOCK_PHOTOS, Decode, PhotoLoop, Work
    from etalage.runtime.photos import PhotoEmbedder

    work: Work = Decode(PhotoEncoder(size))
    here, block = work, Decode(PhotoEncoder(size)).block
    if backbone is not None:
        embedder = PhotoEmbedder.open(_export(backbone, size, made / backbone), threads=workers)
        work, here, block = embedder.shared(), embedder.look, BLOCK_PHOTOS
    there = PhotoLoop(LOCAL, made / "spool", workers, measured=0)

    def run(loop: PhotoLoop, some: list[bytes], block: int) -> np.ndarray:
        blocks = ((n, some[n : n + block]) for n in range(0, len(some), block))
        return np.concatenate([looked.values for _, looked in loop.run(work, blocks, len(some), here)])

    here(files[:8])
    systems: dict[str, Callable[[], np.ndarray]] = {
        "one process": lambda: run(PhotoLoop(), files, block),
        f"{workers} workers": lambda: run(there, files, block),
        "start": lambda: run(there, files[:workers], 1),
    }
    times: dict[str, list[tuple[float, float]]] = {system: [] for system in systems}
    saved: list[float] = []
    values: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for system, asked in systems.items():
            thread, own = time.thread_time(), time.process_time()
            values[system], *found = _timed(asked)
            times[system].append((found[0], found[1]))
            if system == "one process":
                own = time.process_time() - own
                saved.append((time.thread_time() - thread - own / workers) / len(files))
    case = f"{name}, {len(files):,} photos"
    rows = [
        Row(case, system, metric, float(np.median(every)), min(every), max(every), "s")
        for system, found in times.items()
        for metric, every in zip(("by the clock", "processor time"), zip(*found, strict=True), strict=True)
    ]
    one, other = (values[system].astype(np.float64) for system in list(systems)[:2])
    differ = float(np.abs(one - other).max())
    enough = [WORTH_SECONDS / max(one, 1e-9) for one in saved]
    rows.append(
        Row(case, "a loop", "worth it from", float(np.median(enough)), min(enough), max(enough), "photos")
    )
    return [*rows, Row(case, f"{workers} workers", "differ", differ, differ, differ)]


def _timed(asked: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
    """What came of it; seconds by the clock, and of processor time of this process and those it started."""
    clock, before = time.perf_counter(), os.times()
    found = asked()
    after = os.times()
    return found, time.perf_counter() - clock, sum(after[:4]) - sum(before[:4])


def _export(backbone: str, size: int, folder: Path) -> Path:
    """A photo embedder of this backbone alone."""
    import torch

    from etalage.features.photo import PhotoEncoder
    from etalage.models.backbones import backbone as made
    from etalage.runtime.export_files import FORMAT, hash_export
    from etalage.runtime.photos import DECIDES
    from etalage.training.category_export import write_trunk

    torch.manual_seed(0)
    trunk = made(backbone).eval()
    folder.mkdir()
    write_trunk(trunk, size, folder / "model.onnx")
    (folder / "encoder.json").write_text(PhotoEncoder(size).to_json(), encoding="utf-8")
    facts = {
        "format": FORMAT, "name": backbone, "role": "embedder", "kind": "photos",
        "dimension": trunk.expected.features, "model_hash": hash_export(folder, DECIDES),
    }  # fmt: skip
    (folder / "export.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def _pixels(photo: bytes) -> str:
    from etalage.features.photo import open_photo

    width, height = open_photo(photo).size
    return f"{width} × {height}"


if __name__ == "__main__":
    run_main(main)
