"""A shop: one folder with its config, tables, runs, exports and bundles. It wires the steps.

shop = Shop("demo")
shop.ingest("feed.csv", "items")
shop.train()
shop.evaluate()
shop.publish()
shop.recommender().similar(item_id="i000042", k=5)
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.config import MappingConfig, as_values
from etalage.engine.threads import configure_threads
from etalage.errors import ConfigError
from etalage.shop import (
    asking,
    behaviour_steps,
    bundling,
    category_steps,
    classify_steps,
    comparing_steps,
    fetch_steps,
    judging_steps,
    live_steps,
    photo_steps,
    transfer_steps,
    trust_steps,
)
from etalage.shop.progress import Bar, silent
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.manifest import Manifest
    from etalage.bundle.sync import Synced
    from etalage.evaluation.behaviour_result import BehaviourEvaluation
    from etalage.evaluation.category_evaluation import CategoryEvaluation
    from etalage.evaluation.comparison import ModelComparison
    from etalage.evaluation.photos import Evaluation
    from etalage.lake.ingest import Ingested, TableName
    from etalage.lake.photos.fetch import Fetched
    from etalage.lake.photos.probe import Probe
    from etalage.lake.removal import Removed
    from etalage.models.recipe import Trained
    from etalage.online import LiveStore
    from etalage.recommend import Recommender
    from etalage.runtime.classifier import Classified
    from etalage.shop.behaviour_steps import KindFacts
    from etalage.shop.classify_steps import ClassifiedShop
    from etalage.shop.grid_steps import Compared
    from etalage.shop.held_steps import Collected
    from etalage.shop.live_steps import Erased
    from etalage.shop.trust_steps import OwnFile
    from etalage.shop.tuning_steps import Tuned


MODEL = photo_steps.MODEL
_EVALUATE: dict[str, Callable[..., Any]] = {
    "photos": photo_steps.evaluate,
    "categories": category_steps.evaluate,
}


class Shop(Workspace):
    """The steps of one shop: each is wired here, and written in a file of its own.

    Raises ConfigError: no such folder, or one that is no shop (`Shop.create` makes one).
    """

    @classmethod
    def create(cls, folder: str | Path, name: str, bar: Bar = silent) -> "Shop":
        """A new shop with a shop.toml to edit; one that is there stays as it is."""
        file = Path(folder) / "shop.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            from etalage.shop.draft_steps import starting_toml

            file.write_text(starting_toml(name), encoding="utf-8")
        return cls(folder, bar)

    def ingest(
        self,
        source: str | Path,
        table: "TableName",
        whole: bool = False,
        force: bool = False,
        part: str | None = None,
        **options: Any,
    ) -> "Ingested":
        """Files → checked rows; columns are mapped by [ingest.<table>] of shop.toml.

        whole: the source is all there is, items that it does not have leave the catalogue; force: however
        many. part: of a published split, that all of these interactions are. options: those of
        lake.ingest.ingest. Raises DataError and its kind, CatalogueShrank.
        """
        from etalage.lake.ingest import Whole, ingest

        mapping: MappingConfig = getattr(self.config.ingest, table)
        if part is not None:
            if table != "interactions":
                raise ConfigError(f"--part {part}: interactions have parts, {table} have none; leave it out")
            columns = {name: source for name, source in mapping.columns.items() if name != "part"}
            constants = {**mapping.constants, "part": part}
            mapping = mapping.model_copy(update={"columns": columns, "constants": constants})
        every = Whole(self.config.publish.max_shrink, force) if whole else None
        with self.bar(f"ingest {Path(source).name}", None) as meter:
            return ingest(self.lake, source, table, mapping, whole=every, progress=meter, **options)

    def delete_items(self, ids: Sequence[str], force: bool = False) -> "Removed":
        """Take items out of the catalogue: ids, or files with them. The next sync takes them out of the
        bundle.

        Raises CatalogueShrank: they are too many, without `force`. TableMissing, InputUnreadable.
        """
        from etalage.lake.removal import ids_of, item_ids, remove_items

        self.require_writable()
        wanted = ids_of(ids, self.config.ingest.items, set(item_ids(self.lake)))
        return remove_items(self.lake, wanted, self.config.publish.max_shrink, force)

    def kinds(self) -> "list[KindFacts]":
        """What each kind of interaction in the tables is taken for."""
        return behaviour_steps.kinds(self)

    def probe_photos(self, links: int = 1000, seed: int = 0) -> "Probe":
        """Ask for a seeded sample of the links; nothing is stored. Raises ConfigError, DataError."""
        return fetch_steps.probe(self, links, seed)

    def fetch_photos(self, refresh: float | None = None, again: bool = False) -> "Fetched":
        """Get the photo of every link that is due (docs/links.md); run again, it goes on where it was.

        refresh: also those that are so many days old, if they have changed. again: also links that failed,
        before their time. Raises ConfigError, DataError.
        """
        self.require_writable()
        return fetch_steps.fetch(self, refresh, again)

    def own_files(self) -> "list[OwnFile]":
        """The files of the shop's own models, in its folder `models/`, and which are trusted; none is run."""
        return trust_steps.own_files(self)

    def trust(self, files: "list[OwnFile]") -> Path:
        """From now on just these files of `own_files` may be run on this machine; → where that is noted."""
        return trust_steps.trust_files(self, files)

    def train(
        self,
        model: str = MODEL,
        settings: Mapping[str, str] | None = None,
        fresh: bool = False,
        start: str | Path | None = None,
    ) -> "tuple[Trained[Any], Path]":
        """Train on the tables as they are now, track it, export it; → the model and its export.

        start: another shop, whose newest export of this model has the weights to start from; or the folder of
        an export or of a checkpoint. Raises ConfigError: they do not fit, or the model transfers none.
        """
        from etalage.training.run import resolve

        recipe = self.models.find(model)
        given = dict(settings or {})
        if start is not None:
            given = transfer_steps.starting_from(self, recipe, start, given)
        config = resolve(recipe, self.config.models.get(model, {}), given)
        self.require_writable()
        if recipe.data == "photos":
            return photo_steps.train(self, recipe, config, fresh)
        if recipe.data == "categories":
            return category_steps.train(self, recipe, config, fresh)
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
        from etalage.shop import tuning_steps

        recipe = self.models.find(model)
        self.require_writable()
        return tuning_steps.tune(
            self, recipe, trials=trials, parallel=parallel, fixed=as_values(settings or {}), **options
        )

    def evaluate(self, model: str = MODEL) -> "Evaluation | BehaviourEvaluation | CategoryEvaluation":
        """Measure the newest export beside the simple ones.

        Writes reports/<export>.html, and the verdict beside the export, where `publish` finds it.
        """
        from etalage.runtime.export_files import newest_export, read_facts
        from etalage.training import tracking

        recipe = self.models.find(model)
        if recipe.data == "photos":
            photo_steps.require_photos(self)
        exported = newest_export(self.exports(model))
        self.require_writable()
        done: Any = (_EVALUATE.get(recipe.data) or judging_steps.evaluate)(self, recipe, exported)
        if run := read_facts(exported).get("mlflow_run"):
            tracking.add(
                self.runs, run, metrics=done.figures(model), files=dict.fromkeys(done.files, "evaluation")
            )
        return done

    def evaluate_all(self) -> "ModelComparison":
        """Judge every trained model of behaviour on the same questions, each against the others, the funnel
        as a whole among them. Nothing is trained; writes reports/behaviour.html, and the verdicts.

        Raises NothingToPublish: no model of behaviour was trained on what the tables hold now.
        """
        from etalage.runtime.export_files import newest_export, read_facts
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
        return comparing_steps.trained(self)

    def unjudged(self) -> list[str]:
        """The models of photos and of categories that were trained and have no verdict yet."""
        return comparing_steps.unjudged(self)

    def classify(self, threshold: float | None = None, every: bool = False) -> "ClassifiedShop":
        """Bring the table `classifications` up to date by the newest classifier; items stay as they are.

        Asks about new and changed items (`every`: about all) and keeps what each item carried itself beside
        the answer. threshold: below it an item stays unclassified; None: [classify] threshold.
        """
        self.require_writable()
        return classify_steps.classify(self, threshold, every)

    def classify_one(
        self, photos: "Sequence[bytes]", title: str | None = None, threshold: float | None = None
    ) -> "Classified":
        """What the newest classifier takes one thing for, by its photos and title; nothing is written.

        Raises PhotoRefused, NothingToPublish: no classifier was trained.
        """
        return classify_steps.classify_one(self, photos, title, threshold)

    def compare(self, model: str = "item_category") -> "Compared":
        """Every export of the classifier on the golden set. Raises NothingToPublish, ConfigError."""
        from etalage.shop import grid_steps

        self.require_writable()
        return grid_steps.compare(self, model)

    def publish(self, force: bool = False) -> "Manifest":
        """Embed and index the whole catalogue, lay the models of behaviour onto it, make the bundle current.

        Raises PublishError and its kinds; the bundle that was current then still is.
        """
        return bundling.publish(self, force)

    def sync(self, force: bool = False) -> "Synced":
        """Publish what changed in the tables since the current bundle; embeds only unknown photos. The
        bundle's [behaviour] and [funnel] stay: a warning says so, where those of shop.toml are other ones."""
        from etalage.bundle.sync import sync

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
            )

    def rollback(self, bundle: str | None = None) -> "Manifest":
        """Make `bundle` current, by default the one that the current one replaced. Raises BundleError."""
        manifest = self.bundles.switch(bundle or self.bundles.before(self.bundles.current_id()))
        live_steps.warn_of_erased(self, manifest.id)
        return manifest

    @contextmanager
    def live_store(self) -> Iterator["LiveStore"]:
        """The online store: recent acts, stock and prices. Raises ConfigError, DataError."""
        store = live_steps.opened(self)
        try:
            yield store
        finally:
            store.close()

    def collect(self) -> "Collected":
        """What shoppers did since the last time, out of the online store into the table interactions; what is
        on items or of kinds that nobody knows is held back until it is known."""
        return live_steps.collect(self)

    def erase(self, user_id: str) -> "Erased":
        """Forget a shopper, and say where traces of them still are."""
        self.require_writable()
        return live_steps.erase(self, user_id)

    def recommender(self) -> "Recommender":
        """The current bundle, opened; as a server does, it knows what the online store holds."""
        return asking.open_recommender(self)

    def register(self, name: str, task: str | None = None) -> str:
        """Log the current bundle to the shop's MLflow as a model, register it; → its URI.

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
        """Serve the current bundle over HTTP until SIGTERM; the key is ETALAGE_KEY or in `key_file`.

        Raises ServeError: a public address without a key, a port in use.
        """
        configure_threads(1)  # before numpy comes along
        from etalage.serve.run import read_key, run

        given = {"host": host, "port": port}
        config = self.config.serve.model_copy(update={k: v for k, v in given.items() if v is not None})
        key = read_key(key_file) if key_file is not None else os.environ.get("ETALAGE_KEY")
        run(self.bundles.folder, config, key)
