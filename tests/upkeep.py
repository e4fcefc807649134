"""What tests of upkeep share: a small shop that was trained, and steps that are killed at every change of the
disk."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etalage.shop import Shop
from tests.shops import act_rows, fill, rows_of

ROOT = Path(__file__).resolve().parents[1]


def trained_shop(folder: Path) -> Shop:
    """Twelve items, six of them with photos, eight shoppers, two models that were trained, and a bundle."""
    shop = Shop.create(folder, "Kept")
    fill(shop.lake, range(12), range(6))
    acts = [(f"user-{user}", item, "buy") for user in range(8) for item in range(user % 4, 12, 2)]
    shop.lake.table("interactions").merge(rows_of("interactions", act_rows(acts)))
    users = [{"user_id": f"user-{user}", "attributes": "{}"} for user in range(8)]
    shop.lake.table("users").merge(rows_of("users", users))
    shop.train("popularity")
    shop.train("item_knn")
    shop.publish(force=True)
    return shop


def copied(shop: Shop, folder: Path) -> Shop:
    """The same shop elsewhere."""
    shutil.copytree(shop.folder, folder)
    return Shop(folder)


def answers(shop: Shop) -> list[Any]:
    """What the shop recommends to everybody, and finds similar."""
    with shop.live_store() as live:
        asked = shop.recommender()
        slates = [asked.recommend(user_id=f"user-{user}", k=5, live=live) for user in range(8)]
    return [[(slot.item_id, slot.score) for slot in slate.slate] for slate in slates]


def every_kill(folder: Path, step: str, *given: Path | str, every: int = 1) -> Iterator[int]:
    """Kill a step of upkeep_killer.py at its first change beneath `folder`, its next one, and so on until it
    gets through; whoever asks for the next one looks at what it left. A step that fails fails the test."""
    killer = subprocess.Popen(
        [sys.executable, "-m", "tests.upkeep_killer"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert killer.stdin is not None and killer.stdout is not None
    number = 0
    try:
        while True:
            asked = {"folder": str(folder), "number": number, "step": step, "given": list(map(str, given))}
            killer.stdin.write(json.dumps(asked) + "\n")
            killer.stdin.flush()
            status = int(killer.stdout.readline())
            if status == 0:
                return
            assert os.WIFSIGNALED(status), f"{step}, at change {number}, ended with {status}"
            yield number
            number += every
    finally:
        killer.kill()
        killer.communicate()
