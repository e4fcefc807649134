"""Looks at a folder of pictures: what becomes of it when it is loaded, told before."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etalage.errors import InputUnreadable
from etalage.lake.image_sources import category_of, files_beneath
from etalage.lake.many_files import files_of

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"))


@dataclass(frozen=True)
class PictureFolder:
    """`pictures` of `folder` by their names, each an item; `others`: files that are none, which are refused.

    `doubled`: file names that stand in several of its folders, with how often, for whom ids are paths.
    """

    folder: Path
    pictures: int
    others: tuple[str, ...]
    categories: int
    doubled: tuple[tuple[str, int], ...]
    example: tuple[str, str, str | None]
    """A path, its item's id, and its category."""

    @property
    def ids(self) -> Literal["stem", "path"]:
        return "path" if self.doubled else "stem"


def pictures_in(folder: Path) -> PictureFolder:
    """What the names in `folder` tell; no file is opened. Raises InputUnreadable: there is no picture."""
    paths = [path.relative_to(folder) for path in files_beneath(folder)]
    pictures = [path for path in paths if path.suffix.lower() in PICTURES]
    others = [path.as_posix() for path in paths if path.suffix.lower() not in PICTURES]
    if not pictures:
        if (tables := files_of([folder], None)) != [folder]:
            raise InputUnreadable(
                f"{folder}: is a folder of {len(tables)} tables; name one of them, such as {tables[0]}: "
                f"`etalage ingest {folder}` reads them all by its mapping"
            )
        seen = ", ".join(others[:4]) or "nothing"
        raise InputUnreadable(
            f"{folder}: is a folder without a picture in it; it holds {seen}: name a file of it"
        )
    stems = Counter(path.stem for path in pictures)
    doubled = tuple((stem, count) for stem, count in stems.most_common() if count > 1)
    first = pictures[0]
    item_id = first.with_suffix("").as_posix() if doubled else first.stem
    return PictureFolder(
        folder=folder,
        pictures=len(pictures),
        others=tuple(others),
        categories=len({category_of(path) for path in pictures} - {None}),
        doubled=doubled,
        example=(first.as_posix(), item_id, category_of(first)),
    )
