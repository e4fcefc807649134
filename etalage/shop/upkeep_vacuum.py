"""`etalage vacuum`: what nobody needs any more, why, and how it goes.

    tables        files of old versions (lake/vacuum.py)
    exports       older ones that were never judged, and that no bundle is made of
    texts         embeddings of texts that no item has any more
    bundles       beyond those that [publish] keep keeps
    checkpoints   of runs that became an export
    leftovers     drafts of processes that were killed
    caches        what is made anew when it is asked for, and was not for days

What knows a shopper who was erased goes sooner: whatever can be done without.
"""

import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.errors import DataError, ExportDamaged, PublishBusy
from etalage.shop import at_work, live_steps, text_steps
from etalage.shop.upkeep_files import DAYS, EXPORTS, age, held_open, size_of
from etalage.shop.upkeep_leftovers import leftovers, unfinished_bundles, unfinished_cache
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.manifest import Manifest
    from etalage.lake.vacuum import TableWaste

_HOUR = 3600
"""Seconds."""


@dataclass(frozen=True)
class Waste:
    """Something that can go. `kind`: of the list above; `count` files or folders."""

    kind: str
    what: str
    count: int
    bytes: int
    why: str


@dataclass(frozen=True)
class Vacuumed:
    """What a vacuum did, or would do. `notes`: what stays although one might expect it to go, and what can
    no longer be done afterwards."""

    done: bool
    days: float
    wastes: tuple[Waste, ...]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """All together."""
        return sum(one.bytes for one in self.wastes)


@dataclass(frozen=True)
class _Found:
    """One line of what can go, and what makes it go."""

    waste: Waste
    remove: Callable[[], object]


@dataclass
class _Export:
    folder: Path
    facts: dict[str, Any]
    judged: bool
    number: int
    """0 for the newest of its model."""
    erased: int
    """Shoppers who were erased, and whom it knows."""

    @property
    def hash(self) -> str:
        return str(self.facts.get("model_hash", ""))

    @property
    def name(self) -> str:
        parts = self.folder.parts
        return "/".join(parts[-3:] if self.folder.parent.name == "everything" else parts[-2:])


def vacuum(
    workspace: Workspace, *, days: float = DAYS, exports: int = EXPORTS, bundles: int | None = None,
    unpin: bool = False, dry: bool = True,
) -> Vacuumed:  # fmt: skip
    """Find what can go, and unless `dry` remove it.

    days: versions of tables, and caches, that are younger stay. exports: so many of a model stay, judged or
    not. bundles: so many stay; None: as [publish] keep says. unpin: versions go too that exports and bundles
    which stay were made of. Raises DataError: somebody is at work in the shop; the disk.
    """
    workspace.require_writable()
    with workspace.disk(), at_work.alone(workspace.runs, only_ask=dry) as quiet:
        if not quiet and not dry:
            raise DataError(
                f"{workspace.folder}: a training, a publish or another step is at work, and reads what would "
                "go; nothing was removed. Run it again when that has ended"
            )
        looking = _Looking(workspace, days, exports, bundles, unpin)
        found = list(looking.every())
        if not quiet:
            looking.notes.append("a step is at work in the shop: --yes is refused until it has ended")
        if not dry:
            with workspace.bar("vacuum", len(found)) as meter:
                for one in found:
                    one.remove()
                    meter(1)
        return Vacuumed(not dry, days, tuple(one.waste for one in found), tuple(looking.notes))


class _Looking:
    """One look through a shop."""

    def __init__(
        self, workspace: Workspace, days: float, exports: int, bundles: int | None, unpin: bool
    ) -> None:
        self.workspace = workspace
        self.days, self.seconds, self.unpin = days, days * 86400.0, unpin
        self.keep_exports = exports
        self.keep_bundles = workspace.config.publish.keep if bundles is None else bundles
        self.notes: list[str] = []
        self.erased = workspace.lake.erasures.known()
        self.gone = {name for name, one in self.erased.items() if not one.back}
        self.manifests = self._manifests()

    def every(self) -> Iterator[_Found]:
        """In an order in which what goes later may depend on what went before."""
        bundles = self._old_bundles()
        going = {id for one, ids in bundles for id in ids}
        staying = [one for one in self.manifests.values() if one.id not in going]
        exports = list(self._exports())
        old = self._old_exports(exports, staying)
        kept = [one for one in exports if one.folder not in {export.folder for export in old}]
        yield from (found for found, _ in bundles)
        yield from self._exports_that_go(old)
        yield from self._texts()
        yield from self._tables(kept, staying)
        yield from self._checkpoints(exports)
        yield from self._tracked_copies()
        yield from self._leftovers()
        yield from self._caches()
        self._tell_erased(kept, staying)

    # -- bundles -------------------------------------------------------------------------------

    def _manifests(self) -> "dict[str, Manifest]":
        return {one.id: one for one in self.workspace.bundles.list()}

    def _old_bundles(self) -> list[tuple[_Found, list[str]]]:
        place, here = self.workspace.bundles, self.workspace.config.storage.bundles is None
        ids, current = place.ids(), place.pointed()
        older = ids[: max(0, len(ids) - self.keep_bundles)]
        knowing = [one for one in ids if here and self._knows(place.path(one))] if self.gone else []
        served = [one for one in ids if here and held_open(place.path(one))]
        going = [one for one in ids if one in {*older, *knowing} and one != current and one not in served]
        spared = [one for one in {*older, *knowing} if one in served and one != current]
        if spared:
            self.notes.append(
                f"bundles that a server of this machine has open stay: {', '.join(sorted(spared))}"
            )
        staging = unfinished_bundles(place.folder)
        if not going and not staging:
            return []
        bytes = sum(self._bundle_bytes(one) for one in going) + sum(map(size_of, staging))
        why = [f"the newest {self.keep_bundles} stay" if set(going) & set(older) else ""]
        why += ["they know erased shoppers" if set(going) & set(knowing) else ""]
        why += ["a publish was killed" if staging else ""]
        named = ", ".join([*going, *(one.name for one in staging)])
        stays = [one for one in ids if one not in going]
        waste = Waste("bundles", named, len(going) + len(staging), bytes, "; ".join(filter(None, why)))
        return [(_Found(waste, partial(self._remove_bundles, stays)), going)]

    def _bundle_bytes(self, bundle: str) -> int:
        manifest = self.manifests.get(bundle)
        if manifest is None:
            return size_of(self.workspace.bundles.folder / bundle)
        return sum(one.bytes for one in manifest.files.values())

    def _remove_bundles(self, stays: list[str]) -> None:
        place = self.workspace.bundles
        try:
            with place.publishing(), place.moving():
                place.collect()
                place.retain(0, *stays)
        except PublishBusy as error:
            self.notes.append(f"bundles: none was removed: {error}")

    # -- exports -------------------------------------------------------------------------------

    def _exports(self) -> Iterator[_Export]:
        from etalage.runtime.export_files import read_facts, read_verdict

        root = self.workspace.folder / "exports"
        folders = sorted(
            {one.parent for one in (*root.glob("*/[0-9]*-*"), *root.glob("*/everything/[0-9]*-*"))}
        )
        for folder in folders:
            for number, export in enumerate(sorted(folder.glob("[0-9]*-*"), reverse=True)):
                try:
                    facts, judged = read_facts(export), read_verdict(export) is not None
                except (OSError, ValueError, ExportDamaged) as error:
                    self.notes.append(
                        f"exports/{export.relative_to(root)} stays: it cannot be read ({error})"
                    )
                    continue
                yield _Export(export, facts, judged, number, self._knows(export))

    def _old_exports(self, exports: list[_Export], bundles: "list[Manifest]") -> list[_Export]:
        """Those that go: neither new, nor judged, nor needed by a bundle or by an export that stays."""
        needed = {hash for one in bundles for hash in _hashes(one)}
        kept: list[_Export] = []
        left = list(exports)
        while stays := [one for one in left if self._stays(one, needed)]:
            kept += stays
            left = [one for one in left if one not in stays]
            needed |= {str(made) for one in stays for made in one.facts.get("feature_sources", {}).values()}
        return left

    def _stays(self, export: _Export, needed: set[str]) -> bool:
        if export.hash in needed or export.number == 0:
            return True
        everything = export.folder.parent.name == "everything"
        if export.erased or everything:
            return False
        return export.judged or export.number < self.keep_exports

    def _exports_that_go(self, old: list[_Export]) -> Iterator[_Found]:
        for erased in (False, True):
            some = [one for one in old if bool(one.erased) is erased]
            if some:
                why = (
                    "never judged, in no bundle, and not the newest" if not erased else "know erased shoppers"
                )
                named = ", ".join(one.name for one in some)
                waste = Waste("exports", named, len(some), sum(size_of(one.folder) for one in some), why)
                yield _Found(waste, partial(_remove_exports, [one.folder for one in some]))

    # -- texts ---------------------------------------------------------------------------------

    def _texts(self) -> Iterator[_Found]:
        """Embeddings of texts that no item has any more."""
        count, bytes = text_steps.of_no_item(self.workspace)
        if count:
            why = "no item has these texts any more"
            waste = Waste("texts", "embeddings", count, bytes, why)
            yield _Found(waste, partial(text_steps.forget_of_no_item, self.workspace))

    # -- tables --------------------------------------------------------------------------------

    def _tables(self, exports: list[_Export], bundles: "list[Manifest]") -> Iterator[_Found]:
        from etalage.lake import vacuum as lake_vacuum

        since = lake_vacuum.days_ago(self.days)
        current = self.manifests.get(self.workspace.bundles.pointed() or "")
        for name in self.workspace.lake.versions():
            table = self.workspace.lake.table(name)
            of = _made_of(name, exports, bundles)
            found = lake_vacuum.waste(
                table,
                since=since,
                pinned=() if self.unpin else of,
                feed_since=None if current is None else current.tables.get(name),
                erased=self.erased if name in live_steps.ERASED_FROM else {},
            )
            self._tell_versions(found, of)
            if found.files or found.commits:
                waste = Waste("tables", name, len(found.files), found.bytes, self._why(found))
                yield _Found(waste, partial(lake_vacuum.remove, table, found))

    def _why(self, found: "TableWaste") -> str:
        if found.erased:
            return f"versions before {found.first} may have rows of erased shoppers"
        if found.first == found.newest:
            return f"only version {found.newest} is read" if found.newest else "no version has them"
        return f"of versions before {found.first}, older than {self.days:g} days"

    def _tell_versions(self, found: "TableWaste", of: dict[int, list[str]]) -> None:
        lost = [one for one in of if one < found.first and one not in found.pinned]
        if found.pinned:
            self.notes.append(
                f"table {found.table}: {_versions(found.pinned)} kept, since these were made of it: "
                f"{_makers(found.pinned, of)}; --unpin removes it"
            )
        if lost and (found.files or found.commits):
            self.notes.append(
                f"table {found.table}: {_versions(lost)} cannot be read afterwards, and so these cannot be "
                f"made again of the same rows: {_makers(lost, of)}"
            )

    # -- runs ----------------------------------------------------------------------------------

    def _checkpoints(self, exports: list[_Export]) -> Iterator[_Found]:
        done = {(str(one.facts.get("name")), str(one.facts.get("run"))) for one in exports}
        folders = [
            one for one in sorted(self.workspace.runs.glob("*/*/checkpoints"))
            if (one.parent.parent.name, one.parent.name) in done and any(one.iterdir())
        ]  # fmt: skip
        yield from self._folders("checkpoints", folders, "of trainings that became an export")

    def _tracked_copies(self) -> Iterator[_Found]:
        if not self.gone:
            return
        files = sorted((self.workspace.runs / "mlartifacts").rglob("users.arrow"))
        files += sorted((self.workspace.runs / "yardsticks").rglob("users.arrow"))
        folders = [one.parent for one in files if self._knows(one.parent)]
        within = [one for one in folders if any((above / "manifest.json").exists() for above in one.parents)]
        if within:
            self.notes.append(
                f"{len(within)} models registered in MLflow know erased shoppers, and stay: "
                "`etalage register` one that does not, and delete the older versions in MLflow"
            )
        rest = [one for one in folders if one not in within]
        yield from self._folders("exports", rest, "copies in runs/ that know erased shoppers")

    def _leftovers(self) -> Iterator[_Found]:
        """Nobody is at work, so that no draft is anybody's."""
        runs, tables = self.workspace.runs, self.workspace.lake.place.folder
        found = set(leftovers(self.workspace.folder))
        found -= {one for one in found if one.name.startswith("blocks-") and held_open(one)}
        if tables is not None:
            found |= {one for one in tables.glob(".writable-*") if age(one) > _HOUR}
        # A server takes no part in who is at work, and may be fetching one.
        found |= {one for one in unfinished_cache(self.workspace.folder) if age(one) > _HOUR}
        yield from self._folders("leftovers", sorted(found), "of processes that were killed")
        if waiting := list((runs / "photos").glob("run-*")):
            self.notes.append(
                f"{len(waiting)} killed photo downloads wait in runs/photos: `etalage photos fetch` takes up "
                "what they had"
            )

    def _caches(self) -> Iterator[_Found]:
        runs, cache = self.workspace.runs, self.workspace.folder / "cache" / "bundles"
        made = [*_entries(runs / "behaviour"), *_entries(runs / "pixels"), *_entries(runs / "rows")]
        made += _entries(runs / "backbones")
        made += [one for one in _entries(runs / "yardsticks") if one.is_dir()]
        made = [one for one in made if not one.name.startswith(".") and one.name != "lock"]
        current = self.workspace.bundles.pointed()
        made += [
            one
            for one in _entries(cache)
            if one.is_dir() and one.name != current and not one.name.startswith(".") and not held_open(one)
        ]
        old = [one for one in made if age(one) > self.seconds]
        why = f"made anew when needed, and not for {self.days:g} days"
        yield from self._folders("caches", old, why)

    def _folders(self, kind: str, folders: list[Path], why: str) -> Iterator[_Found]:
        if folders:
            root = self.workspace.folder
            named = _some([one.relative_to(root).as_posix() for one in folders], 8)
            waste = Waste(kind, named, len(folders), sum(map(size_of, folders)), why)
            yield _Found(waste, partial(_remove_all, folders))

    # -- erased shoppers -----------------------------------------------------------------------

    def _knows(self, folder: Path) -> int:
        """How many shoppers that were erased a bundle or an export knows."""
        return live_steps.erased_in(folder, self.gone) if self.gone else 0

    def _tell_erased(self, exports: list[_Export], bundles: "list[Manifest]") -> None:
        knowing = [one for one in exports if one.erased]
        if knowing:
            anew = ", ".join(
                f"`etalage train {one}`" for one in sorted({_model(one.folder) for one in knowing})
            )
            named = _some([one.name for one in knowing])
            self.notes.append(
                f"exports that stay and know erased shoppers: {named}: {anew}, `etalage publish`, "
                "then vacuum again"
            )
        if self.workspace.config.storage.bundles is not None:
            return
        for one in bundles:
            if self.gone and self._knows(self.workspace.bundles.path(one.id)):
                self.notes.append(
                    f"bundle {one.id} stays and knows erased shoppers: `etalage publish`, then vacuum again"
                )


def _model(export: Path) -> str:
    return export.parent.parent.name if export.parent.name == "everything" else export.parent.name


def _hashes(manifest: "Manifest") -> Iterator[str]:
    for one in manifest.models:
        yield one.hash
        yield from (source.hash for source in one.sources.values())


def _made_of(name: str, exports: list[_Export], bundles: "list[Manifest]") -> dict[int, list[str]]:
    """Version of the table → what was made of it."""
    found: dict[int, list[str]] = {}
    for one in exports:
        if name in (tables := one.facts.get("tables") or {}):
            found.setdefault(int(tables[name]), []).append(f"exports/{one.name}")
    for bundle in bundles:
        if name in bundle.tables:
            found.setdefault(bundle.tables[name], []).append(bundle.id)
    return found


def _versions(some: Collection[int]) -> str:
    plural = "" if len(some) == 1 else "s"
    return f"version{plural} {', '.join(map(str, sorted(some)))}"


def _makers(versions: Collection[int], of: dict[int, list[str]]) -> str:
    return _some(sorted({one for version in versions for one in of[version]}))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _remove_exports(folders: list[Path]) -> None:
    """Renamed away first: a kill leaves no half export under its name, but a draft, which goes as one."""
    for one in folders:
        one.rename(one.with_name(f".draft-gone-{one.name}"))
    _remove_all([one.with_name(f".draft-gone-{one.name}") for one in folders])


def _remove_all(paths: list[Path]) -> None:
    for one in paths:
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink(missing_ok=True)


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
