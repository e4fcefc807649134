"""What the steps of a shop work with: its folder, settings, tables, exports, bundles, progress and engine."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from etalage.config import EvaluateConfig, ShopConfig, StorageConfig, memory_size, read_config
from etalage.engine.contract import Engine
from etalage.engine.local import LocalEngine
from etalage.engine.threads import configure_threads
from etalage.engine.worth import MEASURED_BLOCKS, BlockLoop
from etalage.errors import BundleError, ConfigError, DataError, ObjectStoreError, installing
from etalage.models.own import Models
from etalage.nearest import nearest
from etalage.shop.known_names import require_known_names
from etalage.shop.progress import Bar, usual_bar

if TYPE_CHECKING:
    from etalage.bundle.pointer import Bundles
    from etalage.features.array_blocks import ArrayLoop
    from etalage.features.photo_blocks import PhotoLoop
    from etalage.lake.delta import Lake
    from etalage.lake.many_files import FileLoop
    from etalage.lake.places import Place
    from etalage.recommend import Recommender

Loop = TypeVar("Loop", bound=BlockLoop)
LOOKED_AT = 200
"""Entries of a folder that are looked at for shops."""


def is_shop(folder: Path) -> bool:
    """A folder is a shop by its `shop.toml`, or by a Delta table in its `tables/`."""
    return (folder / "shop.toml").is_file() or any(folder.glob("tables/*/_delta_log"))


def of_shop(folder: Path) -> str:
    """What a command that is told to be typed next needs behind it: nothing in the current folder."""
    return "" if folder == Path() else f" --shop {shlex.quote(str(folder))}"


def require_shop(folder: Path) -> None:
    """Raises ConfigError: `folder` is no shop; names those that lie near, and how one is made."""
    if is_shop(folder):
        return
    what = "it holds neither shop.toml nor tables" if folder.is_dir() else "no such folder"
    typed = shlex.quote(str(folder))
    raise ConfigError(f"{folder}: is no shop: {what}; {_meant(folder)}`etalage new {typed}` makes one")


def _meant(folder: Path) -> str:
    """The shop that was meant, where one can be told: one above, within, or beside with a name like this."""
    whole = folder.absolute()
    for above in whole.parents[:2]:
        if is_shop(above) and folder.is_dir():
            return f"the shop is `--shop {shlex.quote(str(above))}`; "
    within = _shops_in(folder)
    if within:
        names = " or ".join(f"`--shop {shlex.quote(str(one))}`" for one in within[:3])
        return f"did you mean {names}? "
    beside = {one.name: one for one in _shops_in(folder.parent)}
    near = nearest(folder.name, beside)
    return f"did you mean `--shop {shlex.quote(str(beside[near]))}`? " if near is not None else ""


def _shops_in(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())[:LOOKED_AT]
        return [entry for entry in entries if entry.is_dir() and is_shop(entry)]
    except OSError:
        return []


class Workspace:
    """The shop in `folder`; nothing is written until a step needs it. Steps take it, and know no other step's
    shop. bar: how progress is shown; None: where somebody looks (progress.usual_bar).

    Raises ConfigError: no such folder, or one that is no shop.
    """

    tracked: ClassVar[bool] = True
    """Whether trainings are kept in MLflow; not where a shop lives for a moment (frame_model.py)."""

    def __init__(self, folder: str | Path, bar: Bar | None = None) -> None:
        configure_threads()
        self.folder = Path(folder)
        require_shop(self.folder)
        self.bar = usual_bar() if bar is None else bar
        self.kept_recommender: Recommender | None = None
        """The bundle that was asked last, opened (asking.py)."""

    @cached_property
    def config(self) -> ShopConfig:
        """Raises ConfigError for a bad shop.toml: what cannot be read, and names that mean nothing."""
        file = self.folder / "shop.toml"
        config = self._with_places(read_config(file), str(file))
        require_known_names(config, str(file), self.models, lambda: self._published(config))
        return config

    def _with_places(self, config: ShopConfig, file: str) -> ShopConfig:
        """A file of Milvus Lite that [index.milvus] names is one of the shop's folder. Raises ConfigError."""
        if config.index.kind != "milvus":
            return config
        from etalage.index import milvus_settings

        uri = milvus_settings(config.index, file).uri
        if "://" in uri:
            return config
        placed = {**config.index.milvus, "uri": str((self.folder / uri).resolve())}
        index = config.index.model_copy(update={"milvus": placed})
        return config.model_copy(update={"index": index})

    def _published(self, config: ShopConfig) -> list[str]:
        """The models of the current bundle, as far as one can be read."""
        bundles = self._bundles_at(config.storage)
        try:
            manifest = bundles.manifest(bundles.current_id())
        except (BundleError, ObjectStoreError):
            return []
        return [*(one.name for one in manifest.models), *(one.name for one in manifest.refused)]

    @cached_property
    def models(self) -> Models:
        """The models that can be named here: Etalage's, and those of the shop's own folder."""
        return Models(self.folder)

    @cached_property
    def evaluating(self) -> EvaluateConfig:
        """[evaluate], with the slice that each model is there for where it names no other."""
        given = self.config.evaluate
        made_for = {name: one.slice for name, one in self.models.listed().items() if one.slice != "all"}
        return given.model_copy(update={"slices": {**made_for, **given.slices}})

    @cached_property
    def engine(self) -> Engine:
        """Where loops over shards and workers of a training run; only this picks one.

        Raises ConfigError: [engine] cannot be had here.
        """
        chosen = self.config.engine
        memory = None if chosen.memory is None else memory_size(chosen.memory)
        if chosen.kind == "local":
            return LocalEngine(chosen.workers, memory)
        try:
            from etalage.engine.spark import SparkEngine
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("pyspark", "py4j"):
                raise
            raise ConfigError(
                f"[engine] kind = 'spark': pyspark is missing; {installing('spark')}"
            ) from error
        return SparkEngine(chosen.master, chosen.workers, memory, chosen.settings)

    @property
    def photo_loop(self) -> "PhotoLoop":
        """Where loops over photos run: here, or on workers of the engine where that pays."""
        from etalage.features.photo_blocks import PhotoLoop

        return self._block_loop(PhotoLoop, ".photos")

    @property
    def file_loop(self) -> "FileLoop":
        """Where several files are read that are ingested: here, or on workers of the engine where that
        pays."""
        from etalage.lake.many_files import FileLoop

        return FileLoop(self.engine, self.runs / ".ingest", self.config.engine.saving)

    @property
    def array_loop(self) -> "ArrayLoop":
        """Where loops over blocks of arrays run: here, or on workers of the engine where that pays."""
        from etalage.features.array_blocks import ArrayLoop

        return self._block_loop(ArrayLoop, ".blocks")

    def _block_loop(self, kind: "type[Loop]", folder: str) -> "Loop":
        saving = self.config.engine.saving
        measured = MEASURED_BLOCKS if saving else 0
        return kind(self.engine, self.runs / folder, worth=saving, measured=measured)

    @property
    def runs(self) -> Path:
        """What trainings left: MLflow's store, checkpoints, logs."""
        return self.folder / "runs"

    @cached_property
    def lake(self) -> "Lake":
        """The shop's tables."""
        from etalage.lake.delta import Lake

        storage = self.config.storage
        if storage.tables is None:
            return Lake(self.folder / "tables")
        return Lake(place_of(storage, storage.tables))

    @cached_property
    def bundles(self) -> "Bundles":
        """The shop's bundles, and which one is current."""
        return self._bundles_at(self.config.storage)

    def _bundles_at(self, storage: StorageConfig) -> "Bundles":
        if storage.bundles is None:
            from etalage.bundle.pointer import Bundles

            return Bundles(self.folder / "bundles")
        from etalage.bundle.stored import StoredBundles

        place = place_of(storage, storage.bundles)
        return StoredBundles(place.store(), self.folder / "cache" / "bundles")

    def exports(self, model: str) -> Path:
        """The folder of the exports of `model`."""
        return self.folder / "exports" / model

    def require_writable(self) -> None:
        """Raises DataError before any work, where nothing could be kept of it."""
        with self.disk():
            self.runs.mkdir(parents=True, exist_ok=True)
            (self.runs / ".writable").touch()
            (self.runs / ".writable").unlink()

    @contextmanager
    def disk(self) -> Iterator[None]:
        """A full or read-only disk is said so, instead of shown as a traceback."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.folder
            raise DataError(
                f"{where}: {error.strerror or error}; what was finished before is safe: make room or allow "
                "writing, then run it again"
            ) from error


def place_of(storage: StorageConfig, uri: str) -> "Place":
    from etalage.lake.places import Place

    return Place(uri, storage.endpoint, storage.region)
