"""A drawn shop as files, the way a shop would have them: a feed of links, several files of interactions, a
taxonomy, and the photos behind a few hosts of one HTTP server on loopback."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from etalage.datasets.clicks import CARDINALITIES, draw_clicks
from etalage.demo import tables
from etalage.demo.tables import DemoSize
from etalage.features.examples import PARTS

HOSTS = 6
DEAD = 25
"""Every so many links, one leads nowhere."""
FILES = 4


@dataclass
class Drawn:
    """`feed`, `acts`, `taxonomy`: files in `folder`. `photos`: path of a link → the file's bytes."""

    folder: Path
    photos: dict[str, bytes] = field(default_factory=dict)

    @property
    def feed(self) -> Path:
        return self.folder / "feed.csv"

    @property
    def acts(self) -> Path:
        return self.folder / "acts"

    @property
    def taxonomy(self) -> Path:
        return self.folder / "taxonomy.csv"


def draw(folder: Path, size: DemoSize) -> Drawn:
    """Write the files of a shop of `size`; of every fifth item nobody said which category it has."""
    drawn = Drawn(folder)
    drawn.acts.mkdir(parents=True)
    items = tables.catalogue(size)
    ids = items["item_id"].to_pylist()
    links = [f"http://photos-{n % HOSTS}.test/{item_id}.jpg" for n, item_id in enumerate(ids)]
    paths = items["category_id"].to_pylist()
    said = [None if n % 5 == 4 else path for n, path in enumerate(paths)]
    feed = items.select(["item_id", "title", "description", "brand", "price", "currency", "in_stock"])
    feed = feed.append_column("category_id", pa.array(said)).append_column("photo_url", pa.array(links))
    csv.write_csv(feed, drawn.feed)
    _write_taxonomy(drawn.taxonomy, sorted(set(paths)))
    acts = tables.interactions(size).drop_columns(["interaction_id", "part"])
    rows = -(-acts.num_rows // FILES)
    for number in range(FILES):
        pq.write_table(acts.slice(number * rows, rows), drawn.acts / f"part-{number:05d}.parquet")
    for some in tables.photos(size):
        for item_id, photo in zip(some["item_id"].to_pylist(), some["bytes"].to_pylist(), strict=True):
            drawn.photos[f"/{item_id}.jpg"] = photo
    for item_id in ids[DEAD - 1 :: DEAD]:
        del drawn.photos[f"/{item_id}.jpg"]
    return drawn


def write_clicks(folder: Path, rows: int) -> float:
    """A table of dense and sparse columns in many small row groups → the best AUROC that anyone can reach on
    its part `test`."""
    clicks = draw_clicks(rows, cardinalities=CARDINALITIES[:14])
    examples = clicks.examples
    columns: dict[str, object] = {"click": examples.labels[:, 0], "part": np.take(PARTS, examples.parts)}
    for number, name in enumerate(examples.sparse_names):
        columns[name] = np.char.add("v", examples.sparse[:, number].astype(str))
    for number, name in enumerate(examples.dense_names):
        columns[name] = examples.dense[:, number]
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "clicks.parquet", row_group_size=max(rows // 20, 1))
    return clicks.best_auroc()


def _write_taxonomy(file: Path, paths: list[str]) -> None:
    """The tree of these paths; the id of a category is its path in short."""
    known: dict[str, tuple[str, str]] = {}
    for path in paths:
        steps = path.split(" > ")
        for depth in range(1, len(steps) + 1):
            above = " > ".join(steps[: depth - 1])
            known.setdefault(" > ".join(steps[:depth]), (above, steps[depth - 1]))
    ids = {path: f"c{number}" for number, path in enumerate(known, 1)}
    rows = {
        "id": list(ids.values()),
        "parent": [ids.get(above) for above, _ in known.values()],
        "name": [name for _, name in known.values()],
    }
    csv.write_csv(pa.table(rows, schema=pa.schema([(name, pa.string()) for name in rows])), file)


@dataclass
class PhotoServer:
    """All hosts of the photos, on one port. `asked`: how many photos were asked for so far."""

    port: int
    asked: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> None:
        """Until so many photos were asked for."""
        with self.changed:
            self.changed.wait_for(lambda: self.asked >= count)


@contextmanager
def photo_server(drawn: Drawn) -> Iterator[PhotoServer]:
    """Serve the photos while this is open."""
    server = _Server(("127.0.0.1", 0), partial(_Photos, drawn.photos))
    state = PhotoServer(server.server_address[1])
    server.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a worker that is killed hangs up in the middle, as it is meant to here."""


class _Photos(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, photos: dict[str, bytes], *given: object) -> None:
        self.photos = photos
        super().__init__(*given)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        photo = self.photos.get(self.path)
        self.send_response(HTTPStatus.NOT_FOUND if photo is None else HTTPStatus.OK)
        self.send_header("Content-Type", "text/html" if photo is None else "image/jpeg")
        self.send_header("Content-Length", str(len(photo or b"")))
        self.end_headers()
        self.wfile.write(photo or b"")
        if self.path.endswith(".jpg"):
            state: PhotoServer = self.server.state  # type: ignore[attr-defined]
            with state.changed:
                state.asked += 1
                state.changed.notify_all()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is asked is counted."""
