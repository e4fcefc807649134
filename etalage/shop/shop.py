"""A shop: one folder with its settings, tables, runs, exports and bundles. `Shop` has one method per step.

shop = Shop("demo")
shop.ingest("feed.csv", "items")
shop.train()
shop.evaluate()
shop.publish()
shop.recommender().similar(item_id="i000042", k=5)
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from etalage.config import IngestConfig, MappingConfig, as_values, suggestion, validated
from etalage.engine.threads import configure_threads
from etalage.errors import ConfigError
from etalage.models import MODEL
from etalage.shop.at_work import at_work
from etalage.shop.progress import Bar, silent
from etalage.shop.upkeep_files import DAYS, EXPORTS
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.api import NearUser
    from etalage.bundle.manifest import Manifest
    from etalage.bundle.sync import Synced
    from etalage.evaluation.comparison import ModelComparison
    from etalage.evaluation.evaluation import Evaluation
    from etalage.evaluation.shop_evaluation import ShopEvaluation
    from etalage.lake.delta import PastVersion
    from etalage.lake.frames import DataFrame, Frame
    from etalage.lake.ingest import Ingested, TableName
    from etalage.lake.notes import Note
    from etalage.lake.photos.fetch import Fetched
    from etalage.lake.photos.probe import Probe
    from etalage.models.recipe import Recipe, Trained
    from etalage.online import LiveStore
    from etalage.recommend import Recommender
    from etalage.runtime.classifier import Classified
    from etalage.shop.answers import Alike, TableFrame, Wanted
    from etalage.shop.behaviour_steps import KindFacts
    from etalage.shop.best_steps import BestItems
    from etalage.shop.classify_steps import ClassifiedShop
    from etalage.shop.grid_steps import Compared
    from etalage.shop.held_steps import Collected
    from etalage.shop.live_steps import Erased
    from etalage.shop.status_steps import ShopStatus, TableStatus
    from etalage.shop.trust_steps import OrphanExport, OwnFile
    from etalage.shop.tuning_steps import Tuned
    from etalage.shop.upkeep_backup import BackedUp
    from etalage.shop.upkeep_delete import Deletion, Undone
    from etalage.shop.upkeep_restore import Restored
    from etalage.shop.upkeep_vacuum import Vacuumed
    from etalage.shop.vector_steps import Handed
    from etalage.tabular import Rows


def _mapping_of(config: IngestConfig, table: str) -> MappingConfig:
    """[ingest.<table>]. Raises ConfigError: nothing is loaded into a table of this name."""
    if table not in IngestConfig.model_fields:
        meant = suggestion(table, IngestConfig.model_fields, "rows are loaded into")
        raise ConfigError(f"table {str(table)!r}: nothing is loaded into it; {meant}")
    found: MappingConfig = getattr(config, table)
    return found


def _named(source: object, frame: str) -> str:
    """What the progress bar calls a source."""
    if isinstance(source, str | Path):
        return Path(source).name
    return f"{len(source)} files" if isinstance(source, list | tuple) else f"the frame {frame}"


class Shop(Workspace):
    """All steps of one shop. The methods only wire; each step is in a file of its own.

    Raises ConfigError: the folder does not exist, or is not a shop (`Shop.create` makes one).
    """

    @classmethod
    def create(cls, folder: str | Path, name: str, bar: Bar | None = None) -> "Shop":
        """Make a shop with a shop.toml to edit, and open it; an existing shop.toml stays as it is."""
        file = Path(folder) / "shop.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            from etalage.shop.draft_steps import starting_toml

            file.write_text(starting_toml(name), encoding="utf-8")
        return cls(folder, bar)

    @at_work
    def ingest(
        self,
        source: "str | Path | Sequence[str | Path] | DataFrame",
        table: "TableName",
        whole: bool = False,
        force: bool = False,
        part: str | None = None,
        columns: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "Ingested":
        """Load files or a data frame into a table as checked rows; [ingest.<table>] of shop.toml maps the
        columns. Several large files are read by the engine's workers.

        source: a file, a folder, a pattern such as `days/*.csv`, or several; of several, those that cannot be
        read are named in the result, and the others are loaded. Or a frame of pandas, polars or Arrow, whose
        refused rows are kept with its `name` (by default the table's) and their positions; columns that
        nothing names are guessed, as by `etalage new --from`, and said in the result's notes. columns:
        Etalage's column → the source's, before those of shop.toml. whole: the source is complete, so items
        that it does not have leave the catalogue; force: however many they are. part: the part of a published
        split that all these interactions belong to. options: those of lake.ingest.ingest. Raises DataError
        and its subclasses, CatalogueShrank.
        """
        from etalage.lake.drafting.of_frames import guessed
        from etalage.lake.frames import frame_of, is_frame
        from etalage.lake.ingest import Whole, ingest

        mapping = _mapping_of(self.config.ingest, table)
        if columns:
            said = {**mapping.model_dump(), "columns": {**mapping.columns, **columns}}
            mapping = validated(MappingConfig, said, where="columns")
        if part is not None:
            if table != "interactions":
                raise ConfigError(
                    f"--part {part}: only interactions have parts, {table} have none; leave --part out"
                )
            others = {name: source for name, source in mapping.columns.items() if name != "part"}
            constants = {**mapping.constants, "part": part}
            mapping = mapping.model_copy(update={"columns": others, "constants": constants})
        every = Whole(self.config.publish.max_shrink, force) if whole else None
        named = _named(source, options.get("name") or table)
        guesses: list[Note] = []
        rows: str | Path | Sequence[str | Path] | DataFrame | Frame = source
        if is_frame(source):
            rows = frame = frame_of(source, options.get("name") or table)
            mapping, guesses = guessed(frame, table, mapping)
        with self.bar(f"ingest {named}", None) as meter:
            done = ingest(
                self.lake, rows, table, mapping, whole=every, progress=meter, loop=self.file_loop, **options
            )
        done.notes[:0] = guesses
        return done

    @at_work
    def delete_items(
        self, ids: Sequence[str] = (), force: bool = False, where: Sequence[str] = (), dry: bool = False
    ) -> "Deletion":
        """Delete items from the catalogue, by ids, files of ids, or conditions such as `category=Shoes`; if
        `dry`, only say what would go. The next sync removes them from the bundle.

        Raises CatalogueShrank (too many, without `force`), TableMissing, InputUnreadable, ConfigError.
        """
        from etalage.shop import upkeep_delete

        self.require_writable()
        return upkeep_delete.delete_items(self, ids, where, force, dry)

    @at_work
    def delete_photos(
        self, photos: Sequence[str] = (), of: Sequence[str] = (), every: bool = False, dry: bool = False
    ) -> "Deletion":
        """Delete photos by path, link or SHA-256, those of items, or `every` one; if `dry`, only say what
        would go. Raises TableMissing, ConfigError."""
        from etalage.shop import upkeep_delete

        self.require_writable()
        return upkeep_delete.delete_photos(self, photos, of, every, dry)

    @at_work
    def reset(self, table: str, dry: bool = False) -> "Deletion":
        """Delete all rows of a table; if `dry`, only say what would go. Raises TableMissing."""
        from etalage.shop import upkeep_delete

        self.require_writable()
        return upkeep_delete.reset(self, table, dry)

    def history(self, table: str, last: int = 20) -> "list[PastVersion]":
        """The newest versions of a table, newest first. Raises TableMissing."""
        from etalage.shop import upkeep_delete

        return upkeep_delete.history(self, table, last)

    @at_work
    def undo(self, table: str, to: int, dry: bool = False) -> "Undone":
        """Make the rows of a table those of an older version again; if `dry`, only say what would change.
        Raises TableMissing, DataError, ConfigError."""
        from etalage.shop import upkeep_delete

        self.require_writable()
        return upkeep_delete.undo(self, table, to, dry)

    def table(self, name: str, version: int | None = None) -> "TableFrame":
        """A table as a frame: `shop.table("items").to_pandas()`. version: None: the newest.

        Raises TableMissing: nothing was loaded into it yet; NotFound: there is no such table.
        """
        from etalage.shop import status_steps
        from etalage.shop.answers import TableFrame

        return TableFrame(status_steps.known_table(self, name), version)

    def tables(self) -> "Rows[TableStatus]":
        """Every table that has rows: its name, how many rows, its version."""
        from etalage.shop import status_steps

        return status_steps.tables(self)

    def status(self) -> "ShopStatus":
        """Where the shop stands: tables, trained models and their verdicts, the bundle, the next command."""
        from etalage.shop import status_steps

        return status_steps.status(self)

    def kinds(self) -> "Rows[KindFacts]":
        """What each kind of interaction in the tables counts as."""
        from etalage.shop import behaviour_steps
        from etalage.tabular import Rows

        return Rows(behaviour_steps.kinds(self), behaviour_steps.KindFacts)

    def __repr__(self) -> str:
        return f"<Shop {self.folder}>"

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    @at_work
    def probe_photos(self, links: int = 1000, seed: int = 0) -> "Probe":
        """Try a seeded sample of the links; store nothing. Raises ConfigError, DataError."""
        from etalage.shop import fetch_steps

        return fetch_steps.probe(self, links, seed)

    @at_work
    def fetch_photos(self, refresh: float | None = None, again: bool = False) -> "Fetched":
        """Download the photo of every link that is due (docs/links.md). After a kill, call it again to
        continue.

        refresh: also ask again for photos that are this many days old. again: also ask for failed links that
        are not due yet. Raises ConfigError, DataError.
        """
        from etalage.shop import fetch_steps

        self.require_writable()
        return fetch_steps.fetch(self, refresh, again)

    def own_files(self) -> "list[OwnFile]":
        """The files in the shop's folder `models/`, and which of them are trusted; runs none of them."""
        from etalage.shop import trust_steps

        return trust_steps.own_files(self)

    def orphan_exports(self) -> "list[OrphanExport]":
        """Trained models whose file is gone: nothing takes them for models any more."""
        from etalage.shop import trust_steps

        return trust_steps.orphan_exports(self)

    def trust(self, files: "list[OwnFile]") -> Path:
        """Trust exactly these files of `own_files` on this machine. Return the file that records it."""
        from etalage.shop import trust_steps

        return trust_steps.trust_files(self, files)

    @at_work
    def train(
        self,
        model: str = MODEL,
        settings: Mapping[str, Any] | None = None,
        fresh: bool = False,
        start: str | Path | None = None,
    ) -> "tuple[Trained[Any], Path]":
        """Train a model on the present tables, track the run, and export it. Return the model and its export.

        settings: of the model, {"neighbours": 50}, before those of shop.toml; texts may be JSON.
        start: another shop, to start from the weights in its newest export of this model; or the folder of
        an export or of a checkpoint. Raises ConfigError: the weights do not fit, or the model cannot start
        from others.
        """
        from etalage.shop import transfer_steps
        from etalage.shop.missing import require_for_training

        self.require_writable()
        given = dict(settings or {})
        require_for_training(self, model, given, start)
        from etalage.training.run import resolve

        recipe = self.models.find(model)
        if start is not None:
            given = transfer_steps.starting_from(self, recipe, start, given)
        config = resolve(recipe, self.config.models.get(model, {}), given)
        return self._train(recipe, config, fresh)

    def _train(self, recipe: "Recipe[Any]", config: Any, fresh: bool) -> "tuple[Trained[Any], Path]":
        from etalage.shop import behaviour_steps, category_steps, photo_steps, similarity_steps, table_steps

        if recipe.name == MODEL:
            return similarity_steps.train(self, recipe, config, fresh)
        if recipe.data == "photos":
            return photo_steps.train(self, recipe, config, fresh)
        if recipe.data == "categories":
            return category_steps.train(self, recipe, config, fresh)
        if table_steps.named_table(config) is not None:
            return table_steps.train(self, recipe, config, fresh)
        return behaviour_steps.train(self, recipe, config, fresh)

    @at_work
    def tune(
        self,
        model: str,
        trials: int = 32,
        parallel: int = 1,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> "Tuned":
        """Try settings of the model on validation, `parallel` trials at a time, and train the best ones.

        Run again, the study goes on where it was. settings: what no trial changes. options: metric, seed,
        fresh, write (into shop.toml), as in tuning_steps.tune. Writes reports/<model>-tune.html.
        Raises ConfigError: the model's file names no search space; TrainingError: every trial failed.
        """
        from etalage.shop.missing import require_for_training

        require_for_training(self, model, settings or {})
        from etalage.shop import tuning_steps

        recipe = self.models.find(model)
        self.require_writable()
        done = tuning_steps.tune(
            self, recipe, trials=trials, parallel=parallel, fixed=as_values(settings or {}), **options
        )
        config = validated(recipe.config, done.settings, where=f"the best trial of {model}")
        return replace(done, trained=self._train(recipe, config, fresh=False))

    @overload
    def evaluate(self, model: None = None) -> "ShopEvaluation": ...

    @overload
    def evaluate(self, model: str) -> "Evaluation": ...

    @at_work
    def evaluate(self, model: str | None = None) -> "Evaluation | ShopEvaluation":
        """Compare the model's newest export with the simple models; without a name, `evaluate_shop`.

        Writes reports/<export>.html, and the verdict beside the export, where `publish` finds it.
        """
        if model is None:
            return self.evaluate_shop()
        from etalage.runtime.export_files import newest_export, read_facts
        from etalage.shop.missing import require_model

        if require_model(self, model).data == "photos":
            from etalage.shop.photo_steps import require_photos

            require_photos(self)
        exported = newest_export(self.exports(model))
        self.require_writable()
        from etalage.shop import judging_steps
        from etalage.training import tracking

        recipe = self.models.find(model)
        done = judging_steps.evaluate(self, recipe, exported)
        if run := read_facts(exported).get("mlflow_run"):
            tracking.add(
                self.runs, run, metrics=done.figures(model), files=dict.fromkeys(done.files, "evaluation")
            )
        return done

    @at_work
    def evaluate_all(self) -> "ModelComparison":
        """Ask every trained model of behaviour, and the whole funnel, the same questions, and compare each
        with the others. Trains nothing; writes reports/behaviour.html and the verdicts.

        Raises NothingToPublish: no model of behaviour was trained on what the tables hold now.
        """
        from etalage.runtime.export_files import newest_export, read_facts
        from etalage.shop import comparing_steps
        from etalage.training import tracking

        self.require_writable()
        done = comparing_steps.evaluate_all(self)
        for model in comparing_steps.trained(self):
            run = read_facts(newest_export(self.exports(model))).get("mlflow_run")
            if run and (figures := done.figures(model)):
                tracking.add(self.runs, run, metrics=figures, files=dict.fromkeys(done.files, "evaluation"))
        return done

    @at_work
    def evaluate_shop(self) -> "ShopEvaluation":
        """Evaluate everything that was trained, and decide what to publish for every question of the shop.

        Writes reports/shop.html, the page that decides, besides what `evaluate_all` and `evaluate` write. A
        question whose models cannot be measured says why; if nothing can be measured, its error is raised.
        """
        from etalage.shop import deciding_steps

        self.require_writable()
        if not self.trained_models():
            if self.lake.table("interactions").exists() and not self.lake.table("photos").exists():
                self.evaluate_all()  # which says what to train first
            self.evaluate(MODEL)
        return deciding_steps.evaluate_shop(self, self.evaluate_all, self.evaluate)

    def trained_models(self) -> list[str]:
        """The models that have an export."""
        from etalage.shop import photo_steps

        return list(photo_steps.newest_exports(self))

    @at_work
    def classify(self, threshold: float | None = None, every: bool = False) -> "ClassifiedShop":
        """Update the table `classifications` with the newest classifier; the table `items` stays as it is.

        Asks about new and changed items (`every`: about all), and stores each item's own category beside
        the answer. threshold: items with a lower confidence stay unclassified; None: [classify] threshold.
        """
        from etalage.shop import classify_steps

        self.require_writable()
        return classify_steps.classify(self, threshold, every)

    def classify_one(
        self, photos: "Sequence[bytes]", title: str | None = None, threshold: float | None = None
    ) -> "Classified":
        """Ask the newest classifier about one product, by its photos and title; write nothing.

        Raises PhotoRefused; NothingToPublish: no classifier was trained.
        """
        from etalage.shop import classify_steps

        return classify_steps.classify_one(self, photos, title, threshold)

    @at_work
    def compare(self, model: str | None = None) -> "Compared":
        """Compare every export of the classifier `model`, or of all classifiers, on the golden set.

        Raises NothingToPublish, ConfigError.
        """
        from etalage.shop import grid_steps

        self.require_writable()
        return grid_steps.compare(self, model)

    @at_work
    def publish(self, force: bool = False, as_judged: bool = False) -> "Manifest":
        """Embed and index the whole catalogue, align the models to it, and make the new bundle current.

        as_judged: no model learns once more from everything, whatever [publish] refit says.
        Raises PublishError and its subclasses; the bundle that was current then stays current.
        """
        from etalage.shop import bundling

        return bundling.publish(self, force, as_judged)

    @at_work
    def sync(self, force: bool = False) -> "Synced":
        """Publish a bundle with what changed in the tables since the current one; embed only photos that it
        does not have. The bundle keeps its [behaviour] and [funnel]; a warning says so if shop.toml has
        others."""
        from etalage.bundle.sync import sync
        from etalage.shop import bundling, text_steps, vector_steps

        config = self.config  # refused before anything else
        bundling.tell_kept_rules(self)
        texts = text_steps.TextReader(self)
        with self.bar("sync: embed new and changed photos", None) as meter:
            done = sync(
                self.lake,
                self.bundles,
                config=config.publish,
                index_config=config.index,
                force=force,
                progress=meter,
                exports=self.folder / "exports",
                loop=self.photo_loop,
                blocks=self.array_loop,
                spread=vector_steps.spread(self),
                texts=texts,
            )
        if done.manifest is not None:
            texts.tell_others(done.manifest)
        return done

    @at_work
    def rollback(self, bundle: str | None = None) -> "Manifest":
        """Make `bundle` current, by default the one before the current one. Raises BundleError."""
        from etalage.shop import live_steps

        manifest = self.bundles.switch(bundle or self.bundles.before(self.bundles.current_id()))
        live_steps.warn_of_erased(self, manifest.id)
        return manifest

    @contextmanager
    def live_store(self) -> Iterator["LiveStore"]:
        """Open the online store: recent interactions, stock and prices. Raises ConfigError, DataError."""
        from etalage.shop import live_steps

        store = live_steps.opened(self)
        try:
            yield store
        finally:
            store.close()

    @at_work
    def collect(self) -> "Collected":
        """Load the new events of the online store into the table `interactions`; hold back events about
        unknown items, or of unknown kinds, until they are known."""
        from etalage.shop import live_steps

        return live_steps.collect(self)

    @at_work
    def erase(self, user_id: str) -> "Erased":
        """Erase a shopper, and say where traces of them are left."""
        from etalage.shop import live_steps

        self.require_writable()
        return live_steps.erase(self, user_id)

    def recommend(
        self,
        user_id: str | None = None,
        *,
        had: Sequence[str] | None = None,
        k: int = 10,
        explain: bool = False,
    ) -> "Wanted":
        """The k items for a shopper, by what they did until now; or for one who has the items `had`.

        A shopper of whom nothing is known is answered as on the page, and the slate says so. explain: say of
        each item why it is shown. Raises NotFound: no item of `had` is in the bundle; Unprocessable,
        BundleError.
        """
        from etalage.shop import asking
        from etalage.shop.answers import wanted

        answer, stranger = asking.recommend(self, user_id, had, k, explain)
        whom = user_id if user_id is not None else f"somebody who has {', '.join(had)}" if had else "anybody"
        told = f"{whom} ({stranger})" if stranger and user_id is not None else whom
        return wanted(answer, told, asking.kept_recommender(self))

    def similar(
        self,
        item_id: str | None = None,
        *,
        photo: bytes | str | Path | None = None,
        k: int = 10,
        threshold: float | None = None,
    ) -> "Alike":
        """The k items that look most like an item, or like a photo: an image file, or its path.

        threshold: leave out items that score lower. Raises NotFound: no such item in the bundle;
        PhotoRefused, Unprocessable, BundleError.
        """
        from etalage.shop import asking
        from etalage.shop.answers import alike

        photos = None if photo is None else [photo if isinstance(photo, bytes) else Path(photo).read_bytes()]
        answer = asking.similar(self, item_id, photos, k, threshold)
        return alike(answer, item_id or "the photo", asking.kept_recommender(self))

    def vacuum(
        self,
        days: float = DAYS,
        exports: int = EXPORTS,
        bundles: int | None = None,
        unpin: bool = False,
        dry: bool = True,
    ) -> "Vacuumed":
        """What nobody needs any more, and unless `dry` it goes (docs/upkeep.md).

        days: versions of tables and caches that are younger stay. exports: so many of a model stay, judged or
        not. bundles: so many stay; None: [publish] keep. unpin: versions go too that exports and bundles were
        made of. Raises DataError: a step is at work in the shop.
        """
        from etalage.shop import upkeep_vacuum

        return upkeep_vacuum.vacuum(self, days=days, exports=exports, bundles=bundles, unpin=unpin, dry=dry)

    @at_work
    def backup(self, target: str | Path) -> "BackedUp":
        """Copy the shop as it is at this moment into a folder that holds backups, or into a file that is not
        there yet (.tar.zst, .tar.gz, .tar). Raises ConfigError, DataError (docs/upkeep.md)."""
        from etalage.shop import upkeep_backup

        return upkeep_backup.backup(self, target)

    @staticmethod
    def check_backup(source: str | Path, name: str | None = None, bar: Bar = silent) -> "Restored":
        """Compare every file of a backup with its manifest. Raises DataError: it is damaged; ConfigError."""
        from etalage.shop import upkeep_restore

        return upkeep_restore.check(source, name, bar)

    @staticmethod
    def restore(
        source: str | Path,
        folder: str | Path,
        name: str | None = None,
        erased: str | Path | None = None,
        bar: Bar = silent,
    ) -> "Restored":
        """Make a new shop in `folder` out of a backup, or nothing; `name`: which of several; `erased`: a shop
        that knows who was erased since. Raises ConfigError, DataError."""
        from etalage.shop import upkeep_restore

        return upkeep_restore.restore(source, folder, name, erased, bar)

    def recommender(self) -> "Recommender":
        """Open the current bundle, together with the online store, as a server does."""
        from etalage.shop import asking

        return asking.open_recommender(self)

    @at_work
    def vectors(self, to: str, model: str | None = None, users: bool = False) -> "Handed":
        """Write the vectors of the current bundle's items, or users, where others look them up: `table`,
        redis://…, `milvus` or a Milvus' address. What is there of older bundles is removed.

        model: None: the funnel's first embedder, else that of photos. Raises ConfigError, Unprocessable,
        StoreUnavailable, IndexUnavailable, BundleError.
        """
        from etalage.shop import vector_steps

        self.require_writable()
        return vector_steps.hand_over(self, to, model, users)

    @at_work
    def best_items(self, k: int = 100, model: str | None = None) -> "BestItems":
        """Write the k best items of every shopper into the table `recommendations`, by a retriever of the
        current bundle (None: its first embedder). Raises TableMissing, Unprocessable, BundleError."""
        from etalage.shop import best_steps

        self.require_writable()
        return best_steps.best_items(self, k, model)

    def users_for(self, item_id: str, k: int = 10) -> "Rows[NearUser]":
        """The k shoppers to tell about an item. Raises NotFound, Unprocessable, BundleError."""
        from etalage.api import NearUser
        from etalage.shop import asking
        from etalage.tabular import Rows

        return Rows(asking.users_for(self, item_id, k), NearUser)

    def users_like(self, user_id: str, k: int = 10) -> "Rows[NearUser]":
        """The k shoppers most similar to one. Raises NotFound, Unprocessable, BundleError."""
        from etalage.api import NearUser
        from etalage.shop import asking
        from etalage.tabular import Rows

        return Rows(asking.users_like(self, user_id, k), NearUser)

    @at_work
    def register(self, name: str, task: str | None = None) -> str:
        """Log the current bundle as a model to the shop's MLflow, and register it. Return its URI.

        task: `similar`, `recommend`, `rank` or `classify`; None: what the bundle is for.
        """
        from etalage.serve.pyfunc import log_bundle
        from etalage.training.tracking import require_own_experiment, store

        self.require_writable()
        require_own_experiment(self.runs, "bundles")
        with self.disk(), self.bar("register in MLflow", None):
            folder = self.bundles.path(self.bundles.current_id())
            return log_bundle(folder, store(self.runs), "bundles", name, task)

    def serve(self, host: str | None = None, port: int | None = None, key_file: Path | None = None) -> None:
        """Serve the current bundle over HTTP until SIGTERM. The key is in `key_file`, or in ETALAGE_KEY.

        Raises ServeError: a public address without a key, a port in use.
        """
        configure_threads(1)  # before numpy comes along
        from etalage.serve.app import ServedShop
        from etalage.serve.erased import FollowedErasures
        from etalage.serve.run import read_key, run

        given = {"host": host, "port": port}
        config = self.config.serve.model_copy(update={k: v for k, v in given.items() if v is not None})
        key = read_key(key_file) if key_file is not None else os.environ.get("ETALAGE_KEY")
        live, erasures = self.folder / "live", self.lake.erasures
        if self.config.storage.tables is not None:
            erasures = FollowedErasures(erasures, live)
        run(ServedShop(self.bundles, live, erasures), config, key)
