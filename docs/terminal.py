"""Record the README's picture of the terminal: from two files to a shopper's slate, as typed.

    python docs/terminal.py docs/pictures/first-slate.gif

It writes a small shop's products.csv and orders.csv, runs the commands of README in a terminal of its own,
and draws what stands on the screen. Needs pyte (the terminal); the font comes with matplotlib.
"""

import argparse
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fcntl import ioctl
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyte
from PIL import Image, ImageDraw, ImageFont

from etalage.demo.tables import DemoSize, catalogue

COLUMNS, LINES = 100, 27
SIZE, LINE = 14, 19
SHOPPERS, BEGIN = 800, datetime(2026, 1, 5, 8)
MARGIN = 14
BACK, TEXT, PROMPT = (24, 26, 27), (216, 218, 214), (126, 196, 160)
COLOURS = {
    "green": (126, 196, 160),
    "red": (224, 108, 117),
    "cyan": (110, 180, 200),
    "magenta": (190, 140, 200),
    "blue": (110, 160, 220),
    "brown": (214, 176, 110),
}
SAMPLED = 0.5
"""Seconds between two looks at the screen while a command runs."""
FASTER = 4
"""So much faster than it ran is it shown."""


@dataclass(frozen=True)
class Frame:
    """The screen, and for how many milliseconds it is shown."""

    picture: Image.Image
    shown: int


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("file", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shopper = write_files(folder)
        commands = [
            "etalage new lamps --from products.csv --from orders.csv",
            "etalage ingest products.csv items --shop lamps",
            "etalage ingest orders.csv interactions --shop lamps",
            "export ETALAGE_SHOP=lamps",
            "etalage train popularity && etalage train item_knn",
            "etalage publish",
            f"etalage recommend {shopper} -k 5",
        ]
        frames = list(recorded(folder, commands))
    first = frames[-1].picture.quantize(24, dither=Image.Dither.NONE)
    first, *others = [frame.picture.quantize(palette=first, dither=Image.Dither.NONE) for frame in frames]
    given.file.parent.mkdir(parents=True, exist_ok=True)
    first.save(
        given.file, save_all=True, append_images=others, duration=[frame.shown for frame in frames], loop=0,
        optimize=True,
    )  # fmt: skip
    print(f"{given.file}: {len(frames)} pictures, {given.file.stat().st_size / 1000:.0f} KB")


def write_files(folder: Path) -> str:
    """products.csv and orders.csv, as a shop system would write them; → a shopper who bought some.

    Each shopper keeps to three of the categories, mostly.
    """
    items = catalogue(DemoSize(items=1500))
    named = {"item_id": "sku", "title": "name", "brand": "brand", "category_id": "category", "price": "price"}
    write(folder / "products.csv", items.select(list(named)).rename_columns(list(named.values())))
    rng = np.random.default_rng(0)
    categories = np.unique(items["category_id"].to_numpy(), return_inverse=True)[1]
    popular = 1 / (1 + rng.permutation(len(items))) ** 0.6
    rows = []
    for shopper in range(SHOPPERS):
        liked = np.isin(categories, rng.choice(categories.max() + 1, 3, replace=False))
        wanted = popular * np.where(liked, 60, 1)
        for item in rng.choice(len(items), 12, replace=False, p=wanted / wanted.sum()):
            when = BEGIN + timedelta(minutes=int(rng.integers(0, 60 * 24 * 300)))
            rows.append((f"c{shopper:04d}", items["item_id"][int(item)].as_py(), when))
    customers, bought, times = zip(*rows, strict=True)
    orders = {"order_id": range(len(rows)), "customer_id": customers, "sku": bought, "ordered_at": times}
    write(folder / "orders.csv", pa.table({name: pa.array(column) for name, column in orders.items()}))
    return "c0007"


def write(file: Path, rows: pa.Table) -> None:
    pyarrow.csv.write_csv(rows, file)


def recorded(folder: Path, commands: list[str]) -> Iterator[Frame]:
    """What stands on the screen while the commands are typed and run."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    for n, command in enumerate(commands):
        stream.feed(b"$ ")
        for letter in range(0, len(command), 6):
            stream.feed(command[letter : letter + 6].encode())
            yield Frame(drawn(screen), 90)
        stream.feed(b"\r\n")
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            os.environ[name] = value
            continue
        last = drawn(screen)
        for picture in run(command, folder, screen, stream):
            if picture.tobytes() != last.tobytes():
                yield Frame(picture, round(1000 * SAMPLED / FASTER))
                last = picture
        yield Frame(drawn(screen), 6000 if n == len(commands) - 1 else 1400)


def run(command: str, folder: Path, screen: pyte.Screen, stream: pyte.ByteStream) -> Iterator[Image.Image]:
    """Run it in a terminal; a picture every moment. Raises CalledProcessError: it failed."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    looked = time.monotonic()
    while True:
        ready, _, _ = select.select([ours], [], [], SAMPLED)
        if ready:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                data = b""
            if not data:
                break
            stream.feed(data)
        if time.monotonic() - looked > SAMPLED:
            looked = time.monotonic()
            yield drawn(screen)
    os.close(ours)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command, "\n".join(screen.display))


def drawn(screen: pyte.Screen) -> Image.Image:
    """The screen as a picture."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(fonts / "DejaVuSansMono.ttf"), SIZE)
    wide = font.getlength("M")
    picture = Image.new("RGB", (round(COLUMNS * wide) + 2 * MARGIN, LINES * LINE + 2 * MARGIN), BACK)
    draw = ImageDraw.Draw(picture)
    for y in range(LINES):
        row = screen.buffer[y]
        prompt = row[0].data == "$"
        for x in range(COLUMNS):
            one = row[x]
            if one.data.strip():
                colour = PROMPT if prompt and x == 0 else COLOURS.get(one.fg, TEXT)
                draw.text((MARGIN + x * wide, MARGIN + y * LINE), one.data, font=font, fill=colour)
    return picture


if __name__ == "__main__":
    main()
