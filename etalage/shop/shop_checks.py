"""What `etalage doctor` finds of a shop: settings, tables, exports, bundles, what was left behind, what its
settings name outside of it."""

import json
import os
import socket
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from etalage.bundle.pointer import PUBLISHING
from etalage.errors import EtalageError, ExportDamaged, NoBundle
from etalage.shop import live_steps, text_steps
from etalage.shop.at_work import is_held
from etalage.shop.findings import Finding, each_looked_at, looked_at
from etalage.shop.photo_steps import newest_exports
from etalage.shop.status_steps import status
from etalage.shop.upkeep_files import size_of
from etalage.shop.upkeep_leftovers import leftovers, unfinished_bundles, unfinished_cache
from etalage.shop.workspace import Workspace, of_shop

SECONDS = 3.0
"""How long something that the settings name may take to answer."""


def shop_findings(shop: Workspace) -> Iterator[Finding]:
    """Looks, and changes nothing. Where the settings cannot be read, nothing else can be told."""
    settings = looked_at("settings", lambda: _settings(shop))
    yield settings
    if settings.state == "problem":
        return
    if shop.config.text.encoder is not None:
        yield looked_at("[text] encoder", lambda: _texts(shop))
    yield from _outside(shop)
    yield from each_looked_at("tables", lambda: _tables(shop))
    yield from each_looked_at("models", lambda: _models(shop))
    yield from each_looked_at("exports", lambda: _orphans(shop))
    yield looked_at("bundle", lambda: _bundle(shop))
    yield looked_at("publishing", lambda: _publishing(shop))
    yield looked_at("left behind", lambda: _left_behind(shop.folder))
    yield looked_at("port", lambda: _port(shop.config.serve.host, shop.config.serve.port))
    yield looked_at("next", lambda: _next(shop))


def _settings(shop: Workspace) -> Finding:
    file = shop.folder / "shop.toml"
    return Finding(
        "settings", "ok", f"{file}: {shop.config.name}" if file.exists() else "no shop.toml: defaults"
    )


def _texts(shop: Workspace) -> Finding:
    encoder = text_steps.TextReader(shop).encoder
    assert encoder is not None
    return Finding("[text] encoder", "ok", f"{encoder.name}: {encoder.dimension} numbers of a text")


def _tables(shop: Workspace) -> Iterator[Finding]:
    there = sorted(shop.lake.versions())
    if not there:
        yield Finding("tables", "warning", "no table has rows yet", "`etalage ingest FILE items`")
        return
    yield Finding("tables", "ok", ", ".join(there))
    for name in there:
        yield looked_at(f"table {name}", lambda name=name: _table(shop, name))  # type: ignore[misc]


def _table(shop: Workspace, name: str) -> Finding:
    """Reads one column of all its files."""
    table = shop.lake.table(name)
    rows = sum(batch.num_rows for batch in table.batches(columns=[table.spec.key[0]]))
    return Finding(f"table {name}", "ok", f"{rows:,} rows, version {table.version()}")


def _models(shop: Workspace) -> Iterator[Finding]:
    for name, export in newest_exports(shop).items():
        yield looked_at(f"model {name}", lambda export=export: _export(export))  # type: ignore[misc]


def _orphans(shop: Workspace) -> Iterator[Finding]:
    """Exports of models whose file is gone."""
    from etalage.shop.trust_steps import orphan_exports

    for orphan in orphan_exports(shop):
        yield Finding("exports", "warning", orphan.sentence)


def _export(folder: Path) -> Finding:
    from etalage.runtime.export_files import export_kind, read_export, read_facts

    subject = f"model {folder.parent.name}"
    try:
        kind = export_kind(read_facts(folder))
        if kind == "photos":
            from etalage.runtime.photos import PhotoEmbedder

            PhotoEmbedder.open(folder)
        elif kind == "classifier":
            from etalage.runtime.classifier import ItemClassifier

            ItemClassifier.open(folder)
        else:
            read_export(folder)
    except (ExportDamaged, OSError, ValueError, KeyError) as error:
        again = f"`etalage train {folder.parent.name} --fresh`, or put {folder} back from a copy"
        return Finding(subject, "problem", f"{folder.name}: {error}", again)
    return Finding(subject, "ok", f"{folder.name}: its files are those that were exported")


def _bundle(shop: Workspace) -> Finding:
    from etalage.bundle.manifest import verify

    try:
        current = shop.bundles.current_id()
    except NoBundle:
        return Finding("bundle", "warning", "nothing was published yet", "`etalage publish`")
    manifest = verify(shop.bundles.path(current))
    return Finding("bundle", "ok", f"{current}: {len(manifest.files):,} files are those that were published")


def _publishing(shop: Workspace) -> Finding:
    """The locks are the kernel's: they end with whoever holds them, so that none can be stale."""
    if shop.config.storage.bundles is not None or not (shop.folder / "bundles").is_dir():
        return Finding("publishing", "ok", "nobody publishes")
    if not os.access(shop.folder / "bundles", os.W_OK):
        return Finding("publishing", "warning", "bundles/ cannot be written", "publish as its owner")
    busy = is_held(shop.folder / "bundles" / PUBLISHING)
    return Finding("publishing", "ok", "somebody publishes now" if busy else "nobody publishes")


def _left_behind(folder: Path) -> Finding:
    found = [*leftovers(folder), *unfinished_bundles(folder / "bundles"), *unfinished_cache(folder)]
    if not found:
        return Finding("left behind", "ok", "nothing of killed runs")
    size = sum(map(size_of, found))
    names = ", ".join(str(one.relative_to(folder)) for one in found[:3])
    more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
    typed = f"etalage vacuum --yes{of_shop(folder)}"
    advice = f"if no command runs here now, `{typed}` removes them"
    return Finding(
        "left behind",
        "warning",
        f"{names}{more}: {size / 1e6:,.1f} MB of runs that go on or were killed",
        advice,
    )


def _port(host: str, port: int) -> Finding:
    """Whether `etalage serve` can listen where the settings say."""
    if not port:
        return Finding("port", "ok", f"{host}: `etalage serve` takes any free port")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return _taken(host, port, str(error.strerror or error))
    return Finding("port", "ok", f"{host}:{port} is free for `etalage serve`")


def _taken(host: str, port: int, why: str) -> Finding:
    at = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
    try:
        with urlopen(f"{at}/healthz", timeout=SECONDS) as answer:
            found: dict[str, Any] = json.loads(answer.read(4096))
            return Finding("port", "ok", f"{at}: a server of Etalage answers, with bundle {found['bundle']}")
    except (OSError, HTTPException, ValueError, KeyError, TypeError):  # also what speaks no HTTP
        return Finding(
            "port", "warning", f"{host}:{port}: {why}", "`etalage serve --port 0`, or another [serve] port"
        )


def _outside(shop: Workspace) -> Iterator[Finding]:
    """What the settings name outside of the folder: an object store, Redis, Milvus, Spark."""
    config = shop.config
    for name, place in (("tables", config.storage.tables), ("bundles", config.storage.bundles)):
        if place is not None:
            yield looked_at(f"[storage] {name}", lambda name=name, place=place: _stored(shop, name, place))  # type: ignore[misc]
    if config.serve.live is not None:
        yield looked_at("[serve] live", lambda: _live(shop))
    if config.index.kind == "milvus":
        yield looked_at("[index.milvus]", lambda: _milvus(shop))
    if config.engine.kind == "spark":
        yield looked_at("[engine]", lambda: _spark(shop))


def _stored(shop: Workspace, name: str, place: str) -> Finding:
    from etalage.shop.workspace import place_of

    place_of(shop.config.storage, place).store().require()
    return Finding(f"[storage] {name}", "ok", f"{place} answers")


def _live(shop: Workspace) -> Finding:
    where = shop.config.serve.live
    store = live_steps.found(shop)
    if store is None:
        return Finding("[serve] live", "ok", f"{where}: not made yet; `etalage publish` or `serve` makes it")
    store.close()
    return Finding("[serve] live", "ok", f"{urlsplit(str(where)).hostname or where} answers")


def _milvus(shop: Workspace) -> Finding:
    from etalage.index import milvus_settings

    server = milvus_settings(shop.config.index, str(shop.folder / "shop.toml")).server
    at = urlsplit(server.uri)
    if at.hostname is None:
        return Finding("[index.milvus]", "ok", f"{server.uri}: a file of Milvus Lite")
    with socket.create_connection((at.hostname, at.port or 19530), SECONDS):
        return Finding("[index.milvus]", "ok", f"{at.hostname}:{at.port or 19530} answers")


def _spark(shop: Workspace) -> Finding:
    from shutil import which

    said = f"Spark at {shop.config.engine.master or 'local[*]'}"
    if not os.environ.get("JAVA_HOME") and which("java") is None:
        return Finding("[engine]", "problem", f"{said}: there is no Java", "install Java, or set JAVA_HOME")
    try:
        shop.engine  # noqa: B018  (picks it, and imports pyspark)
    except EtalageError as error:
        return Finding("[engine]", "problem", f"{type(error).__name__}: {error}")
    return Finding("[engine]", "ok", said)


def _next(shop: Workspace) -> Finding:
    step = status(shop).next
    return Finding("next", "ok", step.why, f"`{step.command}{of_shop(shop.folder)}`")
