"""One shop on a Spark cluster: a master and two workers on loopback, one of which is killed on the way.

python examples/on_spark/run.py [--folder FOLDER] [--items 1500] [--small]

Says what it does, and checks it: a claim that does not hold ends it with exit status 1.
"""

import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import drawn
from claims import Claims, shop_serves
from cluster import SparkCluster, missing, running_cluster

from etalage.bundle.manifest import Manifest
from etalage.console import bar
from etalage.demo.tables import DemoSize
from etalage.errors import EtalageError
from etalage.lake.schema import PHOTO_OK
from etalage.online import Act
from etalage.recommend import Recommender
from etalage.shop import Shop

EXAMPLE = Path(__file__).resolve().parent
STREAM = {
    "table": "clicks", "labels": '["click"]', "stream": "always", "buffer": "1", "workers": "2",
    "epochs": "2", "dimension": "4", "bottom": "[16]", "top": "[16]", "batch_size": "256",
    "precision": "float32",
}  # fmt: skip
"""Of the ranker: the least that learns, through a buffer of 1 MB."""


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def open_shop(folder: Path, files: drawn.Drawn, master: str, port: int) -> Shop:
    """A shop by this example's shop.toml, with what this machine has."""
    text = (EXAMPLE / "shop.toml").read_text(encoding="utf-8")
    for name, place in {"MASTER": master, "PORT": port, "TAXONOMY": files.taxonomy.resolve()}.items():
        text = text.replace(name, str(place))
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text(text, encoding="utf-8")
    return Shop(folder, bar)


def load(shop: Shop, files: drawn.Drawn, claims: Claims) -> None:
    """The feed, and a folder of several files of interactions."""
    say("1. etalage ingest feed.csv items; etalage ingest acts/ interactions")
    items = shop.ingest(files.feed, "items")
    acts = shop.ingest(files.acts, "interactions")
    print(f"  {items.inserted} items, {acts.inserted} interactions of {drawn.FILES} files")
    claims.that("no row was refused", items.refused + acts.refused == 0)
    again = shop.ingest(files.acts, "interactions")
    claims.that("the same files again add nothing", again.inserted + again.updated == 0)


def fetch(
    shop: Shop, files: drawn.Drawn, server: drawn.PhotoServer, cluster: SparkCluster, claims: Claims
) -> None:
    """All links, while one of the two workers is killed, with all that runs on it."""
    say("2. etalage photos fetch, and a worker of the cluster is killed when a quarter is asked for")
    before = server.asked

    def kill_one() -> None:
        server.wait_for(before + len(files.photos) // 4)
        cluster.workers["worker-0"].send_signal(signal.SIGKILL)

    threading.Thread(target=kill_one, daemon=True).start()
    done = shop.fetch_photos()
    killed = cluster.workers["worker-0"].wait(timeout=600)
    print(f"  {done.links} links: " + ", ".join(f"{count} {state}" for state, count in done.states.items()))
    claims.that("a worker was killed on the way", killed == -signal.SIGKILL)
    stored = shop.lake.table("photos").read(columns=["item_id", "status"])
    good = sum(status == PHOTO_OK for status in stored["status"].to_pylist())
    claims.that("every photo that its host has is stored", good == len(files.photos), good)
    cluster.add_worker("worker-2")


def learn(shop: Shop, claims: Claims) -> None:
    """The classifier and the two-tower retriever by two workers, the others by one."""
    say("3. etalage train item_category, two_tower (two workers: the command, and a task of the cluster)")
    for name in ("item_category", "two_tower", "image_similarity", "popularity", "item_knn"):
        begun = time.monotonic()
        trained, exported = shop.train(name)
        figures = ", ".join(f"{key} {value:.3f}" for key, value in list(trained.metrics.items())[:3])
        print(f"  {exported.name}: {time.monotonic() - begun:.0f} s{f'; {figures}' if figures else ''}")
    for name in ("item_category", "image_similarity", "two_tower"):
        print("  " + shop.evaluate(name).summary().replace("\n", "\n  "))


def stream(shop: Shop, rows: int, claims: Claims) -> None:
    """A ranker from a table that is read as a stream, by two workers."""
    say("4. etalage train dlrm, from the table clicks/, as a stream")
    best = drawn.write_clicks(shop.folder / "clicks", rows)
    trained, exported = shop.train("dlrm", STREAM)
    print(
        f"  {exported.name}: {trained.seconds:.0f} s, {trained.metrics}; nobody reaches more than {best:.3f}"
    )
    claims.that("it learned", trained.history[-1]["loss"] < trained.history[0]["loss"])


def vectors(shop: Shop, claims: Claims) -> None:
    """Into a Milvus of one file, and the best items of all shoppers into a table."""
    say("9. etalage vectors --to milvus.db; etalage users best")
    handed = shop.vectors(str(shop.folder.parent / "milvus.db"), "two_tower")
    print(f"  {handed.counts.written} vectors of items written to {handed.to}")
    best = shop.best_items(20, "two_tower")
    print(f"  {best.users} shoppers have items of {best.model}; of {best.unknown} nothing is known")
    rows = shop.lake.table("recommendations").count()
    claims.that("every shopper that is known has their items", rows == best.users > 0, rows)


def classify(shop: Shop, claims: Claims) -> None:
    """What every item is."""
    say("5. etalage classify")
    done = shop.classify()
    print("  " + ", ".join(f"{count} {status}" for status, count in done.counts.items()))
    rows = shop.lake.table("classifications").read()
    claims.that("every item has its row", rows.num_rows == shop.lake.table("items").count())
    claims.that("asking again asks about nothing", shop.classify().asked == 0)


def tune(shop: Shop, trials: int, claims: Claims) -> None:
    """Settings of the simplest retriever, two trials at a time on the cluster."""
    say(f"6. etalage tune item_knn --trials {trials} --parallel 2")
    done = shop.tune("item_knn", trials=trials, parallel=2)
    current = "out of the space" if done.current is None else f"{done.current.value:.4f}"
    print(f"  {done.metric}: {current} as it stood, {done.best.value:.4f} at best, trial {done.best.number}")
    failed = [trial.error for trial in done.trials if trial.error is not None]
    claims.that(f"none of {len(done.trials)} trials failed", not failed, failed[0] if failed else "")


def publish(shop: Shop, claims: Claims) -> Manifest:
    """On the cluster; then the same folder on this machine alone: the same bundle."""
    say("7. etalage publish")
    manifest = shop.publish(force=True)
    print(f"  {manifest.id}: {manifest.items} items, " + ", ".join(model.name for model in manifest.models))
    on_spark = shop.recommender()
    here = copied(shop, shop.folder.with_name("here"))
    alone = here.publish(force=True)
    claims.that("processes of one machine make the same bundle", *same(on_spark, here.recommender()))
    claims.that("of as many models", len(alone.models) == len(manifest.models))
    return manifest


def serve(shop: Shop, manifest: Manifest, claims: Claims) -> None:
    """What a shopper is shown comes from the bundle that was published on the cluster."""
    say("8. etalage serve, POST /v1/recommend")
    with shop_serves(shop) as client:
        user = str(shop.lake.table("interactions").read(columns=["user_id"])["user_id"][0])
        answer = client.recommend(user_id=user, k=3)
        print(f"  for {user}, {answer.tier}: " + "; ".join(str(slot.title) for slot in answer.slate))
        claims.that(
            "the answer comes from what was published here", answer.bundle == manifest.id, answer.bundle
        )


def copied(shop: Shop, folder: Path) -> Shop:
    """The shop's tables and exports, without its [engine] and without what it published."""
    folder.mkdir()
    for name in ("tables", "exports"):
        shutil.copytree(shop.folder / name, folder / name)
    if (shop.folder / "golden.json").exists():
        shutil.copy(shop.folder / "golden.json", folder)
    text = (shop.folder / "shop.toml").read_text(encoding="utf-8")
    begin, end = text.index("[engine]"), text.index("[photos]")
    (folder / "shop.toml").write_text(text[:begin] + text[end:], encoding="utf-8")
    return Shop(folder, bar)


def same(one: Recommender, other: Recommender) -> tuple[bool, str]:
    """Whether both answer alike: the same items, slates and scores."""
    ids = [str(item_id) for item_id in one.catalogue.ids[1:]]
    if ids != [str(item_id) for item_id in other.catalogue.ids[1:]]:
        return False, "other items"
    asked = ids[:: max(1, len(ids) // 50)]
    for item_id in asked:
        ours, theirs = (each.similar(item_id=item_id, k=10)[0].slate for each in (one, other))
        if [slot.item_id for slot in ours] != [slot.item_id for slot in theirs]:
            return False, f"others are like {item_id}"
        if not np.allclose([slot.score for slot in ours], [slot.score for slot in theirs], atol=1e-5):
            return False, f"other scores of what is like {item_id}"
    for item_id in asked:
        ours, theirs = (each.recommend(history=[Act(item_id)], k=10).slate for each in (one, other))
        if [slot.item_id for slot in ours] != [slot.item_id for slot in theirs]:
            return False, f"others are wanted with {item_id}"
    return True, f"{2 * len(asked)} slates"


def main(
    folder: Annotated[Path | None, typer.Option(help="Where to work; default: a folder that goes.")] = None,
    items: Annotated[int, typer.Option(min=100, help="Products to draw.")] = 1500,
    shoppers: Annotated[int, typer.Option(min=50, help="Shoppers to draw.")] = 600,
    trials: Annotated[int, typer.Option(min=2, help="Trials of the study.")] = 16,
    small: Annotated[bool, typer.Option("--small", help="A shop of 240 products, 4 trials.")] = False,
) -> None:
    """Start a cluster, run a shop on it, check it, and end the cluster."""
    if (what := missing()) is not None:
        print(f"this example needs Spark: {what}", file=sys.stderr)
        raise typer.Exit(2)
    if small:
        items, shoppers, trials = 240, 150, 4
    own = folder is None
    work = Path(tempfile.mkdtemp(prefix="etalage-on-spark-")) if folder is None else folder.resolve()
    if not own and work.exists() and any(work.iterdir()):
        raise typer.BadParameter(f"{work} is not empty")
    work.mkdir(parents=True, exist_ok=True)
    claims = Claims()
    try:
        run(work, DemoSize(items, shoppers), trials, claims)
    finally:
        if own:
            shutil.rmtree(work, ignore_errors=True)
    if claims.broken:
        print(f"\n{len(claims.broken)} claims did not hold", file=sys.stderr)
        raise typer.Exit(1)


def run(work: Path, size: DemoSize, trials: int, claims: Claims) -> None:
    """All of it, in `work`."""
    say(f"0. a shop of {size.items} products, and a cluster: a master and two workers on loopback")
    files = drawn.draw(work / "files", size)
    (work / "spark").mkdir()
    with running_cluster(work / "spark") as cluster, drawn.photo_server(files) as server:
        print(f"  {cluster.master}")
        shop = open_shop(work / "shop", files, cluster.master, server.port)
        steps: list[tuple[str, Callable[[], object]]] = [
            ("ingest", lambda: load(shop, files, claims)),
            ("fetch", lambda: fetch(shop, files, server, cluster, claims)),
            ("train", lambda: learn(shop, claims)),
            ("stream", lambda: stream(shop, 50 * size.items, claims)),
            ("classify", lambda: classify(shop, claims)),
            ("tune", lambda: tune(shop, trials, claims)),
            ("publish and serve", lambda: serve(shop, publish(shop, claims), claims)),
            ("vectors", lambda: vectors(shop, claims)),
        ]
        took = {}
        try:
            for name, step in steps:
                begun = time.monotonic()
                step()
                took[name] = time.monotonic() - begun
        finally:
            shop.engine.stop()  # type: ignore[attr-defined]
    say("Seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items()))


if __name__ == "__main__":
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
