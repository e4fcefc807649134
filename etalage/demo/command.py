"""The whole path on a shop that is drawn for you. `make demo` runs it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from etalage.engine.children import child, python
from etalage.errors import DataError, ServeError, TooLittleData
from etalage.shop import MODEL, Bar, Shop

NAME = 'name = "Étalage demo"'
CONFIG = f"""\
{NAME}
currency = "EUR"

[split]
validation = 0.1
test = 0.1

[models.image_similarity]
backbone = "tf_efficientnet_lite0"

[behaviour]
targets = ["cart", "buy"]
rank = 0.1

[funnel]
ranker = "dlrm"

[funnel.retrievers]
popularity = 200
item_knn = 200
ease = 200

[funnel.order]
diversity = 0.1
per_brand = 4

[models.dlrm]
dimension = 8
bottom = [64, 32]
top = [64, 32]
epochs = 3
batch_size = 1024
"""
SIMPLE, RANKER = ("popularity", "item_knn", "ease"), "dlrm"

Say = Callable[[str], None]


def build(folder: Path, items: int, shoppers: int, seed: int, bar: Bar, say: Say) -> Shop:
    """Make the shop, train on photos and behaviour, evaluate, publish, register; a demo that is there is made
    anew.

    Raises what the steps raise; nothing is forced past a check.
    """
    from etalage.bundle.admission import beside_popularity
    from etalage.demo import tables
    from etalage.demo.tables import DemoSize

    started = time.monotonic()
    size = DemoSize(items=items, shoppers=shoppers, seed=seed)
    _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    shop = Shop(folder, bar)
    with bar(f"draw {items:,} products, let {shoppers:,} shoppers in", items) as meter:
        counts = tables.fill(shop.lake, size, meter)
    say("tables: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    trained, exported = shop.train(MODEL)
    hit = trained.metrics["hit_at_1"]
    say(f"trained {exported.name} in {trained.seconds:.0f} s: hit@1 {hit:.3f} on validation")
    for line in trained.facts["told"]:
        say(line)
    done = shop.evaluate(MODEL)
    say(done.summary())
    for name in SIMPLE:
        shop.train(name)
    try:
        shop.train(RANKER)
        say(shop.evaluate(RANKER).summary())
    except TooLittleData as error:
        say(f"no ranker in a shop this small: {error}")
        (folder / "shop.toml").write_text(CONFIG.replace(f'ranker = "{RANKER}"\n', ""), encoding="utf-8")
        shop = Shop(folder, bar)
    manifest = shop.publish()
    for model in manifest.photo_models:
        if model.index is not None:
            say(f"{model.name}: {model.index.indexed:,} items in the {model.index.kind} index")
    funnel = ", ".join(one.name for one in manifest.funnel)
    say(f"published {manifest.id}: {manifest.items:,} items; the funnel: {funnel}")
    for line in beside_popularity(manifest.funnel):
        say(line)
    for one in manifest.refused:
        say(f"left out: {one.reason}")
    recommender = shop.recommender()
    first = str(recommender.catalogue.ids[1])
    slate = recommender.similar(item_id=first, k=3)[0].slate
    say(f"like {first}: " + "; ".join(f"{slot.title} ({slot.score:.2f})" for slot in slate))
    with shop.live_store() as live:
        user = live.users(1)[0]
        wanted = recommender.recommend(user_id=user, k=3, explain=True, live=live)
    said = "; ".join(f"{slot.title} ({slot.why})" for slot in wanted.slate)
    say(f"for {user}, {wanted.tier}: {said}")
    say(f"registered in MLflow: {shop.register('etalage-demo')}")
    say(f"report: {done.report}")
    say(f"done in {time.monotonic() - started:.0f} s; the shop is the folder {folder}")
    return shop


def _clear(folder: Path) -> None:
    """Remove an earlier demo, its shop.toml last. What is not one, a shop above all, is left alone."""
    if not folder.exists():
        return
    made = {"shop.toml", "tables", "runs", "exports", "bundles", "reports", "live"}
    found = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {"a file"}
    file = folder / "shop.toml"
    if found and not file.is_file():
        raise DataError(f"{folder} holds {', '.join(sorted(found)[:5])}: not a demo; name another folder")
    if found and not file.read_bytes().startswith(NAME.encode()):
        raise DataError(f"{folder} is a shop, and not the demo: it stays as it is; name another folder")
    if strange := found - made:
        raise DataError(f"{folder} holds {', '.join(sorted(strange))}: not a demo; name another folder")
    for name in found - {"shop.toml"}:
        shutil.rmtree(folder / name)


def require_free(*ports: int) -> None:
    """Raises ServeError before minutes of work, where something answers on one of the ports."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except (OSError, OverflowError) as error:
                raise ServeError(
                    f"port {port} cannot be used: {error}; choose others with --port and --page-port"
                ) from error


def show(shop: Shop, port: int, page_port: int, say: Say) -> int:
    """Serve the API and the page until Ctrl-C, SIGTERM, or the end of either. → the exit status."""
    url, page_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page_port}"
    server = python("-m", "etalage.cli", "serve", "--shop", str(shop.folder), "--port", str(port))
    page = python("-m", "etalage.cli", "page", "--url", url, "--port", str(page_port))
    named = {**os.environ, "ETALAGE_NAME": shop.config.name}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else both would outlive us
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.append(child(server))
        processes.append(child(page, named))
        say(f"the page: {page_url}")
        say(f"the API:  {url}   (try: curl '{url}/v1/items?limit=1'; its description: {url}/openapi.json)")
        say("Ctrl-C ends both")
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        return next(process.returncode for process in processes if process.returncode is not None)
    except KeyboardInterrupt:
        return 0
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(timeout=20)
        signal.signal(signal.SIGTERM, before)
