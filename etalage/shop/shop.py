"""A shop: one folder with its config, tables, runs, exports and bundles. It wires the steps.

shop = Shop("demo")
shop.ingest("feed.csv", "items")
shop.train()
shop.evaluate()
shop.publish()
shop.recommender().similar(item_id="i000042", k=5)
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from etalage.config import MappingConfig, ShopConfig, read_config
from etalage.engine import local
from etalage.errors import DataError

if TYPE_CHECKING:
    from etalage.bundle.contents import Payload
    from etalage.bundle.manifest import Manifest
    from etalage.bundle.pointer import Bundles
    from etalage.bundle.sync import Synced
    from etalage.evaluation.photos import Evaluation
    from etalage.features.photo import PhotoEncoder
    from etalage.features.photo_set import PhotoSet
    from etalage.lake.delta import Lake
    from etalage.lake.ingest import Ingested, TableName
    from etalage.models.recipe import Trained
    from etalage.recommend import Recommender


class Meter(Protocol):
    """What a step tells of its progress."""

    def __call__(self, steps: int) -> None:
        """So many more are done."""

    def say(self, line: str, total: int) -> None:
        """What is being done now, and how much there is in all."""


Bar = Callable[[str, int | None], AbstractContextManager[Meter]]
"""`with bar("embed photos", 5000) as meter: meter(256)`; None: the total is not known yet."""

MODEL = "image_similarity"
log = logging.getLogger(__name__)


class _Silence:
    def __call__(self, steps: int) -> None:
        return None

    def say(self, line: str, total: int) -> None:
        return None


@contextmanager
def silent(title: str, total: int | None) -> Iterator[Meter]:
    yield _Silence()


class Shop:
    """Opens `folder`; nothing is written until a step needs it."""

    def __init__(self, folder: str | Path, bar: Bar = silent) -> None:
        local.settle()
        self.folder = Path(folder)
        self.bar = bar

    @classmethod
    def create(cls, folder: str | Path, name: str, bar: Bar = silent) -> "Shop":
        """A new shop with a shop.toml to edit; one that is there stays as it is."""
        shop = cls(folder, bar)
        shop.folder.mkdir(parents=True, exist_ok=True)
        file = shop.folder / "shop.toml"
        if not file.exists():
            quoted = json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
            file.write_text(f"name = {quoted}\n", encoding="utf-8")
        return shop

    @cached_property
    def config(self) -> ShopConfig:
        """Raises ConfigError for a bad shop.toml."""
        from etalage.models import recipe as recipes

        config = read_config(self.folder / "shop.toml")
        for model in config.models:
            recipes.known(model, where=f"{self.folder / 'shop.toml'}: [models.{model}]")
        return config

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @cached_property
    def lake(self) -> "Lake":
        from etalage.lake.delta import Lake

        return Lake(self.folder / "tables")

    @cached_property
    def bundles(self) -> "Bundles":
        from etalage.bundle.pointer import Bundles

        return Bundles(self.folder / "bundles")

    def exports(self, model: str = MODEL) -> Path:
        return self.folder / "exports" / model

    def ingest(self, source: str | Path, table: "TableName", **options: Any) -> "Ingested":
        """Files → checked rows; columns are mapped by [ingest.<table>] of shop.toml.

        options: those of lake.ingest.ingest. Raises DataError and its kind.
        """
        from etalage.lake.ingest import ingest

        mapping: MappingConfig = getattr(self.config.ingest, table)
        with self.bar(f"ingest {Path(source).name}", None) as meter:
            return ingest(self.lake, source, table, mapping, progress=meter, **options)

    def photos(self, payload: "Payload", encoder: "PhotoEncoder") -> "PhotoSet":
        """Every photo of the catalogue, decoded as the model wants it."""
        from etalage.features.photo_set import photo_set

        with self.bar("decode photos", payload.photos.num_rows) as meter:
            return photo_set(payload.items, payload.photos, encoder, self.config.split, meter)

    def _payload(self) -> "Payload":
        from etalage.bundle.contents import gather

        with self.bar("read the tables", None):
            return gather(self.lake)

    def _require_writable(self) -> None:
        """Raises DataError before any work, where nothing could be kept of it."""
        with self._disk():
            self.runs.mkdir(parents=True, exist_ok=True)
            (self.runs / ".writable").touch()
            (self.runs / ".writable").unlink()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """A full or read-only disk is said so, instead of shown as a traceback."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.folder
            raise DataError(
                f"{where}: {error.strerror or error}; what was finished before is safe: make room or allow "
                "writing, then run it again"
            ) from error

    def train(
        self, model: str = MODEL, settings: Mapping[str, str] | None = None, fresh: bool = False
    ) -> "tuple[Trained[Any], Path]":
        """Train on the tables as they are now, track it, export it; → the model and its export."""
        from etalage.features.photo import PhotoEncoder
        from etalage.models import recipe as recipes
        from etalage.training.run import resolve, run

        recipe = recipes.find(model)
        config = resolve(recipe, self.config.models.get(model, {}), dict(settings or {}))
        self._require_writable()
        payload = self._payload()
        photos = self.photos(payload, PhotoEncoder(config.size, config.channels))
        with self._disk(), self.bar(f"train {model}", None) as meter:
            done = 0

            def tell(step: int, total: int, line: str) -> None:
                nonlocal done
                meter.say(f"train {model}: {line}", total)
                meter(step - done)
                done = step

            return run(
                recipe,
                config,
                photos,
                payload.versions,
                runs=self.runs,
                exports=self.exports(model),
                fresh=fresh,
                progress=tell,
            )

    def evaluate(self, model: str = MODEL) -> "Evaluation":
        """Measure the newest export beside raw pixels and an untrained network.

        Writes reports/<export>.html, and the verdict beside the export, where `publish` finds it.
        """
        from etalage.bundle.exports import newest_export, read_facts
        from etalage.bundle.runtime import PhotoEmbedder
        from etalage.evaluation.photos import evaluate, untrained
        from etalage.models import recipe as recipes
        from etalage.training import tracking

        exported = newest_export(self.exports(model))
        self._require_writable()
        embedder = PhotoEmbedder.open(exported, threads=os.cpu_count() or 1)
        payload = self._payload()
        photos = self.photos(payload, embedder.encoder)
        count = len(photos.item_ids)
        with self.bar(f"embed with {exported.name}", count) as meter:
            ours = embedder.embed_pixels(photos.pixels_NHWC, meter)
        facts = read_facts(exported)
        recipe = recipes.find(model)
        with self.bar("embed with an untrained network", count) as meter:
            floor = untrained(recipe, recipe.config(**facts["config"]), photos, meter)
        with self._disk(), self.bar("measure, draw the report", None):
            done = evaluate(
                photos,
                {model: ours, "untrained network": floor},
                config=self.config.evaluate,
                export=exported,
                model_hash=embedder.model_hash,
                versions=payload.versions,
                reports=self.folder / "reports",
            )
        if run := facts.get("mlflow_run"):
            tracking.add(
                self.runs, run, metrics=done.figures(model), files=dict.fromkeys(done.files, "evaluation")
            )
        return done

    def publish(self, model: str = MODEL, force: bool = False) -> "Manifest":
        """Embed the whole catalogue with the newest export, index it, check it, make it current.

        Raises PublishError and its kinds; the bundle that was current then still is.
        """
        from etalage.bundle.contents import embed
        from etalage.bundle.exports import newest_export, read_verdict
        from etalage.bundle.publish import publish
        from etalage.bundle.refusals import Draft
        from etalage.bundle.runtime import PhotoEmbedder

        exported = newest_export(self.exports(model))
        # The whole of it is one publisher's turn: a second one is refused before any work.
        with self.bundles.publishing():
            payload = self._payload()
            with self.bar("embed the catalogue", payload.photos.num_rows) as meter:
                embedder = PhotoEmbedder.open(exported, threads=os.cpu_count() or 1)
                done = embed(payload, embedder, progress=meter)
            for sha256, reason in done.refused.items():
                log.warning("photo %s is left out: %s", sha256[:12], reason)
            draft = Draft(
                done.payload.items,
                done.payload.photos,
                done.embeddings,
                exported,
                payload.versions,
                read_verdict(exported),
            )
            with self.bar("index, measure recall, write the bundle", None) as meter:
                return publish(
                    self.bundles,
                    draft,
                    config=self.config.publish,
                    index_config=self.config.index,
                    force=force,
                    progress=meter,
                )

    def sync(self, force: bool = False) -> "Synced":
        """Publish what changed in the tables since the current bundle; embeds only unknown photos."""
        from etalage.bundle.sync import sync

        with self.bar("sync: embed new and changed photos", None) as meter:
            return sync(
                self.lake,
                self.bundles,
                config=self.config.publish,
                index_config=self.config.index,
                force=force,
                progress=meter,
            )

    def rollback(self, bundle: str | None = None) -> "Manifest":
        """Make `bundle` current, by default the one that the current one replaced. Raises BundleError."""
        return self.bundles.switch(bundle or self.bundles.before(self.bundles.current_id()))

    def recommender(self) -> "Recommender":
        """The current bundle, opened."""
        from etalage.recommend import Recommender

        return Recommender.open(self.bundles.path(self.bundles.current_id()))

    def register(self, name: str) -> str:
        """Log the current bundle to the shop's MLflow as a model, register it; → its URI."""
        from etalage.serve.pyfunc import log_bundle
        from etalage.training.tracking import store

        self._require_writable()
        with self._disk(), self.bar("register in MLflow", None):
            folder = self.bundles.path(self.bundles.current_id())
            return log_bundle(folder, store(self.runs), "bundles", name)

    def serve(self, host: str | None = None, port: int | None = None, key_file: Path | None = None) -> None:
        """Serve the current bundle over HTTP until SIGTERM; the key is ETALAGE_KEY or in `key_file`.

        Raises ServeError: a public address without a key, a port in use.
        """
        local.settle(threads=1)  # before numpy comes along
        from etalage.serve.run import read_key, run

        given = {"host": host, "port": port}
        config = self.config.serve.model_copy(update={k: v for k, v in given.items() if v is not None})
        key = read_key(key_file) if key_file is not None else os.environ.get("ETALAGE_KEY")
        run(self.bundles.folder, config, key)
