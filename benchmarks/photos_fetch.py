"""How many photos a second does one core get from their links?

    OMP_NUM_THREADS=1 python benchmarks/photos_fetch.py [--photos 10000] [--rounds 3] [--workers 1]

Real JPEGs (the grocery store's, at several sizes) from a server on this machine, with politeness switched
off. Beside it, in the same run and in turn: the bare limit, which reads the same files from disk and
decodes, resizes, encodes and hashes them by the same code in one process; and the same with every pixel
decoded.
"""

import asyncio
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from PIL import Image

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.config import PhotosConfig  # noqa: E402
from etalage.lake.delta import Lake  # noqa: E402
from etalage.lake.photo_facts import photo_facts  # noqa: E402
from etalage.lake.photo_opening import sniffed, upright  # noqa: E402
from etalage.lake.photos.decoding import kept  # noqa: E402
from etalage.lake.photos.fetch import fetch  # noqa: E402
from etalage.lake.photos.links import keeping_of  # noqa: E402

SIDES = (256, 400, 640, 1000)
SIDE, QUALITY = 256, 90
HOSTS = 20
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/photos_fetch.py"
NOTE = (
    "{count} JPEGs (photos of groceries, longest side {sides} px, a quarter each, quality {quality}, "
    "{kb:.0f} KB in the mean) → JPEGs of {side} px, SHA-256 and perceptual hash. Per core: photos over "
    "processor seconds of all processes of the system, so that other work on the machine does not "
    "count; the server is a process of its own and is not counted. By the clock: {workers} worker(s), "
    "each with its decoder's process, on the machine as it was. Median of {rounds} rounds in turn, and "
    "their lowest and highest. `bare limit`: reading, decoding, resizing, encoding, hashing in one "
    "process, by the code that fetch uses. `every pixel`: the same without libjpeg's reduced decoding. "
    "`fetch`: all of it: plan, robots.txt, HTTP, guard, decoder, commits to the tables, start of the "
    "processes."
)


@dataclass(frozen=True)
class Took:
    """One run: photos, seconds by the clock, processor seconds."""

    photos: int
    wall: float
    cpu: float


def main(
    data: Annotated[
        Path | None, typer.Option(help="A folder of JPEGs, looked through to its depths.")
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="How many.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    workers: Annotated[int, typer.Option(min=1)] = 1,
    small: Small = False,
    out: Out = None,
) -> None:
    run = Run.of("photos_fetch", small, out)
    photos, rounds = (60, 1) if small else (photos, rounds)
    sources = sorted(run.data(data, "grocery-store", miniature.photos).rglob("*.jpg"))
    if not sources:
        raise typer.BadParameter(f"no .jpg in {data}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        mean = made_photos(sources, folder / "photos", photos)
        server, port = served(folder / "photos")
        try:
            systems: dict[str, Callable[[], Took]] = {
                "bare limit": lambda: timed("bare", folder, workers, port),
                "every pixel": lambda: timed("every", folder, workers, port),
                "fetch": lambda: timed("fetch", folder, workers, port),
            }
            took: dict[str, list[Took]] = {name: [] for name in systems}
            for _ in range(rounds):
                for name, system in systems.items():
                    took[name].append(system())
                    last = took[name][-1]
                    print(
                        f"{name}: {last.photos / last.cpu:.0f} a core second, {last.wall:.1f} s", flush=True
                    )
        finally:
            server.kill()
            server.wait()
    case = f"{photos:,} JPEGs → {SIDE} px"
    rows = [row for name, runs in took.items() for row in figures(case, name, runs, workers)]
    share = [bare.cpu / ours.cpu for bare, ours in zip(took["bare limit"], took["fetch"], strict=True)]
    rows.append(Row(case, "fetch", "share of the bare limit per core", *middle(share)))
    sides = ", ".join(map(str, SIDES))
    note = NOTE.format(count=f"{photos:,}", sides=sides, quality=QUALITY, kb=mean / 1000, side=SIDE,
                       workers=workers, rounds=rounds)  # fmt: skip
    packages = ["aiohttp", "protego", "pillow", "pyarrow", "deltalake"]
    given = f"{COMMAND} --photos {photos} --rounds {rounds} --workers {workers}"
    run.write(rows, command=given, seeds=[0], packages=packages, note=note)


def figures(case: str, system: str, runs: list[Took], workers: int) -> list[Row]:
    per_core = middle([run.photos / run.cpu for run in runs])
    by_clock = middle([run.photos / run.wall for run in runs])
    clock = "photos a second by the clock" + (f", {workers} worker(s)" if system == "fetch" else "")
    return [
        Row(case, system, "photos a second per core", *per_core, unit="/s"),
        Row(case, system, clock, *by_clock, unit="/s"),
    ]


def middle(values: list[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[0], ordered[-1]


def made_photos(sources: list[Path], folder: Path, count: int) -> float:
    """`count` JPEGs in `folder`, resized from `sources`; → their mean size in bytes."""
    folder.mkdir()
    total = 0
    for number in range(count):
        image = Image.open(sources[(number // len(SIDES)) * 7 % len(sources)]).convert("RGB")
        scale = SIDES[number % len(SIDES)] / max(image.size)
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        sink = io.BytesIO()
        image.save(sink, "JPEG", quality=QUALITY)
        (folder / f"{number}.jpg").write_bytes(sink.getvalue())
        total += len(sink.getvalue())
    return total / count


# -- the systems, each in a process of its own ------------------------------------------------------


def timed(what: str, folder: Path, workers: int, port: int) -> Took:
    """A fresh process that does `what`; processor time of it and of all that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    command = [sys.executable, __file__, "--do", what, str(folder), str(workers), str(port)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(json.loads(done.stdout), wall, cpu)


def bare(folder: Path, every_pixel: bool) -> int:
    keeping = keeping_of(PhotosConfig(side=SIDE, quality=QUALITY))
    count = 0
    for file in (folder / "photos").iterdir():
        source = file.read_bytes()
        if every_pixel:
            whole(source)
        else:
            kept(source, keeping)
        count += 1
    return count


def whole(source: bytes) -> None:
    """As `kept`, without the reduced decoding."""
    image = upright(sniffed(source))
    image.thumbnail((SIDE, SIDE), Image.Resampling.HAMMING)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=QUALITY)
    photo_facts(sink.getvalue())


def fetched(folder: Path, workers: int, port: int) -> int:
    config = PhotosConfig(
        hosts={"*.test": f"127.0.0.1:{port}"},
        allow_networks=("127.0.0.0/8",),
        workers=workers,
        spacing=0.0,
        side=SIDE,
        quality=QUALITY,
    )
    with tempfile.TemporaryDirectory(dir=folder) as made:
        lake = Lake(Path(made) / "tables")
        count = len(list((folder / "photos").iterdir()))
        links = [f"http://shop-{number % HOSTS}.test/{number}.jpg" for number in range(count)]
        lake.table("items").merge(pa.table({"item_id": links, "photo_url": links}))
        done = fetch(lake, config, Path(made) / "spool")
    assert done.states == {"ok": count}, done.states
    return done.photos


# -- the server ------------------------------------------------------------------------------------


def served(folder: Path) -> tuple["subprocess.Popen[str]", int]:
    command = [sys.executable, __file__, "--serve", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


class Static(asyncio.Protocol):
    """GET of files that are in memory; a connection stays open."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self.answers, self.read = answers, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, _, self.read = self.read.partition(b"\r\n\r\n")
            self.transport.write(self.answers.get(head.split(b" ", 2)[1], self.answers[b""]))


def serve(folder: Path) -> None:
    def answer(status: bytes, body: bytes) -> bytes:
        return (
            b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            + body
        )

    answers = {f"/{file.name}".encode(): answer(b"200 OK", file.read_bytes()) for file in folder.iterdir()}
    answers[b""] = answer(b"404 Not Found", b"")

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Static(answers), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--do"]:
        what, place, number, port = sys.argv[2:]
        print(
            fetched(Path(place), int(number), int(port))
            if what == "fetch"
            else bare(Path(place), every_pixel=what == "every")
        )
    else:
        run_main(main)
