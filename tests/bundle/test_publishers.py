"""Who may publish and roll back at the same time as somebody else."""

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from etalage.bundle.draft import Draft
from etalage.bundle.manifest import Manifest, verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import (
    PublishBusy,
)
from etalage.lake.delta import Lake

Shop = tuple[Lake, Bundles, Manifest]


def send(bundles: Bundles, draft: Draft, force: bool = False, **settings: Any) -> Manifest:
    config = PublishConfig(**settings)
    return publish(bundles, draft, config=config, index_config=IndexConfig(), force=force)


SLOW = """
    import sys
    from pathlib import Path
    from etalage.bundle.pointer import Bundles
    from etalage.bundle.publish import publish
    from etalage.config import IndexConfig, PublishConfig
    from etalage.lake.delta import Lake
    from tests.shops import drafted

    def wait(count):
        print("inside", flush=True)
        sys.stdin.readline()

    shop = Path(sys.argv[1])
    draft = drafted(Lake(shop / "tables"), shop / "exports" / "image_similarity" / "0001-tiny")
    config, index_config = PublishConfig(), IndexConfig()
    bundles = Bundles(shop / "bundles")
    print(publish(bundles, draft, config=config, index_config=index_config, progress=wait).id)
"""


def test_f17_of_two_publishers_one_wins_and_the_other_is_told(
    shop: Shop, draft: Draft, tmp_path: Path, project: Path
) -> None:
    _, bundles, first = shop
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path)],
        cwd=project,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "inside\n"
        with pytest.raises(PublishBusy, match="try again"):
            send(bundles, draft)
        assert bundles.current_id() == first.id
        output, _ = other.communicate("\n\n\n")
    winner = output.split()[-1]
    assert bundles.current_id() == winner
    assert bundles.ids() == [first.id, winner]
    assert send(bundles, draft).previous == winner


RACER = """
    import json, sys
    from pathlib import Path
    from etalage.bundle.pointer import Bundles
    from etalage.errors import NoBundle, PublishBusy
    bundles, first = Bundles(sys.argv[1]), sys.argv[2]
    print("ready", flush=True)
    sys.stdin.readline()
    moved = 0
    for n in range(60):
        target = first if n % 2 else bundles.ids()[-1]
        try:
            bundles.switch(target, wait=5)
            moved += 1
        except NoBundle:
            pass
    print(moved)
"""


def test_f24_rollbacks_that_race_publishes_have_one_order_and_all_are_logged(
    shop: Shop, draft: Draft, project: Path
) -> None:
    _, bundles, first = shop
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RACER), str(bundles.folder), first.id],
        cwd=project,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as racer:
        assert racer.stdin is not None
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
        racer.stdin.write("\n")
        racer.stdin.flush()
        made = [send(bundles, draft, keep=50) for _ in range(6)]
        output, _ = racer.communicate()
    moves = bundles.log()
    assert [m["to"] for m in moves if m["action"] == "publish"] == [first.id, *(m.id for m in made)]
    assert sum(m["action"] == "rollback" for m in moves) == int(output)
    assert {m["action"] for m in moves} == {"publish", "rollback"}
    for before, after in itertools.pairwise(moves):
        assert after["from"] == before["to"]
    assert bundles.current_id() == moves[-1]["to"]
    for manifest in made:  # each says truthfully what was current when it became so
        (move,) = [m for m in moves if m["action"] == "publish" and m["to"] == manifest.id]
        assert move["from"] == manifest.previous
        verify(bundles.path(manifest.id))
