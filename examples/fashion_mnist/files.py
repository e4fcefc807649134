"""The four IDX files of Fashion-MNIST (Zalando SE, MIT licence): a folder of yours, Debian's package
dataset-fashion-mnist, or a download that is checked."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

from etalage.errors import InputUnreadable

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SOURCE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CONTENT = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of the files' uncompressed content: repackaging changes the compressed bytes, never these."""


def find(given: Path | None, download_to: Path | None, say: Callable[[str], None] = print) -> Path:
    """The folder of the four files: `given`, else Debian's, else downloaded into `download_to`.

    Raises InputUnreadable: no such files, or content that is not Fashion-MNIST's.
    """
    for folder in filter(None, (given, DEBIAN)):
        if all((folder / name).exists() for name in CONTENT):
            _check(folder)
            return folder
        if folder is given:
            raise InputUnreadable(f"{folder}: expected the files {', '.join(CONTENT)}")
    if download_to is None:
        raise InputUnreadable(
            "no Fashion-MNIST here: give --data FOLDER, install Debian's dataset-fashion-mnist, or --download"
        )
    _download(download_to, say)
    _check(download_to)
    return download_to


def first(folder: Path, into: Path, images: int) -> Path:
    """IDX files of the first `images` training images and a sixth as many test images, in `into`."""
    into.mkdir(parents=True, exist_ok=True)
    for name in CONTENT:
        content = gzip.decompress((folder / name).read_bytes())
        count = images if name.startswith("train") else images // 6
        header, row = (16, 28 * 28) if "images" in name else (8, 1)
        cut = content[:4] + count.to_bytes(4, "big") + content[8 : header + count * row]
        (into / name).write_bytes(gzip.compress(cut, 1))
    return into


def _download(folder: Path, say: Callable[[str], None]) -> None:
    import httpx

    folder.mkdir(parents=True, exist_ok=True)
    for name in CONTENT:
        if (folder / name).exists():
            continue
        say(f"download {SOURCE}/{name}")
        try:
            answer = httpx.get(f"{SOURCE}/{name}", timeout=60, follow_redirects=True).raise_for_status()
        except httpx.HTTPError as error:
            raise InputUnreadable(f"{SOURCE}/{name}: {error}") from error
        (folder / f"{name}.part").write_bytes(answer.content)
        (folder / f"{name}.part").rename(folder / name)


def _check(folder: Path) -> None:
    for name, expected in CONTENT.items():
        try:
            found = hashlib.sha256(gzip.decompress((folder / name).read_bytes())).hexdigest()
        except (OSError, EOFError) as error:
            raise InputUnreadable(f"{folder / name}: {error}") from error
        if found != expected:
            raise InputUnreadable(
                f"{folder / name}: its content is not Fashion-MNIST's (SHA-256 {found[:12]}…)"
            )
