"""What a server of a kept bundle answered, to the byte: `python -m tests.serve.recorded` records it anew.

Recorded on purpose alone: whoever reads the server's JSON counts on it.
"""

import base64
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx

from tests.bundle.test_golden import bundle
from tests.serve.servers import ThreadServer
from tests.shops import drawn_photo

RECORDED = Path(__file__).with_name("recorded.json")
NOW = 1_700_000_500_000_000
"""Microseconds; the shop's clock, by which histories age."""
PHOTO = base64.b64encode(drawn_photo(5)).decode()
BOUGHT = [{"item_id": "item-00002", "kind": "buy"}, {"item_id": "item-00009", "kind": "view", "value": 2}]
EVENT = {"event_id": "e-1", "user_id": "newcomer", "item_id": "item-00003", "kind": "buy", "value": 1.5}
QUESTIONS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("POST", "/v1/similar", {"item_id": "item-00003", "k": 3}),
    ("POST", "/v1/similar", {"item_id": "no such item", "k": 2}),
    ("POST", "/v1/similar", {"photo": PHOTO, "k": 3, "threshold": 0.999}),
    ("POST", "/v1/similar", {"photos": [PHOTO, PHOTO], "k": 2, "filters": {"category": "Bags"}}),
    ("GET", "/v1/items?search=piece&limit=3&offset=1", None),
    ("GET", "/v1/items/item-00004", None),
    ("GET", "/v1/categories", None),
    ("GET", "/v1/categories?of=classified", None),
    ("POST", "/v1/classify", {"item_id": "item-00004", "top": 2}),
    ("POST", "/v1/classify", {"items": [{"title": "milk"}, {"photos": [PHOTO]}, {}], "threshold": 0.1}),
    ("POST", "/v1/classify", {"photo": PHOTO, "threshold": 1}),
    ("GET", "/v1/confusion", None),
    ("POST", "/v1/recommend", {"user_id": "user-1", "k": 4}),
    ("POST", "/v1/recommend", {"user_id": "nobody", "k": 3, "explain": True}),
    ("POST", "/v1/recommend", {"history": BOUGHT, "k": 4, "explain": True}),
    ("POST", "/v1/recommend", {"history": BOUGHT, "k": 9, "filters": {"brand": "Ardent"}}),
    ("POST", "/v1/rank", {"pairs": [{"user_id": "user-1", "item_id": "item-00003"}]}),
    ("POST", "/v1/rank", {"pairs": [{"user_id": "nobody", "item_id": "none"}], "threshold": 0.25}),
    ("POST", "/v1/users", {"item_id": "item-00003", "k": 2}),
    ("POST", "/v1/users", {"user_id": "user-1", "k": 2}),
    ("POST", "/v1/events", {"events": [EVENT, {**EVENT, "time": "2023-11-14T22:00:00Z"}]}),
    ("POST", "/v1/events", {"events": [{**EVENT, "event_id": "e-2", "item_id": "new", "kind": "gaze"}]}),
    ("POST", "/v1/events", {"events": [{**EVENT, "event_id": "e-3", "time": 5}]}),
    ("GET", "/v1/users?limit=2", None),
    ("GET", "/v1/users/user-1/liked?k=3&threshold=0.1", None),
    ("GET", "/v1/users/user-1/history?limit=2", None),
    ("GET", "/v1/users/nobody/history", None),
    ("DELETE", "/v1/users/newcomer", None),
    ("DELETE", "/v1/users/user-2", None),
    ("GET", "/v1/users/nobody/liked", None),
    ("GET", "/v1/items/none", None),
    ("POST", "/v1/recommend", {"user_id": "user-1", "history": []}),
    ("POST", "/v1/similar", {"item_id": "item-00003", "k": 0}),
    ("POST", "/v1/similar", {"photo": "text"}),
    ("GET", "/nowhere", None),
)  # fmt: skip


@contextmanager
def served() -> Iterator[httpx.Client]:
    """A client of a server of the kept bundle of format 3, whose six shoppers are in its online store."""
    from etalage.online import Act, open_live

    kept = bundle(3)
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder)
        shutil.copytree(kept, shop / "bundles" / kept.name)
        (shop / "bundles" / "current").write_text(kept.name)
        live = open_live(shop / "live" / "events.sqlite")
        live.seed(
            (f"user-{user}", Act(f"item-{at:05d}", "buy", None, NOW - 10**9 + 100 * user + at))
            for user in range(6)
            for at in range(user, 2 * user + 3)
        )
        live.close()
        with (
            patch("etalage.recommend.clock", lambda: NOW),
            ThreadServer(shop / "bundles") as server,
            httpx.Client(base_url=server.url, timeout=120) as client,
        ):
            yield client


def answers() -> list[dict[str, Any]]:
    """Each question with its status and its body, in their order: what is sent and erased is known after."""
    found = []
    with served() as client:
        for method, path, body in QUESTIONS:
            answer = client.request(method, path, json=body)
            text = MILLISECONDS.sub('"milliseconds":0', answer.text)
            found.append({"asked": f"{method} {path}", "status": answer.status_code, "body": text})
    return found


MILLISECONDS = re.compile(r'"milliseconds":[\d.e-]+')
"""How long a stage took."""
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+(?:e-?\d+)?|e-?\d+)(?!\w)")
"""A float; whole numbers and hashes are text."""


def main() -> None:
    """Record."""
    RECORDED.write_text(json.dumps(answers(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
