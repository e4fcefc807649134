"""One taxonomy for every merchant's items: which category each item carries (lake/labelling.py).

N items   L leaves
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etalage.errors import ConfigError, TableMissing
from etalage.lake.attributes import require_attribute
from etalage.lake.category_text import found_row, read_map
from etalage.lake.labelling import PATH, REASONS, RETIRED, UNKNOWN, WAYS, CategoryReader, GivenCategory, How
from etalage.lake.labelling import WEAK as WEAK
from etalage.lake.taxonomy import Taxonomy
from etalage.lake.taxonomy_files import localised, read_extension, read_paths, read_taxonomy
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.config import TaxonomyConfig


@dataclass(frozen=True)
class Labels:
    """What each item carries itself; the model's answers stand elsewhere, in the table classifications."""

    rows_N: np.ndarray
    """(N,) int64 rows of the cut taxonomy, -1 = none; a category above the leaves stays one."""
    how: list[How | None]
    """(N,) how the row is known."""
    problems: dict[str, int]
    """REASONS → items; those that no item has are left out. An item may have two."""
    outside_N: np.ndarray
    """(N,) bool: no business of the taxonomy (services, travel); its row is -1."""
    given_ids: list[str | None]
    """(N,) the category that the item carries, before the cut; None where its row is -1."""
    given_paths: list[str | None]
    """(N,) its path."""


@dataclass(frozen=True)
class Finding:
    """One kind of problem."""

    reason: str
    items: int
    values: list[tuple[str, int]]
    """What those items say, with how many of them say it, most first."""


@dataclass(frozen=True)
class Proposal:
    """A line for the map, for a person to look at."""

    merchant: str | None
    category: str
    id: str | None
    """None: no category is like it."""
    path: str | None
    similarity: float
    items: int


def require_taxonomy(workspace: Workspace) -> None:
    """Raises ConfigError: none is set."""
    if workspace.config.taxonomy.file is None:
        raise ConfigError(
            f"{workspace.folder / 'shop.toml'}: no taxonomy; put Google's, taxonomy-with-ids.en-US.txt, or a "
            "tree.csv of your own with columns id,parent,name beside it, and write [taxonomy] and file = "
            '"tree.csv" (docs/taxonomy.md)'
        )


def whole(workspace: Workspace) -> Taxonomy:
    """[taxonomy] `file` with `extend`, before the cut. Raises ConfigError: none is set, InputUnreadable."""
    config = workspace.config.taxonomy
    require_taxonomy(workspace)
    assert config.file is not None
    found = read_taxonomy(workspace.folder / config.file)
    return read_extension(found, workspace.folder / config.extend) if config.extend else found


def taxonomy(workspace: Workspace) -> Taxonomy:
    """As `whole`, cut at [taxonomy] `level`: what models learn and answer with."""
    level = workspace.config.taxonomy.level
    return whole(workspace) if level is None else whole(workspace).cut(level)


def names(workspace: Workspace, tree: Taxonomy, language: str) -> tuple[str, ...]:
    """(N,) the names of `tree`'s categories in a language of [taxonomy] `names`, else their own.

    Raises ConfigError, InputUnreadable.
    """
    files = workspace.config.taxonomy.names
    if language not in files:
        known = ", ".join(files) or "none"
        raise ConfigError(
            f"{workspace.folder / 'shop.toml'}: [taxonomy] names has no {language!r}; it has {known}"
        )
    return localised(tree, read_paths(workspace.folder / files[language]))


def reader(workspace: Workspace) -> CategoryReader:
    """What reads the items' own categories. Raises ConfigError, InputUnreadable."""
    config, tree = workspace.config.taxonomy, whole(workspace)
    languages = [read_paths(workspace.folder / file) for file in config.names.values()]
    older = [read_paths(workspace.folder / file) for file in config.retired]
    made = CategoryReader(tree, languages, older, config.outside)
    if config.map:
        made.map = read_map(tree, workspace.folder / config.map, made.book)
    return made


def labels(workspace: Workspace, items: pa.Table) -> Labels:
    """items: rows of the table with `category_id` and `attributes`. Raises ConfigError, InputUnreadable."""
    known, said = reader(workspace), _given_categories(workspace.config.taxonomy, items)
    tree, told = known.tree, known.tell(said, workspace.config.taxonomy.similar_from)
    level = workspace.config.taxonomy.level
    cut = tree if level is None else tree.cut(level)
    rows = {
        row: row if level is None else cut.row(tree.ids[tree.ancestor(row, level)])
        for row in {one.row for one in told.values()} - {-1}
    }
    each = [told[one] for one in said]
    counted = Counter(reason for one in each for reason in one.reasons)
    return Labels(
        rows_N=np.array([rows.get(one.row, -1) for one in each], dtype=np.int64),
        how=[one.how for one in each],
        problems={reason: counted[reason] for reason in REASONS if counted[reason]},
        outside_N=np.array([one.outside for one in each], dtype=bool),
        given_ids=[tree.ids[one.row] if one.row >= 0 else None for one in each],
        given_paths=[tree.path(one.row) if one.row >= 0 else None for one in each],
    )


def values(workspace: Workspace, tree: Taxonomy) -> np.ndarray:
    """(L,) float64: what `tree`'s leaves are worth, by [taxonomy] `values`, else by what was bought of them.

    tree: the shop's taxonomy, or what is left of it after a cut. All 0 where nothing was bought. Raises
    ConfigError, InputUnreadable, TableMissing.
    """
    from etalage.features.history import BehaviourRule
    from etalage.features.interaction_tables import purchases
    from etalage.lake.category_values import bought_values, leaf_values, read_values

    config, everything = workspace.config.taxonomy, whole(workspace)
    if config.values:
        return leaf_values(tree, everything, read_values(everything, workspace.folder / config.values))
    acts = workspace.lake.table("interactions")
    if not acts.exists():
        return np.zeros(len(tree.leaves_L))
    items = _items(workspace)
    found = labels(workspace, items).given_ids
    rows = np.array([-1 if id is None else everything.row(id) for id in found], dtype=np.int64)
    ids, table = (
        items["item_id"].to_pylist(),
        acts.read(columns=["interaction_id", "user_id", "item_id", "kind", "value", "time"]),
    )
    sold = purchases(table, BehaviourRule(workspace.config.behaviour))
    bought = bought_values(everything, rows, ids, sold)
    return leaf_values(tree, everything, bought)


@dataclass(frozen=True)
class Shown:
    """One category, or the top, for a person to read."""

    title: str
    names: dict[str, str]
    """Language → name, where the file of the language has the category."""
    counts_as: str | None
    """The path that stands for it after the cut; None: itself."""
    beneath: list[tuple[str, str, int]]
    """Id, name, and how many leaves are beneath: 0 of a leaf."""


def show(workspace: Workspace, category: str | None) -> Shown:
    """category: an id or a path; None: the top. Raises ConfigError, InputUnreadable."""
    known = reader(workspace)
    tree, level = known.tree, workspace.config.taxonomy.level
    row = -1 if category is None else found_row(tree, known.book, category)
    if category is not None and row < 0:
        raise ConfigError(
            f"{category!r}: no id and no path of the taxonomy; start with `etalage taxonomy show`"
        )
    leaves: Counter[int] = Counter(step for leaf in tree.leaves_L for step in tree.steps(int(leaf))[:-1])
    beneath = [(tree.ids[child], tree.names[child], leaves[int(child)]) for child in tree.children(row)]
    if row < 0:
        title = f"{len(tree):,} categories, {len(tree.leaves_L):,} leaves, depth {tree.depth}"
        return Shown(title, {}, None, beneath)
    other = {
        language: localised(tree, paths)[row]
        for language, paths in zip(workspace.config.taxonomy.names, known.languages, strict=True)
        if tree.ids[row] in paths
    }
    cut_to = None if level is None or tree.depths_N[row] <= level else tree.path(tree.ancestor(row, level))
    return Shown(f"{tree.ids[row]}: {tree.path(row)}", other, cut_to, beneath)


@dataclass(frozen=True)
class Checked:
    """How the catalogue stands to the taxonomy."""

    items: int
    how: dict[str, int]
    """How labels are known → items."""
    findings: list[Finding] = field(default_factory=list)


def check(workspace: Workspace) -> Checked:
    """Raises ConfigError, InputUnreadable, TableMissing."""
    with workspace.bar("read the taxonomy", None):
        known = reader(workspace)
    said = Counter(_given_categories(workspace.config.taxonomy, _items(workspace)))
    with workspace.bar("check what items say", len(said)) as meter:
        told = known.tell(said, workspace.config.taxonomy.similar_from, meter)
    ways: Counter[str] = Counter()
    findings: dict[str, Counter[str]] = {reason: Counter() for reason in REASONS}
    for one, count in said.items():
        if how := told[one].how:
            ways[how] += count
        for reason in told[one].reasons:
            findings[reason][_value(one, reason)] += count
    return Checked(
        said.total(),
        {how: ways[how] for how in WAYS},
        [Finding(reason, found.total(), found.most_common()) for reason, found in findings.items() if found],
    )


def proposals(workspace: Workspace) -> list[Proposal]:
    """For each category of a merchant that nothing but similar wording tells, the most similar one.

    Those of most items first. Raises ConfigError, InputUnreadable, TableMissing.
    """
    known = reader(workspace)
    counts: Counter[tuple[str | None, str]] = Counter()
    for one, count in Counter(_given_categories(workspace.config.taxonomy, _items(workspace))).items():
        bare = GivenCategory(None, one.merchant, one.category)
        if one.category and known.surely(bare).row < 0 and not known.surely(bare).outside:
            counts[one.merchant, one.category] += count
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0][0] or "", pair[0][1]))
    rows, similar = known.text.nearest([text for (_, text), _ in ordered])
    return [
        Proposal(
            merchant,
            text,
            known.tree.ids[row] if row >= 0 else None,
            known.tree.path(row) if row >= 0 else None,
            float(similarity),
            count,
        )
        for ((merchant, text), count), row, similarity in zip(
            ordered, rows[:, 0].tolist(), similar[:, 0], strict=True
        )
    ]


def _given_categories(config: "TaxonomyConfig", items: pa.Table) -> list[GivenCategory]:
    """(N,)."""
    found = []
    for category, text in zip(items["category_id"].to_pylist(), items["attributes"].to_pylist(), strict=True):
        attributes = json.loads(text) if text else {}
        given, merchant = attributes.get(config.given), attributes.get(config.merchant)
        found.append(GivenCategory(_kept(given), _kept(merchant), _kept(category)))
    return found


def _kept(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _value(one: GivenCategory, reason: str) -> str:
    """What an item with this problem says, for a person to read."""
    if reason in (UNKNOWN, RETIRED, PATH):
        return one.given or ""
    return ": ".join(text for text in (one.merchant, one.category or one.given) if text)


def _items(workspace: Workspace) -> pa.Table:
    table = workspace.lake.table("items")
    if not table.exists():
        raise TableMissing("there are no items: `etalage ingest FILE items` first")
    items = table.read(columns=["item_id", "category_id", "attributes"])
    require_attributes(workspace.config.taxonomy, items)
    return items


def require_attributes(config: "TaxonomyConfig", items: pa.Table) -> None:
    """What [taxonomy] names of the items, some item of the whole table has. Raises ConfigError."""
    for name in ("given", "merchant"):
        key = getattr(config, name)
        if name in config.model_fields_set and key is not None:
            require_attribute(items["attributes"].to_pylist(), key, f"[taxonomy] {name} = {key!r}")
