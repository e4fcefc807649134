"""`etalage status`: where a shop stands, and which command comes next."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from etalage.errors import BundleError, NoBundle, NotFound, ObjectStoreError
from etalage.lake.schema import TABLES
from etalage.nearest import nearest
from etalage.shop.photo_steps import newest_exports
from etalage.shop.settings_steps import outdated
from etalage.shop.workspace import Workspace
from etalage.tabular import Rows

if TYPE_CHECKING:
    from etalage.bundle.draft import DraftedModel
    from etalage.bundle.manifest import Manifest, ModelEntry
    from etalage.lake.delta import Table

SERVED = ("items", "photos", "users", "interactions", "classifications")
"""Tables that a bundle is made of."""


@dataclass(frozen=True)
class TableStatus:
    name: str
    rows: int
    version: int


@dataclass(frozen=True)
class ModelStatus:
    """One trained model, by its newest export."""

    name: str
    export: str
    verdict: Literal["passed", "refused", "not evaluated"]
    reason: str | None
    """Why it is refused, or what it was not evaluated for."""
    behind: tuple[str, ...]
    """Tables that changed since it was trained."""
    published: Literal["yes", "an older export", "no"]
    outdated: bool = False
    """[behaviour] has other settings than it was trained with; `reason` says which."""
    forced: bool = False
    """It is in the bundle although the gate refused it."""
    learned: str | None = None
    """Of what is published: that it was trained again on everything, and when, or why it was not."""


@dataclass(frozen=True)
class BundleStatus:
    id: str
    made: str
    items: int
    behind: tuple[str, ...]
    """Tables that changed since it was made."""


@dataclass(frozen=True)
class Step:
    """A command, and why it comes next."""

    command: str
    why: str


@dataclass(frozen=True, repr=False)
class ShopStatus:
    name: str
    tables: tuple[TableStatus, ...]
    pending_links: int
    """Links to photos that nobody has asked for yet."""
    models: tuple[ModelStatus, ...]
    bundle: BundleStatus | None
    problem: str | None
    """Why the bundle that should be current cannot be read."""
    next: Step

    def __repr__(self) -> str:
        rows = ", ".join(f"{one.rows:,} {one.name}" for one in self.tables if one.name in SERVED)
        bundle = "nothing published" if self.bundle is None else f"bundle {self.bundle.id}"
        return f"<{self.name}: {rows or 'no tables'}; {len(self.models)} models; {bundle}>"

    def _repr_html_(self) -> str:
        from etalage.shop.showing import status_html

        return status_html(self)


def tables(workspace: Workspace) -> Rows[TableStatus]:
    """Every table that has rows; read from the tables' logs."""
    lake = workspace.lake
    found = (TableStatus(name, lake.table(name).count(), v) for name, v in lake.versions().items())
    return Rows(found, TableStatus)


def known_table(workspace: Workspace, name: str) -> "Table":
    """Raises NotFound: there is no table of this name; it says which there are."""
    if name not in TABLES:
        near = nearest(name, TABLES)
        hint = f"did you mean {near!r}?" if near is not None else f"there are {', '.join(TABLES)}"
        raise NotFound(f"table {name!r}: there is none of that name; {hint}")
    return workspace.lake.table(name)


def status(workspace: Workspace) -> ShopStatus:
    """Looks at the tables' logs, the exports and the current bundle; reads no table but the photos' states,
    and writes nothing. Raises ConfigError, TableDamaged."""
    there = tuple(tables(workspace))
    versions = {one.name: one.version for one in there}
    manifest, problem = _current(workspace)
    models = tuple(_models(workspace, versions, manifest))
    bundle = None
    if manifest is not None:
        behind = _changed(versions, manifest.tables)
        bundle = BundleStatus(manifest.id, manifest.created_at, manifest.items, behind)
    pending = _pending_links(workspace, versions)
    next = _next(workspace, {one.name: one.rows for one in there}, pending, models, bundle, problem)
    return ShopStatus(workspace.config.name, there, pending, models, bundle, problem, next)


def _current(workspace: Workspace) -> "tuple[Manifest | None, str | None]":
    try:
        return workspace.bundles.manifest(workspace.bundles.current_id()), None
    except NoBundle:
        return None, None
    except (BundleError, ObjectStoreError) as error:
        return None, f"{type(error).__name__}: {error}"


def _models(
    workspace: Workspace, versions: Mapping[str, int], manifest: "Manifest | None"
) -> Iterator[ModelStatus]:
    from etalage.bundle.admission import FLOOR, admitted
    from etalage.runtime.export_files import read_facts

    there = {one.name: one for one in manifest.models} if manifest is not None else {}
    for drafted in _trained(workspace):
        facts = read_facts(drafted.export)
        name, learned = str(facts["name"]), facts.get("tables") or {}
        good, refused = admitted([drafted], force=False)
        verdict: Literal["passed", "refused", "not evaluated"] = "passed" if good else "refused"
        reason = refused[0].reason if refused else None
        if drafted.verdict is None and name != FLOOR:
            verdict = "not evaluated"
        published: Literal["yes", "an older export", "no"] = "no"
        if (entry := there.get(name)) is not None:
            same = entry.hash == facts["model_hash"] or _fitted_again(workspace, entry, facts)
            published = "yes" if same else "an older export"
        yield ModelStatus(
            name,
            drafted.export.name,
            verdict,
            reason,
            _changed(versions, learned),
            published,
            drafted.outdated is not None,
            published == "yes" and entry is not None and entry.forced,
            None if entry is None else entry.learned.told,
        )


def _fitted_again(workspace: Workspace, entry: "ModelEntry", facts: Mapping[str, Any]) -> bool:
    """Whether what is published was fitted again, on everything, of the export that says these facts: it has
    another hash then."""
    from etalage.runtime.export_files import read_facts

    if entry.fitted_on is None:
        return False
    made = (workspace.exports(entry.name) / entry.fitted_on).glob("[0-9]*-*")
    judged = [fact.get("judged") for one in made if (fact := read_facts(one)).get("model_hash") == entry.hash]
    return facts["model_hash"] in judged


def _trained(workspace: Workspace) -> "Iterator[DraftedModel]":
    """The newest export of every model that has one."""
    from etalage.bundle.draft import DraftedModel
    from etalage.runtime.export_files import read_verdict

    slices = workspace.evaluating.slices
    for name, export in newest_exports(workspace).items():
        old = outdated(export, workspace.config.behaviour)
        yield DraftedModel(export, read_verdict(export), slices.get(name), outdated=old)


def _changed(versions: Mapping[str, int], known: Mapping[str, int]) -> tuple[str, ...]:
    """Tables that are newer now than they were."""
    newer = (name for name, version in versions.items() if version > known.get(name, version))
    return tuple(name for name in newer if name in SERVED)


def _pending_links(workspace: Workspace, versions: Mapping[str, int]) -> int:
    import pyarrow.compute as pc

    from etalage.lake.schema import PHOTO_PENDING

    if "photos" not in versions:
        return 0
    states = workspace.lake.table("photos").read(columns=["status"])["status"]
    return int(pc.sum(pc.equal(states, PHOTO_PENDING)).as_py() or 0)


def _next(
    workspace: Workspace,
    rows: Mapping[str, int],
    pending: int,
    models: tuple[ModelStatus, ...],
    bundle: BundleStatus | None,
    problem: str | None,
) -> Step:
    """The first of these that applies, in the order in which a shop goes through them."""
    if not rows.get("items") and not rows.get("interactions"):
        return Step("etalage ingest FILE items", "there are neither items nor interactions yet")
    if pending and pending == rows.get("photos"):
        return Step("etalage photos fetch", f"{pending:,} photos are links that nobody has asked for yet")
    untrained = _untrained(workspace, rows, models)
    if untrained is not None:
        return untrained
    old = [one for one in models if one.outdated]
    if old:
        return Step(f"etalage train {old[0].name}", "; ".join(str(one.reason) for one in old))
    unjudged = [one.name for one in models if one.verdict == "not evaluated"]
    if unjudged:
        return Step("etalage evaluate", f"{', '.join(unjudged)}: nobody knows yet what they are worth")
    if models and all(one.verdict == "refused" and not one.forced for one in models):
        return _all_refused(models)
    if problem is not None:
        return Step("etalage publish", f"the bundle that is current cannot be read: {problem}")
    if bundle is None:
        return Step("etalage publish", "nothing was published yet")
    taken = _of_the_funnel(workspace)
    newer = [
        one.name for one in models if one.verdict == "passed" and one.published != "yes" and one.name in taken
    ]
    if newer:
        return Step("etalage publish", f"{', '.join(newer)}: not in the bundle as trained now")
    if bundle.behind:
        return Step("etalage sync", f"{', '.join(bundle.behind)} changed since the bundle was made")
    return Step("etalage serve", "what was evaluated is published, and the tables have not changed since")


def _all_refused(models: tuple[ModelStatus, ...]) -> Step:
    """What helps where the gate keeps every model out."""
    reasons = "; ".join(str(one.reason) for one in models)
    return Step(
        "etalage models",
        f"no model would be published: {reasons}. More data, a larger part to judge by ([split] validation "
        "of photos, [behaviour] validation of acts) or another model may pass; `etalage publish --force` "
        "publishes all the same",
    )


def _of_the_funnel(workspace: Workspace) -> set[str]:
    """Names of the models that `publish` looks at: [funnel] may leave others out."""
    from etalage.shop.bundling import drafted_behaviour

    content = newest_exports(workspace, "photos", "categories")
    return {*content, *(one.export.parent.name for one in drafted_behaviour(workspace))}


def _untrained(workspace: Workspace, rows: Mapping[str, int], models: tuple[ModelStatus, ...]) -> Step | None:
    trained, funnel = {one.name for one in models}, workspace.config.funnel
    named = [*funnel.retrievers, funnel.ranker, funnel.photos, funnel.classifier]
    for name in named:
        if name is not None and name not in trained:
            return Step(f"etalage train {name}", "[funnel] names it, and it was not trained")
    if rows.get("interactions") and "popularity" not in trained:
        return Step("etalage train popularity", "every other model is held against it")
    if rows.get("interactions") and trained == {"popularity"}:
        return Step("etalage train item_knn", "the first model that knows shoppers; it is counted in seconds")
    if not trained and not rows.get("photos"):
        why = "there are items, and neither interactions nor photos that a model could learn from"
        return Step("etalage ingest FILE interactions", why)
    if not trained:
        return Step("etalage train image_similarity", "there are items with photos, and no model")
    return None
