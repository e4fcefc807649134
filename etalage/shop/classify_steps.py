"""What is each item? The newest classifier asked about all that it has not seen, and what it said kept.

The table `classifications` has a row for every item: what the classifier told, and beside it what the item
carried itself. `items` is never written.

    N items
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import ConfigError, TableMissing
from etalage.lake.classifications import OUTSIDE, STATUSES, decided, hash_inputs, plan
from etalage.lake.difference import same_rows
from etalage.lake.item_photos import photos_of
from etalage.lake.schema import CATEGORY_SEPARATOR, TABLES
from etalage.shop import taxonomy_steps
from etalage.shop.photo_steps import newest_exports
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.lake.delta import Table
    from etalage.runtime.classifier import Classified, ItemClassifier
    from etalage.shop.progress import Meter

SPEC = TABLES["classifications"]
KEPT_AT_ONCE = 4096
"""Items whose answers are written together at least: what a killed run has to ask again, at most."""
COMMITS = 64
"""At most about so many commits a run: each of them looks through the whole table."""
COMMONEST = 10
BEST = ("best_id", "best_path", "confidence")


@dataclass(frozen=True)
class ClassifiedShop:
    """What a run did, and how the table stands after it."""

    model: str
    """Hash of the classifier's export."""
    threshold: float
    asked: int
    """Items that the model was asked about."""
    changed: int
    """Rows that are new or different."""
    gone: int
    """Rows of items that are no more."""
    counts: dict[str, int]
    """Status → items."""
    commonest: list[tuple[str, int]]
    """Paths with their items, most first."""
    refused: dict[str, str] = field(default_factory=dict)
    """sha256 of a photo that cannot be decoded → why."""


def opened(workspace: Workspace) -> "ItemClassifier":
    """The newest export of the classifier. Raises NothingToPublish (none was trained), ExportDamaged."""
    from etalage.bundle.draft import speaking
    from etalage.runtime.classifier import ItemClassifier
    from etalage.runtime.export_files import newest_export

    name = speaking(list(newest_exports(workspace, "categories")), workspace.config.funnel.classifier)
    exported = newest_export(workspace.exports(name or "item_category"))
    return ItemClassifier.open(exported, threads=os.cpu_count() or 1)


def classify(workspace: Workspace, threshold: float | None = None, every: bool = False) -> ClassifiedShop:
    """Bring the table `classifications` up to date; `every`: ask about all items again.

    Asks about items that are new, whose photos (or title, where it is read) changed, and about all under
    another model. Another threshold decides anew by the confidence that is kept. A run that was killed goes
    on where it stood. Raises TableMissing, TableDamaged, NothingToPublish, ExportDamaged, ConfigError.
    """
    least = _checked(workspace, threshold)
    classifier = opened(workspace)
    run = _Run(workspace, classifier, least, every)
    gone = run.forget()
    run.reuse_stored()
    with workspace.bar("classify", len(run.plan.ask)) as meter:
        for rows in run.answers(meter):
            run.keep(rows)
    counts, commonest = _standing(run.table)
    asked = len(run.plan.ask)
    return ClassifiedShop(
        classifier.model_hash, least, asked, run.changed, gone, counts, commonest, run.refused
    )


def classify_one(
    workspace: Workspace, photos: Sequence[bytes], title: str | None, threshold: float | None
) -> "Classified":
    """See Shop.classify_one."""
    least = _checked(workspace, threshold)
    (found,) = opened(workspace).classify([list(photos)], [title], least, workspace.config.classify.top)
    return found


def _checked(workspace: Workspace, threshold: float | None) -> float:
    least = workspace.config.classify.threshold if threshold is None else threshold
    if not 0 <= least <= 1:
        raise ConfigError(f"threshold = {least:g}: a confidence is 0 to 1")
    return least


class _Run:
    """The shop's items, what is stored of them, and what there is to do."""

    def __init__(
        self, workspace: Workspace, classifier: "ItemClassifier", threshold: float, every: bool
    ) -> None:
        from etalage.bundle.contents import in_order, photo_facts

        self.workspace, self.classifier, self.threshold = workspace, classifier, threshold
        self.table: Table = workspace.lake.table("classifications")
        self.changed = 0
        self.refused: dict[str, str] = {}
        self.at = {n: v for n, v in workspace.lake.versions().items() if n in ("items", "photos")}
        if "items" not in self.at:
            raise TableMissing("there are no items: `etalage ingest FILE items` first")
        with workspace.bar("read the tables", None):
            items = in_order(workspace.lake.table("items").read(self.at["items"]))
            most = workspace.config.classify.photos if classifier.uses_photos else 0
            self.photos = photos_of(items, photo_facts(workspace.lake, self.at), most)
            self.titles: list[str | None] = items["title"].to_pylist()
            given = given_of(workspace, items)
            self.stored = self.table.read() if self.table.exists() else SPEC.schema.empty_table()
        read = self.titles if classifier.uses_text else [None] * items.num_rows
        hashes = hash_inputs(self.photos, read)
        # What a row says of its item, whatever the model will answer; classified_at is left to the table.
        self.known = pa.table(
            {
                "item_id": items["item_id"],
                "model": pa.repeat(pa.scalar(classifier.model_hash), items.num_rows),
                "photo_sha256": self.photos.main(),
                "input": pa.array(hashes, pa.string()),
                **given.columns,
            }
        )
        self.plan = plan(items["item_id"], hashes, given.outside_N, self.stored, classifier.model_hash, every)

    def forget(self) -> int:
        """The rows of items that are gone go too; how many."""
        with self.workspace.disk():
            return self.table.delete(self.plan.gone) if self.plan.gone.num_rows else 0

    def reuse_stored(self) -> None:
        """What needs no model: stored answers by today's threshold, and items outside the taxonomy."""
        before = self.stored.take(pa.array(self.plan.stored))
        rows = self._rows(self.plan.keep, before.select(BEST))
        self.keep(rows.filter(pa.array(~same_rows(rows, before, rows.column_names, None))))
        nothing = pa.table({n: pa.nulls(len(self.plan.outside), SPEC.schema.field(n).type) for n in BEST})
        outside = self._rows(self.plan.outside, nothing)
        named = pa.repeat(pa.scalar(OUTSIDE), outside.num_rows)
        self.keep(outside.set_column(outside.column_names.index("status"), "status", named))

    def answers(self, meter: "Meter") -> Iterator[pa.Table]:
        """Rows for the table, of the items that the model is asked about."""
        from etalage.bundle.contents import photo_batches
        from etalage.bundle.pooling import Pooling

        pooling = Pooling(self.photos, self.plan.ask, self.classifier, self.workspace.photo_loop)
        self.refused = pooling.refused
        together = max(KEPT_AT_ONCE, len(self.plan.ask) // COMMITS)
        rows: list[int] = []
        told: list[Classified] = []
        for some in pooling.items(lambda: photo_batches(self.workspace.lake, self.at)):
            titles = [self.titles[row] for row in some.rows]
            told += self.classifier.answers(some.features_NF, some.has_photo_N, titles, 0.0, 0)
            rows += some.rows
            meter(len(some.rows))
            if len(rows) >= together:
                yield self._rows(rows, _best(told))
                rows, told = [], []
        if rows:
            yield self._rows(rows, _best(told))

    def keep(self, rows: pa.Table) -> None:
        if rows.num_rows:
            with self.workspace.disk():
                merged = self.table.merge(rows)
            self.changed += merged.inserted + merged.updated

    def _rows(self, rows: Sequence[int] | np.ndarray, best: pa.Table) -> pa.Table:
        """Rows for the table: the answers `best` of these items, by the threshold."""
        known = self.known.take(pa.array(rows, pa.int64()))
        for name in BEST:
            known = known.append_column(name, best[name])
        return decided(known, self.threshold)


def _best(told: "Sequence[Classified]") -> pa.Table:
    """The decided leaf of each, whatever its confidence."""
    ids = [one.steps[-1].id if one.steps else None for one in told]
    paths = [CATEGORY_SEPARATOR.join(step.name for step in one.steps) or None for one in told]
    confidences = [one.confidence for one in told]
    columns = (pa.array(ids, pa.string()), pa.array(paths, pa.string()), pa.array(confidences, pa.float64()))
    return pa.table(dict(zip(BEST, columns, strict=True)))


@dataclass(frozen=True)
class Given:
    """What the items carried themselves."""

    columns: dict[str, pa.Array]
    """given_id, given_path, given_how; (N,) text, null where an item carried no category of the taxonomy."""
    outside_N: np.ndarray
    """(N,) bool: no business of the taxonomy (services, travel)."""


def given_of(workspace: Workspace, items: pa.Table) -> Given:
    """As the shop's taxonomy reads the items' own categories; nothing where [taxonomy] names no file.

    Raises ConfigError, InputUnreadable.
    """
    count, text = items.num_rows, pa.string()
    if workspace.config.taxonomy.file is None:
        nothing = pa.nulls(count, text)
        return Given(
            {"given_id": nothing, "given_path": nothing, "given_how": nothing}, np.zeros(count, bool)
        )
    found = taxonomy_steps.labels(workspace, items)
    columns = {"given_id": found.given_ids, "given_path": found.given_paths, "given_how": found.how}
    return Given({name: pa.array(column, text) for name, column in columns.items()}, found.outside_N)


def _standing(table: "Table") -> tuple[dict[str, int], list[tuple[str, int]]]:
    """How many items of each status, and the categories that most items have."""
    if not table.exists():
        return dict.fromkeys(STATUSES, 0), []
    rows = table.read(columns=["status", "path"])
    counted = {one["values"]: one["counts"] for one in pc.value_counts(rows["status"]).to_pylist()}
    paths = pc.value_counts(rows["path"].drop_null()).to_pylist()
    paths.sort(key=lambda one: (-one["counts"], one["values"]))
    commonest = [(one["values"], one["counts"]) for one in paths[:COMMONEST]]
    return {status: counted.get(status, 0) for status in STATUSES}, commonest
