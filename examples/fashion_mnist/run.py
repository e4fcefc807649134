"""The whole path on the real Fashion-MNIST: ingest, train, evaluate, publish, ask.

python examples/fashion_mnist/run.py --data FOLDER [--set epochs=2]
"""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parent))
import files

from etalage.config import parse_pairs
from etalage.console import bar
from etalage.errors import EtalageError
from etalage.shop import MODEL, Shop


def load(folder: Path, data: Path, images: int | None = None) -> Shop:
    """A shop at `folder` that holds the training and the test images, apart by the attribute `split`.

    images: only so many of the training images, and a sixth as many of the test images.
    """
    shop = Shop.create(folder, "Fashion-MNIST", bar)
    shutil.copy(Path(__file__).with_name("shop.toml"), folder / "shop.toml")
    if images is not None:
        data = files.first(data, folder.parent / f"{folder.name}-files", images)
    for prefix, part in (("train", "train"), ("t10k", "test")):
        done = shop.ingest(
            data / f"{prefix}-images-idx3-ubyte.gz",
            "items",
            format="idx",
            class_names=files.CLASSES,
            attributes={"split": part},
        )
        print(f"{prefix}: read {done.read}, inserted {done.inserted}, refused {done.refused}")
    return shop


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the four IDX files.")] = None,
    shop: Annotated[Path, typer.Option(help="Where the shop is made.")] = Path("build/fashion-mnist"),
    images: Annotated[int | None, typer.Option(min=600, help="Only so many training images.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch the files where they are not found.")] = False,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model's config.")] = None,
) -> None:
    found = files.find(data, shop.parent / "fashion-mnist-files" if download else None)
    opened = load(shop, found, images)
    trained, exported = opened.train(settings=parse_pairs("--set", set))
    print(f"{exported.name}: {trained.metrics}, {trained.seconds:.0f} s")
    done = opened.evaluate(MODEL)
    print(done.summary())
    manifest = opened.publish()
    (photos,) = manifest.photo_models
    assert photos.index is not None
    print(f"published {manifest.id}: {photos.index.indexed} photos in the {photos.index.kind} index")
    slate = opened.recommender().similar(item_id="t10k-000000", k=5)[0].slate
    print("like t10k-000000:", ", ".join(f"{slot.item_id} {slot.category_id}" for slot in slate))
    print(f"serve it: etalage serve --shop {shop}; report: {done.report}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
