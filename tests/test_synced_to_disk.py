"""What is said to be kept is on the disk when it is said: a power cut loses none of it (F11, F66).

A test on one machine cannot cut the power; but what it would leave is told by the order in which the system
was asked to write (strace): a file before the name that makes it count, a folder after its entries.
"""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.traced import Questions, traced

PUBLISH = """
from pathlib import Path
from tests.shops import behaviour_shop
behaviour_shop(Path(sys.argv[1]) / "shop", 12, photos=True)
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Questions]]:
    """The folder of a bundle with photos and models of behaviour, and what was asked of the disk for it."""
    folder = tmp_path_factory.mktemp("synced")
    asked = traced(PUBLISH, folder)
    return folder / "shop" / "bundles", asked


def moved(asked: list[Questions], to: str) -> int:
    """When something was renamed to this."""
    (at,) = [at for at, one in enumerate(asked) if one.what == "rename" and one.to == to]
    return at


def synced(asked: list[Questions]) -> set[str]:
    return {one.path for one in asked if one.what == "sync"}


def test_f11_every_file_and_folder_of_a_bundle_is_on_the_disk_before_it_has_its_name(
    published: tuple[Path, list[Questions]],
) -> None:
    bundles, asked = published
    bundle = bundles / (bundles / "current").read_text().strip()
    named = moved(asked, str(bundle))
    staging = asked[named].path
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    entries = {"manifest.json", *files}
    folders = {str(parent) for name in files for parent in Path(name).parents} | {"."}
    wanted = {str(Path(staging) / name) for name in entries | folders}
    assert wanted <= synced(asked[:named])
    # Each folder behind its entries: a name that is not on the disk is lost with the power.
    last = {one.path: at for at, one in enumerate(asked[:named]) if one.what == "sync"}
    for name in entries:
        inner = Path(staging) / name
        while inner != Path(staging):
            assert last[str(inner)] < last[str(inner.parent)], inner
            inner = inner.parent


def test_f11_a_bundle_has_its_name_on_the_disk_before_the_pointer_names_it(
    published: tuple[Path, list[Questions]],
) -> None:
    bundles, asked = published
    bundle = bundles / (bundles / "current").read_text().strip()
    named, pointed = moved(asked, str(bundle)), moved(asked, str(bundles / "current"))
    between = synced(asked[named:pointed])
    assert {str(bundles), str(bundles / "log.jsonl"), asked[pointed].path} <= between


def test_f11_the_pointers_new_place_is_on_the_disk_before_publish_says_that_it_is_done(
    published: tuple[Path, list[Questions]],
) -> None:
    bundles, asked = published
    assert str(bundles) in synced(asked[moved(asked, str(bundles / "current")) :])


ROLLBACK = """
from pathlib import Path
from tests.shops import fill, published, small_shop
folder = Path(sys.argv[1]) / "shop"
lake, bundles, first = small_shop(folder, 12)
fill(lake, [12])
published(lake, bundles, folder / "exports" / "image_similarity" / "0001-tiny")
mark()
bundles.switch(first.id)
mark()
"""


def test_f11_a_rollback_is_on_the_disk_before_it_says_that_it_is_done(tmp_path: Path) -> None:
    asked = traced(ROLLBACK, tmp_path)
    first, last = [at for at, one in enumerate(asked) if one.what == "mark"][-2:]
    bundles, asked = tmp_path / "shop" / "bundles", asked[first + 1 : last]
    pointed = moved(asked, str(bundles / "current"))
    assert {str(bundles / "log.jsonl"), asked[pointed].path} <= synced(asked[:pointed])
    assert str(bundles) in synced(asked[pointed:])


APPEND = """
from pathlib import Path
from etalage.online import Act, Event, open_live
store = open_live(Path(sys.argv[1]) / "events.sqlite")
for n in range(3):
    mark()
    store.append([Event(f"e{n}", "ann", Act("hat"))])
mark()
store.erase("ann")
mark()
"""


def test_events_and_erasures_are_on_the_disk_before_they_are_acknowledged(tmp_path: Path) -> None:
    """Otherwise what was answered 200 is gone after a power cut, and nobody sends it again."""
    asked = traced(APPEND, tmp_path)
    marks = [at for at, one in enumerate(asked) if one.what == "mark"]
    assert len(marks) == 5
    log = str(tmp_path / "events.sqlite-wal")
    for before, after in pairwise(marks):
        assert log in synced(asked[before:after])


REMEMBER = """
from pathlib import Path
from etalage.lake.erasures import Erasures
Erasures(Path(sys.argv[1])).remember("ann")
"""


def test_f66_an_erasure_is_remembered_on_the_disk_before_anything_is_deleted(tmp_path: Path) -> None:
    asked = traced(REMEMBER, tmp_path)
    at = moved(asked, str(tmp_path / "erased.json"))
    assert asked[at].path in synced(asked[:at]) and str(tmp_path) in synced(asked[at:])
