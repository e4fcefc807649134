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
from typing import TYPE_CHECKING, Any

from etalage.config import MappingConfig, as_values, validated
from etalage.engine.threads import configure_threads
from etalage.errors import ConfigError
from etalage.models import MODEL
from etalage.shop.progress import Bar, silent
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.api import NearUser
    from etalage.bundle.manifest import Manifest
    from etalage.bundle.sync import Synced
    from etalage.evaluation.comparison import ModelComparison
    from etalage.evaluation.evaluation import Evaluation
    from etalage.lake.ingest import Ingested, TableName
    from etalage.lake.photos.fetch import Fetched
    from etalage.lake.photos.probe import Probe
    from etalage.lake.removal import Removed
    from etalage.models.recipe import Recipe, Trained
    from etalage.online import LiveStore
    from etalage.recommend import Recommender
    from etalage.runtime.classifier import Classified
    from etalage.shop.behaviour_steps import KindFacts
    from etalage.shop.best_steps import BestItems
    from etalage.shop.classify_steps import ClassifiedShop
    from etalage.shop.grid_steps import Compared
    from etalage.shop.held_steps import Collected
    from etalage.shop.live_steps import Erased
    from etalage.shop.status_steps import ShopStatus
    from etalage.shop.trust_steps import OrphanExport, OwnFile
    from etalage.shop.tuning_steps import Tuned
    from etalage.shop.vector_steps import Handed


class Shop(Workspace):
    """All steps of one shop. The methods only wire; each step is in a file of its own.

    Raises ConfigError: the folder does not exist, or is not a shop (`Shop.create` makes one).
    """

    @classmethod
    def create(cls, folder: str | Path, name: str, bar: Bar = silent) -> "Shop":
        """Make a shop with a shop.toml to edit, and open it; an existing shop.toml stays as it is."""
        file = Path(folder) / "shop.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            from etalage.shop.draft_steps import starting_toml

            file.write_text(starting_toml(name), encoding="utf-8")
        return cls(folder, bar)

    def ingest(
        self,
        source: str | Path | Sequence[str | Path],
        table: "TableName",
        whole: bool = False,
        force: bool = False,
        part: str | None = None,
        **options: Any,
    ) -> "Ingested":
        """Load files into a table as checked rows; [ingest.<table>] of shop.toml maps the columns. Several
        large files are read by the engine's workers.

        source: a file, a folder, a pattern such as `days/*.csv`, or several; of several, those that cannot be
        read are named in the result, and the others are loaded. whole: the source is complete, so items that
        it does not have leave the catalogue; force: however many they are. part: the part of a published
        split that all these interactions belong to. options: those of lake.ingest.ingest. Raises DataError
        and its subclasses, CatalogueShrank.
        """
        from etalage.lake.ingest import Whole, ingest

        mapping: MappingConfig = getattr(self.config.ingest, table)
        if part is not None:
            if table != "interactions":
                raise ConfigError(
                    f"--part {part}: only interactions have parts, {table} have none; leave --part out"
                )
            columns = {name: source for name, source in mapping.columns.items() if name != "part"}
            constants = {**mapping.constants, "part": part}
            mapping = mapping.model_copy(update={"columns": columns, "constants": constants})
        every = Whole(self.config.publish.max_shrink, force) if whole else None
        named = Path(source).name if isinstance(source, str | Path) else f"{len(source)} files"
        with self.bar(f"ingest {named}", None) as meter:
            return ingest(
                self.lake, source, table, mapping, whole=every, progress=meter, loop=self.file_loop, **options
            )

    def delete_items(self, ids: Sequence[str], force: bool = False) -> "Removed":
        """Delete items from the catalogue, by ids or files of ids. The next sync removes them from the
        bundle.

        Raises CatalogueShrank (too many, without `force`), TableMissing, InputUnreadable.
        """
        from etalage.lake.removal import ids_of, item_ids, remove_items

        self.require_writable()
        wanted = ids_of(ids, self.config.ingest.items, set(item_ids(self.lake)))
        return remove_items(self.lake, wanted, self.config.publish.max_shrink, force)

    def status(self) -> "ShopStatus":
        """Where the shop stands: tables, trained models and their verdicts, the bundle, the next command."""
        from etalage.shop import status_steps

        return status_steps.status(self)

    def kinds(self) -> "list[KindFacts]":
        """What each kind of interaction in the tables counts as."""
        from etalage.shop import behaviour_steps

        return behaviour_steps.kinds(self)

    def probe_photos(self, links: int = 1000, seed: int = 0) -> "Probe":
        """Try a seeded sample of the links; store nothing. Raises ConfigError, DataError."""
        from etalage.shop import fetch_steps

        return fetch_steps.probe(self, links, seed)

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

    def train(
        self,
        model: str = MODEL,
        settings: Mapping[str, str] | None = None,
        fresh: bool = False,
        start: str | Path | None = None,
    ) -> "tuple[Trained[Any], Path]":
        """Train a model on the present tables, track the run, and export it. Return the model and its export.

        start: another shop, to start from the weights in its newest export of this model; or the folder of
        an export or of a checkpoint. Raises ConfigError: the weights do not fit, or the model cannot start
        from others.
        """
        from etalage.shop import transfer_steps
        from etalage.shop.missing import require_for_training

        given = dict(settings or {})
        require_for_training(self, model, given)
        from etalage.training.run import resolve

        recipe = self.models.find(model)
        if start is not None:
            given = transfer_steps.starting_from(self, recipe, start, given)
        config = resolve(recipe, self.config.models.get(model, {}), given)
        self.require_writable()
        return self._train(recipe, config, fresh)

    def _train(self, recipe: "Recipe[Any]", config: Any, fresh: bool) -> "tuple[Trained[Any], Path]":
        from etalage.shop import behaviour_steps, category_steps, photo_steps, table_steps

        if recipe.data == "photos":
            return photo_steps.train(self, recipe, config, fresh)
        if recipe.data == "categories":
            return category_steps.train(self, recipe, config, fresh)
        if table_steps.named_table(config) is not None:
            return table_steps.train(self, recipe, config, fresh)
        return behaviour_steps.train(self, recipe, config, fresh)

    def tune(
        self,
        model: str,
        trials: int = 32,
        parallel: int = 1,
        settings: Mapping[str, str] | None = None,
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

    def evaluate(self, model: str = MODEL) -> "Evaluation":
        """Compare the model's newest export with the simple models.

        Writes reports/<export>.html, and the verdict beside the export, where `publish` finds it.
        """
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

    def trained_on_behaviour(self) -> list[str]:
        """The models of behaviour that have an export."""
        from etalage.shop import comparing_steps

        return comparing_steps.trained(self)

    def unjudged(self) -> list[str]:
        """The trained models of photos and categories that have no verdict yet."""
        from etalage.shop import comparing_steps

        return comparing_steps.unjudged(self)

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

    def compare(self, model: str | None = None) -> "Compared":
        """Compare every export of the classifier `model`, or of all classifiers, on the golden set.

        Raises NothingToPublish, ConfigError.
        """
        from etalage.shop import grid_steps

        self.require_writable()
        return grid_steps.compare(self, model)

    def publish(self, force: bool = False) -> "Manifest":
        """Embed and index the whole catalogue, align the models to it, and make the new bundle current.

        Raises PublishError and its subclasses; the bundle that was current then stays current.
        """
        from etalage.shop import bundling

        return bundling.publish(self, force)

    def sync(self, force: bool = False) -> "Synced":
        """Publish a bundle with what changed in the tables since the current one; embed only photos that it
        does not have. The bundle keeps its [behaviour] and [funnel]; a warning says so if shop.toml has
        others."""
        from etalage.bundle.sync import sync
        from etalage.shop import bundling, vector_steps

        config = self.config  # refused before anything else
        bundling.tell_kept_rules(self)
        with self.bar("sync: embed new and changed photos", None) as meter:
            return sync(
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
            )

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

    def collect(self) -> "Collected":
        """Load the new events of the online store into the table `interactions`; hold back events about
        unknown items, or of unknown kinds, until they are known."""
        from etalage.shop import live_steps

        return live_steps.collect(self)

    def erase(self, user_id: str) -> "Erased":
        """Erase a shopper, and say where traces of them are left."""
        from etalage.shop import live_steps

        self.require_writable()
        return live_steps.erase(self, user_id)

    def recommender(self) -> "Recommender":
        """Open the current bundle, together with the online store, as a server does."""
        from etalage.shop import asking

        return asking.open_recommender(self)

    def vectors(self, to: str, model: str | None = None, users: bool = False) -> "Handed":
        """Write the vectors of the current bundle's items, or users, where others look them up: `table`,
        redis://…, `milvus` or a Milvus' address. What is there of older bundles is removed.

        model: None: the funnel's first embedder, else that of photos. Raises ConfigError, Unprocessable,
        StoreUnavailable, IndexUnavailable, BundleError.
        """
        from etalage.shop import vector_steps

        self.require_writable()
        return vector_steps.hand_over(self, to, model, users)

    def best_items(self, k: int = 100, model: str | None = None) -> "BestItems":
        """Write the k best items of every shopper into the table `recommendations`, by a retriever of the
        current bundle (None: its first embedder). Raises TableMissing, Unprocessable, BundleError."""
        from etalage.shop import best_steps

        self.require_writable()
        return best_steps.best_items(self, k, model)

    def users_for(self, item_id: str, k: int = 10) -> "list[NearUser]":
        """The k shoppers to tell about an item. Raises NotFound, Unprocessable, BundleError."""
        from etalage.shop import asking

        return asking.users_for(self, item_id, k)

    def users_like(self, user_id: str, k: int = 10) -> "list[NearUser]":
        """The k shoppers most similar to one. Raises NotFound, Unprocessable, BundleError."""
        from etalage.shop import asking

        return asking.users_like(self, user_id, k)

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
